//! Whose a Secret says it is, and whether that one is there; and which other resource has a token.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::Context;
use super::observe::status_record;
use super::resource::Managed;
use crate::api::names;
use crate::datafast::TokenId;
use crate::lifecycle::adoptions;
use crate::lifecycle::marker::Marker;
use crate::lifecycle::observed::SecretOwner;
use crate::lifecycle::ownership::Evidence;
use crate::lifecycle::snapshot::Snapshot;

/// Whose the Secret of this resource is, by the owner that it names.
pub(super) fn owner_of(secret: &Secret, resource: &dyn Managed, ctx: &Context) -> SecretOwner {
    let Some(named) = secret.annotations().get(names::OWNER) else { return SecretOwner::Nobody };
    let recorded = secret.annotations().get(names::OWNER_UID).and_then(|place| place.split_once('/'));
    let is_namesake = *named == resource.owner();
    let Some((namespace, uid)) = recorded else {
        return if is_namesake { SecretOwner::Namesake } else { named_here(named, resource, ctx) };
    };
    if is_namesake && (namespace, uid) == (resource.namespace(), resource.uid()) {
        return SecretOwner::This;
    }
    match ctx.resources().find(|other| other.uid() == uid && other.uid() != resource.uid()) {
        Some(owner) if owner.namespace() == resource.namespace() => SecretOwner::Other(owner.owner()),
        Some(owner) => SecretOwner::Copy { of: in_words(&*owner) },
        None if is_namesake => SecretOwner::Former,
        None => named_here(named, resource, ctx),
    }
}

/// The other resources that have one of these tokens. `snapshot`: the account's, where there is one.
pub(super) fn holders(
    ids: BTreeSet<TokenId>,
    resource: &dyn Managed,
    snapshot: Option<&Snapshot>,
    ctx: &Context,
) -> BTreeMap<TokenId, String> {
    let marker = |id: &TokenId| snapshot.and_then(|snapshot| snapshot.get(id)?.marker.as_ref());
    let own = |id: &TokenId| evidence(resource, id, marker(id));
    let is_gone = |id: &TokenId| snapshot.is_some_and(|snapshot| snapshot.has_revoked(id));
    let ids = ids.into_iter().filter(|id| !is_gone(id)).map(|id| (own(&id), id));
    let unclear: Vec<_> = ids.filter(|(own, _)| *own != Some(Evidence::Marked)).collect();
    if unclear.is_empty() {
        return BTreeMap::new();
    }
    let others: Vec<_> = ctx.resources().filter(|other| other.uid() != resource.uid()).collect();
    let has = |other: &dyn Managed, id: &TokenId, own: Option<Evidence>| {
        let theirs = evidence(other, id, marker(id));
        theirs > own || theirs == own && theirs.is_some() && seniority(other) < seniority(resource)
    };
    let holder = |(own, id): (Option<Evidence>, TokenId)| {
        let holder = others.iter().find(|other| has(&***other, &id, own))?;
        Some((id, in_words(&**holder)))
    };
    unclear.into_iter().filter_map(holder).collect()
}

fn evidence(resource: &dyn Managed, id: &TokenId, marker: Option<&Marker>) -> Option<Evidence> {
    let owner = resource.owner_id();
    let adopted = || adoptions::read(resource.annotations(), &owner);
    Evidence::of(id, marker, &owner, &status_record(resource), adopted)
}

/// Who was there first. Of those of one second, always the same one.
fn seniority(resource: &dyn Managed) -> (Option<Timestamp>, &str) {
    (resource.created(), resource.uid())
}

pub(super) fn in_words(resource: &dyn Managed) -> String {
    format!("{} {resource}", resource.kind())
}

/// Another resource of the namespace, by its kind and name alone.
fn named_here(named: &str, resource: &dyn Managed, ctx: &Context) -> SecretOwner {
    let find = |(kind, name)| ctx.find(kind, resource.namespace(), name);
    match named.split_once('/').and_then(find) {
        Some(_) => SecretOwner::Other(named.to_owned()),
        None => SecretOwner::Gone(named.to_owned()),
    }
}
