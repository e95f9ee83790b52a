//! The record is in several places; whoever loses one of them loses no token.

use std::collections::BTreeMap;

use datafast_harness::eventually;
use datafast_operator::api::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Map, Value, json};

use crate::world::{
    Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, key_in,
};

#[rstest]
#[tokio::test]
async fn a_lost_status_is_written_again_from_the_record(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    let nothing = json!({ "status": null });
    w.objects().patch_status("agent", &PatchParams::default(), &Patch::Merge(nothing)).await.unwrap();
    let after = w.issued("agent").await;
    let status = |issued: &Issued| {
        let mut status = issued.resource.status.clone().unwrap();
        // Only these tell that it was written anew.
        status.conditions.iter_mut().for_each(|condition| condition.last_transition_time.0 = Timestamp::UNIX_EPOCH);
        status
    };
    assert_eq!(status(&after), status(&before));
    assert_eq!(after.secret, before.secret);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn a_lost_log_of_attempts_costs_no_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.annotate("agent", json!({ names::ATTEMPTS: null })).await;
    w.horizon_passes().await;
    let after = w.issued("agent").await;
    assert_eq!(after.secret, before.secret);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

/// The annotations, with the time of issue as a date: once lost, it is told by other traces, and not to the second.
fn record(secret: &Secret) -> BTreeMap<String, String> {
    let mut annotations = secret.annotations().clone();
    annotations.entry(names::ISSUED_AT.to_owned()).and_modify(|time| time.truncate("2026-01-01".len()));
    annotations
}

/// Takes something from the Secret's metadata: it is written again, with the same key.
async fn is_written_again(kind: Subject, metadata: Value) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.patch_secret("agent", json!({ "metadata": metadata })).await;
    eventually("the Secret is as it was", WAIT, || async {
        let secret = w.secret("agent").await;
        let is_back = secret.labels() == before.secret.labels() && record(&secret) == record(&before.secret);
        if is_back { Ok(()) } else { Err(secret.metadata) }
    })
    .await;
    let after = w.issued("agent").await;
    assert_eq!(key_in(&after.secret, &after.resource), before.token.key);
    assert_eq!(after.secret.uid(), before.secret.uid());
    w.polls(1).await;
    assert_eq!((w.posts(), w.deletes()), (1, 0));
    assert_eq!(w.secret("agent").await.resource_version(), after.secret.resource_version());
}

#[rstest]
#[tokio::test]
async fn a_secret_without_its_label_is_written_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    is_written_again(kind, json!({ "labels": { names::MANAGED_BY: null } })).await;
}

#[rstest]
#[tokio::test]
async fn a_secret_without_the_id_of_its_token_is_written_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    is_written_again(kind, json!({ "annotations": { names::TOKEN_ID: null } })).await;
}

#[rstest]
#[tokio::test]
async fn a_secret_without_its_attempt_is_written_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    is_written_again(kind, json!({ "annotations": { names::ATTEMPT: null } })).await;
}

#[rstest]
#[tokio::test]
async fn a_secret_without_the_hash_of_its_spec_is_written_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    is_written_again(kind, json!({ "annotations": { names::SPEC_HASH: null, names::KEY_SHA256: null } })).await;
}

#[rstest]
#[tokio::test]
async fn a_secret_without_any_of_our_metadata_is_written_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let record = [names::OWNER, names::ATTEMPT, names::TOKEN_ID, names::ISSUED_AT, names::SPEC_HASH, names::KEY_SHA256];
    let nothing: Map<_, _> = record.iter().map(|name| ((*name).to_owned(), json!(null))).collect();
    is_written_again(kind, json!({ "labels": { names::MANAGED_BY: null }, "annotations": nothing })).await;
}
