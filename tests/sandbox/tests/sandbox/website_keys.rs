//! What DataFast documents of website keys.

use datafast_sandbox::{AccountOptions, ForeignKey, ForeignToken, Website};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{OTHER_SITE, SITE, World, data, failure, text};

const NO_ID: &str = "65a1b2c3d4e5f60718293aff";

/// Every call about the keys of a website: list, create, roll, delete.
fn calls(world: &World, key: &str, website: &str, id: &str) -> [RequestBuilder; 4] {
    [
        world.list_keys_as(key, website),
        world.create_key_as(key, website, &json!({})),
        world.roll_key_as(key, website, id),
        world.delete_key_as(key, website, id),
    ]
}

async fn statuses(world: &World, requests: [RequestBuilder; 4]) -> [u16; 4] {
    let mut statuses = [0; 4];
    for (status, request) in statuses.iter_mut().zip(requests) {
        *status = world.status(request).await;
    }
    statuses
}

/// Adds a key to the website by hand; returns its id and raw key.
fn by_hand(world: &World, website: &str) -> (String, String) {
    let id = world.account.add_website_key_of(website, ForeignKey::default());
    let key = world.account.website_keys().into_iter().find(|key| key.id == id).unwrap().key;
    (id, key)
}

fn fields(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_website_key_is_shown_once_and_masked_in_lists() {
    let world = World::new().await;
    let created = world.created_key().await;
    let key = text(&created["key"]).to_owned();
    assert!(key.starts_with("df_") && key.len() == 43);
    assert_eq!(created["displayKey"], format!("{}...{}", &key[..7], &key[39..]));
    assert_eq!((&created["name"], &created["websiteId"]), (&json!("k"), &json!(SITE)));
    assert_eq!(text(&created["_id"]).len(), 24);
    assert!(text(&created["createdAt"]).ends_with('Z') && text(&created["createdAt"]).len() == 24);
    assert_eq!(fields(&created), ["_id", "createdAt", "displayKey", "key", "lastUsedAt", "name", "websiteId"]);

    let mut expected = created.clone();
    expected.as_object_mut().unwrap().remove("key");
    assert_eq!(world.listed_keys().await, [expected]);
}

#[tokio::test]
async fn a_create_takes_only_a_name() {
    let world = World::new().await;
    let body = json!({ "permissions": ["goals:read"], "websiteIds": [OTHER_SITE] });
    let created = data(world.create_key(SITE, &body).send().await.unwrap()).await;
    assert_eq!((&created["name"], &created["websiteId"]), (&json!(null), &json!(SITE)));
    let (status, message) = failure(world.create_key(SITE, &json!({ "name": 1 }))).await;
    assert_eq!(status, 400);
    assert!(!message.contains("limit") && !message.contains("max"), "{message} would read as a full website");
}

#[tokio::test]
async fn a_roll_keeps_the_record_and_ends_the_old_key_at_once() {
    let world = World::new().await;
    let created = world.created_key().await;
    let (id, old) = (text(&created["_id"]), text(&created["key"]));
    assert_eq!(world.status(world.list_keys_as(old, SITE)).await, 200);
    let rolled = data(world.roll_key(SITE, id).send().await.unwrap()).await;
    let new = text(&rolled["key"]);
    assert!(new.starts_with("df_") && new != old);
    assert_eq!(rolled["displayKey"], format!("{}...{}", &new[..7], &new[39..]));
    for kept in ["_id", "name", "createdAt", "websiteId"] {
        assert_eq!(rolled[kept], created[kept]);
    }
    assert_eq!(fields(&rolled), fields(&created));
    assert_eq!(world.status(world.list_keys_as(old, SITE)).await, 401);
    assert_eq!(world.status(world.list_keys_as(new, SITE)).await, 200);
    let listed = world.listed_keys().await;
    assert_eq!((listed.len(), &listed[0]["displayKey"]), (1, &rolled["displayKey"]));
}

#[tokio::test]
async fn a_deleted_key_is_gone() {
    let world = World::new().await;
    let created = world.created_key().await;
    let (id, key) = (text(&created["_id"]), text(&created["key"]));
    assert_eq!(data(world.delete_key(SITE, id).send().await.unwrap()).await, json!({ "deleted": true }));
    assert!(world.listed_keys().await.is_empty());
    assert_eq!(statuses(&world, calls(&world, key, SITE, id)).await, [401; 4]);
    for request in [world.delete_key(SITE, id), world.roll_key(SITE, id)] {
        assert_eq!(failure(request).await, (404, "Website key not found".to_owned()));
    }
}

#[tokio::test]
async fn every_call_about_website_keys_needs_its_permission() {
    for (permission, expected) in [
        ("api-keys:read", [200, 403, 403, 403]),
        ("api-keys:write", [403, 200, 200, 200]),
        ("websites:write", [403, 403, 403, 403]),
        ("*", [200, 200, 200, 200]),
    ] {
        let permissions = Some(vec![permission.to_owned()]);
        let world = World::with(AccountOptions { permissions, ..AccountOptions::default() }).await;
        let (id, _) = by_hand(&world, SITE);
        let credential = world.account.credential();
        assert_eq!(statuses(&world, calls(&world, &credential, SITE, &id)).await, expected, "{permission}");
    }
}

#[tokio::test]
async fn the_callers_scope_must_cover_the_website() {
    let world = World::with(AccountOptions { website_ids: vec![SITE.to_owned()], ..AccountOptions::default() }).await;
    for (website, expected) in [(SITE, [200; 4]), (OTHER_SITE, [403; 4])] {
        let (id, _) = by_hand(&world, website);
        assert_eq!(statuses(&world, calls(&world, &world.account.credential(), website, &id)).await, expected);
    }
}

#[tokio::test]
async fn a_website_must_be_known() {
    let known = Website { id: SITE.to_owned(), domain: "shop.example.com".to_owned() };
    let upper_case = "65A1B2C3D4E5F60718293A01";
    for (websites, website, expected) in [
        (vec![known.clone()], SITE, 200),
        (vec![known], OTHER_SITE, 404),
        (vec![], OTHER_SITE, 200),
        (vec![], upper_case, 200),
        (vec![], "shop.example.com", 404),
        (vec![], &SITE[1..], 404),
        (vec![], "x5a1b2c3d4e5f60718293a01", 404),
    ] {
        let world = World::with(AccountOptions { websites, ..AccountOptions::default() }).await;
        let (id, _) = by_hand(&world, website);
        for request in calls(&world, &world.account.credential(), website, &id) {
            if expected == 200 {
                assert_eq!(world.status(request).await, 200, "{website}");
            } else {
                assert_eq!(failure(request).await, (404, "Website not found".to_owned()), "{website}");
            }
        }
    }
}

#[tokio::test]
async fn a_website_has_10_keys_hidden_ones_included() {
    let world = World::new().await;
    world.account.add_website_key_of(SITE, ForeignKey { hidden: true, ..ForeignKey::default() });
    for _ in 0..9 {
        world.created_key().await;
    }
    assert_eq!(world.listed_keys().await.len(), 9, "lists leave the hidden one out");
    let full = (400, "Website key limit reached (10 per website)".to_owned());
    assert_eq!(failure(world.create_key(SITE, &json!({}))).await, full);
    assert_eq!(world.status(world.create_key(OTHER_SITE, &json!({}))).await, 200, "each website has its own limit");
    by_hand(&world, SITE);
    assert_eq!(world.account.live_website_keys().len(), 12, "hands know no limit");

    let [first, second, ..] = &world.account.issued_website_keys()[..] else { panic!("too few") };
    assert_eq!(world.status(world.roll_key(SITE, &first.id)).await, 200, "a roll needs no room");
    world.account.delete_behind_back(&first.id);
    assert_eq!(failure(world.create_key(SITE, &json!({}))).await, full);
    world.account.delete_behind_back(&second.id);
    world.created_key().await;
}

#[tokio::test]
async fn an_account_may_have_another_limit_and_tokens_have_their_own() {
    let options = AccountOptions { token_limit: Some(2), website_key_limit: Some(1), ..AccountOptions::default() };
    let world = World::with(options).await;
    world.created_key().await;
    let message = "Website key limit reached (1 per website)".to_owned();
    assert_eq!(failure(world.create_key(SITE, &json!({}))).await, (400, message));
    world.created().await;
    assert_eq!(failure(world.create(&json!({}))).await.0, 400);
}

#[tokio::test]
async fn a_website_key_calls_the_key_routes_of_its_own_website_alone() {
    let world = World::new().await;
    let (id, key) = by_hand(&world, SITE);
    let (other, _) = by_hand(&world, OTHER_SITE);
    for (method, path) in [
        (Method::GET, "/access-tokens"),
        (Method::POST, "/access-tokens"),
        (Method::DELETE, "/access-tokens/65a1b2c3d4e5f60718293a01"),
        (Method::GET, "/account"),
        (Method::GET, "/websites"),
    ] {
        let refused = failure(world.request(method, path, &key).json(&json!({}))).await;
        assert_eq!(refused, (403, "Website keys cannot call this route".to_owned()), "{path}");
    }
    assert_eq!(statuses(&world, calls(&world, &key, OTHER_SITE, &other)).await, [403; 4]);
    assert_eq!(world.status(world.list_keys_as(&key, SITE)).await, 200);
    let made = data(world.create_key_as(&key, SITE, &json!({})).send().await.unwrap()).await;
    assert_eq!(world.account.issued_website_keys()[0].created_by.as_ref(), Some(&id));
    assert_eq!(world.status(world.delete_key_as(&key, SITE, text(&made["_id"]))).await, 200);
    let rolled = data(world.roll_key_as(&key, SITE, &id).send().await.unwrap()).await;
    assert_eq!(world.status(world.list_keys_as(&key, SITE)).await, 401, "it rolled itself");
    assert_eq!(world.status(world.list_keys_as(text(&rolled["key"]), SITE)).await, 200);
}

#[tokio::test]
async fn a_call_with_a_website_key_marks_it_as_used() {
    let world = World::new().await;
    let created = world.created_key().await;
    assert_eq!(created["lastUsedAt"], json!(null));
    assert_eq!(world.listed_keys().await[0]["lastUsedAt"], json!(null), "calls about it are no use of it");
    let before = Timestamp::now();
    assert_eq!(world.status(world.list_keys_as(text(&created["key"]), SITE)).await, 200);
    assert!(world.account.website_keys()[0].last_used_at.unwrap() >= before);
    assert_ne!(world.listed_keys().await[0]["lastUsedAt"], json!(null));
}

#[tokio::test]
async fn whoever_made_a_key_others_may_roll_and_delete_it() {
    let world = World::new().await;
    let issued = text(&world.created_key().await["_id"]).to_owned();
    world.account.replace_credential(&AccountOptions::default());
    for id in [issued, by_hand(&world, SITE).0] {
        assert_eq!(world.status(world.roll_key(SITE, &id)).await, 200);
        assert_eq!(world.status(world.delete_key(SITE, &id)).await, 200);
    }
}

#[tokio::test]
async fn only_a_live_key_of_that_very_website_is_found() {
    let world = World::new().await;
    let created_by = Some(world.account.credential_id());
    let token = world.account.add_token(ForeignToken { created_by: created_by.clone(), ..ForeignToken::default() });
    let key = world.account.add_website_key_of(OTHER_SITE, ForeignKey { created_by, ..ForeignKey::default() });
    for id in [NO_ID, &token, &key] {
        assert_eq!(failure(world.roll_key(SITE, id)).await.0, 404);
        assert_eq!(failure(world.delete_key(SITE, id)).await.0, 404);
    }
    assert_eq!(failure(world.delete(&key)).await.0, 404, "it is no access token");
    assert_eq!((world.account.live_tokens().len(), world.account.live_website_keys().len()), (2, 1));
}

#[tokio::test]
async fn accounts_do_not_see_each_others_keys() {
    let world = World::new().await;
    let other = world.sandbox.account(AccountOptions::default()).credential();
    let id = text(&world.created_key().await["_id"]).to_owned();
    assert_eq!(statuses(&world, calls(&world, &other, SITE, &id)).await, [200, 200, 404, 404]);
    assert_eq!(world.listed_keys().await.len(), 1);
}

#[tokio::test]
async fn other_paths_and_methods_below_a_website_are_refused() {
    let world = World::new().await;
    let (id, _) = by_hand(&world, SITE);
    for (method, path, expected) in [
        (Method::PUT, format!("/websites/{SITE}/apikeys"), 405),
        (Method::GET, format!("/websites/{SITE}/apikeys/{id}"), 405),
        (Method::GET, format!("/websites/{SITE}/apikeys/{id}/more"), 404),
        (Method::GET, format!("/websites/{SITE}"), 404),
    ] {
        assert_eq!(failure(world.request(method, &path, &world.account.credential())).await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn tests_see_and_change_keys_as_they_do_tokens() {
    let world = World::new().await;
    let created_at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let used_at: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
    let created = world.created_key().await;
    let name = Some("a person's".to_owned());
    let at = Some(created_at);
    let foreign = ForeignKey { name: name.clone(), created_at: at, last_used_at: at, ..ForeignKey::default() };
    let id = world.account.add_website_key_of(OTHER_SITE, foreign);
    assert_eq!(world.account.website_keys()[1].last_used_at, Some(created_at));
    assert!(world.account.use_token(&id, used_at));

    let [issued, foreign] = &world.account.website_keys()[..] else { panic!("not two keys") };
    assert_eq!((&issued.id, &issued.key), (&text(&created["_id"]).to_owned(), &text(&created["key"]).to_owned()));
    assert_eq!(issued.display_key, text(&created["displayKey"]));
    assert_eq!(issued.created_by, Some(world.account.credential_id()));
    assert_eq!((&foreign.id, &foreign.name, foreign.created_at), (&id, &name, created_at));
    assert_eq!((foreign.last_used_at, &foreign.created_by), (Some(used_at), &None));
    for (key, website) in [(issued, SITE), (foreign, OTHER_SITE)] {
        assert_eq!((key.website_id.as_deref(), &key.website_ids), (Some(website), &vec![website.to_owned()]));
        assert!(key.permissions.is_empty() && key.live && !key.credential);
    }
    assert_eq!(&world.account.issued_website_keys()[..], std::slice::from_ref(issued));

    let rolled = world.account.roll_behind_back(&id).unwrap();
    let now = world.account.live_website_keys()[1].clone();
    assert!(now.key == rolled && now.key != foreign.key && now.display_key != foreign.display_key);
    assert_eq!(world.status(world.list_keys_as(&foreign.key, OTHER_SITE)).await, 401);
    assert_eq!(world.status(world.list_keys_as(&rolled, OTHER_SITE)).await, 200);

    assert!(world.account.delete_behind_back(&id));
    assert_eq!(world.account.live_website_keys().len(), 1);
    assert!(!world.account.website_keys()[1].live);
    assert!(!world.account.delete_behind_back(&id) && !world.account.use_token(&id, used_at));
    assert_eq!(world.account.roll_behind_back(&id), None);
    assert_eq!(world.account.roll_behind_back(&world.account.credential_id()), None, "tokens are not rolled");
    let [credential] = &world.account.tokens()[..] else { panic!("keys are no tokens") };
    assert_eq!((&credential.website_id, credential.live), (&None, true));
}

#[tokio::test]
async fn a_raw_key_is_of_a_website_of_the_account() {
    let websites = vec![Website { id: SITE.to_owned(), domain: "shop.example.com".to_owned() }];
    for websites in [websites, vec![]] {
        let world = World::with(AccountOptions { websites, ..AccountOptions::default() }).await;
        let key = world.account.add_website_key();
        let website = world.account.website_keys()[0].website_id.clone().unwrap();
        assert_eq!(world.status(world.list_keys_as(&key, &website)).await, 200);
    }
}
