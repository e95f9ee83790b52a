//! Import: a Secret that names a token is taken over instead of issuing, if the token is rightly its own.

use data_encoding::BASE64;
use datafast_harness::{condition, eventually, wait_gone};
use datafast_operator::api::names;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::PostParams};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, text_in,
};

#[rstest]
#[tokio::test]
async fn a_token_made_by_hand_is_taken_over_and_then_managed(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": key })).await;
    let template = json!({ "labels": { "team": "growth" }, "data": { "env": "T=$(TOKEN)" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": template })).await;
    let issued = w.issued("agent").await;
    assert_eq!((&issued.token.id, &issued.token.key), (&id, &key));
    assert_eq!(issued.resource.status.unwrap().token_name, issued.token.name);
    assert_eq!(issued.secret.labels()[names::MANAGED_BY], names::MANAGER);
    assert_eq!(issued.secret.labels()["team"], "growth");
    assert_eq!(text_in(&issued.secret, "env"), format!("T={key}"));
    assert_eq!(w.posts(), 0);

    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert!(!w.live_tokens().iter().any(|token| token.id == id), "it was the operator's own by then");
}

#[rstest]
#[tokio::test]
async fn a_token_of_any_scope_can_prove_itself(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    // It may not ask for the account: DataFast knows it all the same.
    let (id, key) = w.made_by_hand(&["goals:read"]);
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": key })).await;
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    assert_eq!(w.issued("agent").await.token.id, id);
    assert_eq!(w.posts(), 0);
}

/// As people make Secrets: from files that end in a line break, that an editor of Windows has written, and so on.
#[rstest]
#[tokio::test]
async fn white_space_around_a_key_is_no_part_of_it(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
    #[values(("", "\n"), ("", "\r\n"), ("\u{feff}", "\r\n"), ("  ", " \t"))] (before, after): (&str, &str),
) {
    let w = World::of(kind).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    let entry = format!("{before}{key}{after}");
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": entry })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": { "data": { "env": "T=$(TOKEN)" } } })).await;
    let issued = w.issued("agent").await;
    assert_eq!((&issued.token.id, &issued.token.key), (&id, &key));
    assert_eq!(text_in(&issued.secret, "token"), key, "consumers get it as it is");
    assert_eq!(text_in(&issued.secret, "env"), format!("T={key}"));
    w.polls(1).await;
    assert_eq!(w.issued("agent").await.secret, issued.secret, "it has come to rest");
    assert_eq!(w.posts(), 0);
}

#[rstest]
#[tokio::test]
async fn what_else_is_in_an_imported_secret_stays(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    let data = json!({ "token": key, "config.yaml": "a: b" });
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), data).await;
    let spec = |secret: serde_json::Value| json!({ "permissions": ["analytics:read"], "secret": secret });
    w.apply("agent", spec(json!({ "data": { "env": "T=$(TOKEN)" } }))).await;
    let imported = w.issued("agent").await;
    let entries = |secret: &Secret| secret.data.iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(entries(&imported.secret), ["config.yaml", "env", "token"]);

    w.apply("agent", spec(json!({ "key": "KEY" }))).await;
    let moved = w.issued("agent").await;
    assert_eq!(moved.token.id, id);
    assert_eq!(entries(&moved.secret), ["KEY", "config.yaml"], "the key has moved, and what is not asked for is gone");

    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let rotated = w.renewed("agent", &moved).await;
    assert_eq!(entries(&rotated.secret), ["KEY", "config.yaml"]);
    assert_eq!(text_in(&rotated.secret, "config.yaml"), "a: b");
}

/// Applies a resource with a Secret that asks for what it must not get: both stay as they are, and the message has this
/// word.
async fn is_refused(w: &World, id: &str, data: serde_json::Value, word: &str) {
    let secret = w.create_secret("agent", json!({ names::TOKEN_ID: id }), data).await;
    let posts = w.posts();
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    // The account may have been listed before the token was made.
    let ready = eventually(&format!("it says {word:?}"), WAIT, || async {
        let ready = w.says("agent", "SecretConflict").await;
        if ready.message.contains(word) { Ok(ready) } else { Err(ready.message) }
    })
    .await;
    assert_eq!(ready.status, "False");
    let resource = w.resource("agent").await;
    assert!(condition(&resource, "Stalled").is_some_and(|stalled| stalled.status == "True"), "{:?}", resource.status);
    assert_eq!(resource.status.unwrap().token_id, None);
    w.event("agent", "SecretConflict").await;
    w.polls(2).await;
    assert_eq!(w.secret("agent").await, secret, "it is left as it is");
    assert_eq!((w.posts(), w.deletes()), (posts, 0));
}

#[tokio::test]
async fn a_token_of_another_scope_is_not_taken_over() {
    let w = World::new().await;
    let (id, key) = w.made_by_hand(&["goals:read", "analytics:read"]);
    is_refused(&w, &id, json!({ "token": key }), "permissions").await;
}

#[rstest]
#[tokio::test]
async fn a_key_of_another_token_is_no_proof(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let ((id, _), (_, other)) = (w.made_by_hand(&["analytics:read"]), w.made_by_hand(&["analytics:read"]));
    is_refused(&w, &id, json!({ "token": other }), &id).await;
}

#[rstest]
#[tokio::test]
async fn a_made_up_key_with_the_right_ends_is_no_proof(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    let forged = format!("{}{}{}", &key[..7], "x".repeat(33), &key[key.len() - 4..]);
    is_refused(&w, &id, json!({ "token": forged }), &id).await;
}

#[rstest]
#[tokio::test]
async fn a_token_that_is_not_there_is_not_taken_over(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (_, key) = w.made_by_hand(&["analytics:read"]);
    is_refused(&w, "65f1c0ffee0123456789abcd", json!({ "token": key }), "65f1c0ffee0123456789abcd").await;
}

#[rstest]
#[tokio::test]
async fn an_entry_without_a_key_is_not_taken_over(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    is_refused(&w, &id, json!({ "other": key }), "token").await;
}

#[rstest]
#[tokio::test]
async fn an_entry_that_is_no_key_alone_is_refused_by_what_it_is(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    type Entry = (fn(&str) -> String, &'static str);
    let entries: [Entry; 6] = [
        (|key| format!("\"{key}\""), "is in quotes"),
        (|key| format!("export DATAFAST_TOKEN=\"{key}\"\n"), "holds a line NAME=token of a .env file"),
        (|key| BASE64.encode(key.as_bytes()), "is base64 of a token: put the token itself into stringData"),
        (|key| format!("{key}\n{key}\n"), "holds more than a token"),
        (|_| " \n".to_owned(), "is empty"),
        (
            |key| key.chars().flat_map(|character| [character, '\0']).collect(),
            "holds UTF-16 text: save it as plain ASCII",
        ),
    ];
    let refusals = entries.map(|(entry, words)| async move {
        let w = World::of(kind).await;
        let (id, key) = w.made_by_hand(&["analytics:read"]);
        is_refused(&w, &id, json!({ "token": entry(&key) }), words).await;
        let resource = serde_json::to_string(&w.resource("agent").await).unwrap();
        assert!(!resource.contains(&key) && !resource.contains(&BASE64.encode(key.as_bytes())), "{resource}");
    });
    futures::future::join_all(refusals).await;
}

#[rstest]
#[tokio::test]
async fn a_token_of_another_resource_is_not_taken_over(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let other = w.neighbour().await;
    other.apply("owner", json!({ "permissions": ["analytics:read"] })).await;
    let taken = other.issued("owner").await;
    is_refused(&w, &taken.token.id, json!({ "token": taken.token.key }), &taken.token.id).await;
    let after = other.issued("owner").await;
    assert_eq!(after.resource.resource_version(), taken.resource.resource_version());
    assert_eq!(after.secret, taken.secret);
}

#[rstest]
#[tokio::test]
async fn a_conflict_ends_when_the_secret_goes(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (id, _) = w.made_by_hand(&["analytics:read"]);
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": "not-its-key" })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.says("agent", "SecretConflict").await;
    w.delete_secret("agent").await;
    assert_ne!(w.issued("agent").await.token.id, id);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_retained_secret_is_taken_over_by_its_resource_when_that_comes_back(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "deletionPolicy": "Retain" })).await;
    let before = w.issued("agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let after = w.issued("agent").await;
    assert_eq!((&after.token.id, after.secret.uid()), (&before.token.id, before.secret.uid()));
    assert_ne!(after.resource.uid(), before.resource.uid());
    assert_eq!(w.posts(), 1);

    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

/// As a backup tool does: what was in the cluster is created again, annotations and all, under new uids and without
/// status.
async fn restore(w: &World, resource: &datafast_operator::api::DataFastAccessToken, secret: &Secret) {
    let mut secret = Secret { immutable: None, ..secret.clone() };
    secret.metadata.resource_version = None;
    secret.metadata.uid = None;
    secret.metadata.managed_fields = None;
    w.secrets().create(&PostParams::default(), &secret).await.unwrap();
    let mut resource = resource.clone();
    resource.metadata.resource_version = None;
    resource.metadata.uid = None;
    resource.metadata.managed_fields = None;
    resource.metadata.finalizers = None;
    resource.status = None;
    w.objects().create(&PostParams::default(), &w.kind.write(&resource)).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_restored_backup_is_taken_over(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "deletionPolicy": "Retain" })).await;
    let backup = w.issued("agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    w.delete_secret("agent").await;
    wait_gone(&w.secrets(), "agent", WAIT).await;
    restore(&w, &backup.resource, &backup.secret).await;
    let after = w.issued("agent").await;
    assert_eq!(after.token.id, backup.token.id);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_restored_secret_of_an_earlier_token_is_replaced(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let rotation = json!({ "overlap": "0s" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let old = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": rotation })).await;
    let new = w.issued_alone("agent").await;
    assert_ne!(new.token.id, old.token.id);

    let annotations = old.secret.annotations().clone();
    w.patch_secret("agent", json!({ "metadata": { "annotations": annotations }, "data": old.secret.data })).await;
    let restored = w.secret("agent").await.resource_version();
    let after = w.issued_alone("agent").await;
    assert_eq!(after.token.permissions, ["goals:read"]);
    assert_ne!(after.secret.resource_version(), restored);
    w.horizon_passes().await;
    assert_eq!(w.issued_alone("agent").await.token.id, after.token.id, "it has come to rest");
}
