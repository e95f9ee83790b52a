//! What status is to say of a resource's tokens: a mirror of the record, and of DataFast's list.

use jiff::{SignedDuration, Timestamp};

use super::context::Context;
use super::decision::RevokeCause;
use super::desired::{Desired, Expiry};
use super::observed::Observed;
use super::record::{Attempt, Cause, Request};
use super::rules::superseded::retiring;
use super::rules::unused;
use super::secret_state::SecretState;
use super::snapshot::{Listed, is_after};
use crate::datafast::TokenId;

/// `lastUsedAt` is written at most this often for a resource, so that busy tokens make no storm of writes.
pub const LAST_USED_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// What status says of tokens.
#[derive(Debug)]
pub struct Facts<'a> {
    /// `tokenId`, `displayKey` and so on.
    pub token: Mirror<'a>,
    /// `issuedAt`.
    pub issued_at: Option<Timestamp>,
    /// `nextRotationAt`.
    pub next_rotation_at: Option<Timestamp>,
    /// `expiresAt`.
    pub expires_at: Option<Timestamp>,
    /// `rotateRequest`.
    pub rotate_request: Option<Request>,
    /// `retiring`. None: as it is, for no list is there to tell.
    pub retiring: Option<Vec<Retiring<'a>>>,
    /// How the Secret got the key of the token that status is to name.
    pub maker: Option<Maker>,
    /// Tokens that status names and that are no more.
    pub gone: Vec<Gone>,
    /// `unusedSince`.
    pub unused_since: Option<Timestamp>,
}

/// How a Secret got its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// By an attempt of the resource.
    Attempt {
        /// Why it was made.
        cause: Cause,
        /// The token had another key before.
        rolled: bool,
    },
    /// It was there, and was taken over.
    TakenOver,
}

impl Maker {
    /// Whether the token had another key before.
    pub fn is_roll(&self) -> bool {
        matches!(self, Self::Attempt { rolled: true, .. })
    }
}

/// A token that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The token.
    pub token_id: TokenId,
    /// Why, as far as can be told by whoever did not revoke it.
    pub cause: GoneCause,
}

/// Why a token is no more, told by whoever did not revoke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneCause {
    /// Somebody deleted it at DataFast.
    Vanished,
    /// It was to be revoked: most likely an operator did that, and ended before it could tell.
    Revoked(RevokeCause),
    /// Nothing tells.
    Unknown,
}

impl GoneCause {
    /// The word in `status.history`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vanished => "Vanished",
            Self::Revoked(cause) => cause.as_str(),
            Self::Unknown => Cause::Unknown.as_str(),
        }
    }
}

/// What status says of a former token.
#[derive(Clone, Copy, Debug)]
pub struct Retiring<'a> {
    /// The token.
    pub listed: &'a Listed,
    /// Since when the Secret has held another one.
    pub since: Option<Timestamp>,
    /// `revokeAfter`.
    pub until: Option<Timestamp>,
    /// The attempt that made it, where the log has that.
    pub attempt: Option<&'a Attempt>,
}

impl Retiring<'_> {
    /// Whether DataFast reports a use after another token took its place, and status does not `show` one yet.
    pub fn is_news(&self, shown: Option<Timestamp>) -> bool {
        let is_use = |since| is_after(self.listed.token.last_used_at, since) && !is_after(shown, since);
        self.since.is_some_and(is_use)
    }
}

impl Facts<'_> {
    /// The tokens in `retiring`.
    pub fn former(&self) -> Vec<TokenId> {
        self.retiring.iter().flatten().map(|retiring| retiring.listed.token.id.clone()).collect()
    }
}

/// What status says of the token.
#[derive(Debug)]
pub enum Mirror<'a> {
    /// This one.
    Is(&'a Listed),
    /// What it says already.
    Keep,
    /// None: there is no token.
    Nothing,
}

/// Reads off what status is to say.
pub fn facts<'a>(desired: &'a Desired, seen: &'a Observed<'a>, now: Timestamp) -> Facts<'a> {
    let cx = Context::new(desired, seen, now);
    let named = seen.status.token_id.as_ref();
    let token = match (cx.listed(), seen.account.snapshot, named) {
        (Some(listed), ..) => Mirror::Is(listed),
        (None, _, None) => Mirror::Nothing,
        // As long as the token may live, its id in status is the licence to revoke it.
        (None, Some(snapshot), Some(id)) if snapshot.has_revoked(id) => Mirror::Nothing,
        (None, Some(snapshot), Some(id)) => match (&cx.secret_state, snapshot.get(id)) {
            (SecretState::Nothing | SecretState::Vanished, None) => Mirror::Nothing,
            _ => Mirror::Keep,
        },
        (None, None, Some(_)) => Mirror::Keep,
    };
    let kept = matches!(token, Mirror::Keep).then_some(named).flatten();
    let others = |retiring: &Retiring<'_>| kept != Some(&retiring.listed.token.id);
    // The key of a retiring token may be back in the Secret; until that is proven, status must not forget the token.
    let unproven = match &cx.secret_state {
        SecretState::Unproven(listed) if seen.status.retiring.contains(&listed.token.id) => {
            Some(listed.token.id.clone())
        }
        _ => None,
    };
    let retiring = seen.account.snapshot.map(|snapshot| {
        let tokens = retiring(&cx).map(|r| (r.listed.token.id.clone(), r.since(), r.until()));
        let tokens: Vec<_> = tokens.chain(unproven.map(|id| (id, None, None))).collect();
        let entry = |(id, since, until)| {
            let listed = snapshot.get(&id)?;
            let attempt = seen.attempt_of(listed).and_then(|nonce| seen.log.get(nonce));
            Some(Retiring { listed, since, until, attempt })
        };
        tokens.into_iter().filter_map(entry).filter(others).collect()
    });
    let expires_at = desired.expiry.as_ref().map(Expiry::at);
    // It tells which key status is about: that of the token that status names.
    let issued_at = match token {
        Mirror::Is(_) => seen.secret_record().and_then(|record| record.issued_at),
        Mirror::Keep => seen.status.issued_at,
        Mirror::Nothing => None,
    };
    let next_rotation_at = cx.next_rotation();
    Facts {
        maker: maker(&token, seen),
        gone: gone(&cx),
        unused_since: unused::told(&cx),
        token,
        issued_at,
        // What has ended by then is not replaced.
        next_rotation_at: next_rotation_at.filter(|at| expires_at.is_none_or(|end| *at < end)),
        expires_at,
        rotate_request: unused::served_request(&cx)
            .or_else(|| seen.secret_record().and_then(|r| r.request.clone()))
            .or(seen.status.rotate_request.clone()),
        retiring,
    }
}

fn maker(token: &Mirror<'_>, seen: &Observed<'_>) -> Option<Maker> {
    let Mirror::Is(listed) = token else { return None };
    let recorded =
        seen.secret_record().and_then(|record| record.attempt.as_ref()).and_then(|nonce| seen.log.get(nonce));
    let roll = recorded.filter(|attempt| attempt.rolls.as_ref() == Some(&listed.token.id));
    Some(match (roll, seen.attempt_of(listed)) {
        (Some(roll), _) => Maker::Attempt { cause: roll.cause, rolled: true },
        (None, Some(nonce)) => {
            let cause = seen.log.get(nonce).map_or(Cause::Unknown, |attempt| attempt.cause);
            Maker::Attempt { cause, rolled: false }
        }
        (None, None) => Maker::TakenOver,
    })
}

/// The tokens that status names and that DataFast does not list any more.
fn gone(cx: &Context<'_>) -> Vec<Gone> {
    let (status, Some(snapshot)) = (&cx.seen.status, cx.seen.account.snapshot) else { return Vec::new() };
    let cause = |id: &TokenId| {
        let replaced = cx.seen.log.current().is_some_and(|current| current.cause == Cause::Vanished);
        let is_over = || status.revoke_after.get(id).is_some_and(|until| *until <= cx.now);
        if cx.has_expired() {
            return GoneCause::Revoked(RevokeCause::Expired);
        }
        if matches!(unused::usage(cx), unused::Usage::Ended { .. }) {
            return GoneCause::Revoked(RevokeCause::Unused);
        }
        match status.token_id.as_ref() == Some(id) {
            true if cx.has_made_room() => GoneCause::Revoked(RevokeCause::MadeRoom),
            true if replaced || matches!(cx.secret_state, SecretState::Vanished) => GoneCause::Vanished,
            false if is_over() => GoneCause::Revoked(RevokeCause::Retired),
            _ => GoneCause::Unknown,
        }
    };
    let named = status.token_id.iter().chain(&status.retiring).filter(|id| snapshot.get(id).is_none());
    named.map(|id| Gone { token_id: id.clone(), cause: cause(id) }).collect()
}

/// The `lastUsedAt` to show: the first use at once, later ones at most every five minutes. `written_at`: when this
/// process last wrote one for the resource.
pub fn last_used(
    shown: Option<Timestamp>,
    listed: Option<Timestamp>,
    written_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let (Some(old), Some(new)) = (shown, listed) else { return listed.or(shown) };
    let since = written_at.map_or(old, |at| at.max(old));
    let is_due = new > old && now.duration_since(since) >= LAST_USED_EVERY;
    Some(if is_due { new } else { old })
}
