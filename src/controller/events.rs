//! Events: what happened, for the people who read `kubectl describe`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubernetesEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{Error, Settings, asked};
use crate::api::names;
use crate::lock::lock;
use crate::telemetry::{Failures, Metrics, Over, millis};

/// As the metric calls what fails.
const KIND: &str = "Event";
/// Kubernetes takes notes of up to 1 kB.
const NOTE_LENGTH: usize = 1000;
/// Events on their way at once. Where the API server is so slow that more would be, the rest is left out.
const MOST_UNDER_WAY: usize = 256;
/// At the end of the process, those on their way get so long.
const FINISH: Duration = Duration::from_secs(2);

/// An event is named after its object, with a dot and the time in hexadecimal digits. Where that would be longer than a name
/// may be, the object's name is cut.
const LONGEST_NAMED: usize = 253 - 17;

/// Publishes events, beside what is done: an event that cannot be published, or not soon, holds back nothing.
pub(crate) struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
    under_way: Arc<Semaphore>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    failures: Arc<Mutex<Failures>>,
    /// Kubernetes has those about objects without a namespace in the namespace `default`, where an operator of some
    /// namespaces has no rights.
    about_accounts: bool,
}

/// In a namespace that is being deleted, or gone, nobody reads events.
fn is_of_what_goes(error: &Error) -> bool {
    let Error::Kubernetes { error: kube::Error::Api(refusal), .. } = error else { return false };
    let causes = refusal.details.iter().flat_map(|details| &details.causes);
    refusal.is_not_found() || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Events can be published again.
fn tell_end(Over { failures, lasted }: &Over) {
    tracing::info!(failures, durationMs = millis(*lasted), "events can be published again");
}

impl Events {
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>, settings: &Settings) -> Self {
        let reporter = Reporter { controller: names::MANAGER.into(), instance: Some(settings.instance.clone()) };
        let about_accounts = settings.watch_namespaces.is_empty();
        let under_way = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        let recorder = Recorder::new(client.clone(), reporter.clone());
        let (tasks, failures) = Default::default();
        Self { client, reporter, recorder, under_way, tasks, metrics, failures, about_accounts }
    }

    /// Waits a little for those on their way.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(FINISH, self.tasks.wait()).await;
    }

    /// Something went as it should.
    pub(crate) fn normal(&self, about: &ObjectReference, reason: &'static str, note: String) {
        self.publish(about, EventType::Normal, reason, note);
    }

    /// Something that a person should know of.
    pub(crate) fn warning(&self, about: &ObjectReference, reason: &'static str, note: String) {
        self.publish(about, EventType::Warning, reason, note);
    }

    fn publish(&self, about: &ObjectReference, type_: EventType, reason: &'static str, mut note: String) {
        if about.namespace.is_none() && !self.about_accounts {
            return;
        }
        while note.len() > NOTE_LENGTH {
            note.pop();
        }
        // Events of one action are counted on the first of them, with its words: other words are another action.
        let words = Sha256::digest(note.as_bytes());
        let action = format!("{reason}-{:02x}{:02x}{:02x}{:02x}", words[0], words[1], words[2], words[3]);
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None };
        let Ok(permit) = self.under_way.clone().try_acquire_owned() else {
            tracing::debug!(reason, "an event is left out: too many are on their way");
            return;
        };
        let published = self.published(event, about.clone());
        let (failures, metrics) = (self.failures.clone(), self.metrics.clone());
        let publish = async move {
            match asked("Publishing an event", published).await {
                Ok(()) => lock(&failures).over().iter().for_each(tell_end),
                Err(error) if is_of_what_goes(&error) => tracing::debug!(%error, reason, "an event has no namespace"),
                Err(error) => {
                    metrics.reconcile_failed(KIND, error.reason());
                    if lock(&failures).is_news(&error) {
                        tracing::warn!(%error, reason, "an event could not be published");
                    } else {
                        tracing::debug!(%error, reason, "an event could not be published");
                    }
                }
            }
            drop(permit);
        };
        self.tasks.spawn(publish.in_current_span());
    }

    /// By the recorder, which counts events that are alike on the first of them; but each for itself, where the recorder
    /// can't name them.
    fn published(&self, event: Event, about: ObjectReference) -> BoxFuture<'static, kube::Result<()>> {
        let name = about.name.as_deref().unwrap_or_default();
        if name.len() <= LONGEST_NAMED {
            let recorder = self.recorder.clone();
            return async move { recorder.publish(&event, &about).await }.boxed();
        }
        let now = Timestamp::now();
        let name = name.chars().take(LONGEST_NAMED).collect::<String>();
        let name = format!("{}.{:x}", name.trim_end_matches(['.', '-']), now.as_nanosecond());
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let event = KubernetesEvent {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
            action: Some(event.action),
            reason: Some(event.reason),
            note: event.note,
            event_time: Some(MicroTime(now)),
            regarding: Some(about),
            reporting_controller: Some(self.reporter.controller.clone()),
            reporting_instance: self.reporter.instance.clone(),
            type_: Some(format!("{:?}", event.type_)),
            ..KubernetesEvent::default()
        };
        let api = Api::<KubernetesEvent>::namespaced(self.client.clone(), &namespace);
        async move { api.create(&PostParams::default(), &event).await.map(|_| ()) }.boxed()
    }
}
