//! From DataFast's answer to the workloads: a request under way, a key that is pending, restarts.

use jiff::{SignedDuration, Timestamp};

use super::secret::{conflict, later_again};
use super::swap::swapped;
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue, RevokeCause};
use crate::lifecycle::record::Cause;
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::verdict::Reason;

/// A key that no Secret took for this long is given up, and its token revoked.
pub(in crate::lifecycle) const UNDELIVERABLE: SignedDuration = SignedDuration::from_mins(5);

pub(in crate::lifecycle) fn request_under_way(cx: &Context<'_>) -> Option<Decision> {
    if cx.seen.local.is_calling {
        return Some(Decision::Pause { requeue: Requeue::default() });
    }
    cx.seen.local.in_flight.as_ref()?;
    cx.wait(cx.at_work(), "Waiting for DataFast's answer", Requeue::default())
}

pub(in crate::lifecycle) fn pending_key(cx: &Context<'_>) -> Option<Decision> {
    let pending = cx.seen.local.pending.as_ref()?;
    let give_up_at = pending.since.saturating_add(UNDELIVERABLE).unwrap_or(Timestamp::MAX);
    let superseded = cx.seen.log.current().is_none_or(|current| current.nonce != pending.nonce);
    // Not without a try: the API server may have been away all the time.
    let is_refused = pending.refused.is_some() || matches!(cx.secret_state, SecretState::Foreign(_));
    let is_over = cx.has_expired() && !cx.desired.suspended;
    if superseded || is_over || is_refused && cx.now >= give_up_at {
        let revoke = Action::Revoke { token_id: pending.token_id.clone(), cause: RevokeCause::Undeliverable };
        return match pending.rolled {
            true => cx.act(Action::DropKey),
            false => cx.closed().or_else(|| cx.act(revoke)),
        };
    }
    if let SecretState::Foreign(why) = &cx.secret_state {
        return cx.wait(Reason::SecretConflict, conflict(cx, why), Requeue::at(give_up_at.min(later_again(cx))));
    }
    match pending.refused.as_ref().filter(|refused| cx.now < refused.retry_at) {
        Some(refused) => cx.wait(
            Reason::SecretWriteRefused,
            format!(
                "Secret {:?} could not be written, and its key is kept until it is: {}",
                cx.seen.names.secret, refused.message
            ),
            Requeue::at(refused.retry_at.min(give_up_at)),
        ),
        None => cx.act(Action::Swap { record: swapped(cx, pending) }),
    }
}

/// After each swap that took another key's place. Until status tells of the key, it is not known to be done: doing it
/// again changes nothing.
pub(in crate::lifecycle) fn restarts(cx: &Context<'_>) -> Option<Decision> {
    let token_id = &cx.listed().filter(|_| cx.desired.restarts)?.token.id;
    let record = cx.seen.secret_record()?;
    let at = record.issued_at?;
    let status = &cx.seen.status;
    let named = status.token_id.as_ref();
    let attempt = record.attempt.as_ref().and_then(|nonce| cx.seen.log.get(nonce));
    let is_first = attempt.map_or(named.is_none(), |attempt| attempt.cause == Cause::New);
    let is_told = named == Some(token_id) && status.issued_at.is_none_or(|told| at.as_second() <= told.as_second());
    if is_first || is_told || cx.seen.local.restarted == Some(at) {
        return None;
    }
    cx.act(Action::Restart { at })
}
