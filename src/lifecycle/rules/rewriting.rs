//! A Secret that is to be written again with its own key, and somebody who changes it each time.

use super::secret::later_again;
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue};
use crate::lifecycle::local::{Asked, Contest};
use crate::lifecycle::observed::{SecretFacts, SecretView};
use crate::lifecycle::record::SecretRecord;
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::snapshot::Listed;
use crate::lifecycle::verdict::Reason;

/// Writes the Secret again with its own key: at once, and ever more slowly where something else changes it each time.
pub(super) fn rewrite(cx: &Context<'_>, listed: &Listed, record: &SecretRecord) -> Option<Decision> {
    if let Some(refused) = cx.seen.local.rewrite.as_ref().filter(|refused| cx.now < refused.retry_at) {
        let message = format!("Secret {:?} could not be brought up to date: {}", cx.seen.names.secret, refused.message);
        return cx.wait(Reason::SecretWriteRefused, message, Requeue::at(refused.retry_at));
    }
    let asked = asked(cx, listed)?;
    let id = &listed.token.id;
    let adopts = cx.seen.attempt_of(listed).is_none() && !cx.seen.adopted.contains(id);
    let adopts = adopts.then(|| id.clone());
    contested(cx, &asked, record).or_else(|| cx.act(Action::Rewrite { record: record.clone(), asked, adopts }))
}

fn asked(cx: &Context<'_>, listed: &Listed) -> Option<Asked> {
    let SecretView::Present(facts) = &cx.seen.secret else { return None };
    let is_new = matches!(cx.secret_state, SecretState::Unproven(_)) && !cx.seen.status.names(&listed.token.id);
    Some(Asked {
        template: facts.drift.template.clone(),
        token_id: listed.token.id.clone(),
        display_key: listed.token.display_key.clone(),
        spec_hash: cx.desired.scope.hash(),
        takes_over: is_new,
    })
}

/// Whether what is asked of the Secret was written not long ago, and is not there any more.
fn contested(cx: &Context<'_>, asked: &Asked, record: &SecretRecord) -> Option<Decision> {
    // A clock that was set back is no reason to wait.
    let is_it = |contest: &&Contest| contest.asked == *asked && contest.at <= cx.now;
    let contest = cx.seen.local.contest.as_ref().filter(is_it)?;
    let again = Some(contest.not_before()).filter(|at| *at > cx.now)?;
    let message = contest.said.clone().or_else(|| contest_message(cx, contest, record))?;
    // Without our label it is not watched.
    cx.wait(Reason::SecretContested, message, Requeue::at(again.min(later_again(cx))))
}

fn contest_message(cx: &Context<'_>, contest: &Contest, record: &SecretRecord) -> Option<String> {
    let SecretView::Present(facts) = &cx.seen.secret else { return None };
    let (name, again) = (cx.seen.names.secret, contest.not_before());
    let what = differences(facts, record);
    let (happens, who) = match (contest.as_written, &facts.drift.last_writer) {
        (false, _) => ("is changed as it is written, as a mutating admission webhook does", String::new()),
        (true, None) => ("is changed again and again by something else", String::new()),
        (true, Some(who)) => (
            "is changed again and again by something else",
            format!("; the last to write it was field manager {who:?}"),
        ),
    };
    Some(format!(
        "Secret {name:?} {happens}: {what} not as this resource asks for{who}. It is written again at {again:.0}, ever more slowly. Have that tool leave alone what the operator writes; labels, annotations and entries of its own may stay"
    ))
}

/// What differs, with the verb that fits: names, never a value.
fn differences(facts: &SecretFacts, record: &SecretRecord) -> String {
    /// Of more, their number is told.
    const MOST: usize = 3;
    let recorded = record.annotations().into_iter().zip(facts.record.annotations());
    let edited =
        recorded.filter(|(wanted, there)| wanted != there).map(|((name, _), _)| format!("annotation {name:?}"));
    let all: Vec<String> = facts.drift.differs.iter().cloned().chain(edited).collect();
    let named = all.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 | 1 => format!("{named} is"),
        n if n <= MOST => format!("{named} are"),
        n => format!("{named} and {} more are", n - MOST),
    }
}
