//! `status.history`: what happened to a resource's keys, for whoever asks next month.

use datafast_harness::eventually;
use datafast_operator::api::{HistoryEntry, names};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;

use crate::quiet::{settled, written};
use crate::world::{
    Clocked, Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, key_in,
};

/// What is told of a resource's keys.
async fn told(w: &Clocked, name: &str) -> Vec<HistoryEntry> {
    w.resource(name).await.status.unwrap().history
}

/// What happened, to which token, and why.
fn what(entries: &[HistoryEntry]) -> Vec<(&str, &str, &str)> {
    entries.iter().map(|entry| (entry.what.as_str(), entry.token_id.as_str(), entry.cause.as_str())).collect()
}

/// Waits until so much is told.
async fn tells(w: &Clocked, name: &str, number: usize) -> Vec<HistoryEntry> {
    eventually(&format!("{number} entries"), WAIT, || async {
        let told = told(w, name).await;
        if told.len() >= number { Ok(told) } else { Err(told) }
    })
    .await
}

async fn rotate(w: &Clocked, value: &str, before: &Issued) -> Issued {
    w.annotate("agent", json!({ names::ROTATE: value })).await;
    w.renewed("agent", before).await
}

#[rstest]
#[tokio::test]
async fn status_tells_of_each_key_when_it_came_when_it_went_and_why(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let mut w = Clocked::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "30m" } })).await;
    let first = w.issued("agent").await;
    assert_eq!(what(&tells(&w, "agent", 1).await), [("Issued", first.token.id.as_str(), "New")]);
    let second = rotate(&w, "please", &first).await;
    // Another process revokes the former one.
    w.stop().await;
    w.start().await;
    w.advance(SignedDuration::from_mins(31));
    w.look_at("agent").await;
    w.issued_alone("agent").await;
    let told = tells(&w, "agent", 3).await;
    let (old, new) = (first.token.id.as_str(), second.token.id.as_str());
    assert_eq!(what(&told), [("Issued", old, "New"), ("Rotated", new, "RotateRequested"), ("Revoked", old, "Retired")]);
    let shown: Vec<_> = told.iter().map(|entry| entry.display_key.as_deref().unwrap()).collect();
    assert_eq!(shown, [&*first.token.display_key, &second.token.display_key, &first.token.display_key]);
    let issued_at = second.resource.status.as_ref().unwrap().issued_at.as_ref().unwrap().0;
    assert_eq!(told[1].at.0, issued_at);
    assert!(told[2].at.0 >= issued_at + SignedDuration::from_mins(30));
    let text = serde_json::to_string(&w.resource("agent").await).unwrap();
    for issued in [&first, &second] {
        assert!(!text.contains(&key_in(&issued.secret, &issued.resource)), "a raw key");
    }

    let before = settled(&w, async || w.polls(1).await).await;
    w.polls(3).await;
    w.stop().await;
    w.start().await;
    w.polls(2).await;
    assert_eq!(written(&w).await, before, "nothing is written for it alone");
}

#[rstest]
#[tokio::test]
async fn a_token_that_somebody_deletes_at_datafast_is_told_to_have_vanished(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let first = w.issued("agent").await;
    w.advance_horizon();
    assert!(w.account.delete_behind_back(&first.token.id));
    w.polls(2).await;
    let second = w.renewed("agent", &first).await;
    let told = tells(&w, "agent", 3).await;
    let mut ends = what(&told[1..]);
    ends.sort_unstable();
    assert_eq!(
        ends,
        [("Revoked", first.token.id.as_str(), "Vanished"), ("Rotated", second.token.id.as_str(), "Vanished")]
    );
}
