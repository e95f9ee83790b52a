//! `DataFastAccessToken`.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function, `pub` included")]
#![allow(clippy::duplicated_attributes, reason = "one `type_` per printed column")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

use super::{
    key_resource::{KeyResource, KeyStatus, Terms},
    permission::Permission,
    rules,
    shared::{AccountRef, DeletionPolicy, RolloutTarget, Rotation, SecretTemplate, WhenUnused, is_default},
    website_id::WebsiteId,
};

/// What the token may do, where its raw key goes, and how long it lives.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "datafa.st",
    version = "v1alpha1",
    kind = "DataFastAccessToken",
    plural = "datafastaccesstokens",
    shortname = "dft",
    category = "datafast",
    namespaced,
    status = "KeyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An access token of DataFast: issued, kept in a Secret, replaced when asked for, revoked at the end.",
    validation = rules::account_is_immutable(),
    validation = rules::secret_name_is_immutable(),
    selectable = ".spec.accountRef.name",
    selectable = ".status.secretName",
    selectable = ".status.tokenId",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Secret holds a live token with the wanted scope",
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
        name = "Token ID",
        type_ = "string",
        json_path = ".status.tokenId",
        priority = "1",
        description = "Id of the token at DataFast",
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
        description = "When the next token is issued",
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DataFastAccessTokenSpec {
    /// The DataFast account that the token belongs to. Default: the DataFastAccount `default`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub account_ref: AccountRef,

    /// Name that people read in DataFast's own interface, 1 to 58 characters; the operator appends a marker to it.
    /// Default: `<namespace>/<name>`, cut to 58 characters. A change issues a new token, because DataFast cannot rename
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 58))]
    #[x_kube(validation = rules::token_name("tokenName"))]
    pub token_name: Option<String>,

    /// What the token may do: one or more of DataFast's permissions, or `*` alone for everything. Give only what is
    /// needed, such as `["analytics:read"]`. It cannot exceed what the account's own credential may do, nor what the
    /// account allows. A change issues a new token.
    #[schemars(length(max = 19))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::not_empty("permissions", "name what the token may do, such as analytics:read"))]
    #[x_kube(validation = rules::no_doubles("permissions"))]
    #[x_kube(validation = ("!('*' in self) || self.size() == 1",
        "permissions: * stands alone, because it includes all others; remove it, or the others"))]
    pub permissions: Vec<Permission>,

    /// Ids of the websites that the token is for, each of 24 lower-case hex digits, such as `65f1c0ffee0123456789abcd`.
    /// At most 256. Default (also for an empty list): all websites of the account. A change issues a new token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::no_doubles("websiteIds"))]
    pub website_ids: Vec<WebsiteId>,

    /// The Secret that receives the raw key, in this namespace. Default: one with this resource's name, with the key in
    /// the entry `token`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secret: SecretTemplate,

    /// When the token is replaced by a new one, and how long both are valid. Default: only on request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rotation: Rotation,

    /// Workloads of this namespace to restart after each new token but the first, for those that read the Secret only
    /// when they start. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout_restart: Vec<RolloutTarget>,

    /// This long after the creation of this resource the token is revoked and the Secret deleted, such as `8h`; at
    /// least `1m`. Applies with `deletionPolicy: Retain` too. Raising it brings a new token. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    #[x_kube(validation = rules::duration("expiresAfter", "1m", "8h"))]
    pub expires_after: Option<Duration>,

    /// What is done about a token that nobody uses. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unused: Option<WhenUnused>,

    /// What happens when this resource is deleted. `Revoke`: the token is revoked and the Secret deleted. `Retain`, where
    /// the account allows it: both stay, and nobody looks after them. Default: `Revoke`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletion_policy: DeletionPolicy,

    /// `true`: nothing is changed, neither at DataFast nor in the cluster, until it is `false` again; deleting this
    /// resource still works. Default: `false`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
}

impl KeyResource for DataFastAccessToken {
    fn kind(&self) -> &'static str {
        "DataFastAccessToken"
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn terms(&self) -> Terms<'_> {
        let spec = &self.spec;
        Terms {
            account: &spec.account_ref,
            website: None,
            name: spec.token_name.as_deref(),
            permissions: &spec.permissions,
            website_ids: &spec.website_ids,
            secret: &spec.secret,
            rotation: &spec.rotation,
            rolls: false,
            rollout_restart: &spec.rollout_restart,
            expires_after: spec.expires_after,
            when_unused: spec.when_unused.as_ref(),
            deletion_policy: spec.deletion_policy,
            suspend: spec.suspend,
        }
    }

    fn status(&self) -> Option<&KeyStatus> {
        self.status.as_ref()
    }

    fn set_status(&mut self, status: KeyStatus) {
        self.status = Some(status);
    }
}
