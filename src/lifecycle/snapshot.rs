//! The account's tokens as last listed, with what this process has done since.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::marker::{Marker, Nonce, OwnerId};
use crate::datafast::{Token, TokenId};

/// A listed token, with its marker read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As DataFast shows it.
    pub token: Token,
    /// Whose it is, where its name carries a marker.
    pub marker: Option<Marker>,
}

impl Listed {
    fn new(token: Token) -> Self {
        let marker = token.name.as_deref().and_then(Marker::of_name);
        Self { token, marker }
    }
}

#[derive(Clone, Debug)]
struct List {
    begun: Timestamp,
    ids: BTreeSet<TokenId>,
}

/// One account's tokens: the last list, corrected by what was issued and revoked since it began. A list may lag behind
/// what was done by up to the horizon, so a correction is kept until a list that began later than that.
#[derive(Clone, Debug)]
pub struct Snapshot {
    horizon: SignedDuration,
    tokens: BTreeMap<TokenId, Listed>,
    last: List,
    before: Option<List>,
    issued: BTreeMap<TokenId, (Token, Timestamp)>,
    revoked: BTreeMap<TokenId, (Option<Marker>, Timestamp)>,
    /// The masked keys of tokens that got another key.
    rolled: BTreeMap<TokenId, (String, Timestamp)>,
}

impl Snapshot {
    /// From an account's first list.
    pub fn new(horizon: SignedDuration, begun: Timestamp, tokens: Vec<Token>) -> Self {
        let nothing = List { begun, ids: BTreeSet::new() };
        let mut snapshot = Self {
            horizon,
            tokens: BTreeMap::new(),
            last: nothing,
            before: None,
            issued: BTreeMap::new(),
            revoked: BTreeMap::new(),
            rolled: BTreeMap::new(),
        };
        snapshot.fill(begun, tokens);
        snapshot
    }

    /// Takes over a later list, by when it was begun.
    pub fn listed(&mut self, begun: Timestamp, tokens: Vec<Token>) {
        let last = List { begun, ids: BTreeSet::new() };
        self.before = Some(std::mem::replace(&mut self.last, last));
        self.fill(begun, tokens);
    }

    fn fill(&mut self, begun: Timestamp, tokens: Vec<Token>) {
        self.last = List { begun, ids: tokens.iter().map(|t| t.id.clone()).collect() };
        let horizon = self.horizon;
        self.issued.retain(|id, (_, at)| !self.last.ids.contains(id) && begun.duration_since(*at) < horizon);
        self.revoked.retain(|_, (_, at)| begun.duration_since(*at) < horizon);
        self.rolled.retain(|_, (_, at)| begun.duration_since(*at) < horizon);
        let corrections = self.issued.values().map(|(token, _)| token.clone());
        let (revoked, rolled) = (&self.revoked, &self.rolled);
        self.tokens = tokens
            .into_iter()
            .chain(corrections)
            .filter(|token| !revoked.contains_key(&token.id))
            .map(|token| match rolled.get(&token.id) {
                Some((display_key, _)) => Token { display_key: display_key.clone(), ..token },
                None => token,
            })
            .map(|token| (token.id.clone(), Listed::new(token)))
            .collect();
    }

    /// The clock was set back: when the lists really began is not known, and so they prove nothing any more.
    pub fn distrust(&mut self) {
        self.last.begun = Timestamp::MIN;
        self.before = None;
    }

    /// Takes note of a token that DataFast just issued to us.
    pub fn issued(&mut self, token: Token, at: Timestamp) {
        self.issued.insert(token.id.clone(), (token.clone(), at));
        self.tokens.insert(token.id.clone(), Listed::new(token));
    }

    /// Takes note of a token that DataFast just revoked for us.
    pub fn revoked(&mut self, id: &TokenId, at: Timestamp) {
        self.issued.remove(id);
        let marker = self.tokens.remove(id).and_then(|listed| listed.marker);
        self.revoked.insert(id.clone(), (marker, at));
    }

    /// Takes note of another key that DataFast just gave a token for us.
    pub fn rolled(&mut self, id: &TokenId, display_key: &str, at: Timestamp) {
        self.rolled.insert(id.clone(), (display_key.to_owned(), at));
        if let Some(listed) = self.tokens.get_mut(id) {
            listed.token.display_key = display_key.to_owned();
        }
    }

    /// Whether we revoked the token less than a horizon before the last list.
    pub fn has_revoked(&self, id: &TokenId) -> bool {
        self.revoked.contains_key(id)
    }

    /// Whether we revoked any token after `past`.
    pub fn has_revoked_since(&self, past: Timestamp) -> bool {
        self.revoked.values().any(|(_, at)| *at > past)
    }

    /// Whether we revoked the token of an attempt less than a horizon before the last list.
    pub fn has_revoked_attempt(&self, owner: &OwnerId, nonce: &Nonce) -> bool {
        let mut markers = self.revoked.values().filter_map(|(marker, _)| marker.as_ref());
        markers.any(|marker| marker.owner == *owner && marker.nonce == *nonce)
    }

    /// When the last list began. What it doesn't show did not exist then, but for what its lag may hide.
    pub fn begun(&self) -> Timestamp {
        self.last.begun
    }

    /// A token by its id.
    pub fn get(&self, id: &TokenId) -> Option<&Listed> {
        self.tokens.get(id)
    }

    /// Whether the last list itself shows a token, and began so late that it shows all that became of it up to `until`.
    pub fn shows(&self, id: &TokenId, until: Timestamp) -> bool {
        self.last.ids.contains(id) && self.last.begun.duration_since(until) >= self.horizon
    }

    /// All tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Listed> {
        self.tokens.values()
    }

    /// How many slots are taken.
    pub fn total(&self) -> usize {
        self.tokens.len()
    }

    /// The token that an attempt of a resource made, told by its marker.
    pub fn by_attempt(&self, owner: &OwnerId, nonce: &Nonce) -> Option<&Listed> {
        let is_it = |marker: &Marker| marker.owner == *owner && marker.nonce == *nonce;
        self.tokens.values().find(|listed| listed.marker.as_ref().is_some_and(is_it))
    }

    /// Whether an attempt recorded at `at` is known to have made no token, or none that still exists: it is past the
    /// horizon, and a list that began after that doesn't show it.
    pub fn is_absent(&self, owner: &OwnerId, nonce: &Nonce, at: Timestamp) -> bool {
        self.last.begun.duration_since(at) >= self.horizon && self.by_attempt(owner, nonce).is_none()
    }

    /// Whether a token issued at `issued_at` was deleted at DataFast: missing in two lists, the last of which began
    /// after the horizon of its issue.
    pub fn has_vanished(&self, id: &TokenId, issued_at: Timestamp) -> bool {
        let missing = |list: &List| !list.ids.contains(id);
        !self.tokens.contains_key(id)
            && self.last.begun.duration_since(issued_at) >= self.horizon
            && missing(&self.last)
            && self.before.as_ref().is_some_and(missing)
    }
}

/// Whether a use that DataFast or status reports came after a time, by the whole seconds that status has.
pub fn is_after(used: Option<Timestamp>, since: Timestamp) -> bool {
    used.is_some_and(|used| used.as_second() > since.as_second())
}
