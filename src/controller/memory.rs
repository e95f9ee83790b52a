//! What this process knows of each resource and nobody else does, above all a key that is on its way into a Secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use backon::ExponentialBackoff;
use jiff::Timestamp;
use kube::ResourceExt;

use super::lenient::Lenient;
use super::pauses;
use super::resource::Managed;
use super::status::Told;
use crate::api::{DataFastAccount, KeyStatus};
use crate::datafast::RawKey;
use crate::lifecycle::event::{Answer, Effect, Event, Now, Order};
use crate::lifecycle::history::{self, Revocation};
use crate::lifecycle::local::Local;
use crate::lock::lock;
use crate::telemetry::{Failures, Over};
use crate::version::version;

/// One resource's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What the core knows of it.
    local: Local,
    /// The key that [`Local`] speaks of as pending.
    key: Option<Arc<RawKey>>,
    /// The resource as this process last wrote or saw it: a watch may lag behind our own writes.
    latest: Option<Arc<dyn Managed>>,
    /// The resource has a place in its namespace's share, though a watch may not show yet what it has.
    has_place: bool,
    /// What status is to tell of what was done.
    told: Told,
    /// Pauses between failed reconciles.
    pub(crate) retries: ExponentialBackoff,
    /// Failed reconciles, for the log.
    pub(crate) failures: Failures,
    /// How many reconciles have failed in a row.
    pub(crate) failed: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            local: Local::default(),
            key: None,
            latest: None,
            has_place: false,
            told: Told::default(),
            retries: pauses(),
            failures: Failures::default(),
            failed: 0,
        }
    }
}

impl Memory {
    /// What is known of the resource.
    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    /// What is known of the resource, as of now.
    pub(crate) fn as_of(&mut self, now: Now) -> Local {
        self.local.tick(now);
        self.local.clone()
    }

    /// Has the core take note of an event. A key that is no longer pending is wiped.
    pub(crate) fn apply(&mut self, event: Event, now: Now) -> Option<Effect> {
        let effect = self.local.apply(event, now);
        if !self.local.has_pending_key() {
            self.key = None;
        }
        effect
    }

    /// Takes note of a request for a key that has ended, and keeps the key that it brought until a Secret holds it.
    pub(crate) fn sent(&mut self, order: Order, answer: Answer, key: Option<RawKey>, now: Now) -> Option<Effect> {
        self.key = key.map(Arc::new);
        self.apply(Event::Sent { order, answer }, now)
    }

    /// A token was revoked, of which status is to tell.
    pub(crate) fn has_revoked(&mut self, revocation: Revocation) {
        let revoked = &mut self.told.revoked;
        // Of more than that, status does not tell.
        revoked.drain(..(revoked.len() + 1).saturating_sub(history::MOST));
        revoked.push(revocation);
    }

    /// What status is to tell of what was done.
    pub(super) fn to_tell(&self) -> Told {
        self.told.clone()
    }

    /// A status was written. With another `lastUsedAt`: when.
    pub(super) fn has_told(&mut self, status: &KeyStatus, used: Option<Timestamp>) {
        self.told.last_used_written = used.or(self.told.last_used_written);
        self.told.revoked.retain(|revocation| !revocation.is_told(&status.history));
    }

    /// The resource takes a place in its namespace's share, for as long as this process remembers it.
    pub(crate) fn take_place(&mut self) {
        self.has_place = true;
    }

    /// Whether it has one.
    pub(crate) fn has_place(&self) -> bool {
        self.has_place
    }

    /// The pending key, for the one place that writes Secrets.
    pub(crate) fn key(&self) -> Option<Arc<RawKey>> {
        self.key.clone()
    }

    /// A reconcile came to its end. Returns what failures are over by that.
    pub(crate) fn succeeded(&mut self) -> Option<Over> {
        (self.retries, self.failed) = (pauses(), 0);
        self.failures.over()
    }

    /// The newer of what is seen and what this process wrote.
    pub(crate) fn newest(&mut self, seen: Arc<dyn Managed>) -> Arc<dyn Managed> {
        let newest = match self.latest.take() {
            Some(latest) if version(latest.metadata()) > version(seen.metadata()) => latest,
            _ => seen,
        };
        self.latest.insert(newest).clone()
    }

    /// Somebody else changed the resource: what this process wrote last is not the newest. With a key in hand it is still
    /// the surest record of the attempt.
    pub(crate) fn was_overtaken(&mut self) {
        if !self.local.is_busy() {
            self.latest = None;
        }
    }
}

/// The account resources as this process wrote them last, by name: a watch may show that late, and what is written over
/// something older is refused.
#[derive(Debug, Default)]
pub(crate) struct WrittenAccounts(Mutex<HashMap<String, Arc<Lenient<DataFastAccount>>>>);

impl WrittenAccounts {
    /// Remembers it until a watch shows it, or something newer.
    pub(crate) fn wrote(&self, account: Lenient<DataFastAccount>) {
        lock(&self.0).insert(account.name_any(), Arc::new(account));
    }

    /// The newer of what is seen and what this process wrote.
    pub(crate) fn newest(&self, seen: Arc<Lenient<DataFastAccount>>) -> Arc<Lenient<DataFastAccount>> {
        let mut all = lock(&self.0);
        let is_newer = |written: &&Arc<Lenient<DataFastAccount>>| {
            written.uid() == seen.uid() && version(&written.metadata) > version(&seen.metadata)
        };
        if let Some(written) = all.get(&seen.name_any()).filter(is_newer) {
            return written.clone();
        }
        all.remove(&seen.name_any());
        seen
    }

    /// Somebody else changed it: what this process wrote is not the newest.
    pub(crate) fn was_overtaken(&self, name: &str) {
        lock(&self.0).remove(name);
    }
}

/// The memories, by the resource's uid: a resource of the same name that is made anew is another.
#[derive(Debug, Default)]
pub(crate) struct Memories(Mutex<HashMap<String, Arc<Mutex<Memory>>>>);

impl Memories {
    /// One resource's.
    pub(crate) fn of(&self, uid: &str) -> Arc<Mutex<Memory>> {
        lock(&self.0).entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets a resource that is gone. Returns what was known of it, and what is to be done where it went without us.
    pub(crate) fn gone(&self, uid: &str, now: Now) -> (Arc<Mutex<Memory>>, Option<Effect>) {
        let memory = lock(&self.0).remove(uid).unwrap_or_default();
        let effect = lock(&memory).apply(Event::Vanished, now);
        (memory, effect)
    }

    /// One resource's, if it is there as far as we know.
    pub(crate) fn known(&self, uid: &str) -> Option<Arc<Mutex<Memory>>> {
        lock(&self.0).get(uid).cloned()
    }

    /// Tells all of them.
    pub(crate) fn apply(&self, event: &Event, now: Now) {
        for memory in lock(&self.0).values() {
            lock(memory).apply(event.clone(), now);
        }
    }

    /// The resources with something to be finished.
    pub(crate) fn busy(&self) -> Vec<Arc<dyn Managed>> {
        let memories: Vec<_> = lock(&self.0).values().cloned().collect();
        let busy = memories.iter().filter_map(|memory| {
            let memory = lock(memory);
            memory.local.is_busy().then(|| memory.latest.clone())?
        });
        busy.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account(uid: &str, version: &str) -> Lenient<DataFastAccount> {
        let metadata = json!({ "name": "growth", "uid": uid, "resourceVersion": version });
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "credentialsSecretRef": { "name": "a" } } }))
            .unwrap()
    }

    #[test]
    fn what_was_written_counts_until_it_is_seen() {
        let written = WrittenAccounts::default();
        let newest = |uid, version| written.newest(Arc::new(account(uid, version))).resource_version().unwrap();
        assert_eq!(newest("1", "8"), "8");
        written.wrote(account("1", "10"));
        assert_eq!((newest("1", "9"), newest("1", "9")), ("10".to_owned(), "10".to_owned()), "a watch shows it late");
        assert_eq!(newest("2", "9"), "9", "that is another one");
        written.wrote(account("1", "10"));
        assert_eq!(newest("1", "11"), "11");
        assert!(lock(&written.0).is_empty(), "nothing is kept of it");
        written.wrote(account("1", "12"));
        written.was_overtaken("growth");
        assert_eq!(newest("1", "11"), "11");
    }
}
