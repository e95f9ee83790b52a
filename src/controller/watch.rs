//! Watches: what the API server tells of resources and their Secrets, and the controllers that it wakes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::Config;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::left_behind::Gone;
use super::lenient::Lenient;
use super::resource::{Kind, KindStore, Managed};
use super::{Context, reconcile};
use crate::account::{ResourceRef, Wakeup};
use crate::api::names;
use crate::causes::with_causes;
use crate::telemetry::{Failures, Metrics, Over, WatchHealth, millis};

/// All namespaces, or one of those that are watched.
pub(super) type Scope = Option<String>;

pub(super) fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The events of a watch.
pub(super) type Events<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// A watch: its events, what it has seen, and whether it has seen all there is.
pub(super) struct Watch<K: Resource<DynamicType = ()> + 'static> {
    pub(super) events: Events<K>,
    pub(super) store: Store<K>,
    pub(super) progress: Progress,
}

/// How far a watch has come.
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) scope: Scope,
    /// Cancelled once the first list is in the store. The store's own `wait_until_ready` wakes only the last who waits,
    /// and the controller is one of them.
    synced: CancellationToken,
    /// Cancelled once the API server has refused the watch of a single namespace, as where its Role is gone with it: the
    /// other namespaces can't wait for that.
    refused: CancellationToken,
}

impl Progress {
    /// Waits until all there is has been seen.
    pub(super) async fn synced(&self) {
        self.synced.cancelled().await;
    }

    /// Waits until all there is has been seen, or it is known that it can't be for now.
    pub(super) async fn settled(&self) {
        tokio::select! {
            () = self.synced.cancelled() => {}
            () = self.refused.cancelled() => {}
        }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced.is_cancelled()
    }

    /// All has been listed once, or is not to be listed: [`Progress::synced`].
    pub(super) fn is_settled(&self) -> bool {
        self.is_synced() || self.refused.is_cancelled()
    }

    fn failed(&self, error: &watcher::Error) {
        if self.scope.is_some() && refusal(error) == Some(403) {
            self.refused.cancel();
        }
    }
}

/// The HTTP status by which the API server refused to list.
fn refusal(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(refusal)) => Some(refusal.code),
        _ => None,
    }
}

/// What is most likely missing where a list is refused.
fn missing(error: &watcher::Error, scope: &Scope) -> Option<&'static str> {
    match (refusal(error)?, scope) {
        (403, Some(_)) => Some("the operator's Role, or the namespace with it"),
        (403, None) => Some("the operator's ClusterRole"),
        (404, _) => Some("the CustomResourceDefinition"),
        _ => None,
    }
}

/// Watches objects. Of those that a new list lacks, because they were deleted while the watch was away, `missed` is told.
pub(super) fn watch<K>(
    api: Api<K>,
    scope: &Scope,
    config: watcher::Config,
    metrics: &Metrics,
    missed: impl FnMut(&K) + Send + 'static,
) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let writer = Writer::default();
    let store = writer.as_reader();
    let (synced, refused) = Default::default();
    let health = metrics.watch(&K::kind(&()));
    let progress = Progress { scope: scope.clone(), synced, refused };
    let seen = progress.clone();
    let events = begun_anew(api, config, health.clone()).default_backoff();
    // A good part of an object, and nobody asks the store who wrote what.
    let events = events.modify(|object| object.meta_mut().managed_fields = None);
    let events = events.inspect(notice_missed(store.clone(), missed));
    let mut failures = Failures::default();
    let events = events.reflect(writer).inspect(move |event| {
        let (kind, namespace) = (&*K::kind(&()), &seen.scope);
        match event {
            Err(error) => {
                seen.failed(error);
                let (missing, error) = (missing(error, namespace), with_causes(error));
                if failures.is_news(&error) {
                    tracing::warn!(error, kind, namespace, missing, "a watch failed: it is taken up again");
                } else {
                    tracing::debug!(error, kind, namespace, "a watch failed again");
                }
                if health.failed() {
                    tracing::error!(error, kind, namespace, missing, "a watch is broken: what changes is not seen");
                }
            }
            Ok(watcher::Event::InitDone) if health.is_broken() => {
                seen.synced.cancel();
                if health.listed() {
                    tracing::info!(kind, namespace, "a watch that is broken has listed all anew");
                }
            }
            Ok(event) => {
                match event {
                    watcher::Event::InitDone => {
                        seen.synced.cancel();
                        health.listed();
                    }
                    // Of a list that may still fail.
                    watcher::Event::Init | watcher::Event::InitApply(_) => return,
                    watcher::Event::Apply(_) | watcher::Event::Delete(_) => health.works(),
                }
                if let Some(Over { failures, lasted }) = failures.over() {
                    tracing::info!(failures, durationMs = millis(lasted), kind, namespace, "a watch works again");
                }
            }
        }
    });
    Watch { events: events.boxed(), store, progress }
}

/// A watch that begins anew after each failure, with a list, while it is broken: that tells when it works again, and what it
/// missed.
fn begun_anew<K>(api: Api<K>, config: watcher::Config, health: WatchHealth) -> Events<K>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let begin = move || watcher(api.clone(), config.clone()).boxed();
    let first = begin();
    futures::stream::unfold((first, false), move |(mut events, has_failed)| {
        if has_failed && health.is_broken() {
            events = begin();
        }
        async move {
            let event = events.next().await?;
            let has_failed = event.is_err();
            Some((event, (events, has_failed)))
        }
    })
    .boxed()
}

/// Nobody tells of what was deleted while a watch was away, but that a new list lacks it.
fn notice_missed<K>(
    known: Store<K>,
    mut missed: impl FnMut(&K) + Send + 'static,
) -> impl FnMut(&watcher::Result<watcher::Event<K>>) + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let mut listed = HashSet::new();
    move |event| match event {
        Ok(watcher::Event::Init) => listed.clear(),
        Ok(watcher::Event::InitApply(object)) => drop(listed.insert(object.uid())),
        // The store still has what was known before.
        Ok(watcher::Event::InitDone) => {
            let listed = std::mem::take(&mut listed);
            known.state().iter().filter(|object| !listed.contains(&object.uid())).for_each(|object| missed(object));
        }
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) | Err(_) => {}
    }
}

pub(super) fn stream<T: Send + 'static>(receiver: UnboundedReceiver<T>) -> BoxStream<'static, T> {
    futures::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
        .boxed()
}

/// Has a controller reconcile the resource of this name and namespace.
type Trigger = Box<dyn Fn(&str, &str) + Send>;
/// Runs a controller to its end: with the context, once the accounts are seen, until the last argument is cancelled.
type Run = Box<dyn FnOnce(Arc<Context>, Progress, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// The controllers of resources: one for each kind and scope.
#[derive(Default)]
pub(super) struct Controllers {
    pub(super) stores: Vec<Box<dyn KindStore>>,
    pub(super) progress: Vec<Progress>,
    pub(super) runs: Vec<Run>,
    pub(super) triggers: Triggers,
}

impl Controllers {
    /// Watches one kind in one scope. What is deleted is told to `gone`.
    pub(super) fn add<K: Kind>(
        &mut self,
        client: &Client,
        scope: &Scope,
        concurrency: u16,
        metrics: &Metrics,
        gone: UnboundedSender<Gone>,
    ) {
        let is_gone = move |resource: &Lenient<K>, is_seen| {
            let _ = gone.send(Gone { resource: Arc::new(resource.clone()), is_seen });
        };
        let missed = is_gone.clone();
        let (api, all) = (api::<Lenient<K>>(client, scope), watcher::Config::default());
        let watch = watch(api, scope, all, metrics, move |resource| missed(resource, false));
        let events = watch.events.inspect(move |event| {
            if let Ok(watcher::Event::Delete(resource)) = event {
                is_gone(resource, true);
            }
        });
        self.stores.push(Box::new(watch.store.clone()));
        let own = watch.progress.clone();
        self.progress.push(watch.progress);
        let config = Config::default().concurrency(concurrency);
        let controller = Controller::for_stream(events.applied_objects(), watch.store).with_config(config);
        let (trigger, woken) = unbounded_channel();
        let trigger: Trigger = Box::new(move |namespace, name| {
            let _ = trigger.send(ObjectRef::new(name).within(namespace));
        });
        self.triggers.0.insert((<K as Resource>::kind(&()).into_owned(), scope.clone()), trigger);
        self.runs.push(Box::new(|ctx, ready, stop| run(controller, woken, own, ctx, ready, stop).boxed()));
    }
}

/// How controllers are woken, by kind and scope.
#[derive(Default)]
pub(super) struct Triggers(HashMap<(String, Scope), Trigger>);

impl Triggers {
    /// Has a resource reconciled.
    pub(super) fn wake(&self, resource: &ResourceRef) {
        let of = |scope| self.0.get(&(resource.kind.to_owned(), scope));
        if let Some(trigger) = of(Some(resource.namespace.clone())).or_else(|| of(None)) {
            trigger(&resource.namespace, &resource.name);
        }
    }
}

async fn run<K: Kind>(
    controller: Controller<Lenient<K>>,
    woken: UnboundedReceiver<ObjectRef<Lenient<K>>>,
    own: Progress,
    ctx: Arc<Context>,
    accounts: Progress,
    stop: CancellationToken,
) {
    // An account that has not been seen yet is not one that is not there.
    tokio::select! {
        () = accounts.synced() => {}
        () = stop.cancelled() => return,
    }
    let controlled = controller
        .reconcile_on(stream(woken))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            |resource, ctx| reconcile::reconcile(resource, ctx),
            |resource, error, ctx| reconcile::retry(resource, error, ctx),
            ctx,
        )
        // What failed has been logged where it failed.
        .for_each(|_| async {});
    // Before its first list a controller has begun nothing, and does not end by itself.
    let unbegun = async {
        stop.cancelled().await;
        if own.is_synced() {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = controlled => {}
        () = unbegun => {}
    }
}

/// Has the resources reconciled whose Secret changed, or was missed.
pub(super) async fn follow(
    events: Events<PartialObjectMeta<Secret>>,
    missed: UnboundedReceiver<PartialObjectMeta<Secret>>,
    ctx: Arc<Context>,
    wakeups: UnboundedSender<Wakeup>,
) {
    let touched = events.touched_objects().filter_map(|secret| async move { secret.ok() });
    futures::stream::select(touched.boxed(), stream(missed))
        .for_each(|secret| {
            for user in users_of(&secret, &ctx) {
                let _ = wakeups.send(Wakeup::Resource(user.reference()));
            }
            std::future::ready(())
        })
        .await;
}

/// The resource that a Secret says is its owner, and, where its annotations were edited, those that name the Secret.
fn users_of(secret: &PartialObjectMeta<Secret>, ctx: &Context) -> Vec<Arc<dyn Managed>> {
    let (name, namespace) = (secret.name_any(), secret.namespace().unwrap_or_default());
    let named = secret.annotations().get(names::OWNER).and_then(|owner| owner.split_once('/'));
    let owner = named.and_then(|(kind, name)| ctx.find(kind, &namespace, name));
    if owner.as_ref().is_some_and(|owner| owner.secret_name() == name) {
        return Vec::from_iter(owner);
    }
    let is_user = |user: &Arc<dyn Managed>| user.namespace() == namespace && user.secret_name() == name;
    ctx.resources().filter(is_user).chain(owner).collect()
}
