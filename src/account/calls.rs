//! Calls that change something, or try a key: each waits for its turn, and what comes of it concerns all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::gate::Call;
use super::state::State;
use super::turns::{Granted, Place};
use super::window::Urgency;
use super::{Account, ResourceRef};
use crate::datafast::{Client, Collection, Effect, Error, Issued, NewToken, RawKey, TokenId, Verb};
use crate::lock::lock;

/// A call that got no answer to act on.
#[derive(Debug)]
pub enum CallError {
    /// It was not sent: the account is closed or has no slot, or this process may not act any more.
    NotSent,
    /// It was not sent: its turn did not come before its deadline.
    TooLate,
    /// DataFast's answer.
    DataFast(Error),
}

/// A wait that an event ends.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Who makes a call, and how urgent it is.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For this resource.
    pub resource: ResourceRef,
    /// Of those that wait, this decides who goes first.
    pub urgency: Urgency,
}

impl Account {
    /// Issues a token, if the request can be sent before `deadline`.
    pub async fn create(
        &self,
        caller: &Caller,
        token: &NewToken,
        deadline: Instant,
        may_send: impl Fn() -> bool,
    ) -> Result<Issued, CallError> {
        let collection = &caller.resource.collection;
        let (client, mut turn) = self.enter_by(deadline, may_send, caller).await?;
        let creating = Creating::begin(self, collection).ok_or(CallError::NotSent)?;
        client.waited(collection, Verb::Create, turn.waited);
        let answer = client.create(collection, token).await;
        let mut state = lock(&self.state);
        turn.ended(&mut state, &client, &answer);
        creating.end(&mut state);
        let now = self.clock.now();
        match &answer {
            Ok(issued) => {
                state.succeeded(caller, Call::Create);
                let pool = state.pool(collection);
                if pool.learnt.is_some_and(|(limit, _)| pool.total() >= limit) {
                    pool.learnt = None;
                }
                let mut token_seen = issued.token.clone();
                // The marker is what tells whose it is, and DataFast may leave the name out of its answer.
                token_seen.name.get_or_insert_with(|| token.name.clone());
                pool.change(|snapshot| snapshot.issued(token_seen, now));
            }
            Err(error) => {
                let pool = state.pool(collection);
                if matches!(error, Error::Full { .. }) {
                    pool.is_said_to_be_full(&caller.resource, now);
                }
                if matches!(error, Error::Full { .. } | Error::Rejected { status: 400, .. }) {
                    // Which of the two it is, only a list can tell.
                    pool.next_list = Some(now);
                }
                if error.effect() == Effect::Unknown {
                    // What came of it, only a list can tell.
                    pool.next_list = Some(pool.next_list.map_or(now, |next| next.min(now)));
                }
                self.note_failure(&mut state, &client, caller, Call::Create, error, now);
                drop(state);
                // The slot that it would have taken may be another's.
                self.wake_for_slot(collection);
            }
        }
        answer.map_err(CallError::DataFast)
    }

    /// Gives a token another key, if the request can be sent before `deadline`. `token` is what is known of it.
    pub async fn roll(
        &self,
        caller: &Caller,
        id: &TokenId,
        token: &NewToken,
        deadline: Instant,
        may_send: impl Fn() -> bool,
    ) -> Result<Issued, CallError> {
        let collection = &caller.resource.collection;
        let (client, mut turn) = self.enter_by(deadline, may_send, caller).await?;
        client.waited(collection, Verb::Roll, turn.waited);
        let answer = client.roll(collection, id, token).await;
        let mut state = lock(&self.state);
        turn.ended(&mut state, &client, &answer);
        let now = self.clock.now();
        match &answer {
            Ok(issued) => {
                state.succeeded(caller, Call::Create);
                let display_key = &issued.token.display_key;
                if !display_key.is_empty() {
                    state.pool(collection).change(|snapshot| snapshot.rolled(id, display_key, now));
                }
            }
            Err(error) => self.note_failure(&mut state, &client, caller, Call::Create, error, now),
        }
        answer.map_err(CallError::DataFast)
    }

    /// Revokes a token.
    pub async fn revoke(&self, caller: &Caller, id: &TokenId) -> Result<(), CallError> {
        let collection = &caller.resource.collection;
        let (client, mut turn) = self.enter(caller).await?;
        client.waited(collection, Verb::Delete, turn.waited);
        let answer = client.delete(collection, id).await;
        let mut state = lock(&self.state);
        turn.ended(&mut state, &client, &answer);
        let now = self.clock.now();
        match &answer {
            Ok(()) => {
                state.succeeded(caller, Call::Change);
                state.pool(collection).change(|snapshot| snapshot.revoked(id, now));
                drop(state);
                self.wake_for_slot(collection);
            }
            Err(error) => self.note_failure(&mut state, &client, caller, Call::Change, error, now),
        }
        answer.map_err(CallError::DataFast)
    }

    /// Whether DataFast takes a key.
    pub async fn probe(&self, caller: &Caller, key: &RawKey) -> Result<bool, CallError> {
        let (client, mut turn) = self.enter(caller).await?;
        client.waited(&caller.resource.collection, Verb::Probe, turn.waited);
        let answer = client.probe(&caller.resource.collection, key).await;
        let mut state = lock(&self.state);
        turn.ended(&mut state, &client, &answer);
        match &answer {
            Ok(_) => state.succeeded(caller, Call::Change),
            Err(error) => self.note_failure(&mut state, &client, caller, Call::Change, error, self.clock.now()),
        }
        answer.map_err(CallError::DataFast)
    }

    fn note_failure(
        &self,
        state: &mut State,
        client: &Arc<Client>,
        caller: &Caller,
        call: Call,
        error: &Error,
        now: Timestamp,
    ) {
        let collection = &caller.resource.collection;
        // What DataFast says to a former credential is no matter of the new one's.
        if state.connection.as_ref().is_none_or(|connection| Arc::ptr_eq(&connection.client, client)) {
            state.call_failed(caller, call, error, now);
        }
        if state.closed(collection).is_some() || state.pool(collection).next_list.is_some_and(|next| next <= now) {
            self.reconcile();
        }
    }

    /// Waits for a turn that comes before `deadline`.
    async fn enter_by(
        &self,
        deadline: Instant,
        may_send: impl Fn() -> bool,
        caller: &Caller,
    ) -> Result<(Arc<Client>, Turn<'_>), CallError> {
        let entered = tokio::time::timeout_at(deadline.into(), self.enter(caller)).await;
        let entered = entered.map_err(|_| CallError::TooLate)??;
        match (may_send(), Instant::now() < deadline) {
            (false, _) => Err(CallError::NotSent),
            (true, false) => Err(CallError::TooLate),
            (true, true) => Ok(entered),
        }
    }

    /// Waits for a turn.
    async fn enter(&self, caller: &Caller) -> Result<(Arc<Client>, Turn<'_>), CallError> {
        let start = Instant::now();
        let mut waiting = Waiting::begin(self, caller);
        loop {
            // The end of a window is no event: whoever waits for it has the turns given out then.
            let opens_in = lock(&self.state).window.changes_in(self.clock.steady());
            tokio::select! {
                biased;
                granted = &mut waiting.granted => {
                    waiting.is_over = true;
                    if granted != Ok(Granted::Turn) {
                        return Err(CallError::NotSent);
                    }
                    let mut turn = Turn::of(self, caller.resource.collection.clone());
                    turn.waited = start.elapsed();
                    let client = lock(&self.state).connection.as_ref().map(|connection| connection.client.clone());
                    return Ok((client.ok_or(CallError::NotSent)?, turn));
                }
                () = tokio::time::sleep(opens_in.unwrap_or(FOREVER)) => self.dispatch(&mut lock(&self.state)),
            }
        }
    }

    /// Gives out the turns that there are.
    pub(super) fn dispatch(&self, state: &mut State) {
        let now = self.clock.steady();
        while let Some((place, granted)) = state.next_turn(now) {
            let collection = state.turns.collection(&place).cloned();
            if state.turns.grant(&place, granted)
                && let (Granted::Turn, Some(collection)) = (granted, collection)
            {
                state.calls += 1;
                state.pool(&collection).calls += 1;
                state.window.begins(now);
            }
        }
    }
}

/// A call that waits for its turn.
struct Waiting<'a> {
    account: &'a Account,
    place: Place,
    collection: Collection,
    granted: oneshot::Receiver<Granted>,
    is_over: bool,
}

impl<'a> Waiting<'a> {
    fn begin(account: &'a Account, caller: &Caller) -> Self {
        let ResourceRef { collection, namespace, .. } = &caller.resource;
        let mut state = lock(&account.state);
        state.begun.remove(&caller.resource);
        let (place, granted) = state.turns.wait(caller.urgency, namespace, collection);
        account.dispatch(&mut state);
        Self { account, place, collection: collection.clone(), granted, is_over: false }
    }
}

/// The future that waits was dropped: a turn that it got meanwhile goes to the next.
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let is_waiting = lock(&self.account.state).turns.leave(&self.place);
        if !is_waiting && self.granted.try_recv() == Ok(Granted::Turn) {
            drop(Turn::of(self.account, self.collection.clone()));
        }
    }
}

/// A call under way.
struct Turn<'a> {
    account: &'a Account,
    collection: Collection,
    waited: Duration,
    /// The rate window counts it as under way.
    counts: bool,
}

impl<'a> Turn<'a> {
    fn of(account: &'a Account, collection: Collection) -> Self {
        Self { account, collection, waited: Duration::ZERO, counts: true }
    }

    /// The answer is there: what it tells of the rate window is noted under the same lock.
    fn ended<T>(&mut self, state: &mut State, client: &Client, answer: &Result<T, Error>) {
        state.window.answered(client.heard(), answer.as_ref().err(), self.account.clock.steady());
        self.counts = false;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.account.state);
        state.calls -= 1;
        state.pool(&self.collection).calls -= 1;
        if self.counts {
            state.window.cancelled();
        }
        // What came of it may let more than one go.
        self.account.dispatch(&mut state);
    }
}

/// A request for a token under way: it has a slot until its answer tells whether it keeps it.
struct Creating<'a>(&'a Account, &'a Collection);

impl<'a> Creating<'a> {
    /// None: there is no slot left.
    fn begin(account: &'a Account, collection: &'a Collection) -> Option<Self> {
        let mut state = lock(&account.state);
        let pool = state.pool(collection);
        if pool.free().is_some_and(|free| free <= 0) {
            return None;
        }
        pool.creating += 1;
        Some(Self(account, collection))
    }
}

impl Creating<'_> {
    /// The answer is there: what it says of the slot is noted under the same lock.
    fn end(self, state: &mut State) {
        state.pool(self.1).creating -= 1;
        std::mem::forget(self);
    }
}

/// The future that waits for the answer was dropped.
impl Drop for Creating<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).pool(self.1).creating -= 1;
    }
}
