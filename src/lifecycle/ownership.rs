//! Whose a token is: whether the resource may revoke it. This is the one rule that keeps tenants off each other's tokens.

use super::marker::Nonce;
use super::observed::{Observed, SecretFacts, SecretOwner, SecretView};
use super::snapshot::{Listed, Snapshot};
use crate::datafast::TokenId;

impl<'a> Observed<'a> {
    /// Whether the resource may revoke a token: the one rule that keeps tenants off each other's tokens. Its own marker
    /// on a token that its record names, an id in its status, or a key that it proved to have.
    pub fn may_revoke(&self, listed: &Listed) -> bool {
        let id = &listed.token.id;
        // That DataFast takes a key does not tell whose it is: it must look like the token's too.
        let is_its_key = || self.key().is_some_and(|key| key.fits(&listed.token.display_key) == Some(true));
        self.status.names(id)
            || self.attempt_of(listed).is_some_and(|nonce| self.records(nonce))
            || self.proven(id) && is_its_key()
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

    /// The tokens that the resource may revoke, as far as a list or we ourselves have seen them.
    pub fn own_tokens(&'a self) -> impl Iterator<Item = &'a Listed> {
        let tokens = self.account.snapshot.into_iter().flat_map(Snapshot::tokens);
        tokens.filter(|listed| self.may_revoke(listed))
    }
}
