//! The writes of a Secret: dry run, swap, rewrite. Each tells the core what came of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::perform::Work;
use super::secret::Recipe;
use super::{Error, failed_with, words_without};
use crate::datafast::{RawKey, TokenId};
use crate::lifecycle::event::{Event, Refusal};
use crate::lifecycle::local::Asked;
use crate::lifecycle::marker::Nonce;
use crate::lifecycle::record::{Log, SecretRecord};
use crate::lock::lock;
use crate::telemetry::millis;

use super::observe::desired;

/// A key of the length of DataFast's, for dry runs.
const PLACEHOLDER: &str = "dft_0000000000000000000000000000000000000000";

/// What the API server made of a Secret. Where it gave no answer at all, that is an error of the reconcile: status could not
/// be written either.
enum WriteOutcome {
    /// It took it.
    Written(Box<Secret>),
    /// Somebody else was faster.
    Overtaken,
    /// It answered, and did not take it: quota, admission, RBAC, validation; a webhook that is down; too much to do. After
    /// a 5xx the Secret may be written all the same: what is there at the next try tells.
    Refused(Refusal),
}

impl WriteOutcome {
    fn of(answer: kube::Result<Secret>, key: &RawKey) -> Result<Self, Error> {
        match answer {
            Ok(written) => Ok(Self::Written(Box::new(written))),
            Err(kube::Error::Api(refusal)) if is_race(&refusal) => Ok(Self::Overtaken),
            Err(error @ kube::Error::Api(_)) => Ok(Self::Refused(Refusal(words_without(&error, Some(key))))),
            Err(error) => Err(failed_with(key, "Writing the Secret", error)),
        }
    }
}

impl Work<'_> {
    async fn try_write(&self, secret: &Secret, dry_run: bool, key: &RawKey) -> Result<WriteOutcome, Error> {
        WriteOutcome::of(self.secrets.write(secret, dry_run).await, key)
    }

    /// Dry-runs the Secret as it will be.
    pub(super) async fn dry_run(&self) -> Result<Event, Error> {
        let Ok(placeholder) = RawKey::parse(PLACEHOLDER.to_owned()) else { return Ok(Event::DryRun(Ok(()))) };
        let id = "0".repeat(24);
        let record = SecretRecord {
            attempt: Some(Nonce::from_random([0; 7])),
            token_id: TokenId::parse(&id).ok(),
            issued_at: Some(self.ctx.now()),
            spec_hash: Some(desired(&*self.resource).scope.hash()),
            key_sha256: Some(placeholder.fingerprint(&id)),
            ..SecretRecord::default()
        };
        let view = self.view();
        let secret = Recipe::new(&*self.resource, &record, &placeholder, &view).secret(self.secret.as_ref());
        match self.try_write(&secret, true, &placeholder).await? {
            WriteOutcome::Written(_) => Ok(Event::DryRun(Ok(()))),
            WriteOutcome::Refused(refusal) => Ok(Event::DryRun(Err(refusal))),
            WriteOutcome::Overtaken => Err(Error::Conflict("the Secret")),
        }
    }

    /// Somebody else was faster: what they made of the Secret is read at once, but once only before a pause.
    pub(super) async fn overtaken(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.was_overtaken, true) {
            return Err(Error::Conflict("the Secret"));
        }
        self.read_secret().await
    }

    /// Writes the Secret with the pending key.
    pub(super) async fn swap(&mut self, record: SecretRecord) -> Result<(), Error> {
        let Some(key) = lock(&self.memory).key() else {
            self.apply(Event::KeyDropped);
            return Ok(());
        };
        let (view, resource) = (self.view(), self.resource.clone());
        let recipe = Recipe::new(&*resource, &record, &key, &view);
        let secret = recipe.secret(self.secret.as_ref());
        let was_there = self.secret.is_some();
        match self.try_write(&secret, false, &key).await? {
            WriteOutcome::Written(written) => {
                self.secret = Some(*written);
                self.apply(Event::SecretWritten);
                let (secret, display_key) = (self.resource.secret_name(), &recipe.display_key);
                let log = Log::read(self.resource.annotations(), self.ctx.now());
                let attempt = record.attempt.as_ref().and_then(|nonce| log.get(nonce));
                tracing::info!(
                    secret,
                    tokenId = record.token_id.as_ref().map(TokenId::as_str),
                    displayKey = display_key,
                    cause = attempt.map(|attempt| attempt.cause.as_str()),
                    durationMs = attempt.map(|attempt| millis(self.ctx.since(attempt.at))),
                    "the Secret holds a new key"
                );
                let note = format!("Key {display_key} is in Secret {secret:?}");
                self.tell(if was_there { "Rotated" } else { "Issued" }, &note);
            }
            // It may be our own write, answered twice: what is there now tells.
            WriteOutcome::Overtaken => self.overtaken().await?,
            WriteOutcome::Refused(refusal) => self.apply(Event::SecretRefused(refusal)),
        }
        Ok(())
    }

    pub(super) fn key_in_secret(&self) -> Option<Arc<RawKey>> {
        super::observe::key_of(&*self.resource, self.secret.as_ref()?, self.ctx.now())
    }

    /// Writes the Secret again with the key that it holds.
    pub(super) async fn rewrite(&mut self, record: SecretRecord, asked: Asked) -> Result<(), Error> {
        let Some(key) = self.key_in_secret() else { return Ok(()) };
        let (view, resource) = (self.view(), self.resource.clone());
        let recipe = Recipe::new(&*resource, &record, &key, &view);
        let secret = recipe.secret(self.secret.as_ref());
        match self.try_write(&secret, false, &key).await? {
            WriteOutcome::Written(written) => {
                let as_written = recipe.differences(&written).is_empty();
                self.secret = Some(*written);
                self.apply(Event::SecretRewritten { asked, as_written });
                if as_written {
                    self.log_rewritten(record.token_id.as_ref(), &recipe.display_key);
                }
            }
            WriteOutcome::Overtaken => self.overtaken().await?,
            WriteOutcome::Refused(refusal) => self.apply(Event::RewriteRefused(refusal)),
        }
        Ok(())
    }

    fn log_rewritten(&self, token_id: Option<&TokenId>, display_key: &str) {
        let secret = self.resource.secret_name();
        let is_proven = token_id.is_some_and(|token_id| lock(&self.memory).local().has_proven(token_id));
        let known = self.resource.status().and_then(|status| status.token_id.as_deref());
        let token_id = token_id.map(TokenId::as_str);
        if is_proven && known != token_id {
            tracing::info!(secret, tokenId = token_id, displayKey = display_key, "took the Secret's key over");
        } else {
            tracing::info!(secret, tokenId = token_id, "the Secret was brought up to date");
        }
    }
}

/// Somebody else was faster.
fn is_race(status: &kube::core::Status) -> bool {
    status.is_conflict() || status.is_already_exists() || status.is_not_found() && !names_namespace(status)
}

/// 404 on a create is the namespace's.
fn names_namespace(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn of(status: Status) -> WriteOutcome {
        let key = RawKey::parse("dft_wholeRawKeyOfThisTest0000".to_owned()).unwrap();
        WriteOutcome::of(Err(kube::Error::Api(status.boxed())), &key).unwrap()
    }

    #[test]
    fn whatever_the_api_server_answers_but_a_race_is_a_refusal_in_its_words() {
        for code in [400, 403, 422, 429, 500, 502, 503, 504] {
            let words = "failed calling webhook \"vault\": dft_wholeRawKeyOfThisTest0000";
            let WriteOutcome::Refused(Refusal(why)) = of(Status::failure(words, "InternalError").with_code(code))
            else {
                panic!("{code} is no refusal")
            };
            assert!(why.contains("failed calling webhook") && !why.contains("wholeRawKey"), "{why}");
        }
    }

    #[test]
    fn a_race_is_none() {
        for (code, reason) in [(409, "Conflict"), (409, "AlreadyExists"), (404, "NotFound")] {
            let outcome = of(Status::failure("it was changed", reason).with_code(code));
            assert!(matches!(outcome, WriteOutcome::Overtaken), "{code} {reason}");
        }
    }
}
