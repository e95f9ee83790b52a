//! What all resources of one DataFast account share: its list of tokens, its slots, its rate limit, its credential.
//!
//! Invariant: every call to DataFast goes through an [`Account`], so that one refusal holds back all of them, and the
//! list is one for all. Invariant: nothing here knows a resource's kind or reads one.

mod calls;
mod gate;
mod state;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

pub use calls::CallError;
pub use gate::Trouble;
use gate::{Call, Gate};
use state::{Connection, State};
pub use state::{Report, Setup, Told, View, Waits};

use crate::clock::Clock;
use crate::datafast::{Client, SetupError, TokenId};
use crate::issue::allow::Allow;
use crate::issue::observed;
use crate::issue::snapshot::Snapshot;
use crate::lock::lock;

/// Between one list and the next.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// Names a resource, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What an account tells the controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Look at this resource again.
    Resource(ResourceRef),
    /// Look at the account resource of this name again.
    Account(String),
    /// The labels of this namespace may be others.
    NamespaceChanged(String),
    /// The account resource of this name is gone.
    AccountGone(String),
    /// A resource is gone.
    ResourceGone {
        /// The resource.
        resource: ResourceRef,
        /// Its uid: another of the same name may be there already.
        uid: String,
        /// The account that it referred to.
        account: String,
    },
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
    state: Mutex<State>,
    /// A call has ended.
    ended: Notify,
    wakeups: UnboundedSender<Wakeup>,
    horizon: SignedDuration,
    clock: Arc<dyn Clock>,
}

impl Account {
    fn new(name: &str, wakeups: UnboundedSender<Wakeup>, horizon: SignedDuration, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.to_owned(), state: Mutex::default(), ended: Notify::new(), wakeups, horizon, clock }
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
        state.gate = Gate::default();
        state.learnt = None;
        state.next_list = None;
        Ok(true)
    }

    /// Takes note that there is no resource or no credential.
    pub fn disconnect(&self, setup: Setup) {
        let mut state = lock(&self.state);
        if setup == Setup::NotFound {
            state.allow = None;
        }
        state.connection = None;
        state.gate = Gate::default();
        state.setup = setup;
    }

    /// What a resource sees.
    pub fn view(&self, resource: &ResourceRef) -> View {
        let mut state = lock(&self.state);
        state.tick(self.clock.now());
        View {
            gate: state.gate(),
            snapshot: state.snapshot.clone(),
            slots: state.slots(resource),
            allow: state.allow.clone(),
            base_url: state.connection.as_ref().map(|c| c.base_url.clone()),
            version: state.version,
        }
    }

    /// The gate as it was told last and as it is now, where they differ.
    pub fn news(&self) -> Option<(Option<observed::Gate>, Option<observed::Gate>)> {
        let mut state = lock(&self.state);
        let now = Some(state.gate());
        if state.told == now {
            return None;
        }
        let before = std::mem::replace(&mut state.told, now.clone());
        Some((before, now))
    }

    /// What the account resource's status says.
    pub fn report(&self) -> Report {
        let state = lock(&self.state);
        Report {
            setup: state.setup.clone(),
            trouble: state.gate.closed().cloned(),
            snapshot: state.snapshot.clone(),
            waiting: state.queue.len(),
            missing: state.lacks_many(),
        }
    }

    /// Whether the account resource is known to be held by our finalizer, as it must be while a resource refers to it.
    pub fn is_in_use(&self) -> bool {
        lock(&self.state).in_use
    }

    /// Takes note of that.
    pub fn set_in_use(&self, in_use: bool) {
        lock(&self.state).in_use = in_use;
    }

    /// Has the account resource looked at.
    pub fn look(&self) {
        // The receiver lives as long as the process.
        let _ = self.wakeups.send(Wakeup::Account(self.name.clone()));
    }

    /// Sets what the account allows and how many tokens it may have, by the generation of its spec. Returns whether that
    /// is another one than before.
    pub fn set_limits(&self, allow: Allow, limit: i32, generation: Option<i64>) -> bool {
        let mut state = lock(&self.state);
        let is_other = state.allow.is_some() && state.generation != generation;
        (state.allow, state.limit, state.generation) = (Some(Arc::new(allow)), limit.into(), generation);
        is_other
    }

    /// Takes note of the tokens that resources say they have: what the next list lacks of them has gone missing.
    pub fn expect(&self, tokens: BTreeSet<TokenId>) {
        lock(&self.state).expected = tokens;
    }

    /// Wakes one resource.
    pub fn wake(&self, resource: ResourceRef) {
        let _ = self.wakeups.send(Wakeup::Resource(resource));
    }

    /// Asks for a list that begins at `at` or later, but earlier than the next regular one.
    pub fn want_list(&self, at: Timestamp) {
        let mut state = lock(&self.state);
        if state.snapshot.as_ref().is_none_or(|snapshot| snapshot.begun() < at)
            && state.next_list.is_none_or(|next| next > at)
        {
            state.next_list = Some(at);
            drop(state);
            self.look();
        }
    }

    /// How long until the next list is due; none where there is nothing to list with.
    pub fn until_list(&self) -> Option<Duration> {
        let mut state = lock(&self.state);
        state.connection.as_ref()?;
        state.tick(self.clock.now());
        let at = state.due();
        Some(at.duration_since(self.clock.now()).try_into().unwrap_or_default())
    }

    /// Lists the account's tokens if that is due. Returns what came of it, if it did.
    pub async fn poll(&self, interval: Duration) -> Option<Told> {
        let (client, start, begun, closed) = {
            let mut state = lock(&self.state);
            let now = self.clock.now();
            state.tick(now);
            // A shorter interval than when the next list was planned takes effect now.
            let regular = state.last_list.as_ref().and_then(|last| last.wall.checked_add(interval).ok());
            state.next_list = state.next_list.map(|next| regular.map_or(next, |regular| next.min(regular)));
            let connection = state.connection.as_ref()?;
            let client = connection.client.clone();
            if state.listing || state.due() > now {
                return None;
            }
            state.listing = true;
            state.next_list = None;
            let closed = state.gate.closed().cloned();
            (client, now, state.begin_list(now, self.clock.steady(), self.horizon), closed)
        };
        let listing = Listing(self);
        let answer = client.list_access_tokens().await;
        drop(listing);
        let mut state = lock(&self.state);
        let now = self.clock.now();
        if state.connection.as_ref().is_none_or(|connection| !Arc::ptr_eq(&connection.client, &client)) {
            // The credential changed meanwhile: what the old one saw says nothing of what the new one sees.
            return None;
        }
        match answer {
            Ok(tokens) => {
                // What was refused while it was under way is not put right by it.
                let is_opened = closed.is_some() && state.gate.closed() == closed.as_ref();
                if is_opened || state.gate.closed().is_none() {
                    state.gate.succeeded(Call::List);
                }
                // One that was asked for meanwhile comes earlier; one that takes long is not followed by the next at once.
                let regular = start.checked_add(interval).unwrap_or(now).max(now);
                let regular = regular.checked_add(SHORTEST_REST).unwrap_or(regular);
                state.next_list = Some(state.next_list.map_or(regular, |wanted| wanted.min(regular)));
                let told = state.listed(begun, tokens, self.horizon);
                // The clock was set back while it was under way.
                if begun > now {
                    state.change(Snapshot::distrust);
                }
                Some(Told { is_news: told.is_news || is_opened, ..told })
            }
            Err(error) => {
                state.gate.failed(Call::List, &error, now);
                tracing::warn!(account = self.name, %error, "the account's tokens could not be listed");
                None
            }
        }
    }
}

/// Ends a listing even where the future that does it is dropped.
struct Listing<'a>(&'a Account);

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).listing = false;
    }
}
