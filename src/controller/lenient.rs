//! Objects as far as this version of the operator can read them. A later version's CRD lets in what this one does not know,
//! and a watch that stumbled over one such object would be lost for all.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::api::{KeyResource, KeyStatus, Terms};
use crate::lifecycle::desired::Unreadable;

/// Fields that are left out of one object at most. What has more of them is not understood at all.
const MOST_LEFT_OUT: usize = 32;
/// Characters of a value that are shown.
const VALUE_LENGTH: usize = 60;
/// Where a spec says what becomes of token and Secret at the end.
const END: &str = "deletionPolicy";

/// An object without what can't be read of it.
#[derive(Clone, Debug)]
pub(crate) struct Lenient<K> {
    object: K,
    left_out: LeftOut,
}

/// What was left out.
#[derive(Clone, Debug, Default)]
struct LeftOut {
    unreadable: Option<Unreadable>,
    /// Some of it is in status, which must not be written over then.
    is_in_status: bool,
}

impl<K> Lenient<K> {
    /// What can't be read of the spec, or of what is there at all.
    pub(crate) fn unreadable(&self) -> Option<&Unreadable> {
        self.left_out.unreadable.as_ref()
    }

    /// Whether its status can be read, and so may be written.
    pub(crate) fn has_readable_status(&self) -> bool {
        !self.left_out.is_in_status
    }
}

impl<K> Deref for Lenient<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.object
    }
}

impl<K> DerefMut for Lenient<K> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.object
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.object.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.object.meta_mut()
    }
}

impl<K: KeyResource> KeyResource for Lenient<K> {
    fn kind(&self) -> &'static str {
        self.object.kind()
    }

    fn metadata(&self) -> &ObjectMeta {
        self.object.metadata()
    }

    fn terms(&self) -> Terms<'_> {
        self.object.terms()
    }

    fn status(&self) -> Option<&KeyStatus> {
        self.object.status()
    }

    fn set_status(&mut self, status: KeyStatus) {
        self.object.set_status(status);
    }
}

impl<K: Serialize> Serialize for Lenient<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, K: DeserializeOwned + Serialize + Default> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let mut left_out = LeftOut::default();
        for _ in 0..MOST_LEFT_OUT {
            match serde_path_to_error::deserialize(&value) {
                Ok(object) => return Ok(Self { object, left_out }),
                Err(error) => left_out.take::<K>(&mut value, error.path()).ok_or_else(|| D::Error::custom(&error))?,
            }
        }
        Err(D::Error::custom("there is too much in it that this version can't read"))
    }
}

impl LeftOut {
    /// Takes a value out of an object, and notes the first. What a spec must have, it has by default then. None: the object
    /// can't do without it.
    fn take<K: Serialize + Default>(&mut self, object: &mut Value, path: &Path) -> Option<()> {
        let segments: Vec<&Segment> = path.iter().filter(|it| !matches!(it, Segment::Enum { .. })).collect();
        let (last, above) = segments.split_last()?;
        let holder = above.iter().try_fold(&mut *object, |value, segment| at(value, segment))?;
        let taken = match (last, holder) {
            (Segment::Map { key }, Value::Object(fields)) => fields.remove(key)?,
            (Segment::Seq { index }, Value::Array(values)) if *index < values.len() => values.remove(*index),
            _ => return None,
        };
        let is_in = |name: &str| matches!(segments.first(), Some(Segment::Map { key }) if key == name);
        if is_in("metadata") {
            return None;
        }
        let is_spec = segments.len() == 1 && is_in("spec");
        if is_spec {
            object["spec"] = serde_json::to_value(K::default()).ok()?["spec"].take();
        }
        self.is_in_status |= is_in("status");
        let is_about_the_end = is_spec || segments.iter().any(|it| matches!(it, Segment::Map { key } if key == END));
        let what = format!("{path} ({})", shown(&taken));
        let unreadable = self.unreadable.get_or_insert(Unreadable { what, is_about_the_end });
        unreadable.is_about_the_end |= is_about_the_end;
        Some(())
    }
}

fn at<'a>(value: &'a mut Value, segment: &Segment) -> Option<&'a mut Value> {
    match segment {
        Segment::Map { key } => value.get_mut(key),
        Segment::Seq { index } => value.get_mut(index),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// The beginning of a value.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(VALUE_LENGTH).collect();
    if shown.len() < text.len() {
        let _ = write!(shown, "...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{DataFastAccessToken, DataFastAccount, DataFastWebsiteKey, DeletionPolicy, WhenFull};

    fn read<K: DeserializeOwned + Serialize + Default>(kind: &str, spec: Value, status: Value) -> Lenient<K> {
        let metadata = json!({ "name": "agent", "namespace": "a" });
        let api_version = "datafa.st/v1alpha1";
        serde_json::from_value(
            json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec, "status": status }),
        )
        .unwrap()
    }

    fn token(spec: Value) -> Lenient<DataFastAccessToken> {
        read("DataFastAccessToken", spec, json!({ "tokenId": "t" }))
    }

    fn key(spec: Value) -> Lenient<DataFastWebsiteKey> {
        read("DataFastWebsiteKey", spec, json!({ "keyId": "k" }))
    }

    fn complaint<K>(object: &Lenient<K>) -> (&str, bool) {
        let Unreadable { what, is_about_the_end } = object.unreadable().unwrap();
        (what, *is_about_the_end)
    }

    #[test]
    fn what_is_known_is_read_as_it_is() {
        let known = token(json!({ "permissions": ["goals:read"], "unknownField": 1 }));
        assert_eq!(known.unreadable(), None);
        assert_eq!(known.spec.permissions.len(), 1);
        assert!(known.has_readable_status());
    }

    #[test]
    fn a_value_of_a_later_version_is_named_and_the_rest_is_read() {
        let later = token(json!({ "permissions": ["goals:read", "heatmaps:read"], "suspend": true }));
        assert_eq!(complaint(&later), ("spec.permissions[1] (\"heatmaps:read\")", false));
        assert!(later.spec.suspend);
        assert_eq!(later.status().unwrap().token_id.as_deref(), Some("t"), "its licence to revoke is still there");

        let later = token(json!({ "permissions": [], "rotation": { "whenFull": "Ask", "every": "1h" } }));
        assert_eq!(complaint(&later), ("spec.rotation.whenFull (\"Ask\")", false));
        assert_eq!(later.spec.rotation.when_full, WhenFull::default());

        let later = token(json!({ "permissions": [], "deletionPolicy": "Hand over" }));
        assert_eq!(complaint(&later), ("spec.deletionPolicy (\"Hand over\")", true));
        assert_eq!(later.spec.deletion_policy, DeletionPolicy::Revoke);
    }

    #[test]
    fn what_says_how_a_website_key_is_replaced_is_left_out_as_a_whole() {
        let later = key(json!({ "websiteId": "w", "rotation": { "strategy": "Swap", "every": "1h" } }));
        assert!(complaint(&later).0.contains("Swap"), "{later:?}");
        assert_eq!(later.status().unwrap().token_id.as_deref(), Some("k"));
    }

    #[test]
    fn a_spec_that_lacks_what_it_must_have_is_not_understood_at_all_and_others_are() {
        let later = key(json!({ "website": { "id": "w" } }));
        let (what, is_about_the_end) = complaint(&later);
        assert!(what.starts_with("spec (") && is_about_the_end, "{what}");
        assert_eq!(later.status().unwrap().token_id.as_deref(), Some("k"));
    }

    #[test]
    fn a_status_that_is_not_understood_is_not_to_be_written_over() {
        let later: Lenient<DataFastAccessToken> =
            read("DataFastAccessToken", json!({ "permissions": [] }), json!({ "tokenId": { "of": "many" } }));
        assert!(!later.has_readable_status());
        assert_eq!(complaint(&later).0, "status.tokenId ({\"of\":\"many\"})");
    }

    #[test]
    fn an_account_that_allows_what_is_not_known_says_so() {
        let spec = json!({ "credentialsSecretRef": { "name": "c" }, "allow": { "permissions": ["heatmaps:read"] } });
        let account: Lenient<DataFastAccount> = read("DataFastAccount", spec, json!({}));
        assert_eq!(complaint(&account).0, "spec.allow.permissions[0] (\"heatmaps:read\")");
    }

    #[test]
    fn a_long_value_is_not_shown_in_full() {
        let long = token(json!({ "permissions": ["x".repeat(500)] }));
        assert!(complaint(&long).0.len() < 100);
    }
}
