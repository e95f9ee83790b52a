//! The API server goes away and comes back.

use datafast_harness::{eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, Kind, Operation};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::DeleteParams};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, HORIZON_ARG, Plane, SYSTEM, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

#[rstest]
#[tokio::test]
async fn a_restart_of_the_api_server_costs_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    for name in ["a", "b", "c"] {
        w.apply(name, json!({ "permissions": ["analytics:read"] })).await;
    }
    let before = [w.issued("a").await, w.issued("b").await, w.issued("c").await];
    plane.cluster.restart_apiserver().await.unwrap();
    w.apply("d", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("d").await;
    w.delete("c").await;
    wait_gone(&w.objects(), "c", WAIT).await;
    w.polls(2).await;
    for (name, before) in ["a", "b"].into_iter().zip(before) {
        assert_eq!(w.issued(name).await.secret, before.secret);
    }
    assert_eq!((w.posts(), w.deletes()), (4, 1));
    assert!(operator.is_running().unwrap());
}

#[rstest]
#[tokio::test]
async fn a_key_outlives_an_api_server_that_is_away(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.account_says("Connected").await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    plane.cluster.stop_apiserver().unwrap();
    w.account.release(hold);
    eventually("DataFast has answered", WAIT, || async {
        let answered = |r: &datafast_sandbox::LoggedRequest| {
            r.operation == Some(Operation::CreateAccessToken) && r.status == Some(200)
        };
        w.requests().iter().any(answered).then_some(())
    })
    .await;
    plane.cluster.start_apiserver().await.unwrap();
    w.issued_alone("agent").await;
    w.horizon_passes().await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

/// Only the API server goes back: DataFast has all that happened since.
#[rstest]
#[tokio::test]
async fn a_cluster_that_is_put_back_under_a_running_operator_converges(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    // A lease that outlives the API server's stops on any machine: it is not by that that the operator ends.
    const LEADING: [&str; 5] = ["--allow-plain-http", "--horizon", HORIZON_ARG, "--lease-duration", "150s"];
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &LEADING).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    let spec = json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } });
    w.apply("kept", spec.clone()).await;
    w.apply("rotated", spec.clone()).await;
    let (kept, before) = (w.issued("kept").await, w.issued("rotated").await);
    let leases: Api<Lease> = Api::namespaced(plane.cluster.admin().await.unwrap(), SYSTEM);
    plane.cluster.save().await.unwrap();
    w.annotate("rotated", json!({ names::ROTATE: "1" })).await;
    w.renewed("rotated", &before).await;
    w.apply("later", spec.clone()).await;
    let later = w.issued("later").await;
    // A renewal later than what was saved: by its version the operator sees that the server has gone back.
    let lease = || async { leases.get(names::MANAGER).await.unwrap().metadata.resource_version };
    let saved = lease().await;
    eventually("the lease is renewed", WAIT, || async { (lease().await != saved).then_some(()) }).await;
    plane.cluster.restore().await.unwrap();

    // What it knew is no longer so: it ends, and is started again.
    let ended = operator.wait_exit(WAIT).await.unwrap().expect("the operator ends");
    assert_eq!(ended.code(), Some(70));
    assert!(operator.logs().contains("older state"), "it says why");
    // Its successor need not wait until it has run out.
    leases.delete(names::MANAGER, &DeleteParams::default()).await.unwrap();
    let _operator = start(&plane.cluster, None, &LEADING).await;
    w.apply("fresh", spec).await;
    w.issued("fresh").await;
    w.renewed("rotated", &before).await;
    assert_eq!(w.issued("kept").await.secret.data, kept.secret.data);
    // Nobody knows of it now, and nobody revokes it unasked.
    assert!(w.issued_tokens().iter().any(|token| token.id == later.token.id));
}
