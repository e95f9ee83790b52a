//! Where the Secret cannot be written, nothing is issued.

use datafast_harness::{apply_yaml, condition, eventually, wait_gone};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicyBinding, core::v1::ResourceQuota, rbac::v1::ClusterRole,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// Waits until a Secret in this namespace is refused, as whoever `client` is.
pub(crate) async fn wait_until_refused(client: &Client, namespace: &str) {
    let api: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let secret = serde_json::from_value(json!({ "metadata": { "name": "probe" } })).unwrap();
    eventually("a Secret is refused", WAIT, || async { api.create(&params, &secret).await.err() }).await;
}

/// A resource whose Secret is refused says so with these words, and costs one record and no token, however often it is
/// tried.
pub(crate) async fn issues_nothing(w: &World, words: &str) {
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.status == "False" && ready.message.contains(words), "{words:?} is not in {:?}", ready.message);
    let count = |writes: &[String], what: &str| writes.iter().filter(|write| write.ends_with(what)).count();
    let writes = eventually("it is tried again", WAIT, || async {
        let writes = w.writes();
        if count(&writes, " secrets, dry run") >= 2 { Ok(writes) } else { Err(writes) }
    })
    .await;
    assert_eq!(count(&writes, " datafastaccesstokens"), 1, "one record: {writes:?}");
    assert_eq!(count(&writes, " secrets"), 0, "{writes:?}");
    w.event("agent", "SecretWriteRefused").await;
    let events = w.events("agent").await;
    let told: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("SecretWriteRefused")).collect();
    assert!(told.len() == 1 && told[0].series.is_none(), "one event, however often it is tried: {told:?}");
    assert_eq!(w.posts(), 0);
    assert_eq!(w.issued_tokens(), []);
}

#[rstest]
#[tokio::test]
async fn nothing_is_issued_against_a_quota(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: none }\nspec: { hard: { count/secrets: 0 } }";
    apply_yaml(&w.client, "test", &w.namespace, quota).await.unwrap();
    wait_until_refused(&w.client, &w.namespace).await;
    issues_nothing(&w, "exceeded quota").await;
    let quotas: Api<ResourceQuota> = Api::namespaced(w.client.clone(), &w.namespace);
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    w.issued_alone("agent").await;
    assert_eq!(w.posts(), 1);
}

/// Refuses Secrets in a namespace until [`lift_policy`].
async fn refuse_by_policy(w: &World, operations: &str) {
    let namespace = &w.namespace;
    let policy = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: no-secrets-in-{namespace} }}
spec:
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
    resourceRules: [{{ apiGroups: [""], apiVersions: [v1], operations: [{operations}], resources: [secrets] }}]
  validations: [{{ expression: "false", message: keys belong into the vault }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: no-secrets-in-{namespace} }}
spec: {{ policyName: no-secrets-in-{namespace}, validationActions: [Deny] }}
"#
    );
    apply_yaml(&w.client, "test", "", &policy).await.unwrap();
}

/// Has this Secret stay as it is until [`lift_policy`].
pub(crate) async fn refuse_updates(w: &World, name: &str) {
    refuse_by_policy(w, "UPDATE").await;
    eventually("the policy is in force", WAIT, || async {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let change = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
        w.secrets().patch(name, &params, &change).await.err()
    })
    .await;
}

pub(crate) async fn lift_policy(w: &World) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(w.client.clone());
    bindings.delete(&format!("no-secrets-in-{}", w.namespace), &DeleteParams::default()).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn nothing_is_issued_against_an_admission_policy(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    refuse_by_policy(&w, "CREATE").await;
    wait_until_refused(&w.client, &w.namespace).await;
    issues_nothing(&w, "keys belong into the vault").await;
    lift_policy(&w).await;
    w.issued_alone("agent").await;
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn a_token_at_work_stays_ready_when_its_secret_can_no_longer_be_written(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    refuse_updates(&w, "agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert_eq!(ready.status, "True");
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!(w.posts(), 1);
    lift_policy(&w).await;
    assert_eq!(w.issued("agent").await.token.permissions, ["goals:read"]);
    assert_eq!(w.posts(), 2);
}

#[rstest]
#[tokio::test]
async fn nothing_is_issued_without_the_right_to_write_secrets(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await;
    let roles: Api<ClusterRole> = Api::all(w.client.clone());
    let role = roles.get("datafast-operator").await.unwrap();
    let mut rules = role.rules.clone().unwrap();
    for rule in rules.iter_mut().filter(|rule| rule.resources.iter().flatten().any(|name| name == "secrets")) {
        rule.verbs.retain(|verb| verb != "create");
    }
    let set = async |rules| {
        let patch = Patch::Merge(json!({ "rules": rules }));
        roles.patch("datafast-operator", &PatchParams::default(), &patch).await.unwrap();
    };
    set(rules).await;
    wait_until_refused(&w.cluster.operator_client().await.unwrap(), &w.namespace).await;
    issues_nothing(&w, "cannot create resource").await;
    set(role.rules.unwrap()).await;
    w.issued_alone("agent").await;
    assert_eq!(w.posts(), 1);
}

#[rstest]
#[tokio::test]
async fn a_secret_of_somebody_else_is_left_as_it_is(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let secret = w.create_secret("agent", json!({ "example.com/mine": "yes" }), json!({ "token": "precious" })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let ready = w.says("agent", "SecretConflict").await;
    assert!(ready.status == "False" && ready.message.contains("agent"), "{ready:?}");
    let stalled = condition(&w.resource("agent").await, "Stalled");
    assert!(stalled.as_ref().is_some_and(|stalled| stalled.status == "True"), "{stalled:?}");
    w.event("agent", "SecretConflict").await;
    w.polls(2).await;
    assert_eq!(w.secret("agent").await, secret);
    assert_eq!(w.posts(), 0);
    w.delete_secret("agent").await;
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn a_conflicting_resource_can_be_deleted_and_leaves_the_secret(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let secret = w.create_secret("agent", json!({}), json!({ "token": "precious" })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.says("agent", "SecretConflict").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.secret("agent").await, secret);
}

#[rstest]
#[tokio::test]
async fn two_resources_cannot_share_a_secret(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("first", json!({ "permissions": ["analytics:read"], "secret": { "name": "shared" } })).await;
    let first = w.issued("first").await;
    w.apply("second", json!({ "permissions": ["goals:read"], "secret": { "name": "shared" } })).await;
    let ready = w.says("second", "SecretConflict").await;
    assert!(ready.message.contains(&format!("{}/first", w.kind.name())), "{}", ready.message);
    w.polls(1).await;
    assert_eq!(w.secret("shared").await, first.secret);
    assert_eq!(w.posts(), 1);
    w.delete("first").await;
    let second = w.issued_alone("second").await;
    assert_eq!(second.token.permissions, ["goals:read"]);
}

#[rstest]
#[tokio::test]
async fn an_immutable_secret_keeps_its_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    w.patch_secret("agent", json!({ "immutable": true })).await;
    let before = w.secret("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    let ready = w.says("agent", "SecretWriteRefused").await;
    assert!(ready.status == "True" && ready.message.contains("immutable"), "{ready:?}");
    w.polls(1).await;
    assert_eq!(w.secret("agent").await, before);
    assert_eq!(w.posts(), 1);
    w.delete_secret("agent").await;
    assert_eq!(w.issued("agent").await.token.permissions, ["goals:read"]);
}
