//! The actions. Each does one thing on one side, and notes in memory what came of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;
use tracing::Instrument;

use super::issuing::NewAttempt;
use super::memory::Memory;
use super::observe::desired;
use super::resource::Managed;
use super::secret::Secrets;
use super::{Context, Error};
use crate::account::{Account, CallError, View};
use crate::api::names;
use crate::datafast::{self, TokenId};
use crate::issue::decide::{Action, RevokeCause};
use crate::issue::local::Proof;
use crate::issue::queue::{Priority, Waiting};
use crate::lock::lock;
use crate::telemetry::millis;

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
    pub(super) resource: Arc<dyn Managed>,
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
        resource: Arc<dyn Managed>,
        memory: Arc<Mutex<Memory>>,
        account: Arc<Account>,
        secrets: Api<Secret>,
    ) -> Self {
        Self { ctx, resource, secret: None, memory, account, secrets: Secrets(secrets), is_outside: false }
    }

    pub(super) fn view(&self) -> View {
        self.account.view(&self.resource.reference())
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
            && super::observe::key_of(&*self.resource, secret, self.ctx.now())
                .is_some_and(|key| key.fingerprint(held.token_id.as_str()) == held.key_sha256);
        if is_there {
            memory.let_go();
        }
    }

    pub(super) async fn perform(&mut self, action: Action) -> Result<Performed, Error> {
        match action {
            Action::Rest | Action::Pause => {}
            Action::Claim => self.claim().await?,
            Action::Record { again, at, cause, keep, rolls } => {
                self.record(again, keep, NewAttempt { at, cause, rolls }).await?;
            }
            Action::Preflight => {
                let preflight = self.preflight().await?;
                self.note_preflight(preflight);
            }
            Action::Send { nonce, cause, rolls, by } => self.send(nonce, cause, rolls, by).await,
            Action::LetGo => lock(&self.memory).let_go(),
            Action::Swap { record } => self.swap(record).await?,
            Action::Rewrite { record } => self.rewrite(record).await?,
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
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn finalizers(&self) -> Vec<String> {
        let mut finalizers = self.resource.finalizers().to_vec();
        if !self.resource.is_claimed() {
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
        let mut task = self.ctx.requests.spawn(call.in_current_span());
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            let (account, this) = (self.account.clone(), self.resource.reference());
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
        let collection = self.resource.collection();
        self.call(async move {
            let answer = account.probe(&collection, &key).await;
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
                Err(CallError::NotSent | CallError::TooLate) => {}
            }
        })
        .await;
    }

    async fn revoke(&mut self, token_id: TokenId, cause: RevokeCause) {
        if cause == RevokeCause::MadeRoom {
            let owner = self.resource.owner_id();
            let waiting = Waiting { priority: Priority::MadeRoom, since: self.ctx.now(), owner };
            self.account.line_up(&self.resource.reference(), Some(waiting));
        }
        lock(&self.memory).local.is_calling = true;
        let (ctx, account, memory) = (self.ctx.clone(), self.account.clone(), self.memory.clone());
        let (about, kind) = (self.resource.object_reference(), self.resource.kind());
        let collection = self.resource.collection();
        let listed = self.view().snapshot.and_then(|snapshot| snapshot.get(&token_id).cloned());
        let key = listed.map(|listed| format!(" ({})", listed.token.display_key)).unwrap_or_default();
        self.call(async move {
            let start = Instant::now();
            // Who no longer leads leaves it to the one that does.
            let answer = match ctx.leadership.may_act() {
                true => account.revoke(&collection, &token_id).await,
                false => Err(CallError::NotSent),
            };
            log_revoked(&token_id, cause, start.elapsed(), &answer);
            if note_revoked((&ctx, kind), &memory, &token_id, cause, &answer) {
                let reason = if cause == RevokeCause::LostAttempt { "LostAttemptRevoked" } else { "Revoked" };
                let note = format!("Token {token_id}{key} was revoked: {}", cause.as_str());
                ctx.events.normal(&about, reason, note);
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
                tracing::info!(secret = self.resource.secret_name(), "deleted the Secret");
                self.secret = None;
                Ok(())
            }
        }
    }

    async fn release(&mut self) -> Result<Performed, Error> {
        if desired(&*self.resource).abandon {
            let id = self.resource.status().and_then(|status| status.token_id.clone());
            tracing::warn!(tokenId = id, "let go without DataFast, as asked by annotation: the token is left there");
            let note = match id {
                Some(id) => {
                    format!("Let go without DataFast, as asked by {}: token {id} is left there", names::ABANDON)
                }
                None => format!("Let go without DataFast, as asked by {}", names::ABANDON),
            };
            self.warn("Abandoned", &note);
        }
        let others: Vec<_> =
            self.resource.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER_REVOKE).collect();
        match self.patch_metadata(json!({ "finalizers": others })).await {
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
            patched => self.take_over(patched)?,
        }
        let deleted_at = self.resource.metadata().deletion_timestamp.as_ref().map(|time| time.0);
        let took = deleted_at.map(|at| self.ctx.since(at));
        tracing::info!(durationMs = took.map(millis), "the resource is let go: nothing of it is left to do");
        self.account.settled(&self.resource.reference());
        self.account.look();
        Ok(Performed::Gone)
    }

    pub(super) fn tell(&self, reason: &'static str, note: &str) {
        self.ctx.events.normal(&self.resource.object_reference(), reason, note.to_owned());
    }

    pub(super) fn warn(&self, reason: &'static str, note: &str) {
        self.ctx.events.warning(&self.resource.object_reference(), reason, note.to_owned());
    }
}

/// Logs what came of a revocation. What was not sent, or concerns the whole account, is told where that is.
fn log_revoked(token_id: &TokenId, cause: RevokeCause, took: Duration, answer: &Result<(), CallError>) {
    let (token_id, cause, took) = (token_id.as_str(), cause.as_str(), millis(took));
    match answer {
        Ok(()) => tracing::info!(tokenId = token_id, cause, durationMs = took, "revoked a token"),
        Err(CallError::DataFast(error)) => {
            tracing::warn!(tokenId = token_id, cause, durationMs = took, %error, "a token could not be revoked");
        }
        Err(CallError::NotSent | CallError::TooLate) => {}
    }
}

/// Takes note of what came of a revocation. Returns whether the token is gone.
fn note_revoked(
    (ctx, kind): (&Context, &'static str),
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
            ctx.metrics.revoked(kind, cause.as_str());
            memory.local.made_room |= cause == RevokeCause::MadeRoom;
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
