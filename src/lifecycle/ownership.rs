//! Whose a Secret and a token are: whether the resource may write the one, and revoke the other. This is the one rule that
//! keeps tenants off each other's tokens.

use super::marker::Nonce;
use super::observed::{Observed, SecretFacts, SecretOwner, SecretView};
use super::snapshot::{Listed, Snapshot};
use crate::datafast::{RawKey, TokenId};

impl<'a> Observed<'a> {
    /// Whether a Secret is the resource's own. That of a former one is where nobody else has its token: it was kept, or
    /// restored, and not copied.
    pub fn is_own(&self, facts: &SecretFacts) -> bool {
        match &facts.owner {
            SecretOwner::This => true,
            SecretOwner::Former { .. } => !facts.record.token_id.as_ref().is_some_and(|id| self.taken.contains(id)),
            SecretOwner::Copy { .. } | SecretOwner::Other(_) | SecretOwner::Gone(_) | SecretOwner::Nobody => false,
        }
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
            None => self.status.names(id) && !self.taken.contains(id) && self.has_adopted(id, Some(listed)),
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
        self.status.names(id) && !self.taken.contains(id) && (is_marked || self.has_adopted(id, None))
    }

    /// Whether the record tells that this very resource has taken the token over: a copy of its status tells that of
    /// another one.
    fn has_adopted(&self, id: &TokenId, listed: Option<&Listed>) -> bool {
        let SecretView::Present(facts @ SecretFacts { owner: SecretOwner::This, record, .. }) = &self.secret else {
            return self.adopted.contains(id);
        };
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
        if anothers || self.taken.contains(id) {
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
