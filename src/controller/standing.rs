//! Where a resource stands among those that ask the same account: its namespace, and who comes first there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::Api;
use kube::core::{Selector, SelectorExt};
use kube::runtime::reflector::ObjectRef;

use super::observe::{scope, status_record};
use super::perform::Work;
use super::resource::Managed;
use super::{Context, Doing, Error};
use crate::api::{DataFastAccount, DeletionPolicy, KeyResource, names};
use crate::lifecycle::allow::{Allow, Asked, Forbidden, Outside, Place, Rank, Standing};
use crate::lifecycle::record::{Log, SecretRecord};
use crate::lock::lock;

/// What an account forbids of what a resource asks for, by the labels of its namespace (none: they are not known); but for
/// who comes first there.
pub fn forbids(
    account: &DataFastAccount,
    resource: &dyn KeyResource,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<Forbidden> {
    let selector = account.spec.allow.namespace_selector.clone();
    let outside = selector.and_then(|selector| outside(selector, labels));
    forbids_standing(account, resource, outside)
}

/// Why an account for these namespaces is not for one with these labels.
fn outside(selector: LabelSelector, labels: Option<&BTreeMap<String, String>>) -> Option<Outside> {
    // What can't be told is not allowed.
    let selector = Selector::try_from(selector).ok();
    let is_selected = selector.zip(labels).is_some_and(|(selector, labels)| selector.matches(labels));
    (!is_selected).then_some(Outside::NotSelected)
}

fn forbids_standing(
    account: &DataFastAccount,
    resource: &dyn KeyResource,
    outside: Option<Outside>,
) -> Option<Forbidden> {
    let scope = scope(resource);
    let retain = resource.terms().deletion_policy == DeletionPolicy::Retain;
    let asked = Asked { scope: &scope, is_website_key: is_website_key(resource), retain };
    super::account::allow(account).forbids(asked, &Standing { outside, ahead: 0 })
}

impl Context {
    /// Which namespaces an account is for, where it says so.
    pub(super) fn selector_of(&self, account: &str) -> Option<LabelSelector> {
        self.account_resources.get(&ObjectRef::new(account))?.spec.allow.namespace_selector.clone()
    }

    /// Whether an account allows what a resource asks for, as far as the labels of namespaces have been seen; but for who
    /// comes first.
    pub(super) fn allows(&self, account: &DataFastAccount, resource: &dyn Managed) -> bool {
        let Some(namespaces) = &self.namespaces else {
            return forbids_standing(account, resource, None).is_none();
        };
        let namespace = namespaces.get(&ObjectRef::new(resource.namespace()));
        forbids(account, resource, namespace.as_ref().map(|it| it.labels())).is_none()
    }

    /// Those of an account's resources for which their namespace's share has no place, by uid.
    pub(super) fn beyond_share(&self, account: &DataFastAccount, users: &[Arc<dyn Managed>]) -> HashSet<String> {
        let allow = super::account::allow(account);
        let mut shares: BTreeMap<Share<'_>, Vec<Rank>> = BTreeMap::new();
        for user in users.iter().filter(|user| allow.most(is_website_key(&***user)).is_some()) {
            shares.entry(share(&**user)).or_default().extend(self.rank(&**user));
        }
        let beyond = shares.into_iter().flat_map(|(share, mut ranks)| {
            ranks.sort();
            ranks.into_iter().skip(allow.most(share.is_website_key).unwrap_or(usize::MAX))
        });
        beyond.map(|rank| rank.uid).collect()
    }

    /// Where a resource comes in its namespace's share. One that is being deleted has a part in it until its token is gone.
    fn rank(&self, resource: &dyn Managed) -> Option<Rank> {
        let place = self.place(resource);
        let counts = !resource.is_deleted() || place != Place::Nothing;
        counts.then(|| Rank { place, created: resource.created(), uid: resource.uid().to_owned() })
    }

    /// What a resource has of its namespace's share, by what has been seen, and what this process has done meanwhile.
    fn place(&self, resource: &dyn Managed) -> Place {
        let status = status_record(resource);
        let is_begun = || self.memories.known(resource.uid()).is_some_and(|memory| lock(&memory).has_place());
        if status.token_id.is_some() || !status.retiring.is_empty() || is_begun() {
            return Place::Taken;
        }
        let is_logged = || !Log::read(resource.annotations(), self.now()).0.is_empty();
        if is_logged() || self.is_in_secret(resource) { Place::Recorded } else { Place::Nothing }
    }

    /// Whether a resource's Secret has a record of a token, as after an import that no status tells of yet.
    fn is_in_secret(&self, resource: &dyn Managed) -> bool {
        let secret = ObjectRef::new(&resource.secret_name()).within(resource.namespace());
        self.secrets.iter().filter_map(|secrets| secrets.get(&secret)).any(|secret| {
            let record = SecretRecord::read(secret.annotations(), self.now());
            let is_its = secret.annotations().get(names::OWNER) == Some(&resource.owner());
            is_its && (record.attempt.is_some() || record.token_id.is_some())
        })
    }
}

/// Resources that share what an account allows for a namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Share<'a> {
    account: &'a str,
    namespace: &'a str,
    is_website_key: bool,
}

fn share(resource: &dyn Managed) -> Share<'_> {
    Share {
        account: resource.account_name(),
        namespace: resource.namespace(),
        is_website_key: is_website_key(resource),
    }
}

fn is_website_key(resource: &dyn KeyResource) -> bool {
    resource.terms().website.is_some()
}

impl Work<'_> {
    /// Finds out whether the account is for the resource's namespace.
    pub(super) async fn read_namespace(&mut self) -> Result<(), Error> {
        let Some(selector) = self.ctx.selector_of(self.resource.account_name()) else {
            self.outside = None;
            return Ok(());
        };
        let name = self.resource.namespace().to_owned();
        // A namespace that was just created may not be in the store yet.
        let seen = self.ctx.namespaces.as_ref().and_then(|store| store.get(&ObjectRef::new(&name)));
        self.outside = match seen {
            Some(namespace) => outside(selector, Some(namespace.labels())),
            None => self.ask_whether_outside(&name, selector).await?,
        };
        Ok(())
    }

    async fn ask_whether_outside(&self, name: &str, selector: LabelSelector) -> Result<Option<Outside>, Error> {
        let namespaces: Api<Namespace> = Api::all(self.ctx.client.clone());
        match namespaces.get_metadata_opt(name).await.doing("Reading the namespace") {
            Err(error) if error.is_forbidden() => Ok(Some(Outside::Unreadable(error.to_string()))),
            answer => Ok(outside(selector, answer?.as_ref().map(|namespace| namespace.labels()))),
        }
    }

    /// Where the resource stands. Whoever acts on it takes its place before the next one is judged: [`Context::places`].
    pub(super) fn standing(&self, allow: Option<&Allow>) -> Standing {
        // Without a limit nobody asks who comes first.
        let is_limited = allow.is_some_and(|allow| allow.most(is_website_key(&*self.resource)).is_some());
        let ahead = if is_limited { self.ahead() } else { 0 };
        Standing { outside: self.outside.clone(), ahead }
    }

    /// How many resources that share with this one come before it.
    fn ahead(&self) -> usize {
        let (ctx, resource) = (self.ctx, &*self.resource);
        let (own, Some(rank)) = (share(resource), ctx.rank(resource)) else { return 0 };
        let others = ctx.resources().filter(|other| share(&**other) == own && other.uid() != resource.uid());
        others.filter_map(|other| ctx.rank(&*other)).filter(|other| *other < rank).count()
    }
}
