//! From Kubernetes objects to what the core understands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::resource::Managed;
use super::secret::Recipe;
use super::secret_owner::{holders, owner_of};
use super::{Context, status};
use crate::account::View;
use crate::api::{DeletionPolicy, KeyResource, UnusedAction, WebsiteId, WhenFull, names};
use crate::datafast::{Flaw, RawKey, TokenId};
use crate::lifecycle::adoptions;
use crate::lifecycle::allow::Standing;
use crate::lifecycle::desired::{Desired, Expiry, Rotation, WhenUnused};
use crate::lifecycle::local::Local;
use crate::lifecycle::marker::Marker;
use crate::lifecycle::observed::{AccountView, Drift, Names, Observed, SecretFacts, SecretView, StatusRecord};
use crate::lifecycle::record::{Log, Request, Requests, Scope, SecretRecord};
use crate::lifecycle::windows::Windows;

/// What the user wants of a resource.
pub(super) fn desired(resource: &dyn Managed) -> Desired {
    let terms = resource.terms();
    let abandon = resource.annotations().get(names::ABANDON).is_some_and(|value| value == "true");
    Desired {
        scope: scope(resource),
        rotation: Rotation {
            every: resource.rotation_every().map(signed),
            overlap: signed(resource.overlap()),
            max_overlap: resource.max_overlap().map(signed),
            revoke_first: terms.rotation.when_full == WhenFull::RevokeFirst,
            rolls: terms.rolls,
        },
        windows: Windows::parse(&terms.rotation.windows),
        requests: Requests::read(resource.annotations()),
        expiry: resource
            .expires_after()
            .zip(resource.created())
            .map(|(after, created)| Expiry { created, after: signed(after) }),
        when_unused: terms.when_unused.map(|when| WhenUnused {
            created: resource.created().unwrap_or(Timestamp::MIN),
            after: signed(when.after()),
            revoke: when.action == UnusedAction::Revoke,
        }),
        restarts: !terms.rollout_restart.is_empty(),
        retain: terms.deletion_policy == DeletionPolicy::Retain,
        suspended: terms.suspend,
        unreadable: resource.unreadable().cloned(),
        deleting: resource.is_deleted(),
        abandon,
    }
}

/// What its token is to be able to do.
pub(super) fn scope(resource: &dyn KeyResource) -> Scope {
    let terms = resource.terms();
    Scope {
        token_name: resource.token_name(),
        permissions: terms.permissions.iter().map(ToString::to_string).collect(),
        website_ids: terms.website_ids.iter().map(ToString::to_string).collect(),
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Everything that one reconcile reads; [`Observed`] borrows from it.
pub(super) struct Scene<'a> {
    pub(super) resource: &'a dyn Managed,
    pub(super) secret: Option<&'a Secret>,
    pub(super) secret_name: &'a str,
    pub(super) owner: &'a str,
    pub(super) view: &'a View,
    pub(super) local: &'a Local,
    pub(super) standing: Standing,
    pub(super) now: Timestamp,
}

impl<'a> Scene<'a> {
    pub(super) fn observed(&'a self, ctx: &Context) -> Observed<'a> {
        let resource = self.resource;
        let names = Names {
            owner: self.owner,
            secret: self.secret_name,
            key: resource.secret_key(),
            account: resource.account_name(),
            website: resource.terms().website.map(WebsiteId::as_str),
        };
        Observed {
            names,
            owner: resource.owner_id(),
            has_finalizer: resource.has_finalizer(),
            log: Log::read(resource.annotations(), self.now),
            status: status_record(resource),
            secret: self.secret_view(ctx),
            account: AccountView {
                availability: self.view.availability.clone(),
                window: self.view.window.clone(),
                snapshot: self.view.snapshot.as_deref(),
                slots: self.view.slots.clone(),
                allow: self.view.allow.as_deref(),
                windows: self.view.windows.as_deref(),
                standing: self.standing.clone(),
            },
            local: self.local,
            taken: self.taken(ctx),
            sees_all: ctx.sees_all(),
            adopted: adoptions::read(resource.annotations(), &resource.owner_id()),
            horizon: ctx.horizon(),
        }
    }

    fn secret_view(&self, ctx: &Context) -> SecretView {
        let Some(secret) = self.secret else { return SecretView::Missing };
        let owner = owner_of(secret, self.resource, ctx);
        let record = SecretRecord::read(secret.annotations(), self.now);
        let key = key_of(self.resource, secret, self.now);
        let flaw = entry(secret, self.resource.secret_key()).err();
        // Without an account there is no base URL to compare with.
        let key_to_compare = key.as_ref().filter(|_| self.view.base_url.is_some());
        let drift = |key| Recipe::new(self.resource, &record, key, self.view).drift(secret);
        let drift = key_to_compare.map_or_else(Drift::default, |key| drift(key));
        SecretView::Present(SecretFacts { owner, record, key, flaw, drift })
    }

    /// The tokens named by the Secret or by status that another resource has.
    fn taken(&self, ctx: &Context) -> BTreeMap<TokenId, String> {
        let status = status_record(self.resource);
        let in_secret = self.secret.and_then(|secret| secret.annotations().get(names::TOKEN_ID));
        let in_secret = in_secret.and_then(|id| TokenId::parse(id).ok());
        let named = in_secret.into_iter().chain(status.token_id).chain(status.retiring).collect();
        holders(named, self.resource, self.view.snapshot.as_deref(), ctx)
    }
}

/// The raw key in a Secret, without white space that people left around it: under `secret.key`, or, where that was just
/// changed, in another entry that fits the record.
pub(super) fn key_of(resource: &dyn Managed, secret: &Secret, now: Timestamp) -> Option<Arc<RawKey>> {
    let record = SecretRecord::read(secret.annotations(), now);
    let data = secret.data.as_ref()?;
    let parse = |name: &str| entry(secret, name).ok();
    let fits = |key: &RawKey| match (&record.token_id, &record.key_sha256) {
        (Some(id), Some(sha)) => key.fingerprint(id.as_str()) == *sha,
        _ => false,
    };
    let key = match parse(resource.secret_key()) {
        Some(key) if fits(&key) => Some(key),
        named => data.keys().filter_map(|name| parse(name)).find(fits).or(named),
    };
    key.map(Arc::new)
}

fn entry(secret: &Secret, name: &str) -> Result<RawKey, Flaw> {
    RawKey::of_entry(&secret.data.as_ref().and_then(|data| data.get(name)).ok_or(Flaw::Missing)?.0)
}

/// Since when the resource says that something is to be done.
fn waiting_since(conditions: &[Condition]) -> Option<Timestamp> {
    let reconciling = conditions.iter().find(|condition| condition.type_ == names::RECONCILING)?;
    Some(reconciling.last_transition_time.0)
}

pub(super) fn status_record(resource: &dyn Managed) -> StatusRecord {
    let Some(status) = resource.status() else { return StatusRecord::default() };
    let parse = |id: &String| TokenId::parse(id).ok();
    let marker = status.token_name.as_deref().and_then(Marker::of_name);
    let revoke_after =
        status.retiring.iter().filter_map(|it| Some((parse(&it.token_id)?, it.revoke_after.as_ref()?.0)));
    StatusRecord {
        token_id: status.token_id.as_ref().and_then(parse),
        marked: marker.as_ref().map(|marker| marker.owner.clone()),
        attempt: marker.map(|marker| marker.nonce),
        retiring: status.retiring.iter().filter_map(|retiring| parse(&retiring.token_id)).collect(),
        revoke_after: revoke_after.collect(),
        ready: status::is_true(&status.conditions, names::READY),
        waiting_since: waiting_since(&status.conditions),
        issued_at: status.issued_at.as_ref().map(|time| time.0),
        rotate_request: status.rotate_request.as_deref().and_then(Request::parse),
        last_used_at: status.last_used_at.as_ref().map(|time| time.0),
        unused_since: status.unused_since.as_ref().map(|time| time.0),
    }
}
