//! What the kinds that put a key into a Secret have in common: one engine looks after all of them.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function, `pub` included")]

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

use super::{
    permission::Permission,
    shared::{AccountRef, DeletionPolicy, HistoryEntry, Retiring, RolloutTarget, Rotation, SecretTemplate, WhenUnused},
    website_id::WebsiteId,
};

/// A resource with a key at DataFast. A kind says what it is and what its spec asks for; the defaults are applied here.
pub trait KeyResource {
    /// Its kind, as manifests spell it.
    fn kind(&self) -> &'static str;

    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// What its spec asks for.
    fn terms(&self) -> Terms<'_>;

    /// What the operator last saw and did.
    fn status(&self) -> Option<&KeyStatus>;

    /// Takes another status over.
    fn set_status(&mut self, status: KeyStatus);

    /// Effective name of the account.
    fn account_name(&self) -> &str {
        self.terms().account.name()
    }

    /// Effective name of the Secret.
    fn secret_name(&self) -> String {
        self.terms().secret.name.clone().or(self.metadata().name.clone()).unwrap_or_default()
    }

    /// Effective entry of the raw key.
    fn secret_key(&self) -> &str {
        self.terms().secret.key()
    }

    /// Effective name for people at DataFast, without the operator's marker.
    fn token_name(&self) -> String {
        let meta = self.metadata();
        let part = |name: &Option<String>| name.clone().unwrap_or_default();
        let default = || format!("{}/{}", part(&meta.namespace), part(&meta.name));
        let cut = || default().chars().take(TOKEN_NAME_MAX).collect();
        self.terms().name.map_or_else(cut, str::to_owned)
    }

    /// Time between two keys, if they are to be replaced regularly.
    fn rotation_every(&self) -> Option<StdDuration> {
        self.terms().rotation.every()
    }

    /// How long the old key is kept valid in any case.
    fn overlap(&self) -> StdDuration {
        self.terms().rotation.overlap()
    }

    /// When the old key goes even if it is still in use, where its use is to be waited for.
    fn max_overlap(&self) -> Option<StdDuration> {
        self.terms().rotation.max_overlap()
    }

    /// How long after its creation the resource's key ends for good.
    fn expires_after(&self) -> Option<StdDuration> {
        self.terms().expires_after.map(StdDuration::from)
    }
}

/// Most characters that `tokenName` and `keyName` may have: DataFast documents no limit, and our marker needs room
/// beside it.
pub const TOKEN_NAME_MAX: usize = 58;

/// What a spec asks for, whatever the kind.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The account.
    pub account: &'a AccountRef,
    /// The website that the key belongs to; none: it is the account's own.
    pub website: Option<&'a WebsiteId>,
    /// What people call it at DataFast, where the spec says so.
    pub name: Option<&'a str>,
    /// What it may do.
    pub permissions: &'a [Permission],
    /// The websites that it is for; none: all.
    pub website_ids: &'a [WebsiteId],
    /// Where the raw key goes.
    pub secret: &'a SecretTemplate,
    /// When it is replaced.
    pub rotation: &'a Rotation,
    /// It is replaced by another value of its own.
    pub rolls: bool,
    /// What is restarted after each new key.
    pub rollout_restart: &'a [RolloutTarget],
    /// How long after the resource's creation it ends for good.
    pub expires_after: Option<Duration>,
    /// What is done about a key that nobody uses.
    pub when_unused: Option<&'a WhenUnused>,
    /// What becomes of key and Secret when the resource is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Nothing is to be changed.
    pub suspend: bool,
}

/// What the operator last saw and did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The generation of the spec that this status is about; -1 until the operator has seen the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: whether the Secret holds a live key with the wanted scope. `Reconciling`: work is under way. `Stalled`: a
    /// person must act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// DataFast's id of what the Secret holds the key of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,

    /// The masked key, as DataFast shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_key: Option<String>,

    /// Its whole name at DataFast, with the operator's marker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,

    /// When DataFast created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,

    /// Last use that DataFast reported: the first one after its next list, later ones at most every 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,

    /// Name of the Secret that holds the raw key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// When the Secret got its present key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,

    /// When the next key is issued, where `rotation.every` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_at: Option<Time>,

    /// When the key is revoked for good, where `expiresAfter` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// Since when no key of this resource has been used, where that is as long as `whenUnused.after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Time>,

    /// The last value of the annotation `datafa.st/rotate` or `datafa.st/revoke-now` that was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_request: Option<String>,

    /// Former ones that are still valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["tokenId".into()]))]
    pub retiring: Vec<Retiring>,

    /// The last ten things that happened to keys of this resource, the latest at the end. Written together with other
    /// changes, never for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub history: Vec<HistoryEntry>,
}
