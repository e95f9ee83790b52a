//! One resource as the rules see it: what is wanted, what is seen, and what follows from both.

use jiff::{SignedDuration, Timestamp};

use super::allow::{Allow, Asked, Forbidden};
use super::decision::{Action, Decision, Requeue};
use super::desired::{Desired, Expiry};
use super::local::Watched;
use super::observed::{Availability, Observed};
use super::record::{Attempt, Cause};
use super::secret_state::{PROOF_LASTS, SecretState};
use super::snapshot::Listed;
use super::timing::{Held, Timing, keeps_to_windows};
use super::verdict::{Reason, Verdict};
use crate::datafast::TokenId;

/// DataFast says 404 for a token that its list shows: asked again this much later.
pub(super) const DENIED_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// A resource as the rules see it.
pub(super) struct Context<'a> {
    pub(super) desired: &'a Desired,
    pub(super) seen: &'a Observed<'a>,
    pub(super) now: Timestamp,
    pub(super) secret_state: SecretState<'a>,
    /// The Secret's key is good, as far as can be told.
    pub(super) works: bool,
    pub(super) need: Option<Cause>,
    /// A rotation that is needed and waits for a window.
    pub(super) held: Option<Held>,
    pub(super) timing: Timing<'a>,
    /// The token whose other key meets the need.
    pub(super) rolls: Option<&'a TokenId>,
}

impl<'a> Context<'a> {
    pub(super) fn new(desired: &'a Desired, seen: &'a Observed<'a>, now: Timestamp) -> Self {
        let secret_state = seen.secret_state(&desired.scope, now);
        let works = match &secret_state {
            SecretState::Live(_) | SecretState::Hidden(_) => true,
            SecretState::Unconfirmed(_) | SecretState::Unproven(_) | SecretState::Missing(_) => seen.status.ready,
            SecretState::Nothing | SecretState::Foreign(_) | SecretState::Vanished | SecretState::Revoked => false,
        };
        let timing = Timing::new(desired, seen, now);
        let (need, held) = match need(&secret_state, desired, seen, &timing) {
            Some(cause) if waits_for_windows(cause, &secret_state) => match timing.begins(cause, seen) {
                Ok(cause) => (Some(cause), None),
                Err(held) => (None, Some(held)),
            },
            cause => (cause, None),
        };
        let cx = Self { desired, seen, now, secret_state, works, need, held, timing, rolls: None };
        Self { rolls: cx.rolled(), ..cx }
    }

    /// The token that is to get another key, where the need is met by that.
    fn rolled(&self) -> Option<&'a TokenId> {
        let replaces = |cause: &Cause| cause.is_rotation() || *cause == Cause::KeyLost;
        self.need.filter(replaces).filter(|_| self.desired.rotation.rolls)?;
        let listed = match self.secret_state {
            SecretState::Live(listed) => listed,
            SecretState::Nothing => self.last_held()?,
            _ => return None,
        };
        // It keeps its name; and what DataFast has just denied to have, or to be ours, gets no other key.
        let is_fit = desired_scope_fits(self, listed) && name_fits(listed, self.desired);
        (is_fit && self.denied(&listed.token.id).is_none()).then_some(&listed.token.id)
    }

    /// The token whose key was lost: status names it, or, before status does, the Secret.
    fn last_held(&self) -> Option<&'a Listed> {
        let seen = self.seen;
        let is_former = |id: &&TokenId| seen.status.retiring.contains(*id);
        let recorded = || seen.secret_record()?.token_id.as_ref().filter(|id| !is_former(id));
        let id = seen.status.token_id.as_ref().or_else(recorded)?;
        seen.account.snapshot?.get(id).filter(|listed| seen.may_revoke(listed))
    }

    pub(super) fn verdict(&self, reason: Reason, message: impl Into<String>) -> Verdict {
        // A rotation takes nothing away from what works, and so need not be done for that.
        let waits = reason == Reason::WaitingForSlot && self.need.is_some_and(Cause::is_rotation);
        let verdict = Verdict::new(reason, self.works, message);
        Verdict { ready: verdict.ready || waits && self.works, ..verdict }
    }

    /// What is said while something is done about the token.
    pub(super) fn at_work(&self) -> Reason {
        match self.works && self.need.is_some_and(Cause::is_rotation) {
            _ if self.desired.deleting => Reason::Deleting,
            true => Reason::Rotating,
            false => Reason::Issuing,
        }
    }

    /// The Secret's token is gone, or will turn out to be: it made room for a successor that is still wanted.
    pub(super) fn has_made_room(&self) -> bool {
        match self.secret_state {
            SecretState::Revoked => true,
            SecretState::Unconfirmed(_) | SecretState::Missing(_) | SecretState::Hidden(_) | SecretState::Vanished => {
                begun(self.seen).is_some_and(|cause| makes_room(cause, self.desired))
            }
            SecretState::Live(_) | SecretState::Nothing | SecretState::Foreign(_) | SecretState::Unproven(_) => false,
        }
    }

    /// Which rule of the account forbids it, if one does.
    pub(super) fn forbidden(&self) -> Option<Forbidden> {
        let (account, Desired { scope, retain, .. }) = (&self.seen.account, self.desired);
        let asked = Asked { scope, is_website_key: self.is_website_key(), retain: *retain };
        account.allow?.forbids(asked, &account.standing)
    }

    /// Whether it is about a website key, and not about an access token.
    pub(super) fn is_website_key(&self) -> bool {
        self.seen.names.website.is_some()
    }

    /// Whether token and Secret stay when the resource goes. Where the account does not allow that, they do not: the rule
    /// is there so that nothing is left behind.
    pub(super) fn retains(&self) -> bool {
        self.desired.retain && self.seen.account.allow.is_none_or(Allow::lets_retain)
    }

    /// Another token is wanted because the key of the last one is in no Secret any more.
    pub(super) fn has_lost_key(&self) -> bool {
        matches!(self.secret_state, SecretState::Nothing) && self.need.is_some()
    }

    /// Whether the resource is past its end.
    pub(super) fn has_expired(&self) -> bool {
        self.expires_in().is_some_and(|left| left <= SignedDuration::ZERO)
    }

    /// How long it has until its end.
    pub(super) fn expires_in(&self) -> Option<SignedDuration> {
        let watched = self.seen.local.watched.as_ref();
        let elapsed = |expiry: &Expiry| Watched::elapsed(watched, expiry.created, self.now);
        self.desired.expiry.as_ref().map(|expiry| expiry.after.saturating_sub(elapsed(expiry)))
    }

    /// Whether the old token is to make room for the new one where the account has none for both.
    pub(super) fn makes_room(&self) -> bool {
        self.need.is_some_and(|cause| makes_room(cause, self.desired))
    }

    /// The live token whose key the Secret holds.
    pub(super) fn listed(&self) -> Option<&'a Listed> {
        match self.secret_state {
            SecretState::Live(listed) => Some(listed),
            _ => None,
        }
    }

    /// Until when it is taken for true that the Secret's key is good.
    pub(super) fn proven_until(&self) -> Timestamp {
        let proof = self.seen.local.proof.as_ref();
        proof.map_or(self.now, |proof| proof.at.saturating_add(PROOF_LASTS).unwrap_or(Timestamp::MAX))
    }

    /// When the next rotation begins, as far as can be told.
    pub(super) fn next_rotation(&self) -> Option<Timestamp> {
        self.timing.next(self.held.as_ref())
    }

    pub(super) fn act(&self, action: Action) -> Option<Decision> {
        Some(Decision::Act(action))
    }

    pub(super) fn wait(&self, reason: Reason, message: impl Into<String>, requeue: Requeue) -> Option<Decision> {
        Some(Decision::Rest { verdict: self.verdict(reason, message), requeue })
    }

    /// The token whose key the Secret holds, or may hold.
    pub(super) fn current(&self) -> Option<&TokenId> {
        match &self.secret_state {
            SecretState::Live(listed) | SecretState::Unproven(listed) => Some(&listed.token.id),
            SecretState::Unconfirmed(id) => *id,
            SecretState::Missing(id) | SecretState::Hidden(id) => Some(id),
            SecretState::Nothing | SecretState::Foreign(_) | SecretState::Vanished | SecretState::Revoked => None,
        }
    }

    /// Why no call to DataFast is possible now, if so.
    pub(super) fn closed(&self) -> Option<Decision> {
        let account = self.seen.names.account;
        match &self.seen.account.availability {
            Availability::Open => None,
            // Its first list is under way.
            Availability::Connecting => Some(Decision::Pause { requeue: Requeue::on_account_change() }),
            Availability::NotFound => self.wait(
                Reason::AccountNotFound,
                format!("There is no DataFastAccount {account:?}"),
                Requeue::on_account_change(),
            ),
            Availability::NotReady(why) => {
                let message = format!("DataFastAccount {account:?} is not ready: {why}");
                self.wait(Reason::AccountNotReady, message, Requeue::on_account_change())
            }
            // No times here: they change with each try, and every resource of the account would be written again.
            Availability::RateLimited => {
                let message =
                    format!("DataFast limits the rate of calls: those of account {account:?} go on by themselves");
                self.wait(Reason::RateLimited, message, Requeue::on_account_change())
            }
            Availability::Refused(why) => {
                let message =
                    format!("DataFast refused the request: {why:?}. Correct spec, or the account's credential");
                // What works stays ready.
                let reason = if self.works { Reason::ApiUnavailable } else { Reason::Rejected };
                self.wait(reason, message, Requeue::on_account_change())
            }
            Availability::Unavailable(why) => {
                let message = format!("DataFast can't be used now ({why}): calls go on by themselves");
                self.wait(Reason::ApiUnavailable, message, Requeue::on_account_change())
            }
        }
    }

    /// Whether DataFast lately said 404 for a token that its list may still show.
    pub(super) fn denied(&self, id: &TokenId) -> Option<Requeue> {
        let at = *self.seen.local.denied.get(id)?;
        let listed_since = self.seen.account.snapshot.is_some_and(|s| s.begun() >= at);
        let again = at.saturating_add(DENIED_AGAIN).unwrap_or(Timestamp::MAX);
        match listed_since {
            false => Some(Requeue::list(at)),
            true if self.now < again => Some(Requeue::at(again)),
            true => None,
        }
    }

    /// Whether the account has no slot, and would have one with a token less.
    pub(super) fn lacks_one_slot(&self) -> bool {
        self.seen.account.slots.as_ref().is_some_and(|slots| slots.free == 0)
    }
}

/// Why a token is to be issued, if one is: the first cause that holds, in the order of their precedence. (Before all of
/// them come deletion, suspension and expiry, which are rules of their own.)
fn need(secret_state: &SecretState<'_>, desired: &Desired, seen: &Observed<'_>, timing: &Timing<'_>) -> Option<Cause> {
    let had_one = seen.status.token_id.is_some() || seen.secret_record().is_some();
    let (gone, live) = match secret_state {
        SecretState::Foreign(_) | SecretState::Unproven(_) => return None,
        SecretState::Unconfirmed(_) | SecretState::Missing(_) | SecretState::Hidden(_) => return None,
        // Whatever is asked for, the first token answers it.
        SecretState::Nothing if !had_one => return Some(Cause::New),
        SecretState::Nothing => (Some(seen.lost_roll().map_or(Cause::KeyLost, |attempt| attempt.cause)), None),
        SecretState::Vanished => (Some(Cause::Vanished), None),
        SecretState::Revoked => (Some(Cause::Revoked), None),
        SecretState::Live(listed) => (None, Some(*listed)),
    };
    let answered = seen.answered();
    let is_open = |cause| match cause {
        Cause::RevokeNow => desired.requests.revoke_now_is_open(&answered),
        Cause::ScopeChanged => match live {
            Some(listed) => scope_changed(listed, desired, seen),
            None => !hash_fits(desired, seen),
        },
        Cause::RotateRequested => desired.requests.rotate_is_open(&answered),
        Cause::RotationDue => timing.is_due(),
        Cause::New | Cause::Revoked | Cause::KeyLost | Cause::Vanished | Cause::Unknown => false,
    };
    // A token that made room for its successor, be it under an operator that has died since: the cause stands.
    // What was due was due, even if the clock says otherwise by now.
    let is_still_open = |cause| cause == Cause::RotationDue || is_open(cause);
    let made_room = matches!(secret_state, SecretState::Vanished | SecretState::Revoked).then(|| begun(seen)).flatten();
    let made_room = made_room.filter(|cause| makes_room(*cause, desired) && is_still_open(*cause));
    let open = |cause| is_open(cause).then_some(cause);
    open(Cause::RevokeNow)
        .or(made_room)
        .or(gone)
        .or_else(|| open(Cause::ScopeChanged))
        .or_else(|| open(Cause::RotateRequested))
        .or_else(|| open(Cause::RotationDue))
}

/// Whether a need waits for a window: the Secret has a key that works, and is to go on working until then. A token that made
/// room for its successor is gone.
fn waits_for_windows(cause: Cause, secret_state: &SecretState<'_>) -> bool {
    keeps_to_windows(cause) && matches!(secret_state, SecretState::Live(_))
}

fn makes_room(cause: Cause, desired: &Desired) -> bool {
    match cause {
        // Its key may be in wrong hands: better none that works than that one.
        Cause::RevokeNow => true,
        Cause::ScopeChanged | Cause::RotateRequested | Cause::RotationDue => desired.rotation.revoke_first,
        Cause::New | Cause::Revoked | Cause::KeyLost | Cause::Vanished | Cause::Unknown => false,
    }
}

/// Why the current attempt at a token was recorded, where it is not the Secret's.
fn begun(seen: &Observed<'_>) -> Option<Cause> {
    let held = seen.secret_record().and_then(|record| record.attempt.as_ref());
    let is_begun = |current: &&Attempt| Some(&current.nonce) != held && current.rolls.is_none();
    seen.log.current().filter(is_begun).map(|current| current.cause)
}

/// By the hash of what was asked for, so that a DataFast which answers with another scope than was asked is not asked
/// again for ever. Where the hash was edited or dropped, the token itself can still say that it is right.
fn scope_changed(listed: &Listed, desired: &Desired, seen: &Observed<'_>) -> bool {
    !(hash_fits(desired, seen) || desired.scope.allows_as_is(&listed.token) && name_fits(listed, desired))
}

fn name_fits(listed: &Listed, desired: &Desired) -> bool {
    let name = listed.token.name.as_deref().unwrap_or_default();
    listed.marker.as_ref().is_none_or(|marker| marker.name(&desired.scope.token_name) == name)
}

fn hash_fits(desired: &Desired, seen: &Observed<'_>) -> bool {
    seen.secret_record().and_then(|record| record.spec_hash.as_deref()) == Some(&desired.scope.hash())
}

pub(super) fn desired_scope_fits(cx: &Context<'_>, listed: &Listed) -> bool {
    cx.desired.scope.allows_as_is(&listed.token)
}
