//! Whose a Secret says it is, and whether that one is there.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::Context;
use super::resource::Managed;
use crate::api::names;
use crate::lifecycle::observed::SecretOwner;

/// Whose the Secret of this resource is, by the owner that it names.
pub(super) fn owner_of(secret: &Secret, resource: &dyn Managed, ctx: &Context) -> SecretOwner {
    let Some(named) = secret.annotations().get(names::OWNER) else { return SecretOwner::Nobody };
    let recorded = secret.annotations().get(names::OWNER_UID).and_then(|place| place.split_once('/'));
    let is_namesake = *named == resource.owner();
    let Some((namespace, uid)) = recorded else {
        return if is_namesake { SecretOwner::This } else { named_here(named, resource, ctx) };
    };
    if is_namesake && (namespace, uid) == (resource.namespace(), resource.uid()) {
        return SecretOwner::This;
    }
    match ctx.resources().find(|other| other.uid() == uid && other.uid() != resource.uid()) {
        Some(owner) if owner.namespace() == resource.namespace() => SecretOwner::Other(owner.owner()),
        Some(owner) => SecretOwner::Copy { of: of(&owner) },
        None if is_namesake => SecretOwner::Former { namespace: namespace.to_owned() },
        None => named_here(named, resource, ctx),
    }
}

fn of(owner: &Arc<dyn Managed>) -> String {
    format!("{} {owner}", owner.kind())
}

/// Another resource of the namespace, by its kind and name alone.
fn named_here(named: &str, resource: &dyn Managed, ctx: &Context) -> SecretOwner {
    let find = |(kind, name)| ctx.find(kind, resource.namespace(), name);
    match named.split_once('/').and_then(find) {
        Some(_) => SecretOwner::Other(named.to_owned()),
        None => SecretOwner::Gone(named.to_owned()),
    }
}
