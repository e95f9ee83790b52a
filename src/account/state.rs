//! One account's state, behind its lock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::gate::{Call, Gate, Trouble};
use super::pool::Pool;
use super::queue::Queue;
use super::turns::{Granted, Place, Turns};
use super::window::{Urgency, Window};
use super::{Caller, ResourceRef};
use crate::datafast::{Client, Collection, Effect, Error};
use crate::lifecycle::allow::Allow;
use crate::lifecycle::observed;
use crate::lifecycle::windows::Windows;

/// Whether an account's resource and credential are there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Setup {
    /// No such resource has been seen. At start it may only not have been reconciled yet.
    #[default]
    Unseen,
    /// It was deleted, or never there.
    NotFound,
    /// Its credential can't be read. Why, for people.
    NoCredential(String),
    /// Its base URL can't be used. Why, for people.
    NoTransport(String),
    /// There is a credential.
    Ready,
}

const A_MINUTE: Duration = Duration::from_secs(60);
/// After so long without one, a list is as urgent as a first token.
const STARVED: SignedDuration = SignedDuration::from_mins(5);
/// Lists a minute of websites that never answered well.
const MOST_UNPROVEN: usize = 30;

#[derive(Debug)]
pub(super) struct State {
    pub(super) setup: Setup,
    pub(super) connection: Option<Connection>,
    /// Closed by what concerns all collections. A list of the account's tokens opens it.
    pub(super) gate: Gate,
    pub(super) pools: BTreeMap<Collection, Pool>,
    /// Calls under way in all collections, lists aside.
    pub(super) calls: u32,
    /// Those that wait for their turns.
    pub(super) turns: Turns,
    /// DataFast's rate window.
    pub(super) window: Window,
    /// Those that wait for room in it before they begin.
    pub(super) rate_queue: Queue,
    /// Those that have begun, and whose requests do not wait for their turns yet.
    pub(super) begun: HashSet<ResourceRef>,
    /// What held back the websites that nobody asks for at present.
    former: HashMap<Collection, Gate>,
    /// When websites that never answered well were listed, within the last minute, by the steady clock.
    unproven: VecDeque<Duration>,
    pub(super) allow: Option<Arc<Allow>>,
    pub(super) windows: Option<Arc<Windows>>,
    /// Of the account resource's spec.
    pub(super) generation: Option<i64>,
    pub(super) in_use: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Arc<Client>,
    /// Tells one credential and base URL from the next, without keeping either.
    pub(super) version: String,
    pub(super) base_url: String,
}

impl Default for State {
    fn default() -> Self {
        let tokens = (Collection::AccessTokens, Pool::new(&Collection::AccessTokens));
        Self {
            setup: Setup::default(),
            connection: None,
            gate: Gate::new(Call::List),
            pools: BTreeMap::from([tokens]),
            calls: 0,
            turns: Turns::default(),
            window: Window::default(),
            rate_queue: Queue::default(),
            begun: HashSet::new(),
            former: HashMap::new(),
            unproven: VecDeque::new(),
            allow: None,
            windows: None,
            generation: None,
            in_use: false,
        }
    }
}

impl State {
    /// One collection of the account; a new one where nobody asked for it before.
    pub(super) fn pool(&mut self, collection: &Collection) -> &mut Pool {
        let Self { pools, former, .. } = self;
        let new = || {
            let mut pool = Pool::new(collection);
            if let Some(gate) = former.remove(collection) {
                pool.gate = gate;
            }
            pool
        };
        pools.entry(collection.clone()).or_insert_with(new)
    }

    /// Forgets the collections that nobody asks for, but not what DataFast said of them: whoever asks again and again for
    /// what is not there has it asked no more often.
    pub(super) fn keep_collections(&mut self, in_use: &BTreeSet<Collection>, past: Timestamp, now: Timestamp) {
        let Self { pools, former, .. } = self;
        former.retain(|_, gate| gate.closed().is_some_and(|(_, until)| *until > now));
        let mut gone = Vec::new();
        for (collection, pool) in pools.iter_mut() {
            pool.is_listed = *collection == Collection::AccessTokens || in_use.contains(collection) || pool.kept > 0;
            if !pool.is_listed && !pool.is_busy(past) {
                gone.push(collection.clone());
            }
        }
        for collection in gone {
            let gate = pools.remove(&collection).map(|pool| pool.gate);
            former.extend(gate.filter(|gate| gate.closed().is_some()).map(|gate| (collection, gate)));
        }
        in_use.iter().for_each(|collection| self.pool(collection).is_listed = true);
    }

    /// The next call whose turn it is, or that has none for now.
    pub(super) fn next_turn(&mut self, now: Duration) -> Option<(Place, Granted)> {
        let is_open = self.connection.is_some() && self.gate.closed().is_none();
        if is_open && self.calls >= self.gate.calls() {
            return None;
        }
        let turns = std::mem::take(&mut self.turns);
        let mut granted = None;
        let place = turns.next(|urgency, collection| {
            granted = self.may_go(urgency, collection, now);
            granted.is_some()
        });
        self.turns = turns;
        place.zip(granted)
    }

    fn may_go(&mut self, urgency: Urgency, collection: &Collection, now: Duration) -> Option<Granted> {
        if self.connection.is_none() || self.closed(collection).is_some() {
            return Some(Granted::Closed);
        }
        // Websites that do not answer leave a turn to the account's own tokens.
        let most = match collection {
            Collection::AccessTokens => self.gate.calls(),
            Collection::WebsiteKeys(_) => self.gate.calls().saturating_sub(1).max(1),
        };
        let calls = self.calls;
        let pool = self.pool(collection);
        let is_busy = calls >= most || pool.calls >= pool.most_calls(collection);
        (!is_busy && self.window.has_room(urgency, now)).then_some(Granted::Turn)
    }

    /// Whether a list may be made now. A regular one leaves the window to what is waiting; but not for ever.
    pub(super) fn may_list(&mut self, collection: &Collection, now: Timestamp, steady: Duration) -> bool {
        // It finds out whether calls are possible again.
        if self.closed(collection).is_some() {
            return *collection == Collection::AccessTokens || self.takes_unproven(collection, steady);
        }
        let is_waited_for = self.turns.ahead_of(Urgency::List) > 0;
        let pool = self.pool(collection);
        let last = pool.last_list.as_ref().map(|last| now.duration_since(last.wall));
        let urgency = match pool.snapshot.is_some() && last.is_some_and(|last| last < STARVED) {
            true => Urgency::List,
            false => Urgency::Issue,
        };
        let has_room = self.window.has_room(urgency, steady);
        let is_free = !is_waited_for || urgency != Urgency::List || self.window.calls_per_minute().is_none();
        has_room && is_free && self.takes_unproven(collection, steady)
    }

    /// Websites that have never answered well share one small budget: anybody can invent some.
    fn takes_unproven(&mut self, collection: &Collection, steady: Duration) -> bool {
        if *collection == Collection::AccessTokens || self.pool(collection).snapshot.is_some() {
            return true;
        }
        self.unproven.retain(|listed| steady.saturating_sub(*listed) < A_MINUTE);
        if self.unproven.len() >= MOST_UNPROVEN {
            return false;
        }
        self.unproven.push_back(steady);
        true
    }

    /// The shortest time between two lists of a collection: all of them together may use a quarter of the window.
    pub(super) fn shortest_interval(&self) -> Duration {
        let Some(calls) = self.window.calls_per_minute() else { return Duration::ZERO };
        let listed = u32::try_from(self.pools.values().filter(|pool| pool.is_listed).count()).unwrap_or(u32::MAX);
        A_MINUTE.saturating_mul(listed) / (calls / 4).max(1)
    }

    /// Why calls about a collection are held back, and until when.
    pub(super) fn closed(&self, collection: &Collection) -> Option<&(Trouble, Timestamp)> {
        self.gate.closed().or_else(|| self.pools.get(collection)?.gate.closed())
    }

    pub(super) fn availability(&self, collection: &Collection) -> observed::Availability {
        match (&self.setup, self.closed(collection)) {
            (Setup::Unseen, _) => observed::Availability::Connecting,
            (Setup::NotFound, _) => observed::Availability::NotFound,
            (Setup::NoCredential(why) | Setup::NoTransport(why), _) => observed::Availability::NotReady(why.clone()),
            (Setup::Ready, Some((Trouble::CredentialsRejected(message), _))) => {
                observed::Availability::NotReady(format!("DataFast rejects its credential: {message}"))
            }
            (Setup::Ready, Some((Trouble::RateLimited, _))) => observed::Availability::RateLimited,
            (Setup::Ready, Some((Trouble::Unavailable(why), _))) => observed::Availability::Unavailable(why.clone()),
            (Setup::Ready, Some((Trouble::Refused(why), _))) => observed::Availability::Refused(why.clone()),
            (Setup::Ready, None) => match self.pools.get(collection).is_some_and(|pool| pool.snapshot.is_some()) {
                true => observed::Availability::Open,
                false => observed::Availability::Connecting,
            },
        }
    }

    /// The collections of websites, those first that are due first.
    pub(super) fn websites_by_due(&self) -> Vec<Collection> {
        let websites = self.pools.keys().filter(|collection| **collection != Collection::AccessTokens);
        let mut due: Vec<_> = websites.filter_map(|collection| Some((self.due(collection)?, collection))).collect();
        due.sort();
        due.into_iter().map(|(_, collection)| collection.clone()).collect()
    }

    /// When a collection is to be listed. None: nobody may ask for it, or not before the account's gate is open, which its
    /// tokens' list finds out.
    pub(super) fn due(&self, collection: &Collection) -> Option<Timestamp> {
        let planned = self.pools.get(collection).filter(|pool| pool.is_listed)?.due();
        match (self.gate.closed(), collection) {
            (None, _) => Some(planned),
            (Some((_, until)), Collection::AccessTokens) => Some(*until),
            (Some(_), Collection::WebsiteKeys(_)) => None,
        }
    }

    /// Takes note of an orderly answer to a resource's request.
    pub(super) fn succeeded(&mut self, caller: &Caller, call: Call) {
        self.pool(&caller.resource.collection).failing.clear();
        self.answered(&caller.resource.collection, call);
    }

    /// Takes note of an orderly answer.
    pub(super) fn answered(&mut self, collection: &Collection, call: Call) {
        self.pool(collection).gate.succeeded(call.of(collection));
        self.gate.succeeded(call.of(collection));
    }

    /// Takes note of a resource's request that failed. What DataFast can't serve for one resource alone is that
    /// resource's, which has a back-off of its own.
    pub(super) fn call_failed(&mut self, caller: &Caller, call: Call, error: &Error, now: Timestamp) {
        if matches!(error, Error::Unavailable { effect: Effect::Unknown, .. }) && call == Call::Create {
            let failing = &mut self.pool(&caller.resource.collection).failing;
            failing.insert(caller.resource.clone());
            if failing.len() < 2 {
                return;
            }
        }
        self.failed(&caller.resource.collection, call, error, now);
    }

    /// Takes note of a failed call. What is wrong with one website's keys holds back nobody else.
    pub(super) fn failed(&mut self, collection: &Collection, call: Call, error: &Error, now: Timestamp) {
        let concerns_all = matches!(error, Error::RateLimited { .. } | Error::CredentialsRejected { .. });
        let gate = match collection {
            Collection::WebsiteKeys(_) if !concerns_all => &mut self.pool(collection).gate,
            _ => &mut self.gate,
        };
        gate.failed(call.of(collection), error, now);
    }

    /// Takes note of the time.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.gate.tick(now);
        self.pools.values_mut().for_each(|pool| pool.tick(now));
    }

    /// Nothing that DataFast said to another credential counts.
    pub(super) fn begin_anew(&mut self) {
        self.gate = Gate::new(Call::List);
        self.window.begin_anew();
        self.former.clear();
        for (collection, pool) in &mut self.pools {
            pool.gate = Gate::new(Call::List.of(collection));
            (pool.learnt, pool.next_list) = (None, None);
            pool.failing.clear();
        }
    }
}
