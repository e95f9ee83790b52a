//! A Secret that was copied, a status that was restored beside the original, a Secret whose owner is gone: it is said what
//! is wrong, and the original's token is safe.

use datafast_harness::{Cutter, Plan, condition, wait_gone};
use datafast_operator::api::names;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, Issued, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, launch, start,
};

/// A copy of a Secret, as a replicator makes it: with all labels and annotations.
fn copy(secret: &Secret) -> Secret {
    let mut copy = secret.clone();
    let metadata = &mut copy.metadata;
    (metadata.namespace, metadata.uid, metadata.resource_version) = (None, None, None);
    (metadata.creation_timestamp, metadata.managed_fields) = (None, None);
    copy
}

async fn is_untouched(w: &World, before: &Issued) {
    let after = w.issued("agent").await;
    assert_eq!((&after.token.id, &after.secret), (&before.token.id, &before.secret));
}

/// A copy of one that an earlier version wrote.
fn older_copy(secret: &Secret) -> Secret {
    let mut copy = copy(secret);
    copy.annotations_mut().remove(names::OWNER_UID);
    copy
}

#[rstest]
#[tokio::test]
async fn a_copied_secret_is_a_conflict_that_names_the_original(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
    #[values(copy, older_copy)] copy: fn(&Secret) -> Secret,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let original = w.issued("agent").await;
    let there = w.neighbour().await;
    let copied = there.secrets().create(&PostParams::default(), &copy(&original.secret)).await.unwrap();
    there.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let ready = there.says("agent", "SecretConflict").await;
    let names = format!("{} {}/agent", kind.name(), w.namespace);
    let is_told = ready.message.contains("it is a copy") && ready.message.contains(&names);
    assert!(ready.status == "False" && is_told, "{ready:?}");
    there.event("agent", "SecretConflict").await;
    there.polls(2).await;
    assert_eq!(there.secret("agent").await, copied, "it is never overwritten");
    assert_eq!((w.posts(), w.deletes()), (1, 0));
    is_untouched(&w, &original).await;

    // As the message says.
    there.delete_secret("agent").await;
    let own = there.issued("agent").await;
    assert_ne!(own.token.id, original.token.id);
    // The replicator is at it again, over a Secret with a key that works.
    let mut overwritten = copy(&original.secret);
    overwritten.metadata.resource_version = own.secret.resource_version();
    let copied = there.secrets().replace("agent", &PostParams::default(), &overwritten).await.unwrap();
    there.says("agent", "SecretConflict").await;
    there.polls(2).await;
    assert_eq!(there.secret("agent").await, copied);
    assert_eq!((w.posts(), w.deletes()), (2, 0), "nothing is issued, and nothing revoked");

    there.delete("agent").await;
    wait_gone(&there.objects(), "agent", WAIT).await;
    assert_eq!(there.secret("agent").await, copied);
    let live: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
    assert_eq!(live, std::slice::from_ref(&original.token.id), "what was its own is gone");
    is_untouched(&w, &original).await;
}

/// The original may be among what has not been listed yet.
#[rstest]
#[tokio::test]
async fn a_copied_secret_is_not_taken_over_before_all_resources_were_seen(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let original = w.issued("agent").await;
    operator.terminate().await.unwrap();
    let there = w.neighbour().await;
    let copied = there.secrets().create(&PostParams::default(), &older_copy(&original.secret)).await.unwrap();
    there.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    there.apply("witness", json!({ "permissions": ["analytics:read"], "suspend": true })).await;

    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let plural = kind.resource().plural;
    plan.hold_lists(&format!("/apis/datafa.st/v1alpha1/namespaces/{}/{plural}", w.namespace));
    let both = format!("--watch-namespaces={},{}", w.namespace, there.namespace);
    let asked = w.requests().len();
    let args = [&ARGS[..], &[&both]].concat();
    let _operator = launch(&plane.cluster, Some(cutter.url()), &args, &[]).await;
    there.says("witness", "Suspended").await;
    // What comes later in the watch is judged: so the copy has been judged, too.
    there.apply("later", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    there.says("later", "Suspended").await;
    let ready = condition(&there.resource("agent").await, "Ready");
    let trusted = ready.is_some_and(|ready| ready.status == "True");
    assert!(!trusted, "nobody has seen the original");
    assert_eq!(there.secret("agent").await, copied);
    assert_eq!(w.requests().len(), asked, "not even its key was tried");

    plan.answer_lists();
    there.says("agent", "SecretConflict").await;
    there.polls(1).await;
    assert_eq!(there.secret("agent").await, copied, "it is never overwritten");
    assert_eq!((w.posts(), w.deletes()), (1, 0));
    is_untouched(&w, &original).await;
}

#[rstest]
#[tokio::test]
async fn a_secret_whose_owner_is_gone_is_handed_over_as_the_message_says(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    let spec = json!({ "permissions": ["analytics:read"], "secret": { "name": "shared" }, "deletionPolicy": "Retain" });
    w.apply("ci", spec.clone()).await;
    let before = w.issued("ci").await;
    w.delete("ci").await;
    wait_gone(&w.objects(), "ci", WAIT).await;
    w.apply("deploy", spec).await;
    let ready = w.says("deploy", "SecretConflict").await;
    let gone = format!("it belongs to {}/ci, which is not there any more", kind.name());
    assert!(ready.status == "False" && ready.message.contains(&gone), "{ready:?}");
    w.polls(1).await;
    assert_eq!(w.secret("shared").await, before.secret);

    // kubectl annotate secret shared --overwrite NAME=VALUE.
    let (_, command) = ready.message.split_once("kubectl annotate secret shared --overwrite ").unwrap();
    let (name, value) = command.split_once('=').unwrap();
    let value = value.split_once(". ").unwrap().0;
    w.patch_secret("shared", json!({ "metadata": { "annotations": { name: value } } })).await;
    let after = w.issued("deploy").await;
    assert_eq!((&after.token.id, after.secret.uid()), (&before.token.id, before.secret.uid()));
    assert_eq!(after.secret.annotations()[names::OWNER], format!("{}/deploy", kind.name()));
    assert_eq!((w.posts(), w.deletes()), (1, 0));

    w.apply("deploy", json!({ "permissions": ["analytics:read"], "secret": { "name": "shared" } })).await;
    w.issued("deploy").await;
    w.delete("deploy").await;
    wait_gone(&w.objects(), "deploy", WAIT).await;
    assert_eq!(w.issued_tokens(), [], "it was the new resource's own by then");
}

/// Restores a resource beside the original, as a tool does that restores status too. Nothing is done about it yet.
async fn restore_beside(w: &World, there: &World) {
    let original = w.objects().get("agent").await.unwrap();
    there.apply("agent", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    let status = Patch::Merge(json!({ "status": original.data["status"] }));
    there.objects().patch_status("agent", &PatchParams::default(), &status).await.unwrap();
    let (copied, original) = (there.resource("agent").await, w.resource("agent").await);
    assert_eq!(copied.status.unwrap().token_id, original.status.unwrap().token_id);
}

/// With its Secret or without, suspended or not, the copy is restored and deleted: the original has what it had.
async fn is_safe_from_copies(w: &World, original: &Issued) {
    for (with_secret, suspended) in [(true, false), (false, false), (false, true)] {
        let there = w.neighbour().await;
        if with_secret {
            there.secrets().create(&PostParams::default(), &copy(&original.secret)).await.unwrap();
        }
        restore_beside(w, &there).await;
        if !suspended {
            there.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
            let ready = there.says_one_of("agent", &["SecretConflict", "Issued"]).await;
            assert_eq!(ready.reason == "SecretConflict", with_secret, "{ready:?}");
        }
        there.polls(2).await;
        is_untouched(w, original).await;
        there.delete("agent").await;
        wait_gone(&there.objects(), "agent", WAIT).await;
        is_untouched(w, original).await;
    }
    w.horizon_passes().await;
    is_untouched(w, original).await;
}

#[rstest]
#[tokio::test]
async fn a_backup_restored_beside_the_original_costs_that_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let original = w.issued_alone("agent").await;
    is_safe_from_copies(&w, &original).await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

#[rstest]
#[tokio::test]
async fn so_it_is_with_a_token_that_was_made_by_hand_and_taken_over(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": key })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let original = w.issued("agent").await;
    is_safe_from_copies(&w, &original).await;
    // Not even with the Secret does the record of the take-over go.
    w.apply("agent", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("agent", "Suspended").await;
    w.delete_secret("agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert!(!w.live_tokens().iter().any(|token| token.id == id), "it was the operator's own by then");
}

/// It is the record that tells whose the token is, and not who was there first.
#[rstest]
#[tokio::test]
async fn a_status_restored_into_an_older_resource_takes_nothing_from_the_original(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    let there = w.neighbour().await;
    there.apply("agent", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    there.says("agent", "Suspended").await;
    // Kubernetes tells by whole seconds which one is older.
    there.polls(1).await;
    let (id, key) = w.made_by_hand(&["analytics:read"]);
    w.create_secret("agent", json!({ names::TOKEN_ID: id }), json!({ "token": key })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let original = w.issued("agent").await;
    there.secrets().create(&PostParams::default(), &older_copy(&original.secret)).await.unwrap();
    restore_beside(&w, &there).await;
    there.polls(1).await;
    w.annotate("agent", json!({ "example.com/look": "1" })).await;
    there.polls(1).await;
    is_untouched(&w, &original).await;
    there.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    there.says("agent", "SecretConflict").await;
    there.polls(1).await;
    is_untouched(&w, &original).await;
    there.delete("agent").await;
    wait_gone(&there.objects(), "agent", WAIT).await;
    is_untouched(&w, &original).await;
    assert_eq!((w.posts(), w.deletes()), (0, 0));
}

#[rstest]
#[tokio::test]
async fn an_older_secret_is_not_written_to_name_its_owners_uid_but_by_the_way(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued("agent").await;
    let owner = format!("{}/{}", w.namespace, issued.resource.uid().unwrap());
    assert_eq!(issued.secret.annotations()[names::OWNER_UID], owner);
    w.patch_secret("agent", json!({ "metadata": { "annotations": { names::OWNER_UID: null } } })).await;
    let older = w.secret("agent").await;
    w.polls(2).await;
    assert_eq!(w.secret("agent").await, older);
    w.look_at("agent").await;
    assert_eq!(w.issued("agent").await.secret.annotations()[names::OWNER_UID], owner);
}
