//! More resources than slots: who gets the next free one, and what waiting costs.

use datafast_harness::{apply_yaml, condition, eventually};
use datafast_operator::api::{DataFastAccessToken, names};
use datafast_sandbox::{AccountOptions, LoggedRequest, Operation};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    quiet::{settled, written},
    refusal::wait_until_refused,
    world::{ARGS, Plane, Setup, WAIT, World, start},
};

fn scope() -> Value {
    json!({ "permissions": ["analytics:read"] })
}

/// An account of few slots, one of which its credential takes.
fn small(slots: usize, others: usize, poll: &str) -> Setup {
    let account = AccountOptions { token_limit: Some(slots), ..AccountOptions::default() };
    Setup { account, spec: Some(json!({ "tokenLimit": slots, "pollInterval": poll })), others, ..Setup::default() }
}

/// So many are told their place; those behind are told that these are ahead.
const PLACES: usize = 10;

/// The place in the queue that a resource is told.
fn place(resource: &DataFastAccessToken) -> Option<usize> {
    let ready = condition(resource, "Ready").filter(|ready| ready.reason == "WaitingForSlot")?;
    if ready.message.contains("more than 10 are ahead") {
        return Some(PLACES + 1);
    }
    let (_, rest) = ready.message.split_once("place ").unwrap_or_else(|| panic!("no place in {:?}", ready.message));
    rest.split_whitespace().next().unwrap().parse().ok()
}

/// Waits until so many resources wait, the first ones each at a place of its own, and the account says so too. Returns
/// their names: those with a place in this order, then the others.
async fn queue(w: &World, number: usize) -> Vec<String> {
    eventually(&format!("{number} wait at their places"), WAIT, || async {
        let resources = w.list().await.map_err(|e| e.to_string())?;
        let mut waiting: Vec<_> = resources.iter().filter_map(|r| Some((place(r)?, r.name_any()))).collect();
        waiting.sort();
        let counted = w.account_resource().await.status.and_then(|status| status.waiting);
        let expected = (1..=number).map(|place| place.min(PLACES + 1));
        let is_right = waiting.iter().map(|(place, _)| *place).eq(expected) && counted == i32::try_from(number).ok();
        if is_right { Ok(waiting) } else { Err(format!("{counted:?}, {waiting:?}")) }
    })
    .await
    .into_iter()
    .map(|(_, name)| name)
    .collect()
}

/// Applies resources that begin to wait one after the other, as status counts time.
async fn line_up(w: &World, names: &[&str]) {
    for (ahead, name) in names.iter().enumerate() {
        w.apply(name, scope()).await;
        queue(w, ahead + 1).await;
        next_second().await;
    }
}

async fn next_second() {
    let start = Timestamp::now().as_second();
    eventually("another second", WAIT, || async { (Timestamp::now().as_second() > start).then_some(()) }).await;
}

async fn are_issued(w: &World, names: &[String]) {
    join_all(names.iter().map(|name| w.issued(name))).await;
}

async fn ask(w: &World, n: usize) {
    w.apply(&format!("agent-{n}"), scope()).await;
}

async fn issue(w: &World, names: &[&str]) {
    for name in names {
        w.apply(name, scope()).await;
        w.issued(name).await;
    }
}

/// Deletes a token of others.
fn make_room(w: &World) {
    let other = w.live_tokens().into_iter().find(|token| token.created_by.is_none() && !token.credential);
    assert!(w.account.delete_behind_back(&other.unwrap().id));
}

/// Asserts that of these requests all are lists, a poll interval apart.
fn are_polls(requests: &[LoggedRequest]) {
    let at: Vec<Timestamp> = requests
        .iter()
        .map(|request| {
            assert_eq!(request.operation, Some(Operation::ListAccessTokens), "{request:?}");
            request.at
        })
        .collect();
    // On their way some take seconds longer than others.
    let is_too_soon = |pair: &[Timestamp]| pair[1].duration_since(pair[0]) < SignedDuration::from_secs(5);
    assert!(!at.windows(2).any(is_too_soon), "{at:?}");
}

#[tokio::test]
async fn forty_resources_share_twenty_slots_and_come_to_rest() {
    // With the credential, three tokens are not the resources'.
    let w = World::with(Setup { others: 2, ..Setup::default() }).await;
    join_all((0..40).map(|n| ask(&w, n))).await;
    let waiting = queue(&w, 23).await;
    eventually("the account says how full it is", WAIT, || async {
        let tokens = w.account_resource().await.status.unwrap().tokens.unwrap();
        if (&*tokens.usage, tokens.managed, tokens.foreign) == ("20/20", 17, 3) { Ok(()) } else { Err(tokens) }
    })
    .await;
    assert_eq!((w.posts(), w.deletes()), (17, 0));
    w.event(&waiting[22], "WaitingForSlot").await;

    let before = settled(&w, async || w.polls(1).await).await;
    let asked = w.requests().len();
    w.polls(3).await;
    assert_eq!(written(&w).await, before);
    are_polls(&w.requests()[asked - 1..]);

    let all = w.list().await.unwrap();
    let issued: Vec<_> = all.iter().map(ResourceExt::name_any).filter(|name| !waiting.contains(name)).collect();
    join_all(issued[..5].iter().map(|name| w.delete(name))).await;
    are_issued(&w, &waiting[..5]).await;
    assert_eq!(queue(&w, 18).await[..5], waiting[5..PLACES], "nobody was passed over");
    assert_eq!((w.posts(), w.deletes()), (22, 5));
    assert_eq!(w.live_tokens().len(), 20);
}

#[tokio::test]
async fn who_has_waited_longest_gets_the_slot_that_a_resource_leaves_without_a_poll() {
    let w = World::with(small(4, 0, "1h")).await;
    issue(&w, &["first", "second", "third"]).await;
    line_up(&w, &["yak", "cat", "zebra", "ant", "bear"]).await;
    assert_eq!(queue(&w, 5).await, ["yak", "cat", "zebra", "ant", "bear"]);
    w.delete("first").await;
    w.issued("yak").await;
    assert_eq!(queue(&w, 4).await, ["cat", "zebra", "ant", "bear"]);
    // Who leaves the queue lets the others move up, and no more.
    w.delete("zebra").await;
    assert_eq!(queue(&w, 3).await, ["cat", "ant", "bear"]);
    assert_eq!(w.posts(), 4);
    w.delete("second").await;
    w.delete("third").await;
    w.issued("cat").await;
    w.issued("ant").await;
    assert_eq!(queue(&w, 1).await, ["bear"]);
    assert_eq!((w.posts(), w.deletes()), (6, 3));
}

#[tokio::test]
async fn a_rotation_goes_before_those_that_have_no_token_yet() {
    let w = World::with(small(3, 0, "1h")).await;
    issue(&w, &["first", "second"]).await;
    line_up(&w, &["cat", "ant"]).await;
    let before = w.issued("second").await;
    w.annotate("second", json!({ names::ROTATE: "1" })).await;
    assert_eq!(queue(&w, 3).await, ["second", "cat", "ant"]);
    assert_eq!(w.says("second", "WaitingForSlot").await.status, "True", "its token still works");
    w.delete("first").await;
    assert_eq!(w.renewed("second", &before).await.retiring(), [before.token.id]);
    assert_eq!(queue(&w, 2).await, ["cat", "ant"]);
    assert_eq!(w.posts(), 3);
}

#[tokio::test]
async fn of_two_rotations_the_one_that_was_asked_for_first_goes_first() {
    let w = World::with(small(4, 0, "1h")).await;
    for name in ["first", "old", "young"] {
        issue(&w, &[name]).await;
        next_second().await;
    }
    let before = w.issued("young").await;
    for (ahead, name) in ["young", "old"].into_iter().enumerate() {
        w.annotate(name, json!({ names::ROTATE: "1" })).await;
        queue(&w, ahead + 1).await;
        next_second().await;
    }
    assert_eq!(queue(&w, 2).await, ["young", "old"]);
    w.delete("first").await;
    w.renewed("young", &before).await;
    assert_eq!(queue(&w, 1).await, ["old"]);
}

#[tokio::test]
async fn the_order_outlives_the_operator() {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), small(2, 1, "10s")).await;
    let order = ["yak", "cat", "zebra", "ant", "fox", "bear"];
    line_up(&w, &order).await;
    operator.kill().await.unwrap();
    // Whoever is looked at first would find this slot free.
    make_room(&w);
    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.issued("yak").await;
    assert_eq!(queue(&w, 5).await, order[1..]);
    w.delete("yak").await;
    w.issued("cat").await;
    assert_eq!(queue(&w, 4).await, order[2..]);
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[tokio::test]
async fn a_slot_that_somebody_else_frees_is_used_after_the_next_list() {
    let w = World::with(small(2, 1, "10s")).await;
    line_up(&w, &["cat", "ant"]).await;
    w.polls(1).await;
    let asked = w.requests().len();
    make_room(&w);
    w.issued("cat").await;
    let requests: Vec<_> = w.requests().into_iter().skip(asked).filter_map(|r| r.operation).collect();
    assert_eq!(requests[..2], [Operation::ListAccessTokens, Operation::CreateAccessToken]);
    assert_eq!(queue(&w, 1).await, ["ant"]);
    assert_eq!(w.posts(), 1);
}

#[tokio::test]
async fn who_cannot_use_a_slot_holds_up_nobody() {
    let permissions = ["api-keys:read", "api-keys:write", "analytics:read"].map(str::to_owned).to_vec();
    let setup = small(2, 1, "10s");
    let account = AccountOptions { permissions: Some(permissions), ..setup.account };
    let w = World::with(Setup { account, ..setup }).await;
    let poor = w.neighbour().await;
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: none }\nspec: { hard: { count/secrets: 0 } }";
    apply_yaml(&poor.client, "test", &poor.namespace, quota).await.unwrap();
    wait_until_refused(&poor.client, &poor.namespace).await;
    let waits_at = async |w: &World, name: &str, expected: usize| {
        eventually(&format!("{name} waits at place {expected}"), WAIT, || async {
            let seen = place(&w.resource(name).await);
            if seen == Some(expected) { Ok(()) } else { Err(seen) }
        })
        .await;
        next_second().await;
    };
    w.apply("greedy", json!({ "permissions": ["goals:write"] })).await;
    waits_at(&w, "greedy", 1).await;
    poor.apply("poor", scope()).await;
    waits_at(&poor, "poor", 2).await;
    w.apply("modest", scope()).await;
    waits_at(&w, "modest", 3).await;
    make_room(&w);
    w.issued("modest").await;
    // Each had its turn, and may wait for the next by now.
    w.event("greedy", "Rejected").await;
    poor.event("poor", "SecretWriteRefused").await;
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

/// The account resource says nothing of it, and so expects twenty.
#[tokio::test]
async fn a_cap_below_the_usual_one_is_learnt_from_datafast() {
    let account = AccountOptions { token_limit: Some(4), ..AccountOptions::default() };
    let w = World::with(Setup { account, ..Setup::default() }).await;
    for n in 0..8 {
        ask(&w, n).await;
    }
    let waiting = queue(&w, 5).await;
    w.polls(1).await;
    let (posts, asked) = (w.posts(), w.requests().len());
    assert!(posts <= 3 + 8, "{posts} requests for 3 tokens");
    w.polls(2).await;
    are_polls(&w.requests()[asked - 1..]);
    assert_eq!(queue(&w, 5).await, waiting);

    let all = w.list().await.unwrap();
    let issued: Vec<_> = all.iter().map(ResourceExt::name_any).filter(|name| !waiting.contains(name)).collect();
    w.delete(&issued[0]).await;
    w.issued(&waiting[0]).await;
    assert_eq!(queue(&w, 4).await, waiting[1..]);
    assert!(w.posts() <= posts + 2, "{} more requests for one token", w.posts() - posts);
}

/// Each knows of the other's tokens from lists only, and of its wishes not at all.
#[tokio::test]
async fn two_clusters_share_an_account_without_a_fight() {
    let w = World::with(small(9, 3, "10s")).await;
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let other = w.on_cluster(plane.cluster.clone()).await;
    let worlds = [&w, &other];
    for n in 0..4 {
        join_all(worlds.map(|w| ask(w, n))).await;
    }
    eventually("five have a token, and three wait", WAIT, || async {
        let mut counts = (0, 0);
        for w in worlds {
            for resource in w.list().await.unwrap() {
                match condition(&resource, "Ready").map(|ready| ready.reason).as_deref() {
                    Some("Issued") => counts.0 += 1,
                    Some("WaitingForSlot") => counts.1 += 1,
                    _ => {}
                }
            }
        }
        if counts == (5, 3) { Ok(()) } else { Err(counts) }
    })
    .await;
    // Each operator has its own polls, and each hears late of what the other one's resources do.
    let before = eventually("nothing is left to be said", WAIT, || async {
        let before = [written(&w).await, written(&other).await];
        w.polls(4).await;
        let after = [written(&w).await, written(&other).await];
        if after == before { Ok(before) } else { Err(after) }
    })
    .await;
    let posts = w.posts();
    assert!(posts <= 5 + 8, "{posts} requests for 5 tokens");
    w.polls(4).await;
    assert_eq!(w.posts(), posts, "a full account is not asked for more");
    assert_eq!([written(&w).await, written(&other).await], before);
    assert_eq!(w.deletes(), 0);

    (0..3).for_each(|_| make_room(&w));
    for w in worlds {
        for n in 0..4 {
            w.issued(&format!("agent-{n}")).await;
        }
    }
    assert!(w.posts() <= posts + 3 + 4, "{} more requests for 3 tokens", w.posts() - posts);
    assert_eq!((w.live_tokens().len(), w.deletes()), (9, 0));
}
