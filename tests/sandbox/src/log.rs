//! The request log.

use std::collections::{BTreeMap, HashMap, VecDeque};

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
    /// Which entries are an account's: many tests ask again and again for those of one among many.
    of_account: HashMap<Option<String>, VecDeque<u64>>,
    counts: HashMap<Option<String>, BTreeMap<Operation, u64>>,
}

impl Log {
    pub(crate) fn add(&mut self, entry: LoggedRequest) -> EntryId {
        if let Some(operation) = entry.operation {
            *self.counts.entry(entry.account.clone()).or_default().entry(operation).or_default() += 1;
        }
        if self.entries.len() == KEPT
            && let Some(dropped) = self.entries.pop_front()
        {
            self.dropped += 1;
            self.of_account.entry(dropped.account).or_default().pop_front();
        }
        let id = self.dropped + self.entries.len() as u64;
        self.of_account.entry(entry.account.clone()).or_default().push_back(id);
        self.entries.push_back(entry);
        EntryId(id)
    }

    /// Changes an entry, where the log still holds it.
    pub(crate) fn amend(&mut self, id: EntryId, change: impl FnOnce(&mut LoggedRequest)) {
        let index = self.index(id.0);
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            change(entry);
        }
    }

    fn index(&self, id: u64) -> Option<usize> {
        id.checked_sub(self.dropped).and_then(|index| usize::try_from(index).ok())
    }

    pub(crate) fn entries(&self, account: Option<&str>) -> Vec<LoggedRequest> {
        if account.is_none() {
            return self.entries.iter().cloned().collect();
        }
        let of_account = self.of_account.get(&account.map(str::to_owned)).into_iter().flatten();
        of_account.filter_map(|id| self.entries.get(self.index(*id)?).cloned()).collect()
    }

    pub(crate) fn counts(&self, account: Option<&str>) -> BTreeMap<Operation, u64> {
        if account.is_some() {
            return self.counts.get(&account.map(str::to_owned)).cloned().unwrap_or_default();
        }
        let mut counts = BTreeMap::new();
        for (operation, count) in self.counts.values().flatten() {
            *counts.entry(*operation).or_default() += count;
        }
        counts
    }

    pub(crate) fn clear(&mut self) {
        self.dropped += self.entries.len() as u64;
        self.entries.clear();
        self.of_account.clear();
        self.counts.clear();
    }
}
