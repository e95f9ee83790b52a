//! Whether the resource may have a token at all, and what is reported when nothing is left to do.

use super::issuing::waiting;
use super::superseded::{Retirement, retiring};
use super::unused::{Usage, usage};
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Decision, Requeue};
use crate::lifecycle::observed::Availability;
use crate::lifecycle::record::Cause;
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::timing::Held;
use crate::lifecycle::verdict::Reason;

/// What can't be read is not guessed at: all stays as it is.
pub(in crate::lifecycle) fn unreadable(cx: &Context<'_>) -> Option<Decision> {
    let unreadable = cx.desired.unreadable.as_ref()?;
    let message = format!(
        "This version of the operator can't read {}: upgrade the operator, or correct the field. Until then nothing is issued, rotated or revoked, and a key that was issued before works on",
        unreadable.what
    );
    cx.wait(Reason::Rejected, message, Requeue::default())
}

pub(in crate::lifecycle) fn suspended(cx: &Context<'_>) -> Option<Decision> {
    if !cx.desired.suspended {
        return None;
    }
    cx.wait(Reason::Suspended, "spec.suspend is true: nothing is changed", Requeue::default())
}

/// What was issued before stays as it is.
pub(in crate::lifecycle) fn not_allowed(cx: &Context<'_>) -> Option<Decision> {
    let message = cx.forbidden()?.message(cx.seen.names.account);
    // Not all operators may watch the labels of namespaces.
    let requeue = if cx.seen.account.standing.outside.is_some() { Requeue::next_list() } else { Requeue::default() };
    cx.wait(Reason::NotAllowed, message, requeue.earliest(Requeue::on_account_change()))
}

/// That a rotation waits for a window: which one, until when, and what for.
fn waits_for_window(cx: &Context<'_>, held: &Held) -> String {
    let what = match held.cause {
        Cause::ScopeChanged => "a token with the changed scope",
        Cause::RotateRequested => "the rotation that datafa.st/rotate asks for",
        _ => "a rotation by time (spec.rotation.every)",
    };
    let overdue = |at| format!(". It is overdue: the key is older than spec.rotation.every since {at:.0}");
    let overdue = held.overdue_since.map(overdue).unwrap_or_default();
    let until = match held.until {
        Some(at) => format!("until {at:.0}"),
        None => "and none opens in sight: change the windows".to_owned(),
    };
    let obstacle = cx.timing.obstacle(cx.seen.names.account);
    let obstacle = obstacle.map(|what| format!(" ({what})")).unwrap_or_default();
    format!("; {what} waits for a window {until}{obstacle}{overdue}")
}

pub(in crate::lifecycle) fn up_to_date(cx: &Context<'_>) -> Decision {
    let name = cx.seen.names.secret;
    let rest = |reason, message: String, requeue| Decision::Rest { verdict: cx.verdict(reason, message), requeue };
    // Without an account or its credential, even what works says so.
    let speaks = !matches!(cx.seen.account.availability, Availability::NotFound | Availability::NotReady(_));
    match &cx.secret_state {
        SecretState::Live(listed) if speaks => {
            let mut message = format!("Secret {name:?} holds token {}", listed.token.shown());
            for used in retiring(cx).filter(Retirement::is_in_use) {
                let until = used.until().map(|at| format!(", and is revoked at {at:.0}")).unwrap_or_default();
                message += &format!("; its predecessor {} is still in use{until}", used.listed.token.shown());
            }
            if let Usage::UnusedSince { since, .. } = usage(cx) {
                message += &format!("; no key of it has been used since {since:.0} (spec.whenUnused)");
            }
            if let Some(flaw) = cx.desired.windows.flaw() {
                let message = format!(
                    "spec.rotation.windows{flaw}. Until then no rotation begins by time, by datafa.st/rotate or by a change of scope; the key in Secret {name:?} works on, and datafa.st/revoke-now is served"
                );
                return rest(Reason::Rejected, message, Requeue::default());
            }
            let Some(held) = &cx.held else { return rest(Reason::Issued, message, Requeue::default()) };
            // What is wanted is not there yet; a rotation takes nothing away from what is.
            let reason = if held.cause == Cause::ScopeChanged { Reason::Rotating } else { Reason::Issued };
            rest(reason, message + &waits_for_window(cx, held), Requeue::default())
        }
        _ => cx.closed().unwrap_or_else(|| {
            let message = format!("Waiting for DataFast's list to confirm the token in Secret {name:?}");
            let slot = cx.has_made_room().then(|| waiting(cx));
            let requeue = Requeue { slot, ..Requeue::next_list() };
            rest(if cx.works { Reason::Issued } else { Reason::Issuing }, message, requeue)
        }),
    }
}
