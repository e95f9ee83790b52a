//! The actions. Each does one thing on one side, and notes in memory what came of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::memory::Memory;
use super::observe::{desired, owner_id};
use super::secret::Secrets;
use super::{Context, Error, token};
use crate::account::{Account, CallError, View};
use crate::api::{DataFastAccessToken, names};
use crate::datafast::{self, TokenId};
use crate::issue::decide::{Action, RevokeCause};
use crate::issue::observed::Proof;
use crate::issue::queue::{Priority, Waiting};
use crate::lock::lock;

/// How long a look waits for DataFast.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// The account is for other namespaces.
    pub(super) is_outside: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        ctx: &'a Arc<Context>,
        resource: Arc<DataFastAccessToken>,
        memory: Arc<Mutex<Memory>>,
        account: Arc<Account>,
        secrets: Api<Secret>,
    ) -> Self {
        Self { ctx, resource, secret: None, memory, account, secrets: Secrets(secrets), is_outside: false }
    }

    pub(super) fn api(&self) -> Api<DataFastAccessToken> {
        Api::namespaced(self.ctx.client.clone(), &self.resource.namespace().unwrap_or_default())
    }

    pub(super) fn view(&self) -> View {
        self.account.view(&token::reference(&self.resource))
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

    /// Has a call made in a task of its own, and waits for it a little: whatever becomes of this look, the answer is
    /// taken in, and an account that is slow takes no turns from others.
    pub(super) async fn call(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut task = self.ctx.requests.spawn(call);
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            let (account, this) = (self.account.clone(), token::reference(&self.resource));
            self.ctx.requests.spawn(async move {
                let _ = task.await;
                account.wake(this);
            });
        }
    }

    async fn prove(&mut self, token_id: TokenId) {
        let Some(key) = self.key_in_secret() else { return };
        lock(&self.memory).local.is_calling = true;
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        self.call(async move {
            let answer = account.probe(&key).await;
            let mut memory = lock(&memory);
            let at = ctx.now();
            memory.local.is_calling = false;
            match answer {
                Ok(proven) => {
                    let key_sha256 = key.fingerprint(token_id.as_str());
                    memory.local.proof = Some(Proof { token_id, key_sha256, proven, at });
                    memory.local.unproved = None;
                }
                // The account's gate may stay open: a refusal of this call says nothing of others.
                Err(CallError::DataFast(error)) => memory.local.unproved = Some(memory.refused(error.to_string(), at)),
                Err(CallError::NotSent) => {}
            }
        })
        .await;
    }

    async fn revoke(&mut self, token_id: TokenId, cause: RevokeCause) {
        if cause == RevokeCause::MadeRoom {
            let owner = owner_id(&self.resource);
            let waiting = Waiting { priority: Priority::MadeRoom, since: self.ctx.now(), owner };
            self.account.line_up(&token::reference(&self.resource), Some(waiting));
        }
        lock(&self.memory).local.is_calling = true;
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        let about = self.resource.object_ref(&());
        let listed = self.view().snapshot.and_then(|snapshot| snapshot.get(&token_id).cloned());
        let key = listed.map(|listed| format!(" ({})", listed.token.display_key)).unwrap_or_default();
        self.call(async move {
            let answer = account.revoke(&token_id).await;
            if note_revoked(&ctx, &memory, &token_id, cause, &answer) {
                let reason = if cause == RevokeCause::LostAttempt { "LostAttemptRevoked" } else { "Revoked" };
                let note = format!("Token {token_id}{key} was revoked: {}", cause.as_str());
                ctx.events.normal(&about, reason, note).await;
            }
        })
        .await;
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

/// Takes note of what came of a revocation. Returns whether the token is gone.
fn note_revoked(
    ctx: &Context,
    memory: &Mutex<Memory>,
    token_id: &TokenId,
    cause: RevokeCause,
    answer: &Result<(), CallError>,
) -> bool {
    let mut memory = lock(memory);
    memory.local.is_calling = false;
    let is_held = memory.local.held.as_ref().is_some_and(|held| held.token_id == *token_id);
    match answer {
        Ok(()) => {
            memory.local.denied.remove(token_id);
            ctx.metrics.revoked(token::KIND, cause.as_str());
            memory.local.made_room |= cause == RevokeCause::MadeRoom;
            tracing::info!(token_id = token_id.as_str(), cause = cause.as_str(), "revoked a token");
        }
        Err(CallError::DataFast(datafast::Error::NotFound | datafast::Error::Rejected { .. })) => {
            memory.local.denied.insert(token_id.clone(), ctx.now());
        }
        // The account's gate tells the rest.
        Err(_) => return false,
    }
    if is_held {
        memory.let_go();
    }
    answer.is_ok()
}
