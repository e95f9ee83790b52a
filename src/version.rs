//! How new an object is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The resource version as a number. They are decimal numbers that grow with all that is stored: the Kubernetes API says so
/// since 1.35, and etcd made it true before.
pub(crate) fn version(metadata: &ObjectMeta) -> Option<u128> {
    metadata.resource_version.as_ref()?.parse().ok()
}
