//! What a version of the operator has stored, in a cluster and at DataFast, as a folder of files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::http::Request;
use datafast_harness::ControlPlane;
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, TokenView};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::world::{InUse, SYSTEM, Subject, World, sandbox};

/// Stands for the sandbox's address, which is another one in each run.
const ADDRESS: &str = "http://datafast.invalid";

/// The file beside the folder `crds`.
const FILE: &str = "stored.json";

/// What this repository has of a release.
pub(super) fn release(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/releases").join(version)
}

/// What it has of each.
pub(super) fn releases() -> Vec<PathBuf> {
    let entries = fs::read_dir(release("")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// The CRDs of a folder.
pub(super) fn definitions(folder: &Path) -> String {
    let files: BTreeSet<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>().join("\n---\n")
}

/// What a newer version has to make of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// It is as it should be: nothing is written or asked for.
    Stays,
    /// One more request for a key, and nothing is left of what came before.
    Issues,
    /// It was being deleted: nothing is left of it.
    Goes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredResource {
    pub(super) kind: Subject,
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

/// A namespace with its account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredWorld {
    pub(super) name: String,
    pub(super) resources: Vec<StoredResource>,
    /// All that was ever at DataFast.
    tokens: Vec<TokenView>,
}

impl StoredWorld {
    /// What is at DataFast now, and the resources.
    pub(super) fn of(w: &World, resources: Vec<StoredResource>) -> Self {
        let tokens = w.account.tokens().into_iter().chain(w.account.website_keys()).collect();
        Self { name: w.name.clone(), resources, tokens }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) worlds: Vec<StoredWorld>,
    /// Of the cluster, without their resource versions: those are etcd's.
    objects: Vec<Value>,
}

impl Stored {
    /// What is there now.
    pub(super) async fn record(cluster: &ControlPlane, worlds: Vec<StoredWorld>) -> Self {
        // Its uid is in every marker.
        let mut paths = vec!["/api/v1/namespaces/kube-system".to_owned()];
        for StoredWorld { name, .. } in &worlds {
            paths.push(format!("/api/v1/namespaces/{name}"));
            paths.push(format!("/api/v1/namespaces/{SYSTEM}/secrets/{name}"));
            paths.push(format!("/apis/datafa.st/v1alpha1/datafastaccounts/{name}"));
            for kind in ["datafastaccesstokens", "datafastwebsitekeys"] {
                paths.push(format!("/apis/datafa.st/v1alpha1/namespaces/{name}/{kind}"));
            }
            paths.push(format!("/api/v1/namespaces/{name}/secrets"));
            paths.push(format!("/apis/apps/v1/namespaces/{name}/deployments"));
        }
        let client = cluster.admin().await.unwrap();
        let mut objects = Vec::new();
        for path in paths {
            let request = Request::get(&path).body(Vec::new()).unwrap();
            let answer: Value = client.request(request).await.unwrap();
            objects.extend(objects_of(answer));
        }
        Self { worlds, objects }
    }

    /// Reads a folder.
    pub(super) fn read(folder: &Path) -> Self {
        let file = folder.join(FILE);
        let text = fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}: run `make release-fixtures`", file.display()));
        serde_json::from_str(&text.replace(ADDRESS, &here())).unwrap()
    }

    /// Writes a folder anew, with the CRDs of this version.
    pub(super) fn write(&self, folder: &Path) {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("crds")).unwrap();
        for file in fs::read_dir(crds).unwrap().map(|entry| entry.unwrap()) {
            fs::copy(file.path(), folder.join("crds").join(file.file_name())).unwrap();
        }
        let text = serde_json::to_string_pretty(self).unwrap();
        fs::write(folder.join(FILE), text.replace(&here(), ADDRESS) + "\n").unwrap();
    }

    /// Stores all of it again, as it was stored then.
    pub(super) async fn restore(&self, cluster: &Arc<ControlPlane>) -> Vec<World> {
        let worlds = self.worlds.iter().map(async |stored| {
            let options = AccountOptions { name: Some(stored.name.clone()), ..AccountOptions::default() };
            let account = sandbox().account(options);
            account.restore(&stored.tokens);
            let client = cluster.admin().await.unwrap();
            let (namespace, name) = (stored.name.clone(), stored.name.clone());
            let in_use = InUse::new(cluster, &name);
            World { cluster: cluster.clone(), client, namespace, account, name, kind: Subject::default(), in_use }
        });
        let worlds = join_all(worlds).await;
        for object in &self.objects {
            cluster.store(&key(object), object).await.unwrap();
        }
        worlds
    }

    /// The names of all that is stored, by kind: fields, annotations, labels, and what the log of attempts has. Whoever
    /// writes another one writes something that no release has yet.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for object in &self.objects {
            let mut object = object.clone();
            let kind = text(&object, "/kind").to_owned();
            if kind != "Secret" && !kind.starts_with("DataFast") {
                continue;
            }
            // Who wrote a field is nothing that the operator reads.
            object["metadata"].as_object_mut().unwrap().remove("managedFields");
            let attempts = object.pointer_mut("/metadata/annotations").and_then(|all| all.get_mut(names::ATTEMPTS));
            if let Some(attempts) = attempts {
                *attempts = serde_json::from_str(attempts.as_str().unwrap()).unwrap();
            }
            add_names(&mut names, &kind, &object);
        }
        names
    }
}

fn add_names(names: &mut BTreeSet<String>, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let path = format!("{path} {name}");
            add_names(names, &path, value);
            names.insert(path);
        }),
        Value::Array(items) => items.iter().for_each(|item| add_names(names, path, item)),
        _ => {}
    }
}

fn here() -> String {
    format!("http://{}", sandbox().address())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An object, or those of a list, whose kind and version the items leave out.
fn objects_of(answer: Value) -> Vec<Value> {
    let list_kind = text(&answer, "/kind").to_owned();
    let Some(kind) = list_kind.strip_suffix("List") else { return vec![without_version(answer)] };
    let items = answer["items"].as_array().unwrap().iter().map(|item| {
        let mut item = item.clone();
        item["kind"] = json!(kind);
        item["apiVersion"] = answer["apiVersion"].clone();
        without_version(item)
    });
    items.collect()
}

fn without_version(mut object: Value) -> Value {
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    object
}

/// Where the API server has an object in etcd.
fn key(object: &Value) -> String {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    let in_namespace = |plural: &str| format!("{plural}/{}/{name}", text(object, "/metadata/namespace"));
    match kind {
        "Namespace" => format!("namespaces/{name}"),
        "Secret" => in_namespace("secrets"),
        "Deployment" => in_namespace("deployments"),
        "DataFastAccount" => format!("datafa.st/datafastaccounts/{name}"),
        "DataFastAccessToken" => in_namespace("datafa.st/datafastaccesstokens"),
        "DataFastWebsiteKey" => in_namespace("datafa.st/datafastwebsitekeys"),
        _ => panic!("{kind}"),
    }
}
