//! What the Secret's record says once the Secret holds the pending key.

use jiff::Timestamp;

use crate::lifecycle::context::Context;
use crate::lifecycle::local::PendingKey;
use crate::lifecycle::record::{Previous, Request, Requests, SecretRecord};
use crate::lifecycle::snapshot::Listed;

/// The Secret's record once it holds the pending key: what it held before becomes `previous`.
pub(in crate::lifecycle) fn swapped(cx: &Context<'_>, pending: &PendingKey) -> SecretRecord {
    let before = cx.seen.secret_record();
    let answered = cx.seen.answered();
    let at_once = pending.requests.revoke_now_is_open(&answered);
    let mut previous: Vec<Previous> = before.map(|b| b.previous.clone()).unwrap_or_default();
    let names =
        |listed: &Listed| cx.seen.attempt_of(listed).map_or_else(|| listed.token.id.to_string(), ToString::to_string);
    let replaced = cx.seen.own_tokens().filter(|listed| listed.token.id != pending.token_id);
    let replaced =
        replaced.filter(|listed| cx.current() == Some(&listed.token.id) || cx.seen.status.names(&listed.token.id));
    for token in replaced.map(names).collect::<Vec<_>>() {
        if previous.iter().all(|p| p.token != token) {
            previous.push(Previous { token, since: cx.now, at_once });
        }
    }
    // A token that got another key may have been a former one.
    let own = cx.seen.account.snapshot.and_then(|snapshot| snapshot.get(&pending.token_id)).map(names);
    previous.retain(|p| !is_known_gone(cx, p) && Some(&p.token) != own.as_ref());
    // Whoever asks for that has a key in wrong hands: which of the former ones it is, is not for us to guess.
    previous.iter_mut().for_each(|p| p.at_once |= at_once);
    SecretRecord {
        attempt: Some(pending.nonce.clone()),
        token_id: Some(pending.token_id.clone()),
        issued_at: Some(if pending.rolled { rolled_at(cx, pending) } else { cx.now }),
        previous,
        spec_hash: Some(pending.spec_hash.clone()),
        key_sha256: Some(pending.key_sha256.clone()),
        request: last_answered(&pending.requests, &answered).or_else(|| before?.request.clone()),
        // A request that was taken back stays answered.
        answered: pending.requests.clone().or(before.map(|b| b.answered.clone()).unwrap_or_default()),
    }
}

/// Now, but by whole seconds, which is what status has, later than the key before: of one token's keys that alone tells
/// one from the next. And no sooner than its attempt, whose time may be yet to come.
fn rolled_at(cx: &Context<'_>, pending: &PendingKey) -> Timestamp {
    let next_second = |at: Timestamp| Timestamp::from_second(at.as_second() + 1).unwrap_or(at);
    let recorded = cx.seen.secret_record().and_then(|record| record.issued_at);
    let before = recorded.into_iter().chain(cx.seen.status.issued_at).map(next_second);
    before.chain(cx.seen.log.get(&pending.nonce).map(|attempt| attempt.at)).fold(cx.now, Timestamp::max)
}

/// The request that a swap answers, if it answers one.
fn last_answered(requests: &Requests, answered: &[Requests]) -> Option<Request> {
    match (requests.revoke_now_is_open(answered), requests.rotate_is_open(answered)) {
        (true, _) => requests.revoke_now.clone(),
        (false, true) => requests.rotate.clone(),
        (false, false) => None,
    }
}

fn is_known_gone(cx: &Context<'_>, previous: &Previous) -> bool {
    let Some(snapshot) = cx.seen.account.snapshot else { return false };
    let late_enough = snapshot.begun().duration_since(previous.since) >= cx.seen.horizon;
    let is_listed = snapshot.tokens().any(|listed| {
        listed.token.id.as_str() == previous.token
            || cx.seen.attempt_of(listed).is_some_and(|nonce| nonce.as_str() == previous.token)
    });
    late_enough && !is_listed
}
