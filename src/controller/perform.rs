//! The actions. Each does one thing on one side, and notes in memory what came of it.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::memory::Memory;
use super::observe::desired;
use super::secret::Secrets;
use super::{Context, Error, token};
use crate::account::{Account, CallError};
use crate::api::{DataFastAccessToken, names};
use crate::datafast::{self, TokenId};
use crate::issue::decide::{Action, RevokeCause};
use crate::issue::observed::Proof;
use crate::lock::lock;

/// What came of an action.
pub(super) enum Performed {
    /// The resource is looked at again.
    Goes,
    /// The resource is gone.
    Gone,
}

/// One resource at work.
pub(super) struct Work<'a> {
    pub(super) ctx: &'a Arc<Context>,
    pub(super) resource: Arc<DataFastAccessToken>,
    pub(super) secret: Option<Secret>,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) account: Arc<Account>,
    pub(super) secrets: Secrets,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        ctx: &'a Arc<Context>,
        resource: Arc<DataFastAccessToken>,
        memory: Arc<Mutex<Memory>>,
        account: Arc<Account>,
        secrets: Api<Secret>,
    ) -> Self {
        Self { ctx, resource, secret: None, memory, account, secrets: Secrets(secrets) }
    }

    pub(super) fn api(&self) -> Api<DataFastAccessToken> {
        Api::namespaced(self.ctx.client.clone(), &self.resource.namespace().unwrap_or_default())
    }

    pub(super) async fn read_secret(&mut self) -> Result<(), Error> {
        self.secret = self.secrets.0.get_opt(&self.resource.secret_name()).await?;
        self.note_arrival();
        Ok(())
    }

    /// A write may have succeeded though its answer was lost: a key that is in the Secret is no longer in hand.
    fn note_arrival(&self) {
        let Some(secret) = &self.secret else { return };
        let mut memory = lock(&self.memory);
        let Some(held) = &memory.local.held else { return };
        let is_there = secret.annotations().get(names::ATTEMPT).is_some_and(|attempt| attempt == held.nonce.as_str())
            && super::observe::key_of(&self.resource, secret, self.ctx.now())
                .is_some_and(|key| key.fingerprint(held.token_id.as_str()) == held.key_sha256);
        if is_there {
            memory.let_go();
        }
    }

    pub(super) async fn perform(&mut self, action: Action) -> Result<Performed, Error> {
        match action {
            Action::Rest | Action::Pause => {}
            Action::Claim => self.claim().await?,
            Action::Record { again, cause, keep } => self.record(again, cause, keep).await?,
            Action::Preflight => {
                let preflight = self.preflight().await?;
                self.note_preflight(preflight);
            }
            Action::Send { nonce, cause } => self.send(nonce, cause).await,
            Action::Swap { record } => self.swap(record).await?,
            Action::Rewrite { record } => self.rewrite(record).await?,
            Action::Prove { token_id } => self.prove(token_id).await,
            Action::Revoke { token_id, cause } => self.revoke(token_id, cause).await,
            Action::Restart { token_id, at } => self.restart(token_id, at).await?,
            Action::DeleteSecret => self.delete_secret().await?,
            Action::Release => return self.release().await,
        }
        Ok(Performed::Goes)
    }

    /// One patch of the resource's metadata, refused where anybody changed the resource since it was read.
    pub(super) async fn patch_metadata(&self, mut metadata: serde_json::Value) -> kube::Result<DataFastAccessToken> {
        metadata["resourceVersion"] = json!(self.resource.resource_version());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        self.api().patch(&self.resource.name_any(), &params, &patch).await
    }

    pub(super) fn take_over(&mut self, patched: kube::Result<DataFastAccessToken>) -> Result<(), Error> {
        match patched {
            Ok(resource) => {
                self.resource = lock(&self.memory).newest(Arc::new(resource));
                Ok(())
            }
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() => Err(Error::Conflict("the resource")),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn finalizers(&self) -> Vec<String> {
        let mut finalizers = self.resource.finalizers().to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == names::FINALIZER_REVOKE) {
            finalizers.push(names::FINALIZER_REVOKE.into());
        }
        finalizers
    }

    async fn claim(&mut self) -> Result<(), Error> {
        let patched = self.patch_metadata(json!({ "finalizers": self.finalizers() })).await;
        self.take_over(patched)
    }

    async fn prove(&mut self, token_id: TokenId) {
        let Some(key) = self.key_in_secret() else { return };
        let answer = self.account.probe(&key).await;
        let mut memory = lock(&self.memory);
        match answer {
            Ok(proven) => {
                let key_sha256 = key.fingerprint(token_id.as_str());
                memory.local.proof = Some(Proof { token_id, key_sha256, proven });
                memory.local.unproved = None;
            }
            // The account's gate may stay open: a refusal of this call says nothing of others.
            Err(CallError::DataFast(error)) => {
                memory.local.unproved = Some(memory.refused(error.to_string(), self.ctx.now()))
            }
            Err(CallError::NotSent) => {}
        }
    }

    async fn revoke(&mut self, token_id: TokenId, cause: RevokeCause) {
        let listed = self.account.view().snapshot.and_then(|snapshot| snapshot.get(&token_id).cloned());
        let key = listed.map(|listed| format!(" ({})", listed.token.display_key)).unwrap_or_default();
        let answer = self.account.revoke(&token_id).await;
        let note = {
            let mut memory = lock(&self.memory);
            let is_held = memory.local.held.as_ref().is_some_and(|held| held.token_id == token_id);
            match &answer {
                Ok(()) => {
                    memory.local.denied.remove(&token_id);
                    self.ctx.metrics.revoked(token::KIND, cause.as_str());
                    tracing::info!(token_id = token_id.as_str(), cause = cause.as_str(), "revoked a token");
                    if is_held {
                        memory.let_go();
                    }
                    Some(format!("Token {token_id}{key} was revoked: {}", cause.as_str()))
                }
                Err(CallError::DataFast(datafast::Error::NotFound | datafast::Error::Rejected { .. })) => {
                    memory.local.denied.insert(token_id.clone(), self.ctx.now());
                    if is_held {
                        memory.let_go();
                    }
                    None
                }
                // The account's gate tells the rest.
                Err(_) => None,
            }
        };
        if let Some(note) = note {
            let reason = if cause == RevokeCause::LostAttempt { "LostAttemptRevoked" } else { "Revoked" };
            self.tell(reason, &note).await;
        }
    }

    async fn delete_secret(&mut self) -> Result<(), Error> {
        let Some(secret) = &self.secret else { return Ok(()) };
        match self.secrets.delete(secret).await {
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() => self.read_secret().await,
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.secret = None;
                Ok(())
            }
        }
    }

    async fn release(&mut self) -> Result<Performed, Error> {
        if desired(&self.resource).abandon {
            let id = self.resource.status.as_ref().and_then(|status| status.token_id.clone());
            let note = match id {
                Some(id) => {
                    format!("Let go without DataFast, as asked by {}: token {id} is left there", names::ABANDON)
                }
                None => format!("Let go without DataFast, as asked by {}", names::ABANDON),
            };
            self.warn("Abandoned", &note).await;
        }
        let others: Vec<_> =
            self.resource.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER_REVOKE).collect();
        match self.patch_metadata(json!({ "finalizers": others })).await {
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
            patched => self.take_over(patched)?,
        }
        self.account.settled(&token::reference(&self.resource));
        self.account.look();
        Ok(Performed::Gone)
    }

    pub(super) async fn tell(&self, reason: &str, note: &str) {
        self.ctx.events.normal(&self.resource.object_ref(&()), reason, note.to_owned()).await;
    }

    pub(super) async fn warn(&self, reason: &str, note: &str) {
        self.ctx.events.warning(&self.resource.object_ref(&()), reason, note.to_owned()).await;
    }
}
