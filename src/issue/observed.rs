//! What is seen of one resource, and what that means: which token the Secret holds, and which others are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::marker::{Nonce, OwnerId};
use super::record::{Log, Scope, SecretRecord};
use super::snapshot::{Listed, Snapshot};
use crate::datafast::{RawKey, TokenId};

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What the token may do.
    pub scope: Scope,
    /// How long a replaced token stays valid after the swap.
    pub overlap: SignedDuration,
    /// Leave token and Secret when the resource goes.
    pub retain: bool,
    /// Change nothing.
    pub suspended: bool,
    /// The resource is being deleted.
    pub deleting: bool,
    /// At deletion, let go without DataFast.
    pub abandon: bool,
}

/// All that is known of one resource at one time.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// Names, for messages.
    pub names: Names<'a>,
    /// The resource.
    pub owner: OwnerId,
    /// Whether it has our finalizer.
    pub claimed: bool,
    /// Its log of attempts.
    pub log: Log,
    /// Its status, as last written.
    pub status: StatusRecord,
    /// Its Secret.
    pub secret: SecretView,
    /// Its account.
    pub account: AccountView<'a>,
    /// What only this process knows.
    pub local: &'a Local,
    /// Tokens that another resource names or caused.
    pub taken: BTreeSet<TokenId>,
    /// How long an unanswered request may still take effect, and how long a list may lag.
    pub horizon: SignedDuration,
}

/// Names for messages.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The Secret.
    pub secret: &'a str,
    /// The entry in the Secret that holds the raw key.
    pub key: &'a str,
    /// The account resource.
    pub account: &'a str,
}

/// The ids in the resource's status: tenants can't write there, so an id in it is a licence to revoke.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatusRecord {
    /// `status.tokenId`.
    pub token_id: Option<TokenId>,
    /// The attempt in the marker of `status.tokenName`: it belongs to `token_id`.
    pub attempt: Option<Nonce>,
    /// `status.retiring`.
    pub retiring: BTreeSet<TokenId>,
    /// Whether `Ready` is true.
    pub ready: bool,
}

impl StatusRecord {
    /// Whether status names the token.
    pub fn names(&self, id: &TokenId) -> bool {
        self.token_id.as_ref() == Some(id) || self.retiring.contains(id)
    }
}

/// The Secret that the resource names.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them at a time")]
pub enum SecretView {
    /// There is none.
    Missing,
    /// There is one.
    Present(SecretFacts),
}

/// Whose a Secret says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOwner {
    /// This resource.
    This,
    /// Another resource.
    Other(String),
    /// Nobody that we know.
    Nobody,
}

/// A Secret, read.
#[derive(Clone, Debug)]
pub struct SecretFacts {
    /// Whose it is.
    pub owner: SecretOwner,
    /// Its annotations.
    pub record: SecretRecord,
    /// The raw key in it, if there is one that could be.
    pub key: Option<Arc<RawKey>>,
    /// Whether labels, annotations or data differ from what the resource asks for.
    pub drifted: bool,
}

/// Whether calls to DataFast are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not yet known: the account's first list is under way.
    Connecting,
    /// There is no such account resource.
    NotFound,
    /// Its credential is missing or refused, or it has not connected yet. The text says which.
    NotReady(String),
    /// DataFast told us to wait.
    RateLimited,
    /// DataFast does not answer as it should.
    Unavailable(String),
}

/// What a resource sees of its account.
#[derive(Clone, Debug)]
pub struct AccountView<'a> {
    /// Whether calls are possible.
    pub gate: Gate,
    /// The account's tokens; none before the first list.
    pub snapshot: Option<&'a Snapshot>,
    /// Slots left; none before the first list.
    pub free: Option<i64>,
}

/// What only this process knows of a resource. Losing it costs a token at most, never a slot.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// A key that DataFast issued and that no Secret holds yet. The shell keeps the key itself.
    pub held: Option<Held>,
    /// The attempt whose request is under way.
    pub in_flight: Option<Nonce>,
    /// An attempt that was recorded and has certainly made no token: not sent, or refused.
    pub unsent: Option<Unsent>,
    /// The last refusal of a Secret that was to be written again.
    pub rewrite: Option<Refused>,
    /// Why DataFast refused, for which scope, and when to ask again.
    pub rejected: Option<Rejected>,
    /// The last call that was to prove a Secret's key, and that neither proved nor refuted it.
    pub unproved: Option<Refused>,
    /// Whether a Secret's key proved to be a token's.
    pub proof: Option<Proof>,
    /// Tokens whose deletion DataFast answered with 404, and when.
    pub denied: BTreeMap<TokenId, Timestamp>,
}

/// A key on its way into the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its attempt.
    pub nonce: Nonce,
    /// Its token.
    pub token_id: TokenId,
    /// When it was issued.
    pub since: Timestamp,
    /// [`Scope::hash`] of what was asked for.
    pub spec_hash: String,
    /// [`RawKey::fingerprint`] of it.
    pub key_sha256: String,
    /// The last refusal of the Secret.
    pub refused: Option<Refused>,
}

/// Something that failed, and is worth another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The words of who refused it.
    pub message: String,
    /// When to try again.
    pub retry_at: Timestamp,
}

/// An attempt that has made no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Its nonce.
    pub nonce: Nonce,
    /// What the dry run of the Secret said.
    pub preflight: Preflight,
}

/// What is known of the Secret's chance to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// Nothing.
    Unknown,
    /// The dry run passed.
    Passed,
    /// The dry run was refused.
    Refused(Refused),
}

/// A request that DataFast refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// [`Scope::hash`] of what was asked for.
    pub spec_hash: String,
    /// DataFast's words.
    pub message: String,
    /// When to ask again, for it may be the account that was changed.
    pub retry_at: Timestamp,
}

/// The outcome of a call with the key that a Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The token whose key it should be.
    pub token_id: TokenId,
    /// [`RawKey::fingerprint`] of the key that was tried.
    pub key_sha256: String,
    /// Whether DataFast took it.
    pub proven: bool,
}

impl<'a> Observed<'a> {
    /// Whether the resource may revoke a token: the one rule that keeps tenants off each other's tokens. Its own marker
    /// on a token that its record names, an id in its status, or a key that it proved to have.
    pub fn licence(&self, listed: &Listed) -> bool {
        let id = &listed.token.id;
        self.status.names(id) || self.attempt_of(listed).is_some_and(|nonce| self.records(nonce)) || self.proven(id)
    }

    /// The attempt of this resource that made the token, told by its marker.
    pub fn attempt_of<'b>(&self, listed: &'b Listed) -> Option<&'b Nonce> {
        listed.marker.as_ref().filter(|m| m.owner == self.owner).map(|m| &m.nonce)
    }

    fn records(&self, nonce: &Nonce) -> bool {
        let in_secret = self.secret_record().is_some_and(|record| {
            record.attempt.as_ref() == Some(nonce) || record.previous.iter().any(|p| p.token == nonce.as_str())
        });
        in_secret || self.log.get(nonce).is_some()
    }

    /// Whether the Secret's key proved to be this token's. It is no use for what is another resource's by now, be it the
    /// token or the Secret.
    pub fn proven(&self, id: &TokenId) -> bool {
        let anothers = matches!(&self.secret, SecretView::Present(SecretFacts { owner: SecretOwner::Other(_), .. }));
        if anothers || self.taken.contains(id) {
            return false;
        }
        let proof = self.local.proof.as_ref().filter(|p| p.proven && p.token_id == *id);
        proof.is_some_and(|p| self.key().is_some_and(|key| key.fingerprint(id.as_str()) == p.key_sha256))
    }

    fn key(&self) -> Option<&RawKey> {
        match &self.secret {
            SecretView::Present(facts) => facts.key.as_deref(),
            SecretView::Missing => None,
        }
    }

    /// The record in a Secret that is this resource's own.
    pub fn secret_record(&self) -> Option<&SecretRecord> {
        match &self.secret {
            SecretView::Present(facts) if facts.owner == SecretOwner::This => Some(&facts.record),
            _ => None,
        }
    }

    /// The tokens that the resource may revoke, as far as a list or we ourselves have seen them.
    pub fn own_tokens(&'a self) -> impl Iterator<Item = &'a Listed> {
        let tokens = self.account.snapshot.into_iter().flat_map(Snapshot::tokens);
        tokens.filter(|listed| self.licence(listed))
    }

    /// When the Secret's token was issued, as far as can be told; long ago where nothing tells.
    pub fn issued_at(&self, record: &SecretRecord) -> Timestamp {
        let recorded = record.attempt.as_ref().and_then(|nonce| self.log.get(nonce)).map(|a| a.at);
        recorded.or(record.issued_at).unwrap_or(Timestamp::MIN)
    }
}
