//! `whenUnused`: a token that nobody uses is reported, or ends; what is not known is no reason for either.

use datafast_harness::{condition, eventually, wait_gone};
use datafast_operator::api::{DataFastAccessToken, names};
use datafast_sandbox::{Fault, FaultBody, Kind, Operation};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::quiet::{settled, written};
use crate::world::{Clocked, Issued, WAIT};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn spec(action: &str) -> Value {
    json!({ "permissions": ["analytics:read"], "whenUnused": { "after": "24h", "action": action } })
}

async fn issued(w: &Clocked, name: &str, action: &str) -> Issued {
    w.apply(name, spec(action)).await;
    w.issued(name).await
}

fn unused_since(resource: &DataFastAccessToken) -> Option<Timestamp> {
    resource.status.as_ref()?.unused_since.as_ref().map(|time| time.0)
}

fn issued_at(issued: &Issued) -> Timestamp {
    issued.resource.status.as_ref().unwrap().issued_at.as_ref().unwrap().0
}

/// A day passes, and what a list needs to tell that nobody used a token then.
async fn a_day_passes(w: &Clocked, names: &[&str]) {
    w.advance(DAY);
    w.advance_horizon();
    w.polls(2).await;
    for name in names {
        w.look_at(name).await;
    }
}

/// Waits until the account tells of so many tokens that nobody uses.
async fn counts(w: &Clocked, number: i32) {
    eventually(&format!("{number} unused"), WAIT, || async {
        w.polls(1).await;
        let tokens = w.account_resource().await.status.and_then(|status| status.tokens);
        if tokens.as_ref().is_some_and(|tokens| tokens.unused == number) { Ok(()) } else { Err(tokens) }
    })
    .await;
}

#[tokio::test]
async fn what_nobody_uses_is_reported_once_and_goes_on_working() {
    let mut w = Clocked::new().await;
    let token = issued(&w, "agent", "Report").await;
    w.advance(DAY - SignedDuration::from_hours(1));
    w.polls(1).await;
    assert_eq!(unused_since(&w.look_at("agent").await), None, "not before its time");
    w.advance(SignedDuration::from_hours(1));
    a_day_passes(&w, &["agent"]).await;
    let since = eventually("it is reported", WAIT, || async {
        let resource = w.resource("agent").await;
        unused_since(&resource).ok_or(resource.status)
    })
    .await;
    assert_eq!(since, issued_at(&token));
    assert!(w.event("agent", "Unused").await.contains("No key of it has been used"));
    let now = w.issued_alone("agent").await;
    assert_eq!(now.token.id, token.token.id);
    assert!(condition(&now.resource, "Ready").unwrap().message.contains("spec.whenUnused"));
    counts(&w, 1).await;

    let before = settled(&w, async || w.polls(1).await).await;
    w.polls(2).await;
    w.stop().await;
    w.start().await;
    w.polls(2).await;
    assert_eq!(written(&w).await, before, "it is told once");

    assert!(w.account.use_token(&token.token.id, w.now()));
    w.polls(1).await;
    eventually("it is used", WAIT, || async {
        let resource = w.resource("agent").await;
        if unused_since(&resource).is_none() { Ok(()) } else { Err(resource.status) }
    })
    .await;
    counts(&w, 0).await;
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[tokio::test]
async fn what_nobody_uses_is_revoked_with_its_secret_until_a_new_one_is_asked_for() {
    let mut w = Clocked::new().await;
    let mut spec = spec("Revoke");
    spec["deletionPolicy"] = json!("Retain");
    w.apply("agent", spec).await;
    let token = w.issued("agent").await;
    let used = issued(&w, "used", "Revoke").await;
    w.advance(DAY / 2);
    assert!(w.account.use_token(&used.token.id, w.now()));
    w.advance(DAY / 2);
    w.advance_horizon();
    w.polls(2).await;
    w.look_at("agent").await;
    let ready = w.says("agent", "Unused").await;
    assert_eq!(ready.status, "False", "{ready:?}");
    wait_gone(&w.secrets(), "agent", WAIT).await;
    eventually("nothing is left", WAIT, || async {
        let status = w.resource("agent").await.status.unwrap();
        if status.token_id.is_none() { Ok(()) } else { Err(status) }
    })
    .await;
    let live: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
    assert_eq!(live, [used.token.id], "the other one was used");
    assert!(w.event("agent", "Revoked").await.contains("Unused"));
    let resource = w.resource("agent").await;
    for other in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&resource, other), None, "it is as it is to be");
    }
    let last = resource.status.unwrap().history.pop().unwrap();
    assert_eq!((&*last.what, &*last.token_id, &*last.cause), ("Revoked", &*token.token.id, "Unused"));

    let (before, posts) = (settled(&w, async || w.polls(1).await).await, w.posts());
    w.stop().await;
    w.start().await;
    w.polls(3).await;
    assert_eq!((written(&w).await, w.posts()), (before, posts), "it stays so");
    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    w.look_at("agent").await;
    w.says("agent", "Unused").await;
    assert_eq!(w.posts(), posts);

    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let again = w.renewed("agent", &token).await;
    assert_eq!((unused_since(&again.resource), w.posts()), (None, posts + 1));
    w.polls(1).await;
    assert_eq!(w.issued("agent").await.token.id, again.token.id);
}

#[tokio::test]
async fn a_datafast_that_is_away_is_no_reason_to_revoke() {
    let w = Clocked::new().await;
    let token = issued(&w, "agent", "Revoke").await;
    let down = Kind::Status { status: 503, body: FaultBody::default() };
    w.set_fault(Fault::new(Operation::Any, down));
    w.advance(DAY * 2);
    w.look_at("agent").await;
    assert_eq!(w.deletes(), 0);
    assert_eq!(w.secret("agent").await.data, token.secret.data);
    // Meanwhile it was used, which nobody could see.
    assert!(w.account.use_token(&token.token.id, w.now()));
    w.account.clear_faults();
    w.polls(2).await;
    assert_eq!(w.issued("agent").await.token.id, token.token.id);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[tokio::test]
async fn a_token_that_the_credential_cannot_see_is_not_revoked_for_that() {
    let w = Clocked::new().await;
    let token = issued(&w, "agent", "Revoke").await;
    w.advance_horizon();
    w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::ListOwn));
    let other = w.another_credential();
    w.set_credential(&other).await;
    w.polls(2).await;
    a_day_passes(&w, &["agent"]).await;
    a_day_passes(&w, &["agent"]).await;
    assert!(w.live_tokens().iter().any(|live| live.id == token.token.id));
    assert_eq!((w.posts(), w.deletes()), (1, 0));
    assert_eq!(w.secret("agent").await.data, token.secret.data);
}

#[tokio::test]
async fn an_operator_that_dies_between_the_two_ends_goes_on() {
    let mut w = Clocked::new().await;
    let token = issued(&w, "agent", "Revoke").await;
    // Its revocation takes effect, and nobody hears of it.
    let hold = w.set_fault(Fault::new(Operation::DeleteAccessToken, Kind::Hold).after_effect().once());
    w.advance(DAY);
    w.advance_horizon();
    w.polls(2).await;
    w.look_at("agent").await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request to revoke it");
    let status = w.resource("agent").await.status.unwrap();
    assert_eq!(status.token_id.as_ref(), Some(&token.token.id), "status tells of its end before it is told to be over");
    assert_eq!(status.unused_since.unwrap().0, issued_at(&token));
    w.account.release(hold);
    w.stop().await;
    w.start().await;
    w.advance_horizon();
    w.polls(3).await;
    wait_gone(&w.secrets(), "agent", WAIT).await;
    w.says("agent", "Unused").await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!(w.posts(), 1);
}
