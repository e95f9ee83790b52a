//! What all resources of one DataFast account share: its lists of tokens and keys, their slots, its rate limit, its
//! credential.
//!
//! Invariant: every call to DataFast goes through an [`Account`], so that one refusal holds back all of them, and the
//! list is one for all. Invariant: nothing here knows a resource's kind or reads one.

mod calls;
mod gate;
mod kept;
mod lists;
mod pool;
mod queue;
mod state;
#[cfg(test)]
mod tests;
mod turns;
mod view;
mod waiting;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

pub use calls::{CallError, Caller};
pub use gate::Trouble;
pub use kept::Kept;
pub use pool::{Told, Waits};
pub use state::Setup;
use state::{Connection, State};
pub use view::{Report, View};
pub use window::Urgency;

use crate::clock::Clock;
use crate::datafast::{Client, Collection, SetupError, TokenId};
use crate::lifecycle::allow::Allow;
use crate::lifecycle::observed;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::windows::Windows;
use crate::lock::lock;
use crate::telemetry::Failures;

/// Names a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceRef {
    /// Its kind.
    pub kind: &'static str,
    /// Where at DataFast its token is.
    pub collection: Collection,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What an account tells the controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Reconcile this resource.
    Resource(ResourceRef),
    /// Reconcile the account resource of this name.
    Account(String),
    /// The labels of this namespace may be others.
    NamespaceChanged(String),
    /// The account resource of this name is gone.
    AccountGone(String),
}

/// The accounts in use, by the name of their resource.
#[derive(Debug)]
pub struct Accounts {
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    wakeups: UnboundedSender<Wakeup>,
    horizon: SignedDuration,
    clock: Arc<dyn Clock>,
}

impl Accounts {
    /// None yet. Wake-ups are sent to `wakeups`.
    pub fn new(wakeups: UnboundedSender<Wakeup>, horizon: SignedDuration, clock: Arc<dyn Clock>) -> Self {
        Self { accounts: Mutex::default(), wakeups, horizon, clock }
    }

    /// An account that resources may ask for before its resource is there.
    pub fn get(&self, name: &str) -> Arc<Account> {
        let new = || Arc::new(Account::new(name, self.wakeups.clone(), self.horizon, self.clock.clone()));
        lock(&self.accounts).entry(name.to_owned()).or_insert_with(new).clone()
    }
}

/// One account.
#[derive(Debug)]
pub struct Account {
    name: String,
    /// Failed reconciles of its resource, for the log.
    pub(crate) failed_reconciles: Mutex<Failures>,
    state: Mutex<State>,
    wakeups: UnboundedSender<Wakeup>,
    horizon: SignedDuration,
    clock: Arc<dyn Clock>,
}

impl Account {
    fn new(name: &str, wakeups: UnboundedSender<Wakeup>, horizon: SignedDuration, clock: Arc<dyn Clock>) -> Self {
        let (failed_reconciles, state) = Default::default();
        Self { name: name.to_owned(), failed_reconciles, state, wakeups, horizon, clock }
    }

    /// The name of its resource.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the credential and where to use it. Another one than before takes effect at once: what DataFast said to the
    /// old one no longer counts. Returns whether it is another one.
    ///
    /// # Errors
    /// Where no client can be made with it.
    pub fn connect(
        &self,
        client: impl FnOnce() -> Result<Client, SetupError>,
        version: String,
        base_url: &str,
    ) -> Result<bool, SetupError> {
        let mut state = lock(&self.state);
        state.setup = Setup::Ready;
        if state.connection.as_ref().is_some_and(|connection| connection.version == version) {
            return Ok(false);
        }
        let client = client()?;
        state.connection = Some(Connection { client: Arc::new(client), version, base_url: base_url.to_owned() });
        state.begin_anew();
        Ok(true)
    }

    /// Whether it has a credential.
    pub fn is_connected(&self) -> bool {
        lock(&self.state).connection.is_some()
    }

    /// Takes note that there is no resource or no credential.
    pub fn disconnect(&self, setup: Setup) {
        let mut state = lock(&self.state);
        if setup == Setup::NotFound {
            state.allow = None;
        }
        state.connection = None;
        state.begin_anew();
        state.setup = setup;
        self.dispatch(&mut state);
    }

    /// What a resource sees.
    pub fn view(&self, resource: &ResourceRef) -> View {
        let mut state = lock(&self.state);
        let is_new = !state.pools.contains_key(&resource.collection);
        let view = state.view(resource, self.clock.now(), self.clock.steady());
        drop(state);
        // Its first list is due.
        if is_new {
            self.reconcile();
        }
        view
    }

    /// What is known of a collection.
    pub fn snapshot(&self, collection: &Collection) -> Option<Arc<Snapshot>> {
        lock(&self.state).pools.get(collection)?.snapshot.clone()
    }

    /// Sets which collections are listed; the account's tokens are in any case. Those are forgotten that nobody asks for.
    pub fn set_in_use_collections(&self, in_use: &BTreeSet<Collection>) {
        let mut state = lock(&self.state);
        let now = self.clock.now();
        state.keep_collections(in_use, now.saturating_sub(self.horizon).unwrap_or(Timestamp::MIN), now);
    }

    /// The gates that differ from what was told last: how each was then, and how it is now.
    pub fn news(&self) -> Vec<(Option<observed::Availability>, observed::Availability)> {
        let mut state = lock(&self.state);
        let gates: Vec<_> = state.pools.keys().map(|it| (it.clone(), state.availability(it))).collect();
        let mut news = Vec::new();
        for (collection, now) in gates {
            let told = &mut state.pool(&collection).told;
            if told.as_ref() != Some(&now) {
                news.push((told.replace(now.clone()), now));
            }
        }
        news
    }

    /// What the account resource's status says.
    pub fn report(&self) -> Report {
        lock(&self.state).report(self.clock.now(), self.clock.steady())
    }

    /// Whether the account resource is known to be held by our finalizer, as it must be while a resource refers to it.
    pub fn is_in_use(&self) -> bool {
        lock(&self.state).in_use
    }

    /// Takes note of that.
    pub fn set_in_use(&self, in_use: bool) {
        lock(&self.state).in_use = in_use;
    }

    /// Has the account resource reconciled.
    pub fn reconcile(&self) {
        // The receiver lives as long as the process.
        let _ = self.wakeups.send(Wakeup::Account(self.name.clone()));
    }

    /// Sets when rotations of its resources may begin.
    pub fn set_windows(&self, windows: Windows) {
        lock(&self.state).windows = Some(Arc::new(windows));
    }

    /// Sets what the account allows, how many tokens it may have and how many calls a minute are made for it, by the generation of its spec. Returns whether that
    /// is another one than before.
    pub fn set_limits(&self, allow: Allow, limit: i32, requests: Option<u32>, generation: Option<i64>) -> bool {
        let mut state = lock(&self.state);
        state.window.set_cap(requests);
        let is_other = state.allow.is_some() && state.generation != generation;
        (state.allow, state.generation) = (Some(Arc::new(allow)), generation);
        state.pool(&Collection::AccessTokens).limit = limit.into();
        is_other
    }

    /// Takes note of the tokens that resources say they have: what the next list of each collection lacks of them has gone
    /// missing.
    pub fn expect(&self, tokens: impl Iterator<Item = (Collection, TokenId)>) {
        let mut state = lock(&self.state);
        state.pools.values_mut().for_each(|pool| pool.expected.clear());
        for (collection, id) in tokens {
            state.pool(&collection).expected.insert(id);
        }
    }

    /// Wakes one resource.
    pub fn wake(&self, resource: ResourceRef) {
        let _ = self.wakeups.send(Wakeup::Resource(resource));
    }
}
