//! What every kind that puts a key into a Secret has in common.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function, `pub` included")]

use std::{collections::BTreeMap, time::Duration as StdDuration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{rules, windows::RotationWindow};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which DataFast account a resource belongs to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRef {
    /// Name of the DataFastAccount. Default: `default`. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("accountRef.name"))]
    pub name: Option<String>,
}

impl AccountRef {
    /// The account that is meant where none is named.
    pub const DEFAULT: &str = "default";

    /// Effective name of the account.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(Self::DEFAULT)
    }
}

/// The Secret that receives the raw key, in the resource's own namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::key_is_not_in_data())]
#[x_kube(validation = rules::template_is_small())]
pub struct SecretTemplate {
    /// Name of the Secret. Default: the name of this resource. Cannot be changed later. A Secret that exists already
    /// and is not this resource's is never overwritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("secret.name"))]
    pub name: Option<String>,

    /// Entry of the Secret that holds the raw key. Default: `token`. A change moves the entry; no new key is issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::data_key("secret.key"))]
    pub key: Option<String>,

    /// Labels to put on the Secret as well, such as `team: growth`. At most 32. Names that begin with `datafa.st/`, and
    /// `app.kubernetes.io/managed-by`, are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = json!({"type": "string", "maxLength": 256})))]
    #[x_kube(validation = rules::not_reserved("secret.labels"))]
    #[x_kube(validation = rules::qualified_names("secret.labels"))]
    #[x_kube(validation = rules::label_values("secret.labels"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations to put on the Secret as well. At most 32, of up to 4096 characters. Names that begin with
    /// `datafa.st/`, and `app.kubernetes.io/managed-by`, are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = json!({"type": "string", "maxLength": 4096})))]
    #[x_kube(validation = rules::not_reserved("secret.annotations"))]
    #[x_kube(validation = rules::qualified_names("secret.annotations"))]
    pub annotations: BTreeMap<String, String>,

    /// Further entries of the Secret, beside the raw key. In the values, `$(TOKEN)` becomes the raw key, `$(TOKEN_ID)`
    /// its id at DataFast, `$(DISPLAY_KEY)` the masked key and `$(BASE_URL)` the URL of the API; `$$(` is a literal
    /// `$(`. Example: `.env: DATAFAST_TOKEN=$(TOKEN)`. At most 32 entries, of up to 16384 characters; with `labels` and
    /// `annotations`, at most 64 KiB, names included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = json!({"type": "string", "maxLength": 16384})))]
    #[x_kube(validation = rules::data_keys("secret.data"))]
    pub data: BTreeMap<String, String>,
}

impl SecretTemplate {
    /// The entry that holds the raw key where none is named.
    pub const DEFAULT_KEY: &str = "token";
    /// Most bytes of labels, annotations and data together, names included.
    pub const MOST_BYTES: usize = 64 * 1024;

    /// Effective entry of the raw key.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(Self::DEFAULT_KEY)
    }
}

const EVERY: (&str, &str) = ("rotation.every", "self.every");
const OVERLAP: (&str, &str) = ("rotation.overlap", "(has(self.overlap) ? self.overlap : '1h')");
const MAX_OVERLAP: (&str, &str) = ("rotation.maxOverlap", "self.maxOverlap");

/// When the key is replaced by a new one, and how long the old one stays valid beside it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::not_longer("has(self.every) && has(self.overlap)", OVERLAP, EVERY,
    "the old key would outlive the next rotation; shorten the overlap or rotate less often"))]
#[x_kube(validation = rules::not_longer("has(self.maxOverlap)", OVERLAP, MAX_OVERLAP,
    "maxOverlap is the outer bound; lengthen it or shorten the overlap, which is 1h where it is left out"))]
#[x_kube(validation = rules::not_longer("has(self.every) && has(self.maxOverlap)", MAX_OVERLAP, EVERY,
    "the old key would outlive the next rotation; shorten maxOverlap or rotate less often"))]
pub struct Rotation {
    /// The most that a key's age gets to, such as `720h` (30 days); at least `1h`. A new key is issued by then, up to 5 %
    /// sooner, each resource in its own time. Default: no regular rotation, only on request (annotation `datafa.st/rotate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("rotation.every", "1h", "720h"))]
    pub every: Option<Duration>,

    /// The old key stays valid at least this long after the Secret holds the new one, such as `24h`; `0s` revokes it at
    /// once. At most `every`. Default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("rotation.overlap", "0s", "24h"))]
    pub overlap: Option<Duration>,

    /// Where set, an old key that is used after the Secret holds the new one stays valid until this long after that, such
    /// as `72h`; an unused one goes when `overlap` ends. At least `overlap`, at most `every`. Default: none, the old key
    /// goes when `overlap` ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("rotation.maxOverlap", "0s", "72h"))]
    pub max_overlap: Option<Duration>,

    /// What to do when the account, or the website of a website key, has no slot left for the old and the new key side by side: `Wait` until there is
    /// one, or `RevokeFirst`, which leaves a moment without a working key, as the annotation `datafa.st/revoke-now` does
    /// in any case. Default: `Wait`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_full: WhenFull,

    /// When rotations by time, by the annotation `datafa.st/rotate` and by a change of scope may begin. `Deny` beats
    /// `Allow`; where there is an `Allow`, only inside one. A rotation by time is planned into the last window before the key
    /// is as old as `every`. Leaks (`datafa.st/revoke-now`), lost keys, first keys, expiry and deletion never wait. At most
    /// 16. Default: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub windows: Vec<RotationWindow>,
}

impl Rotation {
    /// How long the old key stays valid where nothing is said.
    pub const DEFAULT_OVERLAP: StdDuration = StdDuration::from_secs(60 * 60);

    /// Time between two keys, if they are to be replaced regularly.
    pub fn every(&self) -> Option<StdDuration> {
        self.every.map(StdDuration::from)
    }

    /// How long the old key is kept valid in any case.
    pub fn overlap(&self) -> StdDuration {
        self.overlap.map_or(Self::DEFAULT_OVERLAP, StdDuration::from)
    }

    /// When the old key goes even if it is still in use, where its use is to be waited for.
    pub fn max_overlap(&self) -> Option<StdDuration> {
        self.max_overlap.map(StdDuration::from)
    }
}

/// What a rotation does in an account without a free slot.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum WhenFull {
    /// Wait for a slot; the old key goes on working.
    #[default]
    Wait,
    /// Revoke the old key, then issue: a moment without a working key.
    RevokeFirst,
}

/// A workload that is restarted after each new key, as `kubectl rollout restart` does.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTarget {
    /// `Deployment`, `StatefulSet` or `DaemonSet`.
    pub kind: RolloutKind,
    /// Name of the workload, in the namespace of this resource.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("rolloutRestart.name"))]
    pub name: String,
}

/// Kinds of workload that can be restarted.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[schemars(inline)]
#[expect(missing_docs, reason = "the names are Kubernetes' own kinds")]
pub enum RolloutKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// What is done about a key that nobody uses.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhenUnused {
    /// This long after its last use, such as `720h` (30 days); at least `24h`. Without any use, it counts from when the
    /// Secret got the key: a rotation begins anew, so where `rotation.every` is shorter, this time never comes.
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("whenUnused.after", "24h", "720h"))]
    pub after: Duration,

    /// `Report`: `status.unusedSince`, an event and a metric tell. `Revoke`: the key is revoked and the Secret deleted,
    /// also with `deletionPolicy: Retain`; another value of the annotation `datafa.st/rotate` brings a new one.
    pub action: UnusedAction,
}

impl WhenUnused {
    /// How long after its last use.
    pub fn after(&self) -> StdDuration {
        self.after.into()
    }
}

/// What becomes of a key that nobody uses.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum UnusedAction {
    /// It is told of.
    Report,
    /// It is revoked.
    Revoke,
}

/// What becomes of the key and the Secret when the resource is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[schemars(inline)]
pub enum DeletionPolicy {
    /// The key is revoked, the Secret deleted.
    #[default]
    Revoke,
    /// Both stay.
    Retain,
}

/// A former one that is still valid.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Retiring {
    /// Its id at DataFast.
    pub token_id: String,
    /// The masked key, as DataFast shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_key: Option<String>,
    /// Last use that DataFast reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    /// It is revoked at this time, or later where its use or the account holds that up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_after: Option<Time>,
}

/// Something that happened to a key of a resource.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct HistoryEntry {
    /// When.
    pub at: Time,
    /// `Issued`: the Secret got a key. `Rotated`: it got another one in place of a former. `Adopted`: a key that was there
    /// was taken over. `Revoked`: one ended.
    pub what: String,
    /// Its id at DataFast.
    pub token_id: String,
    /// The masked key, as DataFast showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_key: Option<String>,
    /// Why, such as `RotationDue`, `RotateRequested` or `Retired`; `Vanished` where somebody else revoked it.
    pub cause: String,
}
