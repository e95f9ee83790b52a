//! The record: the log of attempts on the resource, and what the Secret says of the token whose key it holds.
//!
//! Tenants can edit all of it. So reading never fails: what can't be read is as if it were not there, and what is
//! read gives no power over a token by itself ([`super::observed::Observed::may_revoke`]).

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
    /// The operator revoked the last token, and one is wanted again: `expiresAfter` was raised, for example.
    Revoked,
    /// A user asked for the old token to go at once.
    RevokeNow,
    /// The Secret was deleted, or its key was changed.
    KeyLost,
    /// Somebody deleted the token at DataFast.
    Vanished,
    /// Permissions, websites or the name are to be others.
    ScopeChanged,
    /// A user asked for a new token.
    RotateRequested,
    /// The token is as old as it is to get.
    RotationDue,
    /// Not known: written by another version of the operator, or by a person.
    #[serde(other)]
    Unknown,
}

impl Cause {
    /// The word in logs, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::Revoked => "Revoked",
            Self::RevokeNow => "RevokeNow",
            Self::KeyLost => "KeyLost",
            Self::Vanished => "Vanished",
            Self::ScopeChanged => "ScopeChanged",
            Self::RotateRequested => "RotateRequested",
            Self::RotationDue => "RotationDue",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether the token in the Secret is as good as it was: it is replaced because somebody or the clock asks for that.
    pub fn is_rotation(self) -> bool {
        matches!(self, Self::RevokeNow | Self::RotateRequested | Self::RotationDue)
    }
}

/// The value of an annotation by which a user asks for a new token. Another value is another request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request(String);

impl Request {
    /// Characters of a value that count.
    const LENGTH: usize = 256;

    /// Reads one; an empty value asks for nothing.
    pub fn parse(value: &str) -> Option<Self> {
        (!value.is_empty()).then(|| Self(value.chars().take(Self::LENGTH).collect()))
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What users ask for by annotation; and what of that a key answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// `datafa.st/rotate`.
    pub rotate: Option<Request>,
    /// `datafa.st/revoke-now`.
    pub revoke_now: Option<Request>,
}

impl Requests {
    /// Reads the annotations of a resource, or of a Secret.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let read = |name: &str| annotations.get(name).and_then(|value| Request::parse(value));
        Self { rotate: read(names::ROTATE), revoke_now: read(names::REVOKE_NOW) }
    }

    /// Whether none of `answered` answers the request for the old token to go at once.
    pub fn revoke_now_is_open(&self, answered: &[Self]) -> bool {
        self.revoke_now.is_some() && answered.iter().all(|answered| answered.revoke_now != self.revoke_now)
    }

    /// Whether none of `answered` answers the request for a new token.
    pub fn rotate_is_open(&self, answered: &[Self]) -> bool {
        self.rotate.is_some() && answered.iter().all(|answered| answered.rotate != self.rotate)
    }

    /// What is answered once a key answers these too: a request that is taken back stays answered.
    pub fn or(self, before: Self) -> Self {
        Self { rotate: self.rotate.or(before.rotate), revoke_now: self.revoke_now.or(before.revoke_now) }
    }
}

/// One attempt at issuing, written down before the request is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Its name, which the token's marker carries.
    pub nonce: Nonce,
    /// From when on the horizon is counted: when it was recorded, or a little later where the API server is slow. Its
    /// request is sent by [`Attempt::send_by`].
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// What users asked for by then: its key answers that.
    pub requests: Requests,
    /// It gives this token another key; none: it makes a token.
    pub rolls: Option<TokenId>,
}

/// What a request needs of the horizon: 30 seconds until it ends, and some for a list to show what it made.
const REQUEST_NEEDS: SignedDuration = SignedDuration::from_secs(45);

impl Attempt {
    /// The last moment to send its request: what is left of the horizon then is what a request needs, or half of a horizon
    /// that is too short for that.
    pub fn send_by(&self, horizon: SignedDuration) -> Timestamp {
        let stays_fresh = horizon.saturating_sub(REQUEST_NEEDS).max(horizon / 2);
        self.at.saturating_add(stays_fresh).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAttempt {
    nonce: String,
    at: Timestamp,
    cause: Cause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoke_now: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rolls: Option<String>,
}

impl WireAttempt {
    fn of(attempt: &Attempt) -> Self {
        let text = |request: &Option<Request>| request.as_ref().map(|request| request.as_str().to_owned());
        Self {
            nonce: attempt.nonce.to_string(),
            at: attempt.at,
            cause: attempt.cause,
            rotate: text(&attempt.requests.rotate),
            revoke_now: text(&attempt.requests.revoke_now),
            rolls: attempt.rolls.as_ref().map(ToString::to_string),
        }
    }

    fn read(self) -> Option<Attempt> {
        let parse = |text: Option<String>| text.as_deref().and_then(Request::parse);
        let requests = Requests { rotate: parse(self.rotate), revoke_now: parse(self.revoke_now) };
        let rolls = self.rolls.as_deref().and_then(|id| TokenId::parse(id).ok());
        Some(Attempt { nonce: Nonce::parse(&self.nonce)?, at: self.at, cause: self.cause, requests, rolls })
    }
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
            wire.read().filter(|_| plausible)
        };
        Self(entries[newest..].iter().filter_map(read).collect())
    }

    /// The annotation's value.
    pub fn write(&self) -> String {
        let wire: Vec<WireAttempt> = self.0.iter().map(WireAttempt::of).collect();
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
    /// Whether it is not to have its overlap: somebody asked for it to go at once.
    pub at_once: bool,
}

impl Previous {
    /// Marks an entry that is not to have its overlap.
    const AT_ONCE: char = '!';

    fn read(entry: &str, time: impl Fn(&str) -> Option<Timestamp>) -> Option<Self> {
        let (token, since) = entry.split_once('@')?;
        let plain = since.strip_suffix(Self::AT_ONCE);
        let since = time(plain.unwrap_or(since))?;
        Some(Self { token: token.to_owned(), since, at_once: plain.is_some() })
    }
}

impl std::fmt::Display for Previous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.token, self.since)?;
        if self.at_once { f.write_char(Self::AT_ONCE) } else { Ok(()) }
    }
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
    /// The request that was answered last.
    pub request: Option<Request>,
    /// All that the key answers.
    pub answered: Requests,
}

impl SecretRecord {
    /// Reads a Secret's annotations.
    pub fn read(annotations: &BTreeMap<String, String>, now: Timestamp) -> Self {
        let text = |name: &str| annotations.get(name).filter(|v| !v.is_empty()).cloned();
        let time = |value: &str| {
            let time: Timestamp = value.parse().ok()?;
            (time <= now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX)).then_some(time)
        };
        let previous = |entry: &str| Previous::read(entry, time);
        Self {
            attempt: text(names::ATTEMPT).and_then(|v| Nonce::parse(&v)),
            token_id: text(names::TOKEN_ID).and_then(|v| TokenId::parse(&v).ok()),
            issued_at: text(names::ISSUED_AT).and_then(|v| time(&v)),
            previous: text(names::PREVIOUS)
                .map(|v| v.split(',').take(LOG_LENGTH).filter_map(previous).collect())
                .unwrap_or_default(),
            spec_hash: text(names::SPEC_HASH),
            key_sha256: text(names::KEY_SHA256),
            request: text(names::REQUEST).and_then(|v| Request::parse(&v)),
            answered: Requests::read(annotations),
        }
    }

    /// Each record annotation and its value; `None` where it is not to be there.
    pub fn annotations(&self) -> [(&'static str, Option<String>); 9] {
        let previous: Vec<String> = self.previous.iter().map(ToString::to_string).collect();
        let value = |request: &Option<Request>| request.as_ref().map(|r| r.as_str().to_owned());
        [
            (names::ATTEMPT, self.attempt.as_ref().map(ToString::to_string)),
            (names::TOKEN_ID, self.token_id.as_ref().map(ToString::to_string)),
            (names::ISSUED_AT, self.issued_at.map(|t| t.to_string())),
            (names::PREVIOUS, (!previous.is_empty()).then(|| previous.join(","))),
            (names::SPEC_HASH, self.spec_hash.clone()),
            (names::KEY_SHA256, self.key_sha256.clone()),
            (names::REQUEST, value(&self.request)),
            (names::ROTATE, value(&self.answered.rotate)),
            (names::REVOKE_NOW, value(&self.answered.revoke_now)),
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
