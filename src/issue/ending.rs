//! Deletion: everything that the record proves to be the resource's own goes, then the Secret, then the finalizer.

use jiff::Timestamp;

use super::decide::{Action, Decision, RevokeCause, Wake};
use super::look::Look;
use super::observed::{SecretOwner, SecretView};
use super::record::Attempt;
use super::verdict::Reason;
use crate::datafast::TokenId;

pub(super) fn decide(look: &Look<'_>) -> Decision {
    let act =
        |action| Decision { action, verdict: look.verdict(Reason::Issuing, "Being deleted"), wake: Wake::default() };
    if !look.seen.claimed {
        return act(Action::Rest);
    }
    if look.seen.local.in_flight.is_some() {
        return wait(look, "DataFast's answer to a request", Wake::default());
    }
    let remains = if look.desired.abandon { None } else { remote_side(look) };
    let Some(remains) = remains else {
        return match &look.seen.secret {
            SecretView::Present(facts) if facts.owner == SecretOwner::This && !look.desired.retain => {
                act(Action::DeleteSecret)
            }
            _ => act(Action::Release),
        };
    };
    if let Some(mut closed) = look.closed() {
        let message = closed.verdict.message;
        closed.verdict.message = format!("Deletion waits for the token to be revoked. {message}");
        return closed;
    }
    match remains {
        Remains::Token(token_id) => act(Action::Revoke { token_id, cause: RevokeCause::Deleted }),
        Remains::Denied(token_id, wake) => {
            let what = format!(
                "token {token_id} to go: DataFast refuses to delete it, as it does where another credential created it"
            );
            wait(look, &what, wake)
        }
        Remains::Unresolved(at) => {
            let what = format!("{at:.0}: until then an unanswered request may still make a token");
            wait(look, &what, Wake::list(at))
        }
    }
}

fn wait(look: &Look<'_>, what: &str, wake: Wake) -> Decision {
    let verdict = look.verdict(Reason::Issuing, format!("Deletion waits for {what}"));
    Decision { action: Action::Rest, verdict, wake }
}

/// What is left at DataFast.
enum Remains {
    Token(TokenId),
    Denied(TokenId, Wake),
    /// An attempt that may still make a token, until a list that begins at this time says no.
    Unresolved(Timestamp),
}

fn remote_side(look: &Look<'_>) -> Option<Remains> {
    let seen = look.seen;
    let held = seen.local.held.as_ref().map(|held| held.token_id.clone());
    let listed = seen.own_tokens().map(|listed| listed.token.id.clone());
    let named = seen.status.token_id.iter().chain(&seen.status.retiring).filter(|id| !is_gone(look, id)).cloned();
    let to_go = held.into_iter().chain(listed).chain(named).filter(|id| !is_retained(look, id));
    let mut denied = None;
    for id in to_go {
        match look.denied(&id) {
            None => return Some(Remains::Token(id)),
            Some(wake) => denied = Some(Remains::Denied(id, wake)),
        }
    }
    denied.or_else(|| unresolved(look).map(Remains::Unresolved))
}

/// With `Retain`, the Secret's token stays: the one that its record names, or else status.
fn is_retained(look: &Look<'_>, id: &TokenId) -> bool {
    let recorded = look.seen.secret_record().and_then(|record| record.token_id.as_ref());
    look.desired.retain && recorded.or(look.seen.status.token_id.as_ref()) == Some(id)
}

/// Whether a token that status names is known to be gone: a list that began after all that we did doesn't show it.
fn is_gone(look: &Look<'_>, id: &TokenId) -> bool {
    let Some(snapshot) = look.seen.account.snapshot else { return false };
    if snapshot.get(id).is_some() {
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
    let is_open = |attempt: &Attempt| {
        let unsent = seen.local.unsent.as_ref().is_some_and(|u| u.nonce == attempt.nonce);
        let named = seen.status.attempt.as_ref() == Some(&attempt.nonce);
        let seen_by_list = seen.account.snapshot.is_some_and(|snapshot| {
            snapshot.by_attempt(&seen.owner, &attempt.nonce).is_some()
                || snapshot.has_revoked_attempt(&seen.owner, &attempt.nonce)
                || snapshot.is_absent(&seen.owner, &attempt.nonce, attempt.at)
        });
        !unsent && !named && !seen_by_list
    };
    let in_secret = seen.secret_record().and_then(|record| {
        let nonce = record.attempt.clone().filter(|nonce| seen.log.get(nonce).is_none())?;
        Some(Attempt { nonce, at: record.issued_at.unwrap_or(Timestamp::MIN), cause: super::record::Cause::Unknown })
    });
    let open = seen.log.0.iter().cloned().chain(in_secret).filter(is_open);
    open.map(|attempt| attempt.at.saturating_add(seen.horizon).unwrap_or(Timestamp::MAX)).max()
}
