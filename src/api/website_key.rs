//! `DataFastWebsiteKey`.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function, `pub` included")]
#![allow(clippy::duplicated_attributes, reason = "one `type_` per printed column")]

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, KubeSchema, core::Duration};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    key_resource::{KeyResource, KeyStatus, Terms},
    rules,
    shared::{AccountRef, DeletionPolicy, RolloutTarget, Rotation, SecretTemplate, is_default},
    website_id::WebsiteId,
};

/// Which website the key is for, where the raw key goes, and how long it lives.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "datafa.st",
    version = "v1alpha1",
    kind = "DataFastWebsiteKey",
    plural = "datafastwebsitekeys",
    shortname = "dfk",
    category = "datafast",
    namespaced,
    status = "DataFastWebsiteKeyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A key of one website at DataFast: issued, kept in a Secret, replaced when asked for, revoked at the end.",
    validation = rules::account_is_immutable(),
    validation = rules::secret_name_is_immutable(),
    validation = rules::website_is_immutable(),
    selectable = ".spec.accountRef.name",
    selectable = ".status.secretName",
    selectable = ".status.keyId",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Secret holds a live key of the website",
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or not",
    ),
    printcolumn(
        name = "Key",
        type_ = "string",
        json_path = ".status.displayKey",
        description = "The masked key, as DataFast shows it",
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        description = "The Secret that holds the raw key",
    ),
    printcolumn(
        name = "Last Used",
        type_ = "date",
        json_path = ".status.lastUsedAt",
        description = "Time since the last use that DataFast reported",
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
    ),
    printcolumn(
        name = "Key ID",
        type_ = "string",
        json_path = ".status.keyId",
        priority = "1",
        description = "Id of the key at DataFast",
    ),
    printcolumn(
        name = "Website",
        type_ = "string",
        json_path = ".spec.websiteId",
        priority = "1",
        description = "Id of the website at DataFast",
    ),
    printcolumn(
        name = "Account",
        type_ = "string",
        json_path = ".spec.accountRef.name",
        priority = "1",
        description = "The DataFastAccount; empty means default",
    ),
    printcolumn(
        name = "Next Rotation",
        type_ = "string",
        json_path = ".status.nextRotationAt",
        priority = "1",
        description = "When the next key is issued",
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DataFastWebsiteKeySpec {
    /// The DataFast account that the website belongs to. Default: the DataFastAccount `default`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub account_ref: AccountRef,

    /// Id of the website that the key is for: 24 lower-case hex digits, such as `65f1c0ffee0123456789abcd`. Cannot be
    /// changed later. DataFast lets a website have 10 keys. The account must say `allow.websiteKeys: true`.
    pub website_id: WebsiteId,

    /// Name that people read in DataFast's own interface, 1 to 58 characters; the operator appends a marker to it.
    /// Default: `<namespace>/<name>`, cut to 58 characters. A change issues a new key, because DataFast cannot rename
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 58))]
    #[x_kube(validation = rules::token_name("keyName"))]
    pub key_name: Option<String>,

    /// The Secret that receives the raw key, in this namespace. Default: one with this resource's name, with the key in
    /// the entry `token`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secret: SecretTemplate,

    /// When the key is replaced by a new one, and how. Default: only on request, by another key beside the old one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rotation: KeyRotation,

    /// Workloads of this namespace to restart after each new key but the first, for those that read the Secret only
    /// when they start. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout_restart: Vec<RolloutTarget>,

    /// This long after the creation of this resource the key is revoked and the Secret deleted, such as `8h`; at least
    /// `1m`. Applies with `deletionPolicy: Retain` too. Raising it brings a new key. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("expiresAfter", "1m", "8h"))]
    pub expires_after: Option<Duration>,

    /// What happens when this resource is deleted. `Revoke`: the key is revoked and the Secret deleted. `Retain`, where the
    /// account allows it: both stay, and nobody looks after them. Default: `Revoke`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletion_policy: DeletionPolicy,

    /// `true`: nothing is changed, neither at DataFast nor in the cluster, until it is `false` again; deleting this
    /// resource still works. Default: `false`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
}

impl KeyResource for DataFastWebsiteKey {
    fn kind(&self) -> &'static str {
        "DataFastWebsiteKey"
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn terms(&self) -> Terms<'_> {
        let spec = &self.spec;
        Terms {
            account: &spec.account_ref,
            website: Some(&spec.website_id),
            name: spec.key_name.as_deref(),
            permissions: &[],
            website_ids: std::slice::from_ref(&spec.website_id),
            secret: &spec.secret,
            rotation: &spec.rotation.rotation,
            rolls: spec.rotation.strategy == Strategy::Roll,
            rollout_restart: &spec.rollout_restart,
            expires_after: spec.expires_after,
            when_unused: None,
            deletion_policy: spec.deletion_policy,
            suspend: spec.suspend,
        }
    }

    fn status(&self) -> Option<&KeyStatus> {
        self.status.as_ref().map(|status| &status.0)
    }

    fn set_status(&mut self, status: KeyStatus) {
        self.status = Some(DataFastWebsiteKeyStatus(status));
    }
}

/// When the key is replaced by a new one, how, and how long the old one stays valid beside it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotation {
    /// How. `Replace`: another key is issued, and both are valid for the overlap. `Roll`: the same key gets another
    /// value, without a slot of its own; its old value ends at once, before the Secret holds the new one. Default:
    /// `Replace`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strategy: Strategy,

    /// When, and the overlap: as for access tokens. A roll has no overlap.
    #[serde(flatten)]
    pub rotation: Rotation,
}

/// How a website key is replaced.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum Strategy {
    /// By another key; the old one stays valid for the overlap.
    #[default]
    Replace,
    /// By another value of the same key; the old value ends at once.
    Roll,
}

/// As that of access tokens, but with `keyId` in place of `tokenId`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct DataFastWebsiteKeyStatus(pub KeyStatus);

const TOKEN_ID: &str = "tokenId";
const KEY_ID: &str = "keyId";

/// Gives fields of one name another one, at any depth.
fn rename(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(fields) => {
            if let Some(field) = fields.remove(from) {
                fields.insert(to.to_owned(), field);
            }
            fields.values_mut().for_each(|value| rename(value, from, to));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, from, to)),
        _ => {}
    }
}

impl TryFrom<Value> for DataFastWebsiteKeyStatus {
    type Error = serde_json::Error;

    fn try_from(mut value: Value) -> Result<Self, Self::Error> {
        rename(&mut value, KEY_ID, TOKEN_ID);
        KeyStatus::deserialize(value).map(Self)
    }
}

impl From<DataFastWebsiteKeyStatus> for Value {
    fn from(status: DataFastWebsiteKeyStatus) -> Self {
        // Strings, numbers and times: serializing them has no way to fail.
        let mut value = serde_json::to_value(status.0).unwrap_or_default();
        rename(&mut value, TOKEN_ID, KEY_ID);
        value
    }
}

impl JsonSchema for DataFastWebsiteKeyStatus {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DataFastWebsiteKeyStatus".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = KeyStatus::json_schema(generator);
        if let Some(retiring) = schema.pointer_mut("/properties/retiring") {
            retiring["x-kubernetes-list-map-keys"] = json!([KEY_ID]);
            retiring["items"]["required"] = json!([KEY_ID]);
        }
        if let Some(history) = schema.pointer_mut("/properties/history") {
            history["items"]["required"] = json!(["at", "cause", KEY_ID, "what"]);
        }
        let mut value = schema.to_value();
        rename(&mut value, TOKEN_ID, KEY_ID);
        Schema::try_from(value).unwrap_or_default()
    }
}
