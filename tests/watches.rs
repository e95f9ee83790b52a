//! Watches that can be trusted: what happens while one is away is found out afterwards, that it is away is said, and an object
//! of a later version takes no other along.

use axum::http::StatusCode;
use datafast_harness::{Cutter, Operator, Plan, condition, eventually, plain_http, wait_gone};
use datafast_operator::api::names;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{
    ARGS, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, apply, start,
};

#[rstest]
#[tokio::test]
async fn a_secret_deleted_while_the_watch_was_away_is_found_by_the_next_list(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let (plane, plan) = (Plane::take().await, Plan::count_only());
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let _operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    for name in ["agent", "other"] {
        w.apply(name, json!({ "permissions": ["analytics:read"] })).await;
    }
    let (before, other) = (w.issued("agent").await, w.issued("other").await);
    plan.lose_watches("/api/v1/secrets", StatusCode::SERVICE_UNAVAILABLE);
    w.delete_secret("agent").await;
    // No watch tells of it.
    w.polls(1).await;
    plan.find_watches();
    w.renewed("agent", &before).await;
    w.event("agent", "KeyLost").await;
    assert_eq!(w.issued("other").await.secret, other.secret);
    assert_eq!(w.posts(), 3);
}

async fn readiness(operator: &Operator) -> (u16, String) {
    let answer = plain_http().build().unwrap().get(format!("{}/readyz", operator.url())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The samples of `datafast_watch_synced`.
async fn synced(operator: &Operator) -> Vec<String> {
    let metrics = operator.metrics().await.unwrap();
    let samples = metrics.lines().filter_map(|line| line.strip_prefix("datafast_watch_synced{kind="));
    let mut samples: Vec<String> = samples.map(str::to_owned).collect();
    samples.sort();
    samples
}

fn all_synced_but(kind: &str) -> Vec<String> {
    let kinds = ["DataFastAccessToken", "DataFastAccount", "DataFastWebsiteKey", "Namespace", "Secret"];
    kinds.iter().map(|it| format!("\"{it}\"}} {}", u8::from(*it != kind))).collect()
}

/// As where the right to watch was taken away.
#[tokio::test]
async fn a_watch_that_stays_away_is_said_and_so_is_its_return() {
    let (plane, plan) = (Plane::take().await, Plan::count_only());
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    assert_eq!(synced(&operator).await, all_synced_but("none"));
    plan.lose_watches("/apis/datafa.st/v1alpha1/datafastwebsitekeys", StatusCode::FORBIDDEN);
    eventually("the metric tells", WAIT, || async {
        let synced = synced(&operator).await;
        if synced == all_synced_but("DataFastWebsiteKey") { Ok(()) } else { Err(synced) }
    })
    .await;
    eventually("it is not ready", WAIT, || async {
        let readiness = readiness(&operator).await;
        let is_said = readiness.0 == 503 && readiness.1.contains("DataFastWebsiteKey");
        if is_said { Ok(()) } else { Err(readiness) }
    })
    .await;
    let log = operator.logs();
    assert_eq!(log.lines().filter(|line| line.contains("a watch is broken")).count(), 1, "{log}");
    plan.find_watches();
    eventually("all is well again", WAIT, || async {
        let (readiness, synced) = (readiness(&operator).await, synced(&operator).await);
        let is_well = readiness == (200, "ok".to_owned()) && synced == all_synced_but("none");
        if is_well { Ok(()) } else { Err((readiness, synced)) }
    })
    .await;
}

/// Has the CRD of a later version: at this place of `spec` it takes a value that this one does not know.
async fn upgrade_crd(w: &World, plural: &str, place: &str, value: &str) {
    let crds: Api<CustomResourceDefinition> = Api::all(w.client.clone());
    let name = format!("{plural}.datafa.st");
    let mut crd = serde_json::to_value(crds.get(&name).await.unwrap()).unwrap();
    let place = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{place}/enum");
    crd.pointer_mut(&place).and_then(Value::as_array_mut).unwrap().push(json!(value));
    crds.replace(&name, &PostParams::default(), &serde_json::from_value(crd).unwrap()).await.unwrap();
}

fn of_later_version(kind: Subject) -> (Value, &'static str) {
    match kind {
        AccessToken => {
            (json!({ "permissions": ["analytics:read", "heatmaps:read"] }), "spec.permissions[1] (\"heatmaps:read\")")
        }
        WebsiteKey => (
            json!({ "permissions": ["analytics:read"], "rotation": { "strategy": "Swap" } }),
            "spec.rotation.strategy (\"Swap\")",
        ),
    }
}

/// Waits until the resource says that it can't be read.
async fn is_flagged(w: &World, name: &str, what: &str) {
    eventually("it says what can't be read", WAIT, || async {
        let object = w.objects().get(name).await.map_err(|e| e.to_string())?;
        let ready = condition(&object, "Ready").filter(|ready| ready.observed_generation == object.metadata.generation);
        let is_it = ready.as_ref().is_some_and(|ready| {
            let says = ready.message.contains(what) && ready.message.contains("upgrade the operator");
            ready.reason == "Rejected" && ready.status == "False" && says
        });
        if is_it { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn a_resource_of_a_later_version_affects_itself_alone(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    let (place, value) = match kind {
        AccessToken => ("permissions/items", "heatmaps:read"),
        WebsiteKey => ("rotation/properties/strategy", "Swap"),
    };
    upgrade_crd(&w, &kind.resource().plural, place, value).await;
    let (spec, what) = of_later_version(kind);
    eventually("the API server takes the later version", WAIT, || async {
        let params = PatchParams::apply("user").force();
        w.objects().patch("agent", &params, &Patch::Apply(w.manifest("agent", spec.clone()))).await
    })
    .await;
    let unknown = w.manifest("unknown", spec.clone());
    apply(&w.objects(), "unknown", &unknown).await;
    for name in ["agent", "unknown"] {
        is_flagged(&w, name, what).await;
    }
    w.apply("other", json!({ "permissions": ["analytics:read"] })).await;
    eventually("others get their token", WAIT, || async { w.look("other").await }).await;
    let live = |id: &str| w.issued_tokens().iter().any(|token| token.id == id);
    assert!(live(&before.token.id));
    assert_eq!(w.secret("agent").await, before.secret);

    operator.kill().await.unwrap();
    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.apply("another", json!({ "permissions": ["analytics:read"] })).await;
    eventually("others get their token after a start", WAIT, || async { w.look("another").await }).await;
    w.polls(1).await;
    assert!(live(&before.token.id));
    assert_eq!(w.posts(), 3, "nothing was issued for what can't be read");

    for name in ["agent", "unknown", "other", "another"] {
        w.delete(name).await;
        wait_gone(&w.objects(), name, WAIT).await;
    }
    assert_eq!(w.issued_tokens(), []);
}

#[tokio::test]
async fn an_account_of_a_later_version_affects_itself_alone() {
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let other = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    let place = "allow/properties/permissions/items";
    upgrade_crd(&w, "datafastaccounts", place, "heatmaps:read").await;
    let widen = json!({ "spec": { "allow": { "permissions": ["analytics:read", "heatmaps:read"] } } });
    let accounts: Api<kube::api::DynamicObject> = Api::all_with(
        w.client.clone(),
        &kube::core::ApiResource::erase::<datafast_operator::api::DataFastAccount>(&()),
    );
    eventually("the API server takes the later version", WAIT, || async {
        accounts.patch(&w.name, &PatchParams::default(), &Patch::Merge(&widen)).await
    })
    .await;
    let ready = w.says("agent", "AccountNotReady").await;
    assert!(ready.message.contains("spec.allow.permissions[1] (\"heatmaps:read\")"), "{ready:?}");
    assert_eq!(ready.status, "True", "its key works on");
    let account = condition(&accounts.get(&w.name).await.unwrap(), "Ready").unwrap();
    assert!(account.status == "False" && account.message.contains("upgrade the operator"), "{account:?}");
    other.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    other.issued("agent").await;
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!(w.deletes(), 0);

    let narrow = json!({ "spec": { "allow": { "permissions": ["analytics:read"] } } });
    accounts.patch(&w.name, &PatchParams::default(), &Patch::Merge(&narrow)).await.unwrap();
    assert_eq!(w.issued("agent").await.token.id, before.token.id);
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.renewed("agent", &before).await;
}
