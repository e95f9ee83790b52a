//! What website keys have of their own: a list and ten slots for each website, and `Roll`.

mod websites;

use datafast_harness::{condition, eventually, server_error, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Fault, FaultBody, ForeignKey, Kind, LoggedRequest, Operation, Website};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{HORIZON, Issued, Plane, Setup, Subject, WAIT, WEBSITE, World, apply, start, text_in};

const OTHER_WEBSITE: &str = "65f1c0ffee0123456789ffff";

async fn world() -> World {
    World::of(Subject::WebsiteKey).await
}

/// A key that is rolled, with a workload that reads it.
async fn rolling(w: &World) -> Issued {
    w.run("Deployment", "web").await;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    w.apply("agent", json!({ "rotation": { "strategy": "Roll" }, "rolloutRestart": targets })).await;
    w.issued("agent").await
}

/// Waits until the same key has another value, and the Secret has it.
async fn rolled(w: &World, before: &Issued) -> Issued {
    eventually("the Secret has another value of the same key", WAIT, || async {
        let issued = w.look("agent").await?;
        let status = issued.resource.status.clone().unwrap_or_default();
        let is_it = issued.token.id == before.token.id
            && issued.token.key != before.token.key
            && status.display_key.as_ref() == Some(&issued.token.display_key);
        if is_it { Ok(issued) } else { Err(format!("{:#?}", issued.resource.status)) }
    })
    .await
}

fn rolls(w: &World) -> u64 {
    w.count(Operation::RollWebsiteKey)
}

#[tokio::test]
async fn a_roll_gives_the_same_key_another_value_and_restarts_who_has_the_old_one() {
    let w = world().await;
    let before = rolling(&w).await;
    for (n, annotation) in [(1, names::ROTATE), (2, names::REVOKE_NOW), (3, names::ROTATE)] {
        let last = w.issued("agent").await;
        w.annotate("agent", json!({ annotation: format!("request {n}") })).await;
        let after = rolled(&w, &last).await;
        assert_eq!(after.secret.uid(), before.secret.uid(), "readers keep their Secret");
        let status = after.resource.status.clone().unwrap();
        assert_eq!(status.rotate_request, Some(format!("request {n}")));
        assert_eq!(status.display_key.as_ref(), Some(&after.token.display_key));
        assert_eq!(after.retiring(), [""; 0]);
        let (restarts, annotations) = w.template("Deployment", "web").await;
        assert_eq!((restarts, &annotations[names::RESTARTED_AT]), (n + 1, &json!(w.issued_at("agent").await)));
    }
    w.polls(2).await;
    w.look_at("agent").await;
    assert_eq!((w.posts(), rolls(&w), w.deletes()), (1, 3, 0));
    assert_eq!(w.template("Deployment", "web").await.0, 4, "nothing is restarted twice");
}

#[tokio::test]
async fn a_website_has_ten_slots_and_a_roll_needs_none() {
    let w = world().await;
    (0..8).for_each(|_| drop(w.account.add_website_key_of(WEBSITE, ForeignKey::default())));
    let before = rolling(&w).await;
    w.apply("another", json!({})).await;
    let another = w.issued("another").await;
    w.apply("late", json!({})).await;
    let ready = w.says("late", "WaitingForSlot").await;
    assert!(ready.message.contains(WEBSITE), "{}", ready.message);
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    rolled(&w, &before).await;
    w.annotate("another", json!({ names::ROTATE: "1" })).await;
    assert_eq!(w.says("another", "WaitingForSlot").await.status, "True");
    w.delete("late").await;
    wait_gone(&w.objects(), "late", WAIT).await;
    let theirs = w.live_tokens().into_iter().find(|key| key.created_by.is_none()).unwrap();
    assert!(w.account.delete_behind_back(&theirs.id));
    w.renewed("another", &another).await;
    // The account's tokens have slots of their own, and so have other websites.
    let tokens = w.about(Subject::AccessToken);
    tokens.apply("token", json!({ "permissions": ["analytics:read"] })).await;
    tokens.issued("token").await;
    assert_eq!(rolls(&w), 1);
}

#[tokio::test]
async fn a_key_that_lists_hide_takes_a_slot_all_the_same() {
    let w = world().await;
    let hidden = || ForeignKey { hidden: true, ..ForeignKey::default() };
    let ids: Vec<_> = (0..10).map(|_| w.account.add_website_key_of(WEBSITE, hidden())).collect();
    w.apply("agent", json!({})).await;
    w.says("agent", "WaitingForSlot").await;
    w.polls(2).await;
    assert_eq!(w.posts(), 1, "it is not asked again and again");
    assert!(w.account.delete_behind_back(&ids[0]));
    assert_eq!(w.says("agent", "WaitingForSlot").await.status, "False");
}

#[tokio::test]
async fn a_roll_whose_answer_is_lost_is_done_again() {
    let status = |status, body| Kind::Status { status, body };
    let cases = [
        Fault::new(Operation::RollWebsiteKey, Kind::Drop).once(),
        Fault::new(Operation::RollWebsiteKey, Kind::Drop).after_effect().once(),
        Fault::new(Operation::RollWebsiteKey, Kind::Drop).after_effect().times(2),
        Fault::new(Operation::RollWebsiteKey, status(502, FaultBody::Html)).after_effect().once(),
        Fault::new(Operation::RollWebsiteKey, status(200, FaultBody::Empty)).after_effect().once(),
    ];
    join_all(cases.map(async |fault| {
        let times = u64::from(fault.times.unwrap());
        let w = world().await;
        let before = rolling(&w).await;
        w.set_fault(fault);
        w.annotate("agent", json!({ names::ROTATE: "1" })).await;
        rolled(&w, &before).await;
        w.horizon_passes().await;
        assert_eq!(w.issued_alone("agent").await.token.id, before.token.id);
        assert_eq!((w.posts(), rolls(&w), w.deletes()), (1, times + 1, 0));
        assert_eq!(w.template("Deployment", "web").await.0, 2);
        let events = w.events("agent").await;
        assert!(events.iter().all(|event| event.reason.as_deref() != Some("KeyLost")), "it was nobody else");
    }))
    .await;
}

#[rstest]
#[case::roll("Roll")]
#[case::replace("Replace")]
#[tokio::test]
async fn a_value_that_somebody_else_gave_a_key_is_a_lost_key(#[case] strategy: &str) {
    let w = world().await;
    w.apply("agent", json!({ "rotation": { "strategy": strategy } })).await;
    let before = w.issued("agent").await;
    w.polls(1).await;
    let theirs = w.account.roll_behind_back(&before.token.id).unwrap();
    w.event("agent", "KeyLost").await;
    let after = eventually("the Secret has a key of its own", WAIT, || async {
        let issued = w.look("agent").await?;
        if issued.token.key != before.token.key && issued.token.key != theirs {
            Ok(issued)
        } else {
            Err("as before".to_owned())
        }
    })
    .await;
    match strategy {
        "Roll" => assert_eq!((after.token.id, w.posts(), rolls(&w)), (before.token.id, 1, 1)),
        _ => {
            assert_ne!(after.token.id, before.token.id);
            assert_eq!(after.retiring(), [before.token.id]);
            assert_eq!((w.posts(), rolls(&w)), (2, 0));
        }
    }
}

#[tokio::test]
async fn a_lost_secret_is_met_by_a_roll_and_a_lost_key_by_another() {
    let w = world().await;
    let before = rolling(&w).await;
    w.delete_secret("agent").await;
    let after = rolled(&w, &before).await;
    assert_eq!((w.posts(), rolls(&w), w.deletes()), (1, 1, 0));
    assert!(w.account.delete_behind_back(&after.token.id));
    let replaced = w.renewed("agent", &after).await;
    w.event("agent", "TokenVanished").await;
    assert_eq!((w.posts(), rolls(&w), w.deletes()), (2, 1, 0));
    assert_eq!(replaced.retiring(), [""; 0]);
}

#[tokio::test]
async fn a_key_is_rolled_under_its_name_and_replaced_for_another() {
    let w = world().await;
    let before = rolling(&w).await;
    w.patch_spec("agent", json!({ "tokenName": "another name" })).await;
    let after = w.renewed("agent", &before).await;
    assert!(after.token.name.as_ref().unwrap().starts_with("another name [k8s:"), "{:?}", after.token.name);
    assert_eq!(after.retiring(), [before.token.id]);
    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    rolled(&w, &after).await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), rolls(&w), w.deletes()), (2, 1, 1));
}

#[tokio::test]
async fn lists_that_lag_do_not_have_a_key_rolled_again() {
    let plane = Plane::take().await;
    // Lists lag for long enough to start an operator meanwhile; what is left of the horizon is for a roll that comes late.
    let (horizon, lag) = (HORIZON * 5, HORIZON * 15 / 4);
    let horizon = format!("{}s", horizon.as_secs());
    let args = ["--allow-plain-http", "--leader-elect=false", "--horizon", &horizon];
    let operator = start(&plane.cluster, None, &args).await;
    let w = World::on(plane.cluster.clone(), Setup { kind: Subject::WebsiteKey, ..Setup::default() }).await;
    let before = rolling(&w).await;
    w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::ListLag { seconds: lag.as_secs_f64() }));
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let after = rolled(&w, &before).await;
    w.polls(1).await;
    operator.kill().await.unwrap();
    let _operator = start(&plane.cluster, None, &args).await;
    w.polls(4).await;
    assert_eq!(w.issued("agent").await.token.key, after.token.key);
    assert_eq!((w.posts(), rolls(&w), w.deletes()), (1, 1, 0));
}

#[tokio::test]
async fn a_secret_that_is_retained_in_the_middle_of_a_roll_has_a_key_that_works() {
    let w = world().await;
    w.apply("agent", json!({ "rotation": { "strategy": "Roll" }, "deletionPolicy": "Retain" })).await;
    let before = w.issued("agent").await;
    let hold = w.set_fault(Fault::new(Operation::RollWebsiteKey, Kind::Hold).after_effect().once());
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a roll");
    w.delete("agent").await;
    // In time for the operator to take notice.
    w.polls(1).await;
    w.account.release(hold);
    wait_gone(&w.objects(), "agent", WAIT).await;
    let live = w.issued_tokens();
    assert_eq!(live.iter().map(|key| &key.id).collect::<Vec<_>>(), [&before.token.id]);
    let secret = w.secret("agent").await;
    assert_eq!(text_in(&secret, "token"), live[0].key);
}
