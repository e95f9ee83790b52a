//! Which token a Secret holds: told from its record, its key and the account's list, none of which is trusted alone.

use jiff::{SignedDuration, Timestamp};

use super::local::Proof;
use super::observed::{Names, Observed, SecretFacts, SecretOwner, SecretView};
use super::record::Scope;
use super::snapshot::Listed;
use crate::datafast::{Flaw, RawKey, TokenId};

/// How long it is taken for true that DataFast takes a key whose token it does not list.
pub const PROOF_LASTS: SignedDuration = SignedDuration::from_mins(10);

const NOT_OURS: &str = "it is not this operator's";
const REMEDY: &str = "Delete or rename that Secret, or create this resource with another spec.secret.name";
const COPY_REMEDY: &str = "Have whatever copies it leave it out here and delete the copy, or create this resource with another spec.secret.name";

/// Which token the Secret holds.
#[derive(Clone, Debug)]
pub enum SecretState<'a> {
    /// None: there is no Secret, or its key is gone or changed.
    Nothing,
    /// Not ours to say: the Secret is somebody else's. Why, and what to do about it, for people.
    Foreign(String),
    /// One that no list can confirm yet, nor deny.
    Unconfirmed(Option<&'a TokenId>),
    /// One that the list lacks: whether it is still there must be found out with its key.
    Missing(&'a TokenId),
    /// One that is there, though the list lacks it.
    Hidden(&'a TokenId),
    /// One that was deleted at DataFast.
    Vanished,
    /// One that this process just revoked.
    Revoked,
    /// One without our marker; whether the key is its own must be proved first.
    Unproven(&'a Listed),
    /// A live token of this resource.
    Live(&'a Listed),
}

impl<'a> Observed<'a> {
    /// Which token the Secret holds.
    pub fn secret_state(&'a self, wanted: &Scope, now: Timestamp) -> SecretState<'a> {
        let SecretView::Present(facts) = &self.secret else { return SecretState::Nothing };
        match &facts.owner {
            _ if self.is_own(facts) => self.own_secret_state(facts, now),
            SecretOwner::Nobody => {
                let foreign = |why| SecretState::Foreign(format!("{why}. {REMEDY}"));
                self.unowned_secret_state(facts, wanted).unwrap_or_else(foreign)
            }
            _ => SecretState::Foreign(self.anothers(facts)),
        }
    }

    /// Why a Secret of another resource is left alone, and what to do about it.
    fn anothers(&self, facts: &SecretFacts) -> String {
        let Names { secret, owner: this, .. } = self.names;
        if let (Some(holder), SecretOwner::Namesake | SecretOwner::Former) = (self.holder(facts), &facts.owner) {
            return format!("it is a copy, with the key of {holder}. {COPY_REMEDY}");
        }
        match &facts.owner {
            SecretOwner::Copy { of } => {
                format!("it is a copy of the Secret of {of}, with the key of that resource. {COPY_REMEDY}")
            }
            SecretOwner::Gone(owner) => format!(
                "it belongs to {owner}, which is not there any more. To hand it over to this resource, with its token: kubectl annotate secret {secret} --overwrite {}={this}. For a new token, delete that Secret",
                crate::api::names::OWNER
            ),
            SecretOwner::Other(owner) => format!("it belongs to {owner}. {REMEDY}"),
            SecretOwner::This | SecretOwner::Namesake | SecretOwner::Former | SecretOwner::Nobody => {
                format!("{NOT_OURS}. {REMEDY}")
            }
        }
    }

    fn own_secret_state(&'a self, facts: &'a SecretFacts, now: Timestamp) -> SecretState<'a> {
        let record = &facts.record;
        let Some(key) = facts.key.as_deref() else { return SecretState::Nothing };
        if let (Some(id), Some(sha)) = (&record.token_id, &record.key_sha256)
            && key.fingerprint(id.as_str()) != *sha
        {
            return SecretState::Nothing;
        }
        let Some(snapshot) = self.account.snapshot else { return SecretState::Unconfirmed(record.token_id.as_ref()) };
        let by_attempt = || record.attempt.as_ref().and_then(|nonce| snapshot.by_attempt(&self.owner, nonce));
        let by_id = || record.token_id.as_ref().and_then(|id| snapshot.get(id));
        // The id may have been edited or dropped; marker and key together still say which token it is.
        let by_key = || self.own_tokens().find(|listed| key.fits(&listed.token.display_key) == Some(true));
        let is_former = facts.owner == SecretOwner::Former;
        let listed = by_attempt().or_else(by_id).or_else(|| record.token_id.is_none().then(by_key).flatten());
        match listed {
            Some(listed) if key.fits(&listed.token.display_key) == Some(false) => {
                match self.is_rolled_lately(record, snapshot) {
                    true => SecretState::Unconfirmed(Some(&listed.token.id)),
                    false => SecretState::Nothing,
                }
            }
            // What a former one left is first written to be this one's.
            Some(listed) if self.may_revoke(listed) && (!is_former || self.attempt_of(listed).is_some()) => {
                SecretState::Live(listed)
            }
            Some(listed) => match self.import_obstacle(listed, key) {
                None => SecretState::Unproven(listed),
                Some(_) => SecretState::Nothing,
            },
            None => match &record.token_id {
                Some(id) if snapshot.has_revoked(id) => SecretState::Revoked,
                // A list can lack what another credential created: only the key tells whether its token is gone.
                Some(id) if snapshot.has_vanished(id, self.issued_at(record)) => match self.proof_of(id, key) {
                    Some(proof) if now.duration_since(proof.at) >= PROOF_LASTS => SecretState::Missing(id),
                    Some(Proof { proven: true, .. }) => SecretState::Hidden(id),
                    Some(Proof { proven: false, .. }) => SecretState::Vanished,
                    None => SecretState::Missing(id),
                },
                Some(id) => SecretState::Unconfirmed(Some(id)),
                None => SecretState::Nothing,
            },
        }
    }

    /// What came of trying the key, if it was tried.
    fn proof_of(&self, id: &TokenId, key: &RawKey) -> Option<&Proof> {
        let proof = self.local.proof.as_ref()?;
        (proof.token_id == *id && proof.key_sha256 == key.fingerprint(id.as_str())).then_some(proof)
    }

    /// A Secret that nobody owns is taken over where it asks for that by naming a token, or where its key is that of a
    /// token of this resource: then its annotations were dropped by mistake.
    fn unowned_secret_state(&'a self, facts: &'a SecretFacts, wanted: &Scope) -> Result<SecretState<'a>, String> {
        let asks = facts.record.token_id.as_ref();
        let Some(snapshot) = self.account.snapshot else {
            return match (asks, self.status.token_id.is_some() && facts.key.is_some()) {
                (None, false) => Err(NOT_OURS.into()),
                _ => Ok(SecretState::Unconfirmed(None)),
            };
        };
        let Some(key) = facts.key.as_deref() else {
            return Err(match asks {
                Some(_) => {
                    let flaw = facts.flaw.unwrap_or(Flaw::Missing);
                    format!("it asks to be imported, but its entry {:?} {flaw}", self.names.key)
                }
                None => NOT_OURS.into(),
            });
        };
        let own = || self.own_tokens().find(|listed| key.fits(&listed.token.display_key) == Some(true));
        match (asks.map(|id| (id, snapshot.get(id))), own()) {
            (_, Some(listed)) => match self.import_obstacle(listed, key) {
                None => Ok(SecretState::Unproven(listed)),
                Some(why) => Err(format!("its key looks like this resource's, but {why}")),
            },
            (Some((_, Some(listed))), None) => match self.import_obstacle(listed, key) {
                None if !wanted.allows_as_is(&listed.token) => Err(format!(
                    "it asks to be imported, but token {} has other permissions or websites than this resource asks for",
                    listed.token.id
                )),
                None => Ok(SecretState::Unproven(listed)),
                Some(why) => Err(format!("it asks to be imported, but {why}")),
            },
            (Some((id, None)), None) => Err(format!("it asks to be imported, but the account has no token {id}")),
            (None, None) => Err(NOT_OURS.into()),
        }
    }

    /// Why a token can't be adopted, if so; the proof of possession comes after.
    fn import_obstacle(&self, listed: &Listed, key: &RawKey) -> Option<String> {
        let id = &listed.token.id;
        let refuted = self.local.proof.as_ref().is_some_and(|proof| {
            !proof.proven && proof.token_id == *id && key.fingerprint(id.as_str()) == proof.key_sha256
        });
        if self.taken.contains_key(id) {
            Some(format!("token {id} is another resource's"))
        } else if key.fits(&listed.token.display_key) != Some(true) {
            Some(format!("the key in it is not that of token {id} ({})", listed.token.display_key))
        } else if refuted {
            Some(format!("DataFast does not take its key as that of token {id}"))
        } else {
            None
        }
    }
}
