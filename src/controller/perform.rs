//! The actions. Each does one thing on one side, and tells the core what came of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;

use super::memory::Memory;
use super::observe::desired;
use super::resource::Managed;
use super::secret::Secrets;
use super::{Context, Doing, Error, words};
use crate::account::{Account, View};
use crate::api::names;
use crate::datafast::TokenId;
use crate::lifecycle::adoptions;
use crate::lifecycle::allow::Outside;
use crate::lifecycle::decision::Action;
use crate::lifecycle::event::{Effect, Event, Refusal};
use crate::lifecycle::marker::Nonce;
use crate::lifecycle::record::{Attempt, Cause, Log};
use crate::lifecycle::verdict::Reason;
use crate::lock::lock;
use crate::telemetry::millis;

/// For what the Secret is read: where that fails, nothing can be decided.
pub(super) const READING_SECRET: &str = "Reading the Secret";

/// For what requests to the API server an action is, as the beginning of a sentence.
pub(super) fn doing(action: &Action) -> &'static str {
    match action {
        Action::AddFinalizer | Action::Release => "Patching the resource's finalizers",
        Action::Record { .. } => "Recording an attempt and trying its Secret",
        Action::Preflight => "Trying the Secret",
        Action::Swap { .. } | Action::Rewrite { .. } => "Writing the Secret",
        Action::Restart { .. } => "Restarting a workload",
        Action::DeleteSecret => "Deleting the Secret",
        Action::Send { .. } | Action::DropKey | Action::Prove { .. } | Action::Revoke { .. } => "A call to DataFast",
    }
}

/// What an attempt is recorded with, beside its nonce.
struct NewAttempt {
    at: Timestamp,
    cause: Cause,
    rolls: Option<TokenId>,
}

/// What the log says beside it.
struct Kept {
    attempts: Vec<Attempt>,
    adopted: BTreeSet<TokenId>,
}

/// What came of an action.
pub(super) enum Performed {
    /// The rules decide again.
    Goes,
    /// The resource is gone.
    Gone,
}

/// One resource at work.
pub(super) struct Work<'a> {
    pub(super) ctx: &'a Arc<Context>,
    pub(super) resource: Arc<dyn Managed>,
    pub(super) secret: Option<Secret>,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) account: Arc<Account>,
    pub(super) secrets: Secrets,
    /// Why the account is not for the resource's namespace.
    pub(super) outside: Option<Outside>,
    /// Somebody else was faster in writing the Secret.
    pub(super) was_overtaken: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        ctx: &'a Arc<Context>,
        resource: Arc<dyn Managed>,
        memory: Arc<Mutex<Memory>>,
        account: Arc<Account>,
        secrets: Api<Secret>,
    ) -> Self {
        Self {
            ctx,
            resource,
            secret: None,
            memory,
            account,
            secrets: Secrets(secrets),
            outside: None,
            was_overtaken: false,
        }
    }

    pub(super) fn view(&self) -> View {
        self.account.view(&self.resource.reference())
    }

    pub(super) async fn read_secret(&mut self) -> Result<(), Error> {
        self.secret = self.secrets.0.get_opt(&self.resource.secret_name()).await.doing(READING_SECRET)?;
        self.note_arrival();
        Ok(())
    }

    /// A write may have succeeded though its answer was lost: a key that is in the Secret is no longer in hand.
    fn note_arrival(&self) {
        let Some(secret) = &self.secret else { return };
        let attempt = secret.annotations().get(names::ATTEMPT).map(String::as_str);
        let is_there = lock(&self.memory).local().pending().is_some_and(|pending| {
            attempt == Some(pending.nonce.as_str())
                && self
                    .key_in_secret()
                    .is_some_and(|key| key.fingerprint(pending.token_id.as_str()) == pending.key_sha256)
        });
        if is_there {
            self.apply(Event::KeyArrived);
        }
    }

    /// Has the core take note of an event.
    pub(super) fn apply(&self, event: Event) {
        let effect = lock(&self.memory).apply(event, self.ctx.both_clocks());
        match effect {
            Some(Effect::Announce(cause)) => self.announce(cause),
            Some(Effect::TellRefusal(why)) => self.tell_refusal(&why),
            Some(Effect::RevokeOrphan(_) | Effect::ClearAway(_)) | None => {}
        }
    }

    /// The finalizer can't be changed.
    fn tell_refusal(&self, why: &str) {
        if self.resource.is_deleted() {
            tracing::warn!(why, "the finalizer can't be taken off: nothing else is left to be done");
            self.warn(Reason::Deleting.as_str(), &format!("The finalizer can't be taken off: {why}"));
        } else {
            tracing::warn!(why, "the finalizer is missing, and can't be put on");
        }
    }

    /// Takes in what came of a change of the finalizer. Returns whether it was made.
    fn take_over_finalizer(&mut self, patched: kube::Result<Arc<dyn Managed>>) -> Result<bool, Error> {
        match patched {
            Err(kube::Error::Api(refusal)) if is_refused(&refusal) => {
                self.apply(Event::FinalizerRefused(Refusal(words(&kube::Error::Api(refusal)))));
                Ok(false)
            }
            patched => self.take_over(patched).map(|()| true),
        }
    }

    pub(super) async fn perform(&mut self, action: Action) -> Result<Performed, Error> {
        match action {
            Action::AddFinalizer => self.add_finalizer().await?,
            Action::Record { again, at, cause, keep: attempts, adopted, rolls } => {
                self.record(again, Kept { attempts, adopted }, NewAttempt { at, cause, rolls }).await?;
            }
            Action::Preflight => {
                let event = self.dry_run().await?;
                self.apply(event);
            }
            Action::Send { nonce, cause, rolls, by } => self.send(nonce, cause, rolls, by).await,
            Action::DropKey => self.apply(Event::KeyDropped),
            Action::Swap { record } => self.swap(record).await?,
            Action::Rewrite { record, asked, adopts } => {
                if let Some(token_id) = adopts {
                    self.record_adoption(token_id).await?;
                }
                self.rewrite(record, asked).await?;
            }
            Action::Prove { token_id } => self.prove(token_id).await,
            Action::Revoke { token_id, cause } => self.revoke(token_id, cause).await,
            Action::Restart { at } => self.restart(at).await?,
            Action::DeleteSecret => self.delete_secret().await?,
            Action::Release => return self.release().await,
        }
        Ok(Performed::Goes)
    }

    /// One patch of the resource's metadata, refused where anybody changed the resource since it was read.
    pub(super) async fn patch_metadata(&self, mut metadata: serde_json::Value) -> kube::Result<Arc<dyn Managed>> {
        metadata["resourceVersion"] = json!(self.resource.metadata().resource_version);
        self.resource.patch(&self.ctx.client, json!({ "metadata": metadata })).await
    }

    pub(super) fn take_over(&mut self, patched: kube::Result<Arc<dyn Managed>>) -> Result<(), Error> {
        match patched {
            Ok(resource) => {
                self.resource = lock(&self.memory).newest(resource);
                Ok(())
            }
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() => Err(Error::Conflict("the resource")),
            Err(error) => Err(error).doing("Patching the resource's finalizers and annotations"),
        }
    }

    pub(super) fn finalizers(&self) -> Vec<String> {
        let mut finalizers = self.resource.finalizers().to_vec();
        if !self.resource.has_finalizer() {
            finalizers.push(names::FINALIZER_REVOKE.into());
        }
        finalizers
    }

    /// The record, and at the same time the dry run of what it is for.
    async fn record(&mut self, again: Option<Nonce>, kept: Kept, new: NewAttempt) -> Result<(), Error> {
        let NewAttempt { at, cause, rolls } = new;
        let nonce = again.unwrap_or_else(|| Nonce::from_random(rand::random()));
        let requests = desired(&*self.resource).requests;
        let attempt = Attempt { nonce: nonce.clone(), at, cause, requests, rolls };
        let mut log = Log(kept.attempts);
        log.0.push(attempt.clone());
        self.apply(Event::Recording { nonce });
        let start = self.ctx.now();
        let attempts = adoptions::write(&kept.adopted, &self.resource.owner_id(), &log);
        let metadata = json!({ "finalizers": self.finalizers(), "annotations": { names::ATTEMPTS: attempts } });
        let (patched, dry_run) = tokio::join!(self.patch_metadata(metadata), self.dry_run());
        self.take_over(patched)?;
        let took = self.ctx.now().duration_since(start);
        self.apply(Event::Recorded { attempt, took, horizon: self.ctx.horizon() });
        self.apply(dry_run?);
        Ok(())
    }

    /// That a token is taken over is written down before its Secret is written: a copy of status is no proof of that.
    async fn record_adoption(&mut self, token_id: TokenId) -> Result<(), Error> {
        let (annotations, owner) = (self.resource.annotations(), self.resource.owner_id());
        let mut adopted = adoptions::read(annotations, &owner);
        adopted.insert(token_id);
        let attempts = adoptions::write(&adopted, &owner, &Log::read(annotations, self.ctx.now()));
        let patched = self.patch_metadata(json!({ "annotations": { names::ATTEMPTS: attempts } })).await;
        self.take_over(patched)
    }

    /// Why a token is issued in place of one that was there.
    fn announce(&self, cause: Cause) {
        let former = self.resource.status().and_then(|status| status.token_id.as_deref());
        match cause {
            Cause::Vanished => {
                tracing::warn!(tokenId = former, "the token was deleted at DataFast: a new one is issued");
                self.warn("TokenVanished", "It was deleted at DataFast: a new one is issued");
            }
            Cause::KeyLost => {
                let secret = self.resource.secret_name();
                tracing::warn!(tokenId = former, secret, "the Secret or its key is gone: a new one is issued");
                let note = format!(
                    "Secret {secret:?} was deleted, or its key is no longer the one that DataFast knows: a new one is issued"
                );
                self.warn("KeyLost", &note);
            }
            _ => {}
        }
    }

    pub(super) async fn add_finalizer(&mut self) -> Result<(), Error> {
        let patched = self.patch_metadata(json!({ "finalizers": self.finalizers() })).await;
        if self.take_over_finalizer(patched)? {
            tracing::info!("put the finalizer on");
            self.apply(Event::FinalizerAdded);
        }
        Ok(())
    }

    async fn delete_secret(&mut self) -> Result<(), Error> {
        let Some(secret) = &self.secret else { return Ok(()) };
        match self.secrets.delete(secret).await {
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() => self.overtaken().await,
            Err(error) => Err(error).doing("Deleting the Secret"),
            Ok(()) => {
                tracing::info!(secret = self.resource.secret_name(), "deleted the Secret");
                self.secret = None;
                Ok(())
            }
        }
    }

    async fn release(&mut self) -> Result<Performed, Error> {
        let others: Vec<_> =
            self.resource.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER_REVOKE).collect();
        // The watch may tell that it is gone before this is answered.
        self.apply(Event::Releasing);
        let patched = self.patch_metadata(json!({ "finalizers": others })).await;
        let is_gone = matches!(&patched, Err(kube::Error::Api(refusal)) if refusal.is_not_found());
        if !is_gone && !self.take_over_finalizer(patched)? {
            return Ok(Performed::Goes);
        }
        self.tell_abandoned();
        let deleted_at = self.resource.metadata().deletion_timestamp.as_ref().map(|time| time.0);
        let took = deleted_at.map(|at| self.ctx.since(at));
        tracing::info!(durationMs = took.map(millis), "released the finalizer: nothing of the resource is left");
        self.account.settled(&self.resource.reference());
        self.account.reconcile();
        Ok(Performed::Gone)
    }

    fn tell_abandoned(&self) {
        if !desired(&*self.resource).abandon {
            return;
        }
        let id = self.resource.status().and_then(|status| status.token_id.clone());
        tracing::warn!(tokenId = id, "released without DataFast, as asked by annotation: the token is left there");
        let left = id.map(|id| format!(": token {id} is left there")).unwrap_or_default();
        self.warn("Abandoned", &format!("Released without DataFast, as asked by {}{left}", names::ABANDON));
    }

    pub(super) fn tell(&self, reason: &'static str, note: &str) {
        self.ctx.events.normal(&self.resource.object_reference(), reason, note.to_owned());
    }

    pub(super) fn warn(&self, reason: &'static str, note: &str) {
        self.ctx.events.warning(&self.resource.object_reference(), reason, note.to_owned());
    }
}

/// It was understood, and forbidden: by RBAC, an admission policy, or validation.
fn is_refused(status: &kube::core::Status) -> bool {
    (400..500).contains(&status.code) && status.code != 429 && !status.is_conflict() && !status.is_not_found()
}
