//! One account's state, behind its lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::ResourceRef;
use super::gate::{Call, Gate, Trouble};
use super::pool::Pool;
use crate::datafast::{Client, Collection, Error};
use crate::lifecycle::allow::Allow;
use crate::lifecycle::observed;
use crate::lifecycle::queue::Slots;
use crate::lifecycle::snapshot::Snapshot;

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

#[derive(Debug)]
pub(super) struct State {
    pub(super) setup: Setup,
    pub(super) connection: Option<Connection>,
    /// Closed by what concerns all collections. A list of the account's tokens opens it.
    pub(super) gate: Gate,
    pub(super) pools: BTreeMap<Collection, Pool>,
    /// Calls under way in all collections, lists aside.
    pub(super) calls: u32,
    pub(super) allow: Option<Arc<Allow>>,
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

/// What a resource sees of the account.
#[derive(Debug)]
pub struct View {
    /// Whether calls are possible.
    pub availability: observed::Availability,
    /// The tokens.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Its slots, as this resource sees them.
    pub slots: Option<Slots>,
    /// What it allows.
    pub allow: Option<Arc<Allow>>,
    /// Another one after each time that those who wait were woken.
    pub version: u64,
    /// For `$(BASE_URL)`.
    pub base_url: Option<String>,
}

/// What the account resource's status says.
#[derive(Debug)]
pub struct Report {
    /// Whether there is a credential.
    pub setup: Setup,
    /// What is wrong with DataFast, and until when calls are held back.
    pub trouble: Option<(Trouble, Timestamp)>,
    /// The account's tokens.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Its websites' keys.
    pub keys: Vec<Arc<Snapshot>>,
    /// How many resources wait for a slot.
    pub waiting: usize,
    /// How many tokens went missing in the last list, where there are many.
    pub missing: Option<usize>,
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
            allow: None,
            generation: None,
            in_use: false,
        }
    }
}

impl State {
    /// One collection of the account; a new one where nobody asked for it before.
    pub(super) fn pool(&mut self, collection: &Collection) -> &mut Pool {
        self.pools.entry(collection.clone()).or_insert_with(|| Pool::new(collection))
    }

    /// What the account allows in a collection. Its limit for each namespace is about its own tokens.
    fn allow_in(&self, collection: &Collection) -> Option<Arc<Allow>> {
        let mut allow = self.allow.clone();
        if *collection != Collection::AccessTokens {
            let limited = allow.as_mut().filter(|allow| allow.most_per_namespace.is_some());
            limited.into_iter().for_each(|allow| Arc::make_mut(allow).most_per_namespace = None);
        }
        allow
    }

    pub(super) fn view(&mut self, resource: &ResourceRef, now: Timestamp) -> View {
        let allow = self.allow_in(&resource.collection);
        let base_url = self.connection.as_ref().map(|connection| connection.base_url.clone());
        self.tick(now);
        let gate = self.availability(&resource.collection);
        let pool = self.pool(&resource.collection);
        View {
            availability: gate,
            snapshot: pool.snapshot.clone(),
            slots: pool.slots(resource),
            allow,
            version: pool.version,
            base_url,
        }
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

    /// Takes note of an orderly answer.
    pub(super) fn succeeded(&mut self, collection: &Collection, call: Call) {
        self.pool(collection).gate.succeeded(call.of(collection));
        self.gate.succeeded(call.of(collection));
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
        for (collection, pool) in &mut self.pools {
            pool.gate = Gate::new(Call::List.of(collection));
            (pool.learnt, pool.next_list) = (None, None);
        }
    }

    pub(super) fn report(&self) -> Report {
        let snapshot = |collection| self.pools.get(collection).and_then(|pool| pool.snapshot.clone());
        let websites = self.pools.iter().filter(|(collection, _)| **collection != Collection::AccessTokens);
        let missing: usize = self.pools.values().filter_map(Pool::lacks_many).sum();
        Report {
            setup: self.setup.clone(),
            trouble: self.gate.closed().cloned(),
            snapshot: snapshot(&Collection::AccessTokens),
            keys: websites.filter_map(|(_, pool)| pool.snapshot.clone()).collect(),
            waiting: self.pools.values().map(|pool| pool.queue.len()).sum(),
            missing: (missing > 0).then_some(missing),
        }
    }
}
