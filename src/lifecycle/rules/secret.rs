//! The Secret as it is: another's, to be adopted, with a token that no list shows, or not as it should be.

use jiff::{SignedDuration, Timestamp};

use super::finalizer;
use super::issuing::waiting;
use super::rewriting::rewrite;
use crate::datafast::TokenId;
use crate::lifecycle::context::{Context, desired_scope_fits};
use crate::lifecycle::decision::{Action, Decision, Requeue};
use crate::lifecycle::observed::SecretView;
use crate::lifecycle::record::SecretRecord;
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::snapshot::Listed;
use crate::lifecycle::verdict::Reason;

/// The list lacks the token. Where its key still works, it is not gone.
pub(in crate::lifecycle) fn hidden(cx: &Context<'_>) -> Option<Decision> {
    let id = match &cx.secret_state {
        SecretState::Missing(id) => {
            let slot = cx.has_made_room().then(|| waiting(cx));
            return Some(prove(cx, id)?.also(Requeue { slot, ..Requeue::default() }));
        }
        SecretState::Hidden(id) => id,
        _ => return None,
    };
    let message = format!(
        "Token {id} works, but the credential of DataFastAccount {:?} can't see it, nor revoke it: so nothing is issued in its place, whatever is asked for; give the account the credential back that issued it, or delete the token at DataFast for a new one",
        cx.seen.names.account
    );
    cx.wait(Reason::Issued, message, Requeue::on_account_change().earliest(Requeue::at(cx.proven_until())))
}

/// Finds out whether DataFast takes the key in the Secret as that of a token.
pub(in crate::lifecycle) fn prove(cx: &Context<'_>, token_id: &TokenId) -> Option<Decision> {
    if let Some(failed) = cx.seen.local.unproved.as_ref().filter(|failed| cx.now < failed.retry_at) {
        let name = cx.seen.names.secret;
        let message =
            format!("Whether the key in Secret {name:?} is its token's could not be found out: {}", failed.message);
        return cx.wait(Reason::ApiUnavailable, message, Requeue::at(failed.retry_at));
    }
    cx.closed().or_else(|| cx.act(Action::Prove { token_id: token_id.clone() }))
}

pub(in crate::lifecycle) fn foreign_secret(cx: &Context<'_>) -> Option<Decision> {
    let SecretState::Foreign(why) = &cx.secret_state else { return None };
    let requeue = Requeue::at(later_again(cx)).earliest(Requeue::on_account_change());
    cx.wait(Reason::SecretConflict, conflict(cx, why), requeue)
}

pub(in crate::lifecycle) fn conflict(cx: &Context<'_>, why: &str) -> String {
    let name = cx.seen.names.secret;
    format!("Secret {name:?} exists and is left as it is, for {why}")
}

/// Secrets that are not ours are not watched; a reconcile now and then finds one gone.
pub(in crate::lifecycle) fn later_again(cx: &Context<'_>) -> Timestamp {
    cx.now.saturating_add(SignedDuration::from_secs(30)).unwrap_or(Timestamp::MAX)
}

pub(in crate::lifecycle) fn adoption(cx: &Context<'_>) -> Option<Decision> {
    let SecretState::Unproven(listed) = &cx.secret_state else { return None };
    if !cx.seen.sees_all {
        let message = format!(
            "Whose the token of Secret {:?} is can be told once the operator has seen the resources of all namespaces that it watches",
            cx.seen.names.secret
        );
        let again = cx.now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
        return cx.wait(cx.at_work(), message, Requeue::at(again));
    }
    if !cx.seen.has_finalizer {
        return finalizer::first(cx);
    }
    if cx.seen.proven(&listed.token.id) {
        return rewrite(cx, listed, &wanted_record(cx, listed)?);
    }
    prove(cx, &listed.token.id)
}

/// The record that the Secret of a live token should have.
fn wanted_record(cx: &Context<'_>, listed: &Listed) -> Option<SecretRecord> {
    let SecretView::Present(facts) = &cx.seen.secret else { return None };
    let key = facts.key.as_ref()?;
    let id = &listed.token.id;
    // Its present key may be another than the one that it was made with.
    let rolled = facts
        .record
        .attempt
        .clone()
        .filter(|nonce| cx.seen.log.get(nonce).is_some_and(|attempt| attempt.rolls.as_ref() == Some(id)));
    let attempt = rolled.or_else(|| cx.seen.attempt_of(listed).cloned());
    let recorded = attempt.as_ref().and_then(|nonce| cx.seen.log.get(nonce)).map(|a| a.at);
    // DataFast's clock may be wrong, and a time of the future would not be read back: it would be written for ever.
    let known = recorded.or(listed.token.created_at).filter(|at| *at <= cx.now);
    let issued_at = facts.record.issued_at.or(known).unwrap_or(cx.now);
    Some(SecretRecord {
        attempt,
        token_id: Some(id.clone()),
        issued_at: Some(issued_at),
        // A new name that waits for a window is not forgotten, though the token may do what is wanted.
        spec_hash: match desired_scope_fits(cx, listed) && cx.held.is_none() {
            true => Some(cx.desired.scope.hash()),
            false => facts.record.spec_hash.clone(),
        },
        key_sha256: Some(key.fingerprint(id.as_str())),
        ..facts.record.clone()
    })
}

pub(in crate::lifecycle) fn drift(cx: &Context<'_>) -> Option<Decision> {
    let (SecretState::Live(listed), SecretView::Present(facts)) = (&cx.secret_state, &cx.seen.secret) else {
        return None;
    };
    let record = wanted_record(cx, listed)?;
    if facts.drift.differs.is_empty() && record == facts.record {
        return None;
    }
    rewrite(cx, listed, &record)
}
