//! The judgement: one resource, as wanted and as seen, and the next thing to do about it.
//!
//! [`RULES`] reads as a table of contents. The first rule that has something to say decides.

use jiff::{SignedDuration, Timestamp};

use super::ending::{self, expired};
use super::holding::Holding;
use super::issuing::{swapped, token_needed, waiting};
use super::look::{Look, desired_scope_fits};
use super::marker::Nonce;
use super::observed::{Desired, Gate, Observed, SecretView};
use super::queue::Waiting;
use super::record::{Attempt, Cause, SecretRecord};
use super::snapshot::Listed;
use super::superseded::{Retirement, next_retirement, retiring, superseded_tokens};
use super::verdict::{Reason, Verdict};
use crate::datafast::TokenId;

/// A key that no Secret took for this long is given up, and its token revoked.
pub const UNDELIVERABLE: SignedDuration = SignedDuration::from_mins(5);

/// DataFast says 404 for a token that its list shows: asked again this much later.
pub const DENIED_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, but to say so.
    Rest,
    /// Nothing, not even to say anything: what is the case will be known in a moment.
    Pause,
    /// Put the finalizer on the resource, before anything is its own.
    Claim,
    /// Write an attempt into the resource's log (with the finalizer), and dry-run the Secret at the same time.
    Record {
        /// The attempt to write again with a new time; none: a new nonce.
        again: Option<Nonce>,
        /// [`Attempt::at`].
        at: Timestamp,
        /// Why a token is issued.
        cause: Cause,
        /// What stays in the log before it.
        keep: Vec<Attempt>,
        /// The token that is to get another key; none: a new token.
        rolls: Option<TokenId>,
    },
    /// Dry-run the Secret for an attempt that is in the log already.
    Preflight,
    /// Ask DataFast for the token.
    Send {
        /// Of this attempt.
        nonce: Nonce,
        /// Why.
        cause: Cause,
        /// The token that is to get another key; none: a new token.
        rolls: Option<TokenId>,
        /// Not later than this.
        by: Timestamp,
    },
    /// Forget the key that this process holds: its token stays, and gets another one.
    LetGo,
    /// Write the Secret with the key that this process holds.
    Swap {
        /// Its annotations.
        record: SecretRecord,
    },
    /// Write the Secret again with the key that is in it.
    Rewrite {
        /// Its annotations.
        record: SecretRecord,
    },
    /// Find out with one call whether the key in the Secret is that of this token.
    Prove {
        /// The token.
        token_id: TokenId,
    },
    /// Revoke a token.
    Revoke {
        /// The token.
        token_id: TokenId,
        /// Why.
        cause: RevokeCause,
    },
    /// Have the workloads that read the Secret restarted, for it has a new key.
    Restart {
        /// When it got that.
        at: Timestamp,
    },
    /// Delete the Secret.
    DeleteSecret,
    /// Take the finalizer off.
    Release,
}

/// Why a token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokeCause {
    /// Its attempt was lost: no Secret ever held its key.
    LostAttempt,
    /// Its key could not be written to the Secret.
    Undeliverable,
    /// Another token took its place, and its overlap has passed.
    Retired,
    /// Another token took its place because a user asked for this one to go.
    RevokeNow,
    /// The account had no room for it beside its successor.
    MadeRoom,
    /// `expiresAfter` has passed.
    Expired,
    /// The resource is being deleted.
    Deleted,
}

impl RevokeCause {
    /// The word in logs, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostAttempt => "LostAttempt",
            Self::Undeliverable => "Undeliverable",
            Self::Retired => "Retired",
            Self::RevokeNow => "RevokeNow",
            Self::MadeRoom => "MadeRoom",
            Self::Expired => "Expired",
            Self::Deleted => "Deleted",
        }
    }
}

/// When to look at the resource again, beside when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// At this time.
    pub at: Option<Timestamp>,
    /// When a list that began at or after this time is there.
    pub list: Option<Timestamp>,
    /// At the next list, whatever it shows.
    pub next_list: bool,
    /// When the account's state changes: its gate, its tokens, its slots, what it allows.
    pub news: bool,
    /// When a slot is free, after those that are served first.
    pub slot: Option<Waiting>,
}

impl Wake {
    pub(super) fn earliest(self, other: Self) -> Self {
        let min = |a: Option<Timestamp>, b: Option<Timestamp>| a.into_iter().chain(b).min();
        Self {
            at: min(self.at, other.at),
            list: min(self.list, other.list),
            next_list: self.next_list || other.next_list,
            news: self.news || other.news,
            slot: self.slot.or(other.slot),
        }
    }

    pub(super) fn at(at: Timestamp) -> Self {
        Self { at: Some(at), ..Self::default() }
    }

    pub(super) fn list(after: Timestamp) -> Self {
        Self { list: Some(after), ..Self::default() }
    }

    pub(super) fn next_list() -> Self {
        Self { next_list: true, ..Self::default() }
    }

    pub(super) fn news() -> Self {
        Self { news: true, ..Self::default() }
    }
}

/// What to do, what to say, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do now.
    pub action: Action,
    /// What to say where that is nothing, or fails.
    pub verdict: Verdict,
    /// When to look again where that is nothing.
    pub wake: Wake,
}

type Rule = fn(&Look) -> Option<Decision>;

/// In this order: what was begun is finished, then what is in excess goes, then what is missing comes.
const RULES: [Rule; 12] = [
    request_under_way,
    key_held,
    restarts,
    suspended,
    expired,
    superseded_tokens,
    not_allowed,
    hidden,
    foreign_secret,
    adoption,
    token_needed,
    drift,
];

/// Decides what to do next about a resource. `now` must not be earlier than any time in `seen` that this process wrote.
pub fn decide(desired: &Desired, seen: &Observed<'_>, now: Timestamp) -> Decision {
    let look = Look::new(desired, seen, now);
    if desired.deleting {
        return ending::decide(&look);
    }
    let mut decision = RULES.iter().find_map(|rule| rule(&look)).unwrap_or_else(|| settled(&look));
    decision.wake = decision.wake.earliest(next_retirement(&look)).earliest(next_time(&look));
    decision
}

/// When the time alone changes what is to be done.
fn next_time(look: &Look<'_>) -> Wake {
    let expiry = look.expires_in().map(|left| look.now.saturating_add(left).unwrap_or(Timestamp::MAX));
    let times = expiry.into_iter().chain(look.seen.next_rotation(&look.desired.rotation));
    times.filter(|at| *at > look.now).map(Wake::at).fold(Wake::default(), Wake::earliest)
}

fn request_under_way(look: &Look<'_>) -> Option<Decision> {
    if look.seen.local.is_calling {
        let verdict = look.verdict(look.at_work(), "Waiting for DataFast's answer");
        return Some(Decision { action: Action::Pause, verdict, wake: Wake::default() });
    }
    look.seen.local.in_flight.as_ref()?;
    look.wait(look.at_work(), "Waiting for DataFast's answer", Wake::default())
}

pub(super) fn key_held(look: &Look<'_>) -> Option<Decision> {
    let held = look.seen.local.held.as_ref()?;
    let give_up_at = held.since.saturating_add(UNDELIVERABLE).unwrap_or(Timestamp::MAX);
    let superseded = look.seen.log.current().is_none_or(|current| current.nonce != held.nonce);
    // Not without a try: the API server may have been away all the time.
    let is_refused = held.refused.is_some() || matches!(look.holding, Holding::Foreign(_));
    let is_over = look.has_expired() && !look.desired.suspended;
    if superseded || is_over || is_refused && look.now >= give_up_at {
        let revoke = Action::Revoke { token_id: held.token_id.clone(), cause: RevokeCause::Undeliverable };
        return match held.rolled {
            true => look.act(Action::LetGo),
            false => look.closed().or_else(|| look.act(revoke)),
        };
    }
    if let Holding::Foreign(why) = &look.holding {
        return look.wait(Reason::SecretConflict, conflict(look, why), Wake::at(give_up_at.min(look_again(look))));
    }
    match held.refused.as_ref().filter(|refused| look.now < refused.retry_at) {
        Some(refused) => look.wait(
            Reason::SecretWriteRefused,
            format!(
                "Secret {:?} could not be written, and its key is kept until it is: {}",
                look.seen.names.secret, refused.message
            ),
            Wake::at(refused.retry_at.min(give_up_at)),
        ),
        None => look.act(Action::Swap { record: swapped(look, held) }),
    }
}

/// After each swap that took another key's place. Until status tells of the key, it is not known to be done: doing it
/// again changes nothing.
fn restarts(look: &Look<'_>) -> Option<Decision> {
    let token_id = &look.listed().filter(|_| look.desired.restarts)?.token.id;
    let record = look.seen.secret_record()?;
    let at = record.issued_at?;
    let status = &look.seen.status;
    let named = status.token_id.as_ref();
    let attempt = record.attempt.as_ref().and_then(|nonce| look.seen.log.get(nonce));
    let is_first = attempt.map_or(named.is_none(), |attempt| attempt.cause == Cause::New);
    let is_told = named == Some(token_id) && status.issued_at.is_none_or(|told| at.as_second() <= told.as_second());
    if is_first || is_told || look.seen.local.restarted == Some(at) {
        return None;
    }
    look.act(Action::Restart { at })
}

fn suspended(look: &Look<'_>) -> Option<Decision> {
    if !look.desired.suspended {
        return None;
    }
    look.wait(Reason::Suspended, "spec.suspend is true: nothing is changed", Wake::default())
}

/// What was issued before stays as it is.
fn not_allowed(look: &Look<'_>) -> Option<Decision> {
    let why = look.forbidden()?;
    let message = format!(
        "DataFastAccount {:?} forbids it: {why}. Ask for less, or have the account's owner allow it",
        look.seen.names.account
    );
    // Not all operators may watch the labels of namespaces.
    let wake = if look.seen.account.standing.is_outside { Wake::next_list() } else { Wake::default() };
    look.wait(Reason::NotAllowed, message, wake.earliest(Wake::news()))
}

/// The list lacks the token. Where its key still works, it is not gone.
fn hidden(look: &Look<'_>) -> Option<Decision> {
    let id = match &look.holding {
        Holding::Missing(id) => {
            let mut decision = prove(look, id)?;
            decision.wake.slot = look.has_made_room().then(|| waiting(look));
            return Some(decision);
        }
        Holding::Hidden(id) => id,
        _ => return None,
    };
    let message = format!(
        "Token {id} works, but the credential of DataFastAccount {:?} can't see it, nor revoke it: so nothing is issued in its place, whatever is asked for; give the account the credential back that issued it, or delete the token at DataFast for a new one",
        look.seen.names.account
    );
    look.wait(Reason::Issued, message, Wake::news().earliest(Wake::at(look.proven_until())))
}

/// Finds out whether DataFast takes the key in the Secret as that of a token.
pub(super) fn prove(look: &Look<'_>, token_id: &TokenId) -> Option<Decision> {
    if let Some(failed) = look.seen.local.unproved.as_ref().filter(|failed| look.now < failed.retry_at) {
        let name = look.seen.names.secret;
        let message =
            format!("Whether the key in Secret {name:?} is its token's could not be found out: {}", failed.message);
        return look.wait(Reason::ApiUnavailable, message, Wake::at(failed.retry_at));
    }
    look.closed().or_else(|| look.act(Action::Prove { token_id: token_id.clone() }))
}

fn conflict(look: &Look<'_>, why: &str) -> String {
    let name = look.seen.names.secret;
    format!(
        "Secret {name:?} exists and is left as it is, for {why}. Delete or rename that Secret, or create this resource with another spec.secret.name"
    )
}

/// Secrets that are not ours are not watched; a look now and then finds one gone.
fn look_again(look: &Look<'_>) -> Timestamp {
    look.now.saturating_add(SignedDuration::from_secs(30)).unwrap_or(Timestamp::MAX)
}

fn foreign_secret(look: &Look<'_>) -> Option<Decision> {
    let Holding::Foreign(why) = &look.holding else { return None };
    let wake = Wake::at(look_again(look)).earliest(Wake::news());
    look.wait(Reason::SecretConflict, conflict(look, why), wake)
}

fn adoption(look: &Look<'_>) -> Option<Decision> {
    let Holding::Unproven(listed) = &look.holding else { return None };
    if !look.seen.claimed {
        return look.act(Action::Claim);
    }
    if look.seen.proven(&listed.token.id) {
        return look.act(Action::Rewrite { record: wanted_record(look, listed)? });
    }
    prove(look, &listed.token.id)
}

/// The record that the Secret of a live token should have.
fn wanted_record(look: &Look<'_>, listed: &Listed) -> Option<SecretRecord> {
    let SecretView::Present(facts) = &look.seen.secret else { return None };
    let key = facts.key.as_ref()?;
    let id = &listed.token.id;
    // Its present key may be another than the one that it was made with.
    let rolled = facts
        .record
        .attempt
        .clone()
        .filter(|nonce| look.seen.log.get(nonce).is_some_and(|attempt| attempt.rolls.as_ref() == Some(id)));
    let attempt = rolled.or_else(|| look.seen.attempt_of(listed).cloned());
    let recorded = attempt.as_ref().and_then(|nonce| look.seen.log.get(nonce)).map(|a| a.at);
    // DataFast's clock may be wrong, and a time of the future would not be read back: it would be written for ever.
    let known = recorded.or(listed.token.created_at).filter(|at| *at <= look.now);
    let issued_at = facts.record.issued_at.or(known).unwrap_or(look.now);
    Some(SecretRecord {
        attempt,
        token_id: Some(id.clone()),
        issued_at: Some(issued_at),
        spec_hash: match desired_scope_fits(look, listed) {
            true => Some(look.desired.scope.hash()),
            false => facts.record.spec_hash.clone(),
        },
        key_sha256: Some(key.fingerprint(id.as_str())),
        ..facts.record.clone()
    })
}

fn drift(look: &Look<'_>) -> Option<Decision> {
    let (Holding::Live(listed), SecretView::Present(facts)) = (&look.holding, &look.seen.secret) else { return None };
    if !look.seen.claimed {
        return look.act(Action::Claim);
    }
    let record = wanted_record(look, listed)?;
    if !facts.drifted && record == facts.record {
        return None;
    }
    match look.seen.local.rewrite.as_ref().filter(|refused| look.now < refused.retry_at) {
        Some(refused) => {
            let message =
                format!("Secret {:?} could not be brought up to date: {}", look.seen.names.secret, refused.message);
            look.wait(Reason::SecretWriteRefused, message, Wake::at(refused.retry_at))
        }
        None => look.act(Action::Rewrite { record }),
    }
}

fn settled(look: &Look<'_>) -> Decision {
    let name = look.seen.names.secret;
    let rest =
        |reason, message: String, wake| Decision { action: Action::Rest, verdict: look.verdict(reason, message), wake };
    // Without an account or its credential, even what works says so.
    let speaks = !matches!(look.seen.account.gate, Gate::NotFound | Gate::NotReady(_));
    match &look.holding {
        Holding::Live(listed) if speaks => {
            let mut message = format!("Secret {name:?} holds token {}", listed.token.display_key);
            for used in retiring(look).filter(Retirement::is_in_use) {
                let until = used.until().map(|at| format!(", and is revoked at {at:.0}")).unwrap_or_default();
                message += &format!("; its predecessor {} is still in use{until}", used.listed.token.display_key);
            }
            rest(Reason::Issued, message, Wake::default())
        }
        _ => look.closed().unwrap_or_else(|| {
            let message = format!("Waiting for DataFast's list to confirm the token in Secret {name:?}");
            let slot = look.has_made_room().then(|| waiting(look));
            let wake = Wake { slot, ..Wake::next_list() };
            rest(if look.works { Reason::Issued } else { Reason::Issuing }, message, wake)
        }),
    }
}
