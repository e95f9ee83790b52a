//! The operator dies between any two of its writes, on either side. Started again, it ends with one token whose key is
//! in the Secret; or, after a deletion, with nothing.

use std::{collections::BTreeSet, time::Instant};

use datafast_harness::{At, Cutter, Entry, Fault, Operator, Plan, Side, eventually};
use datafast_operator::api::names;
use datafast_sandbox::BASE_PATH;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::PostParams};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, sandbox, start, text_in,
};

/// What is under way when the operator dies.
#[derive(Clone, Copy)]
enum Story {
    Issue,
    ChangeOfScope,
    /// With a workload to restart.
    Rotation,
    RevokeNow,
    /// In an account with room for one token.
    RevokeFirst,
    /// Of a website key, with a workload to restart.
    Roll,
    /// The resource is let go at the same time.
    RetainedRoll,
    Import,
    Deletion,
    Retain,
}

impl Story {
    /// Up to the moment before.
    async fn prepare(self, w: &World) {
        w.account_says("Connected").await;
        match self {
            Self::Issue => {}
            Self::Import => {
                let token = w.issued_tokens().pop().unwrap();
                w.create_secret("agent", json!({ names::TOKEN_ID: token.id }), json!({ "token": token.key })).await;
            }
            Self::ChangeOfScope | Self::Deletion => {
                w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
                w.issued("agent").await;
            }
            Self::Rotation | Self::RevokeNow | Self::RevokeFirst => {
                // Without the request to go at once, it would stay for an hour.
                let overlap = if matches!(self, Self::RevokeNow) { "1h" } else { "0s" };
                let rotation = json!({ "overlap": overlap, "whenFull": "RevokeFirst" });
                let targets = json!([{ "kind": "Deployment", "name": "web" }]);
                let spec = json!({ "permissions": ["goals:read"], "rotation": rotation, "rolloutRestart": targets });
                create_deployment(w).await;
                w.apply("agent", spec).await;
                w.issued("agent").await;
            }
            Self::Roll => {
                let targets = json!([{ "kind": "Deployment", "name": "web" }]);
                create_deployment(w).await;
                w.apply("agent", json!({ "rotation": { "strategy": "Roll" }, "rolloutRestart": targets })).await;
                w.issued("agent").await;
            }
            Self::RetainedRoll => {
                w.apply("agent", json!({ "rotation": { "strategy": "Roll" }, "deletionPolicy": "Retain" })).await;
                w.issued("agent").await;
            }
            Self::Retain => {
                w.apply("agent", json!({ "permissions": ["analytics:read"], "deletionPolicy": "Retain" })).await;
                w.issued("agent").await;
            }
        }
    }

    async fn begin(self, w: &World) {
        match self {
            Self::Issue | Self::ChangeOfScope | Self::Import => {
                w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } })).await;
            }
            Self::Rotation | Self::RevokeFirst | Self::Roll => {
                w.annotate("agent", json!({ names::ROTATE: "please" })).await
            }
            Self::RevokeNow => w.annotate("agent", json!({ names::REVOKE_NOW: "please" })).await,
            Self::Deletion | Self::Retain => w.delete("agent").await,
            Self::RetainedRoll => {
                w.annotate("agent", json!({ names::ROTATE: "please" })).await;
                w.delete("agent").await;
            }
        }
    }

    /// Waits until all is as it should be.
    async fn is_over(self, w: &World) {
        let remains = match self {
            Self::Issue | Self::ChangeOfScope | Self::Import => {
                assert_eq!(w.issued_alone("agent").await.token.permissions, ["goals:read"]);
                return;
            }
            Self::Rotation | Self::RevokeNow | Self::RevokeFirst | Self::Roll => {
                eventually("the request is answered", WAIT, || async {
                    let status = w.resource("agent").await.status.unwrap();
                    let is_answered = status.rotate_request.as_deref() == Some("please");
                    if is_answered { Ok(()) } else { Err(status) }
                })
                .await;
                let issued = w.issued_alone("agent").await;
                let annotations = issued.secret.annotations();
                assert_eq!(annotations[names::REQUEST], "please");
                let web = deployments(w).get("web").await.unwrap();
                let template = web.spec.unwrap().template.metadata.unwrap_or_default();
                let restarted = template.annotations.and_then(|mut all| all.remove(names::RESTARTED_AT));
                assert_eq!(restarted.as_ref(), Some(&annotations[names::ISSUED_AT]));
                assert_eq!(web.metadata.generation, Some(2), "restarted once");
                return;
            }
            Self::Deletion => 0,
            Self::Retain | Self::RetainedRoll => 1,
        };
        eventually("it is gone", WAIT, || async {
            let resource = w.find("agent").await.unwrap();
            let secret = w.secrets().get_opt("agent").await.unwrap();
            let live = w.issued_tokens();
            // What remains is a key that works.
            let keys = secret.iter().map(|secret| text_in(secret, "token")).collect::<Vec<_>>();
            let works = keys == live.iter().map(|token| token.key.clone()).collect::<Vec<_>>();
            let is_gone = resource.is_none() && live.len() == remains && works;
            if is_gone { Ok(()) } else { Err((resource, live)) }
        })
        .await;
    }

    /// Requests for a token, where nobody dies; and where somebody does.
    fn posts(self) -> [u64; 2] {
        match self {
            Self::Issue => [1, 2],
            Self::ChangeOfScope | Self::Rotation | Self::RevokeNow | Self::RevokeFirst => [2, 3],
            Self::Import => [0, 0],
            Self::Roll | Self::RetainedRoll => [1, 1],
            Self::Deletion | Self::Retain => [1, 1],
        }
    }
}

fn deployments(w: &World) -> Api<Deployment> {
    Api::namespaced(w.client.clone(), &w.namespace)
}

async fn create_deployment(w: &World) {
    let labels = json!({ "app": "web" });
    let pod = json!({ "containers": [{ "name": "web", "image": "web" }] });
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    deployments(w).create(&PostParams::default(), &deployment).await.unwrap();
}

/// Which write, and on which side of its effect.
type Point = (At, Side);

/// The operator with both its servers behind cutters that count together.
struct Stage {
    plane: Plane,
    plan: Plan,
    api_server: Cutter,
    datafast: Cutter,
}

impl Stage {
    async fn build() -> Self {
        let plane = Plane::take().await;
        let plan = Plan::count_only();
        let api_server = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
        let url = format!("http://{}", sandbox().address());
        let datafast = Cutter::start(&plan, "datafast", &url, None).await.unwrap();
        Self { plane, plan, api_server, datafast }
    }

    async fn operator(&self) -> Operator {
        start(&self.plane.cluster, Some(self.api_server.url()), &ARGS).await
    }

    /// Whether the operator gets to the write at which the plan cuts. Where there were fewer this time, its story is over,
    /// and a list comes after that: once a write is cut, none gets through.
    async fn is_struck(&self, story: Story, w: &World) -> bool {
        let rests = async {
            story.is_over(w).await;
            w.polls(1).await;
        };
        tokio::select! {
            biased;
            _ = self.plan.reached() => true,
            () = rests => false,
        }
    }

    async fn world(&self, kind: Subject, story: Story) -> World {
        let is_full = matches!(story, Story::RevokeFirst);
        // The credential's own token takes a slot too; and a website has ten.
        let limit = if is_full { 2 } else { 20 };
        let others = if is_full && kind == WebsiteKey { 9 } else { 0 };
        let spec = Some(json!({ "baseUrl": format!("{}{BASE_PATH}", self.datafast.url()), "tokenLimit": limit }));
        let by_hand = matches!(story, Story::Import).then_some(&["goals:read"][..]);
        World::on(self.plane.cluster.clone(), Setup { kind, spec, by_hand, others, ..Setup::default() }).await
    }
}

/// A write without the names that differ from run to run.
fn shape(entry: &Entry, w: &World) -> String {
    let path = entry.path.replace(&w.namespace, "*");
    let path = path.split('/').map(|part| if part.len() == 24 { "*" } else { part }).collect::<Vec<_>>().join("/");
    format!("{} {path}", entry.method)
}

async fn survives_every_crash(kind: Subject, story: Story) {
    let start = Instant::now();
    let stage = Stage::build().await;
    let mut operator = stage.operator().await;
    let uncut = stage.world(kind, story).await;
    story.prepare(&uncut).await;
    stage.plan.reset(Fault::None).await;
    story.begin(&uncut).await;
    story.is_over(&uncut).await;
    assert_eq!(uncut.posts(), story.posts()[0]);
    let steps: Vec<_> = stage.plan.log().iter().map(|entry| shape(entry, &uncut)).collect();
    let answers: Vec<_> =
        stage.plan.log().iter().map(|entry| entry.status.map_or(0, |status| status.as_u16())).collect();
    println!("{} writes without a crash: {steps:#?}, answered {answers:?}", steps.len());

    let is_account = |step: &&String| step.contains("/datafastaccounts/");
    let of_accounts = steps.iter().filter(is_account).count();
    let ats = (1..=steps.len() - of_accounts).map(At::OfResources).chain((1..=of_accounts).map(At::OfAccounts));
    let all: Vec<Point> = ats.flat_map(|at| [(at, Side::Before), (at, Side::After)]).collect();
    let (mut missing, mut struck) = (all.clone(), BTreeSet::new());
    let (mut worlds, mut tried) = (vec![uncut], 0);
    // Two that are sent together come in either order.
    for _ in 0..4 {
        for (at, side) in missing {
            let w = stage.world(kind, story).await;
            story.prepare(&w).await;
            stage.plan.reset(Fault::Cut { at, side }).await;
            story.begin(&w).await;
            if stage.is_struck(story, &w).await {
                tried += 1;
                let step = shape(stage.plan.log().last().unwrap(), &w);
                println!("{:?}: killed {side:?} {step}", start.elapsed());
                struck.insert((step, format!("{side:?}")));
            }
            operator.kill().await.unwrap();
            stage.plan.reset(Fault::None).await;
            operator = stage.operator().await;
            story.is_over(&w).await;
            worlds.push(w);
        }
        let own: Vec<_> = steps.iter().filter(|step| !is_account(step)).collect();
        let is_missing = |(at, side): &Point| matches!(at, At::OfResources(at) if !struck.contains(&(own[at - 1].clone(), format!("{side:?}"))));
        missing = all.iter().copied().filter(is_missing).collect();
    }
    assert_eq!(missing, [], "never struck, in {steps:#?}");
    // It is over for good, and nobody asked for more tokens than there were crashes.
    join_all(worlds.iter().map(async |w| {
        w.horizon_passes().await;
        story.is_over(w).await;
        assert!(w.posts() <= story.posts()[1], "{} requests for a token", w.posts());
    }))
    .await;
    println!("{tried} crash points in {:?}", start.elapsed());
}

#[rstest]
#[tokio::test]
async fn a_crash_while_issuing_leaves_one_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::Issue).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_in_a_change_of_scope_leaves_one_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::ChangeOfScope).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_in_a_rotation_leaves_one_token_and_one_restart(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::Rotation).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_while_a_leaked_token_is_replaced_leaves_one_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::RevokeNow).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_after_the_old_token_made_room_leaves_one_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::RevokeFirst).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_during_an_import_leaves_the_token_that_was_there(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::Import).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_while_deleting_leaves_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::Deletion).await;
}

#[rstest]
#[tokio::test]
async fn a_crash_while_a_retained_token_is_let_go_leaves_it_alone(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    survives_every_crash(kind, Story::Retain).await;
}

#[tokio::test]
async fn a_crash_in_a_roll_leaves_the_same_key_with_a_value_that_works_and_one_restart() {
    survives_every_crash(WebsiteKey, Story::Roll).await;
}

#[tokio::test]
async fn a_crash_in_a_roll_of_a_key_that_is_retained_leaves_a_value_that_works() {
    survives_every_crash(WebsiteKey, Story::RetainedRoll).await;
}
