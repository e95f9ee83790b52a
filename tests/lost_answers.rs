//! A token was issued, and its answer never came: in the end there is one token, and its key is in the Secret.

use datafast_harness::wait_gone;
use datafast_sandbox::{Fault, FaultBody, Kind, Operation, Wire};
use futures::future::join_all;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    HORIZON,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World,
};

fn lost(kind: Kind) -> Fault {
    Fault::new(Operation::CreateAccessToken, kind).after_effect()
}

fn status(status: u16, body: FaultBody) -> Kind {
    Kind::Status { status, body }
}

/// The first answers are lost; each costs one request, and its token is revoked.
async fn ends_with_one_token(kind: Subject, name: &str, fault: Fault) {
    let times = u64::from(fault.times.unwrap());
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    w.set_fault(fault);
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued_alone("agent").await;
    w.event("agent", "LostAttemptRevoked").await;
    w.horizon_passes().await;
    assert_eq!(w.issued_alone("agent").await.token.id, issued.token.id, "{name}: it has come to rest");
    assert_eq!((w.posts(), w.deletes()), (times + 1, times), "{name}");
}

#[rstest]
#[tokio::test]
async fn a_token_whose_answer_was_lost_is_revoked_and_another_issued(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let cases = [
        ("no answer", lost(Kind::Drop).once()),
        ("no answer, twice", lost(Kind::Drop).times(2)),
        ("a page", lost(status(502, FaultBody::Html)).once()),
        ("an error", lost(status(500, FaultBody::default())).once()),
        ("nothing", lost(status(200, FaultBody::Empty)).once()),
        ("another shape", lost(status(200, FaultBody::OtherShape)).once()),
        ("half of it", lost(status(200, FaultBody::Truncated)).once()),
    ];
    join_all(cases.into_iter().map(|(name, fault)| ends_with_one_token(kind, name, fault))).await;
}

#[rstest]
#[tokio::test]
async fn a_request_is_given_up_after_half_a_minute(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let cases = [
        ("no answer and no end", lost(Kind::Hang).once()),
        ("an answer without end", lost(status(200, FaultBody::Endless)).once()),
    ];
    join_all(cases.into_iter().map(|(name, fault)| ends_with_one_token(kind, name, fault))).await;
}

/// A proxy says 4xx, and DataFast had done it all the same.
#[rstest]
#[tokio::test]
async fn a_token_issued_behind_a_refusal_is_revoked(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    let body = FaultBody::Error { code: None, message: "Request timed out upstream".to_owned() };
    w.set_fault(lost(status(408, body)).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
    w.horizon_passes().await;
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn a_list_that_lags_hides_no_lost_token_for_good(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    // What is asked for as late as may be shows in lists before the horizon all the same.
    let seconds = (HORIZON / 4).as_secs_f64();
    w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::ListLag { seconds }));
    w.set_fault(lost(Kind::Drop).times(2));
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued_alone("agent").await;
    w.horizon_passes().await;
    assert_eq!(w.issued_alone("agent").await.token.id, issued.token.id);
    assert_eq!((w.posts(), w.deletes()), (3, 2));
}

#[rstest]
#[tokio::test]
async fn an_answer_without_a_key_is_a_lost_one(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Wire { wire: Wire::WithoutKey }).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[rstest]
#[tokio::test]
async fn the_same_answer_in_another_spelling_is_no_fault(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let spellings = [Wire::IdSpelling, Wire::WithoutTimes, Wire::DataObject];
    join_all(spellings.map(async |wire| {
        let w = World::of(kind).await;
        w.account_says("Connected").await;
        w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Wire { wire }));
        w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        w.issued_alone("agent").await;
        w.polls(1).await;
        w.issued_alone("agent").await;
        assert_eq!((w.posts(), w.deletes()), (1, 0), "{wire:?}");
    }))
    .await;
}

#[rstest]
#[tokio::test]
async fn a_lost_answer_in_a_change_of_scope_leaves_one_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let rotation = json!({ "overlap": "0s" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    w.issued("agent").await;
    w.set_fault(lost(Kind::Drop).once());
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": rotation })).await;
    let after = w.issued_alone("agent").await;
    assert_eq!(after.token.permissions, ["goals:read"]);
    w.horizon_passes().await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (3, 2));
}

#[rstest]
#[tokio::test]
async fn a_resource_deleted_while_answers_are_lost_leaves_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    w.set_fault(lost(Kind::Drop));
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.says("agent", "ApiUnavailable").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert!(w.posts() >= 1);
    assert_eq!(w.issued_tokens(), []);
}

#[rstest]
#[tokio::test]
async fn a_lost_answer_to_a_deletion_is_asked_for_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let cases = [
        Fault::new(Operation::DeleteAccessToken, Kind::Drop).times(2),
        Fault::new(Operation::DeleteAccessToken, Kind::Drop).after_effect().times(2),
        Fault::new(Operation::DeleteAccessToken, status(502, FaultBody::Html)).after_effect().once(),
    ];
    join_all(cases.map(async |fault| {
        let w = World::of(kind).await;
        w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        w.issued("agent").await;
        w.set_fault(fault);
        w.delete("agent").await;
        wait_gone(&w.objects(), "agent", WAIT).await;
        assert_eq!(w.issued_tokens(), []);
        assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    }))
    .await;
}
