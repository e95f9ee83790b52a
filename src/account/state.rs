//! One account's state, behind its lock.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::ResourceRef;
use super::gate::{Gate, Trouble};
use crate::datafast::{Client, Token};
use crate::issue::observed;
use crate::issue::snapshot::Snapshot;

/// A cap learnt from DataFast's own words is put to the test again after this long.
const LEARNT_LIMIT_HOLDS: SignedDuration = SignedDuration::from_mins(10);

/// Whether an account's resource and credential are there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Setup {
    /// No such resource has been seen. At start it may only not have been looked at yet.
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

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) setup: Setup,
    pub(super) connection: Option<Connection>,
    pub(super) gate: Gate,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) limit: i64,
    pub(super) learnt: Option<(i64, Timestamp)>,
    pub(super) next_list: Option<Timestamp>,
    pub(super) listing: bool,
    pub(super) waiting: HashSet<ResourceRef>,
    pub(super) in_use: bool,
    pub(super) told: Option<observed::Gate>,
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
    pub gate: observed::Gate,
    /// The tokens.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Slots left.
    pub free: Option<i64>,
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
    /// The tokens.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl State {
    pub(super) fn gate(&self) -> observed::Gate {
        match (&self.setup, self.gate.closed()) {
            (Setup::Unseen, _) => observed::Gate::Connecting,
            (Setup::NotFound, _) => observed::Gate::NotFound,
            (Setup::NoCredential(why) | Setup::NoTransport(why), _) => observed::Gate::NotReady(why.clone()),
            (Setup::Ready, Some((Trouble::CredentialsRejected(message), _))) => {
                observed::Gate::NotReady(format!("DataFast rejects its credential: {message}"))
            }
            (Setup::Ready, Some((Trouble::RateLimited, _))) => observed::Gate::RateLimited,
            (Setup::Ready, Some((Trouble::Unavailable(why), _))) => observed::Gate::Unavailable(why.clone()),
            (Setup::Ready, None) if self.snapshot.is_none() => observed::Gate::Connecting,
            (Setup::Ready, None) => observed::Gate::Open,
        }
    }

    pub(super) fn due(&self) -> Timestamp {
        let regular = self.next_list.unwrap_or(Timestamp::MIN);
        self.gate.closed().map_or(regular, |(_, until)| *until)
    }

    pub(super) fn total(&self) -> i64 {
        self.snapshot.as_ref().map_or(0, |snapshot| i64::try_from(snapshot.total()).unwrap_or(i64::MAX))
    }

    pub(super) fn free(&self, now: Timestamp) -> Option<i64> {
        self.snapshot.as_ref()?;
        let learnt = self.learnt.filter(|(_, at)| now.duration_since(*at) < LEARNT_LIMIT_HOLDS);
        let limit = learnt.map_or(self.limit, |(learnt, _)| learnt.min(self.limit));
        Some(limit - self.total())
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        if let Some(snapshot) = &mut self.snapshot {
            change(Arc::make_mut(snapshot));
        }
    }

    pub(super) fn listed(&mut self, begun: Timestamp, tokens: Vec<Token>, horizon: SignedDuration) {
        match &mut self.snapshot {
            Some(snapshot) => Arc::make_mut(snapshot).listed(begun, tokens),
            None => self.snapshot = Some(Arc::new(Snapshot::new(horizon, begun, tokens))),
        }
        if self.learnt.is_some_and(|(limit, _)| self.total() > limit) {
            self.learnt = None;
        }
    }
}
