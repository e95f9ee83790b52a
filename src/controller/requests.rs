//! Requests to DataFast: each is made in a task of its own, and what came of it is told to the core, whatever has become of
//! the reconcile that began it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tracing::Instrument;

use super::left_behind::Revoker;
use super::observe::desired;
use super::panics::guarded;
use super::perform::Work;
use super::status::shown_key;
use crate::account::{CallError, Caller, Urgency};
use crate::datafast::{Effect as RequestEffect, Issued, NewToken, TokenId};
use crate::lifecycle::decision::RevokeCause;
use crate::lifecycle::desired::Desired;
use crate::lifecycle::event::{Answer, Effect, Event, Order};
use crate::lifecycle::history::Revocation;
use crate::lifecycle::marker::{Marker, Nonce};
use crate::lifecycle::queue::{Priority, Waiting};
use crate::lifecycle::record::Cause;
use crate::lock::lock;
use crate::telemetry::millis;

/// How long a reconcile waits for DataFast.
const PATIENCE: Duration = Duration::from_secs(1);

impl Work<'_> {
    /// Has a call made in a task of its own, and waits for it a little: whatever becomes of this reconcile, the answer is
    /// taken in, and an account that is slow takes no turns from others.
    async fn call(&self, call: impl Future<Output = ()> + Send + 'static) {
        let call = guarded(self.ctx.clone(), self.resource.kind(), self.memory.clone(), call);
        let mut task = self.ctx.requests.spawn(call.in_current_span());
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            let (account, this) = (self.account.clone(), self.resource.reference());
            self.ctx.requests.spawn(async move {
                let _ = task.await;
                account.wake(this);
            });
        }
    }

    fn caller(&self, urgency: Urgency) -> Caller {
        Caller { resource: self.resource.reference(), urgency }
    }

    /// Asks for a token, or for another key of one.
    pub(super) async fn send(&mut self, nonce: Nonce, cause: Cause, rolls: Option<TokenId>, by: Timestamp) {
        let Desired { scope, requests, .. } = desired(&*self.resource);
        let marker =
            Marker { cluster: self.ctx.cluster.clone(), owner: self.resource.owner_id(), nonce: nonce.clone() };
        let new = NewToken {
            name: marker.name(&scope.token_name),
            permissions: scope.permissions.clone(),
            website_ids: scope.website_ids.clone(),
        };
        let order = Order { nonce: nonce.clone(), spec_hash: scope.hash(), requests, rolls };
        self.apply(Event::Sending { nonce });
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        let (kind, caller) = (self.resource.kind(), self.caller(urgency_of(cause)));
        let about = self.resource.object_reference();
        account.line_up_for_window(&caller.resource, None);
        self.call(async move {
            let start = Instant::now();
            let deadline = start + Duration::try_from(by.duration_since(ctx.now())).unwrap_or_default();
            // It may have been deleted while it waited for its turn: the API server takes a deletion that was begun before
            // the finalizer was put on.
            let is_gone = || lock(&memory).local().is_gone();
            let may_send = || ctx.leadership.may_act() && !ctx.requests.is_closed() && !is_gone();
            let answer = match &order.rolls {
                None => account.create(&caller, &new, deadline, may_send).await,
                Some(token_id) => account.roll(&caller, token_id, &new, deadline, may_send).await,
            };
            log_answer(cause, order.rolls.is_some(), start.elapsed(), &answer);
            if answer.is_ok() {
                ctx.metrics.issued(kind, cause.as_str());
            }
            let (answer, key) = match answer {
                Ok(Issued { token, key }) => {
                    let key_sha256 = key.as_ref().map(|key| key.fingerprint(token.id.as_str()));
                    (Answer::Issued { token_id: token.id, key_sha256 }, key)
                }
                Err(CallError::DataFast(error)) => (Answer::Failed(error), None),
                Err(CallError::NotSent) => (Answer::NotSent, None),
                Err(CallError::TooLate) => {
                    (Answer::TooLate(SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::MAX)), None)
                }
            };
            let effect = lock(&memory).sent(order, answer, key, ctx.both_clocks());
            // Its resource was deleted meanwhile.
            if let Some(Effect::RevokeOrphan(token_id)) = effect {
                Revoker { ctx, account, resource: caller.resource, about, kind }.revoke(&token_id).await;
            }
        })
        .await;
    }

    /// Finds out whether DataFast takes the key in the Secret.
    pub(super) async fn prove(&mut self, token_id: TokenId) {
        let Some(key) = self.key_in_secret() else { return };
        self.apply(Event::Calling);
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        let caller = self.caller(Urgency::Restore);
        self.call(async move {
            let outcome = match account.probe(&caller, &key).await {
                Ok(proven) => Ok(proven),
                Err(CallError::DataFast(error)) => Err(Some(error.to_string())),
                Err(CallError::NotSent | CallError::TooLate) => Err(None),
            };
            let key_sha256 = key.fingerprint(token_id.as_str());
            lock(&memory).apply(Event::Tried { token_id, key_sha256, outcome }, ctx.both_clocks());
        })
        .await;
    }

    /// Revokes a token.
    pub(super) async fn revoke(&mut self, token_id: TokenId, cause: RevokeCause) {
        if cause == RevokeCause::MadeRoom {
            let owner = self.resource.owner_id();
            let waiting = Waiting { priority: Priority::MadeRoom, since: self.ctx.now(), owner };
            self.account.line_up(&self.resource.reference(), Some(waiting));
        }
        self.apply(Event::Calling);
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        let (about, kind) = (self.resource.object_reference(), self.resource.kind());
        let caller = self.caller(urgency_to_revoke(cause));
        let listed = self.view().snapshot.and_then(|snapshot| snapshot.get(&token_id).cloned());
        let display_key = listed.and_then(|listed| shown_key(&listed.token));
        self.call(async move {
            let start = Instant::now();
            // Who no longer leads leaves it to the one that does.
            let answer = match ctx.leadership.may_act() {
                true => account.revoke(&caller, &token_id).await,
                false => Err(CallError::NotSent),
            };
            log_revoked(&token_id, cause, start.elapsed(), &answer);
            let outcome = answer.map_err(|error| match error {
                CallError::DataFast(error) => Some(error),
                CallError::NotSent | CallError::TooLate => None,
            });
            if outcome.is_ok() {
                ctx.metrics.revoked(kind, cause.as_str());
                let reason = if cause == RevokeCause::LostAttempt { "LostAttemptRevoked" } else { "Revoked" };
                let key = display_key.as_ref().map(|key| format!(" ({key})")).unwrap_or_default();
                let note = format!("Token {token_id}{key} was revoked: {}", cause.as_str());
                ctx.events.normal(&about, reason, note);
                let (at, token_id) = (ctx.now(), token_id.clone());
                lock(&memory).has_revoked(Revocation { at, token_id, display_key, cause });
            }
            lock(&memory).apply(Event::Revoked { token_id, cause, outcome }, ctx.both_clocks());
        })
        .await;
    }
}

/// How urgent a request for a key is.
fn urgency_of(cause: Cause) -> Urgency {
    match cause {
        Cause::KeyLost | Cause::Vanished | Cause::RevokeNow => Urgency::Restore,
        Cause::ScopeChanged | Cause::RotateRequested | Cause::RotationDue => Urgency::Rotate,
        Cause::New | Cause::Revoked | Cause::Unknown => Urgency::Issue,
    }
}

/// How urgent it is that a token goes.
fn urgency_to_revoke(cause: RevokeCause) -> Urgency {
    match cause {
        RevokeCause::LostAttempt | RevokeCause::Undeliverable | RevokeCause::RevokeNow => Urgency::Leak,
        // Its successor waits for the slot.
        RevokeCause::MadeRoom => Urgency::Restore,
        RevokeCause::Expired | RevokeCause::Unused | RevokeCause::Deleted => Urgency::Rotate,
        RevokeCause::Retired => Urgency::Retire,
    }
}

/// Logs what came of a request for a token or a key. What was not sent is told by what holds it back.
fn log_answer(cause: Cause, is_roll: bool, took: Duration, answer: &Result<Issued, CallError>) {
    let (cause, took) = (cause.as_str(), millis(took));
    match answer {
        Ok(Issued { token, key }) => {
            let (token_id, display_key) = (token.id.as_str(), &token.display_key);
            let what = match (is_roll, key) {
                (_, None) => "issued a token, but the answer held no key: it is revoked again",
                (false, Some(_)) => "issued a token",
                (true, Some(_)) => "rolled a token: it has another key",
            };
            tracing::info!(tokenId = token_id, displayKey = display_key, cause, durationMs = took, "{what}");
        }
        Err(CallError::DataFast(error)) => {
            let may_exist = error.effect() != RequestEffect::None;
            tracing::warn!(cause, durationMs = took, %error, mayExist = may_exist, "a request for a token failed");
        }
        Err(CallError::NotSent | CallError::TooLate) => {}
    }
}

/// Logs what came of a revocation. What was not sent, or concerns the whole account, is told where that is.
fn log_revoked(token_id: &TokenId, cause: RevokeCause, took: Duration, answer: &Result<(), CallError>) {
    let (token_id, cause, took) = (token_id.as_str(), cause.as_str(), millis(took));
    match answer {
        Ok(()) => tracing::info!(tokenId = token_id, cause, durationMs = took, "revoked a token"),
        Err(CallError::DataFast(error)) => {
            tracing::warn!(tokenId = token_id, cause, durationMs = took, %error, "a token could not be revoked");
        }
        Err(CallError::NotSent | CallError::TooLate) => {}
    }
}
