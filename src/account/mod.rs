//! What all resources of one DataFast account share: its list of tokens, its slots, its rate limit, its credential.
//!
//! Invariant: every call to DataFast goes through an [`Account`], so that one refusal holds back all of them, and the
//! list is one for all. Invariant: nothing here knows a resource's kind or reads one.

mod gate;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

pub use gate::Trouble;
use gate::{Call, Gate};
use state::{Connection, State};
pub use state::{Report, Setup, View};

use crate::clock::Clock;
use crate::datafast::{Client, Error, Issued, NewToken, RawKey, SetupError, TokenId};
use crate::issue::observed;
use crate::lock::lock;

/// Changes of one account under way at once.
const CALLS: u32 = 4;

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
    permits: Semaphore,
    wakeups: UnboundedSender<Wakeup>,
    horizon: SignedDuration,
    clock: Arc<dyn Clock>,
}

/// A call that got no answer to act on.
#[derive(Debug)]
pub enum CallError {
    /// It was not sent: the account is closed, or it would have been sent too late.
    NotSent,
    /// DataFast's answer.
    DataFast(Error),
}

impl Account {
    fn new(name: &str, wakeups: UnboundedSender<Wakeup>, horizon: SignedDuration, clock: Arc<dyn Clock>) -> Self {
        let permits = Semaphore::new(CALLS as usize);
        Self { name: name.to_owned(), state: Mutex::default(), permits, wakeups, horizon, clock }
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
        limit: i32,
    ) -> Result<bool, SetupError> {
        let mut state = lock(&self.state);
        state.limit = limit.into();
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
        state.connection = None;
        state.gate = Gate::default();
        state.setup = setup;
    }

    /// What a resource sees.
    pub fn view(&self) -> View {
        let state = lock(&self.state);
        View {
            gate: state.gate(),
            snapshot: state.snapshot.clone(),
            free: state.free(self.clock.now()),
            base_url: state.connection.as_ref().map(|c| c.base_url.clone()),
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
        Report { setup: state.setup.clone(), trouble: state.gate.closed().cloned(), snapshot: state.snapshot.clone() }
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

    /// Wakes a resource at the next list or change of state.
    pub fn wait(&self, resource: ResourceRef) {
        lock(&self.state).waiting.insert(resource);
    }

    /// Takes note that a resource waits for nothing.
    pub fn settled(&self, resource: &ResourceRef) {
        lock(&self.state).waiting.remove(resource);
    }

    /// Wakes all that wait.
    pub fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        for resource in waiting {
            self.wake(resource);
        }
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
        let state = lock(&self.state);
        state.connection.as_ref()?;
        let at = state.due();
        Some(at.duration_since(self.clock.now()).try_into().unwrap_or_default())
    }

    /// Lists the account's tokens if that is due. Returns whether it did.
    pub async fn poll(&self, interval: Duration) -> bool {
        let client = {
            let mut state = lock(&self.state);
            let now = self.clock.now();
            // A shorter interval than when the next list was planned takes effect now.
            let regular = state.snapshot.as_ref().and_then(|snapshot| snapshot.begun().checked_add(interval).ok());
            state.next_list = state.next_list.map(|next| regular.map_or(next, |regular| next.min(regular)));
            let Some(connection) = &state.connection else { return false };
            let client = connection.client.clone();
            if state.listing || state.due() > now {
                return false;
            }
            state.listing = true;
            state.next_list = None;
            client
        };
        let listing = Listing(self);
        let begun = self.clock.now();
        let answer = client.list_access_tokens().await;
        drop(listing);
        let mut state = lock(&self.state);
        let now = self.clock.now();
        if state.connection.as_ref().is_none_or(|connection| !Arc::ptr_eq(&connection.client, &client)) {
            // The credential changed meanwhile: what the old one saw says nothing of what the new one sees.
            return false;
        }
        match answer {
            Ok(tokens) => {
                state.gate.succeeded(Call::List);
                // One that was asked for meanwhile comes earlier; one that takes long is not followed by the next at once.
                let regular = begun.checked_add(interval).unwrap_or(now).max(now);
                let regular = regular.checked_add(SHORTEST_REST).unwrap_or(regular);
                state.next_list = Some(state.next_list.map_or(regular, |wanted| wanted.min(regular)));
                state.listed(begun, tokens, self.horizon);
            }
            Err(error) => {
                state.gate.failed(Call::List, &error, now);
                tracing::warn!(account = self.name, %error, "the account's tokens could not be listed");
            }
        }
        true
    }

    /// Issues a token, if the request can be sent before `deadline`.
    pub async fn create(
        &self,
        token: &NewToken,
        deadline: Instant,
        may_send: impl Fn() -> bool,
    ) -> Result<Issued, CallError> {
        let (client, _permits) = self.enter().await?;
        if Instant::now() >= deadline || !may_send() {
            return Err(CallError::NotSent);
        }
        let answer = client.create_access_token(token).await;
        let mut state = lock(&self.state);
        let now = self.clock.now();
        match &answer {
            Ok(issued) => {
                state.gate.succeeded(Call::Change);
                if state.learnt.is_some_and(|(limit, _)| state.total() >= limit) {
                    state.learnt = None;
                }
                let mut token_seen = issued.token.clone();
                // The marker is what tells whose it is, and DataFast may leave the name out of its answer.
                token_seen.name.get_or_insert_with(|| token.name.clone());
                state.change(|snapshot| snapshot.issued(token_seen, now));
            }
            Err(error) => {
                if matches!(error, Error::Full { .. }) {
                    state.learnt = Some((state.total(), now));
                }
                if matches!(error, Error::Full { .. } | Error::Rejected { status: 400, .. }) {
                    // Which of the two it is, only a list can tell.
                    state.next_list = Some(now);
                }
                self.note_failure(&mut state, error, now);
            }
        }
        answer.map_err(CallError::DataFast)
    }

    /// Revokes a token.
    pub async fn revoke(&self, id: &TokenId) -> Result<(), CallError> {
        let (client, _permits) = self.enter().await?;
        let answer = client.delete_access_token(id).await;
        let mut state = lock(&self.state);
        let now = self.clock.now();
        match &answer {
            Ok(()) => {
                state.gate.succeeded(Call::Change);
                state.change(|snapshot| snapshot.revoked(id, now));
                drop(state);
                self.wake_waiting();
            }
            Err(error) => self.note_failure(&mut state, error, now),
        }
        answer.map_err(CallError::DataFast)
    }

    /// Whether DataFast takes a key.
    pub async fn probe(&self, key: &RawKey) -> Result<bool, CallError> {
        let (client, _permits) = self.enter().await?;
        let answer = client.probe(key).await;
        let mut state = lock(&self.state);
        match &answer {
            Ok(_) => state.gate.succeeded(Call::Change),
            Err(error) => self.note_failure(&mut state, error, self.clock.now()),
        }
        answer.map_err(CallError::DataFast)
    }

    fn note_failure(&self, state: &mut State, error: &Error, now: Timestamp) {
        state.gate.failed(Call::Change, error, now);
        if state.gate.closed().is_some() || state.next_list == Some(now) {
            self.look();
        }
    }

    /// Waits for a turn. While calls fail, they go one at a time.
    async fn enter(&self) -> Result<(Arc<Client>, tokio::sync::SemaphorePermit<'_>), CallError> {
        let calls = if lock(&self.state).gate.is_doubtful() { CALLS } else { 1 };
        let permits = self.permits.acquire_many(calls).await.map_err(|_| CallError::NotSent)?;
        let state = lock(&self.state);
        match (&state.connection, state.gate.closed()) {
            (Some(connection), None) => Ok((connection.client.clone(), permits)),
            _ => Err(CallError::NotSent),
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
