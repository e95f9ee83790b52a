//! Whose a Secret and a token are: whether the resource may write the one, and revoke the other. This is the one rule that
//! keeps tenants off each other's tokens.

use std::collections::BTreeSet;

use super::marker::{Marker, Nonce, OwnerId};
use super::observed::{Observed, SecretFacts, SecretOwner, SecretView, StatusRecord};
use super::snapshot::{Listed, Snapshot};
use crate::datafast::{RawKey, TokenId};

/// What tells that a token is a resource's; what tells more is greater. Of two resources, the one has the token for which
/// more speaks: and only where both have the same, the one that was there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Its status names the token. That may be the status of another one, restored under this name or copied.
    Named,
    /// Its log says, too, that this very resource took the token over.
    Adopted,
    /// The token's name bears its marker.
    Marked,
}

impl Evidence {
    /// What tells that a token is the resource's of this status, log and uid; `marker` is in the token's name, where that is
    /// known.
    pub fn of(
        id: &TokenId,
        marker: Option<&Marker>,
        owner: &OwnerId,
        status: &StatusRecord,
        adopted: impl FnOnce() -> BTreeSet<TokenId>,
    ) -> Option<Self> {
        let by_status = || status.token_id.as_ref() == Some(id) && status.marked.as_ref() == Some(owner);
        if marker.map_or_else(by_status, |marker| marker.owner == *owner) {
            return Some(Self::Marked);
        }
        // The log is its user's to edit: alone it tells nothing.
        status.names(id).then(|| if adopted().contains(id) { Self::Adopted } else { Self::Named })
    }
}

impl<'a> Observed<'a> {
    /// Whether a Secret is the resource's own. One that may be a former one's is where nobody else has its token: it was
    /// kept, or restored, and not copied.
    pub fn is_own(&self, facts: &SecretFacts) -> bool {
        match &facts.owner {
            SecretOwner::This => true,
            SecretOwner::Namesake | SecretOwner::Former => self.holder(facts).is_none(),
            SecretOwner::Copy { .. } | SecretOwner::Other(_) | SecretOwner::Gone(_) | SecretOwner::Nobody => false,
        }
    }

    /// The other resource that has the token whose key a Secret holds by its record.
    pub fn holder(&self, facts: &SecretFacts) -> Option<&String> {
        facts.record.token_id.as_ref().and_then(|id| self.taken.get(id))
    }

    /// Whether the resource may revoke a token that a list shows: its own marker on a token that its record or its status
    /// names, a token in its status that it has taken over, or a key that it proved to have. What another resource has is
    /// that one's, whatever status says: status may have been restored beside the original.
    pub fn may_revoke(&self, listed: &Listed) -> bool {
        let id = &listed.token.id;
        // That DataFast takes a key does not tell whose it is: it must look like the token's too.
        let is_its_key = || self.key().is_some_and(|key| key.fits(&listed.token.display_key) == Some(true));
        let by_record = match self.attempt_of(listed) {
            Some(nonce) => self.records(nonce) || self.status.names(id),
            None => self.status.names(id) && !self.taken.contains_key(id) && self.has_adopted(id, Some(listed)),
        };
        by_record || self.proven(id) && is_its_key()
    }

    /// Whether the resource may revoke a token that its status names, be it in a list or not.
    pub fn may_revoke_named(&self, id: &TokenId) -> bool {
        if let Some(listed) = self.account.snapshot.and_then(|snapshot| snapshot.get(id)) {
            return self.may_revoke(listed);
        }
        // Of a former one, status does not have the name.
        let is_marked = self.status.marked.as_ref() == Some(&self.owner) || self.status.retiring.contains(id);
        self.status.names(id) && !self.taken.contains_key(id) && (is_marked || self.has_adopted(id, None))
    }

    /// Whether the record tells that this very resource has taken the token over: a copy of its status tells that of
    /// another one.
    fn has_adopted(&self, id: &TokenId, listed: Option<&Listed>) -> bool {
        let is_its_own = |owner| matches!(owner, &SecretOwner::This | &SecretOwner::Namesake);
        let SecretView::Present(facts @ SecretFacts { owner, record, .. }) = &self.secret else {
            return self.adopted.contains(id);
        };
        if !is_its_own(owner) {
            return self.adopted.contains(id);
        }
        let fits = |key: &RawKey| match &record.key_sha256 {
            Some(sha) => key.fingerprint(id.as_str()) == *sha,
            None => listed.is_some_and(|listed| key.fits(&listed.token.display_key) == Some(true)),
        };
        // What is taken over is no attempt's any more.
        let marker = listed.and_then(|listed| listed.marker.as_ref());
        let is_makers = marker.is_some_and(|marker| record.attempt.as_ref() == Some(&marker.nonce));
        let is_held = record.token_id.as_ref() == Some(id) && facts.key.as_deref().is_some_and(fits) && !is_makers;
        let was_held = || record.previous.iter().any(|previous| previous.token == id.as_str());
        self.adopted.contains(id) || is_held || was_held()
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
        let anothers = match &self.secret {
            SecretView::Present(facts) => facts.owner != SecretOwner::Nobody && !self.is_own(facts),
            SecretView::Missing => false,
        };
        if anothers || self.taken.contains_key(id) {
            return false;
        }
        let proof = self.local.proof.as_ref().filter(|p| p.proven && p.token_id == *id);
        proof.is_some_and(|p| self.key().is_some_and(|key| key.fingerprint(id.as_str()) == p.key_sha256))
    }

    /// The tokens that the resource may revoke, as far as a list or we ourselves have seen them.
    pub fn own_tokens(&'a self) -> impl Iterator<Item = &'a Listed> {
        let tokens = self.account.snapshot.into_iter().flat_map(Snapshot::tokens);
        tokens.filter(|listed| self.may_revoke(listed))
    }
}
