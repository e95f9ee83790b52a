//! SIGTERM comes at a bad time: the operator ends within 20 s, and a key that DataFast issued is not dropped.

use std::time::Duration;

use datafast_harness::{Ended, Operator, apply_yaml, eventually};
use datafast_sandbox::{Fault, FaultId, Kind, Operation};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, HORIZON_ARG, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, key_in, start,
};

/// A world whose operator waits for DataFast's answer.
async fn waiting(kind: Subject, plane: &Plane, operator_args: &[&str]) -> (Operator, World, FaultId) {
    let operator = start(&plane.cluster, None, operator_args).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.account_says("Connected").await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(hold)).await.expect("a request for a token");
    (operator, w, hold)
}

/// The operator gives itself less than 20 s, and a pod is given 30 s: what is between is for slow machines.
pub(crate) fn ends_in_time(ended: &Ended) {
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.after < Duration::from_secs(30), "{ended:?}");
}

/// Waits until an operator has taken notice of SIGTERM.
pub(crate) async fn is_asked_to_end(operator: &Operator) {
    is_told(operator, "shutting down").await;
}

async fn is_told(operator: &Operator, what: &str) {
    eventually("it is told", WAIT, || async { operator.logs().contains(what).then_some(()) }).await;
}

#[rstest]
#[tokio::test]
async fn at_shutdown_an_answer_on_its_way_still_reaches_the_secret(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let args = ["--allow-plain-http", "--horizon", HORIZON_ARG, "--lease-duration", "1m"];
    let (operator, w, hold) = waiting(kind, &plane, &args).await;
    let answer = async {
        is_told(&operator, "keys are still to be written into Secrets").await;
        assert!(operator.is_running().unwrap(), "it waits for the answer");
        w.account.release(hold);
    };
    let (ended, ()) = tokio::join!(operator.terminate(), answer);
    ends_in_time(&ended.unwrap());
    let key = key_in(&w.secret("agent").await, &w.resource("agent").await);
    let live: Vec<_> = w.issued_tokens().into_iter().map(|token| token.key).collect();
    assert_eq!(live, [key]);

    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.issued_alone("agent").await;
    w.horizon_passes().await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn at_shutdown_an_answer_that_does_not_come_is_given_up(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let (operator, w, hold) = waiting(kind, &plane, &ARGS).await;
    ends_in_time(&operator.terminate().await.unwrap());
    // Now that nobody waits for it, the token is issued.
    w.account.release(hold);
    eventually("there is a token", WAIT, || async { w.issued_tokens().pop() }).await;

    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.issued_alone("agent").await;
    w.event("agent", "LostAttemptRevoked").await;
    w.horizon_passes().await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

/// The Secret could have been written when the token was asked for, and no longer when the key is there.
#[rstest]
#[tokio::test]
async fn at_shutdown_a_key_that_no_secret_takes_leaves_no_token_for_good(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let plane = Plane::take().await;
    let (operator, w, hold) = waiting(kind, &plane, &ARGS).await;
    let policy = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: shut-{0} }}
spec:
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {0} }} }}
    resourceRules: [{{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets] }}]
  validations: [{{ expression: "false", message: not now }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: shut-{0} }}
spec: {{ policyName: shut-{0}, validationActions: [Deny] }}
"#,
        w.namespace
    );
    apply_yaml(&w.client, "test", "", &policy).await.unwrap();
    let probe = serde_json::from_value(json!({ "metadata": { "name": "probe" } })).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let secrets = w.secrets();
    eventually("the policy is in force", WAIT, || async { secrets.create(&params, &probe).await.err() }).await;
    w.account.release(hold);
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.message.contains("not now"), "{ready:?}");
    assert_eq!(w.issued_tokens().len(), 1, "the key is kept, for the Secret may come");
    ends_in_time(&operator.terminate().await.unwrap());

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(w.client.clone());
    bindings.delete(&format!("shut-{}", w.namespace), &DeleteParams::default()).await.unwrap();
    eventually("the policy is gone", WAIT, || secrets.create(&params, &probe)).await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.issued_alone("agent").await;
    w.horizon_passes().await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}

/// How long the operator gives what is in hand; and half of that what is not. Where it waits for something that does not
/// end by itself, it does so each time, whereas a machine that is busy is not so each time.
const FINISH: Duration = Duration::from_secs(15);

#[rstest]
#[tokio::test]
async fn an_idle_operator_ends_at_once(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let mut operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        w.polls(1).await;
        let ended = operator.terminate().await.unwrap();
        assert!(ended.status.success(), "{ended:?}");
        quickest = quickest.min(ended.after);
        operator = start(&plane.cluster, None, &ARGS).await;
    }
    assert!(quickest < FINISH / 2, "{quickest:?}");

    w.polls(2).await;
    let after = w.issued("agent").await;
    assert_eq!((after.secret, after.resource.status), (before.secret, before.resource.status));
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn at_shutdown_an_api_server_that_is_away_leaves_no_token_for_good(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let plane = Plane::take().await;
    let (operator, w, hold) = waiting(kind, &plane, &ARGS).await;
    plane.cluster.stop_apiserver().unwrap();
    w.account.release(hold);
    eventually("there is a token", WAIT, || async { w.issued_tokens().pop() }).await;
    let ended = operator.terminate().await;
    plane.cluster.start_apiserver().await.unwrap();
    ends_in_time(&ended.unwrap());

    let _operator = start(&plane.cluster, None, &ARGS).await;
    w.issued_alone("agent").await;
    w.horizon_passes().await;
    w.issued_alone("agent").await;
    assert_eq!((w.posts(), w.deletes()), (2, 1));
}
