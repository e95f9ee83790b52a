//! One collection of an account: its list, its slots, and who waits for them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::ResourceRef;
use super::gate::{Call, Gate};
use super::queue::Queue;
use crate::datafast::{Collection, Token, TokenId};
use crate::lifecycle::observed;
use crate::lifecycle::queue::Slots;
use crate::lifecycle::snapshot::Snapshot;
use crate::telemetry::Failures;

/// A cap learnt from DataFast's own words is put to the test again after this long.
const LEARNT_LIMIT_HOLDS: SignedDuration = SignedDuration::from_mins(10);

/// More than clocks are corrected by between two lists, where nobody sets them.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(5);

/// Changes of one website under way at once.
const MOST_CALLS_OF_WEBSITE: u32 = 2;

/// Where so many tokens go missing in one list, it is more likely the credential that can't see them: people delete tokens
/// one at a time.
const MANY: usize = 2;

#[derive(Debug)]
pub(super) struct Pool {
    /// Closed by what concerns this collection alone.
    pub(super) gate: Gate,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) limit: i64,
    pub(super) learnt: Option<(i64, Timestamp)>,
    pub(super) next_list: Option<Timestamp>,
    pub(super) last_list: Option<ListBegun>,
    pub(super) listing: bool,
    /// Lists that failed, for the log.
    pub(super) failures: Failures,
    /// Somebody who may ask for it does.
    pub(super) is_listed: bool,
    /// How many look after it though no resource may ask for it.
    pub(super) kept: usize,
    pub(super) waiting: HashMap<ResourceRef, Waits>,
    /// Those that wait for a slot.
    pub(super) queue: Queue,
    /// The resources whose requests DataFast could not serve since the last one that it did.
    pub(super) failing: HashSet<ResourceRef>,
    /// Who was told that the account is full, though no list says so.
    said_to_be_full: HashSet<ResourceRef>,
    /// Requests for tokens under way: each may take a slot.
    pub(super) creating: i64,
    /// Calls under way, lists aside.
    pub(super) calls: u32,
    /// Tokens that resources say they have.
    pub(super) expected: BTreeSet<TokenId>,
    /// How many of them the last list lacked.
    pub(super) missing: usize,
    pub(super) version: u64,
    pub(super) told: Option<observed::Availability>,
}

/// What a resource waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// The next list.
    pub next_list: bool,
    /// A list that begins at this time or later.
    pub list: Option<Timestamp>,
    /// Any change of the account's state.
    pub news: bool,
}

/// What a list told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub(super) begun: Timestamp,
    /// Whether it shows other tokens than were known.
    pub(super) is_news: bool,
}

/// When a list began, by both clocks.
#[derive(Debug)]
pub(super) struct ListBegun {
    /// By the wall clock.
    pub(super) wall: Timestamp,
    /// As it counts.
    begun: Timestamp,
    /// By the steady clock.
    steady: Duration,
    /// When the wall clock was found to have gone ahead.
    jumped: Option<Duration>,
}

impl Pool {
    /// The limit of the account's own tokens is for the account to set.
    pub(super) fn new(collection: &Collection) -> Self {
        let limit = match collection {
            Collection::AccessTokens => 0,
            Collection::WebsiteKeys(_) => Collection::KEYS_PER_WEBSITE,
        };
        Self {
            gate: Gate::new(Call::List.of(collection)),
            snapshot: None,
            limit,
            learnt: None,
            next_list: None,
            last_list: None,
            listing: false,
            failures: Failures::default(),
            is_listed: *collection == Collection::AccessTokens,
            kept: 0,
            waiting: HashMap::new(),
            queue: Queue::default(),
            failing: HashSet::new(),
            said_to_be_full: HashSet::new(),
            creating: 0,
            calls: 0,
            expected: BTreeSet::new(),
            missing: 0,
            version: 0,
            told: None,
        }
    }

    /// Takes note of the time. Where the clock was set back, nothing that was planned by it, or dated, holds any more.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.gate.tick(now);
        if self.last_list.as_ref().is_some_and(|last| last.wall > now) {
            self.last_list = None;
            self.change(Snapshot::distrust);
            self.next_list = Some(now);
        }
    }

    /// When a list began that begins now. Where the clock went ahead, what it skipped counts only after the horizon: what
    /// was recorded before must not look older than it is.
    pub(super) fn begin_list(&mut self, now: Timestamp, steady: Duration, horizon: SignedDuration) -> Timestamp {
        let horizon = Duration::try_from(horizon).unwrap_or(Duration::MAX);
        let (begun, jumped) = match &self.last_list {
            Some(last) => {
                let expected = last.begun.checked_add(steady.saturating_sub(last.steady)).unwrap_or(now);
                match (now.duration_since(expected) > CLOCK_SLACK, last.jumped) {
                    (false, _) => (now, None),
                    (true, Some(jumped)) if steady.saturating_sub(jumped) >= horizon => (now, None),
                    (true, jumped) => (expected, jumped.or(Some(steady))),
                }
            }
            None => (now, None),
        };
        self.last_list = Some(ListBegun { wall: now, begun, steady, jumped });
        begun
    }

    /// Whether somebody waits here, or a call is under way that takes note of its end here, or what was revoked after
    /// `past` may still be listed.
    pub(super) fn is_busy(&self, past: Timestamp) -> bool {
        let is_called = self.listing || self.calls > 0;
        let has_revoked = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.has_revoked_since(past));
        is_called || has_revoked || !self.waiting.is_empty() || !self.queue.is_empty()
    }

    /// Calls that may be under way at once. One website leaves some to the account's others.
    pub(super) fn most_calls(&self, collection: &Collection) -> u32 {
        match collection {
            Collection::AccessTokens => self.gate.calls(),
            Collection::WebsiteKeys(_) => self.gate.calls().min(MOST_CALLS_OF_WEBSITE),
        }
    }

    pub(super) fn due(&self) -> Timestamp {
        let regular = self.next_list.unwrap_or(Timestamp::MIN);
        self.gate.closed().map_or(regular, |(_, until)| *until)
    }

    /// There is no room for a list now. A closed collection waits as long as its gate says.
    pub(super) fn postpone(&mut self, until: Timestamp) {
        self.next_list = Some(until);
        self.gate.postpone(until);
    }

    pub(super) fn total(&self) -> i64 {
        self.snapshot.as_ref().map_or(0, |snapshot| i64::try_from(snapshot.total()).unwrap_or(i64::MAX))
    }

    pub(super) fn free(&self) -> Option<i64> {
        self.snapshot.as_ref()?;
        let limit = self.learnt.map_or(self.limit, |(learnt, _)| learnt.min(self.limit));
        Some(limit - self.total() - self.creating)
    }

    pub(super) fn slots(&self) -> Option<Slots> {
        Some(Slots { free: self.free()?, queue: self.queue.in_order(), is_learnt: self.learnt.is_some() })
    }

    /// DataFast refused a request with words that may mean that it is full. One resource's may be about that request
    /// alone; where another one hears the same, the account has no more room than its tokens take.
    pub(super) fn is_said_to_be_full(&mut self, resource: &ResourceRef, now: Timestamp) {
        self.said_to_be_full.insert(resource.clone());
        if self.said_to_be_full.len() > 1 {
            self.learnt = Some((self.total(), now));
        }
    }

    pub(super) fn lacks_many(&self) -> Option<usize> {
        (self.missing >= MANY).then_some(self.missing)
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        if let Some(snapshot) = &mut self.snapshot {
            change(Arc::make_mut(snapshot));
        }
    }

    pub(super) fn listed(&mut self, begun: Timestamp, tokens: Vec<Token>, horizon: SignedDuration) -> Told {
        let before = self.snapshot.as_ref().map(|snapshot| ids(snapshot));
        match &mut self.snapshot {
            Some(snapshot) => Arc::make_mut(snapshot).listed(begun, tokens),
            None => self.snapshot = Some(Arc::new(Snapshot::new(horizon, begun, tokens))),
        }
        let was_learnt = self.learnt;
        let is_refuted =
            |(limit, at): (i64, Timestamp)| self.total() > limit || begun.duration_since(at) >= LEARNT_LIMIT_HOLDS;
        if self.learnt.is_some_and(is_refuted) {
            self.learnt = None;
        }
        let now = self.snapshot.as_ref().map(|snapshot| ids(snapshot));
        let lacks = |snapshot: &Snapshot| {
            self.expected.iter().filter(|id| snapshot.get(id).is_none() && !snapshot.has_revoked(id)).count()
        };
        self.missing = self.snapshot.as_deref().map_or(0, lacks);
        if self.learnt.is_none() && before != now {
            self.said_to_be_full.clear();
        }
        Told { begun, is_news: before != now || was_learnt != self.learnt }
    }
}

fn ids(snapshot: &Snapshot) -> BTreeSet<TokenId> {
    snapshot.tokens().map(|listed| listed.token.id.clone()).collect()
}
