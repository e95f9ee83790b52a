//! A token is replaced because somebody asks for it, and the old one stays as long as it is to.

use std::slice;

use datafast_harness::eventually;
use datafast_operator::api::{DataFastAccessToken, names};
use datafast_sandbox::{Fault, Kind, LoggedRequest, Operation};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{
    ARGS, Clocked, Issued, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, apply, start,
};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A resource with this rotation, issued.
async fn issued(w: &World, rotation: Value) -> Issued {
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    w.issued("agent").await
}

/// Asks for a rotation, and waits for it.
async fn rotated(w: &World, before: &Issued, request: &str) -> Issued {
    w.annotate("agent", json!({ names::ROTATE: request })).await;
    w.renewed("agent", before).await
}

/// When the Secret got its key.
fn swapped_at(issued: &Issued) -> Timestamp {
    issued.secret.annotations()[names::ISSUED_AT].parse().unwrap()
}

/// When former tokens go, by what status says.
fn revoke_after(resource: &DataFastAccessToken) -> Vec<(String, Timestamp)> {
    let retiring = resource.status.clone().unwrap_or_default().retiring.into_iter();
    retiring.map(|retiring| (retiring.token_id, retiring.revoke_after.unwrap().0)).collect()
}

/// It counts from when the Secret's write was answered: after the token was issued, and by now.
fn is_overlap(until: Timestamp, after: &Issued, overlap: SignedDuration) -> bool {
    let counts_from = until - overlap;
    counts_from.as_second() >= swapped_at(after).as_second() && counts_from <= Timestamp::now()
}

/// The request that revoked a token.
fn revocation(w: &World, issued: &Issued) -> Option<LoggedRequest> {
    let is_it = |r: &LoggedRequest| r.effect && r.token_id.as_ref() == Some(&issued.token.id);
    w.changes().into_iter().find(|r| r.operation == Some(Operation::DeleteAccessToken) && is_it(r))
}

#[rstest]
#[tokio::test]
async fn a_request_brings_a_second_token_and_takes_nothing_away(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let before = issued(&w, json!({})).await;
    let after = rotated(&w, &before, "2026-01").await;
    assert_eq!(after.secret.uid(), before.secret.uid(), "readers keep their Secret");
    assert_eq!(after.token.permissions, before.token.permissions);
    assert_eq!(after.retiring(), slice::from_ref(&before.token.id));
    let status = after.resource.status.clone().unwrap();
    assert_eq!(status.rotate_request.as_deref(), Some("2026-01"));
    assert_eq!(status.issued_at.unwrap().0.as_second(), swapped_at(&after).as_second());
    let [(_, until)] = revoke_after(&after.resource)[..] else { panic!("{:?}", after.resource.status) };
    assert!(is_overlap(until, &after, SignedDuration::from_hours(1)), "{until}");
    assert!(w.event("agent", "Rotated").await.contains(&after.token.display_key));
    assert!(w.live_tokens().iter().any(|token| token.id == before.token.id), "the old one still works");
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

#[rstest]
#[tokio::test]
async fn a_rotation_never_takes_ready_away(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let before = issued(&w, json!({ "overlap": "0s" })).await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    assert_eq!(w.secret("agent").await, before.secret, "readers have the old key until there is another");
    w.account.release(hold);
    w.renewed("agent", &before).await;
    w.issued_alone("agent").await;
    let said = w.said("agent");
    let from_then_on = said.iter().skip_while(|ready| ready.status != "True");
    let lost = from_then_on.filter(|ready| ready.status != "True").count();
    assert!(!said.is_empty() && lost == 0, "{said:#?}");
}

#[rstest]
#[tokio::test]
async fn a_rotation_under_way_says_so(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    issued(&w, json!({})).await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    let ready = w.says("agent", "Rotating").await;
    assert_eq!(ready.status, "True");
    w.account.release(hold);
    let ready = w.says("agent", "Issued").await;
    assert_eq!(ready.status, "True");
}

#[rstest]
#[tokio::test]
async fn the_same_value_is_served_once(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let first = issued(&w, json!({})).await;
    let second = rotated(&w, &first, "1").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.look_at("agent").await;
    w.annotate("agent", json!({ names::ROTATE: null })).await;
    w.look_at("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.look_at("agent").await;
    assert_eq!(w.issued("agent").await.token.id, second.token.id);
    assert_eq!((w.posts(), w.deletes()), (2, 0));

    // Nor does a token that comes in between for another reason open it again.
    w.annotate("agent", json!({ names::ROTATE: null })).await;
    w.patch_spec("agent", json!({ "permissions": ["goals:read"] })).await;
    let third = w.renewed("agent", &second).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.look_at("agent").await;
    assert_eq!((w.posts(), w.deletes()), (3, 0));
    let fourth = rotated(&w, &third, "2").await;
    assert_eq!(fourth.resource.status.unwrap().rotate_request.as_deref(), Some("2"));
    assert_eq!((w.posts(), w.deletes()), (4, 0));
}

#[rstest]
#[tokio::test]
async fn an_operator_that_was_away_serves_a_request_once(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    let before = issued(&w, json!({})).await;
    operator.kill().await.unwrap();
    w.annotate("agent", json!({ names::ROTATE: "1", names::REVOKE_NOW: null })).await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let after = w.renewed("agent", &before).await;
    assert_eq!(after.retiring(), slice::from_ref(&before.token.id));

    operator.kill().await.unwrap();
    w.annotate("agent", json!({ names::ROTATE: null })).await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    w.look_at("agent").await;
    operator.kill().await.unwrap();
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.look_at("agent").await;
    let last = w.issued("agent").await;
    assert_eq!((&last.token.id, last.retiring()), (&after.token.id, vec![before.token.id]));
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

#[rstest]
#[tokio::test]
async fn what_is_asked_for_from_the_beginning_costs_one_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let mut manifest = w.manifest("agent", json!({ "permissions": ["analytics:read"] }));
    manifest["metadata"]["annotations"] = json!({ names::ROTATE: "1", names::REVOKE_NOW: "1" });
    apply(&w.objects(), "agent", &manifest).await;
    let issued = w.issued_alone("agent").await;
    assert_eq!(issued.resource.status.unwrap().rotate_request.as_deref(), Some("1"));
    w.look_at("agent").await;
    w.polls(1).await;
    assert_eq!(w.issued_alone("agent").await.token.id, issued.token.id);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn revoke_now_leaves_only_the_new_token_whatever_the_overlap(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let first = issued(&w, json!({ "overlap": "720h" })).await;
    let second = rotated(&w, &first, "1").await;
    assert_eq!(second.retiring(), slice::from_ref(&first.token.id));
    // Which of both keys is in wrong hands, the request does not say.
    w.annotate("agent", json!({ names::REVOKE_NOW: "leak of May" })).await;
    let third = w.renewed("agent", &second).await;
    let alone = w.issued_alone("agent").await;
    assert_eq!(alone.token.id, third.token.id);
    assert_eq!(alone.secret.uid(), first.secret.uid());
    assert_eq!(alone.retiring(), [""; 0]);
    assert_eq!(alone.resource.status.unwrap().rotate_request.as_deref(), Some("leak of May"));
    assert!(w.event("agent", "Revoked").await.contains("RevokeNow"));
    assert_eq!((w.posts(), w.deletes()), (3, 2));
}

#[rstest]
#[tokio::test]
async fn both_requests_with_one_value_are_served_and_nothing_goes_on(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let first = issued(&w, json!({})).await;
    let second = rotated(&w, &first, "1").await;
    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    let third = w.renewed("agent", &second).await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (3, 2));
    w.annotate("agent", json!({ names::ROTATE: "2", names::REVOKE_NOW: "2" })).await;
    let fourth = w.renewed("agent", &third).await;
    w.look_at("agent").await;
    w.polls(2).await;
    assert_eq!(w.issued_alone("agent").await.token.id, fourth.token.id);
    assert_eq!((w.posts(), w.deletes()), (4, 3), "one token answers both");
}

#[rstest]
#[tokio::test]
async fn another_overlap_counts_for_what_is_retiring(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let before = issued(&w, json!({})).await;
    let after = rotated(&w, &before, "1").await;
    for (overlap, minutes) in [("3h", 180), ("30m", 30)] {
        w.patch_spec("agent", json!({ "rotation": { "overlap": overlap } })).await;
        let until = revoke_after(&w.look_at("agent").await);
        assert!(until.len() == 1 && is_overlap(until[0].1, &after, SignedDuration::from_mins(minutes)), "{until:?}");
    }
    assert_eq!(w.deletes(), 0);
    w.patch_spec("agent", json!({ "rotation": { "overlap": "0s" } })).await;
    let last = w.issued_alone("agent").await;
    assert_eq!((&last.token.id, last.retiring()), (&after.token.id, vec![]));
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[rstest]
#[tokio::test]
async fn several_retire_at_once_each_in_its_own_time(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let overlap = SignedDuration::from_mins(30);
    let w = Clocked::of(kind).await;
    let first = issued(&w, json!({ "overlap": "30m" })).await;
    let second = rotated(&w, &first, "1").await;
    w.advance(MINUTE * 10);
    let third = rotated(&w, &second, "2").await;
    let mut until = revoke_after(&third.resource);
    until.sort_by_key(|(_, at)| *at);
    let expected = [(&first, &second), (&second, &third)]
        .map(|(old, new)| (old.token.id.clone(), (swapped_at(new) + overlap).as_second()));
    assert_eq!(until.into_iter().map(|(id, at)| (id, at.as_second())).collect::<Vec<_>>(), expected);

    for (deleted, old, new) in [(0, &first, &second), (1, &second, &third)] {
        let until = swapped_at(new) + overlap;
        w.advance_to(until - MINUTE * 5);
        w.look_at("agent").await;
        assert_eq!(w.deletes(), deleted, "not before its time, and not with the other one");
        w.advance_to(until + SignedDuration::from_secs(1));
        w.look_at("agent").await;
        eventually("it is revoked", WAIT, || async { revocation(&w, old) }).await;
    }
    assert_eq!(w.issued_alone("agent").await.token.id, third.token.id);
}

#[rstest]
#[tokio::test]
async fn an_old_token_that_nobody_uses_goes_after_the_overlap(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let before = issued(&w, json!({ "overlap": "3s", "maxOverlap": "1h" })).await;
    w.account.use_token(&before.token.id, Timestamp::now());
    let after = rotated(&w, &before, "1").await;
    w.issued_alone("agent").await;
    let revoked = revocation(&w, &before).unwrap().at;
    assert!(revoked >= swapped_at(&after) + SignedDuration::from_secs(3), "{revoked}");
    let events = w.events("agent").await;
    assert!(events.iter().all(|event| event.reason.as_deref() != Some("OldTokenStillInUse")));
}

#[rstest]
#[tokio::test]
async fn an_old_token_in_use_stays_until_the_outer_bound_and_is_told_of_once(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let before = issued(&w, json!({ "overlap": "1h", "maxOverlap": "3h" })).await;
    let after = rotated(&w, &before, "1").await;
    let use_it = || {
        let next_second = swapped_at(&after) + SignedDuration::from_secs(1);
        assert!(w.account.use_token(&before.token.id, w.now().max(next_second)));
    };
    use_it();
    w.polls(1).await;
    assert!(w.event("agent", "OldTokenStillInUse").await.contains(&before.token.display_key));
    w.advance_to(swapped_at(&after) + MINUTE * 65);
    w.polls(1).await;
    let ready = eventually("Ready tells of the old token", WAIT, || async {
        let ready = w.says("agent", "Issued").await;
        if ready.message.contains("still in use") { Ok(ready) } else { Err(ready) }
    })
    .await;
    assert!(ready.status == "True" && ready.message.contains(&before.token.display_key), "{}", ready.message);
    let bound = swapped_at(&after) + MINUTE * 180;
    let until = revoke_after(&w.resource("agent").await);
    assert_eq!(until, [(before.token.id.clone(), Timestamp::from_second(bound.as_second()).unwrap())]);
    use_it();
    w.advance_to(bound - MINUTE * 5);
    w.polls(1).await;
    w.look_at("agent").await;
    assert_eq!(w.deletes(), 0, "not before the outer bound");

    w.advance_to(bound + SignedDuration::from_secs(1));
    w.look_at("agent").await;
    w.issued_alone("agent").await;
    // Status follows the revocation.
    eventually("Ready tells of it no longer", WAIT, || async {
        let ready = w.says("agent", "Issued").await;
        if ready.message.contains("still in use") { Err(ready) } else { Ok(()) }
    })
    .await;
    let events = w.events("agent").await;
    let told = events.iter().filter(|event| event.reason.as_deref() == Some("OldTokenStillInUse"));
    let series = told.map(|event| event.series.as_ref().map_or(1, |series| series.count)).collect::<Vec<_>>();
    assert_eq!(series, [1]);
}
