//! `rolloutRestart`: workloads that read the Secret only when they start get each new key.

use std::slice;

use axum::http::StatusCode;
use datafast_harness::{At, Cutter, Fault, Plan, Side, eventually};
use datafast_operator::api::names;
use jiff::Timestamp;
use k8s_openapi::api::{events::v1::Event, rbac::v1::ClusterRole};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{
    ARGS, Issued, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// A resource with these targets, issued.
async fn issued(w: &World, targets: Value) -> Issued {
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rolloutRestart": targets })).await;
    w.issued("agent").await
}

async fn rotated(w: &World, before: &Issued, request: &str) -> Issued {
    w.annotate("agent", json!({ names::ROTATE: request })).await;
    w.renewed("agent", before).await
}

/// The annotations of a template after a restart for the key that the Secret has.
async fn restarted(w: &World) -> Value {
    json!({ "example.com/mine": "yes", names::RESTARTED_AT: w.issued_at("agent").await })
}

/// Waits until events with this reason name all these workloads.
async fn told(w: &World, reason: &str, workloads: &[&str]) {
    eventually(&format!("events {reason} name {workloads:?}"), WAIT, || async {
        let events = w.events("agent").await.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        let notes: Vec<_> = events.filter_map(|event| event.note).collect();
        let is_named = |workload: &&str| notes.iter().any(|note| note.contains(workload));
        if workloads.iter().all(is_named) { Ok(()) } else { Err(notes) }
    })
    .await;
}

fn untouched() -> Value {
    json!({ "example.com/mine": "yes" })
}

#[rstest]
#[tokio::test]
async fn each_kind_is_restarted_once_for_each_new_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    for kind in KINDS {
        w.run(kind, "web").await;
    }
    let first = issued(&w, json!(KINDS.map(|kind| json!({ "kind": kind, "name": "web" })))).await;
    w.look_at("agent").await;
    for kind in KINDS {
        assert_eq!(w.template(kind, "web").await, (1, untouched()), "a {kind} with the first key has no older one");
    }
    let second = rotated(&w, &first, "1").await;
    let expected = restarted(&w).await;
    for kind in KINDS {
        assert_eq!(w.template(kind, "web").await, (2, expected.clone()), "{kind}");
    }
    told(&w, "RolloutRestarted", &KINDS).await;

    w.look_at("agent").await;
    w.polls(1).await;
    assert_eq!(w.template("Deployment", "web").await, (2, expected));
    // A lost key is a new key too.
    w.delete_secret("agent").await;
    w.renewed("agent", &second).await;
    let expected = restarted(&w).await;
    for kind in KINDS {
        assert_eq!(w.template(kind, "web").await, (3, expected.clone()), "{kind}");
    }
}

#[rstest]
#[tokio::test]
async fn an_operator_that_starts_again_restarts_nothing_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    for name in ["web", "worker", "later"] {
        w.run("Deployment", name).await;
    }
    let targets = ["web", "worker"].map(|name| json!({ "kind": "Deployment", "name": name }));
    let first = issued(&w, json!(targets)).await;
    let second = rotated(&w, &first, "1").await;
    let expected = restarted(&w).await;
    let by_hand = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    w.restart_by_hand("Deployment", "worker", &by_hand).await;
    w.look_at("agent").await;
    operator.kill().await.unwrap();
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let targets = ["web", "worker", "later"].map(|name| json!({ "kind": "Deployment", "name": name }));
    w.patch_spec("agent", json!({ "rolloutRestart": targets })).await;
    w.look_at("agent").await;
    assert_eq!(w.template("Deployment", "web").await, (2, expected));
    let mine = json!({ "example.com/mine": "yes", names::RESTARTED_AT: by_hand });
    assert_eq!(w.template("Deployment", "worker").await, (3, mine), "what a person did later stays");
    assert_eq!(w.template("Deployment", "later").await, (1, untouched()), "it is a target since the last swap only");

    rotated(&w, &second, "2").await;
    let expected = restarted(&w).await;
    for (name, generation) in [("web", 3), ("worker", 4), ("later", 2)] {
        assert_eq!(w.template("Deployment", name).await, (generation, expected.clone()), "{name}");
    }
}

#[rstest]
#[tokio::test]
async fn a_target_that_comes_later_is_not_restarted(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.run("Deployment", "web").await;
    let target = json!([{ "kind": "Deployment", "name": "web" }]);
    let first = issued(&w, json!([])).await;
    w.patch_spec("agent", json!({ "rolloutRestart": target })).await;
    w.look_at("agent").await;
    w.patch_spec("agent", json!({ "rolloutRestart": [] })).await;
    let second = rotated(&w, &first, "1").await;
    w.patch_spec("agent", json!({ "rolloutRestart": target })).await;
    w.look_at("agent").await;
    w.polls(1).await;
    assert_eq!(w.template("Deployment", "web").await, (1, untouched()));
    rotated(&w, &second, "2").await;
    assert_eq!(w.template("Deployment", "web").await, (2, restarted(&w).await));
}

#[rstest]
#[tokio::test]
async fn a_target_that_is_not_there_holds_nothing_back(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.run("Deployment", "web").await;
    let targets = json!([
        { "kind": "Deployment", "name": "gone" },
        { "kind": "StatefulSet", "name": "web" },
        { "kind": "Deployment", "name": "web" },
    ]);
    let first = issued(&w, targets).await;
    let second = rotated(&w, &first, "1").await;
    told(&w, "RolloutRestartFailed", &["Deployment \"gone\"", "StatefulSet \"web\""]).await;
    assert_eq!(w.template("Deployment", "web").await, (2, restarted(&w).await));
    assert_eq!(second.retiring(), [first.token.id]);
    w.run("Deployment", "gone").await;
    w.look_at("agent").await;
    assert_eq!(w.template("Deployment", "gone").await, (1, untouched()), "it started with the new key");
}

#[rstest]
#[tokio::test]
async fn without_the_right_to_restart_the_new_key_comes_all_the_same(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.run("Deployment", "web").await;
    let first = issued(&w, json!([{ "kind": "Deployment", "name": "web" }])).await;
    let roles: Api<ClusterRole> = Api::all(w.client.clone());
    let rules = roles.get("datafast-operator").await.unwrap().rules.unwrap();
    let is_kept = |group: &String| group != "apps";
    let fewer: Vec<_> = rules.iter().filter(|rule| rule.api_groups.iter().flatten().all(is_kept)).collect();
    assert_eq!(fewer.len(), rules.len() - 1);
    let set = async |rules: Value, may: bool| {
        let patch = Patch::Merge(json!({ "rules": rules }));
        roles.patch("datafast-operator", &PatchParams::default(), &patch).await.unwrap();
        let client = w.cluster.operator_client().await.unwrap();
        let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client, &w.namespace);
        eventually("the API server knows the rule", WAIT, || async {
            let got = deployments.get("web").await.map(drop);
            if got.is_ok() == may { Ok(()) } else { Err(got) }
        })
        .await;
    };
    set(json!(fewer), false).await;
    let second = rotated(&w, &first, "1").await;
    let note = w.event("agent", "RolloutRestartFailed").await;
    assert!(note.contains("web") && note.contains("forbidden"), "{note}");
    assert_eq!(second.retiring(), slice::from_ref(&first.token.id));
    assert_eq!(w.template("Deployment", "web").await, (1, untouched()));
    set(json!(rules), true).await;
    rotated(&w, &second, "2").await;
    assert_eq!(w.template("Deployment", "web").await, (2, restarted(&w).await));
}

/// As when etcd has no leader for a moment: nothing was refused.
#[rstest]
#[tokio::test]
async fn a_restart_that_the_api_server_fumbles_is_tried_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let _operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.run("Deployment", "web").await;
    let first = issued(&w, json!([{ "kind": "Deployment", "name": "web" }])).await;
    let (at, side) = (At::Path("/deployments/web"), Side::Before);
    plan.reset(Fault::Fail { at, side, status: StatusCode::INTERNAL_SERVER_ERROR }).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let reached = tokio::time::timeout(WAIT, plan.reached()).await.unwrap();
    assert!(reached.starts_with("PATCH") && reached.ends_with("/deployments/web"), "{reached}");
    w.renewed("agent", &first).await;
    let expected = restarted(&w).await;
    eventually("the workload is restarted", WAIT, || async {
        let template = w.template("Deployment", "web").await;
        if template == (2, expected.clone()) { Ok(()) } else { Err(template) }
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn a_workload_that_seems_restarted_long_after_is_restarted_all_the_same(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.run("Deployment", "web").await;
    let first = issued(&w, json!([{ "kind": "Deployment", "name": "web" }])).await;
    w.restart_by_hand("Deployment", "web", "2099-01-01T00:00:00Z").await;
    rotated(&w, &first, "1").await;
    assert_eq!(w.template("Deployment", "web").await, (3, restarted(&w).await));
    told(&w, "RolloutRestarted", &["Deployment \"web\""]).await;
}

#[rstest]
#[tokio::test]
async fn a_workload_that_keeps_its_pods_is_told_of(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.run("Deployment", "rolling").await;
    let kept = [
        ("Deployment", json!({ "paused": true })),
        ("StatefulSet", json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } })),
        ("DaemonSet", json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } })),
    ];
    for (kind, spec) in &kept {
        w.run(kind, "kept").await;
        let patch = Patch::Merge(json!({ "spec": spec }));
        w.workloads(kind).patch("kept", &PatchParams::default(), &patch).await.unwrap();
    }
    let targets = kept.each_ref().map(|(kind, _)| json!({ "kind": kind, "name": "kept" }));
    let targets = [&targets[..], &[json!({ "kind": "Deployment", "name": "rolling" })]].concat();
    let first = issued(&w, json!(targets)).await;
    rotated(&w, &first, "1").await;
    told(&w, "RolloutRestartIneffective", &["Deployment \"kept\"", "StatefulSet \"kept\"", "DaemonSet \"kept\""]).await;
    told(&w, "RolloutRestarted", &["Deployment \"rolling\""]).await;
    for (kind, _) in &kept {
        assert_eq!(w.template(kind, "kept").await.1, restarted(&w).await, "whoever replaces its pods finds it");
    }
    let events = w.events("agent").await;
    let about = |event: &&Event| event.note.as_ref().is_some_and(|note| note.contains("\"kept\""));
    for event in events.iter().filter(about) {
        let reason = event.reason.as_deref();
        assert_eq!((reason, event.type_.as_deref()), (Some("RolloutRestartIneffective"), Some("Warning")), "{event:?}");
        assert!(event.note.as_ref().unwrap().contains("keep the old key, until"), "{event:?}");
    }
}
