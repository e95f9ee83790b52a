//! An API server that answers late is not given more to do.

use std::time::Duration;

use datafast_harness::{Cutter, Fault, Operator, Plan, condition, eventually, late_answers};
use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use serde_json::json;

use crate::world::{
    Plane, Setup,
    Subject::{AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// Worlds of both kinds, whose operator reaches the API server through the plan, and whose accounts are connected.
async fn worlds(plane: &Plane, plan: &Plan, args: &[&str]) -> (Operator, Cutter, [World; 2]) {
    let cutter = Cutter::to_cluster(plan, &plane.cluster).await.unwrap();
    let args = [&["--allow-plain-http", "--leader-elect=false"], args].concat();
    let operator = start(&plane.cluster, Some(cutter.url()), &args).await;
    let [tokens, keys] = [AccessToken, WebsiteKey].map(async |kind| {
        let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
        w.account_says("Connected").await;
        w
    });
    (operator, cutter, [tokens.await, keys.await])
}

/// With the usual horizon: the answer to the record comes later than a quarter of it.
#[tokio::test]
async fn answers_after_35_seconds_cost_neither_a_second_record_nor_a_second_request() {
    let (plane, plan) = (Plane::take().await, Plan::new(Fault::None));
    let (_operator, _cutter, worlds) = worlds(&plane, &plan, &[]).await;
    plan.delay(Duration::from_secs(35));
    join_all(worlds.iter().map(async |w| {
        w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        w.issued_alone("agent").await;
        let mut writes = w.writes();
        // Which of both comes first is left to chance.
        writes[..2].sort();
        let status = "update datafastaccesstokens/status";
        let (said, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write == status);
        assert_eq!(writes, ["create secrets, dry run", "patch datafastaccesstokens", "create secrets"]);
        // That a website's first list is waited for is said.
        assert!((1..=2).contains(&said.len()), "{said:?}");
        assert_eq!(w.posts(), 1);
    }))
    .await;
}

/// Nothing can be sent in time. What was tried is said once, and tried again with pauses; and then all is well again.
#[tokio::test]
async fn an_api_server_slower_than_the_horizon_is_named_and_not_hurried() {
    let (plane, plan) = (Plane::take().await, Plan::new(Fault::None));
    let (_operator, _cutter, worlds) = worlds(&plane, &plan, &["--horizon", "10s"]).await;
    let before = join_all(worlds.iter().map(async |w| {
        w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        w.issued("agent").await
    }))
    .await;
    plan.delay(Duration::from_secs(30));
    join_all(worlds.iter().map(is_not_hurried)).await;
    plan.delay(late_answers());
    join_all(worlds.iter().zip(&before).map(async |(w, before)| {
        w.renewed("agent", before).await;
        assert_eq!(w.posts(), 2);
        let events = w.events("agent").await;
        let lost: Vec<&Event> = events.iter().filter(|event| event.reason.as_deref() == Some("KeyLost")).collect();
        assert!(matches!(&*lost, [event] if event.series.is_none()), "it was lost once: {lost:?}");
    }))
    .await;
}

async fn is_not_hurried(w: &World) {
    let written = w.writes().len();
    w.delete_secret("agent").await;
    let said = eventually("it says that the API server is slow", WAIT, || async {
        let ready = condition(&w.resource("agent").await, "Ready").unwrap();
        let is_it = ready.message.contains("The API server took");
        if is_it { Ok(ready) } else { Err(ready) }
    })
    .await;
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "Issuing"), "{said:?}");
    let (records, others): (Vec<_>, Vec<_>) =
        w.writes().split_off(written).into_iter().partition(|write| write == "patch datafastaccesstokens");
    assert_eq!(records.len(), 2, "once, and once again; then with a pause: {others:?}");
    assert_eq!(w.posts(), 1, "nothing is sent too late");
}
