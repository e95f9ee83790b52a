//! The Secret: what it is to hold, whether it does, and the writes. This is one of the two places where a raw key is
//! exposed; the other is the header of a request to DataFast.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use sha2::{Digest, Sha256};

use super::managed_fields::{Field, last_writer, ours};
use super::resource::Managed;
use crate::account::View;
use crate::api::names;
use crate::datafast::RawKey;
use crate::lifecycle::observed::Drift;
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
        annotations.insert(names::OWNER_UID.into(), self.resource.place_and_uid());
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

    /// The Secret as it is to be, given the one that is there: what others put on it stays.
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
        let old = existing.map(|existing| self.old_fields(existing)).unwrap_or_default();
        let labels = merged(secret.metadata.labels.take(), &old, Field::Label, self.labels());
        secret.metadata.labels = Some(labels);
        let mut annotations = merged(secret.metadata.annotations.take(), &old, Field::Annotation, self.annotations());
        for (name, value) in self.record.annotations() {
            if value.is_none() {
                annotations.remove(name);
            }
        }
        secret.metadata.annotations = Some(annotations);
        secret.metadata.managed_fields = None;
        secret.data = Some(merged(secret.data.take(), &old, Field::Entry, self.data()));
        secret
    }

    /// What goes where it is not asked for: what this operator wrote, and the key's former entry, which whoever brought an
    /// imported Secret wrote.
    fn old_fields(&self, existing: &Secret) -> BTreeSet<Field> {
        let annotation = |name: &str| existing.annotations().get(name);
        let mut old = ours(existing);
        let (Some(id), Some(sha)) = (annotation(names::TOKEN_ID), annotation(names::KEY_SHA256)) else { return old };
        let is_key = |value: &ByteString| RawKey::of_entry(&value.0).is_ok_and(|key| key.fingerprint(id) == *sha);
        let data: Vec<_> = existing.data.iter().flatten().collect();
        // Where it has its entry, another one with the same key is somebody's own.
        if !data.iter().any(|(name, value)| *name == self.resource.secret_key() && is_key(value)) {
            let former = data.into_iter().filter(|(_, value)| is_key(value));
            old.extend(former.map(|(name, _)| Field::Entry(name.clone())));
        }
        old
    }

    /// In what the Secret that is there differs from how it is to be.
    pub(super) fn differences(&self, existing: &Secret) -> Vec<Field> {
        let mut wanted = self.secret(Some(existing));
        // Older Secrets lack it. It is not worth a write of its own.
        if !existing.annotations().contains_key(names::OWNER_UID) {
            wanted.annotations_mut().remove(names::OWNER_UID);
        }
        let labels = differing(wanted.labels(), existing.labels()).map(Field::Label);
        let annotations = differing(wanted.annotations(), existing.annotations()).map(Field::Annotation);
        let none = BTreeMap::new();
        let data = [&wanted, existing].map(|secret| secret.data.as_ref().unwrap_or(&none));
        let entries = differing(data[0], data[1]).map(Field::Entry);
        labels.chain(annotations).chain(entries).collect()
    }

    /// [`crate::lifecycle::observed::Drift`] of the Secret that is there.
    pub(super) fn drift(&self, existing: &Secret) -> Drift {
        let differs = self.differences(existing);
        let spec = serde_json::to_string(self.resource.terms().secret).unwrap_or_default();
        let template = HEXLOWER.encode(&Sha256::digest(format!("{spec} {}", self.base_url).as_bytes()));
        Drift {
            last_writer: last_writer(existing, &differs),
            differs: differs.iter().map(ToString::to_string).collect(),
            template,
        }
    }
}

/// What is there, without what is old, with what is wanted now.
fn merged<V>(
    there: Option<BTreeMap<String, V>>,
    old: &BTreeSet<Field>,
    field: fn(String) -> Field,
    wanted: BTreeMap<String, V>,
) -> BTreeMap<String, V> {
    let others = there.unwrap_or_default().into_iter().filter(|(name, _)| !old.contains(&field(name.clone())));
    others.chain(wanted).collect()
}

/// The names whose values differ.
fn differing<V: PartialEq>(wanted: &BTreeMap<String, V>, there: &BTreeMap<String, V>) -> impl Iterator<Item = String> {
    let all: BTreeSet<_> = wanted.keys().chain(there.keys()).collect();
    let differing = all.into_iter().filter(|name| wanted.get(*name) != there.get(*name));
    differing.cloned().collect::<Vec<_>>().into_iter()
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
