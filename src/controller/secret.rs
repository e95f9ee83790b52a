//! The Secret: what it is to hold, whether it does, and the writes. This is one of the two places where a raw key is
//! exposed; the other is the header of a request to DataFast.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};

use super::resource::Managed;
use crate::account::View;
use crate::api::names;
use crate::datafast::RawKey;
use crate::lifecycle::record::SecretRecord;

/// What a Secret is made from.
pub(crate) struct Recipe<'a> {
    resource: &'a dyn Managed,
    record: &'a SecretRecord,
    key: &'a RawKey,
    /// As DataFast shows the key, or would show it.
    pub(crate) display_key: String,
    base_url: &'a str,
}

impl<'a> Recipe<'a> {
    /// For a token of an account.
    pub(crate) fn new(resource: &'a dyn Managed, record: &'a SecretRecord, key: &'a RawKey, account: &'a View) -> Self {
        let listed = record.token_id.as_ref().and_then(|id| account.snapshot.as_ref()?.get(id));
        let shown = listed.map(|listed| listed.token.display_key.clone()).filter(|shown| !shown.is_empty());
        let display_key = shown.unwrap_or_else(|| key.mask());
        Self { resource, record, key, display_key, base_url: account.base_url.as_deref().unwrap_or_default() }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.resource.terms().secret.labels.clone();
        labels.insert(names::MANAGED_BY.into(), names::MANAGER.into());
        labels
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.resource.terms().secret.annotations.clone();
        annotations.insert(names::OWNER.into(), self.resource.owner());
        let record = self.record.annotations().into_iter();
        annotations.extend(record.filter_map(|(name, value)| Some((name.to_owned(), value?))));
        annotations
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let token_id = self.record.token_id.as_ref().map(|id| id.as_str()).unwrap_or_default();
        let values = [
            ("TOKEN", self.key.expose()),
            ("TOKEN_ID", token_id),
            ("DISPLAY_KEY", &self.display_key),
            ("BASE_URL", self.base_url),
        ];
        let templates = self.resource.terms().secret.data.iter();
        let mut data: BTreeMap<_, _> =
            templates.map(|(name, template)| (name.clone(), ByteString(expand(template, &values).into()))).collect();
        let key = self.key.expose().as_bytes().to_vec();
        data.insert(self.resource.secret_key().to_owned(), ByteString(key));
        data
    }

    /// The Secret as it is to be, given the one that is there: what others put on it stays, but for the data, which is
    /// all ours.
    pub(crate) fn secret(&self, existing: Option<&Secret>) -> Secret {
        let mut secret = existing.cloned().unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.resource.secret_name()),
                namespace: Some(self.resource.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".into()),
            ..Secret::default()
        });
        let (old_labels, old_annotations) = existing.map(written_by_us).unwrap_or_default();
        let labels = merged(secret.metadata.labels.take(), &old_labels, self.labels());
        secret.metadata.labels = Some(labels);
        let mut annotations = merged(secret.metadata.annotations.take(), &old_annotations, self.annotations());
        for (name, value) in self.record.annotations() {
            if value.is_none() {
                annotations.remove(name);
            }
        }
        secret.metadata.annotations = Some(annotations);
        secret.metadata.managed_fields = None;
        secret.data = Some(self.data());
        secret
    }

    /// Whether the Secret that is there differs from how it is to be.
    pub(crate) fn has_drifted(&self, existing: &Secret) -> bool {
        let wanted = self.secret(Some(existing));
        wanted.metadata.labels != existing.metadata.labels
            || wanted.metadata.annotations != existing.metadata.annotations
            || wanted.data != existing.data
    }
}

/// What is there, without what we wrote earlier, with what we want now.
fn merged(
    there: Option<BTreeMap<String, String>>,
    ours: &BTreeSet<String>,
    wanted: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let others = there.unwrap_or_default().into_iter().filter(|(name, _)| !ours.contains(name));
    others.chain(wanted).collect()
}

/// The labels and annotations that we put on a Secret, by the API server's own record of who set what. So an entry that
/// leaves `secret.labels` leaves the Secret, and what others added stays.
fn written_by_us(secret: &Secret) -> (BTreeSet<String>, BTreeSet<String>) {
    let entries = secret.metadata.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| entry.manager.as_deref() == Some(names::MANAGER));
    let fields: Vec<&serde_json::Value> = ours.filter_map(|entry| Some(&entry.fields_v1.as_ref()?.0)).collect();
    let names = |kind: &str| {
        let maps = fields.iter().filter_map(|fields| fields.get("f:metadata")?.get(kind)?.as_object());
        maps.flat_map(|map| map.keys()).filter_map(|name| name.strip_prefix("f:")).map(str::to_owned).collect()
    };
    (names("f:labels"), names("f:annotations"))
}

/// Replaces `$(NAME)` by a value; `$$(` is a literal `$(`; a name that is not known stays as it is, as in Pod specs.
fn expand(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$(") {
            text.push_str("$(");
            rest = after;
            continue;
        }
        let named = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        let value = named.and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, after))
        });
        match value {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
            None => {
                text.push('$');
                rest = &rest[1..];
            }
        }
    }
    text + rest
}

/// The Secrets of one namespace.
pub(crate) struct Secrets(pub(crate) Api<Secret>);

impl Secrets {
    fn params(dry_run: bool) -> PostParams {
        PostParams { dry_run, field_manager: Some(names::MANAGER.into()) }
    }

    /// Creates the Secret, or replaces the one that was read: never one that somebody changed since.
    pub(crate) async fn write(&self, secret: &Secret, dry_run: bool) -> kube::Result<Secret> {
        let params = Self::params(dry_run);
        match secret.metadata.resource_version {
            Some(_) => self.0.replace(&secret.name_any(), &params, secret).await,
            None => self.0.create(&params, secret).await,
        }
    }

    /// Deletes the very Secret that was read.
    pub(crate) async fn delete(&self, secret: &Secret) -> kube::Result<()> {
        let pinned = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
        let params = DeleteParams { preconditions: Some(pinned), ..DeleteParams::default() };
        match self.0.delete(&secret.name_any(), &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_in_pod_specs() {
        let values = [("TOKEN", "dft_secret"), ("BASE_URL", "https://x")];
        for (template, expected) in [
            ("", ""),
            ("$(TOKEN)", "dft_secret"),
            ("a$(TOKEN)b$(BASE_URL)c", "adft_secretbhttps://xc"),
            ("$$(TOKEN)", "$(TOKEN)"),
            ("$$$(TOKEN)", "$$(TOKEN)"),
            ("$(UNKNOWN) $(TOKEN", "$(UNKNOWN) $(TOKEN"),
            ("$ $TOKEN ${TOKEN} $", "$ $TOKEN ${TOKEN} $"),
            ("ü$(TOKEN)ü", "üdft_secretü"),
        ] {
            assert_eq!(expand(template, &values), expected, "{template}");
        }
    }

    #[test]
    fn values_are_not_expanded_again() {
        assert_eq!(expand("$(A)", &[("A", "$(B)"), ("B", "x")]), "$(B)");
    }
}
