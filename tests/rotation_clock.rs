//! What happens as hours pass, and that a wall clock which somebody sets does no harm.

use std::slice;

use datafast_harness::{eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, Kind, Operation};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Clocked, Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn next_rotation(issued: &Issued) -> Timestamp {
    issued.resource.status.as_ref().unwrap().next_rotation_at.as_ref().unwrap().0
}

fn issued_at(issued: &Issued) -> Timestamp {
    issued.resource.status.as_ref().unwrap().issued_at.as_ref().unwrap().0
}

#[rstest]
#[tokio::test]
async fn a_key_gets_no_older_than_every_and_is_replaced_at_most_a_twentieth_sooner(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let rotation = json!({ "every": "1h", "overlap": "30m" });
    let others = ["b", "c", "d"];
    for name in others {
        w.apply(name, json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    }
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let first = w.issued("agent").await;
    let mut waits = vec![next_rotation(&first).duration_since(issued_at(&first))];
    for name in others {
        let other = w.issued(name).await;
        waits.push(next_rotation(&other).duration_since(issued_at(&other)));
        w.delete(name).await;
    }
    assert!(waits.iter().all(|wait| (HOUR - MINUTE * 3..=HOUR).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "created together, replaced together: {waits:?}");
    for name in others {
        wait_gone(&w.objects(), name, WAIT).await;
    }
    let (posts, deletes) = (w.posts(), w.deletes());

    w.advance_to(next_rotation(&first) - MINUTE * 10);
    w.look_at("agent").await;
    w.polls(1).await;
    assert_eq!(w.issued_alone("agent").await.token.id, first.token.id);
    assert_eq!(w.posts(), posts, "not before its time");

    w.advance_to(next_rotation(&first));
    w.look_at("agent").await;
    let second = w.renewed("agent", &first).await;
    assert_eq!(second.secret.uid(), first.secret.uid());
    assert!(issued_at(&second) >= next_rotation(&first));
    assert_eq!(next_rotation(&second).duration_since(issued_at(&second)), waits[0], "each has its own share");
    assert_eq!(second.retiring(), slice::from_ref(&first.token.id));
    w.advance_to(issued_at(&second) + MINUTE * 20);
    w.look_at("agent").await;
    w.polls(2).await;
    assert_eq!((w.posts(), w.deletes()), (posts + 1, deletes), "once, and the overlap is kept");

    w.advance_to(issued_at(&second) + MINUTE * 30 + SignedDuration::from_secs(1));
    w.look_at("agent").await;
    assert_eq!(w.issued_alone("agent").await.token.id, second.token.id);
    assert_eq!((w.posts(), w.deletes()), (posts + 1, deletes + 1));
    w.advance_to(next_rotation(&second));
    w.look_at("agent").await;
    w.renewed("agent", &second).await;
    assert_eq!((w.posts(), w.deletes()), (posts + 2, deletes + 1));
}

#[rstest]
#[tokio::test]
async fn its_time_comes_without_anybody_asking(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let rotation = json!({ "every": "1h", "overlap": "0s" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let first = w.issued("agent").await;
    w.advance_to(next_rotation(&first) - SignedDuration::from_secs(3));
    w.look_at("agent").await;
    let second = w.renewed("agent", &first).await;
    assert!(issued_at(&second) >= next_rotation(&first));
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[rstest]
#[tokio::test]
async fn an_operator_that_was_away_rotates_once_for_all_that_it_missed(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let mut w = Clocked::of(kind).await;
    let rotation = json!({ "every": "1h" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let first = w.issued("agent").await;
    w.stop().await;
    w.advance(HOUR * 10);
    w.start().await;
    let second = w.renewed("agent", &first).await;
    w.look_at("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 0));
    assert_eq!(second.retiring(), [first.token.id], "consumers have its overlap, however late it is");
}

#[rstest]
#[tokio::test]
async fn another_interval_counts_for_the_token_at_hand(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "every": "48h" } })).await;
    let first = w.issued("agent").await;
    assert!(next_rotation(&first) >= issued_at(&first) + HOUR * 45);
    w.advance(HOUR * 3);
    w.patch_spec("agent", json!({ "rotation": { "every": "2h" } })).await;
    w.renewed("agent", &first).await;
    w.patch_spec("agent", json!({ "rotation": { "every": null } })).await;
    w.advance(HOUR * 100);
    let resource = w.look_at("agent").await;
    assert_eq!(resource.status.unwrap().next_rotation_at, None);
    assert_eq!(w.posts(), 2);
}

/// A resource with a token that retires for an hour, and one that ends an hour after its creation.
async fn retiring_and_expiring(w: &Clocked) -> (Issued, Issued) {
    w.apply("retiring", json!({ "permissions": ["analytics:read"] })).await;
    w.apply("expiring", json!({ "permissions": ["analytics:read"], "expiresAfter": "1h" })).await;
    let before = w.issued("retiring").await;
    w.issued("expiring").await;
    w.annotate("retiring", json!({ names::ROTATE: "1" })).await;
    let after = w.renewed("retiring", &before).await;
    (before, after)
}

/// Has the operator look at all there is, and ensures that nothing came of it.
async fn nothing_goes(w: &Clocked) {
    for name in ["retiring", "expiring"] {
        w.look_at(name).await;
        w.issued(name).await;
    }
    assert_eq!((w.posts(), w.deletes()), (3, 0));
}

#[rstest]
#[tokio::test]
async fn a_wall_clock_that_was_ahead_for_a_while_revokes_nothing_early(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let (before, after) = retiring_and_expiring(&w).await;
    w.jump(HOUR * 5);
    nothing_goes(&w).await;
    w.list().await;
    nothing_goes(&w).await;
    w.jump(-HOUR * 5);
    nothing_goes(&w).await;

    w.advance_to(issued_at(&after) + MINUTE * 50);
    nothing_goes(&w).await;
    w.advance(MINUTE * 11);
    w.look_at("retiring").await;
    w.look_at("expiring").await;
    w.says("expiring", "Expired").await;
    assert_eq!(w.issued_alone("retiring").await.token.id, after.token.id);
    assert!(w.live_tokens().iter().all(|token| token.id != before.token.id));
    assert_eq!((w.posts(), w.deletes()), (3, 2));
}

#[rstest]
#[tokio::test]
async fn a_wall_clock_that_is_set_back_revokes_and_issues_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let (_, after) = retiring_and_expiring(&w).await;
    w.jump(-HOUR * 5);
    nothing_goes(&w).await;
    // What is asked for is done as ever.
    w.annotate("retiring", json!({ names::ROTATE: "2" })).await;
    let last = w.renewed("retiring", &after).await;
    w.look_at("retiring").await;
    assert_eq!(w.issued("retiring").await.token.id, last.token.id);
    w.apply("new", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("new").await;
    assert_eq!((w.posts(), w.deletes()), (5, 0));
    for name in ["new", "retiring", "expiring"] {
        w.delete(name).await;
    }
    for name in ["new", "retiring", "expiring"] {
        wait_gone(&w.objects(), name, WAIT).await;
    }
    assert_eq!(w.issued_tokens(), []);
}

#[rstest]
#[tokio::test]
async fn revoke_now_is_at_once_by_a_clock_that_was_set_back(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let (_, after) = retiring_and_expiring(&w).await;
    w.jump(-HOUR * 5);
    w.annotate("retiring", json!({ names::REVOKE_NOW: "1" })).await;
    w.renewed("retiring", &after).await;
    w.look_at("retiring").await;
    assert_eq!(w.issued("retiring").await.retiring(), [""; 0]);
    assert_eq!((w.posts(), w.deletes()), (4, 2));
}

/// A list that began by a clock that was ahead says nothing of what happens after the clock was set right.
#[rstest]
#[tokio::test]
async fn a_deletion_leaves_nothing_by_a_clock_that_was_ahead(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    w.apply("first", json!({ "permissions": ["analytics:read"] })).await;
    let first = w.issued("first").await.token;
    w.jump(HOUR * 5);
    w.list().await;
    w.jump(-HOUR * 5);
    // Its answer is lost, and no list is answered from then on.
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Drop).after_effect().once());
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).after_effect().once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    assert_eq!(w.issued_tokens().len(), 2, "nobody knows of the second one");
    w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::Drop));
    w.account.release(hold);
    w.says("agent", "ApiUnavailable").await;
    w.delete("agent").await;
    // It waits for a list, which it cannot have.
    w.look_at("first").await;
    w.account.clear_faults();
    w.advance_horizon();
    wait_gone(&w.objects(), "agent", WAIT).await;
    let left: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
    assert_eq!(left, [first.id]);
}

#[rstest]
#[tokio::test]
async fn lists_go_on_after_the_clock_was_set_back(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    w.jump(-HOUR * 5);
    w.account.use_token(&token.id, w.now());
    w.polls(1).await;
    eventually("its use shows", WAIT, || async {
        let status = w.resource("agent").await.status.unwrap();
        status.last_used_at.ok_or(status.conditions)
    })
    .await;
}
