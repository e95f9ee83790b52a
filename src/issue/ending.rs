//! Deletion: everything that the record proves to be the resource's own goes, then the Secret, then the finalizer.
//! Expiry: the same, but that the resource stays.

use jiff::Timestamp;

use super::decide::{Action, Decision, RevokeCause, Wake, key_held, prove};
use super::holding::Holding;
use super::issuing::token_needed;
use super::look::Look;
use super::marker::Nonce;
use super::observed::{SecretFacts, SecretOwner, SecretView};
use super::verdict::Reason;
use crate::datafast::TokenId;

pub(super) fn decide(look: &Look<'_>) -> Decision {
    let act =
        |action| Decision { action, verdict: look.verdict(Reason::Issuing, "Being deleted"), wake: Wake::default() };
    if !look.seen.claimed {
        return act(Action::Rest);
    }
    if look.seen.local.in_flight.is_some() || look.seen.local.is_calling {
        return wait(look, "DataFast's answer to a request", Wake::default());
    }
    if let Holding::Missing(id) = &look.holding
        && !look.desired.abandon
        && !look.desired.retain
        && let Some(mut decision) = prove(look, id)
    {
        decision.verdict.message = format!("Deletion waits for the token to be revoked. {}", decision.verdict.message);
        return decision;
    }
    if let Some(mut decision) = finish_roll(look) {
        decision.verdict.message =
            format!("Deletion waits for the Secret to have its key. {}", decision.verdict.message);
        return decision;
    }
    let is_ours = |facts: &SecretFacts| facts.owner == SecretOwner::This;
    let remains = tokens(look, look.desired.retain);
    let unresolved = unresolved(look);
    if look.desired.abandon || remains.is_none() && unresolved.is_none() {
        return match &look.seen.secret {
            SecretView::Present(facts) if is_ours(facts) && !look.desired.retain => act(Action::DeleteSecret),
            _ => act(Action::Release),
        };
    }
    if let Some(mut closed) = look.closed() {
        let message = closed.verdict.message;
        closed.verdict.message = format!("Deletion waits for the token to be revoked. {message}");
        return closed;
    }
    match (remains, unresolved) {
        (Some(Remains::Token(token_id)), _) => act(Action::Revoke { token_id, cause: RevokeCause::Deleted }),
        (Some(Remains::Denied(token_id, wake)), _) => wait(look, &refused(&token_id), wake),
        (None, unresolved) => {
            let at = unresolved.unwrap_or(look.now);
            let what = format!("{at:.0}: until then an unanswered request may still make a token");
            wait(look, &what, Wake::list(at))
        }
    }
}

/// Past `expiresAfter`, be it with `Retain`. An attempt that may still make a token needs no waiting here: its token is
/// revoked when a list shows it.
pub(super) fn expired(look: &Look<'_>) -> Option<Decision> {
    let expiry = look.desired.expiry.as_ref().filter(|_| look.has_expired())?;
    // A Secret is the only record of a token that no list has confirmed, or that was not proved to be ours.
    let is_record = look.seen.secret_record().is_some();
    if is_record && matches!(look.holding, Holding::Unproven(_)) {
        return None;
    }
    if let (Holding::Missing(id), None) = (&look.holding, look.closed()) {
        return prove(look, id);
    }
    let over = format!("spec.expiresAfter has passed at {:.0}", expiry.at());
    let remains = tokens(look, false);
    let is_unknown = is_record && look.seen.account.snapshot.is_none();
    if let Some(closed) = look.closed().filter(|_| remains.is_some() || is_unknown) {
        let message = format!("{over}; its token is still to be revoked. {}", closed.verdict.message);
        return look.wait(Reason::Expired, message, closed.wake);
    }
    match remains {
        Some(Remains::Token(token_id)) => look.act(Action::Revoke { token_id, cause: RevokeCause::Expired }),
        Some(Remains::Denied(token_id, wake)) => {
            look.wait(Reason::Expired, format!("{over}; waiting for {}", refused(&token_id)), wake)
        }
        None if is_record => look.act(Action::DeleteSecret),
        None => look.wait(Reason::Expired, format!("{over}: for a new token, raise it"), Wake::default()),
    }
}

/// A Secret that stays is not left with a key that ended when its token got another one.
fn finish_roll(look: &Look<'_>) -> Option<Decision> {
    let seen = look.seen;
    if !look.desired.retain || look.desired.abandon || look.has_expired() || seen.secret_record().is_none() {
        return None;
    }
    if seen.local.held.as_ref().is_some_and(|held| held.rolled) {
        return key_held(look);
    }
    let lost = seen.lost_roll().filter(|_| look.forbidden().is_none())?;
    if look.has_lost_key() {
        return token_needed(look).filter(|_| look.rolls.is_some());
    }
    let at = lost.at.saturating_add(seen.horizon).unwrap_or(Timestamp::MAX);
    match seen.account.snapshot.is_some_and(|snapshot| snapshot.begun() >= at) {
        true => None,
        false => look.closed().or_else(|| {
            let what = format!("Until {at:.0} an unanswered request may still give its token another one");
            look.wait(Reason::Issuing, what, Wake::list(at))
        }),
    }
}

fn wait(look: &Look<'_>, what: &str, wake: Wake) -> Decision {
    let verdict = look.verdict(Reason::Issuing, format!("Deletion waits for {what}"));
    Decision { action: Action::Rest, verdict, wake }
}

fn refused(token_id: &TokenId) -> String {
    format!("token {token_id} to go: DataFast refuses to delete it, as it does where another credential created it")
}

/// A token that is left at DataFast.
enum Remains {
    Token(TokenId),
    Denied(TokenId, Wake),
}

fn tokens(look: &Look<'_>, retain: bool) -> Option<Remains> {
    let seen = look.seen;
    let held = seen.local.held.as_ref().map(|held| held.token_id.clone());
    let listed = seen.own_tokens().map(|listed| listed.token.id.clone());
    let named = seen.status.token_id.iter().chain(&seen.status.retiring).filter(|id| !is_gone(look, id)).cloned();
    let hidden = match &look.holding {
        Holding::Hidden(id) => Some((*id).clone()),
        _ => None,
    };
    let to_go =
        held.into_iter().chain(listed).chain(named).chain(hidden).filter(|id| !(retain && is_the_secrets(look, id)));
    let mut denied = None;
    for id in to_go {
        match look.denied(&id) {
            None => return Some(Remains::Token(id)),
            // That it is gone is what lists tell.
            Some(wake) => denied = Some(Remains::Denied(id, wake.earliest(Wake::next_list()))),
        }
    }
    denied
}

/// Whether the Secret holds a token's key: by its record, or else by status.
fn is_the_secrets(look: &Look<'_>, id: &TokenId) -> bool {
    let recorded = look.seen.secret_record().and_then(|record| record.token_id.as_ref());
    recorded.or(look.seen.status.token_id.as_ref()) == Some(id)
}

/// Whether a token that status names is known to be gone: a list that began after all that we did doesn't show it.
fn is_gone(look: &Look<'_>, id: &TokenId) -> bool {
    let Some(snapshot) = look.seen.account.snapshot else { return false };
    // The Secret's own is not gone before its key is tried.
    let is_elsewhere = match &look.holding {
        Holding::Missing(there) | Holding::Hidden(there) | Holding::Unconfirmed(Some(there)) => *there == id,
        _ => false,
    };
    if snapshot.get(id).is_some() || is_elsewhere {
        return false;
    }
    let denied_at = look.seen.local.denied.get(id);
    let newest = look.seen.log.0.iter().map(|a| a.at).max();
    snapshot.has_revoked(id)
        || denied_at.is_some_and(|at| snapshot.begun() >= *at)
        || newest.is_none_or(|at| snapshot.begun().duration_since(at) >= look.seen.horizon)
}

/// The time from which a list can tell that no attempt is left that may still make a token.
fn unresolved(look: &Look<'_>) -> Option<Timestamp> {
    let seen = look.seen;
    let is_open = |(nonce, at): &(Nonce, Timestamp)| {
        let unsent = seen.local.unsent.as_ref().is_some_and(|u| u.nonce == *nonce);
        let named = seen.status.attempt.as_ref() == Some(nonce);
        let seen_by_list = seen.account.snapshot.is_some_and(|snapshot| {
            snapshot.by_attempt(&seen.owner, nonce).is_some()
                || snapshot.has_revoked_attempt(&seen.owner, nonce)
                || snapshot.is_absent(&seen.owner, nonce, *at)
        });
        !unsent && !named && !seen_by_list
    };
    let in_secret = seen.secret_record().and_then(|record| {
        let nonce = record.attempt.clone().filter(|nonce| seen.log.get(nonce).is_none())?;
        Some((nonce, record.issued_at.unwrap_or(Timestamp::MIN)))
    });
    // Another key for a token makes none.
    let logged = seen.log.0.iter().filter(|attempt| attempt.rolls.is_none());
    let logged = logged.map(|attempt| (attempt.nonce.clone(), attempt.at));
    let open = logged.chain(in_secret).filter(is_open);
    open.map(|(_, at)| at.saturating_add(seen.horizon).unwrap_or(Timestamp::MAX)).max()
}
