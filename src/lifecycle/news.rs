//! What a status tells, and what is new to it: whom a list concerns, who has waited already, and what is told once.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::last_used;
use super::marker::OwnerId;
use super::observed::StatusRecord;
use super::queue::{Priority, Waiting};
use super::snapshot::{Listed, Snapshot, is_after};
use super::verdict::{Reason, Verdict};
use crate::api::KeyStatus;

fn at(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

/// Kubernetes keeps whole seconds.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Whether a list has news for the resource of this status: a use, another key, a token that is gone, or one of its own that
/// status does not name.
pub fn concerns(snapshot: &Snapshot, status: &KeyStatus, owner: &OwnerId, now: Timestamp) -> bool {
    let listed = |id: &str| snapshot.tokens().find(|listed| listed.token.id.as_str() == id);
    let is_news = |id: &str, shown: Option<Timestamp>| {
        let shows = |listed: &Listed| last_used(shown, listed.token.last_used_at.map(whole_seconds), None, now);
        listed(id).is_none_or(|listed| shows(listed) != shown)
    };
    let current = status.token_id.as_deref().is_some_and(|id| {
        let told = listed(id).map(|it| &it.token.display_key).filter(|told| !told.is_empty());
        let has_other_key = told.is_some() && told != status.display_key.as_ref();
        has_other_key || is_news(id, at(status.last_used_at.as_ref()))
    });
    // The first use of a former token after the swap is not waited with.
    let swapped = at(status.issued_at.as_ref());
    let is_used_again = |id: &str, shown: Option<Timestamp>| {
        let used = listed(id).and_then(|listed| listed.token.last_used_at);
        swapped.is_some_and(|swapped| is_after(used, swapped) && !is_after(shown, swapped))
    };
    let retiring = status.retiring.iter().any(|retiring| {
        let (id, shown) = (retiring.token_id.as_str(), at(retiring.last_used_at.as_ref()));
        is_news(id, shown) || is_used_again(id, shown)
    });
    let is_own = |listed: &&Listed| listed.marker.as_ref().is_some_and(|marker| marker.owner == *owner);
    let is_named = |id: &str| {
        status.token_id.as_deref() == Some(id) || status.retiring.iter().any(|retiring| retiring.token_id == id)
    };
    current || retiring || snapshot.tokens().filter(is_own).any(|listed| !is_named(listed.token.id.as_str()))
}

/// The place of a resource that waited for a slot when the last process ended: by its status, and the reason of `Ready`.
pub fn kept_place(status: &StatusRecord, reason: Option<&str>, owner: OwnerId) -> Option<Waiting> {
    let since = status.waiting_since.filter(|_| reason == Some(Reason::WaitingForSlot.as_str()))?;
    let priority = if status.ready { Priority::Rotation } else { Priority::New };
    Some(Waiting { priority, since, owner })
}

/// What is told once of a token that nobody uses, where status says so for the first time. Where the token is revoked for
/// that, the reason of `Ready` tells.
pub fn unused(before: Option<&KeyStatus>, new: &KeyStatus, verdict: &Verdict) -> Option<String> {
    let is_told = before.is_some_and(|status| status.unused_since.is_some());
    let since = at(new.unused_since.as_ref()).filter(|_| !is_told && verdict.reason != Reason::Unused)?;
    Some(format!(
        "No key of it has been used since {since:.0}: revoke it if nobody needs it, by deleting the resource or by spec.whenUnused.action: Revoke"
    ))
}
