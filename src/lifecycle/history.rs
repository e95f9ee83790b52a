//! `status.history`: what happened to the keys of a resource, told from how its status changes.
//!
//! Status is written after what it tells of, and a process may die in between. So what changed between the status that is
//! there and the one that takes its place is what counts; what this process remembers only adds why and when.
//!
//! Invariant: people read it, no rule does. It proves nothing, and gives no power over a token.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decision::RevokeCause;
use super::facts::{Facts, Gone, Maker, Mirror, Retiring};
use super::record::Cause;
use crate::api::{HistoryEntry, KeyStatus};
use crate::datafast::TokenId;

/// As many are kept.
pub const MOST: usize = 10;

const ISSUED: &str = "Issued";
const ROTATED: &str = "Rotated";
const ADOPTED: &str = "Adopted";
const REVOKED: &str = "Revoked";

/// A token that this process revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// The token.
    pub token_id: TokenId,
    /// Its masked key, where a list showed one.
    pub display_key: Option<String>,
    /// Why.
    pub cause: RevokeCause,
}

impl Revocation {
    /// Whether this history has it, or has only what came after it.
    pub fn is_told(&self, history: &[HistoryEntry]) -> bool {
        let is_over = history.first().is_some_and(|first| history.len() == MOST && self.at < first.at.0);
        is_over || has_ended(history, self.token_id.as_str())
    }
}

fn has_ended(history: &[HistoryEntry], id: &str) -> bool {
    history.iter().any(|entry| entry.what == REVOKED && entry.token_id == id)
}

/// What `status.history` is to say where `before` becomes `after`. `revoked` is what this process did since the last write;
/// what of that is told already is not told again.
pub fn history(
    before: &KeyStatus,
    after: &KeyStatus,
    facts: &Facts<'_>,
    revoked: &[Revocation],
    now: Timestamp,
) -> Vec<HistoryEntry> {
    let mut history = History { entries: before.history.clone(), before };
    for Revocation { at, token_id, display_key, cause } in revoked {
        history.ended(token_id.as_str(), display_key.clone(), *at, cause.as_str());
    }
    let is_named = |id: &TokenId| names(after, id.as_str());
    for Gone { token_id, cause } in facts.gone.iter().filter(|gone| !is_named(&gone.token_id)) {
        history.ended(token_id.as_str(), None, now, cause.as_str());
    }
    for retiring in facts.retiring.iter().flatten() {
        history.was_there(retiring);
    }
    if let (Mirror::Is(_), Some(maker)) = (&facts.token, &facts.maker) {
        history.has_got(after, maker, now);
    }
    history.latest()
}

/// Whether there was no key to be replaced by what was issued.
fn is_first(cause: Cause) -> bool {
    matches!(cause, Cause::New | Cause::Revoked | Cause::Unknown)
}

fn names(status: &KeyStatus, id: &str) -> bool {
    status.token_id.as_deref() == Some(id) || status.retiring.iter().any(|retiring| retiring.token_id == id)
}

struct History<'a> {
    entries: Vec<HistoryEntry>,
    before: &'a KeyStatus,
}

impl History<'_> {
    /// A token ended. That happens once.
    fn ended(&mut self, id: &str, display_key: Option<String>, at: Timestamp, cause: &str) {
        if !has_ended(&self.entries, id) {
            let display_key = display_key.or_else(|| self.shown(id));
            self.push(REVOKED, id, display_key, at, cause);
        }
    }

    /// A former token that no status ever named: the Secret got its successor before status could tell.
    fn was_there(&mut self, former: &Retiring<'_>) {
        let token = &former.listed.token;
        let id = token.id.as_str();
        let Some(attempt) = former.attempt.filter(|_| !names(self.before, id) && !self.has_made(id)) else { return };
        let display_key = Some(token.display_key.clone()).filter(|shown| !shown.is_empty());
        let what = if is_first(attempt.cause) { ISSUED } else { ROTATED };
        self.push(what, id, display_key, attempt.at, attempt.cause.as_str());
    }

    /// The Secret has the key that status tells of.
    fn has_got(&mut self, after: &KeyStatus, maker: &Maker, now: Timestamp) {
        let Some(id) = after.token_id.as_deref() else { return };
        let since = |status: &KeyStatus| status.issued_at.as_ref().map(|time| time.0);
        let is_another = self.before.token_id.as_deref() != Some(id);
        let is_rolled = maker.is_roll() && since(after) > since(self.before);
        let at = since(after).filter(|_| *maker != Maker::TakenOver).unwrap_or(now);
        let is_told =
            self.entries.iter().any(|entry| entry.token_id == id && entry.what != REVOKED && entry.at.0 == at);
        if !(is_another || is_rolled) || is_told {
            return;
        }
        let (what, cause) = match maker {
            Maker::TakenOver => (ADOPTED, "Imported"),
            Maker::Attempt { cause, .. } if is_first(*cause) => (ISSUED, cause.as_str()),
            Maker::Attempt { cause, .. } => (ROTATED, cause.as_str()),
        };
        self.push(what, id, after.display_key.clone(), at, cause);
    }

    /// Whether it is told how the token came.
    fn has_made(&self, id: &str) -> bool {
        self.entries.iter().any(|entry| entry.token_id == id && entry.what != REVOKED)
    }

    /// The masked key that was told before.
    fn shown(&self, id: &str) -> Option<String> {
        let current = self.before.display_key.as_ref().filter(|_| self.before.token_id.as_deref() == Some(id));
        let retiring = self.before.retiring.iter().find(|retiring| retiring.token_id == id);
        let told = || self.entries.iter().rev().find(|entry| entry.token_id == id)?.display_key.as_ref();
        current.or(retiring.and_then(|retiring| retiring.display_key.as_ref())).or_else(told).cloned()
    }

    fn push(&mut self, what: &str, id: &str, display_key: Option<String>, at: Timestamp, cause: &str) {
        self.entries.push(HistoryEntry {
            at: Time(Timestamp::from_second(at.as_second()).unwrap_or(at)),
            what: what.to_owned(),
            token_id: id.to_owned(),
            display_key,
            cause: cause.to_owned(),
        });
    }

    /// The last ones, in the order in which they happened.
    fn latest(mut self) -> Vec<HistoryEntry> {
        self.entries.sort_by_key(|entry| entry.at.0);
        let excess = self.entries.len().saturating_sub(MOST);
        self.entries.split_off(excess)
    }
}
