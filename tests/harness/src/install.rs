//! Installs what the operator needs in a cluster, from the files that users apply.

use k8s_openapi::{
    api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::{
    ControlPlane, apply_yaml,
    binaries::workspace,
    error::{Context, Result},
    eventually,
    helpers::{WAIT, wait_condition},
};

/// Where the operator lives.
pub const OPERATOR_NAMESPACE: &str = "datafast-system";

/// Applies `deploy/install.yaml` but for what would run the operator in the cluster, and the policy that would refuse what an
/// account forbids before the operator can judge it; and waits until the API server serves
/// the custom resources and knows the operator's rights. Only the first call for a control plane does so; others wait for
/// it.
///
/// # Errors
///
/// Where a file cannot be read or the API server refuses it.
pub async fn install(cluster: &ControlPlane) -> Result<()> {
    cluster.installed.get_or_try_init(|| apply_all(cluster)).await.copied()
}

async fn apply_all(cluster: &ControlPlane) -> Result<()> {
    let client = cluster.admin().await?;
    let file = workspace().join("deploy/install.yaml");
    let yaml = std::fs::read_to_string(&file).context(file.display())?;
    // Tests start the operator themselves: here its pods would wait for a node for ever.
    let is_left_out = |document: &&str| {
        ["Deployment\n", "ValidatingAdmissionPolicy"].iter().any(|kind| document.contains(&format!("\nkind: {kind}")))
    };
    let installed: Vec<_> = yaml.split("\n---\n").filter(|document| !is_left_out(document)).collect();
    let applied = apply_yaml(&client, "datafast-install", OPERATOR_NAMESPACE, &installed.join("\n---\n")).await;
    let applied = applied.context(file.display())?;
    let definitions: Vec<_> = applied.iter().filter(|object| is_crd(object)).map(ResourceExt::name_any).collect();
    for name in definitions {
        wait_established(&client, &name).await;
    }
    wait_for_rights(&cluster.operator_client().await?).await;
    Ok(())
}

/// The API server learns of roles by a watch: until then the operator would be refused what it may do.
async fn wait_for_rights(operator: &Client) {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(operator.clone());
    let (reviews, params) = (&reviews, &PostParams::default());
    for (namespace, group, resource, verb) in
        [("default", "", "secrets", "delete"), (OPERATOR_NAMESPACE, "coordination.k8s.io", "leases", "create")]
    {
        let attributes = ResourceAttributes {
            namespace: Some(namespace.into()),
            group: Some(group.into()),
            resource: Some(resource.into()),
            verb: Some(verb.into()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = &SelfSubjectAccessReview { spec, ..Default::default() };
        eventually(&format!("the operator may {verb} {resource}"), WAIT, || async move {
            let status = reviews.create(params, review).await.map_err(|e| e.to_string())?.status;
            if status.as_ref().is_some_and(|s| s.allowed) { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }
}

/// Waits until the API server serves a custom resource.
///
/// # Panics
///
/// When it does not within [`WAIT`].
pub async fn wait_established(client: &Client, name: &str) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = wait_condition(&crds, name, "Established", "True", WAIT).await;
    // The handler of requests learns of that condition a moment later than we do.
    for version in crd.spec.versions.iter().filter(|version| version.served) {
        let gvk = GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let first = ListParams::default().limit(1);
        eventually(&format!("{name} is served"), WAIT, || api.list(&first)).await;
    }
}

fn is_crd(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition")
}
