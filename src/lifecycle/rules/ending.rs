//! Deletion: everything that the record proves to be the resource's own goes, then the Secret, then the finalizer.
//! Expiry, and the end of what nobody uses: the same, but that the resource stays.

use jiff::Timestamp;

use super::delivery::pending_key;
use super::finalizer::release;
use super::issuing::token_needed;
use super::secret::prove;
use crate::datafast::TokenId;
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue, RevokeCause};
use crate::lifecycle::marker::Nonce;
use crate::lifecycle::observed::{Availability, SecretFacts, SecretView};
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::verdict::Reason;

/// Decides for a resource that is being deleted.
pub(in crate::lifecycle) fn deletion(cx: &Context<'_>) -> Decision {
    if !cx.seen.has_finalizer {
        return Decision::Rest { verdict: cx.verdict(Reason::Deleting, "Being deleted"), requeue: Requeue::default() };
    }
    if cx.seen.local.in_flight.is_some() || cx.seen.local.is_calling {
        return wait(cx, "DataFast's answer to a request", Requeue::default());
    }
    if let Some(unreadable) = cx.desired.unreadable.as_ref().filter(|it| it.is_about_the_end && !cx.desired.abandon) {
        let what = format!(
            "an operator that can read what is to become of its token: {}. Upgrade the operator",
            unreadable.what
        );
        return wait(cx, &what, Requeue::default());
    }
    policy_unknown(cx).or_else(|| unconfirmed(cx)).or_else(|| finish_roll(cx)).unwrap_or_else(|| revoke_all(cx))
}

/// Whether the account lets the token stay is not known before its resource was seen.
fn policy_unknown(cx: &Context<'_>) -> Option<Decision> {
    let is_asked = cx.desired.retain && !cx.desired.abandon;
    let is_unknown = cx.seen.account.allow.is_none() && cx.seen.account.availability == Availability::Connecting;
    cx.closed().filter(|_| is_asked && is_unknown)
}

/// The list lacks the Secret's token: its key tells whether it is gone.
fn unconfirmed(cx: &Context<'_>) -> Option<Decision> {
    let SecretState::Missing(id) = &cx.secret_state else { return None };
    if cx.desired.abandon || cx.retains() {
        return None;
    }
    Some(prove(cx, id)?.explained("Deletion waits for the token to be revoked."))
}

fn revoke_all(cx: &Context<'_>) -> Decision {
    let is_ours = |facts: &SecretFacts| cx.seen.is_own(facts);
    let remains = tokens(cx, cx.retains());
    let unresolved = unresolved(cx);
    if cx.desired.abandon || remains.is_none() && unresolved.is_none() {
        return match &cx.seen.secret {
            SecretView::Present(facts) if is_ours(facts) && !cx.retains() => Decision::Act(Action::DeleteSecret),
            _ => release(cx),
        };
    }
    if let Some(closed) = cx.closed() {
        return closed.explained("Deletion waits for the token to be revoked.");
    }
    match (remains, unresolved) {
        (Some(Remains::Token(token_id)), _) => Decision::Act(Action::Revoke { token_id, cause: RevokeCause::Deleted }),
        (Some(Remains::Denied(token_id, requeue)), _) => wait(cx, &refused(&token_id), requeue),
        (None, unresolved) => {
            let at = unresolved.unwrap_or(cx.now);
            let what = format!("{at:.0}: until then an unanswered request may still make a token");
            wait(cx, &what, Requeue::list(at))
        }
    }
}

/// Past `expiresAfter`, be it with `Retain`.
pub(in crate::lifecycle) fn expired(cx: &Context<'_>) -> Option<Decision> {
    let expiry = cx.desired.expiry.as_ref().filter(|_| cx.has_expired())?;
    let over = format!("spec.expiresAfter has passed at {:.0}", expiry.at());
    let remedy = "for a new token, raise it";
    end(cx, &End { reason: Reason::Expired, cause: RevokeCause::Expired, over, remedy })
}

/// An end of token and Secret that the resource outlives.
pub(super) struct End {
    pub(super) reason: Reason,
    pub(super) cause: RevokeCause,
    /// What is over, for people.
    pub(super) over: String,
    /// What brings a new token, for people.
    pub(super) remedy: &'static str,
}

/// Revokes all tokens, then deletes the Secret, then says so. An attempt that may still make a token needs no waiting here:
/// its token is revoked when a list shows it.
pub(super) fn end(cx: &Context<'_>, End { reason, cause, over, remedy }: &End) -> Option<Decision> {
    // A Secret is the only record of a token that no list has confirmed, or that was not proved to be ours.
    let is_record = cx.seen.secret_record().is_some();
    if is_record && matches!(cx.secret_state, SecretState::Unproven(_)) {
        return None;
    }
    if let (SecretState::Missing(id), None) = (&cx.secret_state, cx.closed()) {
        return prove(cx, id);
    }
    let remains = tokens(cx, false);
    let is_unknown = is_record && cx.seen.account.snapshot.is_none();
    if let Some(closed) = cx.closed().filter(|_| remains.is_some() || is_unknown) {
        let Decision::Rest { verdict, requeue } = closed else { return Some(closed) };
        let message = format!("{over}; its token is still to be revoked. {}", verdict.message);
        return cx.wait(*reason, message, requeue);
    }
    match remains {
        Some(Remains::Token(token_id)) => cx.act(Action::Revoke { token_id, cause: *cause }),
        Some(Remains::Denied(token_id, requeue)) => {
            cx.wait(*reason, format!("{over}; waiting for {}", refused(&token_id)), requeue)
        }
        None if is_record => cx.act(Action::DeleteSecret),
        None => cx.wait(*reason, format!("{over}: {remedy}"), Requeue::default()),
    }
}

/// A Secret that stays is not left with a key that ended when its token got another one.
fn finish_roll(cx: &Context<'_>) -> Option<Decision> {
    Some(roll_to_finish(cx)?.explained("Deletion waits for the Secret to have its key."))
}

fn roll_to_finish(cx: &Context<'_>) -> Option<Decision> {
    let seen = cx.seen;
    if !cx.retains() || cx.desired.abandon || cx.has_expired() || seen.secret_record().is_none() {
        return None;
    }
    if seen.local.pending.as_ref().is_some_and(|pending| pending.rolled) {
        return pending_key(cx);
    }
    let lost = seen.lost_roll().filter(|_| cx.forbidden().is_none())?;
    if cx.has_lost_key() {
        return token_needed(cx).filter(|_| cx.rolls.is_some());
    }
    let at = lost.at.saturating_add(seen.horizon).unwrap_or(Timestamp::MAX);
    match seen.account.snapshot.is_some_and(|snapshot| snapshot.begun() >= at) {
        true => None,
        false => cx.closed().or_else(|| {
            let what = format!("Until {at:.0} an unanswered request may still give its token another one");
            cx.wait(Reason::Deleting, what, Requeue::list(at))
        }),
    }
}

fn wait(cx: &Context<'_>, what: &str, requeue: Requeue) -> Decision {
    let verdict = cx.verdict(Reason::Deleting, format!("Deletion waits for {what}"));
    Decision::Rest { verdict, requeue }
}

fn refused(token_id: &TokenId) -> String {
    format!("token {token_id} to go: DataFast refuses to delete it, as it does where another credential created it")
}

/// A token that is left at DataFast.
enum Remains {
    Token(TokenId),
    Denied(TokenId, Requeue),
}

fn tokens(cx: &Context<'_>, retain: bool) -> Option<Remains> {
    let seen = cx.seen;
    let pending = seen.local.pending.as_ref().map(|pending| pending.token_id.clone());
    let listed = seen.own_tokens().map(|listed| listed.token.id.clone());
    let named = seen.status.token_id.iter().chain(&seen.status.retiring);
    let named = named.filter(|id| seen.may_revoke_named(id) && !is_gone(cx, id)).cloned();
    let hidden = match &cx.secret_state {
        SecretState::Hidden(id) if !seen.taken.contains_key(id) => Some((*id).clone()),
        _ => None,
    };
    let to_go =
        pending.into_iter().chain(listed).chain(named).chain(hidden).filter(|id| !(retain && is_the_secrets(cx, id)));
    let mut denied = None;
    for id in to_go {
        match cx.denied(&id) {
            None => return Some(Remains::Token(id)),
            // That it is gone is what lists tell.
            Some(requeue) => denied = Some(Remains::Denied(id, requeue.earliest(Requeue::next_list()))),
        }
    }
    denied
}

/// Whether the Secret holds a token's key: by its record, or else by status.
fn is_the_secrets(cx: &Context<'_>, id: &TokenId) -> bool {
    let recorded = cx.seen.secret_record().and_then(|record| record.token_id.as_ref());
    recorded.or(cx.seen.status.token_id.as_ref()) == Some(id)
}

/// Whether a token that status names is known to be gone: a list that began after all that we did doesn't show it.
pub(in crate::lifecycle) fn is_gone(cx: &Context<'_>, id: &TokenId) -> bool {
    let Some(snapshot) = cx.seen.account.snapshot else { return false };
    // The Secret's own is not gone before its key is tried.
    let is_elsewhere = match &cx.secret_state {
        SecretState::Missing(there) | SecretState::Hidden(there) | SecretState::Unconfirmed(Some(there)) => {
            *there == id
        }
        _ => false,
    };
    if snapshot.get(id).is_some() || is_elsewhere {
        return false;
    }
    let denied_at = cx.seen.local.denied.get(id);
    let newest = cx.seen.log.0.iter().map(|a| a.at).max();
    snapshot.has_revoked(id)
        || denied_at.is_some_and(|at| snapshot.begun() >= *at)
        || newest.is_none_or(|at| snapshot.begun().duration_since(at) >= cx.seen.horizon)
}

/// The time from which a list can tell that no attempt is left that may still make a token.
fn unresolved(cx: &Context<'_>) -> Option<Timestamp> {
    let seen = cx.seen;
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
