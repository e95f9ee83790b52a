//! Issuing: what must be true before a request is sent, and what the Secret's record says once it holds the key.

use jiff::{SignedDuration, Timestamp};

use super::decide::{Action, Decision, RevokeCause, Wake};
use super::local::{Held, LateCause, Preflight, Unsent};
use super::look::Look;
use super::marker::Nonce;
use super::queue::{Priority, Waiting};
use super::record::{Attempt, Cause, Previous, Request, Requests, SecretRecord};
use super::snapshot::{Listed, Snapshot};
use super::superseded::retiring;
use super::throttle;
use super::verdict::Reason;

pub(super) fn token_needed(look: &Look<'_>) -> Option<Decision> {
    let cause = look.need?;
    // Who could not use a slot does not wait for one.
    look.closed()
        .or_else(|| rejected(look))
        .or_else(|| throttled(look, cause))
        .or_else(|| share_is_used(look, cause))
        .or_else(|| no_slot(look))
        .or_else(|| issue(look, cause))
}

/// Where an account limits what a namespace may have, no resource has more than one former token: else one of them could
/// take all slots by being rotated again and again.
fn share_is_used(look: &Look<'_>, cause: Cause) -> Option<Decision> {
    look.seen.account.allow?.most_per_namespace.filter(|_| look.rolls.is_none())?;
    if !matches!(cause, Cause::ScopeChanged | Cause::RotateRequested | Cause::RotationDue) {
        return None;
    }
    let former = retiring(look).next()?;
    let until = former.until().map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let message = format!(
        "DataFastAccount {:?} has a limit for each namespace (allow.maxTokensPerNamespace), so a resource has one former token at most: it goes on when {} is revoked{until}. Shorten spec.rotation.overlap for that to be sooner",
        look.seen.names.account, former.listed.token.display_key
    );
    look.wait(Reason::WaitingForSlot, message, Wake::default())
}

/// Whether the account has no slot, and would have one with a token less.
pub(super) fn lacks_one_slot(look: &Look<'_>) -> bool {
    look.seen.account.slots.as_ref().is_some_and(|slots| slots.free == 0)
}

/// As one of those that wait for a slot.
pub(super) fn waiting(look: &Look<'_>) -> Waiting {
    let has_made_room = look.seen.local.made_room || look.has_made_room();
    let priority = match (has_made_room, look.works) {
        (true, _) => Priority::MadeRoom,
        (false, true) => Priority::Rotation,
        (false, false) => Priority::New,
    };
    Waiting {
        priority,
        since: look.seen.status.waiting_since.unwrap_or(whole_seconds(look.now)),
        owner: look.seen.owner.clone(),
    }
}

/// As status will say it.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn no_slot(look: &Look<'_>) -> Option<Decision> {
    // Another key for the same token needs none.
    let slots = look.seen.account.slots.as_ref().filter(|_| look.rolls.is_none())?;
    let waiting = waiting(look);
    let ahead = slots.ahead_of(&waiting);
    let is_served = i64::try_from(ahead).is_ok_and(|ahead| slots.free > ahead);
    // A former token rather than the one in the Secret, and none that DataFast refuses to delete.
    let former = retiring(look).map(|retirement| retirement.listed);
    let mut candidates = former.chain(look.listed()).filter(|listed| look.denied(&listed.token.id).is_none());
    let candidate = candidates.next().filter(|_| lacks_one_slot(look));
    // A token whose key is lost makes room once its successor can be sent.
    if is_served || look.has_lost_key() && candidate.is_some() && !may_send(look) {
        return None;
    }
    if let (true, Some(listed)) = (look.makes_room(), candidate) {
        // Not before its successor is recorded, and its Secret sure to be taken.
        let revoke = Action::Revoke { token_id: listed.token.id.clone(), cause: RevokeCause::MadeRoom };
        return look.act(revoke).filter(|_| may_send(look));
    }
    let remedy = match (look.works, look.makes_room()) {
        (true, false) => {
            "The old token goes on working. Delete a token there, or set spec.rotation.whenFull to RevokeFirst"
        }
        _ => "It goes on when a token there is deleted",
    };
    let account = look.seen.names.account;
    let website = look.seen.names.website.map(|website| format!("Website {website} of ")).unwrap_or_default();
    let message =
        format!("{website}DataFastAccount {account:?} has no free slot: place {} in the queue. {remedy}", ahead + 1);
    look.wait(Reason::WaitingForSlot, message, Wake { slot: Some(waiting), news: true, ..Wake::default() })
}

fn rejected(look: &Look<'_>) -> Option<Decision> {
    let rejected = look.seen.local.rejected.as_ref()?;
    if rejected.spec_hash != look.desired.scope.hash() || look.now >= rejected.retry_at {
        return None;
    }
    let message =
        format!("DataFast refused the request: {:?}. Correct spec, or the account's credential", rejected.message);
    look.wait(Reason::Rejected, message, Wake::at(rejected.retry_at))
}

fn throttled(look: &Look<'_>, cause: Cause) -> Option<Decision> {
    if !matches!(cause, Cause::KeyLost | Cause::Vanished) {
        return None;
    }
    let mut issued = look.seen.log.clone();
    // An attempt that made no token is no reason to wait.
    issued.0.retain(|a| look.seen.local.unsent.as_ref().is_none_or(|unsent| unsent.nonce != a.nonce));
    let at = throttle::not_before(&issued, look.now)?;
    let message = format!(
        "Its token was deleted or its Secret was changed again after a short time: the next is issued at {at:.0}. Find out what does that"
    );
    look.wait(Reason::Throttled, message, Wake::at(at))
}

/// The attempt that is recorded as the current one and has made no token.
fn unsent<'a>(look: &Look<'a>) -> Option<(&'a Unsent, &'a Attempt)> {
    let unsent = look.seen.local.unsent.as_ref()?;
    let current = look.seen.log.current().filter(|current| current.nonce == unsent.nonce)?;
    Some((unsent, current))
}

/// Whether nothing is left to do but to send the request.
pub(super) fn may_send(look: &Look<'_>) -> bool {
    let held_up = |cause| rejected(look).or_else(|| throttled(look, cause)).is_some();
    let is_ready = |(unsent, current): (&Unsent, &Attempt)| {
        unsent.preflight == Preflight::Passed && is_fresh(look, current) && current.rolls.as_ref() == look.rolls
    };
    unsent(look).is_some_and(is_ready) && look.forbidden().is_none() && !look.need.is_some_and(held_up)
}

fn issue(look: &Look<'_>, cause: Cause) -> Option<Decision> {
    let Some((unsent, current)) = unsent(look) else {
        return too_late(look).or_else(|| look.act(record(look, None, cause)));
    };
    match &unsent.preflight {
        Preflight::Refused(refused) if look.now < refused.retry_at => {
            let name = look.seen.names.secret;
            let message = format!("Secret {name:?} would be refused, so no token is issued: {}", refused.message);
            look.wait(Reason::SecretWriteRefused, message, Wake::at(refused.retry_at))
        }
        Preflight::Refused(_) | Preflight::Unknown => look.act(Action::Preflight),
        Preflight::Passed if may_send(look) => {
            let by = current.send_by(look.seen.horizon);
            look.act(Action::Send { nonce: unsent.nonce.clone(), cause, rolls: look.rolls.cloned(), by })
        }
        // The horizon is counted from the recorded time: an old entry would be given up before its request ends. And an
        // entry tells what is asked for.
        Preflight::Passed => too_late(look).or_else(|| look.act(record(look, Some(unsent.nonce.clone()), cause))),
    }
}

/// Whether the attempt was recorded again and again, and grew too old each time before its request could be sent.
fn too_late(look: &Look<'_>) -> Option<Decision> {
    let late = look.seen.local.late.as_ref().filter(|late| look.now < late.retry_at)?;
    let took = SignedDuration::from_secs(late.took.as_secs());
    let why = match late.cause {
        LateCause::ApiServer => format!(
            "The API server took {took:#} to record the request for the token: sent so late, a lost answer could leave a token behind. Find out what slows the API server down, such as an admission webhook that does not answer"
        ),
        LateCause::Turn => format!(
            "The request for the token waited {took:#} for its turn among the account's calls, and was not sent so late: DataFast's answers are slow"
        ),
    };
    look.wait(look.at_work(), format!("{why}. It is tried again at {:.0}", late.retry_at), Wake::at(late.retry_at))
}

/// Whether a request that is sent now ends well within the horizon of its attempt. An attempt is recorded ahead of its time
/// by a horizon at most; further ahead, the clock was set back since.
fn is_fresh(look: &Look<'_>, attempt: &Attempt) -> bool {
    let horizon = look.seen.horizon;
    look.now <= attempt.send_by(horizon) && attempt.at.duration_since(look.now) <= horizon
}

/// The time as of which an attempt is recorded. Where the last one came too late, as much is added as that took: an attempt
/// whose time is yet to come makes others wait for longer, and never for less.
fn recorded_at(look: &Look<'_>) -> Timestamp {
    let ahead = look.seen.local.late.as_ref().map_or(SignedDuration::ZERO, |late| late.took.min(look.seen.horizon));
    look.now.saturating_add(ahead).unwrap_or(Timestamp::MAX)
}

pub(super) fn record(look: &Look<'_>, again: Option<Nonce>, cause: Cause) -> Action {
    let stays = |attempt: &&Attempt| {
        let absent = |snapshot: &Snapshot| snapshot.is_absent(&look.seen.owner, &attempt.nonce, attempt.at);
        let is_gone = look.seen.account.snapshot.is_some_and(absent);
        let is_held = look.seen.secret_record().is_some_and(|record| record.attempt.as_ref() == Some(&attempt.nonce));
        let is_told = look.seen.gave_former_key(attempt) || look.seen.is_lost_roll(attempt);
        let is_needed = !is_gone || is_held || is_told || throttle::counts(attempt.cause, attempt.at, look.now);
        again.as_ref() != Some(&attempt.nonce) && is_needed
    };
    let keep = look.seen.log.0.iter().filter(stays).cloned().collect();
    Action::Record { again, at: recorded_at(look), cause, keep, rolls: look.rolls.cloned() }
}

/// The Secret's record once it holds the key at hand: what it held before becomes `previous`.
pub(super) fn swapped(look: &Look<'_>, held: &Held) -> SecretRecord {
    let before = look.seen.secret_record();
    let answered = look.seen.answered();
    let at_once = held.requests.revoke_now_is_open(&answered);
    let mut previous: Vec<Previous> = before.map(|b| b.previous.clone()).unwrap_or_default();
    let names =
        |listed: &Listed| look.seen.attempt_of(listed).map_or_else(|| listed.token.id.to_string(), ToString::to_string);
    let replaced = look.seen.own_tokens().filter(|listed| listed.token.id != held.token_id);
    let replaced =
        replaced.filter(|listed| look.current() == Some(&listed.token.id) || look.seen.status.names(&listed.token.id));
    for token in replaced.map(names).collect::<Vec<_>>() {
        if previous.iter().all(|p| p.token != token) {
            previous.push(Previous { token, since: look.now, at_once });
        }
    }
    // A token that got another key may have been a former one.
    let own = look.seen.account.snapshot.and_then(|snapshot| snapshot.get(&held.token_id)).map(names);
    previous.retain(|p| !is_known_gone(look, p) && Some(&p.token) != own.as_ref());
    // Whoever asks for that has a key in wrong hands: which of the former ones it is, is not for us to guess.
    previous.iter_mut().for_each(|p| p.at_once |= at_once);
    SecretRecord {
        attempt: Some(held.nonce.clone()),
        token_id: Some(held.token_id.clone()),
        issued_at: Some(if held.rolled { rolled_at(look, held) } else { look.now }),
        previous,
        spec_hash: Some(held.spec_hash.clone()),
        key_sha256: Some(held.key_sha256.clone()),
        request: last_answered(&held.requests, &answered).or_else(|| before?.request.clone()),
        // A request that was taken back stays answered.
        answered: held.requests.clone().or(before.map(|b| b.answered.clone()).unwrap_or_default()),
    }
}

/// Now, but by whole seconds, which is what status has, later than the key before: of one token's keys that alone tells
/// one from the next. And no sooner than its attempt, whose time may be yet to come.
fn rolled_at(look: &Look<'_>, held: &Held) -> Timestamp {
    let next_second = |at: Timestamp| Timestamp::from_second(at.as_second() + 1).unwrap_or(at);
    let recorded = look.seen.secret_record().and_then(|record| record.issued_at);
    let before = recorded.into_iter().chain(look.seen.status.issued_at).map(next_second);
    before.chain(look.seen.log.get(&held.nonce).map(|attempt| attempt.at)).fold(look.now, Timestamp::max)
}

/// The request that a swap answers, if it answers one.
fn last_answered(requests: &Requests, answered: &[Requests]) -> Option<Request> {
    match (requests.revoke_now_is_open(answered), requests.rotate_is_open(answered)) {
        (true, _) => requests.revoke_now.clone(),
        (false, true) => requests.rotate.clone(),
        (false, false) => None,
    }
}

fn is_known_gone(look: &Look<'_>, previous: &Previous) -> bool {
    let Some(snapshot) = look.seen.account.snapshot else { return false };
    let late_enough = snapshot.begun().duration_since(previous.since) >= look.seen.horizon;
    let is_listed = snapshot.tokens().any(|listed| {
        listed.token.id.as_str() == previous.token
            || look.seen.attempt_of(listed).is_some_and(|nonce| nonce.as_str() == previous.token)
    });
    late_enough && !is_listed
}
