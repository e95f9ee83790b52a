//! The operator dies between any two of its writes, on either side. Started again, it ends with one token whose key is
//! in the Secret; or, after a deletion, with nothing.

use std::time::{Duration, Instant};

use datafast_harness::{Cutter, Fault, Operator, Plan, Side, eventually};
use datafast_sandbox::BASE_PATH;
use futures::future::join_all;
use serde_json::json;

use crate::world::{ARGS, Plane, Setup, WAIT, World, sandbox, start};

/// Longer than the operator needs for any of its writes.
const REACHED_WITHIN: Duration = Duration::from_secs(15);

/// What is under way when the operator dies.
#[derive(Clone, Copy)]
enum Story {
    Issue,
    ChangeOfScope,
    Deletion,
}

impl Story {
    /// Up to the moment before.
    async fn prepare(self, w: &World) {
        match self {
            Self::Issue => drop(w.account_says("Connected").await),
            Self::ChangeOfScope | Self::Deletion => {
                w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
                w.issued("agent").await;
            }
        }
    }

    async fn begin(self, w: &World) {
        match self {
            Self::Issue | Self::ChangeOfScope => {
                w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } })).await;
            }
            Self::Deletion => w.delete("agent").await,
        }
    }

    /// Waits until all is as it should be. `posts`: how many requests for a token may have been needed in all.
    async fn is_over(self, w: &World, posts: u64) {
        match self {
            Self::Deletion => {
                eventually("all is gone", WAIT, || async {
                    let resource = w.tokens().get_opt("agent").await.unwrap();
                    let secret = w.secrets().get_opt("agent").await.unwrap();
                    let live = w.account.issued_tokens();
                    let is_gone = resource.is_none() && secret.is_none() && live.is_empty();
                    if is_gone { Ok(()) } else { Err((resource, live)) }
                })
                .await;
            }
            Self::Issue | Self::ChangeOfScope => {
                assert_eq!(w.issued_alone("agent").await.token.permissions, ["goals:read"]);
            }
        }
        assert!(w.posts() <= posts, "{} requests for a token", w.posts());
    }

    /// Requests for a token, where nobody dies.
    fn posts(self) -> u64 {
        match self {
            Self::Issue | Self::Deletion => 1,
            Self::ChangeOfScope => 2,
        }
    }
}

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

    async fn world(&self) -> World {
        let spec = Some(json!({ "baseUrl": format!("{}{BASE_PATH}", self.datafast.url()) }));
        World::on(self.plane.cluster.clone(), Setup { spec, ..Setup::default() }).await
    }
}

async fn survives_every_crash(story: Story) {
    let start = Instant::now();
    let stage = Stage::build().await;
    let mut operator = stage.operator().await;
    let uncut = stage.world().await;
    story.prepare(&uncut).await;
    stage.plan.reset(Fault::None).await;
    story.begin(&uncut).await;
    story.is_over(&uncut, story.posts()).await;
    let steps: Vec<String> = stage.plan.log().iter().map(|entry| format!("{}: {entry}", entry.upstream)).collect();
    println!("{} writes without a crash: {steps:#?}", steps.len());

    let (mut worlds, mut tried) = (vec![uncut], 0);
    for at in 1..=steps.len() {
        for side in [Side::Before, Side::After] {
            let w = stage.world().await;
            story.prepare(&w).await;
            stage.plan.reset(Fault::Cut { at, side }).await;
            story.begin(&w).await;
            match tokio::time::timeout(REACHED_WITHIN, stage.plan.reached()).await {
                Ok(request) => {
                    tried += 1;
                    println!("{:?}: killed {side:?} write {at}: {request}", start.elapsed());
                }
                Err(_) => println!("{:?}: not reached this time: {side:?} write {at}", start.elapsed()),
            }
            operator.kill().await.unwrap();
            stage.plan.reset(Fault::None).await;
            operator = stage.operator().await;
            story.is_over(&w, story.posts() + 1).await;
            worlds.push(w);
        }
    }
    // It is over for good.
    join_all(worlds.iter().map(async |w| {
        w.polls(2).await;
        story.is_over(w, story.posts() + 1).await;
    }))
    .await;
    println!("{tried} crash points in {:?}", start.elapsed());
    assert!(tried >= 2 * steps.len() - 2, "only {tried} of {} crash points were reached", 2 * steps.len());
}

#[tokio::test]
async fn a_crash_while_issuing_leaves_one_token() {
    survives_every_crash(Story::Issue).await;
}

#[tokio::test]
async fn a_crash_in_a_change_of_scope_leaves_one_token() {
    survives_every_crash(Story::ChangeOfScope).await;
}

#[tokio::test]
async fn a_crash_while_deleting_leaves_nothing() {
    survives_every_crash(Story::Deletion).await;
}
