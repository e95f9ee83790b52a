//! Rotation in an account without a free slot.

use datafast_harness::{condition, eventually};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, Kind, Operation};
use serde_json::{Value, json};

use crate::{
    refusal::{lift_policy, refuse_updates},
    world::{ARGS, Issued, Plane, Setup, WAIT, World, start},
};

/// DataFast's cap is 20: the operator's credential, these, and one of ours.
const OTHERS: usize = 18;

fn full() -> Setup {
    Setup { others: OTHERS, ..Setup::default() }
}

/// A resource that takes the last slot.
async fn issued(w: &World, rotation: Value) -> Issued {
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let issued = w.issued("agent").await;
    assert_eq!(w.live_tokens().len(), 20);
    issued
}

/// `POST` and `DELETE`, as they were asked for.
fn methods(w: &World) -> Vec<String> {
    w.changes().into_iter().map(|request| request.method).collect()
}

#[tokio::test]
async fn a_rotation_waits_for_a_slot_while_the_old_key_works() {
    let w = World::with(full()).await;
    let before = issued(&w, json!({})).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let ready = w.says("agent", "WaitingForSlot").await;
    assert!(ready.status == "True" && ready.message.contains("RevokeFirst"), "{ready:?}");
    let reconciling = condition(&w.resource("agent").await, "Reconciling");
    assert!(reconciling.is_some_and(|reconciling| reconciling.status == "True"));
    w.event("agent", "WaitingForSlot").await;
    w.polls(2).await;
    w.says("agent", "WaitingForSlot").await;
    assert_eq!(w.secret("agent").await, before.secret);
    assert!(w.live_tokens().contains(&before.token));
    assert_eq!(methods(&w), ["POST"]);
    eventually("the account counts who waits", WAIT, || async {
        let status = w.account_resource().await.status.unwrap();
        if status.waiting == Some(1) { Ok(()) } else { Err(status) }
    })
    .await;

    let other = w.live_tokens().into_iter().find(|token| token.created_by.is_none() && !token.credential);
    w.account.delete_behind_back(&other.unwrap().id);
    let after = w.renewed("agent", &before).await;
    assert_eq!(after.retiring(), [before.token.id]);
    assert_eq!(methods(&w), ["POST", "POST"]);
}

#[tokio::test]
async fn revoke_first_makes_room_by_the_old_token() {
    let w = World::with(full()).await;
    let before = issued(&w, json!({ "whenFull": "RevokeFirst" })).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let after = w.renewed("agent", &before).await;
    assert_eq!(methods(&w), ["POST", "DELETE", "POST"]);
    assert_eq!(w.changes()[1].token_id.as_ref(), Some(&before.token.id));
    assert_eq!((after.retiring(), w.live_tokens().len()), (vec![], 20));
    assert_eq!(after.resource.status.unwrap().rotate_request.as_deref(), Some("1"));

    // Another scope is a rotation too.
    w.patch_spec("agent", json!({ "permissions": ["goals:read"] })).await;
    assert_eq!(w.issued_alone("agent").await.token.permissions, ["goals:read"]);
    w.polls(1).await;
    assert_eq!(methods(&w), ["POST", "DELETE", "POST", "DELETE", "POST"]);
}

#[tokio::test]
async fn revoke_first_keeps_the_overlap_where_there_is_room() {
    let w = World::with(Setup { others: OTHERS - 1, ..Setup::default() }).await;
    let spec = json!({ "permissions": ["analytics:read"], "rotation": { "whenFull": "RevokeFirst" } });
    w.apply("agent", spec).await;
    let before = w.issued("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let after = w.renewed("agent", &before).await;
    assert_eq!(after.retiring(), [before.token.id]);
    assert_eq!(methods(&w), ["POST", "POST"]);
}

#[tokio::test]
async fn revoke_first_revokes_nothing_where_the_secret_would_be_refused() {
    let w = World::with(full()).await;
    let before = issued(&w, json!({ "whenFull": "RevokeFirst" })).await;
    refuse_updates(&w, "agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.status == "True" && ready.message.contains("keys belong into the vault"), "{ready:?}");
    w.polls(1).await;
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!(methods(&w), ["POST"]);
    lift_policy(&w).await;
    w.renewed("agent", &before).await;
    assert_eq!(methods(&w), ["POST", "DELETE", "POST"]);
}

#[tokio::test]
async fn revoke_now_makes_room_whatever_whenfull_says() {
    let w = World::with(full()).await;
    let before = issued(&w, json!({ "whenFull": "Wait" })).await;
    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    let after = w.renewed("agent", &before).await;
    assert_eq!(after.retiring(), [""; 0]);
    w.polls(1).await;
    assert_eq!(methods(&w), ["POST", "DELETE", "POST"]);
}

/// The one that made room is gone, and its successor not there yet: nothing in the cluster says so but the record.
#[tokio::test]
async fn a_crash_between_revoking_and_issuing_leaves_one_token() {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let unasked = World::on(plane.cluster.clone(), full()).await;
    let under_way = World::on(plane.cluster.clone(), full()).await;
    let mut before = Vec::new();
    for w in [&unasked, &under_way] {
        before.push(issued(w, json!({ "whenFull": "RevokeFirst" })).await);
    }
    let revoked = Fault::new(Operation::DeleteAccessToken, Kind::Hold).after_effect().once();
    let revoked = unasked.set_fault(revoked);
    let asked = under_way.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    for (w, hold) in [(&unasked, revoked), (&under_way, asked)] {
        w.annotate("agent", json!({ names::ROTATE: "1" })).await;
        tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request");
    }
    operator.kill().await.unwrap();
    for w in [&unasked, &under_way] {
        assert_eq!(w.issued_tokens(), []);
    }
    // What was asked for takes effect after the death of who asked, and fills the account again.
    under_way.account.release(asked);
    eventually("the request takes effect", WAIT, || async { under_way.issued_tokens().pop() }).await;

    let _operator = start(&plane.cluster, None, &ARGS).await;
    for (w, before) in [&unasked, &under_way].into_iter().zip(&before) {
        let after = w.renewed("agent", before).await;
        assert_eq!(w.issued_alone("agent").await.token.id, after.token.id);
        assert_eq!(after.resource.status.unwrap().rotate_request.as_deref(), Some("1"));
        let events = w.events("agent").await;
        let is_alarm = events.iter().any(|event| event.reason.as_deref() == Some("TokenVanished"));
        assert!(!is_alarm, "nobody but the operator deleted it");
    }
    assert_eq!(methods(&unasked), ["POST", "DELETE", "POST"]);
    assert_eq!(methods(&under_way), ["POST", "DELETE", "POST", "DELETE", "POST"]);
}
