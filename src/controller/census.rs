//! Counts what all resources say, for whoever watches over the operator.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Context;
use super::resource::Managed;
use super::status;
use crate::api::{KeyStatus, names};
use crate::lifecycle::snapshot::is_after;
use crate::lifecycle::verdict::Reason;
use crate::telemetry::{Account, Census, KindOf, Overdue, Said};

/// Between one count and the next: as often as Prometheus commonly asks.
const EVERY: Duration = Duration::from_secs(15);

/// What an overdue rotation waits for where no window is open.
const WINDOWS: &str = "RotationWindows";

/// Counts again and again.
pub(super) async fn count(ctx: &Context) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        ctx.metrics.counted(census(ctx));
    }
}

fn census(ctx: &Context) -> Census {
    let accounts = ctx.account_resources.state().iter().map(|account| account.name_any()).collect();
    let mut census = Census { accounts, ..Census::default() };
    let now = ctx.now();
    for resource in ctx.resources() {
        let known = census.accounts.get(resource.account_name()).cloned().unwrap_or_default();
        add(&mut census, &*resource, known, now);
    }
    census
}

fn add(census: &mut Census, resource: &dyn Managed, account: String, now: Timestamp) {
    let Some(status) = resource.status() else { return };
    let kind = resource.kind();
    let Some(reason) = status::ready_reason(&status.conditions) else { return };
    let ready = if status::is_true(&status.conditions, names::READY) { "true" } else { "false" };
    let said = Said { kind, account: account.clone(), reason: reason.to_owned(), ready };
    *census.resources.entry(said).or_default() += 1;
    let is_over = resource.is_deleted() || resource.terms().suspend || Reason::is_end(reason);
    if let Some(next) = status.next_rotation_at.as_ref().filter(|_| !is_over) {
        let next = next.0.as_second();
        let of = KindOf { kind, account: account.clone() };
        census.next_rotations.entry(of).and_modify(|at| *at = next.min(*at)).or_insert(next);
    }
    if let Some(reason) = overdue(resource, status, reason, now).filter(|_| !is_over) {
        *census.overdue.entry(Overdue { kind, account: account.clone(), reason }).or_default() += 1;
    }
    let unused = census.unused.entry(Account { account: account.clone() }).or_default();
    *unused += u32::from(status::is_unused(resource));
    let swapped = status.issued_at.as_ref().map(|time| time.0);
    let used = status.retiring.iter().filter_map(|former| former.last_used_at.as_ref());
    let in_use = used.filter(|used| swapped.is_some_and(|swapped| is_after(Some(used.0), swapped))).count();
    *census.old_in_use.entry(Account { account }).or_default() += u32::try_from(in_use).unwrap_or(u32::MAX);
}

/// Why a resource's key is older than `rotation.every`, if it is. One that waits for a window has its next rotation told for
/// later, or for never.
fn overdue(resource: &dyn Managed, status: &KeyStatus, reason: &str, now: Timestamp) -> Option<String> {
    let every = SignedDuration::try_from(resource.rotation_every()?).ok()?;
    let issued_at = status.issued_at.as_ref()?.0;
    let is_overdue = now.duration_since(issued_at) > every;
    let waits_for_window = status.next_rotation_at.as_ref().is_none_or(|next| next.0 > now);
    let why = if waits_for_window { WINDOWS } else { reason };
    is_overdue.then(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::lenient::Lenient;
    use super::*;
    use crate::api::DataFastAccessToken;

    fn token(mut status: Value) -> Lenient<DataFastAccessToken> {
        status["conditions"] = json!([{
            "type": "Ready", "status": "True", "reason": "Issued", "message": "",
            "lastTransitionTime": "2026-01-02T00:00:00Z",
        }]);
        serde_json::from_value(json!({
            "apiVersion": "datafa.st/v1alpha1", "kind": "DataFastAccessToken", "metadata": { "name": "agent" },
            "spec": { "permissions": ["goals:read"] }, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_nobody_uses_is_counted_as_long_as_there_is_a_token() {
        let since = "2026-01-01T00:00:00Z";
        let mut census = Census::default();
        for status in [
            json!({ "tokenId": "a", "unusedSince": since }),
            json!({ "tokenId": "b" }),
            json!({ "unusedSince": since }),
        ] {
            add(&mut census, &token(status), "default".to_owned(), Timestamp::now());
        }
        assert_eq!(census.unused, [(Account { account: "default".to_owned() }, 1)].into());
    }
    #[test]
    fn a_key_that_is_older_than_every_is_counted_by_what_its_rotation_waits_for() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let overdue = |issued_at: &str, next: Option<&str>| {
            let mut token = token(json!({ "tokenId": "a", "issuedAt": issued_at, "nextRotationAt": next }));
            token.spec.rotation.every = Some("48h".parse().unwrap());
            let mut census = Census::default();
            add(&mut census, &token, "default".to_owned(), now);
            census.overdue.into_iter().map(|(labels, number)| (labels.reason, number)).collect::<Vec<_>>()
        };
        assert!(overdue("2026-01-08T00:00:00Z", Some("2026-01-09T23:00:00Z")).is_empty());
        let waits = |reason: &str| vec![(reason.to_owned(), 1)];
        assert_eq!(overdue("2026-01-07T23:59:59Z", Some("2026-01-11T00:00:00Z")), waits("RotationWindows"));
        assert_eq!(overdue("2026-01-07T23:59:59Z", None), waits("RotationWindows"), "none opens in sight");
        assert_eq!(overdue("2026-01-07T23:59:59Z", Some("2026-01-09T23:00:00Z")), waits("Issued"), "as Ready says");
    }
}
