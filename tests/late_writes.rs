//! A write of a Secret that is late: what is promised to consumers counts from when the key is there.

use std::time::Duration;

use datafast_harness::{At, Cutter, Fault, Operator, Plan, eventually};
use datafast_operator::api::names;
use datafast_sandbox::Operation;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, Issued, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// How late a write is.
const LATE: Duration = Duration::from_secs(6);
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// A world whose operator reaches the API server through the plan.
async fn world(plane: &Plane, plan: &Plan, kind: Subject) -> (World, Cutter, Operator) {
    let cutter = Cutter::to_cluster(plan, &plane.cluster).await.unwrap();
    let operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    (World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await, cutter, operator)
}

async fn issued(w: &World, name: &str, more: serde_json::Value) -> Issued {
    let mut spec = json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "5s" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    w.apply(name, spec).await;
    w.issued(name).await
}

/// When the operator last changed an object, by the API server's clock in whole seconds.
fn written(entries: &[ManagedFieldsEntry]) -> Timestamp {
    let ours = entries.iter().filter(|entry| entry.manager.as_deref() == Some(names::MANAGER));
    ours.filter_map(|entry| Some(entry.time.as_ref()?.0)).max().unwrap()
}

/// Waits until the Secret has another key.
async fn swapped(w: &World, name: &str, before: &Issued) -> Secret {
    eventually("the Secret has another key", WAIT, || async {
        let secret = w.secret(name).await;
        if secret.data != before.secret.data { Ok(secret) } else { Err(secret.resource_version()) }
    })
    .await
}

async fn revoked(w: &World, before: &Issued) -> Timestamp {
    let is_it = |r: &datafast_sandbox::LoggedRequest| {
        r.operation == Some(Operation::DeleteAccessToken) && r.token_id.as_ref() == Some(&before.token.id)
    };
    eventually("the old token is revoked", WAIT, || async { w.changes().into_iter().find(is_it) }).await.at
}

#[rstest]
#[tokio::test]
async fn an_overlap_counts_from_when_the_secret_has_the_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let (plane, plan) = (Plane::take().await, Plan::count_only());
    let (w, _cutter, _operator) = world(&plane, &plan, kind).await;
    let before = issued(&w, "agent", json!({})).await;
    plan.reset(Fault::Late { at: At::Path("/secrets/agent"), by: LATE }).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let since = written(swapped(&w, "agent", &before).await.managed_fields());
    let told = eventually("status tells until when", WAIT, || async {
        let status = w.resource("agent").await.status.unwrap();
        status.retiring.first().and_then(|retiring| Some(retiring.revoke_after.as_ref()?.0)).ok_or(status)
    })
    .await;
    let at = revoked(&w, &before).await;
    assert!(at >= since + OVERLAP, "revoked at {at}, and the Secret has had its key since {since}");
    assert!(told >= since + OVERLAP && told <= at, "revoked at {at}, and status told {told}");
}

/// Whoever comes after it does not know how long the write took.
#[rstest]
#[tokio::test]
async fn a_crash_right_after_the_write_shortens_no_overlap(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let (plane, plan) = (Plane::take().await, Plan::count_only());
    let (w, _cutter, operator) = world(&plane, &plan, kind).await;
    let before = issued(&w, "agent", json!({})).await;
    plan.reset(Fault::Late { at: At::Path("/secrets/agent"), by: LATE }).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let since = written(swapped(&w, "agent", &before).await.managed_fields());
    operator.kill().await.unwrap();
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let at = revoked(&w, &before).await;
    assert!(at >= since + OVERLAP, "revoked at {at}, and the Secret has had its key since {since}");
}

/// The other's restart is later than the late key's issue, and yet before its Secret has that.
#[rstest]
#[tokio::test]
async fn a_workload_of_two_tokens_is_restarted_after_each_ones_write(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let (plane, plan) = (Plane::take().await, Plan::count_only());
    let (w, _cutter, _operator) = world(&plane, &plan, kind).await;
    w.run("Deployment", "web").await;
    let target = json!({ "rolloutRestart": [{ "kind": "Deployment", "name": "web" }] });
    let late = issued(&w, "late", target.clone()).await;
    let quick = issued(&w, "quick", target).await;
    plan.reset(Fault::Late { at: At::Path("/secrets/late"), by: LATE }).await;
    w.annotate("late", json!({ names::ROTATE: "1" })).await;
    tokio::time::timeout(WAIT, plan.reached()).await.expect("the late write");
    w.annotate("quick", json!({ names::ROTATE: "1" })).await;
    w.renewed("quick", &quick).await;
    let restarted = |at| json!({ "example.com/mine": "yes", names::RESTARTED_AT: at });
    assert_eq!(w.template("Deployment", "web").await, (2, restarted(w.issued_at("quick").await)));
    assert_eq!(w.secret("late").await.data, late.secret.data, "its write is still to come");

    w.renewed("late", &late).await;
    assert_eq!(w.template("Deployment", "web").await, (3, restarted(w.issued_at("late").await)));
    w.look_at("late").await;
    w.look_at("quick").await;
    assert_eq!(w.template("Deployment", "web").await.0, 3, "once for each key");
}
