//! What is slow to start, and so is shared: control planes, the operator, the sandbox.

use std::{
    collections::BTreeMap,
    future,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use datafast_harness::{ControlPlane, Cutter, Operator, OperatorOptions, Plan, install, late_answers, plain_http};
use datafast_operator::api::{DataFastAccessToken, DataFastAccount, DataFastWebsiteKey};
use datafast_sandbox::{Options, Sandbox};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::{
    runtime::Runtime,
    sync::{OnceCell, Semaphore, SemaphorePermit},
};

use super::SYSTEM;

/// A horizon that a test can wait for. Half of it should be enough to get from the record of an attempt to its request: what
/// takes longer is recorded again, with as much more time as that took.
pub(crate) const HORIZON: Duration = Duration::from_secs(8);

/// [`HORIZON`], as the operator is told.
pub(crate) const HORIZON_ARG: &str = "8s";

/// How most tests run the operator: at once, and with this horizon.
pub(crate) const ARGS: [&str; 4] = ["--allow-plain-http", "--leader-elect=false", "--horizon", HORIZON_ARG];

/// What goes on beside the tests, or after them: a test's own runtime ends with it.
static BACKGROUND: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Has an account polled no more, if it is still there.
pub(crate) fn stop_polling(cluster: Arc<ControlPlane>, account: String) {
    let rarely = Patch::Merge(json!({ "spec": { "pollInterval": "24h" } }));
    BACKGROUND.spawn(async move {
        if let Ok(client) = cluster.admin().await {
            let _ = Api::<DataFastAccount>::all(client).patch(&account, &PatchParams::default(), &rarely).await;
        }
    });
}

/// The operator's program.
pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_datafast-operator").into()
}

/// The one sandbox of this process. It runs in a thread of its own, because a test's runtime ends with the test.
pub(crate) fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                sender.send(Sandbox::start(Options::default()).await.unwrap()).unwrap();
                future::pending::<()>().await;
            });
        });
        receiver.recv().unwrap()
    })
}

/// The shared control plane, with the operator at work in all of its namespaces.
pub(crate) async fn shared() -> Arc<ControlPlane> {
    shared_operator().await;
    ControlPlane::shared().await.unwrap()
}

/// The operator of [`shared`].
pub(crate) async fn shared_operator() -> &'static Operator {
    static OPERATOR: OnceCell<Operator> = OnceCell::const_new();
    OPERATOR
        .get_or_init(|| async {
            let cluster = ControlPlane::shared().await.unwrap();
            install(&cluster).await.unwrap();
            start(&cluster, None, &ARGS).await
        })
        .await
}

/// What stands between operators and the API server where that is to answer late ([`late_answers`]): one for each control
/// plane.
pub(crate) async fn late_proxy(cluster: &ControlPlane) -> Option<String> {
    static PROXIES: Mutex<BTreeMap<String, Cutter>> = Mutex::new(BTreeMap::new());
    if late_answers().is_zero() {
        return None;
    }
    let upstream = cluster.url();
    let known = |proxies: &BTreeMap<String, Cutter>| proxies.get(&upstream).map(|proxy| proxy.url().to_owned());
    if let Some(url) = known(&PROXIES.lock().unwrap()) {
        return Some(url);
    }
    let (ca, url) = (cluster.ca().unwrap(), upstream.clone());
    let start = async move { Cutter::start(&Plan::count_only(), "kubernetes", &url, Some(&ca)).await.unwrap() };
    let proxy = BACKGROUND.spawn(start).await.unwrap();
    let mut proxies = PROXIES.lock().unwrap();
    proxies.entry(upstream.clone()).or_insert(proxy);
    known(&proxies)
}

/// Starts an operator under its own identity, and waits until it is ready. `server`: in place of the API server.
pub(crate) async fn start(cluster: &ControlPlane, server: Option<&str>, args: &[&str]) -> Operator {
    start_with(cluster, server, args, &[]).await
}

/// As [`start`], with these variables in its environment.
pub(crate) async fn start_with(
    cluster: &ControlPlane,
    server: Option<&str>,
    args: &[&str],
    environment: &[(&str, &str)],
) -> Operator {
    let operator = launch(cluster, server, args, environment).await;
    operator.wait_ready().await.unwrap();
    operator
}

/// As [`start_with`], without waiting: for one that can't be ready yet.
pub(crate) async fn launch(
    cluster: &ControlPlane,
    server: Option<&str>,
    args: &[&str],
    environment: &[(&str, &str)],
) -> Operator {
    let late = late_proxy(cluster).await;
    let kubeconfig = cluster.kubeconfig_operator(server.or(late.as_deref())).unwrap();
    let options = OperatorOptions::new(binary(), kubeconfig).args(args.iter().copied());
    let options = environment.iter().fold(options, |options, (name, value)| options.env(*name, *value));
    Operator::start(options).unwrap()
}

/// A control plane without an operator, for one test alone: to kill operators, or the API server. The next test may get
/// it once this value is dropped; so let the operators on it be dropped first.
pub(crate) struct Plane {
    pub(crate) cluster: Arc<ControlPlane>,
    _permit: SemaphorePermit<'static>,
}

/// Three for each core: more of them at once would be slower than one after the other.
static PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(3 * thread::available_parallelism().map_or(1, usize::from)));
static IDLE: Mutex<Vec<Arc<ControlPlane>>> = Mutex::new(Vec::new());

impl Plane {
    pub(crate) async fn take() -> Self {
        let _permit = PERMITS.acquire().await.unwrap();
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let cluster = match idle {
            Some(cluster) => cluster,
            None => Arc::new(ControlPlane::start().await.unwrap()),
        };
        install(&cluster).await.unwrap();
        let client = cluster.admin().await.unwrap();
        clear::<DataFastAccessToken>(&client).await;
        clear::<DataFastWebsiteKey>(&client).await;
        clear::<DataFastAccount>(&client).await;
        // A leader that was killed may hold it for longer than a test waits.
        let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
        let _ = leases.delete("datafast-operator", &DeleteParams::default()).await;
        Self { cluster, _permit }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if !thread::panicking() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self.cluster.clone());
        }
    }
}

/// Removes what an earlier test left, its operator being gone.
async fn clear<K>(client: &Client)
where
    K: Clear + DeserializeOwned + Clone + std::fmt::Debug,
{
    for object in Api::<K>::all(client.clone()).list(&ListParams::default()).await.unwrap() {
        let (api, name) = (K::api_of(client, &object), object.name_any());
        let release = json!({ "metadata": { "finalizers": null } });
        api.patch(&name, &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
        // One that waited for its finalizer only is gone now.
        let _ = api.delete(&name, &DeleteParams::default()).await;
    }
}

trait Clear: Resource<DynamicType = ()> + Sized {
    fn api_of(client: &Client, object: &Self) -> Api<Self>;
}

impl Clear for DataFastAccessToken {
    fn api_of(client: &Client, object: &Self) -> Api<Self> {
        Api::namespaced(client.clone(), &object.namespace().unwrap())
    }
}

impl Clear for DataFastWebsiteKey {
    fn api_of(client: &Client, object: &Self) -> Api<Self> {
        Api::namespaced(client.clone(), &object.namespace().unwrap())
    }
}

impl Clear for DataFastAccount {
    fn api_of(client: &Client, _: &Self) -> Api<Self> {
        Api::all(client.clone())
    }
}

/// What the shared operator answers to a GET, with a connection of its own: a client belongs to its test's runtime.
pub(crate) async fn shared_get(path: &str) -> (u16, String) {
    let url = format!("{}{path}", shared_operator().await.url());
    let client = plain_http().build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// As [`shared_get`], for whoever asks for this type of answer.
pub(crate) async fn shared_get_as(path: &str, accept: &str) -> String {
    let url = format!("{}{path}", shared_operator().await.url());
    let client = plain_http().build().unwrap();
    client.get(url).header("accept", accept).send().await.unwrap().text().await.unwrap()
}
