//! Calls that change something, or try a key: each waits for its turn, and what comes of it concerns all.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::Account;
use super::gate::Call;
use super::state::State;
use crate::datafast::{Client, Collection, Error, Issued, NewToken, RawKey, TokenId};
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

impl Account {
    /// Issues a token, if the request can be sent before `deadline`.
    pub async fn create(
        &self,
        collection: &Collection,
        token: &NewToken,
        deadline: Instant,
        may_send: impl Fn() -> bool,
    ) -> Result<Issued, CallError> {
        let (client, _turn) = self.enter_by(deadline, may_send, collection).await?;
        let creating = Creating::begin(self, collection).ok_or(CallError::NotSent)?;
        let answer = client.create(collection, token).await;
        let mut state = lock(&self.state);
        creating.end(&mut state);
        let now = self.clock.now();
        match &answer {
            Ok(issued) => {
                state.succeeded(collection, Call::Create);
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
                    pool.learnt = Some((pool.total(), now));
                }
                if matches!(error, Error::Full { .. } | Error::Rejected { status: 400, .. }) {
                    // Which of the two it is, only a list can tell.
                    pool.next_list = Some(now);
                }
                self.note_failure(&mut state, &client, collection, Call::Create, error, now);
                drop(state);
                // The slot that it would have taken may be another's.
                self.wake_news_of(collection);
            }
        }
        answer.map_err(CallError::DataFast)
    }

    /// Gives a token another key, if the request can be sent before `deadline`. `token` is what is known of it.
    pub async fn roll(
        &self,
        collection: &Collection,
        id: &TokenId,
        token: &NewToken,
        deadline: Instant,
        may_send: impl Fn() -> bool,
    ) -> Result<Issued, CallError> {
        let (client, _turn) = self.enter_by(deadline, may_send, collection).await?;
        let answer = client.roll(collection, id, token).await;
        let mut state = lock(&self.state);
        let now = self.clock.now();
        match &answer {
            Ok(issued) => {
                state.succeeded(collection, Call::Create);
                let display_key = &issued.token.display_key;
                if !display_key.is_empty() {
                    state.pool(collection).change(|snapshot| snapshot.rolled(id, display_key, now));
                }
            }
            Err(error) => self.note_failure(&mut state, &client, collection, Call::Create, error, now),
        }
        answer.map_err(CallError::DataFast)
    }

    /// Revokes a token.
    pub async fn revoke(&self, collection: &Collection, id: &TokenId) -> Result<(), CallError> {
        let (client, _turn) = self.enter(collection).await?;
        let answer = client.delete(collection, id).await;
        let mut state = lock(&self.state);
        let now = self.clock.now();
        match &answer {
            Ok(()) => {
                state.succeeded(collection, Call::Change);
                state.pool(collection).change(|snapshot| snapshot.revoked(id, now));
                drop(state);
                self.wake_news_of(collection);
            }
            Err(error) => self.note_failure(&mut state, &client, collection, Call::Change, error, now),
        }
        answer.map_err(CallError::DataFast)
    }

    /// Whether DataFast takes a key.
    pub async fn probe(&self, collection: &Collection, key: &RawKey) -> Result<bool, CallError> {
        let (client, _turn) = self.enter(collection).await?;
        let answer = client.probe(collection, key).await;
        let mut state = lock(&self.state);
        match &answer {
            Ok(_) => state.succeeded(collection, Call::Change),
            Err(error) => self.note_failure(&mut state, &client, collection, Call::Change, error, self.clock.now()),
        }
        answer.map_err(CallError::DataFast)
    }

    fn note_failure(
        &self,
        state: &mut State,
        client: &Arc<Client>,
        collection: &Collection,
        call: Call,
        error: &Error,
        now: Timestamp,
    ) {
        // What DataFast says to a former credential is no matter of the new one's.
        if state.connection.as_ref().is_none_or(|connection| Arc::ptr_eq(&connection.client, client)) {
            state.failed(collection, call, error, now);
        }
        if state.closed(collection).is_some() || state.pool(collection).next_list == Some(now) {
            self.reconcile();
        }
    }

    /// Waits for a turn that comes before `deadline`.
    async fn enter_by<'a>(
        &'a self,
        deadline: Instant,
        may_send: impl Fn() -> bool,
        collection: &'a Collection,
    ) -> Result<(Arc<Client>, Turn<'a>), CallError> {
        let entered = tokio::time::timeout_at(deadline.into(), self.enter(collection)).await;
        let entered = entered.map_err(|_| CallError::TooLate)??;
        match (may_send(), Instant::now() < deadline) {
            (false, _) => Err(CallError::NotSent),
            (true, false) => Err(CallError::TooLate),
            (true, true) => Ok(entered),
        }
    }

    /// Waits for a turn.
    async fn enter<'a>(&'a self, collection: &'a Collection) -> Result<(Arc<Client>, Turn<'a>), CallError> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on, no end of a call is missed.
            ended.as_mut().enable();
            if let Some(outcome) = self.try_enter(collection) {
                return outcome;
            }
            ended.await;
        }
    }

    /// None: as many calls are under way as may be.
    fn try_enter<'a>(&'a self, collection: &'a Collection) -> Option<Result<(Arc<Client>, Turn<'a>), CallError>> {
        let mut state = lock(&self.state);
        let (Some(connection), None) = (&state.connection, state.closed(collection)) else {
            return Some(Err(CallError::NotSent));
        };
        let client = connection.client.clone();
        // Websites that do not answer leave a turn to the account's own tokens.
        let most = match collection {
            Collection::AccessTokens => state.gate.calls(),
            Collection::WebsiteKeys(_) => state.gate.calls().saturating_sub(1).max(1),
        };
        let pool = state.pool(collection);
        let is_pool_busy = pool.calls >= pool.most_calls(collection);
        if is_pool_busy || state.calls >= most {
            return None;
        }
        state.calls += 1;
        state.pool(collection).calls += 1;
        Some(Ok((client, Turn(self, collection))))
    }
}

/// A call under way.
struct Turn<'a>(&'a Account, &'a Collection);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.calls -= 1;
        state.pool(self.1).calls -= 1;
        drop(state);
        // What came of it may let more than one go.
        self.0.ended.notify_waiters();
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
