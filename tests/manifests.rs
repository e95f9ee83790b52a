//! What the API server takes, what it refuses, and with which words.

use std::{path::Path, process::Command};

use datafast_harness::{parse_yaml, server_error};
use datafast_operator::api::{DataFastAccessToken, DataFastAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::world::{Subject, World, apply, binary};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What the API server would say to an object in this namespace.
async fn try_out(client: &Client, namespace: &str, mut object: DynamicObject) -> kube::Result<DynamicObject> {
    let gvk = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let is_namespaced = object.metadata.namespace.take().is_some();
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match is_namespaced {
        true => Api::namespaced_with(client.clone(), namespace, &resource),
        false => Api::all_with(client.clone(), &resource),
    };
    let params = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&params, &object).await
}

#[tokio::test]
async fn a_wrong_manifest_is_refused_with_a_message_that_helps() {
    let w = World::new().await;
    let yaml = read("tests/fixtures/invalid-manifests.yaml");
    let mut tried = 0;
    for document in yaml.split("---\n").filter(|document| document.contains("apiVersion:")) {
        let expected = document.lines().find_map(|line| line.strip_prefix("# refused: ")).unwrap();
        let [object] = <[_; 1]>::try_from(parse_yaml(document).unwrap()).unwrap();
        let refusal = server_error(try_out(&w.client, &w.namespace, object).await);
        assert_eq!(refusal.code, 422, "{refusal:?}");
        assert!(refusal.message.contains(expected), "expected {expected:?}, not {:?}, to\n{document}", refusal.message);
        tried += 1;
    }
    assert!(tried > 50, "only {tried} documents were found");
}

/// A rule that compared each with each at too high a cost would refuse what the schema takes.
#[tokio::test]
async fn what_is_as_large_as_the_schema_takes_is_accepted_and_judged() {
    let w = World::new().await;
    let with = async |spec: Value| {
        let manifest = serde_json::from_value(w.manifest("large", spec)).unwrap();
        try_out(&w.client, &w.namespace, manifest).await
    };
    let permissions = || json!(["analytics:read"]);
    let mut websites: Vec<String> = (0..256).map(|n| format!("65f1c0ffee0123456789{n:04x}")).collect();
    with(json!({ "permissions": permissions(), "websiteIds": websites })).await.unwrap();
    websites[0] = websites[255].clone();
    let refusal = server_error(with(json!({ "permissions": permissions(), "websiteIds": websites })).await);
    let message = "websiteIds must not name 65f1c0ffee012345678900ff twice: leave one of them out";
    assert!(refusal.message.contains(message), "{}", refusal.message);

    let entries = |last: usize| -> Value {
        let length = |n| if n == 31 { last } else { 2000 };
        (0..32).map(|n| (format!("entry-{n:02}"), json!("é".repeat(length(n) / 2)))).collect()
    };
    // With eight bytes for each name.
    let rest = 64 * 1024 - 31 * 2000 - 32 * 8;
    with(json!({ "permissions": permissions(), "secret": { "data": entries(rest) } })).await.unwrap();
    let refused = with(json!({ "permissions": permissions(), "secret": { "data": entries(rest + 2) } })).await;
    let refusal = server_error(refused);
    let message = "secret.labels, secret.annotations and secret.data may have 64 KiB";
    assert!(refusal.message.contains(message), "{}", refusal.message);
}

#[tokio::test]
async fn the_samples_are_accepted() {
    let w = World::new().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let mut tried = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        for object in parse_yaml(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap() {
            let name = object.name_any();
            match try_out(&w.client, &w.namespace, object).await {
                // Somebody may have created it for good.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                result => drop(result.unwrap_or_else(|error| panic!("{name}: {error}"))),
            }
            tried += 1;
        }
    }
    assert!(tried >= 4, "only {tried} samples were found");
}

#[tokio::test]
async fn what_cannot_change_says_what_to_do_instead() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    let change = async |spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        w.objects().patch("agent", &PatchParams::default(), &patch).await
    };
    let refusal = server_error(change(json!({ "secret": { "name": "other" } })).await);
    assert!(refusal.message.contains("secret.name cannot be changed from agent to other"), "{}", refusal.message);
    let refusal = server_error(change(json!({ "accountRef": { "name": "other" } })).await);
    assert!(refusal.message.contains("create another resource, then delete this one"), "{}", refusal.message);
    // The effective value is what counts.
    change(json!({ "secret": { "name": "agent" } })).await.unwrap();
}

/// A GitOps tool would show what the API server fills in as a difference, for ever.
#[tokio::test]
async fn the_api_server_adds_nothing_to_a_spec() {
    let w = World::new().await;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let spec = json!({ "permissions": ["analytics:read"], "secret": {}, "rotation": {} });
    let manifest: DynamicObject = serde_json::from_value(w.manifest("agent", spec.clone())).unwrap();
    let resource = ApiResource::erase::<DataFastAccessToken>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(w.client.clone(), &w.namespace, &resource);
    let stored = api.create(&params, &manifest).await.unwrap();
    let expected = w.manifest("agent", spec);
    assert_eq!(stored.data["spec"], expected["spec"]);

    let spec = json!({ "credentialsSecretRef": { "name": "a" }, "allow": {} });
    let manifest = json!({
        "apiVersion": "datafa.st/v1alpha1",
        "kind": "DataFastAccount",
        "metadata": { "name": "untouched" },
        "spec": spec,
    });
    let manifest: DynamicObject = serde_json::from_value(manifest).unwrap();
    let api: Api<DynamicObject> = Api::all_with(w.client.clone(), &ApiResource::erase::<DataFastAccount>(&()));
    let stored = api.create(&params, &manifest).await.unwrap();
    assert_eq!(stored.data["spec"], spec);
}

#[tokio::test]
async fn the_operator_prints_the_definitions_that_are_installed() {
    let output = Command::new(binary()).arg("crds").output().unwrap();
    assert!(output.status.success());
    let printed = parse_yaml(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let names: Vec<_> = printed.iter().map(ResourceExt::name_any).collect();
    assert!(names.contains(&"datafastaccesstokens.datafa.st".to_owned()), "{names:?}");
    for definition in printed {
        let file = format!("crds/{}.yaml", definition.name_any());
        let [installed] = <[_; 1]>::try_from(parse_yaml(&read(&file)).unwrap()).unwrap();
        let value = |object: &DynamicObject| -> Value { serde_json::to_value(object).unwrap() };
        assert_eq!(value(&definition), value(&installed), "{file}");
    }
}

/// As a field selector has it, what is left out is the empty value, and never the default.
#[tokio::test]
async fn resources_are_found_by_account_secret_and_id() {
    for (kind, short, id) in [(Subject::AccessToken, "dft", "tokenId"), (Subject::WebsiteKey, "dfk", "keyId")] {
        let w = World::of(kind).await;
        let permissions = json!(["analytics:read"]);
        w.apply("agent", json!({ "permissions": permissions, "secret": { "name": "agent-key" } })).await;
        w.apply("other", json!({ "permissions": permissions })).await;
        let mut of_default = w.manifest("of-default", json!({ "permissions": permissions }));
        of_default["spec"].as_object_mut().unwrap().remove("accountRef");
        apply(&w.objects(), "of-default", &of_default).await;
        let found = async |selector: &str| {
            let args = ["get", short, "--namespace", &w.namespace, "--output", "name", "--field-selector", selector];
            let output = w.cluster.kubectl(&args).await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let names = String::from_utf8(output.stdout).unwrap();
            names.lines().map(|line| line.rsplit_once('/').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        let issued = w.issued("agent").await;
        w.issued("other").await;
        assert_eq!(found("status.secretName=agent-key").await, ["agent"]);
        assert_eq!(found(&format!("status.{id}={}", issued.token.id)).await, ["agent"]);
        assert_eq!(found(&format!("spec.accountRef.name={}", w.name)).await, ["agent", "other"]);
        assert_eq!(found("spec.accountRef.name=").await, ["of-default"]);
        assert!(found("spec.accountRef.name=default").await.is_empty());
    }
}
