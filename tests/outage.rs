//! The API server goes away and comes back.

use datafast_harness::{eventually, wait_gone};
use datafast_sandbox::{Fault, Kind, Operation};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, Plane, Setup,
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
