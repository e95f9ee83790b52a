//! What is seen of one resource, its Secret and its account: plain data, and what can be read off it directly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::allow::{Allow, Standing};
use super::desired::Rotation;
use super::local::Local;
use super::marker::{Nonce, OwnerId};
use super::queue::{RateWindow, Slots};
use super::record::{Attempt, Log, Request, Requests, SecretRecord};
use super::snapshot::Snapshot;
use super::windows::Windows;
use crate::datafast::{Flaw, RawKey, TokenId};

/// All that is known of one resource at one time.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// Names, for messages.
    pub names: Names<'a>,
    /// The resource.
    pub owner: OwnerId,
    /// Whether it has our finalizer.
    pub has_finalizer: bool,
    /// Its log of attempts.
    pub log: Log,
    /// Its status, as last written.
    pub status: StatusRecord,
    /// Its Secret.
    pub secret: SecretView,
    /// Its account.
    pub account: AccountView<'a>,
    /// What only this process knows.
    pub local: &'a Local,
    /// Tokens that another resource has, by what is known of both ([`super::ownership::Evidence`]), with its kind, namespace
    /// and name.
    pub taken: BTreeMap<TokenId, String>,
    /// Whether all resources have been seen since the start: until then, one that has a token may be out of sight.
    pub sees_all: bool,
    /// Tokens without its marker that it has taken over, by its log.
    pub adopted: BTreeSet<TokenId>,
    /// How long an unanswered request may still take effect, and how long a list may lag.
    pub horizon: SignedDuration,
}

/// Names for messages.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The resource, as its Secret names it.
    pub owner: &'a str,
    /// The Secret.
    pub secret: &'a str,
    /// The entry in the Secret that holds the raw key.
    pub key: &'a str,
    /// The account resource.
    pub account: &'a str,
    /// The website that its key belongs to; none: it is the account's own.
    pub website: Option<&'a str>,
}

/// The ids in the resource's status: tenants can't write there, so an id in it is a licence to revoke, where it is not the
/// status of another one that was restored ([`Observed::may_revoke`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatusRecord {
    /// `status.tokenId`.
    pub token_id: Option<TokenId>,
    /// The attempt in the marker of `status.tokenName`: it belongs to `token_id`.
    pub attempt: Option<Nonce>,
    /// The resource that this marker names: another one where status was restored, or copied.
    pub marked: Option<OwnerId>,
    /// `status.retiring`.
    pub retiring: BTreeSet<TokenId>,
    /// `revokeAfter` of these, in whole seconds.
    pub revoke_after: BTreeMap<TokenId, Timestamp>,
    /// Whether `Ready` is true.
    pub ready: bool,
    /// Since when it says that something is to be done.
    pub waiting_since: Option<Timestamp>,
    /// `status.issuedAt`, in whole seconds.
    pub issued_at: Option<Timestamp>,
    /// `status.rotateRequest`.
    pub rotate_request: Option<Request>,
    /// `status.lastUsedAt` of `token_id`, in whole seconds.
    pub last_used_at: Option<Timestamp>,
    /// `status.unusedSince`, in whole seconds.
    pub unused_since: Option<Timestamp>,
}

impl StatusRecord {
    /// Whether status names the token.
    pub fn names(&self, id: &TokenId) -> bool {
        self.token_id.as_ref() == Some(id) || self.retiring.contains(id)
    }

    /// Whether something at DataFast may be the resource's own, by its status and its log.
    pub fn has_something_to_lose(&self, log: &Log) -> bool {
        self.token_id.is_some() || !self.retiring.is_empty() || !log.0.is_empty()
    }
}

/// The Secret that the resource names.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them at a time")]
pub enum SecretView {
    /// There is none.
    Missing,
    /// There is one.
    Present(SecretFacts),
}

/// Whose a Secret says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOwner {
    /// This resource.
    This,
    /// One of this resource's kind and name. Older Secrets tell no more.
    Namesake,
    /// One of this resource's kind and name that is no longer there: it came before this one, or elsewhere, and the Secret
    /// was kept, restored or copied.
    Former,
    /// A resource of another namespace that is there: this is a copy of its Secret.
    Copy {
        /// Its kind, namespace and name.
        of: String,
    },
    /// Another resource.
    Other(String),
    /// Another resource that is not there any more.
    Gone(String),
    /// Nobody that we know.
    Nobody,
}

/// How a Secret differs from what the resource asks for, its record aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The labels, annotations and entries that differ, by name; never a value.
    pub differs: Vec<String>,
    /// The field manager that wrote them, or else the last one to write anything, beside this operator.
    pub last_writer: Option<String>,
    /// A fingerprint of what the Secret is made from: of the spec, and of nothing that is in the Secret.
    pub template: String,
}

/// A Secret, read.
#[derive(Clone, Debug)]
pub struct SecretFacts {
    /// Whose it is.
    pub owner: SecretOwner,
    /// Its annotations.
    pub record: SecretRecord,
    /// The raw key in it, if there is one that could be.
    pub key: Option<Arc<RawKey>>,
    /// What the entry that should have it holds instead.
    pub flaw: Option<Flaw>,
    /// How it differs from what the resource asks for.
    pub drift: Drift,
}

/// Whether calls to DataFast are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes.
    Open,
    /// Not yet known: the account's first list is under way.
    Connecting,
    /// There is no such account resource.
    NotFound,
    /// Its credential is missing or refused, or it has not connected yet. The text says which.
    NotReady(String),
    /// DataFast told us to wait.
    RateLimited,
    /// DataFast does not answer as it should.
    Unavailable(String),
    /// DataFast refuses to list what the resource's token would be among; its words.
    Refused(String),
}

/// What a resource sees of its account.
#[derive(Clone, Debug)]
pub struct AccountView<'a> {
    /// Whether calls are possible.
    pub availability: Availability,
    /// The account's tokens; none before the first list.
    pub snapshot: Option<&'a Snapshot>,
    /// Its slots; none before the first list.
    pub slots: Option<Slots>,
    /// Its rate window; none where none is known.
    pub window: Option<RateWindow>,
    /// What it allows; none where that is not known.
    pub allow: Option<&'a Allow>,
    /// When rotations of its resources may begin; none where that is not known.
    pub windows: Option<&'a Windows>,
    /// Where the resource stands among its users.
    pub standing: Standing,
}

/// When a token is to be replaced for its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// At this time.
    pub at: Timestamp,
    /// Where windows have it sooner, not before this time.
    pub earliest: Timestamp,
    /// It is as old as `every` then.
    pub most: Timestamp,
    /// So much sooner it may be without windows: a twentieth of `every`.
    pub slack: SignedDuration,
}

impl Observed<'_> {
    pub(super) fn key(&self) -> Option<&RawKey> {
        match &self.secret {
            SecretView::Present(facts) => facts.key.as_deref(),
            SecretView::Missing => None,
        }
    }

    /// The record in a Secret that is this resource's own.
    pub fn secret_record(&self) -> Option<&SecretRecord> {
        match &self.secret {
            SecretView::Present(facts) if self.is_own(facts) => Some(&facts.record),
            _ => None,
        }
    }

    /// Whether something at DataFast may be its own, or a Secret is: what has nothing to lose needs no finalizer.
    pub fn has_something_to_lose(&self) -> bool {
        self.status.has_something_to_lose(&self.log) || self.secret_record().is_some() || self.local.is_busy()
    }

    /// What of the users' requests is answered by the last key: its Secret tells, and the log, so that whoever edits the
    /// one has nothing issued again. Without either, status remembers the last request.
    pub fn answered(&self) -> Vec<Requests> {
        let record = self.secret_record();
        let attempt = record.map_or(self.status.attempt.as_ref(), |record| record.attempt.as_ref());
        let is_its = |logged: &&Attempt| attempt == Some(&logged.nonce) || self.gave_former_key(logged);
        let by_log = self.log.0.iter().filter(is_its).map(|attempt| attempt.requests.clone());
        let answered: Vec<Requests> = record.map(|record| record.answered.clone()).into_iter().chain(by_log).collect();
        let last = &self.status.rotate_request;
        match answered.is_empty() {
            true => vec![Requests { rotate: last.clone(), revoke_now: last.clone() }],
            false => answered,
        }
    }

    /// Whether an attempt gave the token that status names a key that a Secret held. Where that Secret is gone, status and
    /// the log are what is left to tell.
    pub fn gave_former_key(&self, attempt: &Attempt) -> bool {
        let Local { pending, unsent, .. } = self.local;
        let in_hand = [pending.as_ref().map(|pending| &pending.nonce), unsent.as_ref().map(|unsent| &unsent.nonce)];
        let is_told = |told: Timestamp| attempt.at.as_second() <= told.as_second();
        self.secret_record().is_none()
            && attempt.rolls.is_some()
            && attempt.rolls == self.status.token_id
            && self.status.issued_at.is_some_and(is_told)
            && !in_hand.contains(&Some(&attempt.nonce))
    }

    /// When the Secret's token is to be replaced, windows aside, so that no key gets older than `every`: up to 5 % sooner, so
    /// that tokens that were created together are not replaced together. But not before a former token's overlap has ended by
    /// then, which may be as long as `every`.
    pub fn due(&self, rotation: &Rotation) -> Option<Due> {
        let every = rotation.every?;
        let slack = SignedDuration::from_secs(every.as_secs() / 20);
        let spread = slack.as_secs().saturating_mul(self.owner.spread().into()) / i64::from(u16::MAX);
        let overlap = rotation.max_overlap.unwrap_or(rotation.overlap).min(every);
        let after = every.saturating_sub(SignedDuration::from_secs(spread)).max(overlap);
        let record = self.secret_record()?;
        let attempt = record.attempt.as_ref().and_then(|nonce| self.log.get(nonce));
        // Whoever edits the Secret's record does not have it replaced again and again.
        let issued_at = record.issued_at.into_iter().chain(attempt.map(|attempt| attempt.at)).max()?;
        let later = |by: SignedDuration| issued_at.saturating_add(by).unwrap_or(Timestamp::MAX);
        let at = issued_at.checked_add(after).ok()?;
        Some(Due { at, earliest: later(overlap.max(slack)), most: later(every), slack })
    }

    /// An attempt to give a token another key that may have done so, though no Secret ever held that. A list does not tell
    /// who did it: who gives a key by hand leaves no attempt.
    pub fn lost_roll(&self) -> Option<&Attempt> {
        self.log.0.iter().rev().find(|attempt| self.is_lost_roll(attempt))
    }

    /// Whether an attempt is such a one: the Secret's came before it, or it may take effect late.
    pub fn is_lost_roll(&self, attempt: &Attempt) -> bool {
        let Some(record) = self.secret_record() else { return false };
        let of = |nonce: Option<&Nonce>| self.log.0.iter().position(|logged| Some(&logged.nonce) == nonce);
        let (held, this) = (of(record.attempt.as_ref()), of(Some(&attempt.nonce)));
        let is_later = this > held || self.log.current() == Some(attempt);
        let begun = self.account.snapshot.map(Snapshot::begun);
        let is_late = || begun.is_some_and(|begun| begun.duration_since(attempt.at) < self.horizon);
        let is_unsent = self.local.unsent.as_ref().is_some_and(|unsent| unsent.nonce == attempt.nonce);
        attempt.rolls.is_some() && this != held && !is_unsent && (is_later || is_late())
    }

    /// Whether the Secret's key came by another key for its token, and so lately that lists may still show the last one.
    pub fn is_rolled_lately(&self, record: &SecretRecord, snapshot: &Snapshot) -> bool {
        let attempt = record.attempt.as_ref().and_then(|nonce| self.log.get(nonce));
        attempt.is_some_and(|attempt| {
            attempt.rolls.is_some() && snapshot.begun().duration_since(attempt.at) < self.horizon
        })
    }

    /// When the Secret's token was issued, as far as can be told; long ago where nothing tells.
    pub fn issued_at(&self, record: &SecretRecord) -> Timestamp {
        let recorded = record.attempt.as_ref().and_then(|nonce| self.log.get(nonce)).map(|a| a.at);
        recorded.or(record.issued_at).unwrap_or(Timestamp::MIN)
    }
}
