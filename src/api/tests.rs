//! Every rule, tried without a cluster. `tests/fixtures/invalid-manifests.yaml` is tried on a real API server too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::{path::Path, time::Duration};

use kube::core::cel::Validator;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

mod windows;

const WEBSITE: &str = "65f1c0ffee0123456789abcd";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn schema(kind: &str) -> Value {
    let crd = definitions().into_iter().find(|crd| crd.spec.names.kind == kind).expect("a known kind");
    serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// What the CEL rules say about `manifest`, as the API server would print it.
fn complaints(manifest: &Value, old: Option<&Value>) -> String {
    let schema = schema(manifest["kind"].as_str().unwrap());
    match Validator::new().validate(&schema, manifest, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.iter().map(|error| format!("{}: {}\n", error.field_path, error.message)).collect(),
    }
}

fn token(spec: Value) -> Value {
    let mut spec = spec;
    let fields = spec.as_object_mut().unwrap();
    fields.entry("permissions").or_insert(json!(["analytics:read"]));
    json!({"apiVersion": "datafa.st/v1alpha1", "kind": "DataFastAccessToken",
           "metadata": {"name": "reports", "namespace": "demo"}, "spec": spec})
}

fn key(spec: Value) -> Value {
    let mut spec = spec;
    spec.as_object_mut().unwrap().entry("websiteId").or_insert(json!(WEBSITE));
    json!({"apiVersion": "datafa.st/v1alpha1", "kind": "DataFastWebsiteKey",
           "metadata": {"name": "shop", "namespace": "demo"}, "spec": spec})
}

fn account(spec: Value) -> Value {
    let mut spec = spec;
    spec.as_object_mut().unwrap().entry("credentialsSecretRef").or_insert(json!({"name": "datafast-credentials"}));
    json!({"apiVersion": "datafa.st/v1alpha1", "kind": "DataFastAccount",
           "metadata": {"name": "default"}, "spec": spec})
}

fn documents(yaml: &str) -> impl Iterator<Item = (&str, Value)> {
    let whole = yaml.split("---\n").filter(|text| text.contains("apiVersion:"));
    whole.map(|text| (text, serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))))
}

#[test]
fn every_invalid_manifest_is_refused_with_its_message() {
    let schema_only = ["Required value", "Unsupported value", "Duplicate value", "Too long", "Invalid value"];
    let yaml = read("tests/fixtures/invalid-manifests.yaml");
    let mut tried = 0;
    for (text, manifest) in documents(&yaml) {
        let expected = text.lines().find_map(|line| line.strip_prefix("# refused: ")).expect("a message in a comment");
        if schema_only.iter().any(|words| expected.ends_with(words)) {
            continue;
        }
        let complaints = complaints(&manifest, None);
        assert!(complaints.contains(expected), "expected {expected:?}, got {complaints:?} for\n{text}");
        assert_eq!(complaints.lines().count(), 1, "one mistake, one message: {complaints}");
        tried += 1;
    }
    assert!(tried > 40, "only {tried} documents were found");
}

#[test]
fn what_people_write_is_accepted_and_can_be_read() {
    for spec in [
        json!({}),
        json!({"permissions": ["*"]}),
        json!({"websiteIds": [WEBSITE]}),
        json!({"websiteIds": [], "rolloutRestart": [], "secret": {}, "rotation": {}, "accountRef": {}}),
        json!({"tokenName": "Rapports d’été 📈 (équipe)"}),
        json!({"tokenName": "é".repeat(58)}),
        json!({"tokenName": "a\u{200d}b"}),
        json!({"rotation": {"every": "1h"}}),
        json!({"rotation": {"every": "2160h30m", "overlap": "0s", "maxOverlap": "72h", "whenFull": "RevokeFirst"}}),
        json!({"rotation": {"overlap": "8760h"}}),
        json!({"rotation": {"every": "24h", "overlap": "24h", "maxOverlap": "24h"}}),
        json!({"rotation": {"maxOverlap": "1h"}}),
        json!({"expiresAfter": "1m", "deletionPolicy": "Retain", "suspend": true}),
        json!({"secret": {"name": "a.b-c", "key": ".env", "data": {"token": "$(TOKEN)", "A_B-c.d": "", ".x": "$$("}}}),
        json!({"secret": {"labels": {"team": "", "a.b/c": "b_C.d"}, "annotations": {"example.com/a": "{}: x"}}}),
        json!({"secret": {"labels": {"datafa.stack/a": "b"}}}),
        json!({"rolloutRestart": [{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "web"}]}),
    ] {
        let manifest = token(spec);
        assert_eq!(complaints(&manifest, None), "", "{manifest}");
        DataFastAccessToken::deserialize(&manifest).unwrap_or_else(|error| panic!("{error}: {manifest}"));
    }
    for spec in [
        json!({}),
        json!({"keyName": "Clé d’été 📈", "secret": {}, "rotation": {}, "accountRef": {}, "rolloutRestart": []}),
        json!({"rotation": {"strategy": "Roll", "every": "720h"}}),
        json!({"rotation": {"strategy": "Replace", "every": "24h", "overlap": "1h", "maxOverlap": "1.5h",
            "whenFull": "RevokeFirst"}}),
        json!({"expiresAfter": "8h", "deletionPolicy": "Retain", "suspend": true}),
    ] {
        let manifest = key(spec);
        assert_eq!(complaints(&manifest, None), "", "{manifest}");
        let read = DataFastWebsiteKey::deserialize(&manifest).unwrap_or_else(|error| panic!("{error}: {manifest}"));
        let written = serde_json::to_value(&read.spec).unwrap();
        assert_eq!(DataFastWebsiteKeySpec::deserialize(written).unwrap(), read.spec, "{manifest}");
    }
    for spec in [
        json!({"baseUrl": "http://127.0.0.1:8080"}),
        json!({"baseUrl": "https://proxy.example.com/a/b@c/"}),
        json!({"baseUrl": "http://[::1]:8080/api"}),
        json!({"pollInterval": "10s", "tokenLimit": 1}),
        json!({"allow": {"permissions": ["*"], "websiteIds": [WEBSITE], "maxTokensPerNamespace": 1}}),
        json!({"allow": {"websiteKeys": true, "maxKeysPerNamespace": 1, "deletionPolicies": ["Revoke"]}}),
        json!({"allow": {"deletionPolicies": ["Retain", "Revoke"]}, "requestsPerMinute": 600}),
        json!({"allow": {"namespaceSelector": {"matchLabels": {"team": "growth"}}}}),
        json!({"allow": {"namespaceSelector": {"matchExpressions": [
            {"key": "team", "operator": "In", "values": ["growth"]}, {"key": "banned", "operator": "DoesNotExist"}]}}}),
    ] {
        let manifest = account(spec);
        assert_eq!(complaints(&manifest, None), "", "{manifest}");
        DataFastAccount::deserialize(&manifest).unwrap_or_else(|error| panic!("{error}: {manifest}"));
    }
}

/// A single resource that cannot be read ends the watch of all, and a number too large for a duration panics in kube.
#[test]
fn a_duration_that_is_accepted_can_be_read() {
    let accepted = ["0", "0s", "90m", "1h30m", "1.5h", "36h0.25s", "250ms", "999999h9999999m999999999s999999999999ms"];
    for text in accepted {
        let manifest = token(json!({"rotation": {"overlap": text}}));
        assert_eq!(complaints(&manifest, None), "", "{text}");
        DataFastAccessToken::deserialize(&manifest).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
    for text in [
        "", " ", "1", "1d", "1 h", "-1h", "+1h", "h", "1h1h", "30m1h", "1e9h", "1_0h", ".5h", "1000000h", "1µs", "P1D",
        "inf",
    ] {
        let complaints = complaints(&token(json!({"rotation": {"overlap": text}})), None);
        assert!(complaints.starts_with("spec.rotation.overlap: rotation.overlap must be"), "{text}: {complaints}");
    }
}

#[test]
fn a_token_name_has_no_control_character() {
    for name in ["a\tb", "a\u{7f}b", "a\u{85}b", "a\u{0}b", "\n"] {
        let complaints = complaints(&token(json!({"tokenName": name})), None);
        assert!(complaints.contains("no control characters"), "{name:?}");
    }
}

#[test]
fn account_and_secret_name_never_change() {
    let named =
        |account: &str, secret: &str| token(json!({"accountRef": {"name": account}, "secret": {"name": secret}}));
    let plain = || token(json!({}));
    for (old, new) in [
        (plain(), named("default", "reports")),
        (named("default", "reports"), plain()),
        (plain(), token(json!({"accountRef": {}, "secret": {"key": "other"}}))),
        (named("growth", "keys"), named("growth", "keys")),
    ] {
        assert_eq!(complaints(&new, Some(&old)), "", "{old} to {new}");
    }
    for (old, new, message) in [
        (plain(), named("growth", "reports"), "accountRef.name cannot be changed from default to growth"),
        (named("growth", "reports"), plain(), "accountRef.name cannot be changed from growth to default"),
        (plain(), named("default", "keys"), "secret.name cannot be changed from reports to keys"),
        (named("default", "keys"), plain(), "secret.name cannot be changed from keys to reports"),
    ] {
        let complaints = complaints(&new, Some(&old));
        assert!(complaints.contains(message), "{complaints}");
    }
}

#[test]
fn a_website_never_changes() {
    let other = key(json!({"websiteId": "65f1c0ffee0123456789ffff"}));
    assert_eq!(complaints(&other, Some(&other)), "");
    let complaints = complaints(&other, Some(&key(json!({}))));
    let message = "websiteId cannot be changed from 65f1c0ffee0123456789abcd to 65f1c0ffee0123456789ffff";
    assert!(complaints.starts_with(".spec.websiteId: ") && complaints.contains(message), "{complaints}");
}

#[test]
fn the_status_of_a_website_key_has_key_ids_and_is_read_back() {
    let told = |id: &str| json!({"at": "2026-01-02T03:04:05Z", "what": "Revoked", (id): "65a3", "cause": "Retired"});
    let status = KeyStatus {
        token_id: Some("65a1".into()),
        token_name: Some("tokenId".into()),
        retiring: vec![Retiring { token_id: "65a2".into(), ..Retiring::default() }],
        history: vec![serde_json::from_value(told("tokenId")).unwrap()],
        ..KeyStatus::default()
    };
    let written = serde_json::to_value(DataFastWebsiteKeyStatus(status.clone())).unwrap();
    assert_eq!(
        written,
        json!({"keyId": "65a1", "tokenName": "tokenId", "retiring": [{"keyId": "65a2"}], "history": [told("keyId")]})
    );
    assert_eq!(DataFastWebsiteKeyStatus::deserialize(&written).unwrap().0, status);

    let fields = |kind| {
        let schema = schema(kind);
        let of = |value: &Value| value["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let status = &schema["properties"]["status"];
        let lists = ["retiring", "history"].map(|list| of(&status["properties"][list]["items"]));
        let required = ["retiring", "history"].map(|list| {
            let required = status["properties"][list]["items"]["required"].as_array().unwrap();
            required.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        });
        let all = [of(status)].into_iter().chain(lists).chain(required);
        all.map(|mut names: Vec<String>| {
            names.iter_mut().for_each(|name| *name = name.replace("keyId", "tokenId"));
            names.sort();
            names
        })
        .collect::<Vec<Vec<String>>>()
    };
    assert_eq!(fields("DataFastWebsiteKey"), fields("DataFastAccessToken"));
}

#[test]
fn samples_are_valid() {
    for file in
        ["account", "agent-token", "ci-token", "short-lived-token", "unused-token", "windowed-token", "website-key"]
    {
        let manifest: Value = serde_yaml::from_str(&read(&format!("deploy/samples/{file}.yaml"))).unwrap();
        assert_eq!(complaints(&manifest, None), "", "{file}");
        match manifest["kind"].as_str().unwrap() {
            "DataFastAccount" => drop(DataFastAccount::deserialize(&manifest).unwrap()),
            "DataFastWebsiteKey" => drop(DataFastWebsiteKey::deserialize(&manifest).unwrap()),
            _ => drop(DataFastAccessToken::deserialize(&manifest).unwrap()),
        }
    }
}

#[test]
fn crds_on_disk_are_current() {
    for ((file, yaml), crd) in crds().into_iter().zip(definitions()) {
        assert_eq!(file, format!("{}.yaml", crd.metadata.name.unwrap()));
        assert!(read(&format!("crds/{file}")) == yaml, "crds/{file} is stale: run `make manifests`");
    }
    for (file, json) in super::schemas() {
        assert!(
            read(&format!("deploy/schemas/{file}")) == json,
            "deploy/schemas/{file} is stale: run `make manifests`"
        );
    }
}

/// It is YAML in YAML, which no other check reads.
#[test]
fn argo_cd_reads_each_action_as_it_is_in_its_file() {
    let config: Value = serde_yaml::from_str(&read("deploy/argocd/argocd-cm.yaml")).unwrap();
    for kind in ["DataFastAccessToken", "DataFastWebsiteKey"] {
        let name = format!("resource.customizations.actions.datafa.st_{kind}");
        let actions: Value = serde_yaml::from_str(config["data"][name].as_str().unwrap()).unwrap();
        let file = |name: &str| json!(read(&format!("deploy/argocd/actions/{name}.lua")));
        assert_eq!(actions["discovery.lua"], file("discovery"));
        let defined = ["rotate", "revoke-now", "suspend", "resume"];
        let defined = defined.map(|name| json!({ "name": name, "action.lua": file(name) }));
        assert_eq!(actions["definitions"], json!(defined));
    }
}

#[test]
fn no_default_in_a_spec_and_one_in_each_status() {
    for kind in ["DataFastAccessToken", "DataFastAccount", "DataFastWebsiteKey"] {
        let schema = schema(kind);
        assert_eq!(schema["properties"]["status"]["default"], json!({"observedGeneration": -1}));
        assert!(!schema["properties"]["spec"].to_string().contains("\"default\":"), "{kind}");
        assert!(!schema.to_string().contains("nullable"), "{kind}");
        assert!(!schema.to_string().contains("uint"), "{kind}");
    }
}

#[test]
fn server_side_apply_merges_lists_by_what_identifies_an_entry() {
    let (token, account) = (schema("DataFastAccessToken"), schema("DataFastAccount"));
    let key = schema("DataFastWebsiteKey");
    let maps = [
        (&key["properties"]["spec"]["properties"]["rolloutRestart"], json!(["kind", "name"])),
        (&key["properties"]["status"]["properties"]["conditions"], json!(["type"])),
        (&key["properties"]["status"]["properties"]["retiring"], json!(["keyId"])),
        (&token["properties"]["spec"]["properties"]["rolloutRestart"], json!(["kind", "name"])),
        (&token["properties"]["status"]["properties"]["conditions"], json!(["type"])),
        (&token["properties"]["status"]["properties"]["retiring"], json!(["tokenId"])),
        (&account["properties"]["status"]["properties"]["conditions"], json!(["type"])),
        (&account["properties"]["status"]["properties"]["unclaimed"], json!(["tokenId"])),
    ];
    for (list, keys) in maps {
        assert_eq!((&list["x-kubernetes-list-type"], &list["x-kubernetes-list-map-keys"]), (&json!("map"), &keys));
    }
    // What somebody added by hand goes when git applies its list again.
    let allow = &account["properties"]["spec"]["properties"]["allow"]["properties"];
    let spec = &token["properties"]["spec"]["properties"];
    let of_allow = ["permissions", "websiteIds", "deletionPolicies"].map(|name| &allow[name]);
    for list in of_allow.into_iter().chain([&spec["permissions"], &spec["websiteIds"]]) {
        assert_eq!((&list["type"], &list["x-kubernetes-list-type"]), (&json!("array"), &json!("atomic")));
    }
}

#[test]
fn a_template_has_64_kib_at_most_whatever_it_is_made_of() {
    let of_data = |lengths: &[usize]| -> Value {
        lengths.iter().enumerate().map(|(n, length)| (format!("entry-{n}"), json!("a".repeat(*length)))).collect()
    };
    // With seven bytes for each name.
    let most = [16384, 16384, 16384, 16384 - 4 * 7];
    let labels = |length: usize| json!({ "team": "a".repeat(length) });
    for (secret, is_taken) in [
        (json!({ "data": of_data(&most) }), true),
        (json!({ "data": of_data(&[16384, 16384, 16384, 16384 - 4 * 7 + 1]) }), false),
        (json!({ "data": of_data(&most), "labels": labels(0) }), false),
        (
            json!({ "data": of_data(&most[1..]), "labels": labels(63), "annotations": { "note": "a".repeat(4096) } }),
            true,
        ),
        (json!({ "data": of_data(&most[1..]), "annotations": of_data(&[4096, 4096, 4096, 4096]) }), false),
        (json!({ "data": { "a": "é".repeat(16384), "b": "é".repeat(16384) } }), false),
        (json!({ "data": { "a": "é".repeat(16384), "b": "é".repeat(16384 - 1) } }), true),
    ] {
        let complaints = complaints(&token(json!({ "secret": secret })), None);
        let message = "secret.labels, secret.annotations and secret.data may have 64 KiB";
        assert_eq!(complaints.is_empty(), is_taken, "{complaints}");
        assert!(is_taken || complaints.contains(message) && complaints.lines().count() == 1, "{complaints}");
    }
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let token = DataFastAccessToken::deserialize(token(json!({}))).unwrap();
    assert_eq!((token.account_name(), token.secret_key()), ("default", "token"));
    assert_eq!((token.secret_name(), token.token_name()), ("reports".to_owned(), "demo/reports".to_owned()));
    assert_eq!((token.rotation_every(), token.overlap(), token.max_overlap()), (None, Duration::from_secs(3600), None));
    assert_eq!((token.spec.rotation.when_full, token.spec.deletion_policy), (WhenFull::Wait, DeletionPolicy::Revoke));
    assert_eq!((token.expires_after(), token.spec.suspend), (None, false));

    let key = DataFastWebsiteKey::deserialize(key(json!({}))).unwrap();
    assert_eq!((key.account_name(), key.secret_key(), key.secret_name()), ("default", "token", "shop".to_owned()));
    assert_eq!((key.token_name(), key.terms().rolls), ("demo/shop".to_owned(), false));
    assert_eq!((key.rotation_every(), key.overlap()), (None, Duration::from_secs(3600)));

    let account = DataFastAccount::deserialize(account(json!({}))).unwrap();
    assert_eq!((account.base_url(), account.credentials_key()), ("https://datafa.st/api/v1/admin", "token"));
    assert_eq!((account.poll_interval(), account.token_limit()), (Duration::from_secs(60), 20));
    assert_eq!(account.spec.allow, Allow::default());
    assert!(!account.spec.allow.website_keys);
}

#[test]
fn a_base_url_loses_the_slash_at_its_end() {
    let account = DataFastAccount::deserialize(account(json!({"baseUrl": "https://proxy.example.com/api/"}))).unwrap();
    assert_eq!(account.base_url(), "https://proxy.example.com/api");
}

#[test]
fn a_default_token_name_is_cut_to_58_characters() {
    let mut token = DataFastAccessToken::deserialize(token(json!({}))).unwrap();
    token.metadata.name = Some("é".repeat(100));
    assert_eq!(token.token_name(), format!("demo/{}", "é".repeat(53)));
}

#[test]
fn every_permission_is_read_and_written_as_datafast_does() {
    assert_eq!(Permission::ALL.len(), 19);
    for permission in Permission::ALL {
        assert_eq!(permission.as_str().parse(), Ok(*permission));
        assert_eq!(serde_json::to_value(permission).unwrap(), json!(permission.as_str()));
    }
    assert_eq!("analytics:write".parse::<Permission>(), Err(UnknownPermission("analytics:write".to_owned())));
}
