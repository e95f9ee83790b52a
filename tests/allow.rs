//! What an account allows: judged before any call, and judged anew when the account, the namespace or the resource is
//! another. Where not said otherwise no list helps: the next one is an hour away.

use datafast_harness::{condition, eventually, wait_gone};
use datafast_operator::api::{DataFastAccessToken, names};
use datafast_sandbox::{Operation, TokenView};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::{Clocked, Setup, WAIT, World};

const SITE: &str = "65f1c0ffee0123456789abcd";
const OTHER_SITE: &str = "65f1c0ffee0123456789ffff";

/// An account that allows this; null: it does not say.
fn allowing(allow: Value) -> Value {
    let mut spec = json!({ "pollInterval": "1h", "allow": allow });
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    spec
}

async fn world(allow: Value) -> World {
    World::with(Setup { spec: Some(allowing(allow)), ..Setup::default() }).await
}

fn permissions(permissions: &[&str]) -> Value {
    json!({ "permissions": permissions })
}

/// Waits until a resource is told that the account forbids it, in these words.
async fn is_forbidden(w: &World, name: &str, words: &[&str]) {
    let ready = w.says(name, "NotAllowed").await;
    assert_eq!(ready.status, "False", "{name}");
    let resource = w.resource(name).await;
    let stalled = condition(&resource, "Stalled").expect("a person must act");
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "NotAllowed"), "{name}");
    assert!(condition(&resource, "Reconciling").is_none_or(|reconciling| reconciling.status == "False"), "{name}");
    let event = w.event(name, "NotAllowed").await;
    for word in words.iter().chain([&&*w.name]) {
        assert!(ready.message.contains(word) && event.contains(word), "{name}: {word:?} in {ready:?} and {event:?}");
    }
}

/// Asserts that DataFast heard of nobody's wishes.
fn was_only_listed(w: &World) {
    let others: Vec<_> =
        w.requests().into_iter().filter(|r| r.operation != Some(Operation::ListAccessTokens)).collect();
    assert_eq!(others, []);
}

async fn label_namespace(w: &World, labels: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    let namespaces: Api<Namespace> = Api::all(w.client.clone());
    namespaces.patch(&w.namespace, &PatchParams::default(), &patch).await.unwrap();
}

/// Of resources that were created in one second, the API server can't tell which was first.
async fn let_its_second_pass(resource: &DataFastAccessToken) {
    let created = resource.creation_timestamp().unwrap().0;
    eventually("another second", WAIT, || async {
        (jiff::Timestamp::now().as_second() > created.as_second()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_rule_stops_a_resource_before_any_call_until_it_is_relaxed() {
    let cases = [
        (
            json!({ "permissions": ["analytics:read", "goals:read"] }),
            json!({ "permissions": ["analytics:read", "goals:write"] }),
            vec!["goals:write", "(allow.permissions)"],
            json!({ "permissions": ["analytics:read", "goals:write"] }),
        ),
        (
            json!({ "permissions": ["analytics:read"] }),
            json!({ "permissions": ["*"] }),
            vec!["*", "(allow.permissions)"],
            json!({ "permissions": ["*"] }),
        ),
        (
            json!({ "websiteIds": [SITE] }),
            json!({ "permissions": ["analytics:read"], "websiteIds": [SITE, OTHER_SITE] }),
            vec![OTHER_SITE, "allow.websiteIds"],
            json!({ "websiteIds": [OTHER_SITE, SITE] }),
        ),
        (
            json!({ "websiteIds": [SITE] }),
            json!({ "permissions": ["analytics:read"] }),
            vec!["must name its websites", "allow.websiteIds"],
            json!(null),
        ),
        (
            json!({ "namespaceSelector": { "matchLabels": { "team": "growth" } } }),
            json!({ "permissions": ["analytics:read"] }),
            vec!["allow.namespaceSelector"],
            json!({ "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "DoesNotExist" }] } }),
        ),
    ];
    join_all(cases.map(|(strict, spec, words, relaxed)| async move {
        let w = world(strict).await;
        let applied = w.apply("agent", spec).await;
        is_forbidden(&w, "agent", &words).await;
        was_only_listed(&w);
        w.set_account(allowing(relaxed)).await;
        let issued = w.issued_alone("agent").await;
        assert_eq!(issued.resource.metadata.generation, applied.metadata.generation, "nobody touched the resource");
        assert_eq!(w.posts(), 1);
    }))
    .await;
}

#[tokio::test]
async fn a_message_names_no_more_than_what_is_too_much() {
    let w = world(json!({ "permissions": ["analytics:read"] })).await;
    w.apply("agent", permissions(&["analytics:read", "goals:read", "funnels:read"])).await;
    is_forbidden(&w, "agent", &["funnels:read, goals:read"]).await;
    let ready = w.says("agent", "NotAllowed").await;
    assert!(!ready.message.contains("analytics:read"), "{ready:?}");
    // Asking for less is the other way out.
    w.apply("agent", permissions(&["analytics:read"])).await;
    w.issued_alone("agent").await;
}

#[tokio::test]
async fn by_default_no_token_may_make_others_or_let_people_in() {
    let w = world(json!(null)).await;
    let never = [("all", "*"), ("keys", "api-keys:write"), ("masks", "api-keys:read"), ("team", "team:write")];
    for (name, permission) in never {
        w.apply(name, permissions(&[permission])).await;
    }
    for (name, permission) in never {
        is_forbidden(&w, name, &[permission, "allow.permissions, by default"]).await;
    }
    was_only_listed(&w);
    w.apply("broad", permissions(&["team:read", "settings:write", "payments:write", "websites:write"])).await;
    w.issued_alone("broad").await;
    w.set_account(allowing(json!({ "permissions": ["*"] }))).await;
    for (name, permission) in never {
        assert_eq!(w.issued(name).await.token.permissions, [permission]);
    }
}

#[tokio::test]
async fn what_is_forbidden_later_keeps_its_token_and_gets_no_other() {
    let w = world(json!(null)).await;
    let scope = permissions(&["analytics:read", "goals:write"]);
    w.apply("deleted", scope.clone()).await;
    w.apply("rotated", scope).await;
    let (deleted, rotated) = (w.issued("deleted").await, w.issued("rotated").await);
    w.set_account(allowing(json!({ "permissions": ["analytics:read"] }))).await;
    is_forbidden(&w, "deleted", &["goals:write", "(allow.permissions)"]).await;
    is_forbidden(&w, "rotated", &["goals:write", "(allow.permissions)"]).await;

    w.annotate("rotated", json!({ names::ROTATE: "1" })).await;
    w.annotate("deleted", json!({ names::REVOKE_NOW: "1" })).await;
    for before in [&deleted, &rotated] {
        let name = before.resource.name_any();
        let after = w.look_at(&name).await;
        assert_eq!(condition(&after, "Ready").unwrap().reason, "NotAllowed");
        assert_eq!(after.status.unwrap().token_id.as_ref(), Some(&before.token.id), "it is still known what it has");
        assert_eq!(w.secret(&name).await, before.secret);
    }
    let live = w.issued_tokens();
    assert!([&deleted, &rotated].iter().all(|before| live.iter().any(|token| token.id == before.token.id)), "{live:?}");
    assert_eq!((w.posts(), w.deletes()), (2, 0));

    w.delete("deleted").await;
    wait_gone(&w.objects(), "deleted", WAIT).await;
    assert_eq!(ids(&w.issued_tokens()), [&*rotated.token.id], "deletion revokes all the same");
    assert!(w.secrets().get_opt("deleted").await.unwrap().is_none());

    // What was asked for meanwhile is not forgotten.
    w.set_account(allowing(json!(null))).await;
    let after = w.renewed("rotated", &rotated).await;
    assert_eq!(after.retiring(), [rotated.token.id]);
    assert_eq!((w.posts(), w.deletes()), (3, 1));
}

fn ids(tokens: &[TokenView]) -> Vec<&str> {
    tokens.iter().map(|token| &*token.id).collect()
}

#[tokio::test]
async fn the_labels_of_a_namespace_count_from_the_moment_they_are_set() {
    let w = world(json!({ "namespaceSelector": { "matchLabels": { "team": "growth" } } })).await;
    w.apply("agent", permissions(&["analytics:read"])).await;
    is_forbidden(&w, "agent", &["allow.namespaceSelector"]).await;
    label_namespace(&w, json!({ "team": "sales" })).await;
    w.look_at("agent").await;
    is_forbidden(&w, "agent", &["allow.namespaceSelector"]).await;
    was_only_listed(&w);

    label_namespace(&w, json!({ "team": "growth" })).await;
    let before = w.issued_alone("agent").await;
    label_namespace(&w, json!({ "team": null })).await;
    is_forbidden(&w, "agent", &["allow.namespaceSelector"]).await;
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!(ids(&w.issued_tokens()), [&*before.token.id]);

    label_namespace(&w, json!({ "team": "growth" })).await;
    assert_eq!(w.issued_alone("agent").await.token.id, before.token.id);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

/// It does not watch them, but looks with each list.
#[tokio::test]
async fn an_operator_of_some_namespaces_sees_their_labels_at_the_next_list() {
    let w = Clocked::new().await;
    w.set_account(json!({ "allow": { "namespaceSelector": { "matchLabels": { "team": "growth" } } } })).await;
    w.apply("agent", permissions(&["analytics:read"])).await;
    is_forbidden(&w, "agent", &["allow.namespaceSelector"]).await;
    was_only_listed(&w);
    label_namespace(&w, json!({ "team": "growth" })).await;
    w.polls(1).await;
    w.issued_alone("agent").await;
    label_namespace(&w, json!({ "team": null })).await;
    w.look_at("agent").await;
    is_forbidden(&w, "agent", &["allow.namespaceSelector"]).await;
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[tokio::test]
async fn the_first_resources_of_a_namespace_get_its_tokens() {
    let w = world(json!({ "maxTokensPerNamespace": 2 })).await;
    let other = w.neighbour().await;
    let scope = permissions(&["analytics:read"]);
    w.apply("zebra", scope.clone()).await;
    let_its_second_pass(&w.apply("yak", scope.clone()).await).await;
    let_its_second_pass(&w.apply("bear", scope.clone()).await).await;
    w.apply("ant", scope.clone()).await;
    let yak = w.issued("yak").await;
    w.issued("zebra").await;
    for late in ["ant", "bear"] {
        is_forbidden(&w, late, &["2 tokens", "allow.maxTokensPerNamespace"]).await;
    }
    other.apply("ant", scope).await;
    other.issued("ant").await;
    assert_eq!(w.posts(), 3, "each namespace has its own");

    w.delete("zebra").await;
    w.issued("bear").await;
    w.look_at("ant").await;
    is_forbidden(&w, "ant", &["allow.maxTokensPerNamespace"]).await;
    assert_eq!(w.issued("yak").await.secret, yak.secret);
    assert_eq!((w.posts(), w.deletes()), (4, 1));

    w.set_account(allowing(json!({ "maxTokensPerNamespace": 3 }))).await;
    w.issued("ant").await;
    assert_eq!(w.issued_tokens().len(), 4);
}

#[tokio::test]
async fn an_import_is_refused_like_anything_else() {
    let w = world(json!(null)).await;
    let (id, key) = w.made_by_hand(&["*"]);
    let theirs = w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": key })).await;
    w.apply("agent", permissions(&["*"])).await;
    is_forbidden(&w, "agent", &["*", "allow.permissions"]).await;
    was_only_listed(&w);
    assert_eq!(w.secret("agent").await, theirs);
    assert_eq!(w.resource("agent").await.status.unwrap().token_id, None);
    w.set_account(allowing(json!({ "permissions": ["*"] }))).await;
    assert_eq!(w.issued("agent").await.token.id, id);
    assert_eq!(w.posts(), 0);
}
