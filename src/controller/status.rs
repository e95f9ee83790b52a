//! Conditions and status, and whether they changed: a write that changes nothing is not made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::resource::Managed;
use super::{Doing, Error};
use crate::api::{KeyStatus, Retiring, names};
use crate::datafast::{Token, TokenId};
use crate::lifecycle::facts::{self, Facts, Mirror, last_used};
use crate::lifecycle::history::{Revocation, history};
use crate::lifecycle::snapshot::Listed;
use crate::lifecycle::verdict::Verdict;

/// Whether a condition is true.
pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The reason of `Ready`.
pub(super) fn ready_reason(conditions: &[Condition]) -> Option<&str> {
    conditions.iter().find(|condition| condition.type_ == names::READY).map(|condition| condition.reason.as_str())
}

/// What the conditions say.
pub(super) struct Say<'a> {
    pub(super) ready: bool,
    pub(super) reconciling: bool,
    pub(super) stalled: bool,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    pub(super) generation: Option<i64>,
    pub(super) now: Timestamp,
}

/// The conditions after kstatus: `Ready` always, `Reconciling` and `Stalled` only while true. Times change only with the
/// status, so that saying the same again is no change.
pub(super) fn conditions(before: &[Condition], say: &Say<'_>) -> Vec<Condition> {
    let condition = |type_: &str, status: bool| {
        let status = if status { "True" } else { "False" };
        let same = before.iter().find(|old| old.type_ == type_ && old.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: say.reason.to_owned(),
            message: say.message.to_owned(),
            observed_generation: say.generation,
            last_transition_time: same.map_or_else(|| time(say.now), |old| old.last_transition_time.clone()),
        }
    };
    let ready = Some(condition(names::READY, say.ready));
    let reconciling = say.reconciling.then(|| condition(names::RECONCILING, true));
    let stalled = say.stalled.then(|| condition(names::STALLED, true));
    ready.into_iter().chain(reconciling).chain(stalled).collect()
}

/// Whether a resource has a token that nobody uses, and that is still there.
pub(super) fn is_unused(resource: &dyn Managed) -> bool {
    resource.status().is_some_and(|status| status.unused_since.is_some() && status.token_id.is_some())
}

/// Kubernetes keeps whole seconds.
pub(super) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// What this process remembers of what it did, for status to tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// When a `lastUsedAt` was last written.
    pub(super) last_used_written: Option<Timestamp>,
    /// Tokens that were revoked since status was last written.
    pub(super) revoked: Vec<Revocation>,
}

/// A resource's status: the verdict, and a mirror of the record and of DataFast's list.
pub(super) fn status(
    resource: &dyn Managed,
    verdict: &Verdict,
    facts: &Facts<'_>,
    told: &Told,
    now: Timestamp,
) -> KeyStatus {
    let before = resource.status().cloned().unwrap_or_default();
    let say = Say {
        ready: verdict.ready,
        reconciling: verdict.reason.is_reconciling(),
        stalled: verdict.reason.is_stalled(),
        reason: verdict.reason.as_str(),
        message: &verdict.message,
        generation: resource.metadata().generation,
        now,
    };
    let mut status = KeyStatus {
        observed_generation: resource.metadata().generation,
        conditions: conditions(&before.conditions, &say),
        secret_name: Some(resource.secret_name()),
        issued_at: facts.issued_at.map(time),
        next_rotation_at: facts.next_rotation_at.map(time),
        expires_at: facts.expires_at.map(time),
        unused_since: facts.unused_since.map(time),
        rotate_request: facts.rotate_request.as_ref().map(|request| request.as_str().to_owned()),
        ..before.clone()
    };
    let used = |shown: Option<&Time>, listed: &Listed| {
        last_used(shown.map(|time| time.0), listed.token.last_used_at, told.last_used_written, now).map(time)
    };
    mirror(&mut status, &facts.token, used);
    if let Some(retiring) = &facts.retiring {
        status.retiring = retiring.iter().map(|retiring| entry(&before, retiring, used)).collect();
    }
    // It is written with other changes, never for itself.
    if status != before {
        status.history = history(&before, &status, facts, &told.revoked, now);
    }
    status
}

/// What status says of the token.
fn mirror(status: &mut KeyStatus, token: &Mirror<'_>, used: impl Fn(Option<&Time>, &Listed) -> Option<Time>) {
    match token {
        Mirror::Keep => {}
        Mirror::Nothing => {
            (status.token_id, status.display_key, status.token_name) = (None, None, None);
            (status.created_at, status.last_used_at) = (None, None);
        }
        Mirror::Is(listed) => {
            let token = &listed.token;
            let id = token.id.to_string();
            if status.token_id.as_ref() != Some(&id) {
                (status.created_at, status.last_used_at, status.display_key) = (None, None, None);
            }
            status.token_id = Some(id);
            status.display_key = shown_key(token).or(status.display_key.take());
            status.token_name.clone_from(&token.name);
            // A create answer may leave it out; the next list has it.
            status.created_at = token.created_at.map(time).or(status.created_at.take());
            status.last_used_at = used(status.last_used_at.as_ref(), listed);
        }
    }
}

/// What status says of a former token.
fn entry(
    before: &KeyStatus,
    retiring: &facts::Retiring<'_>,
    used: impl Fn(Option<&Time>, &Listed) -> Option<Time>,
) -> Retiring {
    let token = &retiring.listed.token;
    let shown = shown_use(&before.retiring, &token.id);
    let is_news = retiring.is_news(shown.map(|time| time.0));
    Retiring {
        last_used_at: if is_news { token.last_used_at.map(time) } else { used(shown, retiring.listed) },
        display_key: shown_key(token).or_else(|| former_key(before, &token.id)),
        revoke_after: retiring.until.map(time),
        token_id: token.id.to_string(),
    }
}

/// The masked key as DataFast tells it, where it does.
pub(super) fn shown_key(token: &Token) -> Option<String> {
    Some(token.display_key.clone()).filter(|shown| !shown.is_empty())
}

/// The masked key of a former token that status shows.
fn former_key(before: &KeyStatus, id: &TokenId) -> Option<String> {
    let (id, current) = (id.as_str(), before.token_id.as_deref());
    let retiring = before.retiring.iter().find(|shown| shown.token_id == id);
    let current = before.display_key.as_ref().filter(|_| current == Some(id));
    retiring.and_then(|shown| shown.display_key.as_ref()).or(current).cloned()
}

/// The last use of a former token that status shows.
pub(super) fn shown_use<'a>(retiring: &'a [Retiring], id: &TokenId) -> Option<&'a Time> {
    retiring.iter().find(|shown| shown.token_id == id.as_str())?.last_used_at.as_ref()
}

/// For what status is written: where that fails, it can't tell of it.
pub(super) const WRITING_STATUS: &str = "Writing status";

/// Writes an object's status over the one that was read; `what` it is, for the error. None: the object is gone.
pub(super) async fn write<K>(api: &Api<K>, mut object: K, what: &'static str) -> Result<Option<K>, Error>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    // An empty list would wipe the record of who set what; none leaves it.
    object.meta_mut().managed_fields = None;
    let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
    match api.replace_status(&object.name_any(), &params, &object).await {
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() => Err(Error::Conflict(what)),
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(None),
        other => other.map(Some).doing(WRITING_STATUS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(ready: bool, message: &str, second: i64) -> Say<'_> {
        let now = Timestamp::from_second(second).unwrap();
        Say { ready, reconciling: !ready, stalled: false, reason: "R", message, generation: Some(1), now }
    }

    #[test]
    fn saying_the_same_again_is_no_change() {
        let first = conditions(&[], &say(true, "a", 1));
        assert_eq!(conditions(&first, &say(true, "a", 2)), first);
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let first = conditions(&[], &say(true, "a", 1));
        let other_message = conditions(&first, &say(true, "b", 2));
        assert_eq!(other_message[0].last_transition_time, first[0].last_transition_time);
        let other_status = conditions(&first, &say(false, "b", 3));
        assert_eq!(other_status[0].last_transition_time.0.as_second(), 3);
        assert_eq!(other_status.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["Ready", "Reconciling"]);
    }
}
