//! What only this process knows of a resource: what is under way, and what came of the last tries.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::marker::Nonce;
use super::record::Requests;
use super::verdict::{Reason, Verdict};
use crate::datafast::TokenId;

/// After the first refusal; then twice as long each time,
const FIRST_REFUSAL_PAUSE: SignedDuration = SignedDuration::from_millis(100);
/// up to this.
const LONGEST_REFUSAL_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// What only this process knows of a resource. Losing it costs a token at most, never a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Local {
    /// A key that DataFast issued and that no Secret holds yet. The shell keeps the key itself.
    pub(super) pending: Option<PendingKey>,
    /// The attempt whose request is under way.
    pub(super) in_flight: Option<Nonce>,
    /// Another call to DataFast is under way.
    pub(super) is_calling: bool,
    /// A token was revoked to make room for one that no Secret holds yet.
    pub(super) made_room: bool,
    /// An attempt that was recorded and has certainly made no token: not sent, or refused.
    pub(super) unsent: Option<Unsent>,
    /// Requests that came too late to be sent, since the last one that was.
    pub(super) late: Option<Late>,
    /// The last refusal of a Secret that was to be written again.
    pub(super) rewrite: Option<Refused>,
    /// The Secret had to be written again, perhaps because something else changes it each time.
    pub(super) contest: Option<Contest>,
    /// The last refusal to have the finalizer put on, or taken off.
    pub(super) finalizer: Option<Refused>,
    /// Why DataFast refused, for which scope, and when to ask again.
    pub(super) rejected: Option<Rejected>,
    /// Why DataFast could not serve the last request for a key, and when to send another.
    pub(super) unserved: Option<Refused>,
    /// The last call that was to prove a Secret's key, and that neither proved nor refuted it.
    pub(super) unproved: Option<Refused>,
    /// Whether a Secret's key proved to be a token's.
    pub(super) proof: Option<Proof>,
    /// Tokens whose deletion DataFast answered with 404, and when.
    pub(super) denied: BTreeMap<TokenId, Timestamp>,
    /// Since when this process has seen the resource.
    pub(super) watched: Option<Watched>,
    /// Since when this process has seen tokens retire.
    pub(super) retired: BTreeMap<TokenId, Watched>,
    /// Since when the Secret has had the key for which workloads have been restarted.
    pub(super) restarted: Option<Timestamp>,
    /// Refusals in a row by the API server, or of calls that were to prove a key.
    pub(super) refusals: u32,
    /// Requests for a key in a row that DataFast refused, or could not serve.
    pub(super) rejections: u32,
    /// The attempt whose cause people have been told.
    pub(super) announced: Option<Nonce>,
    /// Nothing of the resource is left but its finalizer, which is taken off.
    pub(super) is_released: bool,
    /// The resource is gone: what is under way for it has nowhere to go.
    pub(super) is_gone: bool,
}

impl Local {
    /// Whether the resource is gone.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether a key that DataFast issued is still to be written into a Secret.
    pub fn has_pending_key(&self) -> bool {
        self.pending.is_some()
    }

    /// The attempt whose key that is, and its fingerprint.
    pub fn pending(&self) -> Option<&PendingKey> {
        self.pending.as_ref()
    }

    /// The attempt whose request for a key is under way.
    pub fn sending(&self) -> Option<&Nonce> {
        self.in_flight.as_ref()
    }

    /// The attempt that was recorded, and whose request is still to be sent.
    pub fn to_send(&self) -> Option<&Nonce> {
        self.unsent.as_ref().map(|unsent| &unsent.nonce)
    }

    /// Whether the Secret's key proved to be that of this token.
    pub fn has_proven(&self, token_id: &TokenId) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.proven && proof.token_id == *token_id)
    }

    /// Whether something must be finished before the process ends.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some() || self.in_flight.is_some()
    }

    /// How long the resource, and tokens of it that retire, have been seen by the steady clock.
    pub fn tick(&mut self, now: Now) {
        let watched = self.watched.get_or_insert(Watched::begin(now));
        for watched in self.retired.values_mut().chain([watched]) {
            watched.lasted = now.steady - watched.since;
        }
    }

    /// A refusal, and when to try again: soon at first, then every minute.
    pub(super) fn refused(&mut self, message: String, now: Timestamp) -> Refused {
        let doubled = FIRST_REFUSAL_PAUSE * (1 << self.refusals.min(10));
        let pause = doubled.min(LONGEST_REFUSAL_PAUSE);
        self.refusals = self.refusals.saturating_add(1);
        Refused { message, retry_at: now.saturating_add(pause).unwrap_or(Timestamp::MAX) }
    }

    /// These tokens retire, and no others.
    pub(super) fn retire(&mut self, tokens: Vec<TokenId>, now: Now) {
        let mut before = std::mem::take(&mut self.retired);
        let mut watched = |id: &TokenId| before.remove(id).unwrap_or(Watched::begin(now));
        self.retired = tokens.into_iter().map(|id| (watched(&id), id)).map(|(watched, id)| (id, watched)).collect();
    }
}

/// A time by both clocks: the wall clock, and one that nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The steady clock, since some moment.
    pub steady: SignedDuration,
}

/// How long this process has seen something, by a clock that nobody can set: so that no token goes too early because
/// the wall clock went ahead for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watched {
    /// The wall clock when it was first seen.
    pub first: Timestamp,
    /// The steady clock then.
    pub(super) since: SignedDuration,
    /// How long ago that is, by the steady clock.
    pub lasted: SignedDuration,
}

impl Watched {
    fn begin(now: Now) -> Self {
        Self { first: now.wall, since: now.steady, lasted: SignedDuration::ZERO }
    }

    /// How long ago something was that happened at `since`, by the more cautious of both clocks.
    pub fn elapsed(watched: Option<&Self>, since: Timestamp, now: Timestamp) -> SignedDuration {
        let by_wall = now.duration_since(since);
        let Some(watched) = watched else { return by_wall };
        let before = watched.first.duration_since(since).max(SignedDuration::ZERO);
        // What was seen for so long is at least as old, whatever the wall clock says.
        by_wall.min(before.saturating_add(watched.lasted)).max(watched.lasted)
    }
}

/// A key on its way into the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingKey {
    /// Its attempt.
    pub nonce: Nonce,
    /// Its token.
    pub token_id: TokenId,
    /// It is another key of a token that had one before.
    pub rolled: bool,
    /// When it was issued.
    pub since: Timestamp,
    /// [`super::record::Scope::hash`] of what was asked for.
    pub spec_hash: String,
    /// [`crate::datafast::RawKey::fingerprint`] of it.
    pub key_sha256: String,
    /// What was asked for when its request was sent.
    pub requests: Requests,
    /// The last refusal of the Secret.
    pub refused: Option<Refused>,
}

/// Something that failed, and is worth another try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// The words of who refused it.
    pub message: String,
    /// When to try again.
    pub retry_at: Timestamp,
}

/// What is asked of a Secret, whatever is in it now. Where this is another than before, the Secret is written because of
/// that, and not because somebody changed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// [`super::observed::Drift::template`].
    pub template: String,
    /// The token whose key it holds.
    pub token_id: TokenId,
    /// As DataFast shows that key.
    pub display_key: String,
    /// [`super::record::Scope::hash`] of what is asked for.
    pub spec_hash: String,
    /// It becomes the resource's own.
    pub takes_over: bool,
}

/// The Secret was written again with the key that it holds. Whoever changes it each time must not have it written in a
/// hot loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contest {
    /// What was asked of it.
    pub asked: Asked,
    /// How often it was written again for that, without an hour of quiet between.
    pub times: u32,
    /// The last time.
    pub at: Timestamp,
    /// The API server stored what was written. Otherwise something in the cluster changes it on the way.
    pub as_written: bool,
    /// What was reported of it since then. It is said again in the same words, whatever is changed meanwhile, so that
    /// nobody has status written in a hot loop.
    pub said: Option<String>,
}

impl Contest {
    const LONGEST_PAUSE_MINUTES: i64 = 60;
    const QUIET: SignedDuration = SignedDuration::from_hours(1);

    /// It was written again, perhaps not for the first time.
    pub(super) fn again(before: Option<&Self>, asked: Asked, as_written: bool, now: Timestamp) -> Self {
        let goes_on = |before: &&Self| before.asked == asked && now.duration_since(before.not_before()) < Self::QUIET;
        let times = before.filter(goes_on).map_or(0, |before| before.times).saturating_add(1);
        Self { asked, times, at: now, as_written, said: None }
    }

    /// This was reported of the resource, perhaps the contest itself.
    pub(super) fn reported(&mut self, verdict: &Verdict) {
        if verdict.reason == Reason::SecretContested {
            self.said.get_or_insert_with(|| verdict.message.clone());
        }
    }

    /// The earliest time to write it again: 1, 2, 4 … 60 minutes after the last time.
    pub(super) fn not_before(&self) -> Timestamp {
        let minutes = Self::LONGEST_PAUSE_MINUTES.min(1 << self.times.saturating_sub(1).min(6));
        self.at.saturating_add(SignedDuration::from_mins(minutes)).unwrap_or(Timestamp::MAX)
    }
}

/// An attempt that has made no token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unsent {
    /// Its nonce.
    pub nonce: Nonce,
    /// What the dry run of the Secret said.
    pub preflight: Preflight,
}

/// An attempt grew too old before its request was sent, so that it has to be recorded again: with an ever longer pause, for
/// whoever is slow must not be given more and more to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    /// What took so long.
    pub cause: LateCause,
    /// How long it took the last time.
    pub took: SignedDuration,
    /// How often in a row.
    pub times: u32,
    /// The attempt is not recorded again before.
    pub retry_at: Timestamp,
}

/// What an attempt grew too old for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LateCause {
    /// The API server's answers to the record and to the dry run.
    ApiServer,
    /// A turn among the account's calls to DataFast.
    Turn,
}

impl Late {
    const LONGEST_PAUSE_MINUTES: i64 = 60;

    /// It came too late, perhaps not for the first time: the attempt is recorded again at once, then after 1, 2, 4 … 60
    /// minutes.
    pub(super) fn again(before: Option<&Self>, cause: LateCause, took: SignedDuration, now: Timestamp) -> Self {
        let times = before.map_or(0, |late| late.times);
        let minutes = match times {
            0 => 0,
            n => Self::LONGEST_PAUSE_MINUTES.min(1 << (n - 1).min(6)),
        };
        let retry_at = now.saturating_add(SignedDuration::from_mins(minutes)).unwrap_or(Timestamp::MAX);
        Self { cause, took, times: times.saturating_add(1), retry_at }
    }
}

/// What is known of the Secret's chance to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Preflight {
    /// Nothing.
    Unknown,
    /// The dry run passed.
    Passed,
    /// The dry run was refused.
    Refused(Refused),
}

/// A request that DataFast refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejected {
    /// [`super::record::Scope::hash`] of what was asked for.
    pub spec_hash: String,
    /// DataFast's words.
    pub message: String,
    /// By its words the account may be full; only a list can tell.
    pub may_be_full: bool,
    /// When to ask again, for it may be the account that was changed.
    pub retry_at: Timestamp,
}

/// The outcome of a call with the key that a Secret holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proof {
    /// The token whose key it should be.
    pub token_id: TokenId,
    /// [`crate::datafast::RawKey::fingerprint`] of the key that was tried.
    pub key_sha256: String,
    /// Whether DataFast took it.
    pub proven: bool,
    /// When that was.
    pub at: Timestamp,
}
