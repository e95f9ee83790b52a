//! The finalizer: without it, a resource can be deleted before anybody revokes what it has at DataFast.

use jiff::Timestamp;

use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue};
use crate::lifecycle::local::{Local, Refused};

/// Puts the finalizer back, whoever took it off and whatever else there is to say: a GitOps tool that replaces a resource
/// drops it. Where that is refused, the rest goes on meanwhile.
pub(in crate::lifecycle) fn finalizer(cx: &Context<'_>) -> Option<Decision> {
    let is_missing = !cx.seen.has_finalizer && cx.seen.has_something_to_lose();
    put_back(is_missing, cx.seen.local, cx.now).map(Decision::Act)
}

/// As [`finalizer`], also where nothing else can be decided.
pub(in crate::lifecycle) fn put_back(is_missing: bool, local: &Local, now: Timestamp) -> Option<Action> {
    (is_missing && refusal(local, now).is_none()).then_some(Action::AddFinalizer)
}

/// Puts it on before anything is the resource's own, which waits for it.
pub(super) fn first(cx: &Context<'_>) -> Option<Decision> {
    match refused(cx) {
        Some(Refused { message, retry_at }) => {
            let message = format!("The finalizer can't be put on: {message}");
            cx.wait(cx.at_work(), message, Requeue::at(*retry_at))
        }
        None => cx.act(Action::AddFinalizer),
    }
}

/// Takes it off: nothing else is left of the resource.
pub(super) fn release(cx: &Context<'_>) -> Decision {
    match refused(cx) {
        Some(Refused { message, retry_at }) => {
            let message = format!(
                "Nothing else is left to be done, but the finalizer can't be taken off: {message}. It is tried again at least every minute. Let the operator update resources that are being deleted"
            );
            let verdict = cx.verdict(cx.at_work(), message);
            Decision::Rest { verdict, requeue: Requeue::at(*retry_at) }
        }
        None => Decision::Act(Action::Release),
    }
}

/// When it is tried again to put it on.
pub(in crate::lifecycle) fn next_try(cx: &Context<'_>) -> Requeue {
    let is_missing = !cx.seen.has_finalizer && cx.seen.has_something_to_lose();
    refused(cx).filter(|_| is_missing).map_or(Requeue::default(), |refused| Requeue::at(refused.retry_at))
}

/// The API server's refusal to have it changed, until it is time to try again.
fn refused<'a>(cx: &Context<'a>) -> Option<&'a Refused> {
    refusal(cx.seen.local, cx.now)
}

fn refusal(local: &Local, now: Timestamp) -> Option<&Refused> {
    local.finalizer.as_ref().filter(|refused| now < refused.retry_at)
}
