//! Raw keys are in Secrets, and nowhere else.

use std::fs;

use data_encoding::BASE64;
use datafast_harness::wait_gone;
use datafast_operator::api::{DataFastAccessToken, DataFastAccount};
use datafast_sandbox::{Fault, FaultBody, Kind, Operation, Wire};
use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use kube::{Api, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    traces::{Collector, start_traced},
    world::{Plane, Setup, WAIT, World, sandbox, shared_get},
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
