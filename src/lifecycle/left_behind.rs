//! What a resource leaves behind that was deleted without us: somebody had taken its finalizer off.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::context::Context;
use super::desired::Desired;
use super::observed::{Observed, SecretFacts, SecretOwner, SecretView};
use super::rules::ending::is_gone;
use super::snapshot::{Listed, Snapshot};
use crate::datafast::TokenId;

/// What is to be done about it. `seen` is the resource as it was last, and its Secret as it is now: none where that is
/// another resource's by now, as that of one which took its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// To be revoked: the resource's record names them, and they have its marker.
    pub tokens: BTreeSet<TokenId>,
    /// Its status names them, and they stay: it was to leave them, or they can't be told to be its own.
    pub stay: BTreeSet<TokenId>,
    /// No list tells yet whether there are more.
    pub is_unknown: bool,
    /// Its Secret is to be deleted.
    pub has_secret: bool,
}

/// Finds out what a resource leaves behind.
pub fn left_behind(desired: &Desired, seen: &Observed<'_>, now: Timestamp) -> LeftBehind {
    let cx = Context::new(desired, seen, now);
    let is_careful = desired.unreadable.as_ref().is_some_and(|unreadable| unreadable.is_about_the_end);
    let named: BTreeSet<&TokenId> = seen.status.token_id.iter().chain(&seen.status.retiring).collect();
    let is_there = |id: &&&TokenId| !is_gone(&cx, id);
    let there = named.iter().filter(is_there).map(|id| (*id).clone()).filter(|id| !seen.taken.contains_key(id));
    let has_secret = !desired.retain && !is_careful && is_own_secret(seen);
    if desired.retain || desired.abandon || is_careful {
        return LeftBehind { stay: there.collect(), has_secret, ..LeftBehind::default() };
    }
    let listed = seen.account.snapshot.into_iter().flat_map(Snapshot::tokens);
    let own: BTreeSet<TokenId> = listed.filter(|it| is_own(seen, it)).map(|it| it.token.id.clone()).collect();
    let is_listed = |id: &TokenId| seen.account.snapshot.is_some_and(|snapshot| snapshot.get(id).is_some());
    let (stay, hidden): (Vec<_>, Vec<_>) = there.filter(|id| !own.contains(id)).partition(is_listed);
    let is_unknown = !hidden.is_empty() || seen.account.snapshot.is_none() && !seen.log.0.is_empty();
    LeftBehind { tokens: own, stay: stay.into_iter().collect(), is_unknown, has_secret }
}

/// More is asked here than of a resource that is there: its marker, and that nobody else names the token.
fn is_own(seen: &Observed<'_>, listed: &Listed) -> bool {
    let id = &listed.token.id;
    let nonce = seen.attempt_of(listed);
    nonce.is_some_and(|nonce| seen.status.names(id) || seen.log.get(nonce).is_some()) && !seen.taken.contains_key(id)
}

/// A Secret says by name alone whose it is, and another resource may have had that name: so it must hold a key of this one.
fn is_own_secret(seen: &Observed<'_>) -> bool {
    let SecretView::Present(SecretFacts { owner: SecretOwner::This | SecretOwner::Namesake, record, .. }) =
        &seen.secret
    else {
        return false;
    };
    let is_logged = |nonce| seen.log.get(nonce).is_some() || seen.status.attempt.as_ref() == Some(nonce);
    record.attempt.as_ref().is_some_and(is_logged) || record.token_id.as_ref().is_some_and(|id| seen.status.names(id))
}
