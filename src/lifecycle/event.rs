//! What happened, and what it means: every outcome of the shell's requests is an [`Event`], and [`Local::apply`] is the one
//! place that says what follows from it.

use jiff::{SignedDuration, Timestamp};

use super::decision::RevokeCause;
pub use super::local::Now;
use super::local::{Asked, Contest, Late, LateCause, Local, PendingKey, Preflight, Proof, Refused, Rejected, Unsent};
use super::marker::Nonce;
use super::record::{Attempt, Cause, Requests};
use super::verdict::Verdict;
use crate::datafast::{self, Effect as RequestEffect, TokenId};

/// What DataFast could not serve is asked again after this, then twice as long each time,
const FIRST_UNSERVED_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// up to this.
const LONGEST_UNSERVED_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// What DataFast refused is asked again after 1, 2, 4 … minutes, up to this.
const LONGEST_REJECTION_MINUTES: i64 = 60;

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

/// Something that happened to a resource, as far as it concerns what this process knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An attempt is about to be recorded. Its answer may be lost, and a watch still show that it was.
    Recording {
        /// The attempt.
        nonce: Nonce,
    },
    /// An attempt was recorded.
    Recorded {
        /// The attempt, as it is in the log.
        attempt: Attempt,
        /// How long the API server took for that and for the dry run beside it.
        took: SignedDuration,
        /// How long an unanswered request may still take effect.
        horizon: SignedDuration,
    },
    /// A dry run of the Secret was answered.
    DryRun(Result<(), Refusal>),
    /// A request for a key is about to be sent.
    Sending {
        /// Of this attempt.
        nonce: Nonce,
    },
    /// A request for a key has ended.
    Sent {
        /// What was asked for.
        order: Order,
        /// What came of it.
        answer: Answer,
    },
    /// The Secret was written with the pending key.
    SecretWritten,
    /// The API server refused the Secret with the pending key.
    SecretRefused(Refusal),
    /// The Secret was seen to hold the pending key: a write had succeeded though its answer was lost.
    KeyArrived,
    /// The pending key is no longer wanted; its token stays, and gets another one.
    KeyDropped,
    /// The Secret was written again with the key that it holds.
    SecretRewritten {
        /// What is asked of it.
        asked: Asked,
        /// The API server stored what was written. Otherwise something in the cluster changes it on the way.
        as_written: bool,
    },
    /// This is reported of the resource.
    Reported(Verdict),
    /// The API server refused to have the Secret written again.
    RewriteRefused(Refusal),
    /// A call to DataFast about a token that exists is about to be sent.
    Calling,
    /// DataFast answered to the key in the Secret.
    Tried {
        /// The token whose key it should be.
        token_id: TokenId,
        /// [`crate::datafast::RawKey::fingerprint`] of the key.
        key_sha256: String,
        /// Whether it took the key; or why that is not known, where the call was sent at all.
        outcome: Result<bool, Option<String>>,
    },
    /// A request to revoke a token has ended.
    Revoked {
        /// The token.
        token_id: TokenId,
        /// Why it was to go.
        cause: RevokeCause,
        /// What came of it; nothing where the request was not sent.
        outcome: Result<(), Option<datafast::Error>>,
    },
    /// What came of a call to DataFast will never be known: a defect ended it.
    CallLost,
    /// The workloads were restarted for the key that the Secret has had since then.
    Restarted {
        /// Since when.
        at: Timestamp,
    },
    /// These tokens retire.
    Retiring(Vec<TokenId>),
    /// The account got another credential.
    CredentialChanged,
    /// The finalizer was put on.
    FinalizerAdded,
    /// The finalizer is about to be taken off: nothing else of the resource is left.
    Releasing,
    /// The API server refused to have the finalizer put on, or taken off.
    FinalizerRefused(Refusal),
    /// The resource is gone, be it without us.
    Vanished,
    /// The process is to end: no refusal is waited out.
    Ending,
}

/// Why the API server refused something, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// What a request for a key was sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The attempt.
    pub nonce: Nonce,
    /// [`super::record::Scope::hash`] of what was asked for.
    pub spec_hash: String,
    /// What users asked for by then.
    pub requests: Requests,
    /// The token that was to get another key; none: a new token.
    pub rolls: Option<TokenId>,
}

/// What came of a request for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A token, and the fingerprint of its key where the answer pending one.
    Issued {
        /// The token.
        token_id: TokenId,
        /// [`crate::datafast::RawKey::fingerprint`] of the key.
        key_sha256: Option<String>,
    },
    /// It failed.
    Failed(datafast::Error),
    /// It was not sent: the account is closed or full, or this process may not act any more.
    NotSent,
    /// It was not sent: its turn did not come in time, after so long.
    TooLate(SignedDuration),
}

/// What the shell has to do because of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell people why a token is issued in place of one that was there: once for each attempt.
    Announce(Cause),
    /// Tell people that the finalizer can't be changed, and why.
    TellRefusal(String),
    /// Revoke a token that has nowhere to go: its resource was deleted without us.
    RevokeOrphan(TokenId),
    /// Clear away what a resource has left behind that was deleted without us, and the token whose key was pending.
    ClearAway(Option<TokenId>),
}

impl Local {
    /// Takes note of an event. What it does not name stays as it was.
    pub fn apply(&mut self, event: Event, now: Now) -> Option<Effect> {
        let at = now.wall;
        match event {
            Event::Recording { nonce } => self.unsent = Some(Unsent { nonce, preflight: Preflight::Unknown }),
            Event::Recorded { attempt, took, horizon } => return self.recorded(&attempt, took, horizon, at),
            Event::DryRun(outcome) => self.dry_run(outcome, at),
            Event::Sending { nonce } => (self.unsent, self.in_flight) = (None, Some(nonce)),
            Event::Sent { order, answer } => return self.sent(order, answer, at),
            Event::SecretWritten | Event::KeyArrived => {
                (self.pending, self.made_room, self.refusals) = (None, false, 0);
            }
            Event::SecretRefused(refusal) => {
                let refused = self.refused(refusal.0, at);
                self.pending.iter_mut().for_each(|pending| pending.refused = Some(refused.clone()));
            }
            Event::KeyDropped => self.pending = None,
            Event::SecretRewritten { asked, as_written } => {
                (self.rewrite, self.refusals) = (None, 0);
                self.contest = Some(Contest::again(self.contest.as_ref(), asked, as_written, at));
            }
            Event::Reported(verdict) => self.contest.iter_mut().for_each(|contest| contest.reported(&verdict)),
            Event::RewriteRefused(refusal) => self.rewrite = Some(self.refused(refusal.0, at)),
            Event::Calling => self.is_calling = true,
            Event::CallLost => (self.in_flight, self.is_calling) = (None, false),
            Event::Tried { token_id, key_sha256, outcome } => self.tried(token_id, key_sha256, outcome, at),
            Event::Revoked { token_id, cause, outcome } => self.revoked(token_id, cause, outcome, at),
            Event::Restarted { at } => self.restarted = Some(at),
            Event::Retiring(tokens) => self.retire(tokens, now),
            // What was refused to the old one may be granted to the new one.
            Event::CredentialChanged => {
                (self.rejected, self.unserved, self.unproved, self.proof) = (None, None, None, None);
                self.denied.clear();
            }
            Event::FinalizerAdded => (self.finalizer, self.refusals) = (None, 0),
            Event::Releasing => self.is_released = true,
            Event::FinalizerRefused(refusal) => return self.finalizer_refused(refusal, at),
            Event::Vanished => {
                self.is_gone = true;
                let pending = self.pending.take().map(|pending| pending.token_id);
                return (!self.is_released).then_some(Effect::ClearAway(pending));
            }
            Event::Ending => self.pending.iter_mut().for_each(|pending| pending.refused = None),
        }
        None
    }

    fn recorded(
        &mut self,
        attempt: &Attempt,
        took: SignedDuration,
        horizon: SignedDuration,
        now: Timestamp,
    ) -> Option<Effect> {
        if now > attempt.send_by(horizon) {
            self.came_too_late(LateCause::ApiServer, took, now);
        }
        let is_first = self.announced.replace(attempt.nonce.clone()).as_ref() != Some(&attempt.nonce);
        is_first.then_some(Effect::Announce(attempt.cause))
    }

    fn dry_run(&mut self, outcome: Result<(), Refusal>, now: Timestamp) {
        let preflight = match outcome {
            Ok(()) => Preflight::Passed,
            Err(refusal) => Preflight::Refused(self.refused(refusal.0, now)),
        };
        self.unsent.iter_mut().for_each(|unsent| unsent.preflight = preflight.clone());
    }

    fn sent(&mut self, order: Order, answer: Answer, now: Timestamp) -> Option<Effect> {
        self.in_flight = None;
        match answer {
            Answer::Issued { token_id, key_sha256 } => {
                self.late = None;
                self.issued(order, token_id, key_sha256, now);
                return self.pending.take_if(|_| self.is_gone).map(|pending| Effect::RevokeOrphan(pending.token_id));
            }
            Answer::Failed(error) => {
                self.late = None;
                self.failed(order, error, now);
            }
            Answer::NotSent => self.unsent = Some(Unsent { nonce: order.nonce, preflight: Preflight::Unknown }),
            Answer::TooLate(waited) => {
                self.unsent = Some(Unsent { nonce: order.nonce, preflight: Preflight::Unknown });
                self.came_too_late(LateCause::Turn, waited, now);
            }
        }
        None
    }

    fn issued(&mut self, order: Order, token_id: TokenId, key_sha256: Option<String>, now: Timestamp) {
        let Order { nonce, spec_hash, requests, rolls } = order;
        // Without a key in the answer the token is of no use: the account's own snapshot shows it as lost. Asking again at
        // once would most likely get the same answer.
        let Some(key_sha256) = key_sha256 else {
            let Refused { message, retry_at } = self.refused("its answer held no key".into(), now);
            self.rejected = Some(Rejected { spec_hash, message, may_be_full: false, retry_at });
            return;
        };
        (self.rejected, self.unserved, self.rejections) = (None, None, 0);
        let rolled = rolls.is_some();
        self.pending =
            Some(PendingKey { nonce, token_id, rolled, since: now, spec_hash, key_sha256, requests, refused: None });
    }

    /// An attempt that surely made no token can be used again; one that may have is looked for by list.
    fn failed(&mut self, order: Order, error: datafast::Error, now: Timestamp) {
        let Order { nonce, spec_hash, rolls, .. } = order;
        if error.effect() == RequestEffect::None {
            self.unsent = Some(Unsent { nonce, preflight: Preflight::Unknown });
        }
        let may_be_full = matches!(error, datafast::Error::Full { .. });
        let message = match (error, rolls) {
            (datafast::Error::Rejected { message, .. } | datafast::Error::Full { message }, _) => message,
            (datafast::Error::Unavailable { reason, effect: RequestEffect::Unknown }, _) => {
                let pause = FIRST_UNSERVED_PAUSE * (1 << self.rejections.min(10));
                self.rejections = self.rejections.saturating_add(1);
                let retry_at = later(now, pause.min(LONGEST_UNSERVED_PAUSE));
                self.unserved = Some(Refused { message: reason, retry_at });
                return;
            }
            // What is not there, or not ours, gets no other key: it is replaced.
            (datafast::Error::NotFound, Some(token_id)) => {
                self.denied.insert(token_id, now);
                return;
            }
            // There is no such website any more.
            (error @ datafast::Error::NotFound, None) => error.to_string(),
            // What concerns the whole account is in the account's state.
            _ => return,
        };
        // A slot may be free any time.
        let most = if may_be_full { 1 } else { LONGEST_REJECTION_MINUTES };
        let minutes = most.min(1 << self.rejections.min(6));
        self.rejections = self.rejections.saturating_add(1);
        let retry_at = later(now, SignedDuration::from_mins(minutes));
        self.rejected = Some(Rejected { spec_hash, message, may_be_full, retry_at });
    }

    fn tried(&mut self, token_id: TokenId, key_sha256: String, outcome: Result<bool, Option<String>>, at: Timestamp) {
        self.is_calling = false;
        match outcome {
            Ok(proven) => (self.proof, self.unproved) = (Some(Proof { token_id, key_sha256, proven, at }), None),
            // The account may stay open: a refusal of this call says nothing of others.
            Err(Some(why)) => self.unproved = Some(self.refused(why, at)),
            Err(None) => {}
        }
    }

    fn revoked(
        &mut self,
        token_id: TokenId,
        cause: RevokeCause,
        outcome: Result<(), Option<datafast::Error>>,
        now: Timestamp,
    ) {
        self.is_calling = false;
        match outcome {
            Ok(()) => {
                self.denied.remove(&token_id);
                self.made_room |= cause == RevokeCause::MadeRoom;
            }
            Err(Some(datafast::Error::NotFound | datafast::Error::Rejected { .. })) => {
                self.denied.insert(token_id.clone(), now);
            }
            // What concerns the whole account is in the account's state.
            Err(_) => return,
        }
        self.pending.take_if(|pending| pending.token_id == token_id);
    }

    /// Each way of being refused is worth telling once.
    fn finalizer_refused(&mut self, refusal: Refusal, now: Timestamp) -> Option<Effect> {
        let refused = self.refused(refusal.0, now);
        let before = self.finalizer.replace(refused.clone());
        let is_news = before.is_none_or(|before| before.message != refused.message);
        is_news.then_some(Effect::TellRefusal(refused.message))
    }

    /// A request could not be sent in time. The attempt is recorded again at once, then after 1, 2, 4 … 60 minutes.
    fn came_too_late(&mut self, cause: LateCause, took: SignedDuration, now: Timestamp) {
        self.late = Some(Late::again(self.late.as_ref(), cause, took, now));
    }
}
