//! Events: what happened, for the people who read `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use sha2::{Digest, Sha256};

use super::Settings;
use crate::api::names;

/// Kubernetes takes notes of up to 1 kB.
const NOTE_LENGTH: usize = 1000;

/// Publishes events. One that cannot be published is logged, and holds back nothing.
pub(crate) struct Events {
    recorder: Recorder,
    /// Kubernetes has those about objects without a namespace in the namespace `default`, where an operator of some
    /// namespaces has no rights.
    about_accounts: bool,
}

impl Events {
    pub(crate) fn new(client: Client, settings: &Settings) -> Self {
        let reporter = Reporter { controller: names::MANAGER.into(), instance: Some(settings.instance.clone()) };
        let about_accounts = settings.watch_namespaces.is_empty();
        Self { recorder: Recorder::new(client, reporter), about_accounts }
    }

    /// Something went as it should.
    pub(crate) async fn normal(&self, about: &ObjectReference, reason: &str, note: String) {
        self.publish(about, EventType::Normal, reason, note).await;
    }

    /// Something that a person should know of.
    pub(crate) async fn warning(&self, about: &ObjectReference, reason: &str, note: String) {
        self.publish(about, EventType::Warning, reason, note).await;
    }

    async fn publish(&self, about: &ObjectReference, type_: EventType, reason: &str, mut note: String) {
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
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(%error, reason, "an event could not be published");
        }
    }
}
