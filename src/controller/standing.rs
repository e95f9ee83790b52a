//! Where a resource stands among those that ask the same account: its namespace, and who was there first.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::{Selector, SelectorExt};
use kube::runtime::reflector::ObjectRef;

use super::observe::desired;
use super::perform::Work;
use super::resource::Managed;
use super::{Context, Error};
use crate::api::DataFastAccount;
use crate::lifecycle::allow::{Allow, Standing};

impl Context {
    /// Which namespaces an account is for, where it says so.
    pub(super) fn selector_of(&self, account: &str) -> Option<LabelSelector> {
        self.account_resources.get(&ObjectRef::new(account))?.spec.allow.namespace_selector.clone()
    }

    /// Whether an account allows what a resource asks for, as far as the labels of namespaces have been seen; but for who
    /// was there first.
    pub(super) fn allows(&self, account: &DataFastAccount, resource: &dyn Managed) -> bool {
        let selector = account.spec.allow.namespace_selector.clone().zip(self.namespaces.as_ref());
        let is_outside = selector.is_some_and(|(selector, namespaces)| {
            let namespace = namespaces.get(&ObjectRef::new(resource.namespace()));
            let selects = |selector: Selector| namespace.is_some_and(|it| selector.matches(it.labels()));
            !Selector::try_from(selector).is_ok_and(selects)
        });
        let standing = Standing { is_outside, earlier: 0 };
        super::account::allow(account).forbids(&desired(resource).scope, standing).is_none()
    }
}

impl Work<'_> {
    /// Finds out whether the account is for the resource's namespace.
    pub(super) async fn read_namespace(&mut self) -> Result<(), Error> {
        let Some(selector) = self.ctx.selector_of(self.resource.account_name()) else {
            self.is_outside = false;
            return Ok(());
        };
        let name = self.resource.namespace().to_owned();
        // A namespace that was just created may not be in the store yet.
        let seen = self.ctx.namespaces.as_ref().and_then(|store| store.get(&ObjectRef::new(&name)));
        let labels = match seen {
            Some(namespace) => Some(namespace.labels().clone()),
            None => self.fetch_labels(&name).await?,
        };
        // What can't be told is not allowed.
        let selector = Selector::try_from(selector).ok();
        self.is_outside = !selector.zip(labels).is_some_and(|(selector, labels)| selector.matches(&labels));
        Ok(())
    }

    async fn fetch_labels(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, Error> {
        let namespaces: Api<Namespace> = Api::all(self.ctx.client.clone());
        match namespaces.get_metadata_opt(name).await {
            Err(kube::Error::Api(refusal)) if refusal.is_forbidden() => Ok(None),
            other => Ok(other?.map(|namespace| namespace.labels().clone())),
        }
    }

    pub(super) fn standing(&self, allow: Option<&Allow>) -> Standing {
        // Without a limit nobody asks who was there first.
        let is_limited = allow.is_some_and(|allow| allow.most_per_namespace.is_some());
        let earlier = if is_limited { self.earlier() } else { 0 };
        Standing { is_outside: self.is_outside, earlier }
    }

    /// How many resources of the namespace that ask the same account were there before this one.
    fn earlier(&self) -> usize {
        let resource = &*self.resource;
        let is_earlier = |other: &dyn Managed| {
            !other.is_deleted()
                && other.namespace() == resource.namespace()
                && other.account_name() == resource.account_name()
                && other.collection() == resource.collection()
                && seniority(other) < seniority(resource)
        };
        self.ctx.resources().filter(|other| is_earlier(&**other)).count()
    }
}

/// Who was there first. Of those of one second, always the same one.
fn seniority(resource: &dyn Managed) -> (Option<jiff::Timestamp>, &str) {
    (resource.created(), resource.uid())
}
