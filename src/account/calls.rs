//! Calls that change something, or try a key: each waits for its turn, and what comes of it concerns all.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::Account;
use super::gate::Call;
use super::state::State;
use crate::datafast::{Client, Error, Issued, NewToken, RawKey, TokenId};
use crate::lock::lock;

/// A call that got no answer to act on.
#[derive(Debug)]
pub enum CallError {
    /// It was not sent: the account is closed or has no slot, or it would have been sent too late.
    NotSent,
    /// DataFast's answer.
    DataFast(Error),
}

impl Account {
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
