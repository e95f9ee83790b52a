//! The control plane behaves as a cluster does, as far as tests rely on it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

use std::time::Instant;

use datafast_harness::{
    ControlPlane, WAIT, apply_yaml, condition, eventually, install, namespace, server_error, wait_condition,
    wait_established, wait_gone,
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, ResourceQuota, Secret, ServiceAccount},
    rbac::v1::ClusterRole,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;

const CRD: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.harness.test }
spec:
  group: harness.test
  scope: Namespaced
  names: { kind: Widget, plural: widgets }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
"#;

fn secret(name: &str, value: &str) -> Secret {
    serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": { "token": value } })).unwrap()
}

#[tokio::test]
async fn data_and_clients_survive_a_restart_of_the_api_server() {
    let start = Instant::now();
    let cluster = ControlPlane::start().await.unwrap();
    println!("control plane ready after {:?}", start.elapsed());
    let client = cluster.admin().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    secrets.create(&PostParams::default(), &secret("kept", "x")).await.unwrap();

    cluster.stop_apiserver().unwrap();
    assert!(secrets.get("kept").await.is_err(), "nobody answers");
    let start = Instant::now();
    cluster.start_apiserver().await.unwrap();
    println!("API server ready again after {:?}", start.elapsed());
    eventually("the old client works again", WAIT, || secrets.get("kept")).await;

    // The controllers are back, too.
    let name = namespace(&client, "after").await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, &name);
    eventually("the namespace has its service account", WAIT, || accounts.get("default")).await;
}

/// With a hard limit of 0: what is created before the API server has seen the quota's status is not counted at all.
#[tokio::test]
async fn a_quota_refuses_even_a_dry_run() {
    let client = ControlPlane::shared().await.unwrap().admin().await.unwrap();
    let ns = namespace(&client, "quota").await.unwrap();
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: none }\nspec: { hard: { count/secrets: 0 } }";
    apply_yaml(&client, "test", &ns, quota).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &ns);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let refused = eventually("the quota is in force", WAIT, || async {
        secrets.create(&dry_run, &secret("a", "x")).await.err().filter(|e| e.to_string().contains("exceeded quota"))
    })
    .await;
    assert_eq!(server_error::<Secret>(Err(refused)).code, 403);
    let quota = Api::<ResourceQuota>::namespaced(client, &ns).get("none").await.unwrap();
    assert!(quota.status.unwrap().hard.is_some_and(|hard| hard.contains_key("count/secrets")));
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_all_that_is_in_it() {
    let client = ControlPlane::shared().await.unwrap().admin().await.unwrap();
    apply_yaml(&client, "test", "", CRD).await.unwrap();
    wait_established(&client, "widgets.harness.test").await;
    let ns = namespace(&client, "gone").await.unwrap();
    let widget = "apiVersion: harness.test/v1\nkind: Widget\nmetadata: { name: a, finalizers: [harness.test/wait] }";
    apply_yaml(&client, "test", &ns, widget).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(&ns, &DeleteParams::default()).await.unwrap();

    // It waits for finalizers, as everywhere.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("harness.test", "v1", "Widget"));
    let widgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), &ns, &resource);
    let held = wait_condition(&namespaces, &ns, "NamespaceFinalizersRemaining", "True", WAIT).await;
    assert!(condition(&held, "NamespaceFinalizersRemaining").unwrap().message.contains("harness.test/wait"));
    let release = json!({ "metadata": { "finalizers": null } });
    widgets.patch("a", &Default::default(), &kube::api::Patch::Merge(release)).await.unwrap();
    wait_gone(&namespaces, &ns, WAIT).await;
}

#[tokio::test]
async fn a_validating_admission_policy_refuses_a_dry_run() {
    let client = ControlPlane::shared().await.unwrap().admin().await.unwrap();
    let ns = namespace(&client, "policy").await.unwrap();
    let policy = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: no-secrets-in-{ns} }}
spec:
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {ns} }} }}
    resourceRules: [{{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets] }}]
  validations: [{{ expression: "false", message: not here }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: no-secrets-in-{ns} }}
spec: {{ policyName: no-secrets-in-{ns}, validationActions: [Deny] }}
"#
    );
    apply_yaml(&client, "test", "", &policy).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, &ns);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let refused = eventually("the policy is in force", WAIT, || async {
        secrets.create(&dry_run, &secret("a", "x")).await.err()
    })
    .await;
    assert!(refused.to_string().contains("not here"), "{refused}");
}

#[tokio::test]
async fn kubectl_works() {
    let cluster = ControlPlane::shared().await.unwrap();
    let ns = namespace(&cluster.admin().await.unwrap(), "kubectl").await.unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\ndata: { b: c }";
    let applied = cluster.kubectl_with_input(&["apply", "-n", &ns, "-f", "-"], map).await.unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let output = cluster.kubectl(&["get", "cm", "-n", &ns, "a", "-o", "jsonpath={.data.b}"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "c");
    assert!(!cluster.kubectl(&["get", "cm", "-n", &ns, "missing"]).await.unwrap().status.success());
}

#[tokio::test]
async fn the_operator_may_do_what_its_role_says_and_no_more() {
    let cluster = ControlPlane::shared().await.unwrap();
    install(&cluster).await.unwrap();
    install(&cluster).await.unwrap();
    let operator = cluster.operator_client().await.unwrap();
    let ns = namespace(&cluster.admin().await.unwrap(), "rbac").await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(operator.clone(), &ns);
    let (params, a) = (PostParams::default(), secret("a", "x"));
    eventually("RBAC has seen the role", WAIT, || secrets.create(&params, &a)).await;
    Api::<Namespace>::all(operator.clone()).get("kube-system").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(operator.clone(), &ns);
    assert_eq!(server_error(maps.list(&Default::default()).await).code, 403);
    assert_eq!(server_error(Api::<ClusterRole>::all(operator).list(&Default::default()).await).code, 403);
}

#[tokio::test]
async fn a_tenant_has_one_namespace_only() {
    let cluster = ControlPlane::shared().await.unwrap();
    let ns = namespace(&cluster.admin().await.unwrap(), "tenant").await.unwrap();
    let tenant = cluster.tenant("alice", &ns).await.unwrap();
    let own: Api<Secret> = Api::namespaced(tenant.clone(), &ns);
    let (params, a) = (PostParams::default(), secret("a", "x"));
    eventually("RBAC has seen the role", WAIT, || own.create(&params, &a)).await;
    let refused = server_error(Api::<Secret>::namespaced(tenant, "kube-system").list(&Default::default()).await);
    assert!(refused.message.contains("alice"), "{refused:?}");
}

#[tokio::test]
async fn what_is_stored_past_the_api_server_is_served_as_it_is() {
    let cluster = ControlPlane::shared().await.unwrap();
    let client = cluster.admin().await.unwrap();
    let ns = namespace(&client, "stored").await.unwrap();
    let uid = "00000000-0000-4000-8000-000000000001";
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "a", "namespace": ns, "uid": uid, "creationTimestamp": "2020-01-02T03:04:05Z" },
        "data": { "value": "eA==" },
    });
    cluster.store(&format!("secrets/{ns}/a"), &object).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, &ns);
    let stored = secrets.get("a").await.unwrap();
    assert_eq!(stored.uid().as_deref(), Some(uid));
    assert_eq!(stored.data.unwrap()["value"].0, b"x");
}

#[tokio::test]
async fn the_audit_log_has_bodies_but_none_of_secrets() {
    let cluster = ControlPlane::shared().await.unwrap();
    let client = cluster.admin().await.unwrap();
    let ns = namespace(&client, "audit").await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &ns);
    secrets.create(&PostParams::default(), &secret("audited-secret", "in-a-secret-7f3a")).await.unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\ndata: { b: in-a-map-7f3a }";
    let applied = apply_yaml(&client, "test", &ns, map).await.unwrap();
    assert_eq!(applied[0].name_any(), "a");
    let log = std::fs::read_to_string(cluster.audit_log()).unwrap();
    assert!(log.contains("in-a-map-7f3a"));
    assert!(log.contains("audited-secret"));
    assert!(!log.contains("in-a-secret-7f3a"));
    assert!(!log.contains("RequestReceived"));
}
