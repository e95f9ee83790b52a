//! Wiring: watches, controllers, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join_all, select_all};
use futures::stream::StreamExt;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::account::AccountContext;
use super::resource::Managed;
use super::watch::{Controllers, Progress, Scope, Triggers, api, follow, stream, watch};
use super::{Context, account, census, events, issuing, memory, reconcile};
use crate::account::{Account, Accounts, ResourceRef, Wakeup};
use crate::api::{DataFastAccessToken, DataFastAccount, DataFastWebsiteKey, names};
use crate::clock::Clock;
use crate::issue::marker::ClusterId;
use crate::leader::Leadership;
use crate::telemetry::{Health, Metrics};

/// How long to wait at the end of the process for what is under way.
const FINISH: Duration = Duration::from_secs(15);

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own namespace: credentials and the lease.
    pub namespace: String,
    /// The namespaces that it looks after; empty: all.
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

/// Runs the controllers until `stop`, then finishes what is in hand.
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
    let horizon = SignedDuration::try_from(settings.horizon).unwrap_or(SignedDuration::MAX);
    let scopes: Vec<Scope> = match settings.watch_namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };

    let accounts = watch(Api::<DataFastAccount>::all(client.clone()), &None, watcher::Config::default());
    let accounts_seen = accounts.progress.clone();
    let gone = wakeups.clone();
    let account_events = accounts.events.inspect(move |event| {
        if let Ok(watcher::Event::Delete(account)) = event {
            let _ = gone.send(Wakeup::AccountGone(account.name_any()));
        }
    });
    let account_controller = Controller::for_stream(account_events.applied_objects(), accounts.store);
    let mut controllers = Controllers::default();
    let mut secret_events = Vec::new();
    let mut secret_stores = Vec::new();
    for scope in &scopes {
        controllers.add::<DataFastAccessToken>(&client, scope, settings.concurrency, wakeups.clone());
        controllers.add::<DataFastWebsiteKey>(&client, scope, settings.concurrency, wakeups.clone());
        let ours = watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY, names::MANAGER));
        let secrets = watch(api::<PartialObjectMeta<Secret>>(&client, scope), scope, ours);
        secret_stores.push(secrets.store);
        secret_events.push(secrets.events);
        controllers.progress.push(secrets.progress);
    }
    let Controllers { shelves, mut progress, runs, triggers } = controllers;

    // Where only some namespaces are looked after, their labels are read one by one.
    let namespaces = settings.watch_namespaces.is_empty().then(|| {
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
        let watch = watch(namespaces, &None, watcher::Config::default());
        progress.push(watch.progress);
        let changed = wakeups.clone();
        let events = watch.events.for_each(move |event| {
            if let Ok(watcher::Event::Apply(namespace)) = event {
                let _ = changed.send(Wakeup::NamespaceChanged(namespace.name_any()));
            }
            std::future::ready(())
        });
        (watch.store, events)
    });
    let (namespaces, namespace_events) = namespaces.unzip();

    let ctx = Arc::new(Context {
        accounts: Accounts::new(wakeups.clone(), horizon, settings.clock.clone()),
        memories: memory::Memories::default(),
        events: events::Events::new(client.clone(), &settings),
        metrics,
        leadership,
        cluster,
        shelves,
        account_resources: account_controller.store(),
        namespaces,
        requests: TaskTracker::new(),
        settings,
        client: client.clone(),
    });

    let mut running = Vec::new();
    let follow_namespaces = namespace_events.map(FutureExt::boxed);
    let follow_secrets = secret_events.into_iter().map(|events| follow(events, ctx.clone(), wakeups.clone()).boxed());
    let counting = ctx.clone();
    let counting = async move { census::count(&counting).await }.boxed();
    for following in follow_secrets.chain(follow_namespaces).chain([counting]) {
        let stop = stop.clone();
        running.push(tokio::spawn(async move {
            tokio::select! {
                () = following => {}
                () = stop.cancelled() => {}
            }
        }));
    }
    for run in runs {
        running.push(tokio::spawn(run(ctx.clone(), accounts_seen.clone(), stop.clone())));
    }
    let (account_trigger, account_woken) = unbounded_channel();
    running.push(tokio::spawn(route(woken, triggers, account_trigger, ctx.clone(), stop.clone())));
    let account_context = Arc::new(AccountContext {
        ctx: ctx.clone(),
        secrets: secret_stores,
        progress: progress.clone(),
        stop: stop.clone(),
    });
    running.push(tokio::spawn(run_accounts(account_controller, account_woken, account_context, stop.clone())));

    let tell_ready = async {
        join_all(progress.iter().map(Progress::synced)).await;
        tracing::info!("watches are in sync");
        health.set_ready(true);
        std::future::pending().await
    };
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        (_, index, _) = select_all(running.iter_mut()) => Some(index),
        never = tell_ready => never,
    };
    if let Some(index) = ended {
        if !stop.is_cancelled() {
            return Err(RunError::ControllerEnded);
        }
        drop(running.swap_remove(index));
    }
    let aborts: Vec<_> = running.iter().map(tokio::task::JoinHandle::abort_handle).collect();
    let finished = tokio::time::timeout(FINISH, finish(&ctx, running)).await;
    // Whatever still runs must not act once the lease is given up.
    aborts.iter().for_each(tokio::task::AbortHandle::abort);
    if finished.is_err() {
        tracing::warn!("not everything in hand could be finished: the record tells the next process what is left");
    }
    Ok(())
}

/// Waits for the reconciles under way, then for keys that no Secret holds yet.
async fn finish(ctx: &Arc<Context>, running: Vec<tokio::task::JoinHandle<()>>) {
    // A list or a revocation that hangs must not take the time that keys in hand need.
    let _ = tokio::time::timeout(FINISH / 2, join_all(running)).await;
    ctx.requests.close();
    let mut is_told = false;
    loop {
        let busy = ctx.memories.busy();
        if busy.is_empty() {
            break;
        }
        if !is_told {
            tracing::info!(keys = busy.len(), "finishes what is in hand: keys on their way into Secrets");
            is_told = true;
        }
        ctx.memories.hurry();
        let looks = busy.into_iter().map(|resource| reconcile::reconcile(resource, ctx.clone()));
        join_all(looks).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ctx.requests.wait().await;
    ctx.events.finish().await;
}

async fn run_accounts(
    controller: Controller<DataFastAccount>,
    woken: UnboundedReceiver<ObjectRef<DataFastAccount>>,
    cx: Arc<AccountContext>,
    stop: CancellationToken,
) {
    let store = controller.store();
    let own: Api<PartialObjectMeta<Secret>> = Api::namespaced(cx.ctx.client.clone(), &cx.ctx.settings.namespace);
    let uses = move |secret: PartialObjectMeta<Secret>| {
        let name = secret.name_any();
        let accounts = store.state().into_iter();
        let refer = accounts.filter(move |account| account.spec.credentials_secret_ref.name == name);
        refer.map(|account| ObjectRef::from_obj(&*account)).collect::<Vec<_>>()
    };
    controller
        .watches(own, watcher::Config::default(), uses)
        .reconcile_on(stream(woken))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(account::reconcile, account::retry, cx)
        // What failed has been logged where it failed.
        .for_each(|_| async {})
        .await;
}

/// A resource that was deleted without us: a key in hand for it has nowhere to go.
fn give_up(ctx: &Arc<Context>, uid: &str, resource: ResourceRef, account: Arc<Account>) {
    let Some(token_id) = ctx.memories.take(uid) else { return };
    let ResourceRef { kind, collection, namespace, name } = resource;
    let span = tracing::info_span!("give_up", kind, namespace, name, account = account.name());
    let give_up = async move { issuing::give_up(&account, &collection, &token_id).await };
    ctx.requests.spawn(give_up.instrument(span));
}

/// Hands wake-ups to the controller that looks after the object.
async fn route(
    mut woken: UnboundedReceiver<Wakeup>,
    triggers: Triggers,
    accounts: UnboundedSender<ObjectRef<DataFastAccount>>,
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
            Some(Wakeup::ResourceGone { resource, uid, account }) => {
                let account = ctx.accounts.get(&account);
                give_up(&ctx, &uid, resource.clone(), account.clone());
                account.settled(&resource);
                // Another one of its namespace may be allowed now.
                account.wake_news();
                // Its finalizer may have waited for this resource.
                account.look();
            }
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
