//! An API server that answers late is not given more to do.

use std::time::Duration;

use datafast_harness::{Cutter, Fault, Operator, Plan, condition, eventually};
use k8s_openapi::api::events::v1::Event;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// A world whose operator reaches the API server through the plan, and whose account is connected.
async fn world(kind: Subject, plane: &Plane, plan: &Plan, args: &[&str]) -> (Operator, Cutter, World) {
    let cutter = Cutter::to_cluster(plan, &plane.cluster).await.unwrap();
    let args = [&["--allow-plain-http", "--leader-elect=false"], args].concat();
    let operator = start(&plane.cluster, Some(cutter.url()), &args).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.account_says("Connected").await;
    (operator, cutter, w)
}

/// With the usual horizon: the answer to the record comes later than a quarter of it.
#[rstest]
#[tokio::test]
async fn answers_after_35_seconds_cost_neither_a_second_record_nor_a_second_request(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let (plane, plan) = (Plane::take().await, Plan::new(Fault::None));
    let (_operator, _cutter, w) = world(kind, &plane, &plan, &[]).await;
    plan.delay(Duration::from_secs(35));
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
    let mut writes = w.writes();
    // Which of both comes first is left to chance.
    writes[..2].sort();
    let record = ["create secrets, dry run", "patch datafastaccesstokens"];
    let status = "update datafastaccesstokens/status";
    // Before a website's first list is there, it says so.
    writes.retain(|write| kind == AccessToken || write != status);
    let status = if kind == AccessToken { vec![status] } else { Vec::new() };
    assert_eq!(writes, [&record[..], &["create secrets"], &status[..]].concat());
    assert_eq!(w.posts(), 1);
}

/// Nothing can be sent in time. What was tried is said once, and tried again with pauses; and then all is well again.
#[rstest]
#[tokio::test]
async fn an_api_server_slower_than_the_horizon_is_named_and_not_hurried(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let (plane, plan) = (Plane::take().await, Plan::new(Fault::None));
    let (_operator, _cutter, w) = world(kind, &plane, &plan, &["--horizon", "10s"]).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    let written = w.writes().len();
    plan.delay(Duration::from_secs(30));
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
    plan.delay(Duration::ZERO);
    w.renewed("agent", &before).await;
    assert_eq!(w.posts(), 2);
    let lost: Vec<Event> =
        w.events("agent").await.into_iter().filter(|event| event.reason.as_deref() == Some("KeyLost")).collect();
    assert!(matches!(&*lost, [event] if event.series.is_none()), "it was lost once: {lost:?}");
}
