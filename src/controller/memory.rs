//! What this process knows of each resource and nobody else does, above all a key that is on its way into a Secret.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::ExponentialBackoff;
use jiff::{SignedDuration, Timestamp};

use super::pauses;
use super::resource::Managed;
use crate::clock::Clock;
use crate::datafast::{RawKey, TokenId};
use crate::issue::local::{Local, Refused, Watched};
use crate::issue::marker::Nonce;
use crate::lock::lock;
use crate::telemetry::{Failures, Over};

/// One resource's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) local: Local,
    /// The key that [`Local::held`] speaks of.
    key: Option<Arc<RawKey>>,
    /// The resource as this process last wrote or saw it: a watch may lag behind our own writes.
    latest: Option<Arc<dyn Managed>>,
    /// When, on the steady clock, this process first saw the resource; and tokens of it retire.
    watched: Option<(Timestamp, Duration)>,
    retired: BTreeMap<TokenId, (Timestamp, Duration)>,
    /// When a `lastUsedAt` was last written.
    pub(crate) last_used_written: Option<Timestamp>,
    /// Pauses between failed looks.
    pub(crate) retries: ExponentialBackoff,
    /// Failed looks, for the log.
    pub(crate) failures: Failures,
    refusals: ExponentialBackoff,
    rejections: u32,
    /// The attempt whose cause people have been told.
    announced: Option<Nonce>,
    /// The resource was deleted without us.
    is_gone: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            local: Local::default(),
            key: None,
            latest: None,
            watched: None,
            retired: BTreeMap::new(),
            last_used_written: None,
            retries: pauses(),
            failures: Failures::default(),
            refusals: pauses(),
            rejections: 0,
            announced: None,
            is_gone: false,
        }
    }
}

impl Memory {
    /// What is known of the resource, with how long it has been watched.
    pub(crate) fn look(&mut self, clock: &dyn Clock) -> Local {
        let (now, steady) = (clock.now(), clock.steady());
        let lasted = |(first, since): &(Timestamp, Duration)| Watched {
            first: *first,
            lasted: SignedDuration::try_from(steady.saturating_sub(*since)).unwrap_or(SignedDuration::MAX),
        };
        self.local.watched = Some(lasted(self.watched.get_or_insert((now, steady))));
        self.local.retired = self.retired.iter().map(|(id, since)| (id.clone(), lasted(since))).collect();
        self.local.clone()
    }

    /// Takes note of the tokens that retire.
    pub(crate) fn watch(&mut self, retiring: impl Iterator<Item = TokenId>, clock: &dyn Clock) {
        let mut before = std::mem::take(&mut self.retired);
        let mut since = |id| (before.remove(&id).unwrap_or_else(|| (clock.now(), clock.steady())), id);
        self.retired = retiring.map(&mut since).map(|(since, id)| (id, since)).collect();
    }

    /// Keeps a key until a Secret holds it.
    pub(crate) fn keep(&mut self, key: RawKey) {
        self.key = Some(Arc::new(key));
    }

    /// The key, for the one place that writes Secrets.
    pub(crate) fn key(&self) -> Option<Arc<RawKey>> {
        self.key.clone()
    }

    /// A look came to its end. Returns what failures are over by that.
    pub(crate) fn succeeded(&mut self) -> Option<Over> {
        self.retries = pauses();
        self.failures.over()
    }

    /// Forgets the key: a Secret holds it, or its token is gone.
    pub(crate) fn let_go(&mut self) {
        self.key = None;
        self.local.held = None;
    }

    /// A refusal by the API server, and when to try again: soon at first, then every minute.
    pub(crate) fn refused(&mut self, message: String, now: Timestamp) -> Refused {
        let pause = self.refusals.next().unwrap_or_default();
        Refused { message, retry_at: now.checked_add(pause).unwrap_or(Timestamp::MAX) }
    }

    /// Whether people are to be told why there is this attempt: an attempt that is recorded again is no event.
    pub(crate) fn announces(&mut self, nonce: &Nonce) -> bool {
        self.announced.replace(nonce.clone()).as_ref() != Some(nonce)
    }

    /// The API server took a Secret.
    pub(crate) fn accepted(&mut self) {
        self.refusals = pauses();
    }

    /// When a request that DataFast refused is worth another try: 1, 2, 4 … 60 minutes.
    pub(crate) fn rejected_until(&mut self, now: Timestamp) -> Timestamp {
        let minutes = 60.min(1_i64 << self.rejections.min(6));
        self.rejections += 1;
        now.checked_add(SignedDuration::from_mins(minutes)).unwrap_or(Timestamp::MAX)
    }

    /// DataFast took a request.
    pub(crate) fn taken(&mut self) {
        self.rejections = 0;
    }

    /// The newer of what is seen and what this process wrote.
    pub(crate) fn newest(&mut self, seen: Arc<dyn Managed>) -> Arc<dyn Managed> {
        let newest = match self.latest.take() {
            Some(latest) if version(&*latest) > version(&*seen) => latest,
            _ => seen,
        };
        self.latest.insert(newest).clone()
    }

    /// Somebody else changed the resource: what this process wrote last is not the newest. With a key in hand it is still
    /// the surest record of the attempt.
    pub(crate) fn was_overtaken(&mut self) {
        if !self.is_busy() {
            self.latest = None;
        }
    }

    /// Whether the resource was deleted without us: what is under way for it has nowhere to go.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether something must be finished before the process ends.
    pub(crate) fn is_busy(&self) -> bool {
        self.key.is_some() || self.local.in_flight.is_some()
    }
}

/// Resource versions are decimal numbers that grow: the Kubernetes API says so since 1.35, and etcd made it true before.
fn version(resource: &dyn Managed) -> u128 {
    resource.metadata().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The memories, by the resource's uid: a resource of the same name that is made anew is another.
#[derive(Debug, Default)]
pub(crate) struct Memories(Mutex<HashMap<String, Arc<Mutex<Memory>>>>);

impl Memories {
    /// One resource's.
    pub(crate) fn of(&self, uid: &str) -> Arc<Mutex<Memory>> {
        lock(&self.0).entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets a resource that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    /// Forgets a resource that was deleted without us; returns the token whose key was in hand.
    pub(crate) fn take(&self, uid: &str) -> Option<TokenId> {
        let memory = lock(&self.0).remove(uid)?;
        let mut memory = lock(&memory);
        memory.is_gone = true;
        memory.local.held.take().map(|held| held.token_id)
    }

    /// One resource's, if it is there as far as we know.
    pub(crate) fn known(&self, uid: &str) -> Option<Arc<Mutex<Memory>>> {
        lock(&self.0).get(uid).cloned()
    }

    /// At the end of the process no refusal is waited out.
    pub(crate) fn hurry(&self) {
        for memory in lock(&self.0).values() {
            if let Some(held) = &mut lock(memory).local.held {
                held.refused = None;
            }
        }
    }

    /// The resources with something to be finished.
    pub(crate) fn busy(&self) -> Vec<Arc<dyn Managed>> {
        let memories: Vec<_> = lock(&self.0).values().cloned().collect();
        let busy = memories.iter().filter_map(|memory| {
            let memory = lock(memory);
            memory.is_busy().then(|| memory.latest.clone())?
        });
        busy.collect()
    }
}
