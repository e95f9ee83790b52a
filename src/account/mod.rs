//! What all resources of one DataFast account share: its list of tokens, its slots, its rate limit, its credential.
//!
//! Invariant: every call to DataFast goes through an [`Account`], so that one refusal holds back all of them, and the
//! list is one for all. Invariant: nothing here knows a resource's kind or reads one.

mod gate;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

pub use gate::Trouble;
use gate::{Call, Gate};
use state::{Connection, State};
pub use state::{Report, Setup, Told, View, Waits};

use crate::clock::Clock;
use crate::datafast::{Client, Error, Issued, NewToken, RawKey, SetupError, TokenId};
use crate::issue::allow::Allow;
use crate::issue::observed;
use crate::issue::queue::Waiting;
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

    /// Wakes a resource when what it waits for is there. `seen`: the version of the view that makes it wait.
    pub fn wait(&self, resource: ResourceRef, waits: Waits, seen: u64) {
        let is_late = {
            let mut state = lock(&self.state);
            match waits == Waits::default() {
                true => state.waiting.remove(&resource),
                false => state.waiting.insert(resource.clone(), waits),
            };
            waits != Waits::default() && state.version != seen
        };
        if is_late {
            self.wake(resource);
        }
    }

    /// Has a resource stand in the queue for a slot, or leave it.
    pub fn line_up(&self, resource: &ResourceRef, waiting: Option<Waiting>) {
        let (moves, is_news) = {
            let mut state = lock(&self.state);
            let before = state.queue.len();
            let is_ahead = |waiting: &Waiting| state.queue.values().any(|other| other > waiting);
            let moves = match waiting {
                Some(waiting) => {
                    let has_moved = state.queue.get(resource) != Some(&waiting);
                    let moves = has_moved && is_ahead(&waiting);
                    state.queue.insert(resource.clone(), waiting);
                    moves
                }
                None => state.queue.remove(resource).is_some(),
            };
            (moves, state.queue.len() != before)
        };
        // Those behind it have another place.
        if moves {
            self.wake_news();
        }
        if is_news {
            self.look();
        }
    }

    /// Has those leave the queue that are no longer there.
    pub fn keep_in_queue(&self, is_there: impl Fn(&ResourceRef) -> bool) {
        let has_shrunk = {
            let mut state = lock(&self.state);
            let before = state.queue.len();
            state.queue.retain(|resource, _| is_there(resource));
            state.queue.len() != before
        };
        if has_shrunk {
            self.wake_news();
        }
    }

    /// Puts one that waited for a slot before a restart in its place.
    pub fn queue_up(&self, resource: ResourceRef, waiting: Waiting) {
        lock(&self.state).queue.entry(resource).or_insert(waiting);
    }

    /// Takes note that a resource waits for nothing.
    pub fn settled(&self, resource: &ResourceRef) {
        self.wait(resource.clone(), Waits::default(), 0);
        self.line_up(resource, None);
    }

    /// Wakes all that wait for a change of the account's state.
    pub fn wake_news(&self) {
        self.wake_those(|waits| waits.news);
    }

    /// Wakes all that waited for a list.
    pub fn wake_listed(&self, told: Told) {
        self.wake_those(|waits| {
            waits.next_list || waits.list.is_some_and(|at| at <= told.begun) || waits.news && told.is_news
        });
    }

    fn wake_those(&self, concerned: impl Fn(&Waits) -> bool) {
        let woken: Vec<_> = {
            let mut state = lock(&self.state);
            state.version += 1;
            state.waiting.extract_if(|_, waits| concerned(waits)).collect()
        };
        for (resource, _) in woken {
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
                Some(Told { is_news: told.is_news || is_opened, ..told })
            }
            Err(error) => {
                state.gate.failed(Call::List, &error, now);
                tracing::warn!(account = self.name, %error, "the account's tokens could not be listed");
                None
            }
        }
    }

    /// Issues a token, if the request can be sent before `deadline`.
    pub async fn create(
        &self,
        token: &NewToken,
        deadline: Instant,
        may_send: impl Fn() -> bool,
    ) -> Result<Issued, CallError> {
        let (client, _turn) = self.enter().await?;
        if Instant::now() >= deadline || !may_send() {
            return Err(CallError::NotSent);
        }
        let creating = Creating::begin(self).ok_or(CallError::NotSent)?;
        let answer = client.create_access_token(token).await;
        let mut state = lock(&self.state);
        creating.end(&mut state);
        let now = self.clock.now();
        match &answer {
            Ok(issued) => {
                state.gate.succeeded(Call::Create);
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
                self.note_failure(&mut state, Call::Create, error, now);
                drop(state);
                // The slot that it would have taken may be another's.
                self.wake_news();
            }
        }
        answer.map_err(CallError::DataFast)
    }

    /// Revokes a token.
    pub async fn revoke(&self, id: &TokenId) -> Result<(), CallError> {
        let (client, _turn) = self.enter().await?;
        let answer = client.delete_access_token(id).await;
        let mut state = lock(&self.state);
        let now = self.clock.now();
        match &answer {
            Ok(()) => {
                state.gate.succeeded(Call::Change);
                state.change(|snapshot| snapshot.revoked(id, now));
                drop(state);
                self.wake_news();
            }
            Err(error) => self.note_failure(&mut state, Call::Change, error, now),
        }
        answer.map_err(CallError::DataFast)
    }

    /// Whether DataFast takes a key.
    pub async fn probe(&self, key: &RawKey) -> Result<bool, CallError> {
        let (client, _turn) = self.enter().await?;
        let answer = client.probe(key).await;
        let mut state = lock(&self.state);
        match &answer {
            Ok(_) => state.gate.succeeded(Call::Change),
            Err(error) => self.note_failure(&mut state, Call::Change, error, self.clock.now()),
        }
        answer.map_err(CallError::DataFast)
    }

    fn note_failure(&self, state: &mut State, call: Call, error: &Error, now: Timestamp) {
        state.gate.failed(call, error, now);
        if state.gate.closed().is_some() || state.next_list == Some(now) {
            self.look();
        }
    }

    /// Waits for a turn.
    async fn enter(&self) -> Result<(Arc<Client>, Turn<'_>), CallError> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on, no end of a call is missed.
            ended.as_mut().enable();
            if let Some(outcome) = self.try_enter() {
                return outcome;
            }
            ended.await;
        }
    }

    /// None: as many calls are under way as may be.
    fn try_enter(&self) -> Option<Result<(Arc<Client>, Turn<'_>), CallError>> {
        let mut state = lock(&self.state);
        let (Some(connection), None) = (&state.connection, state.gate.closed()) else {
            return Some(Err(CallError::NotSent));
        };
        let client = connection.client.clone();
        if state.calls >= state.gate.calls() {
            return None;
        }
        state.calls += 1;
        Some(Ok((client, Turn(self))))
    }
}

/// A call under way.
struct Turn<'a>(&'a Account);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).calls -= 1;
        // What came of it may let more than one go.
        self.0.ended.notify_waiters();
    }
}

/// A request for a token under way: it has a slot until its answer tells whether it keeps it.
struct Creating<'a>(&'a Account);

impl<'a> Creating<'a> {
    /// None: there is no slot left.
    fn begin(account: &'a Account) -> Option<Self> {
        let mut state = lock(&account.state);
        if state.free().is_some_and(|free| free <= 0) {
            return None;
        }
        state.creating += 1;
        Some(Self(account))
    }
}

impl Creating<'_> {
    /// The answer is there: what it says of the slot is noted under the same lock.
    fn end(self, state: &mut State) {
        state.creating -= 1;
        std::mem::forget(self);
    }
}

/// The future that waits for the answer was dropped.
impl Drop for Creating<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).creating -= 1;
    }
}

/// Ends a listing even where the future that does it is dropped.
struct Listing<'a>(&'a Account);

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).listing = false;
    }
}
