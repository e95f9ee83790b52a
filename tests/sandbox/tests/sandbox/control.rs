//! The control endpoint over HTTP, and the request log.

use datafast_sandbox::{AccountOptions, ForeignToken, Operation};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{OTHER_SITE, SITE, World};

async fn control(world: &World, method: Method, path: &str, body: Option<Value>) -> Value {
    let request = world.http.request(method, format!("{}{path}", world.sandbox.control_url()));
    let request = if let Some(body) = body { request.json(&body) } else { request };
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.status());
    let text = response.text().await.unwrap();
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

#[tokio::test]
async fn an_account_is_made_inspected_and_changed_over_http() {
    let world = World::new().await;
    let made = control(&world, Method::POST, "/accounts", Some(json!({ "name": "b", "tokenLimit": 5 }))).await;
    let credential = made["credential"].as_str().unwrap();
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", credential)).await, 200);
    assert_eq!(control(&world, Method::GET, "/accounts", None).await, json!(["account-1", "b"]));

    let foreign = json!({ "name": "a person's", "permissions": ["goals:read"], "createdAt": "2026-01-02T03:04:05Z" });
    let id = control(&world, Method::POST, "/accounts/b/tokens", Some(foreign)).await["id"].clone();
    let id = id.as_str().unwrap();
    control(&world, Method::POST, &format!("/accounts/b/tokens/{id}/use"), None).await;
    let tokens = control(&world, Method::GET, "/accounts/b/tokens", None).await;
    assert_eq!(tokens[1]["createdAt"], "2026-01-02T03:04:05Z");
    assert_eq!((&tokens[1]["live"], &tokens[1]["createdBy"]), (&json!(true), &json!(null)));
    assert!(tokens[1]["lastUsedAt"].is_string() && tokens[1]["key"].as_str().unwrap().starts_with("dft_"));
    control(&world, Method::DELETE, &format!("/accounts/b/tokens/{id}"), None).await;
    assert_eq!(control(&world, Method::GET, "/accounts/b/tokens", None).await[1]["live"], false);

    let replaced = control(&world, Method::POST, "/accounts/b/credential", Some(json!({}))).await;
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", credential)).await, 401);
    let credential = replaced["credential"].as_str().unwrap();
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", credential)).await, 200);
    control(&world, Method::DELETE, "/accounts/b/credential", None).await;
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", credential)).await, 401);
    let key = control(&world, Method::POST, "/accounts/b/website-keys", None).await["key"].clone();
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", key.as_str().unwrap())).await, 403);
}

#[tokio::test]
async fn what_an_account_had_comes_back_with_its_keys() {
    let world = World::new().await;
    let by_hand = world.account.add_token(ForeignToken::default());
    world.account.add_website_key();
    world.account.delete_behind_back(&by_hand);
    let (tokens, keys) = (world.account.tokens(), world.account.website_keys());
    let (credential, id) = (world.account.credential(), world.account.credential_id());

    let other = world.sandbox.account(AccountOptions { name: Some("account-1".to_owned()), ..Default::default() });
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", &credential)).await, 401);
    other.restore(&[tokens.clone(), keys.clone()].concat());
    assert_eq!((other.tokens(), other.website_keys()), (tokens, keys));
    assert_eq!((other.credential(), other.credential_id()), (credential.clone(), id));
    assert_eq!(world.status(world.request(Method::GET, "/access-tokens", &credential)).await, 200);
}

#[tokio::test]
async fn website_keys_are_added_inspected_and_changed_over_http() {
    let world = World::new().await;
    let keys = format!("/accounts/account-1/websites/{SITE}/keys");
    let foreign = json!({ "name": "a person's", "createdAt": "2026-01-02T03:04:05Z", "hidden": true });
    let id = control(&world, Method::POST, &keys, Some(foreign)).await["id"].as_str().unwrap().to_owned();
    let used = json!({ "at": "2026-02-03T04:05:06Z" });
    control(&world, Method::POST, &format!("{keys}/{id}/use"), Some(used)).await;
    let rolled = control(&world, Method::POST, &format!("{keys}/{id}/roll"), None).await["key"].clone();
    let shown = control(&world, Method::GET, &keys, None).await;
    assert_eq!((&shown[0]["id"], &shown[0]["key"]), (&json!(id), &rolled));
    assert_eq!((&shown[0]["createdAt"], &shown[0]["name"]), (&json!("2026-01-02T03:04:05Z"), &json!("a person's")));
    assert_eq!((&shown[0]["lastUsedAt"], &shown[0]["websiteId"]), (&json!("2026-02-03T04:05:06Z"), &json!(SITE)));
    assert!(world.listed_keys().await.is_empty(), "it is hidden");

    // Another website has no such key, and no such key is changed through it.
    let others = format!("/accounts/account-1/websites/{OTHER_SITE}/keys");
    assert_eq!(control(&world, Method::GET, &others, None).await, json!([]));
    for (method, path) in [(Method::DELETE, ""), (Method::POST, "/use"), (Method::POST, "/roll")] {
        let url = format!("{}{others}/{id}{path}", world.sandbox.control_url());
        assert_eq!(world.status(world.http.request(method, url)).await, 404, "{path}");
    }
    control(&world, Method::DELETE, &format!("{keys}/{id}"), None).await;
    assert_eq!(control(&world, Method::GET, &keys, None).await[0]["live"], false);
}

#[tokio::test]
async fn faults_are_set_shown_and_cleared_over_http() {
    let world = World::new().await;
    let faults = [
        json!({ "operation": "list", "kind": "rateLimited", "retryAfter": { "seconds": 3 }, "times": 1 }),
        json!({ "operation": "list_access_tokens", "kind": "status", "status": 500, "body": { "type": "html" } }),
        json!({ "operation": "delete", "kind": "drop", "moment": "after", "account": "account-1" }),
        json!({ "kind": "latency", "ms": 1 }),
        json!({ "kind": "listLag", "seconds": 1.5 }),
        json!({ "operation": "create", "kind": "wire", "wire": "idSpelling" }),
        json!({ "operation": "create", "kind": "hang" }),
        json!({ "operation": "list_website_keys", "kind": "drop", "website": SITE }),
        json!({ "operation": "create_website_key", "kind": "drop" }),
        json!({ "operation": "roll_website_key", "kind": "drop" }),
        json!({ "operation": "delete_website_key", "kind": "drop" }),
    ];
    let mut ids = Vec::new();
    for fault in &faults {
        ids.push(control(&world, Method::POST, "/faults", Some(fault.clone())).await["id"].clone());
    }
    let shown = control(&world, Method::GET, "/faults", None).await;
    assert_eq!(shown.as_array().unwrap().len(), faults.len());
    assert_eq!(shown[7]["fault"]["website"], SITE);
    assert_eq!(world.status(world.list()).await, 429);
    assert_eq!(world.status(world.list()).await, 500);
    control(&world, Method::DELETE, &format!("/faults/{}", ids[1]), None).await;
    assert_eq!(world.status(world.list()).await, 200);
    control(&world, Method::DELETE, "/faults", None).await;
    assert_eq!(control(&world, Method::GET, "/faults", None).await, json!([]));
    let hold = control(&world, Method::POST, "/faults", Some(json!({ "kind": "hold" }))).await["id"].clone();
    let held = tokio::spawn(world.list().send());
    control(&world, Method::POST, &format!("/faults/{hold}/release"), None).await;
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_rate_window_is_set_spent_and_ended_over_http() {
    let world = World::new().await;
    let window = "/accounts/account-1/window";
    assert_eq!(control(&world, Method::GET, window, None).await, json!(null));
    let spend = world.http.post(format!("{}{window}/spend", world.sandbox.control_url()));
    assert_eq!(world.status(spend.json(&json!({ "calls": 1 }))).await, 404, "there is nothing to spend from");
    let reset = world.http.post(format!("{}{window}/reset", world.sandbox.control_url()));
    assert_eq!(world.status(reset).await, 404);

    let terms = json!({ "limit": 3, "seconds": 3600, "resetInSeconds": true, "retryAfter": true });
    control(&world, Method::PUT, window, Some(terms)).await;
    let fresh = json!({ "limit": 3, "remaining": 3, "reset": null });
    assert_eq!(control(&world, Method::GET, window, None).await, fresh);
    control(&world, Method::POST, &format!("{window}/spend"), Some(json!({ "calls": 3 }))).await;
    let shown = control(&world, Method::GET, window, None).await;
    assert_eq!((&shown["remaining"], shown["reset"].is_i64()), (&json!(0), true));
    let refused = world.list().send().await.unwrap();
    assert!(refused.status() == 429 && refused.headers().contains_key("retry-after"));
    control(&world, Method::POST, &format!("{window}/reset"), None).await;
    assert_eq!(world.status(world.list()).await, 200);
    control(&world, Method::DELETE, window, None).await;
    assert_eq!(control(&world, Method::GET, window, None).await, json!(null));

    let options = json!({ "name": "b", "rateWindow": { "limit": 7 } });
    control(&world, Method::POST, "/accounts", Some(options)).await;
    assert_eq!(control(&world, Method::GET, "/accounts/b/window", None).await["limit"], 7);
}

#[tokio::test]
async fn the_log_tells_what_came_in_and_what_it_did() {
    let world = World::new().await;
    let created = world.created().await;
    world.status(world.list()).await;
    world.status(world.delete("none")).await;
    world.status(world.request(Method::GET, "/access-tokens", "dft_of_nobody_at_all")).await;
    let log = control(&world, Method::GET, "/requests?account=account-1", None).await;
    assert_eq!(log.as_array().unwrap().len(), 3);
    let first = &log[0];
    assert_eq!(first["operation"], "create_access_token");
    assert_eq!((&first["status"], &first["effect"], &first["name"]), (&json!(200), &json!(true), &json!("a")));
    assert_eq!(first["tokenId"], created["_id"]);
    assert_eq!(first["bearer"], world.account.live_tokens()[0].display_key);
    assert_eq!((&log[2]["status"], &log[2]["effect"]), (&json!(404), &json!(false)));
    assert!(!log.to_string().contains(&world.account.credential()));

    assert_eq!(world.account.count(Operation::ListAccessTokens), 1);
    assert_eq!(control(&world, Method::GET, "/counts", None).await["list_access_tokens"], 2);
    control(&world, Method::DELETE, "/requests", None).await;
    assert!(world.sandbox.requests().is_empty() && world.account.counts().is_empty());
}

#[tokio::test]
async fn the_log_tells_which_website_key_a_call_changed() {
    let world = World::new().await;
    let created = world.created_key().await;
    let id = created["_id"].as_str().unwrap();
    world.status(world.list_keys(SITE)).await;
    world.status(world.roll_key(SITE, id)).await;
    world.status(world.delete_key(SITE, id)).await;
    world.status(world.roll_key(SITE, id)).await;
    world.status(world.create_key("nowhere", &json!({ "name": "k" }))).await;
    let (id, name) = (Some(id), Some("k"));
    let expected = [
        (Operation::CreateWebsiteKey, Some(200), true, id, name),
        (Operation::ListWebsiteKeys, Some(200), false, None, None),
        (Operation::RollWebsiteKey, Some(200), true, id, name),
        (Operation::DeleteWebsiteKey, Some(200), true, id, name),
        (Operation::RollWebsiteKey, Some(404), false, id, None),
        (Operation::CreateWebsiteKey, Some(404), false, None, name),
    ];
    for (request, expected) in world.account.requests().iter().zip(expected) {
        let (id, name) = (request.token_id.as_deref(), request.name.as_deref());
        assert_eq!((request.operation.unwrap(), request.status, request.effect, id, name), expected);
    }
    let counts = control(&world, Method::GET, "/counts", None).await;
    let calls = json!({
        "create_website_key": 2, "list_website_keys": 1, "roll_website_key": 2, "delete_website_key": 1
    });
    assert_eq!(counts, calls);

    let old = created["key"].as_str().unwrap();
    assert_eq!(world.status(world.list_keys_as(old, SITE)).await, 401);
    let request = world.account.requests().pop().unwrap();
    assert_eq!(request.bearer.as_deref(), created["displayKey"].as_str(), "it had been the account's");
}

#[tokio::test]
async fn foreign_tokens_can_have_a_creator_who_may_delete_them() {
    let world =
        World::with(AccountOptions { credential: Some("dft_of_choice_0000".into()), ..Default::default() }).await;
    assert_eq!(world.account.credential(), "dft_of_choice_0000");
    let created_by = Some(world.account.credential_id());
    let id = world.account.add_token(ForeignToken { created_by, ..ForeignToken::default() });
    assert_eq!(world.status(world.delete(&id)).await, 200);
}
