//! Issuing: what must be true before an attempt is made.

use jiff::Timestamp;

use super::attempt::{issue, may_send, rejected, throttled, unavailable};
use super::superseded::retiring;
use crate::lifecycle::allow::share;
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue, RevokeCause};
use crate::lifecycle::queue::{Priority, Waiting, place};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

pub(in crate::lifecycle) fn token_needed(cx: &Context<'_>) -> Option<Decision> {
    let cause = cx.need?;
    // Who could not use a slot does not wait for one.
    cx.closed()
        .or_else(|| unavailable(cx))
        .or_else(|| rejected(cx))
        .or_else(|| throttled(cx, cause))
        .or_else(|| share_is_used(cx, cause))
        .or_else(|| no_slot(cx))
        .or_else(|| no_window(cx))
        .or_else(|| issue(cx, cause))
}

/// Where an account limits what a namespace may have, no resource has more than one former token: else one of them could
/// take all slots by being rotated again and again.
fn share_is_used(cx: &Context<'_>, cause: Cause) -> Option<Decision> {
    cx.seen.account.allow?.most(cx.is_website_key()).filter(|_| cx.rolls.is_none())?;
    if !matches!(cause, Cause::ScopeChanged | Cause::RotateRequested | Cause::RotationDue) {
        return None;
    }
    let former = retiring(cx).next()?;
    let until = former.until().map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let (_, rule) = share(cx.is_website_key());
    let message = format!(
        "DataFastAccount {:?} has a limit for each namespace ({rule}), so a resource has one former token at most: it goes on when {} is revoked{until}. Shorten spec.rotation.overlap for that to be sooner",
        cx.seen.names.account,
        former.listed.token.shown()
    );
    cx.wait(Reason::WaitingForSlot, message, Requeue::default())
}

fn no_slot(cx: &Context<'_>) -> Option<Decision> {
    // Another key for the same token needs none.
    let slots = cx.seen.account.slots.as_ref().filter(|_| cx.rolls.is_none())?;
    let waiting = waiting(cx);
    let ahead = slots.ahead_of(&waiting);
    let is_served = i64::try_from(ahead).is_ok_and(|ahead| slots.free > ahead);
    // A former token rather than the one in the Secret, and none that DataFast refuses to delete.
    let former = retiring(cx).map(|retirement| retirement.listed);
    let mut candidates = former.chain(cx.listed()).filter(|listed| cx.denied(&listed.token.id).is_none());
    let candidate = candidates.next().filter(|_| cx.lacks_one_slot());
    // A token whose key is lost makes room once its successor can be sent.
    if is_served || cx.has_lost_key() && candidate.is_some() && !may_send(cx) {
        return None;
    }
    if let (true, Some(listed)) = (cx.makes_room(), candidate) {
        // Not before its successor is recorded, and its Secret sure to be taken.
        let revoke = Action::Revoke { token_id: listed.token.id.clone(), cause: RevokeCause::MadeRoom };
        return cx.act(revoke).filter(|_| may_send(cx));
    }
    let remedy = match (cx.works, cx.makes_room()) {
        (true, false) => {
            "The old token goes on working. Delete a token there, or set spec.rotation.whenFull to RevokeFirst"
        }
        _ => "It goes on when a token there is deleted",
    };
    let account = cx.seen.names.account;
    let website = cx.seen.names.website.map(|website| format!("Website {website} of ")).unwrap_or_default();
    let message = format!("{website}DataFastAccount {account:?} has no free slot: {}. {remedy}", place(ahead));
    cx.wait(
        Reason::WaitingForSlot,
        message,
        Requeue { slot: Some(waiting), account_changes: true, ..Requeue::default() },
    )
}

/// As one of those that wait for a slot.
pub(in crate::lifecycle) fn waiting(cx: &Context<'_>) -> Waiting {
    let has_made_room = cx.seen.local.made_room || cx.has_made_room();
    let priority = match (has_made_room, cx.works) {
        (true, _) => Priority::MadeRoom,
        (false, true) => Priority::Rotation,
        (false, false) => Priority::New,
    };
    Waiting {
        priority,
        since: cx.seen.status.waiting_since.unwrap_or(whole_seconds(cx.now)),
        owner: cx.seen.owner.clone(),
    }
}

/// As status will say it.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// DataFast's rate window has no room: an attempt that is begun now would grow old before its turn. One that is begun
/// already waits for its turn among the account's calls.
fn no_window(cx: &Context<'_>) -> Option<Decision> {
    let window = cx.seen.account.window.as_ref().filter(|_| cx.seen.local.unsent.is_none())?;
    let waiting = waiting(cx);
    let ahead = window.makes_wait(&waiting)?;
    let message = format!(
        "DataFast's rate window of DataFastAccount {:?} is used up until {:.0}: {}. It goes on by itself then",
        cx.seen.names.account,
        window.until,
        place(ahead)
    );
    let requeue = Requeue { window: Some(waiting), ..Requeue::at(window.until) };
    cx.wait(Reason::RateLimited, message, requeue.earliest(Requeue::on_account_change()))
}
