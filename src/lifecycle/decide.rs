//! What to do next about one resource, as wanted and as seen.
//!
//! [`RULES`] reads as a table of contents: the first rule that applies decides.

use jiff::Timestamp;

use super::context::Context;
use super::decision::{Decision, Requeue};
use super::desired::Desired;
use super::observed::Observed;
use super::rules::delivery::{pending_key, request_under_way, restarts};
use super::rules::ending::{deletion, expired};
use super::rules::finalizer::{finalizer, next_try};
use super::rules::issuing::token_needed;
use super::rules::secret::{adoption, drift, foreign_secret, hidden};
use super::rules::standing::{not_allowed, suspended, unreadable, up_to_date};
use super::rules::superseded::{next_retirement, superseded_tokens};
use super::rules::unused::{self, unused};

type Rule = fn(&Context) -> Option<Decision>;

/// In this order: what is under way is waited for, what there is stays within reach, what was begun is finished, then what
/// is in excess goes, then what is missing comes.
const RULES: [Rule; 15] = [
    request_under_way,
    finalizer,
    pending_key,
    unreadable,
    restarts,
    suspended,
    expired,
    unused,
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
    let cx = Context::new(desired, seen, now);
    if desired.deleting {
        return deletion(&cx);
    }
    let decision = RULES.iter().find_map(|rule| rule(&cx)).unwrap_or_else(|| up_to_date(&cx));
    decision.also(next_retirement(&cx)).also(next_time(&cx)).also(next_try(&cx)).also(unused::next(&cx))
}

/// When the time alone changes what is to be done.
fn next_time(cx: &Context<'_>) -> Requeue {
    let expiry = cx.expires_in().map(|left| cx.now.saturating_add(left).unwrap_or(Timestamp::MAX));
    let times = expiry.into_iter().chain(cx.timing.wakes(cx.held.as_ref())).chain(cx.timing.overdue_at());
    times.filter(|at| *at > cx.now).map(Requeue::at).fold(Requeue::default(), Requeue::earliest)
}
