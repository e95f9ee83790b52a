//! Counts what all resources say, for whoever watches over the operator.

use std::time::Duration;

use kube::ResourceExt;

use super::Context;
use super::resource::Managed;
use super::status;
use crate::api::names;
use crate::lifecycle::snapshot::is_after;
use crate::lifecycle::verdict::Reason;
use crate::telemetry::{Account, Census, KindOf, Said};

/// Between one count and the next: as often as Prometheus commonly asks.
const EVERY: Duration = Duration::from_secs(15);

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
    for resource in ctx.resources() {
        let known = census.accounts.get(resource.account_name()).cloned().unwrap_or_default();
        add(&mut census, &*resource, known);
    }
    census
}

fn add(census: &mut Census, resource: &dyn Managed, account: String) {
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
    let unused = census.unused.entry(Account { account: account.clone() }).or_default();
    *unused += u32::from(status::is_unused(resource));
    let swapped = status.issued_at.as_ref().map(|time| time.0);
    let used = status.retiring.iter().filter_map(|former| former.last_used_at.as_ref());
    let in_use = used.filter(|used| swapped.is_some_and(|swapped| is_after(Some(used.0), swapped))).count();
    *census.old_in_use.entry(Account { account }).or_default() += u32::try_from(in_use).unwrap_or(u32::MAX);
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
            add(&mut census, &token(status), "default".to_owned());
        }
        assert_eq!(census.unused, [(Account { account: "default".to_owned() }, 1)].into());
    }
}
