//! A resource with a key, of whatever kind, as the shell handles it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lenient::Lenient;
use super::{Error, status};
use crate::account::ResourceRef;
use crate::api::{DataFastAccessToken, DataFastWebsiteKey, KeyResource, KeyStatus, names};
use crate::datafast::Collection;
use crate::lifecycle::desired::Unreadable;
use crate::lifecycle::marker::OwnerId;

/// A resource as it was read, and how to write it.
pub(crate) trait Managed: KeyResource + fmt::Debug + Send + Sync {
    /// For events.
    fn object_reference(&self) -> ObjectReference;

    /// Merges something into the resource.
    fn patch(&self, client: &Client, patch: Value) -> BoxFuture<'_, kube::Result<Arc<dyn Managed>>>;

    /// Writes another status over the one that was read. None: the resource is gone, or its status can't be read, and so is
    /// not written over.
    fn write_status(
        &self,
        client: &Client,
        status: KeyStatus,
    ) -> BoxFuture<'_, Result<Option<Arc<dyn Managed>>, Error>>;

    /// Asks the API server whether there is a resource of its name.
    fn is_name_taken(&self, client: &Client) -> BoxFuture<'_, kube::Result<bool>>;

    /// What this version of the operator can't read of it.
    fn unreadable(&self) -> Option<&Unreadable>;
}

/// A kind of resource.
pub(super) trait Kind:
    KeyResource
    + Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Default
    + Send
    + Sync
    + 'static
{
}

impl Kind for DataFastAccessToken {}
impl Kind for DataFastWebsiteKey {}

fn api<K: Kind>(resource: &Lenient<K>, client: &Client) -> Api<Lenient<K>> {
    Api::namespaced(client.clone(), &resource.namespace().unwrap_or_default())
}

impl<K: Kind> Managed for Lenient<K> {
    fn object_reference(&self) -> ObjectReference {
        self.object_ref(&())
    }

    fn patch(&self, client: &Client, patch: Value) -> BoxFuture<'_, kube::Result<Arc<dyn Managed>>> {
        let api = api(self, client);
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        async move {
            let patched = api.patch(&self.name_any(), &params, &Patch::Merge(patch)).await?;
            Ok(Arc::new(patched) as Arc<dyn Managed>)
        }
        .boxed()
    }

    fn write_status(
        &self,
        client: &Client,
        status: KeyStatus,
    ) -> BoxFuture<'_, Result<Option<Arc<dyn Managed>>, Error>> {
        let api = api(self, client);
        let mut resource = self.clone();
        resource.set_status(status);
        async move {
            if !self.has_readable_status() {
                let what = self.unreadable().map(|unreadable| &unreadable.what);
                tracing::warn!(what, "this version of the operator can't read the status, and so does not write it");
                return Ok(None);
            }
            let written = status::write(&api, resource, "the resource").await?;
            Ok(written.map(|written| Arc::new(written) as Arc<dyn Managed>))
        }
        .boxed()
    }

    fn is_name_taken(&self, client: &Client) -> BoxFuture<'_, kube::Result<bool>> {
        let api = api(self, client);
        // The operator has no right to `get` one.
        let this = ListParams::default().fields(&format!("metadata.name={}", self.name_any()));
        async move { Ok(!api.list_metadata(&this).await?.items.is_empty()) }.boxed()
    }

    fn unreadable(&self) -> Option<&Unreadable> {
        self.unreadable()
    }
}

impl dyn Managed + '_ {
    pub(super) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    pub(super) fn owner_id(&self) -> OwnerId {
        OwnerId::of(self.uid())
    }

    pub(super) fn annotations(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata().annotations.as_ref().unwrap_or(&NONE)
    }

    pub(super) fn finalizers(&self) -> &[String] {
        self.metadata().finalizers.as_deref().unwrap_or_default()
    }

    pub(super) fn created(&self) -> Option<Timestamp> {
        self.metadata().creation_timestamp.as_ref().map(|time| time.0)
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// Nothing of ours is left on it, and it is on its way out.
    pub(super) fn is_gone(&self) -> bool {
        self.is_deleted() && !self.has_finalizer()
    }

    /// Whether it has our finalizer.
    pub(super) fn has_finalizer(&self) -> bool {
        self.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER_REVOKE)
    }

    /// Where at DataFast its token is.
    pub(super) fn collection(&self) -> Collection {
        let website = self.terms().website;
        website.map_or(Collection::AccessTokens, |website| Collection::WebsiteKeys(website.to_string()))
    }

    pub(super) fn reference(&self) -> ResourceRef {
        ResourceRef {
            kind: self.kind(),
            collection: self.collection(),
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// `<Kind>/<name>`, as its Secret names it.
    pub(super) fn owner(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// `<namespace>/<uid>`, as its Secret has it.
    pub(super) fn place_and_uid(&self) -> String {
        format!("{}/{}", self.namespace(), self.uid())
    }
}

/// Namespace and name, for people.
impl fmt::Display for dyn Managed + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

/// The resources of one kind, as last seen.
pub(crate) trait KindStore: Send + Sync {
    /// All of them.
    fn all(&self) -> Vec<Arc<dyn Managed>>;

    /// One of them, where the kind is this one.
    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<dyn Managed>>;
}

impl<K: Kind> KindStore for Store<Lenient<K>> {
    fn all(&self) -> Vec<Arc<dyn Managed>> {
        self.state().into_iter().map(|resource| resource as Arc<dyn Managed>).collect()
    }

    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<dyn Managed>> {
        if kind != <K as Resource>::kind(&()) {
            return None;
        }
        self.get(&ObjectRef::new(name).within(namespace)).map(|resource| resource as Arc<dyn Managed>)
    }
}
