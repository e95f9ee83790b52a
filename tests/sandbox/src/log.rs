//! The request log.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The log keeps this many requests; the counts go on.
const KEPT: usize = 20_000;

/// A call of the API, or any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Every call; only in faults.
    #[default]
    Any,
    /// `GET /access-tokens`.
    #[serde(alias = "list")]
    ListAccessTokens,
    /// `POST /access-tokens`.
    #[serde(alias = "create")]
    CreateAccessToken,
    /// `DELETE /access-tokens/{tokenId}`.
    #[serde(alias = "delete")]
    DeleteAccessToken,
    /// `GET /account`.
    GetAccount,
    /// `GET /websites`.
    ListWebsites,
    /// `GET /websites/{websiteId}/apikeys`.
    ListWebsiteKeys,
    /// `POST /websites/{websiteId}/apikeys`.
    CreateWebsiteKey,
    /// `PUT /websites/{websiteId}/apikeys/{apiKeyId}`.
    RollWebsiteKey,
    /// `DELETE /websites/{websiteId}/apikeys/{apiKeyId}`.
    DeleteWebsiteKey,
}

/// One request to the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedRequest {
    /// When it came in.
    pub at: Timestamp,
    /// The account its bearer key belongs to, also where that key is revoked; none for unknown keys.
    pub account: Option<String>,
    /// None for paths that the API does not have.
    pub operation: Option<Operation>,
    /// HTTP method.
    pub method: String,
    /// The path as it came.
    pub path: String,
    /// The status answered; none where no answer was sent, or not yet.
    pub status: Option<u16>,
    /// Whether it changed something: a token or a website key was created, rolled or deleted.
    pub effect: bool,
    /// The name of the token or website key: what a create asked for, or what a roll or delete met.
    pub name: Option<String>,
    /// The token or website key created or meant.
    pub token_id: Option<String>,
    /// The caller's key, masked.
    pub bearer: Option<String>,
}

/// A request's place in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryId(u64);

#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<LoggedRequest>,
    /// How many entries were dropped from the front, ever.
    dropped: u64,
    counts: BTreeMap<(Option<String>, Operation), u64>,
}

impl Log {
    pub(crate) fn add(&mut self, entry: LoggedRequest) -> EntryId {
        if let Some(operation) = entry.operation {
            *self.counts.entry((entry.account.clone(), operation)).or_default() += 1;
        }
        if self.entries.len() == KEPT {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
        EntryId(self.dropped + self.entries.len() as u64 - 1)
    }

    /// Changes an entry, where the log still holds it.
    pub(crate) fn amend(&mut self, id: EntryId, change: impl FnOnce(&mut LoggedRequest)) {
        let index = id.0.checked_sub(self.dropped).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            change(entry);
        }
    }

    pub(crate) fn entries(&self, account: Option<&str>) -> Vec<LoggedRequest> {
        self.entries.iter().filter(|entry| account.is_none() || entry.account.as_deref() == account).cloned().collect()
    }

    pub(crate) fn counts(&self, account: Option<&str>) -> BTreeMap<Operation, u64> {
        let mut counts = BTreeMap::new();
        for ((of, operation), count) in &self.counts {
            if account.is_none() || of.as_deref() == account {
                *counts.entry(*operation).or_default() += count;
            }
        }
        counts
    }

    pub(crate) fn clear(&mut self) {
        self.dropped += self.entries.len() as u64;
        self.entries.clear();
        self.counts.clear();
    }
}
