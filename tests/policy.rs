//! The policy that refuses at `kubectl apply` what an account forbids: on a control plane of its own, without an operator,
//! with the policy as `deploy/install.yaml` has it.

mod pairs;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use datafast_harness::{ControlPlane, OPERATOR_NAMESPACE, apply_yaml, eventually, install};
use datafast_operator::api::{DataFastAccount, Permission};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::world::{Subject, WAIT, apply, unique};

const SITES: [&str; 4] =
    ["65f1c0ffee0123456789aaaa", "65f1c0ffee0123456789bbbb", "65f1c0ffee0123456789cccc", "65f1c0ffee0123456789dddd"];

/// A namespace on the control plane with the policy.
struct Place {
    cluster: Arc<ControlPlane>,
    client: Client,
    namespace: Namespace,
}

impl Place {
    async fn new() -> Self {
        Self::labelled(json!({})).await
    }

    async fn labelled(labels: Value) -> Self {
        static CLUSTER: OnceCell<Arc<ControlPlane>> = OnceCell::const_new();
        let cluster = CLUSTER.get_or_init(|| async { Arc::new(guarded_plane().await) }).await.clone();
        let client = cluster.admin().await.unwrap();
        let namespace = json!({ "metadata": { "generateName": "policy-", "labels": labels } });
        let namespaces = Api::all(client.clone());
        let namespace = serde_json::from_value(namespace).unwrap();
        let namespace: Namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        Self { cluster, client, namespace }
    }

    fn objects(&self, kind: Subject) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace.name_any(), &kind.resource())
    }

    /// Creates a resource, or has the API server say what it would say to it.
    async fn create(&self, manifest: &Value, dry_run: bool) -> kube::Result<DynamicObject> {
        let params = PostParams { dry_run, ..PostParams::default() };
        self.objects(kind_of(manifest)).create(&params, &serde_json::from_value(manifest.clone()).unwrap()).await
    }

    async fn patch(&self, kind: Subject, name: &str, patch: Value) -> kube::Result<DynamicObject> {
        self.objects(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Waits until the policy refuses this: the API server learns of accounts by a watch, in the order of their changes.
    async fn is_refused(&self, manifest: &Value) {
        eventually("the policy knows the account", WAIT, || async {
            match self.create(manifest, true).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// The policy costs a look at every account, whichever a resource names: tests with many take turns.
static CROWD: Mutex<()> = Mutex::const_new(());

async fn guarded_plane() -> ControlPlane {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await.unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/install.yaml");
    let yaml = std::fs::read_to_string(file).unwrap();
    let policy: Vec<_> = yaml.split("\n---\n").filter(|it| it.contains("\nkind: ValidatingAdmissionPolicy")).collect();
    assert_eq!(policy.len(), 2, "a policy and its binding");
    apply_yaml(&cluster.admin().await.unwrap(), "user", OPERATOR_NAMESPACE, &policy.join("\n---\n")).await.unwrap();
    cluster
}

async fn set_account(client: &Client, name: &str, allow: &Value) -> DataFastAccount {
    apply(&Api::all(client.clone()), name, &account(name, allow)).await
}

/// An account that allows this; null: it does not say.
fn account(name: &str, allow: &Value) -> Value {
    let mut spec = json!({ "credentialsSecretRef": { "name": name }, "allow": allow });
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({ "apiVersion": "datafa.st/v1alpha1", "kind": "DataFastAccount", "metadata": { "name": name }, "spec": spec })
}

fn read<K: DeserializeOwned>(manifest: &Value) -> K {
    K::deserialize(manifest).unwrap()
}

fn resource(kind: Subject, account: &str, name: &str, mut spec: Value) -> Value {
    spec["accountRef"] = json!({ "name": account });
    json!({ "apiVersion": "datafa.st/v1alpha1", "kind": kind.name(), "metadata": { "name": name }, "spec": spec })
}

fn token(account: &str, name: &str, spec: Value) -> Value {
    resource(Subject::AccessToken, account, name, spec)
}

fn kind_of(manifest: &Value) -> Subject {
    let is_key = manifest["kind"] == json!(Subject::WebsiteKey.name());
    if is_key { Subject::WebsiteKey } else { Subject::AccessToken }
}

/// What a person reads, without what the API server puts before it. None: it was accepted.
fn refusal(answer: kube::Result<DynamicObject>) -> Option<String> {
    match answer {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Some(status.message.split_once("denied request: ").unwrap_or_else(|| panic!("{status:?}")).1.to_owned())
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn kubectl_apply_refuses_what_an_account_forbids_and_leaves_nothing() {
    let place = Place::new().await;
    let namespace = place.namespace.name_any();
    let kubectl = async |permission: &str| {
        let mut manifest = token("default", "agent", json!({ "permissions": [permission] }));
        // No account is named.
        manifest["spec"].as_object_mut().unwrap().remove("accountRef");
        let args = ["apply", "--namespace", &namespace, "--filename", "-"];
        place.cluster.kubectl_with_input(&args, &manifest.to_string()).await.unwrap()
    };
    // Before its account, a resource may be there.
    assert!(kubectl("*").await.status.success());
    place.objects(Subject::AccessToken).delete("agent", &Default::default()).await.unwrap();

    set_account(&place.client, "default", &json!(null)).await;
    place.is_refused(&token("default", "probe", json!({ "permissions": ["*"] }))).await;
    let output = kubectl("*").await;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let words = "DataFastAccount \"default\" forbids it: it does not allow * (allow.permissions, by default). \
                 Ask for less, or have the account's owner allow it";
    assert!(said.contains("Forbidden") && said.contains(words), "{said}");
    assert!(place.objects(Subject::AccessToken).get_opt("agent").await.unwrap().is_none());
    assert!(kubectl("analytics:read").await.status.success());
}

/// Finalizers, suspend and deletion, a narrower scope: what a resource had before is not held against it.
#[tokio::test]
async fn what_asks_for_no_more_passes_under_a_narrower_account() {
    let (place, name) = (Place::new().await, unique());
    set_account(&place.client, &name, &json!({ "permissions": ["*"], "websiteKeys": true })).await;
    let scope = json!({
        "permissions": ["analytics:read", "goals:write"], "websiteIds": SITES[..2], "deletionPolicy": "Retain",
    });
    place.create(&token(&name, "agent", scope.clone()), false).await.unwrap();
    place.create(&token(&name, "all", json!({ "permissions": ["*"] })), false).await.unwrap();
    let key = json!({ "websiteId": SITES[1], "deletionPolicy": "Retain" });
    place.create(&resource(Subject::WebsiteKey, &name, "key", key), false).await.unwrap();

    let mut narrow = json!({
        "permissions": ["analytics:read"], "websiteIds": [SITES[0], SITES[3]], "deletionPolicies": ["Revoke"],
    });
    set_account(&place.client, &name, &narrow).await;
    place.is_refused(&token(&name, "probe", scope)).await;
    let changed = async |resource: &str, spec: Value| {
        refusal(place.patch(Subject::AccessToken, resource, json!({ "spec": spec })).await)
    };
    for (what, words) in [
        (
            json!({ "permissions": ["analytics:read", "goals:write", "funnels:read"] }),
            "it does not allow funnels:read (",
        ),
        (
            json!({ "websiteIds": [SITES[2], SITES[3], SITES[1]] }),
            "it does not allow website 65f1c0ffee0123456789cccc (",
        ),
        (json!({ "websiteIds": [] }), "a token must name its websites"),
    ] {
        let said = changed("agent", what).await.unwrap();
        assert!(said.contains(words), "{said}");
    }
    narrow["namespaceSelector"] = json!({ "matchLabels": { "team": "growth" } });
    set_account(&place.client, &name, &narrow).await;
    place
        .is_refused(&token(&name, "probe", json!({ "permissions": ["analytics:read"], "websiteIds": [SITES[0]] })))
        .await;

    for (kind, resource) in [(Subject::AccessToken, "agent"), (Subject::WebsiteKey, "key")] {
        let metadata = json!({ "finalizers": ["example.com/a"], "annotations": { "datafa.st/rotate": "1" } });
        place.patch(kind, resource, json!({ "metadata": metadata })).await.unwrap();
        let spec = json!({ "suspend": true, "secret": { "key": "other" }, "rotation": { "every": "720h" } });
        place.patch(kind, resource, json!({ "spec": spec })).await.unwrap();
        let status = Patch::Merge(json!({ "status": { "observedGeneration": 1 } }));
        place.objects(kind).patch_status(resource, &PatchParams::default(), &status).await.unwrap();
    }
    for spec in [
        json!({ "permissions": ["goals:write", "analytics:read"], "websiteIds": [SITES[1], SITES[0]] }),
        json!({ "permissions": ["goals:write"], "websiteIds": [SITES[1]] }),
        json!({ "deletionPolicy": "Revoke" }),
    ] {
        assert_eq!(changed("agent", spec.clone()).await, None, "{spec}");
    }
    assert_eq!(changed("all", json!({ "permissions": ["team:write"], "websiteIds": [SITES[1]] })).await, None);
    assert!(changed("all", json!({ "permissions": ["*"] })).await.unwrap().contains("allow.namespaceSelector"));
    assert!(changed("agent", json!({ "deletionPolicy": "Retain" })).await.unwrap().contains("allow.deletionPolicies"));

    for (kind, resource) in [(Subject::AccessToken, "agent"), (Subject::WebsiteKey, "key")] {
        place.objects(kind).delete(resource, &Default::default()).await.unwrap();
        place.patch(kind, resource, json!({ "metadata": { "finalizers": null } })).await.unwrap();
        assert!(place.objects(kind).get_opt(resource).await.unwrap().is_none());
    }
}

/// The API server gives up on an expression that costs too much, and would let everything pass.
#[tokio::test]
async fn the_largest_account_among_a_thousand_is_judged() {
    let labels: BTreeMap<_, _> = (0..32).map(|n| (format!("label-{n}"), "value")).collect();
    let _crowd = CROWD.lock().await;
    let place = Place::labelled(json!(labels)).await;
    let name = unique();
    stream::iter(0..999)
        .map(|n| {
            let mut manifest = account(&format!("{name}-{n}"), &json!(null));
            manifest["metadata"]["labels"] = json!({ "crowd": name });
            let accounts = Api::<DataFastAccount>::all(place.client.clone());
            async move { accounts.create(&PostParams::default(), &read(&manifest)).await.unwrap() }
        })
        .buffer_unordered(32)
        .for_each(|_| async {})
        .await;
    let values: Vec<_> = (0..31).map(|n| format!("other-{n}")).chain(["value".to_owned()]).collect();
    let expression = |n| json!({ "key": format!("label-{n}"), "operator": "In", "values": values });
    let permissions: Vec<_> = Permission::ALL.iter().map(|it| it.as_str()).filter(|it| *it != "*").collect();
    let websites = |from: usize| (from..from + 256).map(|n| format!("65f1c0ffee0123456789{n:04x}")).collect::<Vec<_>>();
    let allow = json!({
        "permissions": permissions, "websiteIds": websites(0),
        "namespaceSelector": {
            "matchLabels": labels, "matchExpressions": (0..32).map(expression).collect::<Vec<_>>(),
        },
    });
    set_account(&place.client, &name, &allow).await;
    place.is_refused(&token(&name, "probe", json!({ "permissions": ["*"] }))).await;

    let asked = |websites| token(&name, "largest", json!({ "permissions": permissions, "websiteIds": websites }));
    let began = Instant::now();
    let said = refusal(place.create(&asked(websites(1)), true).await).unwrap();
    println!("a thousand accounts: refused in {:?}", began.elapsed());
    assert!(said.contains("it does not allow website 65f1c0ffee01234567890100 (allow.websiteIds)"), "{said}");
    // More names than a message may have.
    let said = refusal(place.create(&asked(websites(256)), true).await).unwrap();
    assert!(said.contains("it does not allow all of these websites (allow.websiteIds). Ask for less"), "{said}");
    place.create(&asked(websites(0)), false).await.unwrap();
    let suspended = json!({ "spec": { "suspend": true, "websiteIds": websites(0) } });
    place.patch(Subject::AccessToken, "largest", suspended).await.unwrap();
    let accounts = Api::<DataFastAccount>::all(place.client.clone());
    let crowd = ListParams::default().labels(&format!("crowd={name}"));
    accounts.delete_collection(&DeleteParams::default(), &crowd).await.unwrap();
}
