//! A GitOps tool applies the manifests again and again: it and the operator keep out of each other's way.

use std::collections::BTreeSet;

use datafast_operator::api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use rstest::rstest;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::world::{
    Subject::{self, AccessToken, WebsiteKey},
    World, workload,
};

/// Server-side apply as Argo CD does it: a field of somebody else's is a conflict.
async fn sync<K>(api: &Api<K>, manifest: &Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let name = manifest["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("argocd-controller"), &Patch::Apply(manifest)).await.unwrap()
}

/// The paths of all fields that the operator owns, such as `f:status/f:tokenId`.
fn owned(entries: Option<&Vec<ManagedFieldsEntry>>) -> BTreeSet<String> {
    let ours = entries.into_iter().flatten().filter(|entry| entry.manager.as_deref() == Some(names::MANAGER));
    let fields: Vec<_> = ours.filter_map(|entry| entry.fields_v1.clone()).collect();
    assert!(!fields.is_empty(), "the operator wrote nothing");
    let mut paths = BTreeSet::new();
    fields.iter().for_each(|fields| leaves("", &fields.0, &mut paths));
    paths
}

fn leaves(path: &str, fields: &Value, paths: &mut BTreeSet<String>) {
    let inner = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ".");
    let inner: Vec<_> = inner.collect();
    if inner.is_empty() {
        paths.insert(path.trim_start_matches('/').to_owned());
    }
    inner.into_iter().for_each(|(name, fields)| leaves(&format!("{path}/{name}"), fields, paths));
}

struct Repository {
    resource: Value,
    deployment: Value,
}

impl Repository {
    fn new(w: &World) -> Self {
        let spec = json!({
            "permissions": ["analytics:read", "goals:read"],
            "secret": { "labels": { "team": "growth" }, "data": { "url": "$(BASE_URL)" } },
            "rotation": { "every": "720h", "overlap": "24h" },
            "rolloutRestart": [{ "kind": "Deployment", "name": "web" }],
        });
        let mut resource = w.manifest("agent", spec);
        resource["metadata"]["labels"] = json!({ "argocd.argoproj.io/instance": "growth" });
        resource["metadata"]["annotations"] = json!({ "argocd.argoproj.io/tracking-id": "growth:agent" });
        Self { resource, deployment: workload("Deployment", "web") }
    }

    async fn sync(&self, w: &World) -> (DynamicObject, DynamicObject) {
        (sync(&w.objects(), &self.resource).await, sync(&w.workloads("Deployment"), &self.deployment).await)
    }
}

#[rstest]
#[tokio::test]
async fn applying_the_same_again_changes_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let repository = Repository::new(&w);
    repository.sync(&w).await;
    let first = w.issued("agent").await;
    let (synced, _) = repository.sync(&w).await;
    assert_eq!(synced.resource_version(), first.resource.resource_version());

    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let second = w.renewed("agent", &first).await;
    let issued_at = w.issued_at("agent").await;
    let template = json!({ "example.com/mine": "yes", names::RESTARTED_AT: issued_at });
    assert_eq!(w.template("Deployment", "web").await, (2, template.clone()));
    let (synced, _) = repository.sync(&w).await;
    assert_eq!(w.kind.read(synced), second.resource, "no difference, and nothing of the operator's is gone");
    assert_eq!(w.template("Deployment", "web").await, (2, template));
    assert_eq!((w.posts(), w.deletes()), (2, 0));
}

#[rstest]
#[tokio::test]
async fn what_git_changes_is_done_without_a_conflict(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let mut repository = Repository::new(&w);
    repository.sync(&w).await;
    let first = w.issued("agent").await;
    // A request may well come by way of git.
    repository.resource["metadata"]["annotations"][names::ROTATE] = json!("1");
    repository.sync(&w).await;
    let second = w.renewed("agent", &first).await;
    let spec = json!({ "permissions": ["goals:read"] });
    repository.resource["spec"].as_object_mut().unwrap().extend(w.kind.spec(spec).as_object().unwrap().clone());
    repository.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.com/main:2");
    repository.sync(&w).await;
    let third = w.renewed("agent", &second).await;
    assert_eq!(third.token.permissions, ["goals:read"]);
    repository.resource["metadata"]["annotations"].as_object_mut().unwrap().remove(names::ROTATE);
    let (synced, _) = repository.sync(&w).await;
    assert!(!synced.annotations().contains_key(names::ROTATE));
    assert!(synced.annotations().contains_key(names::ATTEMPTS));
    assert_eq!(synced.finalizers(), [names::FINALIZER_REVOKE]);
    w.look_at("agent").await;
    let (_, template) = w.template("Deployment", "web").await;
    assert_eq!(template, json!({ "example.com/mine": "yes", names::RESTARTED_AT: w.issued_at("agent").await }));
    assert_eq!(w.posts(), 3);
}

/// By hand with `kubectl apply` or `kubectl edit`; then the tool applies what is in git, as it was.
#[rstest]
#[tokio::test]
async fn what_somebody_added_to_a_list_by_hand_goes_when_git_applies_it_again(#[values(false, true)] edits: bool) {
    const SITE: &str = "65f1c0ffee0123456789abcd";
    const OTHER_SITE: &str = "65f1c0ffee0123456789ffff";
    let w = World::new().await;
    let as_in_git = w.manifest("agent", json!({ "permissions": ["analytics:read"], "websiteIds": [SITE] }));
    let force = |manager: &str| PatchParams::apply(manager).force();
    sync(&w.objects(), &as_in_git).await;
    w.issued("agent").await;

    let more = json!({ "permissions": ["goals:write", "analytics:read"], "websiteIds": [SITE, OTHER_SITE] });
    let by_hand = match edits {
        true => w.objects().patch("agent", &PatchParams::default(), &Patch::Merge(json!({ "spec": more }))).await,
        false => {
            let manifest = w.manifest("agent", more);
            w.objects().patch("agent", &force("kubectl"), &Patch::Apply(&manifest)).await
        }
    };
    assert_eq!(by_hand.unwrap().data["spec"]["permissions"], json!(["goals:write", "analytics:read"]));
    let synced = w.objects().patch("agent", &force("argocd-controller"), &Patch::Apply(&as_in_git)).await.unwrap();
    assert_eq!(synced.data["spec"], as_in_git["spec"]);
    let issued = w.issued("agent").await;
    assert_eq!(
        (issued.token.permissions, issued.token.website_ids),
        (vec!["analytics:read".into()], vec![SITE.into()])
    );

    let git = json!({ "permissions": ["analytics:read"], "websiteIds": [SITE], "deletionPolicies": ["Revoke"] });
    w.set_account(json!({ "allow": git })).await;
    let more = json!({
        "permissions": ["*", "analytics:read"],
        "websiteIds": [OTHER_SITE, SITE],
        "deletionPolicies": ["Retain", "Revoke"],
    });
    let patch = Patch::Merge(json!({ "spec": { "allow": more } }));
    w.accounts().patch(&w.name, &PatchParams::default(), &patch).await.unwrap();
    let synced = serde_json::to_value(w.set_account(json!({ "allow": git })).await.spec.allow).unwrap();
    for list in ["permissions", "websiteIds", "deletionPolicies"] {
        assert_eq!(synced[list], git[list], "{list}");
    }
}

#[rstest]
#[tokio::test]
async fn the_operator_owns_no_field_that_is_in_git(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let repository = Repository::new(&w);
    repository.sync(&w).await;
    let before = w.issued("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let after = w.renewed("agent", &before).await;
    let owned_there = owned(after.resource.metadata.managed_fields.as_ref());
    let besides_status: Vec<_> = owned_there.iter().filter(|path| !path.starts_with("f:status/")).collect();
    let finalizer = format!("f:metadata/f:finalizers/v:\"{}\"", names::FINALIZER_REVOKE);
    let attempts = format!("f:metadata/f:annotations/f:{}", names::ATTEMPTS);
    assert_eq!(besides_status, [&attempts, &finalizer]);

    let deployment = w.workloads("Deployment").get("web").await.unwrap();
    let restarted_at = format!("f:spec/f:template/f:metadata/f:annotations/f:{}", names::RESTARTED_AT);
    assert_eq!(owned(deployment.metadata.managed_fields.as_ref()), [restarted_at].into());
}

#[rstest]
#[tokio::test]
async fn what_others_put_on_the_secret_stays_over_a_rotation(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    sync(&w.objects(), &Repository::new(&w).resource).await;
    let before = w.issued("agent").await;
    let others = json!({
        "labels": { "backup.example.com/keep": "yes" },
        "annotations": { "reflector.example.com/to": "staging", "example.com/empty": "" },
    });
    w.patch_secret("agent", json!({ "metadata": others })).await;
    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    let secret = w.renewed("agent", &before).await.secret;
    assert_eq!(secret.labels()["backup.example.com/keep"], "yes");
    assert_eq!(secret.labels()["team"], "growth");
    assert_eq!(secret.annotations()["reflector.example.com/to"], "staging");
    assert_eq!(secret.annotations()["example.com/empty"], "");
    assert_eq!(secret.uid(), before.secret.uid());
}
