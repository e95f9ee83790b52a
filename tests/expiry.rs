//! `expiresAfter`: token and Secret end for good, the resource stays.

use datafast_harness::{condition, eventually, wait_gone};
use datafast_sandbox::{Fault, FaultBody, Kind, Operation};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::quiet::{settled, written};
use crate::world::{
    Clocked, Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT,
};

/// What is not to come yet has minutes left, on the slowest machine.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A resource that ends an hour after its creation.
async fn issued(w: &Clocked, name: &str) -> Issued {
    w.apply(name, json!({ "permissions": ["analytics:read"], "expiresAfter": "1h" })).await;
    w.issued(name).await
}

fn created(issued: &Issued) -> Timestamp {
    issued.resource.creation_timestamp().unwrap().0
}

/// Waits until a resource is expired, with neither token nor Secret.
async fn expired(w: &Clocked, name: &str) {
    let ready = w.says(name, "Expired").await;
    assert_eq!(ready.status, "False", "{ready:?}");
    let status = eventually("nothing is left", WAIT, || async {
        let status = w.resource(name).await.status.unwrap();
        let is_over = status.token_id.is_none() && w.secrets().get_opt(name).await.unwrap().is_none();
        if is_over { Ok(status) } else { Err(status) }
    })
    .await;
    assert_eq!((status.display_key, status.next_rotation_at, status.retiring.len()), (None, None, 0));
    for other in ["Reconciling", "Stalled"] {
        let resource = w.resource(name).await;
        assert_eq!(condition(&resource, other), None, "it is as it is to be");
    }
}

#[rstest]
#[tokio::test]
async fn token_and_secret_end_with_either_policy_and_stay_so(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let mut w = Clocked::of(kind).await;
    let revoke = issued(&w, "revoke").await;
    let retain = json!({ "permissions": ["analytics:read"], "expiresAfter": "1h", "deletionPolicy": "Retain",
                         "rotation": { "every": "2h", "maxOverlap": "1h" } });
    w.apply("retain", retain).await;
    w.issued("retain").await;
    for name in ["revoke", "retain"] {
        let resource = w.resource(name).await;
        let expected = resource.creation_timestamp().unwrap().0 + HOUR;
        let status = resource.status.unwrap();
        assert_eq!(status.expires_at.unwrap().0, expected);
        assert_eq!(status.next_rotation_at, None, "it is over before");
    }
    w.advance_to(created(&revoke) + MINUTE * 50);
    w.look_at("revoke").await;
    w.issued("revoke").await;
    assert_eq!((w.posts(), w.deletes()), (2, 0));

    w.advance(MINUTE * 11);
    for name in ["revoke", "retain"] {
        w.look_at(name).await;
        expired(&w, name).await;
    }
    assert_eq!(w.issued_tokens(), []);
    let before = settled(&w, async || w.polls(2).await).await;
    w.polls(2).await;
    w.stop().await;
    w.start().await;
    w.polls(2).await;
    assert_eq!(written(&w).await, before);
    assert_eq!((w.posts(), w.deletes()), (2, 2));

    for name in ["revoke", "retain"] {
        w.delete(name).await;
        wait_gone(&w.objects(), name, WAIT).await;
    }
    assert_eq!((w.posts(), w.deletes()), (2, 2));
}

#[rstest]
#[tokio::test]
async fn the_end_comes_without_anybody_asking_and_takes_what_is_retiring(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let before = issued(&w, "agent").await;
    w.annotate("agent", json!({ datafast_operator::api::names::ROTATE: "1" })).await;
    w.renewed("agent", &before).await;
    w.advance_to(created(&before) + HOUR - SignedDuration::from_secs(3));
    w.look_at("agent").await;
    expired(&w, "agent").await;
    assert_eq!(w.issued_tokens(), []);
    assert!(w.event("agent", "Revoked").await.contains("Expired"));
    assert_eq!((w.posts(), w.deletes()), (2, 2));
}

#[rstest]
#[tokio::test]
async fn what_is_asked_for_after_the_end_is_not_done(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let before = issued(&w, "agent").await;
    w.advance_to(created(&before) + HOUR);
    w.look_at("agent").await;
    expired(&w, "agent").await;
    w.annotate("agent", json!({ datafast_operator::api::names::REVOKE_NOW: "1" })).await;
    w.patch_spec("agent", json!({ "permissions": ["goals:read"] })).await;
    w.look_at("agent").await;
    expired(&w, "agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 1));
}

#[rstest]
#[tokio::test]
async fn raising_it_brings_a_new_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let before = issued(&w, "agent").await;
    w.advance_to(created(&before) + HOUR);
    w.look_at("agent").await;
    expired(&w, "agent").await;
    w.patch_spec("agent", json!({ "expiresAfter": "2h" })).await;
    let after = w.renewed("agent", &before).await;
    let status = after.resource.status.unwrap();
    assert_eq!(status.expires_at.unwrap().0, created(&before) + HOUR * 2);
    assert_eq!((w.posts(), w.deletes()), (2, 1));

    w.advance_to(created(&before) + HOUR * 2);
    w.look_at("agent").await;
    expired(&w, "agent").await;
    w.patch_spec("agent", json!({ "expiresAfter": null })).await;
    let status = w.issued_alone("agent").await.resource.status.unwrap();
    assert_eq!(status.expires_at, None);
}

#[rstest]
#[tokio::test]
async fn what_datafast_cannot_revoke_yet_is_revoked_later(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let before = issued(&w, "agent").await;
    let down = Kind::Status { status: 503, body: FaultBody::default() };
    w.set_fault(Fault::new(Operation::Any, down));
    w.advance_to(created(&before) + HOUR);
    w.look_at("agent").await;
    let ready = w.says("agent", "Expired").await;
    assert!(ready.status == "False" && ready.message.contains("still to be revoked"), "{ready:?}");
    let status = w.resource("agent").await.status.unwrap();
    assert_eq!(status.token_id.as_ref(), Some(&before.token.id), "status names what may still work");
    assert_eq!(w.issued_tokens().len(), 1);
    w.account.clear_faults();
    w.polls(1).await;
    expired(&w, "agent").await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn what_is_suspended_does_not_end(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let before = issued(&w, "agent").await;
    w.patch_spec("agent", json!({ "suspend": true })).await;
    w.says("agent", "Suspended").await;
    w.advance_to(created(&before) + HOUR * 10);
    w.look_at("agent").await;
    w.polls(2).await;
    let ready = w.says("agent", "Suspended").await;
    assert_eq!(ready.status, "True");
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
    w.patch_spec("agent", json!({ "suspend": false })).await;
    expired(&w, "agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 1));
}

#[rstest]
#[tokio::test]
async fn a_key_that_comes_after_the_end_is_in_no_secret(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"], "expiresAfter": "1h" })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    w.advance(HOUR * 2);
    w.account.release(hold);
    expired(&w, "agent").await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!(w.writes().iter().filter(|write| write.ends_with(" secrets")).count(), 0);
    assert_eq!((w.posts(), w.deletes()), (1, 1));
}
