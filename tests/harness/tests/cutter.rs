//! The cutter, between a client and the real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

use std::{pin::pin, time::Duration};

use axum::http::StatusCode;
use datafast_harness::{At, ControlPlane, Cutter, Fault, Plan, Side, WAIT, eventually, install, namespace};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// Long enough that an answer would have come.
const NOTHING_COMES: Duration = Duration::from_millis(500);

struct World {
    plan: Plan,
    cutter: Cutter,
    namespace: String,
    /// As the operator, through the cutter.
    through: Api<Secret>,
    /// As the admin, straight.
    straight: Api<Secret>,
}

/// A client with the operator's kubeconfig, as the operator itself reads it.
async fn client(cluster: &ControlPlane, cutter: &Cutter) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig_operator(Some(cutter.url())).unwrap()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn world(plan: Plan) -> World {
    let cluster = ControlPlane::shared().await.unwrap();
    install(&cluster).await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let namespace = namespace(&admin, "cutter").await.unwrap();
    let cutter = Cutter::to_cluster(&plan, &cluster).await.unwrap();
    let through: Api<Secret> = Api::namespaced(client(&cluster, &cutter).await, &namespace);
    let anything = ListParams::default();
    eventually("RBAC has seen the role", WAIT, || through.list(&anything)).await;
    World { plan, cutter, through, straight: Api::namespaced(admin, &namespace), namespace }
}

fn secret(name: &str) -> Secret {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

impl World {
    async fn create(&self, name: &str) -> kube::Result<Secret> {
        self.through.create(&PostParams::default(), &secret(name)).await
    }

    /// Sends a request at which the plan cuts: it is never answered.
    async fn is_cut(&self, through: &Api<Secret>, name: &str) {
        let (params, secret) = (PostParams::default(), secret(name));
        let reached = async {
            self.plan.reached().await;
            tokio::time::sleep(NOTHING_COMES).await;
        };
        tokio::select! {
            _ = through.create(&params, &secret) => panic!("it is never answered"),
            () = reached => {}
        }
    }

    async fn exists(&self, name: &str) -> bool {
        self.straight.get_opt(name).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn it_lets_all_through_and_logs_what_writes() {
    let w = world(Plan::count_only()).await;
    w.create("a").await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    w.through.create(&dry_run, &secret("dry")).await.unwrap();
    assert!(w.create("a").await.is_err());
    w.through.delete("a", &DeleteParams::default()).await.unwrap();
    let path = format!("/api/v1/namespaces/{}/secrets", w.namespace);
    let log: Vec<_> = w.plan.log().iter().map(|e| (e.to_string(), e.status.unwrap().as_u16())).collect();
    let expected = [(format!("POST {path}"), 201), (format!("POST {path}"), 409), (format!("DELETE {path}/a"), 200)];
    assert_eq!(log, expected);
    assert_eq!(w.plan.count(), 3);
    assert_eq!(w.plan.log()[0].upstream, "kubernetes");
    assert!(!w.plan.is_reached());
}

#[tokio::test]
async fn who_asks_is_the_operator_with_its_own_rights() {
    let w = world(Plan::count_only()).await;
    w.create("a").await.unwrap();
    let (params, nothing) = (PatchParams::default(), Patch::Merge(json!({})));
    let refused = w.through.patch("a", &params, &nothing).await.unwrap_err().to_string();
    assert!(refused.contains("system:serviceaccount:datafast-system:datafast-operator"), "{refused}");
}

#[tokio::test]
async fn a_watch_streams() {
    let w = world(Plan::count_only()).await;
    let version = w.through.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = pin!(w.through.watch(&WatchParams::default(), &version).await.unwrap());
    for name in ["a", "b"] {
        w.straight.create(&PostParams::default(), &secret(name)).await.unwrap();
        let event = tokio::time::timeout(WAIT, events.try_next()).await.unwrap().unwrap();
        assert!(matches!(event, Some(WatchEvent::Added(s)) if s.name_any() == name));
    }
}

#[tokio::test]
async fn a_cut_before_leaves_no_effect_and_holds_all_that_follows() {
    let w = world(Plan::cut(2, Side::Before)).await;
    w.create("one").await.unwrap();
    w.is_cut(&w.through, "two").await;
    assert_eq!(w.plan.reached().await, format!("POST /api/v1/namespaces/{}/secrets", w.namespace));
    assert!(tokio::time::timeout(NOTHING_COMES, w.create("three")).await.is_err());
    assert!(tokio::time::timeout(NOTHING_COMES, w.through.get("one")).await.is_err());
    assert!(!w.exists("two").await && !w.exists("three").await);
    assert_eq!(w.plan.log().iter().map(|e| e.status.is_some()).collect::<Vec<_>>(), [true, false]);

    w.plan.reset(Fault::None).await;
    assert_eq!(w.plan.count(), 0);
    w.create("four").await.unwrap();
    assert!(!w.exists("two").await, "what was held is never sent");
}

#[tokio::test]
async fn a_cut_after_takes_effect_even_if_the_client_is_gone() {
    let w = world(Plan::cut(1, Side::After)).await;
    w.plan.delay(Duration::from_millis(20));
    // The client goes as soon as its request is counted.
    tokio::select! {
        _ = w.create("one") => panic!("it is never answered"),
        () = eventually("it is counted", WAIT, || async { (w.plan.count() == 1).then_some(()) }) => {}
    }
    tokio::time::timeout(WAIT, w.plan.reached()).await.unwrap();
    assert!(w.exists("one").await);
    assert_eq!(w.plan.log()[0].status, Some(StatusCode::CREATED));
}

/// A blocking call keeps the proxy, which runs on the same thread, from seeing the request before the reset begins.
#[tokio::test]
async fn a_request_that_a_dead_client_left_in_the_socket_never_gets_through() {
    use std::io::Write;
    let w = world(Plan::cut(1, Side::Before)).await;
    w.is_cut(&w.through, "one").await;
    let address = w.cutter.url().strip_prefix("http://").unwrap();
    let mut dead = std::net::TcpStream::connect(address).unwrap();
    let path = format!("/api/v1/namespaces/{}/secrets", w.namespace);
    let body = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "late" } }).to_string();
    write!(
        dead,
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer operator-token\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    drop(dead);
    w.plan.reset(Fault::None).await;
    tokio::time::sleep(NOTHING_COMES).await;
    assert!(!w.exists("late").await);
    assert_eq!(w.plan.count(), 0);
}

#[tokio::test]
async fn a_failure_hits_one_request_only() {
    let w = world(Plan::fail(1, Side::After, StatusCode::BAD_GATEWAY)).await;
    assert!(w.create("one").await.is_err());
    assert!(w.exists("one").await);
    w.create("two").await.unwrap();
    w.plan.reset(Fault::Fail { at: At::Nth(1), side: Side::Before, status: StatusCode::INTERNAL_SERVER_ERROR }).await;
    assert!(w.create("three").await.is_err());
    assert!(!w.exists("three").await);
    w.create("three").await.unwrap();
}

#[tokio::test]
async fn two_cutters_share_one_plan() {
    let plan = Plan::cut(2, Side::Before);
    let w = world(plan.clone()).await;
    let cluster = ControlPlane::shared().await.unwrap();
    let second = Cutter::start(&plan, "second", &cluster.url(), Some(&cluster.ca().unwrap())).await.unwrap();
    let other: Api<Secret> = Api::namespaced(client(&cluster, &second).await, &w.namespace);
    w.create("one").await.unwrap();
    w.is_cut(&other, "two").await;
    assert!(tokio::time::timeout(NOTHING_COMES, w.create("three")).await.is_err(), "both are held");
    let upstreams: Vec<_> = plan.log().into_iter().map(|e| e.upstream).collect();
    assert_eq!(upstreams, ["kubernetes", "second"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_bad_gateway() {
    let nobody = format!("http://127.0.0.1:{}", datafast_harness::free_port());
    let cutter = Cutter::start(&Plan::count_only(), "nobody", &nobody, None).await.unwrap();
    assert_eq!(reqwest::get(cutter.url()).await.unwrap().status(), 502);
}
