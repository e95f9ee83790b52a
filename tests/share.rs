//! The share of a namespace: as many tokens or keys as the account allows it, at every moment, and always the same
//! resources that have them.

use std::{collections::BTreeSet, time::Duration};

use datafast_harness::{Cutter, Plan, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, Kind, Operation};
use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{
    ARGS, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// An account that allows a namespace so many.
fn most(kind: Subject, most: u32) -> Value {
    let field = if kind == AccessToken { "maxTokensPerNamespace" } else { "maxKeysPerNamespace" };
    json!({ "pollInterval": "1h", "allow": { field: most } })
}

fn setup(kind: Subject, limit: u32) -> Setup {
    Setup { kind, spec: Some(most(kind, limit)), ..Setup::default() }
}

fn scope() -> Value {
    json!({ "permissions": ["analytics:read"] })
}

/// Has another namespace issued one. From then on no resource waits for the first list of what it asks for, and by that for
/// all the others.
async fn open(w: &World) {
    let other = w.neighbour().await;
    other.apply("opens", scope()).await;
    other.issued("opens").await;
}

/// Creates ten resources at once.
async fn create_ten(w: &World) {
    join_all((0..10).map(async |n| w.apply(&format!("agent-{n}"), scope()).await)).await;
}

/// Waits until two resources have a token and all others are told that they get none, and returns those two.
async fn who_is_issued(w: &World) -> BTreeSet<String> {
    eventually("two have a token, and the others are told why not", WAIT, || async {
        let mut issued = BTreeSet::new();
        for resource in w.list().await.unwrap() {
            let name = resource.name_any();
            match w.look(&name).await {
                Ok(_) => drop(issued.insert(name)),
                Err(seen) => {
                    let conditions = resource.status.unwrap_or_default().conditions;
                    if !conditions.iter().any(|ready| ready.type_ == "Ready" && ready.reason == "NotAllowed") {
                        return Err(format!("{name}: {seen:?}"));
                    }
                }
            }
        }
        if issued.len() == 2 { Ok(issued) } else { Err(format!("{issued:?} are issued")) }
    })
    .await
}

#[rstest]
#[tokio::test]
async fn of_ten_resources_created_at_once_only_as_many_as_are_allowed_ever_get_a_token(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    join_all((0..4).map(async |_| {
        let w = World::with(setup(kind, 2)).await;
        open(&w).await;
        create_ten(&w).await;
        let issued = who_is_issued(&w).await;
        assert_eq!((w.posts() - 1, w.deletes()), (2, 0));
        // Each of the others is looked at again, when all is known.
        for resource in w.list().await.unwrap() {
            w.look_at(&resource.name_any()).await;
        }
        assert_eq!((who_is_issued(&w).await, w.posts() - 1), (issued.clone(), 2), "nobody changes places");

        let first = issued.first().unwrap();
        w.delete(first).await;
        wait_gone(&w.objects(), first, WAIT).await;
        let after = who_is_issued(&w).await;
        assert!(after.is_superset(&issued.iter().filter(|name| *name != first).cloned().collect()), "{after:?}");
        assert_eq!((w.posts() - 1, w.deletes()), (3, 1), "another one has moved up");
    }))
    .await;
}

/// What is recorded shows late: until then only the operator's own memory tells who has the places. Of resources created in
/// one second, those that come later may well be before the others by their uid.
#[rstest]
#[tokio::test]
async fn who_comes_later_gets_no_place_that_was_just_taken(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let _operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let worlds = join_all((0..4).map(async |_| {
        let w = World::on(plane.cluster.clone(), setup(kind, 2)).await;
        open(&w).await;
        w
    }));
    let worlds = worlds.await;
    plan.delay_writes(Duration::from_secs(1));
    join_all(worlds.iter().map(async |w| {
        for n in 0..10 {
            w.apply(&format!("agent-{n}"), scope()).await;
        }
        who_is_issued(w).await;
        assert_eq!((w.posts() - 1, w.deletes()), (2, 0));
    }))
    .await;
}

#[rstest]
#[tokio::test]
async fn after_a_crash_those_that_had_begun_keep_their_places(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), setup(kind, 2)).await;
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hang).times(2));
    create_ten(&w).await;
    eventually("two requests are under way", WAIT, || async { (w.posts() == 2).then_some(()) }).await;
    operator.kill().await.unwrap();
    let resources = w.list().await.unwrap().into_iter();
    let has_begun = resources.filter(|resource| resource.annotations().contains_key(names::ATTEMPTS));
    let has_begun: BTreeSet<String> = has_begun.map(|resource| resource.name_any()).collect();
    assert_eq!(has_begun.len(), 2, "{has_begun:?}");

    let _operator = start(&plane.cluster, None, &ARGS).await;
    assert_eq!(who_is_issued(&w).await, has_begun);
    assert_eq!((w.posts(), w.issued_tokens().len()), (4, 2), "each asked once more");
}

/// A tenant can write the log of attempts. What it writes there counts for less than a token.
#[rstest]
#[tokio::test]
async fn an_attempt_that_somebody_made_up_takes_no_place_from_a_token(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::with(setup(kind, 2)).await;
    w.apply("older", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("older", "Suspended").await;
    w.apply("younger", scope()).await;
    let before = w.issued("younger").await;
    w.set_account(most(kind, 1)).await;
    let made_up = json!([{ "nonce": "0123456789", "at": Timestamp::now().to_string(), "cause": "New" }]);
    w.annotate("older", json!({ names::ATTEMPTS: made_up.to_string() })).await;
    w.patch_spec("older", json!({ "suspend": false })).await;
    w.says("older", "NotAllowed").await;
    w.look_at("younger").await;
    assert_eq!(w.issued_alone("younger").await.token.id, before.token.id);
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn a_deleted_resource_has_its_place_until_its_token_is_gone(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::with(setup(kind, 1)).await;
    w.apply("first", scope()).await;
    w.issued("first").await;
    w.apply("second", scope()).await;
    w.says("second", "NotAllowed").await;
    let hold = w.set_fault(Fault::new(Operation::DeleteAccessToken, Kind::Hold).once());
    w.delete("first").await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request to revoke");
    w.look_at("second").await;
    w.says("second", "NotAllowed").await;
    assert_eq!(w.posts(), 1);
    w.account.release(hold);
    w.issued_alone("second").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[tokio::test]
async fn tokens_and_keys_have_shares_of_their_own() {
    let allow = json!({ "maxTokensPerNamespace": 1, "maxKeysPerNamespace": 1 });
    let w = World::with(Setup { spec: Some(json!({ "allow": allow })), ..Setup::default() }).await;
    let keys = w.about(WebsiteKey);
    w.apply("token", scope()).await;
    keys.apply("key", json!({})).await;
    w.issued("token").await;
    keys.issued("key").await;
    w.apply("another-token", scope()).await;
    keys.apply("another-key", json!({})).await;
    let ready = w.says("another-token", "NotAllowed").await;
    assert!(ready.message.contains("allow.maxTokensPerNamespace"), "{}", ready.message);
    let ready = keys.says("another-key", "NotAllowed").await;
    assert!(ready.message.contains("allow.maxKeysPerNamespace"), "{}", ready.message);
    assert_eq!((w.posts(), keys.posts()), (1, 1));
}
