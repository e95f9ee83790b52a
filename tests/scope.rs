//! What happens when the spec changes.

use std::collections::BTreeSet;

use datafast_harness::eventually;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, text_in,
};

#[rstest]
#[tokio::test]
async fn another_scope_is_another_token_and_without_overlap_the_old_one_goes(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    let rotation = json!({ "overlap": "0s" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let before = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["analytics:read", "goals:write"], "rotation": rotation })).await;
    let after = w.issued_alone("agent").await;
    let permissions: BTreeSet<_> = after.token.permissions.iter().map(String::as_str).collect();
    assert_eq!(permissions, ["analytics:read", "goals:write"].into());
    assert_eq!(after.secret.uid(), before.secret.uid(), "readers keep their Secret");
    assert_eq!(after.retiring(), [""; 0]);
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[tokio::test]
async fn the_old_token_of_another_scope_stays_for_the_overlap() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    let after = w.issued("agent").await;
    assert_eq!(after.token.permissions, ["goals:read"]);
    assert_eq!(after.retiring(), std::slice::from_ref(&before.token.id));
    w.polls(2).await;
    assert!(w.live_tokens().iter().any(|token| token.id == before.token.id));
    eventually("the account counts them", WAIT, || async {
        let tokens = w.account_resource().await.status.unwrap().tokens.unwrap();
        let counts = (tokens.managed, tokens.retiring, tokens.unclaimed, tokens.foreign);
        if counts == (1, 1, 0, 1) { Ok(()) } else { Err(counts) }
    })
    .await;
    assert_eq!((w.posts(), w.deletes()), (2, 0));

    // With the overlap gone, so is the old token.
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } })).await;
    let last = w.issued_alone("agent").await;
    assert_eq!(last.token.id, after.token.id);
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

#[tokio::test]
async fn websites_and_name_are_part_of_the_scope() {
    let w = World::new().await;
    let rotation = json!({ "overlap": "0s" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let first = w.issued("agent").await.token;
    let websites = json!(["65f1c0ffee0123456789abcd"]);
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation, "websiteIds": websites })).await;
    let second = w.issued_alone("agent").await.token;
    assert_ne!(second.id, first.id);
    assert_eq!(second.website_ids, ["65f1c0ffee0123456789abcd"]);
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation, "tokenName": "Renamed" })).await;
    let third = w.issued_alone("agent").await.token;
    assert_ne!(third.id, second.id);
    assert!(third.name.unwrap().starts_with("Renamed [k8s:"));
    assert_eq!(third.website_ids, [""; 0]);
    assert_eq!(w.posts(), 3);
}

#[tokio::test]
async fn the_order_of_permissions_means_nothing() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read", "goals:read"] })).await;
    let before = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read", "analytics:read"] })).await;
    let after = w.issued("agent").await;
    assert_eq!(after.token.id, before.token.id);
    assert_eq!(after.secret.resource_version(), before.secret.resource_version());
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn a_change_of_the_template_renders_the_same_key_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let template = json!({ "labels": { "a": "1" }, "annotations": { "b": "1" }, "data": { "c": "$(TOKEN)" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": template })).await;
    let before = w.issued("agent").await;
    let template = json!({ "labels": { "x": "2" }, "annotations": { "y": "2" }, "data": { "z": "<$(TOKEN)>" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": template })).await;
    eventually("the Secret is rendered again", WAIT, || async {
        let secret = w.secret("agent").await;
        let is_new = secret.labels().get("x").is_some_and(|value| value == "2")
            && secret.annotations().get("y").is_some_and(|value| value == "2")
            && text_in(&secret, "z") == format!("<{}>", before.token.key);
        if is_new { Ok(()) } else { Err(secret.metadata) }
    })
    .await;
    let after = w.issued("agent").await;
    assert_eq!((&after.token.id, after.secret.uid()), (&before.token.id, before.secret.uid()));
    let entries: Vec<_> = after.secret.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(entries, ["token", "z"], "an entry that is asked for no longer may hold the key");
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_change_of_the_entry_moves_the_key(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": { "key": "DATAFAST_TOKEN" } })).await;
    let after = w.issued("agent").await;
    assert_eq!(text_in(&after.secret, "DATAFAST_TOKEN"), before.token.key);
    let entries: Vec<_> = after.secret.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(entries, ["DATAFAST_TOKEN"]);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn entry_and_scope_can_change_together(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let rotation = json!({ "overlap": "0s" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    w.issued("agent").await;
    let secret = json!({ "key": "KEY", "data": { "token": "not $$(TOKEN)" } });
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": rotation, "secret": secret })).await;
    let after = w.issued_alone("agent").await;
    assert_eq!(after.token.permissions, ["goals:read"]);
    assert_eq!(text_in(&after.secret, "token"), "not $(TOKEN)");
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}
