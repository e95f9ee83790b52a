//! Workloads that read a Secret: as the API server keeps them, for there are no nodes.

use datafast_operator::api::names;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{World, apply};

/// A Deployment, a StatefulSet or a DaemonSet, as applied.
pub(crate) fn workload(kind: &str, name: &str) -> Value {
    let labels = json!({ "app": name });
    let mut spec = json!({
        "selector": { "matchLabels": labels },
        "template": {
            "metadata": { "labels": labels, "annotations": { "example.com/mine": "yes" } },
            "spec": { "containers": [{ "name": "main", "image": "example.com/main:1" }] },
        },
    });
    if kind != "DaemonSet" {
        spec["replicas"] = json!(0);
    }
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

impl World {
    pub(crate) fn workloads(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Applies a workload as a user.
    pub(crate) async fn run(&self, kind: &str, name: &str) {
        apply(&self.workloads(kind), name, &workload(kind, name)).await;
    }

    /// How often a workload's spec was changed, from 1, and the annotations of its template.
    pub(crate) async fn template(&self, kind: &str, name: &str) -> (i64, Value) {
        let workload = self.workloads(kind).get(name).await.unwrap();
        let annotations = workload.data.pointer("/spec/template/metadata/annotations");
        (workload.metadata.generation.unwrap(), annotations.cloned().unwrap_or_default())
    }

    /// As `kubectl rollout restart` does.
    pub(crate) async fn restart_by_hand(&self, kind: &str, name: &str, at: &str) {
        let annotations = json!({ names::RESTARTED_AT: at });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        self.workloads(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// When a resource's Secret got its key, as the Secret has it.
    pub(crate) async fn issued_at(&self, name: &str) -> String {
        self.secret(name).await.annotations()[names::ISSUED_AT].clone()
    }
}
