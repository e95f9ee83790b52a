//! Things change while a request for a token is under way.

use datafast_harness::{At, Cutter, Fault, Plan, Side, eventually, wait_gone};
use datafast_sandbox::{Fault as ApiFault, FaultId, Kind, Operation};
use futures::future::join_all;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{
    ARGS, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start, text_in,
};

/// Applies a resource, whose request for a token then waits for its answer.
async fn under_way(w: &World, spec: Value) -> FaultId {
    let hold = w.set_fault(ApiFault::new(Operation::CreateAccessToken, Kind::Hold).after_effect().once());
    w.apply("agent", spec).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    hold
}

/// In time for the operator to take notice, if it does.
async fn a_poll_later(w: &World, hold: FaultId) {
    w.polls(1).await;
    w.account.release(hold);
}

#[rstest]
#[tokio::test]
async fn a_resource_deleted_meanwhile_leaves_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
    w.delete("agent").await;
    a_poll_later(&w, hold).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn a_resource_deleted_and_created_again_meanwhile_has_a_token_of_its_own(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
    let before = w.resource("agent").await;
    w.delete("agent").await;
    a_poll_later(&w, hold).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let after = w.issued_alone("agent").await;
    assert_ne!(after.resource.uid(), before.uid());
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[rstest]
#[tokio::test]
async fn a_scope_changed_meanwhile_is_met_in_the_end(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let rotation = json!({ "overlap": "0s" });
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": rotation })).await;
    a_poll_later(&w, hold).await;
    assert_eq!(w.issued_alone("agent").await.token.permissions, ["goals:read"]);
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[rstest]
#[tokio::test]
async fn a_template_changed_meanwhile_is_rendered(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
    let secret = json!({ "key": "KEY", "data": { "env": "$(TOKEN_ID)" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": secret })).await;
    a_poll_later(&w, hold).await;
    let issued = w.issued_alone("agent").await;
    assert_eq!(text_in(&issued.secret, "env"), issued.token.id);
    assert_eq!(issued.secret.data.unwrap().len(), 2);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_resource_suspended_meanwhile_still_gets_its_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    a_poll_later(&w, hold).await;
    w.says("agent", "Suspended").await;
    w.polls(1).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 0), "the key was not dropped");
}

/// Somebody creates a Secret of that name between the dry run and the answer.
#[rstest]
#[tokio::test]
async fn a_secret_of_somebody_else_that_came_meanwhile_is_left_as_it_is(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
    let foreign = w.create_secret("agent", json!({}), json!({ "token": "precious" })).await;
    a_poll_later(&w, hold).await;
    w.says("agent", "SecretConflict").await;
    w.polls(1).await;
    assert_eq!(w.secret("agent").await, foreign);
    w.delete_secret("agent").await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 0), "the key was kept for that moment");
}

#[rstest]
#[tokio::test]
async fn a_credential_changed_meanwhile_loses_no_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
    w.set_credential(&w.another_credential()).await;
    a_poll_later(&w, hold).await;
    w.issued("agent").await;
    w.polls(1).await;
    w.issued("agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

/// Deletes what is there at that moment: without the precondition, the API server may remove a resource in spite of a
/// finalizer that is added while the request is at work (kubernetes/kubernetes#77988).
async fn delete(w: &World, name: &str) {
    eventually("it is deleted", WAIT, || async {
        let resource_version = w.resource(name).await.resource_version();
        let preconditions = Some(Preconditions { resource_version, uid: None });
        w.objects().delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn many_resources_come_and_go_at_once(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    // In as many slots as a website has, a changed one needs a free one beside its own.
    let names: Vec<_> = (1..=12).map(|n| format!("agent-{n}")).collect();
    let spec = json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } });
    join_all(names.iter().map(|name| w.apply(name, spec.clone()))).await;
    // A third is deleted before, during or after its issue.
    join_all(names.iter().step_by(3).map(|name| delete(&w, name))).await;
    let changed = json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } });
    join_all(names.iter().skip(1).step_by(3).map(|name| w.apply(name, changed.clone()))).await;
    for (n, name) in names.iter().enumerate() {
        match n % 3 {
            0 => wait_gone(&w.objects(), name, WAIT).await,
            1 => assert_eq!(w.issued(name).await.token.permissions, ["goals:read"]),
            _ => assert_eq!(w.issued(name).await.token.permissions, ["analytics:read"]),
        }
    }
    w.horizon_passes().await;
    let live = w.issued_tokens();
    assert_eq!(live.len(), 8, "{:?}", live.iter().map(|token| (&token.name, &token.permissions)).collect::<Vec<_>>());
    assert_eq!(w.secrets().list(&Default::default()).await.unwrap().items.len(), 8);
}

/// Deletes a resource in spite of its finalizer; or it was the API server's own race between a deletion and a new
/// finalizer.
async fn delete_by_force(w: &World) {
    // In this order: the operator would put it back.
    w.delete("agent").await;
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    w.objects().patch("agent", &PatchParams::default(), &release).await.unwrap();
    assert!(w.find("agent").await.unwrap().is_none());
}

/// Several at once, because it depends on the moment at which the operator hears of it.
#[rstest]
#[tokio::test]
async fn a_resource_that_vanishes_meanwhile_leaves_no_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    join_all((0..8).map(async |_| {
        let w = World::of(kind).await;
        let hold = under_way(&w, json!({ "permissions": ["analytics:read"] })).await;
        delete_by_force(&w).await;
        a_poll_later(&w, hold).await;
        eventually("no token is left", WAIT, || async {
            let live = w.issued_tokens();
            if live.is_empty() { Ok(()) } else { Err(live) }
        })
        .await;
    }))
    .await;
}

#[rstest]
#[tokio::test]
async fn a_resource_that_vanishes_with_its_key_in_the_secret_leaves_a_token_that_is_reported(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let plane = Plane::take().await;
    let plan = Plan::new(Fault::None);
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let _operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.apply("other", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("other").await;
    // The Secret is there, and the operator does not hear so.
    plan.reset(Fault::Cut { at: At::Path("/secrets"), side: Side::After }).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, plan.reached()).await.expect("the Secret is written");
    delete_by_force(&w).await;
    plan.reset(Fault::None).await;
    eventually("it is reported, or gone", WAIT, || async {
        let live = w.issued_tokens().len();
        let unclaimed = w.account_resource().await.status.unwrap_or_default().unclaimed.len();
        if live == 1 + unclaimed { Ok(()) } else { Err((live, unclaimed)) }
    })
    .await;
}
