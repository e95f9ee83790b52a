//! Raw keys are in Secrets, and nowhere else.

use std::fs;

use data_encoding::BASE64;
use datafast_harness::{apply_yaml, eventually, wait_gone};
use datafast_operator::api::{DataFastAccessToken, DataFastAccount};
use datafast_sandbox::{Fault, FaultBody, Kind, Operation, Wire};
use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use rstest::rstest;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    traces::{Collector, start_traced},
    world::{
        Plane, Setup,
        Subject::{self, AccessToken, WebsiteKey},
        WAIT, World, sandbox, shared_get, shared_operator, text_in,
    },
};

/// Everything in the cluster of one kind, as text.
async fn all<K>(w: &World) -> String
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let api: Api<K> = Api::all(w.client.clone());
    serde_json::to_string(&api.list(&ListParams::default()).await.unwrap().items).unwrap()
}

/// The first text in the shape of a raw key, whosever it is.
fn raw_key(text: &str) -> Option<&str> {
    text.match_indices("dft_").find_map(|(start, _)| {
        let length = text[start + 4..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        (length > 20).then(|| &text[start..start + 4 + length])
    })
}

/// An account in which all goes wrong that can: whatever is then said of it may not quote a key.
async fn a_rough_life(w: &World) {
    let keys: Vec<_> = w.all_tokens().into_iter().map(|token| token.key).collect();
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let issued = w.issued("agent").await;

    // DataFast quotes keys in its own messages.
    let message = format!("No: {} nor {}", keys[0], issued.token.key);
    let body = FaultBody::Error { code: None, message };
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Status { status: 403, body }));
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } })).await;
    w.says("agent", "Rejected").await;
    w.account.clear_faults();

    // An answer that breaks off within a key, one that has none, and none at all.
    let text = format!("{{\"status\":\"success\",\"data\":[{{\"_id\":\"65\",\"key\":\"{}", keys[0]);
    let body = FaultBody::Text { text };
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Status { status: 200, body }).after_effect().once());
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Wire { wire: Wire::WithoutKey }).once());
    w.apply("agent", json!({ "permissions": ["analytics:read", "goals:read"], "rotation": { "overlap": "0s" } })).await;
    w.issued_alone("agent").await;

    // A key that changed, and a Secret that asks for a token with the wrong key.
    w.patch_secret("agent", json!({ "stringData": { "token": keys[0] } })).await;
    w.issued_alone("agent").await;
    let (id, _) = w.made_by_hand(&["analytics:read"]);
    let asks = json!({ datafast_operator::api::names::TOKEN_ID: id });
    w.create_secret("import", asks, json!({ "token": keys[0] })).await;
    w.apply("import", json!({ "permissions": ["analytics:read"] })).await;
    w.says("import", "SecretConflict").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
}

#[tokio::test]
async fn raw_keys_are_nowhere_but_in_secrets() {
    let w = World::new().await;
    a_rough_life(&w).await;
    let broken =
        World::with(Setup { credential: Some("dft_0123456789abcdefghij not a key"), ..Setup::default() }).await;
    broken.account_says("CredentialsNotFound").await;

    let mut places = vec![
        ("tokens".to_owned(), all::<DataFastAccessToken>(&w).await),
        ("accounts".to_owned(), all::<DataFastAccount>(&w).await),
        ("events".to_owned(), all::<Event>(&w).await),
        ("config maps".to_owned(), all::<ConfigMap>(&w).await),
        ("metrics".to_owned(), shared_get("/metrics").await.1),
    ];
    for file in fs::read_dir(w.cluster.dir()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            places.push((path.display().to_string(), String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()));
        }
    }
    assert!(places.iter().any(|(place, text)| place.ends_with("audit.log") && text.contains(&w.namespace)));
    assert!(places.iter().any(|(place, text)| place.contains("operator-") && text.contains(&w.namespace)));
    let own: Vec<_> = w.all_tokens().into_iter().map(|token| token.key).collect();
    assert!(own.len() > 4, "{}", own.len());
    for (place, text) in &places {
        // Of every test that runs beside this one.
        assert_eq!(raw_key(text), None, "in {place}");
        for key in &own {
            assert!(!text.contains(&key["dft_".len()..]), "a key is in {place}");
            assert!(!text.contains(&BASE64.encode(key.as_bytes())), "a key in base64 is in {place}");
        }
        assert!(!text.contains("0123456789abcdefghij"), "what was no credential is in {place}");
    }
    let tokens: usize = sandbox().accounts().iter().map(|account| account.tokens().len()).sum();
    println!("looked for {tokens} keys in {} places", places.len());
}

/// Only what is masked is shown, whatever DataFast says.
#[rstest]
#[tokio::test]
async fn a_masked_key_that_masks_nothing_is_not_shown(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.set_fault(Fault::new(Operation::Any, Kind::Wire { wire: Wire::Unmasked }));
    let secret = json!({ "data": { "shown": "$(DISPLAY_KEY)" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": secret })).await;
    let first = w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"], "secret": secret })).await;
    let second = w.renewed("agent", &first).await;
    w.polls(2).await;
    let issued = w.issued("agent").await;
    assert_eq!(issued.secret, second.secret, "it has come to rest");
    assert_eq!(text_in(&issued.secret, "shown"), issued.token.display_key);
    let status = issued.resource.status.clone().unwrap();
    assert_eq!(status.display_key.as_ref(), Some(&issued.token.display_key));
    assert_eq!(status.retiring[0].display_key.as_ref(), Some(&first.token.display_key));
    let all = serde_json::to_string(&(issued.resource, w.account_resource().await)).unwrap();
    assert_eq!(raw_key(&all), None);
}

/// Refuses every Secret of a namespace that is not just tried, and quotes its key and an entry made from it.
async fn refuse_with_quotes(w: &World) {
    let namespace = &w.namespace;
    let quoted = "'refused: ' + string(object.data['token']) + '; ' + string(object.data['env'])";
    let policy = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: quotes-in-{namespace} }}
spec:
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
    resourceRules: [{{ apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets] }}]
  validations: [{{ expression: request.dryRun, message: refused, messageExpression: "{quoted}" }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: quotes-in-{namespace} }}
spec: {{ policyName: quotes-in-{namespace}, validationActions: [Deny] }}
"#
    );
    apply_yaml(&w.client, "test", "", &policy).await.unwrap();
    let secret = json!({ "metadata": { "name": "probe" }, "stringData": { "token": "sesame", "env": "T=sesame" } });
    let secret = serde_json::from_value(secret).unwrap();
    let quoted = eventually("the policy is in force", WAIT, || async {
        let refusal = w.secrets().create(&PostParams::default(), &secret).await.err();
        let _ = w.secrets().delete("probe", &DeleteParams::default()).await;
        refusal
    })
    .await
    .to_string();
    for quote in ["sesame", "T=sesame"] {
        assert!(
            quoted.contains(quote) || quoted.contains(&BASE64.encode(quote.as_bytes())),
            "{quote} is not in {quoted}"
        );
    }
}

/// An admission policy that quotes what it refuses.
#[tokio::test]
async fn a_refusal_that_quotes_the_secret_shows_no_key() {
    let w = World::new().await;
    refuse_with_quotes(&w).await;
    let secret = json!({ "data": { "env": "DATAFAST_TOKEN=$(TOKEN)" } });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": secret })).await;
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.message.contains("refused: ") && ready.message.contains("[redacted]"), "{ready:?}");
    let token = w.issued_tokens().remove(0);
    let events = serde_json::to_string(&w.events("agent").await).unwrap();
    let resource = serde_json::to_string(&w.resource("agent").await).unwrap();
    for text in [&ready.message, &events, &resource] {
        assert_eq!(raw_key(text), None);
        for hidden in [token.key.clone(), format!("DATAFAST_TOKEN={}", token.key)] {
            assert!(!text.contains(&hidden) && !text.contains(&BASE64.encode(hidden.as_bytes())), "{text}");
        }
    }
}

/// A core dump would hold whatever the operator has in memory.
#[tokio::test]
async fn the_operator_leaves_no_core_dump() {
    let limits = fs::read_to_string(format!("/proc/{}/limits", shared_operator().await.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "soft and hard: {core}");
}

/// Traces leave the cluster more often than logs do.
#[tokio::test]
async fn raw_keys_are_in_no_trace() {
    let plane = Plane::take().await;
    let (collector, endpoint) = Collector::start().await;
    let operator = start_traced(&plane.cluster, &endpoint, "200").await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    a_rough_life(&w).await;
    assert!(operator.terminate().await.unwrap().status.success());

    let exported: String = collector.bytes().iter().map(|body| String::from_utf8_lossy(body)).collect();
    assert!(exported.contains(&w.namespace) && exported.contains("create_access_token"));
    assert_eq!(raw_key(&exported), None);
    for key in w.all_tokens().into_iter().map(|token| token.key).chain([w.account.credential()]) {
        assert!(!exported.contains(&key["dft_".len()..]), "a key is in a trace");
        assert!(!exported.contains(&BASE64.encode(key.as_bytes())), "a key in base64 is in a trace");
    }
}
