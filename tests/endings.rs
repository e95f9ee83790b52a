//! Things end in an order that nobody planned: a namespace with all that is in it, an account before its users, a
//! credential before what it is to revoke, the CRDs, the operator. No token is left behind, and what waits says for what.

use std::fs;

use datafast_harness::{apply_yaml, condition, eventually, wait_established, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Fault, Kind, Operation};
use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::{ARGS, Plane, SYSTEM, Setup, WAIT, World, start};

const CRDS: [&str; 2] = ["datafastaccesstokens.datafa.st", "datafastaccounts.datafa.st"];

fn plain() -> Value {
    json!({ "permissions": ["analytics:read"] })
}

fn namespaces(w: &World) -> Api<Namespace> {
    Api::all(w.client.clone())
}

async fn delete_namespace(w: &World) {
    namespaces(w).delete(&w.namespace, &DeleteParams::default()).await.unwrap();
}

/// Waits until a resource that is being deleted says so, and why it is still there. Returns what it says.
async fn deletion_waits_for(w: &World, name: &str, what: &str) -> String {
    eventually(&format!("{name} waits for {what}"), WAIT, || async {
        let resource = w.resource(name).await;
        let message = condition(&resource, "Ready").map(|ready| ready.message).unwrap_or_default();
        let says = message.starts_with("Deletion waits for") && message.contains(what);
        if says { Ok(message) } else { Err(resource.status) }
    })
    .await
}

/// Waits until the namespace hangs, for our finalizer alone: all else in it is gone.
async fn namespace_hangs(w: &World) {
    eventually("the namespace waits for the finalizer", WAIT, || async {
        let namespace = namespaces(w).get(&w.namespace).await.map_err(|e| e.to_string())?;
        let waits = condition(&namespace, "NamespaceFinalizersRemaining");
        let waits = waits.is_some_and(|c| c.status == "True" && c.message.contains(names::FINALIZER_REVOKE));
        let secrets = w.secrets().list(&ListParams::default()).await.map_err(|e| e.to_string())?.items.len();
        if waits && secrets == 0 { Ok(()) } else { Err(format!("{secrets} Secrets, {:#?}", namespace.status)) }
    })
    .await;
}

/// Waits until the account that is being deleted says what it waits for.
async fn account_waits_for(w: &World, users: &str) {
    eventually(&format!("the account waits for {users}"), WAIT, || async {
        let account = w.account_resource().await;
        let message = condition(&account, "Ready").map(|ready| ready.message).unwrap_or_default();
        let expected = format!("Deletion waits for the resources that use the account: {users}. ");
        if message.starts_with(&expected) { Ok(()) } else { Err(message) }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_goes_whatever_its_resources_are_at() {
    // The credential, and three more.
    let account = AccountOptions { token_limit: Some(4), ..AccountOptions::default() };
    let w = World::with(Setup { account, spec: Some(json!({ "tokenLimit": 4 })), ..Setup::default() }).await;
    w.account_says("Connected").await;
    w.create_secret("conflict", json!({}), json!({ "token": "somebody else's" })).await;
    for name in ["issued", "suspended", "conflict"] {
        w.apply(name, plain()).await;
    }
    w.apply("never", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.apply("forbidden", json!({ "permissions": ["*"] })).await;
    w.issued("issued").await;
    w.issued("suspended").await;
    w.patch_spec("suspended", json!({ "suspend": true })).await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).after_effect().once());
    w.apply("midway", plain()).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    w.apply("waiting", plain()).await;
    for (name, reason) in [
        ("suspended", "Suspended"),
        ("never", "Suspended"),
        ("conflict", "SecretConflict"),
        ("forbidden", "NotAllowed"),
        ("waiting", "WaitingForSlot"),
    ] {
        w.says(name, reason).await;
    }

    delete_namespace(&w).await;
    deletion_waits_for(&w, "midway", "DataFast's answer").await;
    eventually("all others are gone", WAIT, || async {
        let left = w.list().await.map_err(|e| e.to_string())?;
        let left: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
        if left == ["midway"] { Ok(()) } else { Err(left.join(", ")) }
    })
    .await;
    w.account.release(hold);
    wait_gone(&namespaces(&w), &w.namespace, WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!((w.posts(), w.deletes()), (3, 3), "the freed slots were no reason to issue another");
}

#[tokio::test]
async fn a_namespace_waits_for_a_datafast_that_is_down() {
    let w = World::new().await;
    for name in ["a", "b"] {
        w.apply(name, plain()).await;
        w.issued(name).await;
    }
    w.set_fault(Fault::new(Operation::Any, Kind::Drop));
    delete_namespace(&w).await;
    for name in ["a", "b"] {
        deletion_waits_for(&w, name, "the token to be revoked").await;
    }
    namespace_hangs(&w).await;
    assert_eq!(w.issued_tokens().len(), 2);
    w.account.clear_faults();
    wait_gone(&namespaces(&w), &w.namespace, WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

#[tokio::test]
async fn an_account_names_its_users_and_goes_after_the_last() {
    let w = World::new().await;
    let other = w.neighbour().await;
    other.apply("agent", plain()).await;
    other.issued("agent").await;
    let unused = json!({ "permissions": ["analytics:read"], "suspend": true });
    let mut users = vec![format!("{}/agent", other.namespace)];
    for name in ["a", "b", "c", "d", "e", "f"] {
        w.apply(name, unused.clone()).await;
        w.says(name, "Suspended").await;
        users.push(format!("{}/{name}", w.namespace));
    }
    users.sort();
    w.accounts().delete(&w.name, &DeleteParams::default()).await.unwrap();
    account_waits_for(&w, &format!("{} and 2 more", users[..5].join(", "))).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        w.delete(name).await;
    }
    account_waits_for(&w, &format!("{}/agent", other.namespace)).await;
    w.account_says("Connected").await;
    other.issued("agent").await;
    other.delete("agent").await;
    wait_gone(&other.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    wait_gone(&w.accounts(), &w.name, WAIT).await;
}

#[tokio::test]
async fn a_deletion_without_a_credential_says_what_to_do_and_ends_when_it_is_done() {
    let w = World::new().await;
    w.apply("kept", plain()).await;
    w.apply("abandoned", plain()).await;
    w.issued("kept").await;
    let abandoned = w.issued("abandoned").await.token;
    w.credentials().delete(&w.name, &DeleteParams::default()).await.unwrap();
    w.account_says("CredentialsNotFound").await;
    w.delete("kept").await;
    w.delete("abandoned").await;
    for name in ["kept", "abandoned"] {
        let message = deletion_waits_for(&w, name, "the token to be revoked").await;
        let remedy = format!("there is no Secret {:?} in namespace {SYSTEM:?}: create it", w.name);
        assert!(message.contains(&remedy), "{message}");
    }
    assert_eq!(w.deletes(), 0);

    w.annotate("abandoned", json!({ names::ABANDON: "true" })).await;
    wait_gone(&w.objects(), "abandoned", WAIT).await;
    assert!(w.secrets().get_opt("abandoned").await.unwrap().is_none());
    let note = w.event("abandoned", "Abandoned").await;
    assert!(note.contains(&abandoned.id), "it names what is left: {note}");
    w.secret("kept").await;
    assert_eq!(w.issued_tokens().len(), 2);

    w.set_credential(&w.account.credential()).await;
    wait_gone(&w.objects(), "kept", WAIT).await;
    assert!(w.secrets().get_opt("kept").await.unwrap().is_none());
    let left: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
    assert_eq!((left, w.deletes()), (vec![abandoned.id], 1));
}

/// Somebody took the finalizer off.
#[tokio::test]
async fn a_deletion_waits_for_an_account_that_is_gone_and_ends_when_it_is_back() {
    let w = World::new().await;
    w.apply("agent", plain()).await;
    w.issued("agent").await;
    w.accounts().delete(&w.name, &DeleteParams::default()).await.unwrap();
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    w.accounts().patch(&w.name, &PatchParams::default(), &release).await.unwrap();
    wait_gone(&w.accounts(), &w.name, WAIT).await;
    assert_eq!(w.says("agent", "AccountNotFound").await.status, "True", "its token still works");
    w.delete("agent").await;
    let message = deletion_waits_for(&w, "agent", "the token to be revoked").await;
    assert!(message.contains(&format!("There is no DataFastAccount {:?}", w.name)), "{message}");
    assert_eq!(w.issued_tokens().len(), 1);
    w.set_account(json!({})).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

/// As `kubectl delete -f crds/` does, while resources are there.
#[tokio::test]
async fn deleted_crds_take_all_tokens_along() {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let other = w.neighbour().await;
    for (w, name) in [(&w, "a"), (&w, "b"), (&other, "a")] {
        w.apply(name, plain()).await;
        w.issued(name).await;
    }
    // One that has no token, and one whose request is under way.
    w.apply("never", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("never", "Suspended").await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).after_effect().once());
    other.apply("midway", plain()).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");

    let crds: Api<CustomResourceDefinition> = Api::all(w.client.clone());
    for name in CRDS {
        crds.delete(name, &DeleteParams::default()).await.unwrap();
    }
    deletion_waits_for(&other, "midway", "DataFast's answer").await;
    w.account.release(hold);
    join_all(CRDS.map(|name| wait_gone(&crds, name, WAIT))).await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!((w.posts(), w.deletes()), (4, 4));
    for w in [&w, &other] {
        let left = w.secrets().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(left, []);
    }

    // The operator is still there, and so can they be again.
    for name in CRDS {
        let file = format!("{}/crds/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        apply_yaml(&w.client, "datafast-install", SYSTEM, &fs::read_to_string(file).unwrap()).await.unwrap();
        wait_established(&w.client, name).await;
    }
    w.set_account(json!({})).await;
    w.apply("again", plain()).await;
    w.issued_alone("again").await;
    assert!(operator.is_running().unwrap());
    w.delete("again").await;
    wait_gone(&w.objects(), "again", WAIT).await;
}

/// With a token of which the operator that asked for it never heard.
#[tokio::test]
async fn a_namespace_that_hangs_without_an_operator_goes_with_the_next() {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    for name in ["a", "b"] {
        w.apply(name, plain()).await;
        w.issued(name).await;
    }
    w.apply("never", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("never", "Suspended").await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).after_effect().once());
    w.apply("midway", plain()).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    operator.kill().await.unwrap();
    w.account.release(hold);

    delete_namespace(&w).await;
    namespace_hangs(&w).await;
    assert_eq!(w.issued_tokens().len(), 3, "nobody is there to revoke them");
    let _operator = start(&plane.cluster, None, &ARGS).await;
    wait_gone(&namespaces(&w), &w.namespace, WAIT).await;
    assert_eq!(w.issued_tokens(), []);
    assert_eq!((w.posts(), w.deletes()), (3, 3));
    w.accounts().delete(&w.name, &DeleteParams::default()).await.unwrap();
    wait_gone(&w.accounts(), &w.name, WAIT).await;
}
