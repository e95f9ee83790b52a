//! A token that nobody uses: `whenUnused` has it told, or ended.
//!
//! What tells that it was not used is a list that began a horizon after the time was over, with the token in it and with
//! what DataFast knows of its use. Where the list lags, lacks the token or does not tell, or DataFast can't be called,
//! nothing is known, and nothing is revoked.
//!
//! The end is written down before it begins, for the Secret goes, and its record with it: `status.unusedSince` and the
//! request that was served by then. From there any process goes on, and by it a new request is known.

use jiff::{SignedDuration, Timestamp};

use super::ending::{End, end};
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Decision, Requeue, RevokeCause};
use crate::lifecycle::desired::WhenUnused;
use crate::lifecycle::local::Watched;
use crate::lifecycle::record::Request;
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::snapshot::Listed;
use crate::lifecycle::verdict::Reason;

/// Where DataFast's list does not tell of a token's use, it is looked at again this much later.
const TELLS_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// What is known of the use of a resource's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lifecycle) enum Usage {
    /// It is used, or too young to tell, or nobody asks.
    Used,
    /// Not since then, which is as long as is asked about.
    UnusedSince {
        /// Since when.
        since: Timestamp,
        /// The last list tells. Otherwise a former one did.
        is_listed: bool,
    },
    /// Nothing tells now: what was told stays.
    Unknown,
    /// It was ended for that, or is about to be.
    Ended {
        /// Since when it was not used.
        since: Timestamp,
    },
    /// It was ended for that, and a new one is asked for.
    WantedAgain,
}

/// Ends a token that nobody uses.
pub(in crate::lifecycle) fn unused(cx: &Context<'_>) -> Option<Decision> {
    let when = cx.desired.when_unused.as_ref().filter(|when| when.revoke)?;
    match usage(cx) {
        Usage::UnusedSince { since, is_listed: true } if !rotation_is_asked(cx) => {
            if is_written_down(cx, since) {
                return end(cx, &end_of(when, since));
            }
            let message = format!("{}: its token is about to be revoked", end_of(when, since).over);
            cx.closed().is_none().then(|| cx.wait(Reason::Unused, message, at_once(cx)))?
        }
        // Whatever became of it: not before a list tells.
        Usage::Ended { since } if matches!(cx.secret_state, SecretState::Unconfirmed(_)) => cx.closed().or_else(|| {
            let message = format!("{}: its token is revoked once a list shows it", end_of(when, since).over);
            cx.wait(Reason::Unused, message, Requeue::next_list())
        }),
        Usage::Ended { since } => end(cx, &end_of(when, since)),
        // That nothing is at its end any more is written down before anything begins.
        Usage::WantedAgain => cx.wait(cx.at_work(), "A new token is asked for", at_once(cx)),
        Usage::Used | Usage::UnusedSince { .. } | Usage::Unknown => None,
    }
}

fn end_of(when: &WhenUnused, since: Timestamp) -> End {
    End {
        reason: Reason::Unused,
        cause: RevokeCause::Unused,
        over: format!(
            "No key of it has been used since {since:.0}, for more than spec.whenUnused.after ({:#})",
            when.after
        ),
        remedy: "for a new token, give the annotation datafa.st/rotate another value",
    }
}

/// What is known of its use.
pub(in crate::lifecycle) fn usage(cx: &Context<'_>) -> Usage {
    let Some(when) = &cx.desired.when_unused else { return Usage::Used };
    let told = cx.seen.status.unused_since;
    if let SecretState::Live(listed) = &cx.secret_state {
        let since = idle_since(cx, when, listed);
        let is_listed = elapsed(cx, since) >= when.after && is_shown(cx, plus(since, when.after));
        let told = told.filter(|told| told.as_second() >= since.as_second());
        return match (is_listed, told) {
            (true, told) => Usage::UnusedSince { since: told.unwrap_or(since), is_listed },
            (false, Some(since)) => Usage::UnusedSince { since, is_listed },
            (false, None) => Usage::Used,
        };
    }
    let Some(since) = told else { return Usage::Used };
    match &cx.secret_state {
        SecretState::Unproven(_) => Usage::Unknown,
        _ if !when.revoke => match &cx.secret_state {
            SecretState::Unconfirmed(_) | SecretState::Missing(_) | SecretState::Hidden(_) => Usage::Unknown,
            _ => Usage::Used,
        },
        _ if is_asked_again(cx) || last_use(cx).is_some_and(|used| used.as_second() > since.as_second()) => {
            Usage::WantedAgain
        }
        // Its key works, and what became of its use can't be seen.
        SecretState::Hidden(_) => Usage::Unknown,
        _ => Usage::Ended { since },
    }
}

/// Since when no key of the resource has been used: at the earliest, since the Secret has had this one, and since there was
/// the resource.
fn idle_since(cx: &Context<'_>, when: &WhenUnused, listed: &Listed) -> Timestamp {
    let record = cx.seen.secret_record();
    let attempt = record.and_then(|record| record.attempt.as_ref()).and_then(|nonce| cx.seen.log.get(nonce));
    let status = &cx.seen.status;
    let shown = status.last_used_at.filter(|_| status.token_id.as_ref() == Some(&listed.token.id));
    let issued = record.and_then(|record| record.issued_at).into_iter().chain(attempt.map(|attempt| attempt.at));
    issued.chain(shown).chain(last_use(cx)).fold(when.created, Timestamp::max)
}

/// The last use of any of its tokens, as listed: a consumer may still have a former one's key.
fn last_use(cx: &Context<'_>) -> Option<Timestamp> {
    cx.seen.own_tokens().filter_map(|listed| listed.token.last_used_at).max()
}

/// Whether the last list tells of each of its tokens that it was not used up to `until`.
fn is_shown(cx: &Context<'_>, until: Timestamp) -> bool {
    let Some(snapshot) = cx.seen.account.snapshot else { return false };
    cx.seen.own_tokens().all(|listed| listed.token.tells_use && snapshot.shows(&listed.token.id, until))
}

/// How long ago something was, by the more cautious of both clocks; it may have been before this process began, or since.
fn elapsed(cx: &Context<'_>, since: Timestamp) -> SignedDuration {
    let by_wall = cx.now.duration_since(since);
    let by_steady = |watched: &Watched| watched.lasted.saturating_add(watched.first.duration_since(since));
    cx.seen.local.watched.as_ref().map_or(by_wall, |watched| by_wall.min(by_steady(watched)))
}

/// A rotation that is asked for comes first: its key is another one's.
fn rotation_is_asked(cx: &Context<'_>) -> bool {
    cx.desired.requests.rotate_is_open(&cx.seen.answered())
}

/// Whether status tells that it ends, and which request was served by then.
fn is_written_down(cx: &Context<'_>, since: Timestamp) -> bool {
    let told = cx.seen.status.unused_since.map(Timestamp::as_second);
    told == Some(since.as_second()) && !is_asked_again(cx)
}

/// Whether a new token is asked for since it ended.
fn is_asked_again(cx: &Context<'_>) -> bool {
    let asked = &cx.desired.requests.rotate;
    asked.is_some() && *asked != cx.seen.status.rotate_request
}

/// `unusedSince`.
pub(in crate::lifecycle) fn told(cx: &Context<'_>) -> Option<Timestamp> {
    match usage(cx) {
        Usage::Used | Usage::WantedAgain => None,
        Usage::UnusedSince { since, .. } | Usage::Ended { since } => Some(since),
        Usage::Unknown => cx.seen.status.unused_since,
    }
}

/// The request that is told to be served where a token ends, by which the next one is known; none: as ever.
pub(in crate::lifecycle) fn served_request(cx: &Context<'_>) -> Option<Request> {
    cx.desired.when_unused.as_ref().filter(|when| when.revoke)?;
    match usage(cx) {
        Usage::UnusedSince { is_listed: true, .. } if !rotation_is_asked(cx) => cx.desired.requests.rotate.clone(),
        Usage::Ended { .. } | Usage::Unknown => cx.seen.status.rotate_request.clone(),
        _ => None,
    }
}

/// When it may turn out that the token is not used.
pub(in crate::lifecycle) fn next(cx: &Context<'_>) -> Requeue {
    let (Some(when), SecretState::Live(listed)) = (&cx.desired.when_unused, &cx.secret_state) else {
        return Requeue::default();
    };
    let left = when.after.saturating_sub(elapsed(cx, idle_since(cx, when, listed)));
    match usage(cx) {
        Usage::Used if left > SignedDuration::ZERO => Requeue::at(plus(cx.now, left)),
        Usage::Used | Usage::UnusedSince { is_listed: false, .. } if listed.token.tells_use => Requeue::next_list(),
        // What DataFast does not tell, it may tell one day.
        Usage::Used => Requeue::at(plus(cx.now, TELLS_AGAIN)),
        _ => Requeue::default(),
    }
}

/// Once status is written.
fn at_once(cx: &Context<'_>) -> Requeue {
    Requeue::at(plus(cx.now, SignedDuration::from_millis(1)))
}

fn plus(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.saturating_add(time).unwrap_or(Timestamp::MAX)
}
