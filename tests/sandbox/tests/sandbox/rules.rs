//! What DataFast documents.

use datafast_sandbox::{AccountOptions, Website};
use reqwest::Method;
use serde_json::json;

use crate::{World, data, failure, text};

fn strings(strings: &[&str]) -> Vec<String> {
    strings.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_key_is_shown_once_and_masked_in_lists() {
    let world = World::new().await;
    let created = world.created().await;
    let key = text(&created["key"]).to_owned();
    assert!(key.starts_with("dft_") && key.len() == 44);
    assert_eq!(created["displayKey"], format!("{}...{}", &key[..7], &key[40..]));
    assert_eq!(text(&created["_id"]).len(), 24);
    assert!(text(&created["createdAt"]).ends_with('Z') && text(&created["createdAt"]).len() == 24);

    let listed = world.listed().await;
    assert_eq!(listed.len(), 2, "the credential is a token of the account too");
    assert!(listed.iter().all(|token| token.get("key").is_none()));
    assert_eq!(listed[1]["displayKey"], created["displayKey"]);
    assert_eq!(listed[1]["lastUsedAt"], json!(null));
}

#[tokio::test]
async fn omitted_fields_mean_no_name_full_access_and_all_websites() {
    let world = World::new().await;
    let token = data(world.create(&json!({})).send().await.unwrap()).await;
    assert_eq!((&token["name"], &token["permissions"]), (&json!(null), &json!(["*"])));
    assert_eq!(token["websiteIds"], json!([]));
}

#[tokio::test]
async fn a_created_token_works_until_it_is_deleted() {
    let world = World::new().await;
    let created = world.created().await;
    let (id, key) = (text(&created["_id"]), text(&created["key"]));
    assert_eq!(world.status(world.request(Method::GET, "/account", key)).await, 200);
    assert_ne!(world.listed().await[1]["lastUsedAt"], json!(null));
    let answer = data(world.delete(id).send().await.unwrap()).await;
    assert!(!text(&answer["message"]).is_empty());
    assert_eq!(world.status(world.request(Method::GET, "/account", key)).await, 401);
    assert_eq!(failure(world.delete(id)).await.0, 404);
}

#[tokio::test]
async fn unknown_missing_and_revoked_keys_are_answered_401() {
    let world = World::new().await;
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", "dft_unknown")).await, 401);
    let bare = world.http.get(format!("{}/access-tokens", world.sandbox.base_url()));
    assert_eq!(failure(bare).await.0, 401);
    world.account.revoke_credential();
    assert_eq!(world.status(world.list()).await, 401);
}

#[tokio::test]
async fn website_keys_are_answered_403_and_unknown_ones_401() {
    let world = World::new().await;
    let key = world.account.add_website_key();
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", &key)).await, 403);
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", "df_unknown")).await, 401);
}

#[tokio::test]
async fn every_call_needs_its_permission() {
    let permissions = Some(strings(&["api-keys:read"]));
    let world = World::with(AccountOptions { permissions, ..AccountOptions::default() }).await;
    assert_eq!(world.status(world.list()).await, 200);
    assert_eq!(failure(world.create(&json!({ "permissions": ["api-keys:read"] }))).await.0, 403);
    assert_eq!(failure(world.delete("65a1b2c3d4e5f60718293a01")).await.0, 403);
    for path in ["/account", "/websites"] {
        let request = world.request(Method::GET, path, &world.account.credential());
        assert_eq!(failure(request).await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn invalid_permissions_are_answered_400() {
    let world = World::new().await;
    for permissions in [json!(["nonsense:read"]), json!(["*", "goals:read"]), json!([]), json!("goals:read")] {
        let (status, message) = failure(world.create(&json!({ "permissions": permissions }))).await;
        assert_eq!(status, 400, "{permissions}");
        assert!(!message.contains("limit") && !message.contains("max"), "{message} would read as a full account");
    }
}

#[tokio::test]
async fn a_token_never_exceeds_its_creator() {
    let options = AccountOptions {
        permissions: Some(strings(&["api-keys:read", "api-keys:write", "goals:read"])),
        website_ids: strings(&["site-a", "site-b"]),
        ..AccountOptions::default()
    };
    let world = World::with(options).await;
    for (permission, websites) in [
        ("goals:write", json!(["site-a"])),
        ("*", json!(["site-a"])),
        ("goals:read", json!([])),
        ("goals:read", json!(["site-a", "site-c"])),
    ] {
        let body = json!({ "permissions": [permission], "websiteIds": websites });
        assert_eq!(failure(world.create(&body)).await.0, 403, "{body}");
    }
    let within = json!({ "permissions": ["goals:read"], "websiteIds": ["site-b"] });
    assert_eq!(world.status(world.create(&within)).await, 200);
}

#[tokio::test]
async fn an_account_holds_20_tokens() {
    let world = World::new().await;
    for _ in 0..19 {
        world.created().await;
    }
    let (status, message) = failure(world.create(&json!({ "permissions": ["goals:read"] }))).await;
    assert_eq!(status, 400);
    assert!(message.contains("limit"));
    world.account.delete_behind_back(&world.account.issued_tokens()[0].id);
    world.created().await;
}

#[tokio::test]
async fn only_the_creator_deletes_a_token() {
    let world = World::new().await;
    let creator = world.account.credential();
    let id = text(&world.created().await["_id"]).to_owned();
    assert_eq!(world.status(world.delete(&world.account.credential_id())).await, 404, "nobody created it");
    let other = data(world.create(&json!({})).send().await.unwrap()).await;
    assert_eq!(world.status(world.delete_as(text(&other["key"]), &id)).await, 404);
    assert_eq!(world.status(world.delete_as(&creator, &id)).await, 200);
}

#[tokio::test]
async fn websites_show_what_the_caller_may_touch() {
    let website = |id: &str| Website { id: id.to_owned(), domain: format!("{id}.example.com") };
    let websites = vec![website("site-a"), website("site-b")];
    let world = World::with(AccountOptions { websites, ..AccountOptions::default() }).await;
    let body = json!({ "permissions": ["websites:read"], "websiteIds": ["site-b"] });
    let limited = data(world.create(&body).send().await.unwrap()).await;
    for (key, expected) in [(world.account.credential(), 2), (text(&limited["key"]).to_owned(), 1)] {
        let body: serde_json::Value =
            world.request(Method::GET, "/websites", &key).send().await.unwrap().json().await.unwrap();
        assert_eq!(body["data"].as_array().unwrap().len(), expected);
    }
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let world = World::new().await;
    let other = world.sandbox.account(AccountOptions::default());
    let id = text(&world.created().await["_id"]).to_owned();
    assert_eq!(world.status(world.delete_as(&other.credential(), &id)).await, 404);
    assert_eq!((world.account.live_tokens().len(), other.live_tokens().len()), (2, 1));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let world = World::new().await;
    let credential = world.account.credential();
    assert_eq!(failure(world.request(Method::GET, "/elsewhere", &credential)).await.0, 404);
    assert_eq!(failure(world.request(Method::PATCH, "/access-tokens", &credential)).await.0, 405);
}
