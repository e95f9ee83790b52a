//! What resources and the account resource see of an account.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::ResourceRef;
use super::gate::Trouble;
use super::pool::Pool;
use super::state::{Setup, State};
use super::window::Urgency;
use crate::datafast::Collection;
use crate::lifecycle::allow::Allow;
use crate::lifecycle::observed;
use crate::lifecycle::queue::{RateWindow, Slots};
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::windows::Windows;

/// What a resource sees of the account.
#[derive(Debug)]
pub struct View {
    /// Whether calls are possible.
    pub availability: observed::Availability,
    /// The tokens.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Its slots, as this resource sees them.
    pub slots: Option<Slots>,
    /// The rate window, where there is one.
    pub window: Option<RateWindow>,
    /// What it allows.
    pub allow: Option<Arc<Allow>>,
    /// When rotations of its resources may begin.
    pub windows: Option<Arc<Windows>>,
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
    /// DataFast's rate window as last told: its limit, what is left of it, and when it ends.
    pub rate: Option<(u32, u32, Timestamp)>,
}

impl State {
    pub(super) fn view(&mut self, resource: &ResourceRef, now: Timestamp, steady: Duration) -> View {
        let (allow, windows) = (self.allow.clone(), self.windows.clone());
        let base_url = self.connection.as_ref().map(|connection| connection.base_url.clone());
        self.tick(now);
        let gate = self.availability(&resource.collection);
        let window = self.rate_window(resource, now, steady);
        let pool = self.pool(&resource.collection);
        View {
            availability: gate,
            snapshot: pool.snapshot.clone(),
            slots: pool.slots(),
            window,
            allow,
            windows,
            version: pool.version,
            base_url,
        }
    }

    /// The rate window as those see it that are about to begin an attempt.
    fn rate_window(&mut self, resource: &ResourceRef, now: Timestamp, steady: Duration) -> Option<RateWindow> {
        let room = self.window.room(Urgency::Issue, steady)?;
        let others = self.begun.iter().filter(|other| *other != resource).count();
        let ahead = i64::try_from(self.turns.ahead_of(Urgency::Issue) + others).unwrap_or(i64::MAX);
        let until = now.checked_add(self.window.opens_in(steady)).unwrap_or(now);
        Some(RateWindow { room: i64::from(room) - ahead, until, queue: self.rate_queue.in_order() })
    }

    pub(super) fn report(&self, now: Timestamp, steady: Duration) -> Report {
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
            rate: self
                .window
                .shown(steady)
                .and_then(|(limit, remaining, ends_in)| Some((limit, remaining, now.checked_add(ends_in).ok()?))),
        }
    }
}
