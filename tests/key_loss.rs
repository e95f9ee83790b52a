//! A token that was deleted at DataFast, and a key that is no longer in its Secret, are replaced.

use datafast_harness::eventually;
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, text_in,
};

#[rstest]
#[tokio::test]
async fn a_token_deleted_at_datafast_is_replaced(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.account.delete_behind_back(&before.token.id);
    let after = w.issued_alone("agent").await;
    assert_eq!(after.token.permissions, before.token.permissions);
    w.event("agent", "TokenVanished").await;
    w.horizon_passes().await;
    assert_eq!(w.issued_alone("agent").await.token.id, after.token.id, "it has come to rest");
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

#[rstest]
#[tokio::test]
async fn a_deleted_secret_gets_a_new_key_and_the_old_token_an_overlap(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.delete_secret("agent").await;
    let after = w.issued("agent").await;
    assert_eq!(
        after.retiring(),
        std::slice::from_ref(&before.token.id),
        "who still has the old key goes on for a while"
    );
    w.event("agent", "KeyLost").await;
    let status = after.resource.status.unwrap();
    let retiring = &status.retiring[0];
    assert_eq!(retiring.display_key.as_ref(), Some(&before.token.display_key));
    let stays = retiring.revoke_after.as_ref().unwrap().0.duration_since(status.issued_at.as_ref().unwrap().0);
    // From when the Secret's write was answered.
    assert!(stays >= SignedDuration::from_hours(1), "{stays:#}");
    w.polls(2).await;
    assert_eq!(w.issued_tokens().len(), 2);
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

#[rstest]
#[tokio::test]
async fn without_an_overlap_the_token_of_a_lost_key_goes_at_once(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let before = w.issued("agent").await;
    w.delete_secret("agent").await;
    let after = w.issued_alone("agent").await;
    assert_ne!(after.token.id, before.token.id);
    assert_eq!(after.retiring(), [""; 0]);
}

#[rstest]
#[tokio::test]
async fn a_changed_key_is_replaced(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let before = w.issued("agent").await;
    w.patch_secret("agent", json!({ "stringData": { "token": "dft_changeme" } })).await;
    let after = w.issued_alone("agent").await;
    assert_ne!(after.token.id, before.token.id);
    w.event("agent", "KeyLost").await;
}

#[rstest]
#[tokio::test]
async fn an_entry_that_is_gone_is_a_lost_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let before = w.issued("agent").await;
    w.patch_secret("agent", json!({ "data": { "token": null } })).await;
    assert_ne!(w.issued_alone("agent").await.token.id, before.token.id);
}

#[rstest]
#[tokio::test]
async fn other_entries_are_put_right_with_the_same_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let secret = json!({ "data": { "env": "T=$(TOKEN)" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": secret })).await;
    let before = w.issued("agent").await;
    w.patch_secret("agent", json!({ "stringData": { "env": "nonsense" } })).await;
    eventually("the entry is right again", WAIT, || async {
        let env = text_in(&w.secret("agent").await, "env");
        if env == format!("T={}", before.token.key) { Ok(()) } else { Err(env) }
    })
    .await;
    assert_eq!(w.issued("agent").await.token.id, before.token.id);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_tool_that_fights_over_a_secret_is_slowed_down(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    w.issued("agent").await;
    w.delete_secret("agent").await;
    let issued = w.issued_alone("agent").await;
    let since = issued.resource.status.unwrap().issued_at.unwrap().0;
    w.delete_secret("agent").await;
    let ready = w.says("agent", "Throttled").await;
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains(&Timestamp::now().strftime("%Y-%m-%dT").to_string()), "{}", ready.message);
    assert_eq!(w.posts(), 2);

    let again = eventually("it goes on after a minute", WAIT, || async { (w.posts() == 3).then(Timestamp::now) }).await;
    assert!(again.duration_since(since) >= SignedDuration::from_secs(55), "from {since} to {again}");
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn a_secret_that_waits_for_somebodys_finalizer_is_not_lost_yet(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let before = w.issued("agent").await;
    w.patch_secret("agent", json!({ "metadata": { "finalizers": ["example.com/hold"] } })).await;
    w.delete_secret("agent").await;
    w.polls(2).await;
    assert_eq!(w.posts(), 1);
    w.patch_secret("agent", json!({ "metadata": { "finalizers": null } })).await;
    let after = w.issued_alone("agent").await;
    assert_ne!(after.token.id, before.token.id);
    assert_eq!(w.posts(), 2);
}
