//! Record, preflight, send, swap: the steps that bring a key from DataFast into a Secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::memory::Memory;
use super::observe::desired;
use super::perform::Work;
use super::secret::Recipe;
use super::{Error, words};
use crate::account::{Account, CallError};
use crate::api::names;
use crate::datafast::{self, Collection, Effect, Issued, NewToken, RawKey, TokenId};
use crate::issue::local::{Held, LateCause, Preflight, Rejected, Unsent};
use crate::issue::marker::{Marker, Nonce};
use crate::issue::observed::Desired;
use crate::issue::record::{Attempt, Cause, Log, Requests, SecretRecord};
use crate::lock::lock;
use crate::telemetry::millis;

/// A key of the length of DataFast's, for dry runs.
const PLACEHOLDER: &str = "dft_0000000000000000000000000000000000000000";

/// What an attempt is recorded with, beside its nonce.
pub(super) struct NewAttempt {
    pub(super) at: Timestamp,
    pub(super) cause: Cause,
    pub(super) rolls: Option<TokenId>,
}

impl Work<'_> {
    /// The record, and at the same time the dry run of what it is for.
    pub(super) async fn record(
        &mut self,
        again: Option<Nonce>,
        keep: Vec<Attempt>,
        new: NewAttempt,
    ) -> Result<(), Error> {
        let NewAttempt { at, cause, rolls } = new;
        let nonce = again.unwrap_or_else(|| Nonce::from_random(rand::random()));
        let requests = desired(&*self.resource).requests;
        let attempt = Attempt { nonce: nonce.clone(), at, cause, requests, rolls };
        let mut log = Log(keep);
        log.0.push(attempt.clone());
        // Before its answer: where that is lost, a watch may still show that the attempt was recorded.
        lock(&self.memory).local.unsent = Some(Unsent { nonce: nonce.clone(), preflight: Preflight::Unknown });
        let start = self.ctx.now();
        let metadata = json!({ "finalizers": self.finalizers(), "annotations": { names::ATTEMPTS: log.write() } });
        let (patched, preflight) = tokio::join!(self.patch_metadata(metadata), self.preflight());
        self.take_over(patched)?;
        let now = self.ctx.now();
        let is_first = {
            let mut memory = lock(&self.memory);
            memory.local.recorded(&attempt, now.duration_since(start), now, self.ctx.horizon());
            memory.announces(&nonce)
        };
        if is_first {
            self.announce(cause);
        }
        self.note_preflight(preflight?);
        Ok(())
    }

    /// Why a token is issued in place of one that was there: once for each attempt.
    fn announce(&self, cause: Cause) {
        let former = self.resource.status().and_then(|status| status.token_id.as_deref());
        match cause {
            Cause::Vanished => {
                tracing::warn!(tokenId = former, "the token was deleted at DataFast: a new one is issued");
                self.warn("TokenVanished", "It was deleted at DataFast: a new one is issued");
            }
            Cause::KeyLost => {
                let secret = self.resource.secret_name();
                tracing::warn!(tokenId = former, secret, "the Secret or its key is gone: a new one is issued");
                let note = format!(
                    "Secret {secret:?} was deleted, or its key is no longer the one that DataFast knows: a new one is issued"
                );
                self.warn("KeyLost", &note);
            }
            _ => {}
        }
    }

    /// Dry-runs the Secret as it will be.
    pub(super) async fn preflight(&self) -> Result<Result<(), String>, Error> {
        let Ok(placeholder) = RawKey::parse(PLACEHOLDER.to_owned()) else { return Ok(Ok(())) };
        let id = "0".repeat(24);
        let record = SecretRecord {
            attempt: Some(Nonce::from_random([0; 7])),
            token_id: TokenId::parse(&id).ok(),
            issued_at: Some(self.ctx.now()),
            spec_hash: Some(desired(&*self.resource).scope.hash()),
            key_sha256: Some(placeholder.fingerprint(&id)),
            ..SecretRecord::default()
        };
        let view = self.view();
        let secret = Recipe::new(&*self.resource, &record, &placeholder, &view).secret(self.secret.as_ref());
        match self.secrets.write(&secret, true).await {
            Ok(_) => Ok(Ok(())),
            Err(kube::Error::Api(refusal)) if is_refusal(&refusal) => Ok(Err(words(&kube::Error::Api(refusal)))),
            Err(kube::Error::Api(refusal)) if is_race(&refusal) => Err(Error::Conflict("the Secret")),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn note_preflight(&self, outcome: Result<(), String>) {
        let mut memory = lock(&self.memory);
        let preflight = match outcome {
            Ok(()) => Preflight::Passed,
            Err(message) => Preflight::Refused(memory.refused(message, self.ctx.now())),
        };
        if let Some(unsent) = &mut memory.local.unsent {
            unsent.preflight = preflight;
        }
    }

    /// Sends the request.
    pub(super) async fn send(&mut self, nonce: Nonce, cause: Cause, rolls: Option<TokenId>, by: Timestamp) {
        let Desired { scope, requests, .. } = desired(&*self.resource);
        let marker =
            Marker { cluster: self.ctx.cluster.clone(), owner: self.resource.owner_id(), nonce: nonce.clone() };
        let new = NewToken {
            name: marker.name(&scope.token_name),
            permissions: scope.permissions.clone(),
            website_ids: scope.website_ids.clone(),
        };
        {
            let mut memory = lock(&self.memory);
            memory.local.unsent = None;
            memory.local.in_flight = Some(nonce.clone());
        }
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        let (spec_hash, kind, collection) = (scope.hash(), self.resource.kind(), self.resource.collection());
        self.call(async move {
            let start = Instant::now();
            let deadline = start + Duration::try_from(by.duration_since(ctx.now())).unwrap_or_default();
            let may_send = || ctx.leadership.may_act() && !ctx.requests.is_closed();
            let answer = match &rolls {
                None => account.create(&collection, &new, deadline, may_send).await,
                Some(token_id) => account.roll(&collection, token_id, &new, deadline, may_send).await,
            };
            log_answer(cause, rolls.is_some(), start.elapsed(), &answer);
            let now = ctx.now();
            {
                let mut memory = lock(&memory);
                memory.local.in_flight = None;
                match answer {
                    Ok(issued) => {
                        ctx.metrics.issued(kind, cause.as_str());
                        take_in(&mut memory, issued, Sent { nonce, spec_hash, requests, rolls }, now);
                    }
                    Err(error) => {
                        let sent = Sent { nonce, spec_hash, requests, rolls };
                        note_not_issued(&mut memory, error, sent, start.elapsed(), now);
                    }
                }
            }
            // The resource may have been deleted by force meanwhile.
            let orphan = {
                let memory = lock(&memory);
                memory.local.held.as_ref().filter(|_| memory.is_gone()).map(|held| held.token_id.clone())
            };
            if let Some(token_id) = orphan {
                give_up(&account, &collection, &token_id).await;
                lock(&memory).let_go();
            }
        })
        .await;
    }

    pub(super) async fn swap(&mut self, record: SecretRecord) -> Result<(), Error> {
        let Some(key) = lock(&self.memory).key() else {
            lock(&self.memory).let_go();
            return Ok(());
        };
        let view = self.view();
        let resource = self.resource.clone();
        let recipe = Recipe::new(&*resource, &record, &key, &view);
        let secret = recipe.secret(self.secret.as_ref());
        let display_key = &recipe.display_key;
        let was_there = self.secret.is_some();
        match self.secrets.write(&secret, false).await {
            Ok(written) => {
                self.secret = Some(written);
                {
                    let mut memory = lock(&self.memory);
                    memory.let_go();
                    memory.local.made_room = false;
                    memory.accepted();
                }
                let secret = self.resource.secret_name();
                let log = Log::read(self.resource.annotations(), self.ctx.now());
                let attempt = record.attempt.as_ref().and_then(|nonce| log.get(nonce));
                tracing::info!(
                    secret,
                    tokenId = record.token_id.as_ref().map(TokenId::as_str),
                    displayKey = display_key,
                    cause = attempt.map(|attempt| attempt.cause.as_str()),
                    durationMs = attempt.map(|attempt| millis(self.ctx.since(attempt.at))),
                    "the Secret holds a new key"
                );
                let note = format!("Key {display_key} is in Secret {secret:?}");
                self.tell(if was_there { "Rotated" } else { "Issued" }, &note);
            }
            // It may be our own write, answered twice: what is there now tells.
            Err(kube::Error::Api(refusal)) if is_race(&refusal) => self.read_secret().await?,
            Err(kube::Error::Api(refusal)) if is_refusal(&refusal) => {
                let mut memory = lock(&self.memory);
                let refused = memory.refused(key.redact_from(&words(&kube::Error::Api(refusal))), self.ctx.now());
                if let Some(held) = &mut memory.local.held {
                    held.refused = Some(refused);
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(super) fn key_in_secret(&self) -> Option<Arc<RawKey>> {
        super::observe::key_of(&*self.resource, self.secret.as_ref()?, self.ctx.now())
    }

    pub(super) async fn rewrite(&mut self, record: SecretRecord) -> Result<(), Error> {
        let Some(key) = self.key_in_secret() else { return Ok(()) };
        let view = self.view();
        let resource = self.resource.clone();
        let recipe = Recipe::new(&*resource, &record, &key, &view);
        let secret = recipe.secret(self.secret.as_ref());
        match self.secrets.write(&secret, false).await {
            Ok(written) => {
                let is_kept = !recipe.has_drifted(&written);
                self.secret = Some(written);
                let mut memory = lock(&self.memory);
                if !is_kept {
                    let why = "something in the cluster changes it as it is written".to_owned();
                    memory.local.rewrite = Some(memory.refused(why, self.ctx.now()));
                    return Ok(());
                }
                memory.local.rewrite = None;
                memory.accepted();
                let (secret, token_id) = (self.resource.secret_name(), record.token_id.as_ref());
                let proof = memory.local.proof.as_ref().filter(|proof| proof.proven);
                let is_proven = token_id.is_some() && proof.map(|proof| &proof.token_id) == token_id;
                let is_known = self.resource.status().is_some_and(|status| {
                    token_id.is_some_and(|token_id| status.token_id.as_deref() == Some(token_id.as_str()))
                });
                let token_id = token_id.map(TokenId::as_str);
                if is_proven && !is_known {
                    let display_key = &recipe.display_key;
                    tracing::info!(secret, tokenId = token_id, displayKey = display_key, "took the Secret's key over");
                } else {
                    tracing::info!(secret, tokenId = token_id, "the Secret was brought up to date");
                }
                Ok(())
            }
            Err(kube::Error::Api(refusal)) if is_race(&refusal) => self.read_secret().await,
            Err(kube::Error::Api(refusal)) if is_refusal(&refusal) => {
                let mut memory = lock(&self.memory);
                let refused = memory.refused(key.redact_from(&words(&kube::Error::Api(refusal))), self.ctx.now());
                memory.local.rewrite = Some(refused);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
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
            let may_exist = error.effect() != Effect::None;
            tracing::warn!(cause, durationMs = took, %error, mayExist = may_exist, "a request for a token failed");
        }
        Err(CallError::NotSent | CallError::TooLate) => {}
    }
}

/// What a request was sent for.
struct Sent {
    nonce: Nonce,
    spec_hash: String,
    requests: Requests,
    rolls: Option<TokenId>,
}

fn take_in(memory: &mut Memory, issued: Issued, sent: Sent, now: Timestamp) {
    let Sent { nonce, spec_hash, requests, rolls } = sent;
    memory.local.was_sent();
    // Without a key in the answer the token is of no use: the account's own snapshot shows it as lost. Asking again at
    // once would most likely get the same answer.
    let Some(key) = issued.key else {
        let refused = memory.refused("its answer held no key".to_owned(), now);
        memory.local.rejected = Some(Rejected { spec_hash, message: refused.message, retry_at: refused.retry_at });
        return;
    };
    memory.taken();
    memory.local.rejected = None;
    memory.local.held = Some(Held {
        nonce,
        key_sha256: key.fingerprint(issued.token.id.as_str()),
        token_id: issued.token.id,
        rolled: rolls.is_some(),
        since: now,
        spec_hash,
        requests,
        refused: None,
    });
    memory.keep(key);
}

/// Revokes a token whose resource was deleted without us: its key has nowhere to go.
pub(super) async fn give_up(account: &Account, collection: &Collection, token_id: &TokenId) {
    match account.revoke(collection, token_id).await {
        Ok(()) => tracing::info!(tokenId = %token_id, "revoked a token whose resource was deleted by force"),
        Err(_) => tracing::warn!(
            tokenId = %token_id,
            "a token whose resource was deleted by force could not be revoked: it is unclaimed"
        ),
    }
}

/// An attempt that surely made no token can be used again; one that may have is looked for by list.
fn note_not_issued(memory: &mut Memory, error: CallError, sent: Sent, waited: Duration, now: Timestamp) {
    let Sent { nonce, spec_hash, rolls, .. } = sent;
    let effect = match &error {
        CallError::NotSent => Effect::None,
        CallError::TooLate => {
            let waited = SignedDuration::try_from(waited).unwrap_or(SignedDuration::MAX);
            memory.local.came_too_late(LateCause::Turn, waited, now);
            Effect::None
        }
        CallError::DataFast(error) => {
            memory.local.was_sent();
            error.effect()
        }
    };
    if effect == Effect::None {
        memory.local.unsent = Some(Unsent { nonce, preflight: Preflight::Unknown });
    }
    let CallError::DataFast(error) = error else { return };
    let message = match (error, rolls) {
        (datafast::Error::Rejected { message, .. }, _) => message,
        // What is not there, or not ours, gets no other key: it is replaced.
        (datafast::Error::NotFound, Some(token_id)) => {
            memory.local.denied.insert(token_id, now);
            return;
        }
        // There is no such website any more.
        (error @ datafast::Error::NotFound, None) => error.to_string(),
        // The account's gate tells the rest.
        _ => return,
    };
    let retry_at = memory.rejected_until(now);
    memory.local.rejected = Some(Rejected { spec_hash, message, retry_at });
}

/// The API server understood, and said no: quota, admission, RBAC, validation.
fn is_refusal(status: &kube::core::Status) -> bool {
    (400..500).contains(&status.code) && status.code != 429 && !is_race(status)
}

/// Somebody else was faster.
fn is_race(status: &kube::core::Status) -> bool {
    status.is_conflict() || status.is_already_exists() || status.is_not_found() && !names_namespace(status)
}

/// 404 on a create is the namespace's.
fn names_namespace(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}
