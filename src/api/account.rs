//! `DataFastAccount`.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function, `pub` included")]
#![allow(clippy::duplicated_attributes, reason = "one `type_` per printed column")]

use std::{collections::BTreeSet, time::Duration as StdDuration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema, core::Duration};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    permission::Permission,
    rules,
    shared::{DeletionPolicy, is_default},
    website_id::WebsiteId,
    windows::RotationWindow,
};

/// How to reach the account, and what the cluster may do with it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "datafa.st",
    version = "v1alpha1",
    kind = "DataFastAccount",
    plural = "datafastaccounts",
    shortname = "dfa",
    category = "datafast",
    status = "DataFastAccountStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A DataFast account: the credential to manage its tokens with, and what namespaces may ask of it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether DataFast answers with this credential"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or not"
    ),
    printcolumn(
        name = "Tokens",
        type_ = "string",
        json_path = ".status.tokens.usage",
        description = "Slots in use, of all"
    ),
    printcolumn(
        name = "Unclaimed",
        type_ = "integer",
        json_path = ".status.tokens.unclaimed",
        description = "Tokens that this cluster issued and that no resource names"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Unused",
        type_ = "integer",
        json_path = ".status.tokens.unused",
        priority = "1",
        description = "Tokens that have not been used for as long as spec.whenUnused asks about"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DataFastAccountSpec {
    /// The Secret with the token that the operator itself uses.
    pub credentials_secret_ref: CredentialsSecretRef,

    /// Where the API is. Default: `https://datafa.st/api/v1/admin`. `http://` works only where the operator runs with
    /// `--allow-plain-http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::base_url("baseUrl"))]
    pub base_url: Option<String>,

    /// How often the account's tokens are listed, and the keys of each website that a resource is for, such as `5m`; at
    /// least `10s`. One list serves all resources. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("pollInterval", "10s", "60s"))]
    pub poll_interval: Option<Duration>,

    /// How many access tokens the account may have in all, those of others included. Default: `20`, which is DataFast's
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub token_limit: Option<i32>,

    /// How many of the calls that DataFast allows in a minute this account resource may use, such as `30`; 1 to 600.
    /// Default: what the headers of DataFast's answers leave; where they have none, no limit is assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub requests_per_minute: Option<i32>,

    /// When rotations of all resources of this account may begin, as `rotation.windows` says it for one. A resource's own
    /// windows narrow these: both must allow it. At most 16. Default: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rotation_windows: Vec<RotationWindow>,

    /// What namespaces may ask of this account. Default: every namespace may ask for access tokens with every permission
    /// but `*`, `api-keys:read`, `api-keys:write` and `team:write`, and for no website keys.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow: Allow,
}

/// A Secret in the operator's own namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSecretRef {
    /// Name of a Secret in the operator's own namespace. Its token (`dft_...`) needs `api-keys:read`, `api-keys:write`
    /// and every permission that it is to hand out.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("credentialsSecretRef.name"))]
    pub name: String,

    /// Entry of that Secret. Default: `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::data_key("credentialsSecretRef.key"))]
    pub key: Option<String>,
}

/// Limits of an account.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// Labels of the namespaces that may use the account, such as `matchLabels: {datafast: allowed}`. Default: all
    /// namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounded_selector")]
    #[x_kube(validation = rules::selector("allow.namespaceSelector"))]
    pub namespace_selector: Option<LabelSelector>,

    /// The most that a token may have; `*` allows everything. Default: everything but `*`, `api-keys:read`,
    /// `api-keys:write` and `team:write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 19))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::not_empty("allow.permissions", "name permissions, or leave it out for the default"))]
    #[x_kube(validation = rules::no_doubles("allow.permissions"))]
    pub permissions: Option<BTreeSet<Permission>>,

    /// Where set, a token must name its websites, out of these, and a website key must be of one of them. Default: a token
    /// may be for all websites, a key of any. At most 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::not_empty("allow.websiteIds", "name the websites, or leave it out to allow all"))]
    #[x_kube(validation = rules::no_doubles("allow.websiteIds"))]
    pub website_ids: Option<BTreeSet<WebsiteId>>,

    /// How many DataFastAccessTokens of one namespace may have a token, such as `5`; at least 1. Those that have one keep
    /// their places; of the others, those that were created first come next. Website keys do not count. Default: no limit
    /// beside the account's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens_per_namespace: Option<i32>,

    /// `true`: namespaces may have DataFastWebsiteKeys. A website key can list, roll and delete every key of its website at
    /// DataFast, past the operator. Default: `false`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub website_keys: bool,

    /// How many DataFastWebsiteKeys of one namespace may have a key, of whatever websites, such as `2`; at least 1. Who has
    /// a place is decided as for `maxTokensPerNamespace`. Default: no limit beside the ten keys of each website.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_keys_per_namespace: Option<i32>,

    /// What `deletionPolicy` may be. `[Revoke]` forbids `Retain`, which leaves tokens behind that count for nobody: a
    /// resource that has it all the same is not allowed, and when it is deleted its token is revoked. Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::not_empty("allow.deletionPolicies", "name Revoke, or leave it out to allow both"))]
    #[x_kube(validation = rules::no_doubles("allow.deletionPolicies"))]
    pub deletion_policies: Option<BTreeSet<DeletionPolicy>>,
}

/// Kubernetes' own schema, with the bounds without which a CEL rule is refused for what it might cost.
fn bounded_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = LabelSelector::json_schema(generator);
    let text = json!({"type": "string", "maxLength": 317});
    let expression = json!({
        "type": "object",
        "description": "One requirement.",
        "required": ["key", "operator"],
        "properties": {
            "key": {"type": "string", "maxLength": 317, "description": "The label's name."},
            "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                         "description": "How the label relates to `values`."},
            "values": {
                "type": "array", "items": text, "maxItems": 32, "x-kubernetes-list-type": "atomic",
                "description": "For `In` and `NotIn`: at least one value. For the others: none.",
            },
        },
    });
    schema.insert("description".into(), json!("Labels of namespaces; all that is said must hold."));
    schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
    schema.insert(
        "properties".into(),
        json!({
            "matchLabels": {
                "type": "object", "additionalProperties": text, "maxProperties": 32,
                "description": "Labels that must be there, with these values.",
            },
            "matchExpressions": {
                "type": "array", "items": expression, "maxItems": 32, "x-kubernetes-list-type": "atomic",
                "description": "Further requirements.",
            },
        }),
    );
    schema
}

/// What the operator last saw of the account.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFastAccountStatus {
    /// The generation of the spec that this status is about; -1 until the operator has seen the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: whether DataFast answers with this credential. `Reconciling`: work is under way. `Stalled`: a person
    /// must act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How many tokens the account has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCounts>,

    /// How many resources wait for a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<i32>,

    /// Up to 20 tokens that this cluster issued and that no resource names. They are never revoked by the operator:
    /// look at them, and revoke them at DataFast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["tokenId".into()]))]
    pub unclaimed: Vec<UnclaimedToken>,

    /// DataFast's limit of rate, as its answers last said. It is written together with other changes, never for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateWindow>,
}

/// DataFast's limit of rate, as its answers last said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateWindow {
    /// How many calls it allows in one window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i32>,
    /// How many of them were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<i32>,
    /// When the next window begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<Time>,
}

/// The account's tokens, counted.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenCounts {
    /// How many there may be.
    pub limit: i32,
    /// How many DataFast lists.
    pub total: i32,
    /// Both in one, such as `17/20`.
    pub usage: String,
    /// Those whose keys this cluster's Secrets hold.
    pub managed: i32,
    /// Former ones of this cluster that are still valid.
    pub retiring: i32,
    /// Those that this cluster issued and that no resource names, keys of its websites among them.
    pub unclaimed: i32,
    /// Those of `managed` that have not been used for as long as the `whenUnused` of their resources asks about.
    #[serde(default)]
    pub unused: i32,
    /// Everybody else's, the operator's own credential among them where DataFast lists it.
    pub foreign: i32,
}

/// A token that this cluster issued and that no resource names.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnclaimedToken {
    /// Id of the token at DataFast.
    pub token_id: String,
    /// The token's whole name at DataFast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
    /// The masked key, as DataFast shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_key: Option<String>,
    /// When DataFast created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// Last use that DataFast reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
}

impl DataFastAccount {
    /// DataFast's own address.
    pub const DEFAULT_BASE_URL: &str = "https://datafa.st/api/v1/admin";
    /// How often tokens are listed where nothing is said.
    pub const DEFAULT_POLL_INTERVAL: StdDuration = StdDuration::from_secs(60);
    /// DataFast's cap on access tokens per account.
    pub const DEFAULT_TOKEN_LIMIT: i32 = 20;
    /// Entry of the credential's Secret where none is named.
    pub const DEFAULT_CREDENTIALS_KEY: &str = "token";

    /// Effective address of the API, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.spec.base_url.as_deref().unwrap_or(Self::DEFAULT_BASE_URL).trim_end_matches('/')
    }

    /// Effective time between two lists.
    pub fn poll_interval(&self) -> StdDuration {
        self.spec.poll_interval.map_or(Self::DEFAULT_POLL_INTERVAL, StdDuration::from)
    }

    /// Effective number of slots, at least 1.
    pub fn token_limit(&self) -> i32 {
        self.spec.token_limit.unwrap_or(Self::DEFAULT_TOKEN_LIMIT)
    }

    /// Effective entry of the credential in its Secret.
    pub fn credentials_key(&self) -> &str {
        self.spec.credentials_secret_ref.key.as_deref().unwrap_or(Self::DEFAULT_CREDENTIALS_KEY)
    }
}
