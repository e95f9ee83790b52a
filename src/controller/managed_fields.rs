//! Who wrote which field of a Secret, by the API server's own record of it.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use crate::api::names;

/// More of a field manager's name is not told.
const MANAGER_LENGTH: usize = 64;

/// A field of a Secret, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Label(String),
    Annotation(String),
    Entry(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(name) => write!(f, "label {name:?}"),
            Self::Annotation(name) => write!(f, "annotation {name:?}"),
            Self::Entry(name) => write!(f, "entry {name:?}"),
        }
    }
}

/// What this operator wrote, and nobody else applies as well: where it is not asked for any more, it goes. All else is
/// somebody's own.
pub(super) fn ours(secret: &Secret) -> BTreeSet<Field> {
    let (ours, others): (Vec<_>, Vec<_>) = entries(secret).partition(|entry| is_ours(entry));
    let fields = |entries: Vec<&ManagedFieldsEntry>| entries.into_iter().flat_map(fields_of).collect::<BTreeSet<_>>();
    &fields(ours) - &fields(others)
}

/// The field manager, beside this operator, that wrote one of these fields; or else the last one to write anything.
pub(super) fn last_writer(secret: &Secret, fields: &[Field]) -> Option<String> {
    let writes_one = |entry: &ManagedFieldsEntry| fields_of(entry).iter().any(|field| fields.contains(field));
    let others = entries(secret).filter(|entry| !is_ours(entry));
    let last = others.max_by_key(|entry| (writes_one(entry), entry.time.as_ref().map(|time| time.0)))?;
    last.manager.as_ref().map(|manager| manager.chars().take(MANAGER_LENGTH).collect())
}

fn entries(secret: &Secret) -> impl Iterator<Item = &ManagedFieldsEntry> {
    secret.metadata.managed_fields.iter().flatten()
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(names::MANAGER)
}

fn fields_of(entry: &ManagedFieldsEntry) -> BTreeSet<Field> {
    let named = |path: &str, field: fn(String) -> Field| {
        let map = entry.fields_v1.as_ref().and_then(|fields| fields.0.pointer(path)?.as_object());
        let names = map.into_iter().flat_map(|map| map.keys()).filter_map(|name| name.strip_prefix("f:"));
        names.map(|name| field(name.to_owned())).collect::<Vec<_>>()
    };
    let parts = [
        named("/f:metadata/f:labels", Field::Label),
        named("/f:metadata/f:annotations", Field::Annotation),
        named("/f:data", Field::Entry),
        named("/f:stringData", Field::Entry),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each manager with the second of its last write, and the entries and labels that it wrote.
    fn secret(writers: &[(&str, u8, &[&str], &[&str])]) -> Secret {
        let map = |names: &[&str]| {
            names.iter().map(|name| (format!("f:{name}"), json!({}))).collect::<serde_json::Map<_, _>>()
        };
        let entry = |(manager, second, data, labels): &(&str, u8, &[&str], &[&str])| {
            json!({
                "manager": manager,
                "operation": "Update",
                "apiVersion": "v1",
                "time": format!("2026-01-01T00:00:{second:02}Z"),
                "fieldsType": "FieldsV1",
                "fieldsV1": { "f:data": map(data), "f:metadata": { "f:labels": map(labels) } },
            })
        };
        let entries: Vec<_> = writers.iter().map(entry).collect();
        serde_json::from_value(json!({ "metadata": { "managedFields": entries } })).unwrap()
    }

    #[test]
    fn what_others_wrote_or_apply_as_well_is_not_ours() {
        let secret = secret(&[(names::MANAGER, 1, &["token", "env"], &["a"]), ("helm", 2, &["env", "config"], &[])]);
        let ours: Vec<_> = ours(&secret).iter().map(ToString::to_string).collect();
        assert_eq!(ours, ["label \"a\"", "entry \"token\""]);
    }

    #[test]
    fn whoever_wrote_what_differs_is_named_before_the_last_one_to_write_anything() {
        let secret =
            secret(&[("fighter", 1, &["env"], &[]), (names::MANAGER, 9, &["token"], &[]), ("idle", 5, &[], &["b"])]);
        assert_eq!(last_writer(&secret, &[Field::Entry("env".into())]).as_deref(), Some("fighter"));
        assert_eq!(last_writer(&secret, &[Field::Entry("gone".into())]).as_deref(), Some("idle"));
        assert_eq!(last_writer(&Secret::default(), &[]), None);
    }
}
