//! What becomes of token and Secret when the resource goes.

use datafast_harness::{condition, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Fault, FaultBody, Kind, Operation};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::DeleteParams};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World,
};

#[rstest]
#[tokio::test]
async fn a_deleted_resource_takes_its_token_and_its_secret_along(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    assert_eq!((w.posts(), w.deletes()), (1, 1));
    w.event("agent", "Revoked").await;
}

#[rstest]
#[tokio::test]
async fn retain_leaves_token_and_secret_to_their_users(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "deletionPolicy": "Retain" })).await;
    let before = w.issued("agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    w.polls(2).await;
    assert_eq!(w.issued_tokens().len(), 1);
    let secret = w.secret("agent").await;
    assert_eq!(secret.data, before.secret.data);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn where_the_account_forbids_retain_nothing_is_left_behind(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "deletionPolicy": "Retain" })).await;
    let before = w.issued("agent").await;
    w.set_account(json!({ "allow": { "deletionPolicies": ["Revoke"] } })).await;
    let ready = w.says("agent", "NotAllowed").await;
    for words in ["deletionPolicy Retain", "allow.deletionPolicies", "Set it to Revoke"] {
        assert!(ready.message.contains(words), "{words}: {}", ready.message);
    }
    assert_eq!((w.secret("agent").await, w.issued_tokens().len()), (before.secret, 1), "while it lives, all stays");
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    assert_eq!((w.posts(), w.deletes()), (1, 1));
}

#[rstest]
#[tokio::test]
async fn a_suspended_resource_changes_nothing_until_it_is_deleted(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"], "suspend": true, "secret": { "labels": { "a": "b" } } }))
        .await;
    w.apply("never", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    assert_eq!(w.says("agent", "Suspended").await.status, "True", "its key still works");
    assert_eq!(w.says("never", "Suspended").await.status, "False");
    w.polls(2).await;
    assert_eq!(w.secret("agent").await.resource_version(), before.secret.resource_version());
    assert!(w.secrets().get_opt("never").await.unwrap().is_none());
    assert_eq!((w.posts(), w.deletes()), (1, 0));

    w.delete("agent").await;
    w.delete("never").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    wait_gone(&w.objects(), "never", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

#[rstest]
#[tokio::test]
async fn a_suspended_resource_goes_on_where_it_stopped(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("agent", "Suspended").await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn a_deletion_waits_for_datafast_and_says_so(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    let fault =
        w.set_fault(Fault::new(Operation::DeleteAccessToken, Kind::Status { status: 503, body: FaultBody::Html }));
    w.delete("agent").await;
    eventually("its status says why it waits", WAIT, || async {
        let resource = w.resource("agent").await;
        condition(&resource, "Ready").filter(|ready| ready.message.contains("Deletion waits")).ok_or(resource.status)
    })
    .await;
    assert_eq!(w.issued_tokens().len(), 1);
    w.secret("agent").await;
    w.account.release(fault);
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

#[rstest]
#[tokio::test]
async fn an_abandoned_resource_goes_without_datafast(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    w.account.revoke_credential();
    w.account_says("CredentialsRejected").await;
    w.delete("agent").await;
    w.annotate("agent", json!({ names::ABANDON: "true" })).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    assert_eq!(w.issued_tokens().len(), 1);
    let note = w.event("agent", "Abandoned").await;
    assert!(note.contains(&token.id), "it names what is left: {note}");
}

#[tokio::test]
async fn what_was_abandoned_is_reported_and_left_alone() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    w.annotate("agent", json!({ names::ABANDON: "true" })).await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    let unclaimed = eventually("the account reports the token", WAIT, || async {
        let status = w.account_resource().await.status.unwrap_or_default();
        if status.unclaimed.is_empty() { Err(status) } else { Ok(status.unclaimed) }
    })
    .await;
    assert_eq!(unclaimed.len(), 1);
    assert_eq!(unclaimed[0].token_id, token.id);
    assert_eq!(unclaimed[0].token_name, token.name);
    assert_eq!(unclaimed[0].display_key.as_ref(), Some(&token.display_key));
    w.polls(2).await;
    assert_eq!((w.issued_tokens().len(), w.deletes()), (1, 0));
    let tokens = w.account_resource().await.status.unwrap().tokens.unwrap();
    assert_eq!((tokens.managed, tokens.retiring, tokens.unclaimed, tokens.foreign), (0, 0, 1, 1));
}

#[rstest]
#[tokio::test]
async fn a_deleted_namespace_is_finished_with_all_tokens_revoked(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    for name in ["a", "b", "c"] {
        w.apply(name, json!({ "permissions": ["analytics:read"] })).await;
    }
    for name in ["a", "b", "c"] {
        w.issued(name).await;
    }
    let namespaces: Api<Namespace> = Api::all(w.client.clone());
    namespaces.delete(&w.namespace, &DeleteParams::default()).await.unwrap();
    wait_gone(&namespaces, &w.namespace, WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!((w.posts(), w.deletes()), (3, 3));
}

#[rstest]
#[tokio::test]
async fn an_account_stays_as_long_as_a_resource_refers_to_it(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    eventually("the account is held", WAIT, || async {
        let finalizers = w.account_resource().await.finalizers().to_vec();
        if finalizers.iter().any(|f| f == names::FINALIZER_IN_USE) { Ok(()) } else { Err(finalizers) }
    })
    .await;
    w.accounts().delete(&w.name, &DeleteParams::default()).await.unwrap();
    w.polls(1).await;
    assert!(w.account_resource().await.metadata.deletion_timestamp.is_some());
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), [], "the account was there to revoke it with");
    wait_gone(&w.accounts(), &w.name, WAIT).await;
}

#[rstest]
#[tokio::test]
async fn a_token_that_is_gone_already_holds_up_no_deletion(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    w.account.delete_behind_back(&token.id);
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    assert!(w.deletes() <= 1, "{}", w.deletes());
}

#[rstest]
#[tokio::test]
async fn a_secret_that_is_gone_already_holds_up_no_deletion(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    w.delete("agent").await;
    let _ = w.secrets().delete("agent", &DeleteParams::default()).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

/// DataFast lets only the credential that created a token delete it, and says 404 to any other.
#[tokio::test]
async fn a_token_of_a_former_credential_is_not_taken_for_gone() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    let credential = w.account.replace_credential(&AccountOptions::default());
    w.set_credential(&credential).await;
    w.account_says("Connected").await;
    w.delete("agent").await;
    eventually("its status says why it waits", WAIT, || async {
        let resource = w.resource("agent").await;
        condition(&resource, "Ready").filter(|ready| ready.message.contains(&token.id)).ok_or(resource.status)
    })
    .await;
    w.polls(2).await;
    assert!(w.resource("agent").await.metadata.deletion_timestamp.is_some());
    assert!(w.deletes() <= 2, "{} tries", w.deletes());
    w.account.delete_behind_back(&token.id);
    wait_gone(&w.objects(), "agent", WAIT).await;
}
