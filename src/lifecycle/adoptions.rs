//! Tokens that a resource has taken over though their names bear no marker of its own: made by hand, or under another uid.
//!
//! Their ids in status alone would not tell a resource from its restored copy. So the log says who took them over, by an
//! entry `{"adopted": <token id>, "by": <owner>}` before the attempts. Older versions read past it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::marker::OwnerId;
use super::record::Log;
use crate::api::names;
use crate::datafast::TokenId;

#[derive(Serialize, Deserialize)]
struct Entry {
    adopted: String,
    by: String,
}

/// Reads from the annotation `datafa.st/attempts` what this resource has taken over.
pub fn read(annotations: &BTreeMap<String, String>, owner: &OwnerId) -> BTreeSet<TokenId> {
    let text = annotations.get(names::ATTEMPTS).map(String::as_str).unwrap_or_default();
    let entries: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let entries = entries.iter().filter_map(|entry| Entry::deserialize(entry).ok());
    entries.filter(|entry| entry.by == owner.as_str()).filter_map(|entry| TokenId::parse(&entry.adopted).ok()).collect()
}

/// The annotation's value.
pub fn write(adopted: &BTreeSet<TokenId>, owner: &OwnerId, log: &Log) -> String {
    if adopted.is_empty() {
        return log.write();
    }
    let entry = |id: &TokenId| Entry { adopted: id.to_string(), by: owner.to_string() };
    let adopted = adopted.iter().filter_map(|id| serde_json::to_value(entry(id)).ok());
    let attempts: Vec<Value> = serde_json::from_str(&log.write()).unwrap_or_default();
    Value::Array(adopted.chain(attempts).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_uid_took_over_is_not_this_ones() {
        let (this, other) = (OwnerId::of("a"), OwnerId::of("b"));
        let ids = [TokenId::parse("65f1c0ffee0123456789abcd").unwrap()].into();
        let annotations = [(names::ATTEMPTS.to_owned(), write(&ids, &this, &Log::default()))].into();
        assert_eq!(read(&annotations, &this), ids);
        assert_eq!(read(&annotations, &other), BTreeSet::new(), "a restored copy has taken nothing over");
    }

    #[test]
    fn attempts_are_read_past_it_and_it_past_attempts() {
        let text = r#"[{"adopted":"65f1c0ffee0123456789abcd","by":"00000000"},{"nonce":"0123456789","at":"2026-01-01T00:00:00Z","cause":"New"}]"#;
        let annotations: BTreeMap<_, _> = [(names::ATTEMPTS.to_owned(), text.to_owned())].into();
        let log = Log::read(&annotations, "2026-01-02T00:00:00Z".parse().unwrap());
        let owner = OwnerId::parse("00000000").unwrap();
        assert_eq!(log.0.len(), 1);
        let written = [(names::ATTEMPTS.to_owned(), write(&read(&annotations, &owner), &owner, &log))].into();
        assert_eq!(Log::read(&written, "2026-01-02T00:00:00Z".parse().unwrap()), log);
        assert_eq!(read(&written, &owner), read(&annotations, &owner));
    }
}
