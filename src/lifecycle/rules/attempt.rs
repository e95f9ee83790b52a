//! One attempt at issuing: record, dry run, request; and what keeps a recorded one from being sent.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::datafast::TokenId;
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue};
use crate::lifecycle::local::{LateCause, Preflight, Unsent};
use crate::lifecycle::marker::Nonce;
use crate::lifecycle::record::{Attempt, Cause};
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::throttle;
use crate::lifecycle::verdict::Reason;

/// DataFast could not serve the last request for this resource: it is asked again ever later, and others go on.
pub(in crate::lifecycle) fn unavailable(cx: &Context<'_>) -> Option<Decision> {
    let failed = cx.seen.local.unserved.as_ref().filter(|failed| cx.now < failed.retry_at)?;
    let message = format!(
        "DataFast could not serve the request for the token ({}): it is sent again at {:.0}",
        failed.message, failed.retry_at
    );
    cx.wait(Reason::ApiUnavailable, message, Requeue::at(failed.retry_at))
}

pub(in crate::lifecycle) fn rejected(cx: &Context<'_>) -> Option<Decision> {
    let rejected = cx.seen.local.rejected.as_ref()?;
    if rejected.spec_hash != cx.desired.scope.hash() || cx.now >= rejected.retry_at {
        return None;
    }
    // That the account is full is for the queue, where a list says so too, or others were told the same.
    let is_told_by_slots = cx.seen.account.slots.as_ref().is_some_and(|slots| slots.free <= 0 || slots.is_learnt);
    let requeue = Requeue::at(rejected.retry_at).earliest(Requeue::on_account_change());
    if rejected.may_be_full && is_told_by_slots {
        return None;
    }
    if rejected.may_be_full {
        let message = format!(
            "DataFast says that it has no room for another token ({:?}), though its list shows fewer than tokenLimit: place 1 in the queue. It is asked again at {:.0}; delete a token there",
            rejected.message, rejected.retry_at
        );
        return cx.wait(Reason::WaitingForSlot, message, requeue);
    }
    let message =
        format!("DataFast refused the request: {:?}. Correct spec, or the account's credential", rejected.message);
    cx.wait(Reason::Rejected, message, requeue)
}

/// Whatever makes the operator issue again and again is slowed down, be it a tool that fights over the Secret or a template
/// with another value at each rendering: else it would use up what all of the account share.
pub(in crate::lifecycle) fn throttled(cx: &Context<'_>, cause: Cause) -> Option<Decision> {
    let mut issued = cx.seen.log.clone();
    // An attempt that made no token is no reason to wait.
    issued.0.retain(|a| cx.seen.local.unsent.as_ref().is_none_or(|unsent| unsent.nonce != a.nonce));
    let at = throttle::not_before(&issued, cause, cx.now)?;
    let why = match cause {
        Cause::KeyLost | Cause::Vanished => "Its token was deleted or its Secret was changed again after a short time",
        _ => "A new key was asked for again and again, by annotation or by a change of its scope",
    };
    let message = format!("{why}: the next is issued at {at:.0}. Find out what does that");
    cx.wait(Reason::Throttled, message, Requeue::at(at))
}

/// The attempt that is recorded as the current one and has made no token.
fn unsent<'a>(cx: &Context<'a>) -> Option<(&'a Unsent, &'a Attempt)> {
    let unsent = cx.seen.local.unsent.as_ref()?;
    let current = cx.seen.log.current().filter(|current| current.nonce == unsent.nonce)?;
    Some((unsent, current))
}

/// Whether nothing is left to do but to send the request.
pub(in crate::lifecycle) fn may_send(cx: &Context<'_>) -> bool {
    let held_up = |cause| unavailable(cx).or_else(|| rejected(cx)).or_else(|| throttled(cx, cause)).is_some();
    let is_ready = |(unsent, current): (&Unsent, &Attempt)| {
        unsent.preflight == Preflight::Passed && is_fresh(cx, current) && current.rolls.as_ref() == cx.rolls
    };
    unsent(cx).is_some_and(is_ready) && cx.forbidden().is_none() && !cx.need.is_some_and(held_up)
}

pub(in crate::lifecycle) fn issue(cx: &Context<'_>, cause: Cause) -> Option<Decision> {
    let Some((unsent, current)) = unsent(cx) else {
        return too_late(cx).or_else(|| cx.act(record(cx, None, cause)));
    };
    match &unsent.preflight {
        Preflight::Refused(refused) if cx.now < refused.retry_at => {
            let name = cx.seen.names.secret;
            let message = format!("Secret {name:?} would be refused, so no token is issued: {}", refused.message);
            cx.wait(Reason::SecretWriteRefused, message, Requeue::at(refused.retry_at))
        }
        Preflight::Refused(_) | Preflight::Unknown => cx.act(Action::Preflight),
        Preflight::Passed if may_send(cx) => {
            let by = current.send_by(cx.seen.horizon);
            cx.act(Action::Send { nonce: unsent.nonce.clone(), cause, rolls: cx.rolls.cloned(), by })
        }
        // The horizon is counted from the recorded time: an old entry would be given up before its request ends. And an
        // entry tells what is asked for.
        Preflight::Passed => too_late(cx).or_else(|| cx.act(record(cx, Some(unsent.nonce.clone()), cause))),
    }
}

/// Whether the attempt was recorded again and again, and grew too old each time before its request could be sent.
fn too_late(cx: &Context<'_>) -> Option<Decision> {
    let late = cx.seen.local.late.as_ref().filter(|late| cx.now < late.retry_at)?;
    let took = SignedDuration::from_secs(late.took.as_secs());
    let why = match late.cause {
        LateCause::ApiServer => format!(
            "The API server took {took:#} to record the request for the token: sent so late, a lost answer could leave a token behind. Find out what slows the API server down, such as an admission webhook that does not answer"
        ),
        LateCause::Turn => format!(
            "The request for the token waited {took:#} for its turn among the account's calls, and was not sent so late: DataFast's answers are slow"
        ),
    };
    cx.wait(cx.at_work(), format!("{why}. It is tried again at {:.0}", late.retry_at), Requeue::at(late.retry_at))
}

/// Whether a request that is sent now ends well within the horizon of its attempt. An attempt is recorded ahead of its time
/// by a horizon at most; further ahead, the clock was set back since.
fn is_fresh(cx: &Context<'_>, attempt: &Attempt) -> bool {
    let horizon = cx.seen.horizon;
    cx.now <= attempt.send_by(horizon) && attempt.at.duration_since(cx.now) <= horizon
}

/// The time as of which an attempt is recorded. Where the last one came too late, as much is added as that took: an attempt
/// whose time is yet to come makes others wait for longer, and never for less.
fn recorded_at(cx: &Context<'_>) -> Timestamp {
    let ahead = cx.seen.local.late.as_ref().map_or(SignedDuration::ZERO, |late| late.took.min(cx.seen.horizon));
    cx.now.saturating_add(ahead).unwrap_or(Timestamp::MAX)
}

pub(in crate::lifecycle) fn record(cx: &Context<'_>, again: Option<Nonce>, cause: Cause) -> Action {
    let stays = |attempt: &&Attempt| {
        let absent = |snapshot: &Snapshot| snapshot.is_absent(&cx.seen.owner, &attempt.nonce, attempt.at);
        let is_gone = cx.seen.account.snapshot.is_some_and(absent);
        let is_held = cx.seen.secret_record().is_some_and(|record| record.attempt.as_ref() == Some(&attempt.nonce));
        let is_told = cx.seen.gave_former_key(attempt) || cx.seen.is_lost_roll(attempt);
        let is_needed = !is_gone || is_held || is_told || throttle::counts(attempt, cx.now);
        again.as_ref() != Some(&attempt.nonce) && is_needed
    };
    let keep = cx.seen.log.0.iter().filter(stays).cloned().collect();
    Action::Record { again, at: recorded_at(cx), cause, keep, adopted: adopted(cx), rolls: cx.rolls.cloned() }
}

/// What the log has to say of tokens that were taken over: its Secret may be lost, and the proof with it.
fn adopted(cx: &Context<'_>) -> BTreeSet<TokenId> {
    let seen = cx.seen;
    let is_left = |id: &&TokenId| {
        seen.status.names(id) || seen.account.snapshot.is_none_or(|snapshot| snapshot.get(id).is_some())
    };
    let own = seen.own_tokens().filter(|listed| seen.attempt_of(listed).is_none()).map(|listed| &listed.token.id);
    seen.adopted.iter().filter(is_left).chain(own).cloned().collect()
}
