//! Tokens of the resource that its Secret does not hold: lost ones go at once, retired ones when their overlap has passed.

use jiff::Timestamp;

use super::decide::{Action, Decision, RevokeCause, Wake};
use super::issuing::{has_no_slot, may_send, record};
use super::look::Look;
use super::marker::Nonce;
use super::record::{Cause, Previous};
use super::snapshot::Listed;

/// Revokes lost tokens at once and retired ones when their overlap has passed.
pub(super) fn superseded_tokens(look: &Look<'_>) -> Option<Decision> {
    let (listed, standing) = in_excess(look).find(|(listed, standing)| {
        let is_due = match standing {
            Standing::Lost => true,
            Standing::Retired(until) => until.is_some_and(|until| look.now >= until),
        };
        is_due && look.denied(&listed.token.id).is_none()
    })?;
    if look.closed().is_some() {
        return None;
    }
    let is_current = look.seen.log.current().is_some_and(|c| look.seen.attempt_of(listed) == Some(&c.nonce));
    match (standing, is_current, look.need) {
        // The new entry keeps another leader that may hold this key from writing it: its attempt is no longer current.
        (Standing::Lost, true, Some(cause)) => look.act(record(look, None, cause)),
        (Standing::Lost, ..) => look.act(revoke(listed, RevokeCause::LostAttempt)),
        (Standing::Retired(_), ..) => look.act(revoke(listed, RevokeCause::Retired)),
    }
}

fn revoke(listed: &Listed, cause: RevokeCause) -> Action {
    Action::Revoke { token_id: listed.token.id.clone(), cause }
}

/// What a token of ours is that the Secret does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No Secret ever held its key.
    Lost,
    /// Another took its place; it goes at this time, or, where that is not known yet, after the next swap.
    Retired(Option<Timestamp>),
}

/// Our tokens that the Secret does not hold.
fn in_excess<'a>(look: &'a Look<'a>) -> impl Iterator<Item = (&'a Listed, Standing)> {
    let held = look.seen.local.held.as_ref().map(|h| &h.token_id);
    look.seen
        .own_tokens()
        .filter(move |listed| {
            let id = &listed.token.id;
            look.current() != Some(id) && held != Some(id)
        })
        .map(|listed| (listed, standing(look, listed)))
}

fn standing(look: &Look<'_>, listed: &Listed) -> Standing {
    let seen = look.seen;
    match (replaced_at(look, listed), seen.status.names(&listed.token.id)) {
        (None, false) => Standing::Lost,
        // No Secret has its key any more, but consumers may. It goes first only where another has no room beside it,
        // and not before that other one can be issued.
        (None, true) if look.need == Some(Cause::KeyLost) => {
            let in_the_way = !seen.status.retiring.is_empty() || has_no_slot(look);
            Standing::Retired((in_the_way && may_send(look)).then_some(look.now))
        }
        (since, _) => {
            let since = since.or_else(|| look.works.then(|| seen.secret_record()?.issued_at)?);
            Standing::Retired(since.map(|at| at.saturating_add(look.desired.overlap).unwrap_or(Timestamp::MAX)))
        }
    }
}

/// Since when the Secret has held another token than this one, by its record.
fn replaced_at(look: &Look<'_>, listed: &Listed) -> Option<Timestamp> {
    let nonce = look.seen.attempt_of(listed).map(Nonce::as_str);
    let is_it = |p: &&Previous| Some(p.token.as_str()) == nonce || p.token == listed.token.id.as_str();
    look.seen.secret_record()?.previous.iter().find(is_it).map(|p| p.since)
}

pub(super) fn next_retirement(look: &Look<'_>) -> Wake {
    let waits = in_excess(look).filter_map(|(_, standing)| match standing {
        Standing::Retired(Some(at)) if at > look.now => Some(Wake::at(at)),
        Standing::Retired(None) => None,
        // Due, and not revoked: the account is closed, or denied it.
        Standing::Lost | Standing::Retired(Some(_)) => Some(Wake::account()),
    });
    let denied = look.seen.own_tokens().filter_map(|listed| look.denied(&listed.token.id));
    waits.chain(denied).fold(Wake::default(), Wake::earliest)
}

/// Tokens that the Secret held before and that are still there, with the times at which they go.
pub(super) fn retiring<'a>(look: &'a Look<'a>) -> impl Iterator<Item = (&'a Listed, Option<Timestamp>)> {
    in_excess(look).filter_map(|(listed, standing)| match standing {
        Standing::Retired(until) => Some((listed, until)),
        Standing::Lost => None,
    })
}
