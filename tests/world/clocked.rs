//! An operator in this process, with a clock that the test moves.

use std::{
    fs::File,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use datafast_harness::{ControlPlane, install};
use datafast_operator::{
    clock::Clock,
    controller::{self, Settings},
    leader::Leadership,
    telemetry::{Health, Metrics},
};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::{sync::OnceCell, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Setup, Subject, World, late_proxy, unique};

/// The operator's default. No test waits for it, as the clock is moved; and what must come to pass within it has all of
/// that time, on the slowest machine.
const HORIZON: Duration = Duration::from_secs(120);

/// This machine's clocks, moved.
#[derive(Debug)]
pub(crate) struct TestClock {
    start: Instant,
    moved: Mutex<Moved>,
}

#[derive(Debug, Default)]
struct Moved {
    wall: SignedDuration,
    steady: Duration,
    /// Where this machine's clocks stood when they were stopped.
    stopped: Option<(Timestamp, Duration)>,
}

impl TestClock {
    fn new() -> Self {
        Self { start: Instant::now(), moved: Mutex::default() }
    }

    fn moved(&self) -> std::sync::MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let moved = self.moved();
        moved.stopped.map_or_else(Timestamp::now, |(wall, _)| wall) + moved.wall
    }

    fn steady(&self) -> Duration {
        let moved = self.moved();
        moved.stopped.map_or_else(|| self.start.elapsed(), |(_, steady)| steady) + moved.steady
    }
}

/// A control plane for tests that bring an operator each, in this process: it looks after the test's namespace, which is
/// its own at the same time, so that they do not meet. With a kubeconfig for them.
async fn plane() -> &'static (Arc<ControlPlane>, PathBuf) {
    static PLANE: OnceCell<(Arc<ControlPlane>, PathBuf)> = OnceCell::const_new();
    let start = || async {
        let cluster = Arc::new(ControlPlane::start().await.unwrap());
        install(&cluster).await.unwrap();
        log_to_file(&cluster);
        let kubeconfig = cluster.kubeconfig_operator(late_proxy(&cluster).await.as_deref()).unwrap();
        (cluster, kubeconfig)
    };
    PLANE.get_or_init(start).await
}

/// A world with an operator of its own, in this process, that goes by the test's clock. What waits for a time waits on
/// the machine's clock: after moving the clock, have it look ([`Clocked::look_at`], [`Clocked::list`]).
pub(crate) struct Clocked {
    running: Option<(CancellationToken, JoinHandle<()>)>,
    clock: Arc<TestClock>,
    world: World,
}

impl Deref for Clocked {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Clocked {
    pub(crate) async fn new() -> Self {
        Self::of(Subject::default()).await
    }

    pub(crate) async fn of(kind: Subject) -> Self {
        let (cluster, _) = plane().await;
        let world = World::on(cluster.clone(), Setup { kind, ..Setup::default() }).await;
        let mut this = Self { running: None, clock: Arc::new(TestClock::new()), world };
        this.set_credential(&this.account.credential()).await;
        this.start().await;
        this
    }

    /// As [`World::set_credential`], where this operator has it.
    pub(crate) async fn set_credential(&self, credential: &str) {
        self.write_credential(&self.secrets(), credential).await;
    }

    /// Starts an operator: one that remembers nothing.
    pub(crate) async fn start(&mut self) {
        let (_, kubeconfig) = plane().await;
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        let settings = Settings {
            namespace: self.namespace.clone(),
            watch_namespaces: vec![self.namespace.clone()],
            concurrency: 4,
            horizon: HORIZON,
            allow_plain_http: true,
            instance: "in-process".to_owned(),
            clock: self.clock.clone(),
        };
        let stop = CancellationToken::new();
        let run = controller::run(
            Client::try_from(config).unwrap(),
            settings,
            Arc::new(Metrics::default()),
            Arc::new(Health::default()),
            Leadership::alone(),
            stop.clone(),
        );
        let running = tokio::spawn(async { run.await.unwrap() });
        self.running = Some((stop, running));
    }

    /// Ends the operator in order.
    pub(crate) async fn stop(&mut self) {
        let (stop, running) = self.running.take().unwrap();
        stop.cancel();
        running.await.unwrap();
    }

    /// The operator's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, by: SignedDuration) {
        let mut moved = self.clock.moved();
        moved.wall += by;
        moved.steady += by.unsigned_abs();
    }

    /// From here on time passes only where the test lets it.
    pub(crate) fn stop_clock(&self) {
        self.clock.moved().stopped = Some((Timestamp::now(), self.clock.start.elapsed()));
    }

    /// Lets the horizon pass: a list that begins from now on shows all that has been asked for, or it is not there.
    pub(crate) fn advance_horizon(&self) {
        self.advance(SignedDuration::try_from(HORIZON).unwrap() + SignedDuration::from_secs(1));
    }

    /// Sets the wall clock, by so much.
    pub(crate) fn jump(&self, by: SignedDuration) {
        self.clock.moved().wall += by;
    }

    /// Lets time pass up to `at`.
    pub(crate) fn advance_to(&self, at: Timestamp) {
        self.advance(at.duration_since(self.now()));
    }

    /// Lets so many poll intervals pass, with the list that each brings.
    pub(crate) async fn polls(&self, number: usize) {
        for _ in 0..number {
            self.advance(SignedDuration::from_secs(11));
            self.list().await;
        }
    }

    /// Has the operator look at the account, and waits for the list that must be due by its clock.
    pub(crate) async fn list(&self) {
        let look = json!({ "metadata": { "labels": { "example.com/look": unique() } } });
        let look = Patch::Merge(look);
        let params = PatchParams::default();
        let (accounts, list) = (self.accounts(), self.world.polls(1));
        let (_, looked) = tokio::join!(list, accounts.patch(&self.name, &params, &look));
        looked.unwrap();
    }
}

/// What these operators say goes where the other operators' logs are: for whoever wants to know why a test failed. It is
/// one log for this process, because a span must be closed where it was opened, whichever operator's turn it is then.
fn log_to_file(cluster: &ControlPlane) {
    let file = File::create(cluster.dir().join("operator-in-process.log")).unwrap();
    let level = tracing_subscriber::EnvFilter::new("info,datafast_operator=debug,kube_client::client=error");
    tracing_subscriber::fmt().json().with_env_filter(level).with_writer(Mutex::new(file)).init();
}
