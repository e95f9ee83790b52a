//! The API server takes no Secret though nothing forbids it: a webhook is down, or it is too busy. The resource says so
//! within seconds, and no token is asked for in vain.

use axum::http::StatusCode;
use datafast_harness::{At, Cutter, Fault, Plan, Side, apply_yaml, eventually};
use datafast_sandbox::{Fault as ApiFault, Kind, Operation};
use jiff::SignedDuration;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::DeleteParams};
use rstest::rstest;
use serde_json::json;

use crate::refusal::{issues_nothing, wait_until_refused};
use crate::world::{
    ARGS, Clocked, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start, unique,
};
use datafast_operator::api::names;

/// What the API server says then.
const ITS_WORDS: &str = "failed calling webhook";

/// A webhook on the Secrets of a namespace of which nothing is left but its registration, until [`mend`].
async fn break_webhook(w: &World) {
    let namespace = &w.namespace;
    let yaml = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{ name: down-in-{namespace} }}
webhooks:
  - name: down.example.com
    clientConfig: {{ url: "https://127.0.0.1:1/" }}
    rules: [{{ apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets] }}]
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
    failurePolicy: Fail
    sideEffects: None
    admissionReviewVersions: [v1]
"#
    );
    apply_yaml(&w.client, "test", "", &yaml).await.unwrap();
    wait_until_refused(&w.client, namespace).await;
}

async fn mend(w: &World) {
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(w.client.clone());
    webhooks.delete(&format!("down-in-{}", w.namespace), &DeleteParams::default()).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn nothing_is_issued_while_a_webhook_on_secrets_is_down(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    break_webhook(&w).await;
    issues_nothing(&w, ITS_WORDS).await;
    assert!(w.event("agent", "SecretWriteRefused").await.contains(ITS_WORDS));
    mend(&w).await;
    w.issued_alone("agent").await;
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn a_rotation_says_that_a_webhook_on_secrets_is_down_and_the_old_key_works(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    break_webhook(&w).await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.status == "True" && ready.message.contains(ITS_WORDS), "{ready:?}");
    w.event("agent", "SecretWriteRefused").await;
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!(w.posts(), 1);
    mend(&w).await;
    w.renewed("agent", &before).await;
    assert_eq!(w.posts(), 2);
}

#[rstest]
#[tokio::test]
async fn a_key_that_a_broken_webhook_keeps_from_its_secret_is_revoked_after_five_minutes(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    w.account_says("Connected").await;
    let hold = w.set_fault(ApiFault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    break_webhook(&w).await;
    w.account.release(hold);
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.status == "False" && ready.message.contains(ITS_WORDS), "{ready:?}");
    assert!(ready.message.contains("its key is kept"), "{}", ready.message);
    assert_eq!(w.issued_tokens().len(), 1);

    w.advance(SignedDuration::from_mins(5));
    w.annotate("agent", json!({ "example.com/look": unique() })).await;
    eventually("it is revoked", WAIT, || async {
        let live = w.issued_tokens();
        if live.is_empty() { Ok(()) } else { Err(live) }
    })
    .await;
    eventually("nothing is issued", WAIT, || async {
        let ready = w.says("agent", "SecretWriteRefused").await;
        if ready.message.contains("no token is issued") { Ok(()) } else { Err(ready.message) }
    })
    .await;
    assert_eq!((w.posts(), w.deletes()), (1, 1));
    mend(&w).await;
    w.annotate("agent", json!({ "example.com/look": unique() })).await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

/// Also where the Secret was written all the same.
#[rstest]
#[tokio::test]
async fn a_key_outlives_an_api_server_that_is_too_busy_for_its_secret(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let plane = Plane::take().await;
    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let _operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.account_says("Connected").await;
    let cases = [
        (StatusCode::TOO_MANY_REQUESTS, Side::Before),
        (StatusCode::GATEWAY_TIMEOUT, Side::Before),
        (StatusCode::GATEWAY_TIMEOUT, Side::After),
        (StatusCode::INTERNAL_SERVER_ERROR, Side::After),
    ];
    for (n, (status, side)) in cases.into_iter().enumerate() {
        let name = format!("agent-{n}");
        plan.reset(Fault::Fail { at: At::Path("/secrets"), side, status }).await;
        w.apply(&name, json!({ "permissions": ["analytics:read"] })).await;
        tokio::time::timeout(WAIT, plan.reached()).await.expect("a Secret is written");
        w.issued(&name).await;
        let said = w.said(&name).into_iter().find(|ready| ready.reason == "SecretWriteRefused");
        assert!(said.is_some_and(|ready| ready.message.contains("its key is kept")), "{status} {side:?}");
        assert_eq!((w.posts(), w.deletes()), (n as u64 + 1, 0), "{status} {side:?}");
    }
}
