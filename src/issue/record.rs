//! The record: the log of attempts on the resource, and what the Secret says of the token whose key it holds.
//!
//! Tenants can edit all of it. So reading never fails: what can't be read is as if it were not there, and what is
//! read gives no power over a token by itself ([`super::observed::Observed::licence`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::marker::Nonce;
use crate::api::names;
use crate::datafast::{Token, TokenId};

/// Entries read of a log: more than the operator ever keeps, little enough that a tenant's megabyte costs nothing.
const LOG_LENGTH: usize = 64;
/// A recorded time further ahead than this was not written by an operator whose clock can be trusted.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(24);

/// Why a token is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Nothing was ever issued.
    New,
    /// The Secret was deleted, or its key was changed.
    KeyLost,
    /// Somebody deleted the token at DataFast.
    Vanished,
    /// Permissions, websites or the name are to be others.
    ScopeChanged,
    /// Not known: written by another version of the operator, or by a person.
    #[serde(other)]
    Unknown,
}

impl Cause {
    /// The word in logs, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::KeyLost => "KeyLost",
            Self::Vanished => "Vanished",
            Self::ScopeChanged => "ScopeChanged",
            Self::Unknown => "Unknown",
        }
    }
}

/// One attempt at issuing, written down before the request is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Its name, which the token's marker carries.
    pub nonce: Nonce,
    /// When it was recorded; the request is sent within a quarter of the horizon after it.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

#[derive(Serialize, Deserialize)]
struct WireAttempt {
    nonce: String,
    at: Timestamp,
    cause: Cause,
}

/// The write-ahead log of attempts, oldest first; the last one is the current attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log(pub Vec<Attempt>);

impl Log {
    /// Reads the annotation `datafa.st/attempts`. Entries that make no sense are left out.
    pub fn read(annotations: &BTreeMap<String, String>, now: Timestamp) -> Self {
        let Some(text) = annotations.get(names::ATTEMPTS) else { return Self::default() };
        let entries: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
        let newest = entries.len().saturating_sub(LOG_LENGTH);
        let read = |value: &serde_json::Value| {
            let wire = WireAttempt::deserialize(value).ok()?;
            let plausible = wire.at <= now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
            plausible.then_some(Attempt { nonce: Nonce::parse(&wire.nonce)?, at: wire.at, cause: wire.cause })
        };
        Self(entries[newest..].iter().filter_map(read).collect())
    }

    /// The annotation's value.
    pub fn write(&self) -> String {
        let wire: Vec<WireAttempt> =
            self.0.iter().map(|a| WireAttempt { nonce: a.nonce.to_string(), at: a.at, cause: a.cause }).collect();
        // Plain strings and timestamps: serializing them has no way to fail.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// The current attempt.
    pub fn current(&self) -> Option<&Attempt> {
        self.0.last()
    }

    /// An attempt by its nonce.
    pub fn get(&self, nonce: &Nonce) -> Option<&Attempt> {
        self.0.iter().find(|a| a.nonce == *nonce)
    }
}

/// A token that the Secret held before, by its attempt, or by its id where it was adopted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Previous {
    /// The nonce or the token id.
    pub token: String,
    /// Since when the Secret holds another one.
    pub since: Timestamp,
}

/// What a Secret's annotations say of the token whose key it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecretRecord {
    /// The attempt that made the token; none for an adopted one.
    pub attempt: Option<Nonce>,
    /// The token.
    pub token_id: Option<TokenId>,
    /// When the Secret got this key.
    pub issued_at: Option<Timestamp>,
    /// What it held before and what is not yet known to be gone.
    pub previous: Vec<Previous>,
    /// [`Scope::hash`] of what was asked for.
    pub spec_hash: Option<String>,
    /// Fingerprint of the key, salted with the token id.
    pub key_sha256: Option<String>,
    /// The rotation request that this key answers.
    pub request: Option<String>,
}

impl SecretRecord {
    /// Reads a Secret's annotations.
    pub fn read(annotations: &BTreeMap<String, String>, now: Timestamp) -> Self {
        let text = |name: &str| annotations.get(name).filter(|v| !v.is_empty()).cloned();
        let time = |value: &str| {
            let time: Timestamp = value.parse().ok()?;
            (time <= now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX)).then_some(time)
        };
        let previous = |entry: &str| {
            let (token, since) = entry.split_once('@')?;
            Some(Previous { token: token.to_owned(), since: time(since)? })
        };
        Self {
            attempt: text(names::ATTEMPT).and_then(|v| Nonce::parse(&v)),
            token_id: text(names::TOKEN_ID).and_then(|v| TokenId::parse(&v).ok()),
            issued_at: text(names::ISSUED_AT).and_then(|v| time(&v)),
            previous: text(names::PREVIOUS)
                .map(|v| v.split(',').take(LOG_LENGTH).filter_map(previous).collect())
                .unwrap_or_default(),
            spec_hash: text(names::SPEC_HASH),
            key_sha256: text(names::KEY_SHA256),
            request: text(names::REQUEST),
        }
    }

    /// Each record annotation and its value; `None` where it is not to be there.
    pub fn annotations(&self) -> [(&'static str, Option<String>); 7] {
        let previous: Vec<String> = self.previous.iter().map(|p| format!("{}@{}", p.token, p.since)).collect();
        [
            (names::ATTEMPT, self.attempt.as_ref().map(ToString::to_string)),
            (names::TOKEN_ID, self.token_id.as_ref().map(ToString::to_string)),
            (names::ISSUED_AT, self.issued_at.map(|t| t.to_string())),
            (names::PREVIOUS, (!previous.is_empty()).then(|| previous.join(","))),
            (names::SPEC_HASH, self.spec_hash.clone()),
            (names::KEY_SHA256, self.key_sha256.clone()),
            (names::REQUEST, self.request.clone()),
        ]
    }
}

/// What a token may do, and what people call it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The user's part of the name.
    pub token_name: String,
    /// Permissions, or `*` alone.
    pub permissions: BTreeSet<String>,
    /// Websites; none: all of the account.
    pub website_ids: BTreeSet<String>,
}

impl Scope {
    /// Whether a token has just these permissions and websites, whatever its name.
    pub fn allows_as_is(&self, token: &Token) -> bool {
        token.permissions == self.permissions && token.website_ids == self.website_ids
    }

    /// SHA-256 over the name, the sorted permissions and the sorted website ids, as 64 hex digits.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.token_name].into_iter().chain(&self.permissions) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update([1]);
        for part in &self.website_ids {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}
