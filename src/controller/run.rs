//! Wiring: watches, controllers, and who wakes whom.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::StreamExt;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::AccountContext;
use super::left_behind::Gone;
use super::lenient::Lenient;
use super::memory::WrittenAccounts;
use super::resource::Managed;
use super::supervisor::Supervisor;
use super::unclaimed::LastClaims;
use super::watch::{Controllers, Events, Progress, Scope, Triggers, Watch, api, follow, stream, watch};
use super::{Context, account, census, events, left_behind, memory};
use crate::account::{Accounts, Wakeup};
use crate::api::{DataFastAccessToken, DataFastAccount, DataFastWebsiteKey, names};
use crate::clock::Clock;
use crate::leader::Leadership;
use crate::lifecycle::marker::ClusterId;
use crate::telemetry::{Health, Metrics};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own namespace: credentials and the lease.
    pub namespace: String,
    /// The namespaces that it watches; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Reconciles at once, for each kind and watched namespace.
    pub concurrency: u16,
    /// How long an unanswered request may still take effect.
    pub horizon: Duration,
    /// Whether an account may have an `http://` base URL.
    pub allow_plain_http: bool,
    /// Names this process in events.
    pub instance: String,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Why the operator can't go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Neither `kube-system` nor the own namespace can be read: grant `get` on namespaces.
    #[error("the cluster can't be told from others: {0}")]
    Cluster(#[from] kube::Error),
    /// A controller ended, which is a defect: the process must end too, for another to take over.
    #[error("a controller ended by itself")]
    ControllerEnded,
}

/// Runs the controllers until `stop`, then finishes what is under way.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    client: Client,
    settings: Settings,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    leadership: Leadership,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let cluster = tokio::select! {
        cluster = cluster_id(&client, &settings.namespace) => cluster?,
        () = stop.cancelled() => return Ok(()),
    };
    let (wakeups, woken) = unbounded_channel();
    let (gone, resources_gone) = unbounded_channel();
    let watches = Watches::new(&client, &settings, &metrics, &wakeups, &gone);
    let Watches { accounts, credentials, controllers, secrets, namespaces } = watches;
    let accounts_seen = accounts.progress.clone();
    let account_events = tell_of_gone(accounts.events, wakeups.clone());
    let account_controller = Controller::for_stream(account_events.applied_objects(), accounts.store);
    let Controllers { stores, progress, runs, triggers } = controllers;
    let horizon = SignedDuration::try_from(settings.horizon).unwrap_or(SignedDuration::MAX);
    let ctx = Arc::new(Context {
        accounts: Accounts::new(wakeups.clone(), horizon, settings.clock.clone()),
        transport: Arc::default(),
        memories: memory::Memories::default(),
        events: events::Events::new(client.clone(), metrics.clone(), &settings),
        metrics,
        leadership,
        cluster,
        stores,
        progress: progress.clone(),
        account_resources: account_controller.store(),
        namespaces: namespaces.store,
        secrets: secrets.stores,
        places: Mutex::default(),
        claims: LastClaims::default(),
        requests: TaskTracker::new(),
        settings,
        client,
    });
    let mut tasks = Supervisor::new(stop.clone());
    for (events, missed) in secrets.events {
        tasks.until_stop(follow(events, missed, ctx.clone(), wakeups.clone()));
    }
    tasks.until_stop(forget(resources_gone, ctx.clone(), stop.clone()));
    if let Some(events) = namespaces.events {
        tasks.until_stop(events);
    }
    let counting = ctx.clone();
    tasks.until_stop(async move { census::count(&counting).await });
    for run in runs {
        tasks.run(run(ctx.clone(), accounts_seen.clone(), stop.clone()));
    }
    let (account_trigger, account_woken) = unbounded_channel();
    tasks.run(route(woken, triggers, account_trigger, ctx.clone(), stop.clone()));
    let written = WrittenAccounts::default();
    let account_context = AccountContext { ctx: ctx.clone(), progress: progress.clone(), stop: stop.clone(), written };
    tasks.run(run_accounts(account_controller, credentials, account_woken, Arc::new(account_context), stop));
    let report_ready = async {
        join_all(progress.iter().map(Progress::synced)).await;
        tracing::info!("watches are in sync");
        health.set_ready(true);
    };
    tasks.supervise(&ctx, report_ready).await
}

/// Passes on the events of accounts, and tells the router of those that are gone.
fn tell_of_gone(
    events: Events<Lenient<DataFastAccount>>,
    wakeups: UnboundedSender<Wakeup>,
) -> Events<Lenient<DataFastAccount>> {
    let tell = move |event: &watcher::Result<watcher::Event<Lenient<DataFastAccount>>>| {
        if let Ok(watcher::Event::Delete(account)) = event {
            let _ = wakeups.send(Wakeup::AccountGone(account.name_any()));
        }
    };
    events.inspect(tell).boxed()
}

/// All that the operator watches, before it is run.
struct Watches {
    accounts: Watch<Lenient<DataFastAccount>>,
    /// Secrets of the operator's own namespace.
    credentials: Events<SecretMeta>,
    controllers: Controllers,
    secrets: SecretWatches,
    namespaces: NamespaceWatch,
}

/// What of Secrets is watched.
type SecretMeta = PartialObjectMeta<Secret>;

/// The events of a watch of Secrets, and those that it found gone when it came back.
type SecretEvents = (Events<SecretMeta>, UnboundedReceiver<SecretMeta>);

#[derive(Default)]
struct SecretWatches {
    stores: Vec<Store<SecretMeta>>,
    events: Vec<SecretEvents>,
}

/// Where only some namespaces are watched, their labels are read one by one.
#[derive(Default)]
struct NamespaceWatch {
    store: Option<Store<PartialObjectMeta<Namespace>>>,
    events: Option<BoxFuture<'static, ()>>,
}

impl Watches {
    fn new(
        client: &Client,
        settings: &Settings,
        metrics: &Metrics,
        wakeups: &UnboundedSender<Wakeup>,
        gone: &UnboundedSender<Gone>,
    ) -> Self {
        let scopes: Vec<Scope> = match settings.watch_namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let all = watcher::Config::default;
        let account_gone = wakeups.clone();
        let accounts =
            watch(Api::all(client.clone()), &None, all(), metrics, move |account: &Lenient<DataFastAccount>| {
                let _ = account_gone.send(Wakeup::AccountGone(account.name_any()));
            });
        let own = Api::<SecretMeta>::namespaced(client.clone(), &settings.namespace);
        // Each poll reads them anyway.
        let credentials = watch(own, &None, all(), metrics, |_| {}).events;
        let mut controllers = Controllers::default();
        let mut secrets = SecretWatches::default();
        for scope in &scopes {
            controllers.add::<DataFastAccessToken>(client, scope, settings.concurrency, metrics, gone.clone());
            controllers.add::<DataFastWebsiteKey>(client, scope, settings.concurrency, metrics, gone.clone());
            let ours = all().labels(&format!("{}={}", names::MANAGED_BY, names::MANAGER));
            let (missing, missed) = unbounded_channel();
            let secret_gone = move |secret: &SecretMeta| {
                let _ = missing.send(secret.clone());
            };
            let watch = watch(api(client, scope), scope, ours, metrics, secret_gone);
            secrets.stores.push(watch.store);
            secrets.events.push((watch.events, missed));
            controllers.progress.push(watch.progress);
        }
        let namespaces = match settings.watch_namespaces.is_empty() {
            true => NamespaceWatch::new(client, metrics, wakeups.clone(), &mut controllers.progress),
            false => NamespaceWatch::default(),
        };
        Self { accounts, credentials, controllers, secrets, namespaces }
    }
}

impl NamespaceWatch {
    fn new(client: &Client, metrics: &Metrics, wakeups: UnboundedSender<Wakeup>, progress: &mut Vec<Progress>) -> Self {
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
        // What is in one that is gone is gone.
        let watch = watch(namespaces, &None, watcher::Config::default(), metrics, |_| {});
        progress.push(watch.progress);
        let events = watch.events.for_each(move |event| {
            if let Ok(watcher::Event::Apply(namespace)) = event {
                let _ = wakeups.send(Wakeup::NamespaceChanged(namespace.name_any()));
            }
            std::future::ready(())
        });
        Self { store: Some(watch.store), events: Some(events.boxed()) }
    }
}

async fn run_accounts(
    controller: Controller<Lenient<DataFastAccount>>,
    credentials: Events<SecretMeta>,
    woken: UnboundedReceiver<ObjectRef<Lenient<DataFastAccount>>>,
    cx: Arc<AccountContext>,
    stop: CancellationToken,
) {
    let store = controller.store();
    let uses = move |secret: SecretMeta| {
        let name = secret.name_any();
        let accounts = store.state().into_iter();
        let refer = accounts.filter(move |account| account.spec.credentials_secret_ref.name == name);
        refer.map(|account| ObjectRef::from_obj(&*account)).collect::<Vec<_>>()
    };
    controller
        .watches_stream(credentials.touched_objects(), uses)
        .reconcile_on(stream(woken))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(account::reconcile, account::retry, cx)
        // What failed has been logged where it failed.
        .for_each(|_| async {})
        .await;
}

/// Has those resources forgotten that are gone.
async fn forget(mut gone: UnboundedReceiver<Gone>, ctx: Arc<Context>, stop: CancellationToken) {
    while let Some(gone) = gone.recv().await {
        let (account, reference) = (ctx.accounts.get(gone.resource.account_name()), gone.resource.reference());
        left_behind::forget(&ctx, gone, stop.clone());
        account.settled(&reference);
        // Another one of its namespace may be allowed now.
        account.wake_news();
        // Its finalizer may have waited for this resource.
        account.reconcile();
    }
}

/// Hands wake-ups to the controller of the object's kind.
async fn route(
    mut woken: UnboundedReceiver<Wakeup>,
    triggers: Triggers,
    accounts: UnboundedSender<ObjectRef<Lenient<DataFastAccount>>>,
    ctx: Arc<Context>,
    stop: CancellationToken,
) {
    loop {
        let wakeup = tokio::select! {
            wakeup = woken.recv() => wakeup,
            () = stop.cancelled() => None,
        };
        match wakeup {
            None => return,
            Some(Wakeup::Account(name)) => {
                let _ = accounts.send(ObjectRef::new(&name));
            }
            Some(Wakeup::NamespaceChanged(namespace)) => {
                let concerned = |user: &Arc<dyn Managed>| {
                    user.namespace() == namespace && ctx.selector_of(user.account_name()).is_some()
                };
                for user in ctx.resources().filter(concerned) {
                    ctx.accounts.get(user.account_name()).wake(user.reference());
                }
            }
            Some(Wakeup::AccountGone(name)) => account::gone(&ctx, &name),
            Some(Wakeup::Resource(resource)) => triggers.wake(&resource),
        }
    }
}

/// The cluster, by the uid of `kube-system`, which lives as long as the cluster; where that may not be read, by the own
/// namespace's.
async fn cluster_id(client: &Client, own: &str) -> Result<ClusterId, kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let uid = |namespace: Namespace| ClusterId::of(&namespace.uid().unwrap_or_default());
    match namespaces.get("kube-system").await {
        Err(kube::Error::Api(refusal)) if refusal.is_forbidden() => namespaces.get(own).await.map(uid),
        other => other.map(uid),
    }
}
