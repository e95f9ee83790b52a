//! Several replicas: one works, the others wait; whoever lost the lease does no harm.

use datafast_harness::{Operator, eventually, plain_http, wait_gone};
use datafast_sandbox::{Fault, Kind, Operation};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use crate::world::{HORIZON_ARG, Plane, SYSTEM, Setup, WAIT, World, start, start_with};

/// The arguments for a lease of this length.
const fn args(lease: &str) -> [&str; 5] {
    ["--allow-plain-http", "--horizon", HORIZON_ARG, "--lease-duration", lease]
}

/// Long enough for a leader to keep it on a machine that is busy with other tests.
const LEASE: &str = "30s";

/// Nobody waits for the end of such a lease: it lasts longer than any wait.
const LONG_LEASE: &str = "1h";

async fn holder(w: &World) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(w.client.clone(), SYSTEM);
    let spec = leases.get_opt("datafast-operator").await.unwrap()?.spec?;
    spec.holder_identity.filter(|holder| !holder.is_empty())
}

/// A leader, one that waits, and a world.
async fn two(plane: &Plane, lease: &str) -> (Operator, Operator, World) {
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let leader = start(&plane.cluster, None, &args(lease)).await;
    // It works, so it leads.
    w.account_says("Connected").await;
    let standby = start(&plane.cluster, None, &args(lease)).await;
    (leader, standby, w)
}

async fn leads(operator: &Operator) -> bool {
    let client = plain_http().build().unwrap();
    let answer = client.get(format!("{}/metrics", operator.url())).send().await.unwrap();
    answer.text().await.unwrap().lines().any(|line| line == "datafast_leader 1")
}

#[tokio::test]
async fn only_the_leader_works_and_its_successor_goes_on() {
    let plane = Plane::take().await;
    let (leader, standby, w) = two(&plane, LEASE).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued_alone("agent").await;
    assert!(leads(&leader).await && !leads(&standby).await);
    let first = holder(&w).await.unwrap();

    leader.kill().await.unwrap();
    w.apply("other", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("other").await;
    assert!(leads(&standby).await);
    assert_ne!(holder(&w).await, Some(first));
    assert_eq!(w.issued("agent").await.secret, before.secret);
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

#[tokio::test]
async fn a_leader_that_ends_lets_go_of_the_lease() {
    let plane = Plane::take().await;
    let (leader, standby, w) = two(&plane, LONG_LEASE).await;
    assert!(leader.terminate().await.unwrap().status.success());
    eventually("the other one leads", WAIT, || async { leads(&standby).await.then_some(()) }).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
}

/// As on a node that hangs: the leader stands still with a request under way, and comes back when another leads.
#[tokio::test]
async fn a_leader_that_was_frozen_leaves_one_token() {
    let plane = Plane::take().await;
    let (frozen, standby, w) = two(&plane, LEASE).await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    frozen.stop().unwrap();
    w.account.release(hold);
    w.issued("agent").await;
    assert!(leads(&standby).await);
    frozen.cont().unwrap();
    w.horizon_passes().await;
    let issued = w.issued_alone("agent").await;
    w.polls(2).await;
    assert_eq!(w.issued_alone("agent").await.secret, issued.secret, "nobody fights over it");
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

/// The leader stands still before it can send the request that it has recorded.
#[tokio::test]
async fn a_deletion_under_another_leader_leaves_nothing() {
    let plane = Plane::take().await;
    let (frozen, standby, w) = two(&plane, LEASE).await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    frozen.stop().unwrap();
    w.account.release(hold);
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert!(leads(&standby).await);
    frozen.cont().unwrap();
    w.horizon_passes().await;
    assert_eq!(w.issued_tokens(), []);
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
}

#[tokio::test]
async fn an_operator_of_one_namespace_leaves_the_others_alone() {
    let plane = Plane::take().await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let elsewhere = w.neighbour().await;
    elsewhere.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let watch = format!("--watch-namespaces={}", w.namespace);
    let args = ["--allow-plain-http", "--leader-elect=false", "--horizon", HORIZON_ARG, &watch];
    let _operator = start(&plane.cluster, None, &args).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
    w.apply("gone", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("gone").await;
    w.annotate("gone", json!({ datafast_operator::api::names::ABANDON: "true" })).await;
    w.delete("gone").await;
    wait_gone(&w.objects(), "gone", WAIT).await;
    w.horizon_passes().await;
    let resource = elsewhere.resource("agent").await;
    assert_eq!(resource.status.unwrap_or_default().conditions, []);
    assert!(elsewhere.secrets().get_opt("agent").await.unwrap().is_none());
    assert_eq!(w.posts(), 2);
    let status = w.account_resource().await.status.unwrap();
    assert_eq!(status.unclaimed, [], "somebody may claim it where this operator cannot see");
    let tokens = status.tokens.unwrap();
    assert_eq!((tokens.total, tokens.managed, tokens.unclaimed, tokens.foreign), (3, 1, 0, 2));
}

#[tokio::test]
async fn every_flag_can_be_an_environment_variable() {
    let plane = Plane::take().await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let elsewhere = w.neighbour().await;
    let namespaces = format!("{},{}", w.namespace, elsewhere.namespace);
    let environment = [
        ("DATAFAST_ALLOW_PLAIN_HTTP", "true"),
        ("DATAFAST_LEADER_ELECT", "false"),
        ("DATAFAST_HORIZON", HORIZON_ARG),
        ("DATAFAST_CONCURRENCY", "2"),
        ("DATAFAST_LOG_FORMAT", "text"),
        ("DATAFAST_WATCH_NAMESPACES", &namespaces),
    ];
    let operator = start_with(&plane.cluster, None, &[], &environment).await;
    for world in [&w, &elsewhere] {
        world.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        world.issued("agent").await;
    }
    assert!(!operator.logs().starts_with('{'), "text was asked for");
}
