//! A resource was deleted without us: somebody had taken its finalizer off. What it leaves behind at DataFast is cleared
//! away, as far as it proves to be its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::Api;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::memory::Memory;
use super::observe::{Scene, desired, status_record};
use super::perform::READING_SECRET;
use super::resource::Managed;
use super::secret::Secrets;
use super::secret_owner::in_words;
use super::{Context, Error, asked, pauses};
use crate::account::{Account, CallError, Caller, Kept, ResourceRef, Urgency};
use crate::api::names;
use crate::datafast::{self, TokenId};
use crate::lifecycle::allow::Standing;
use crate::lifecycle::decision::RevokeCause;
use crate::lifecycle::event::Effect;
use crate::lifecycle::left_behind::{LeftBehind, left_behind};
use crate::lifecycle::observed::Observed;
use crate::lifecycle::record::Log;
use crate::lock::lock;

/// How often a token is tried to be revoked, or looked for: some ten minutes, with pauses of up to one. Then it is left to
/// whoever looks after unclaimed tokens.
const TRIES: usize = 20;

/// A resource that is gone.
pub(super) struct Gone {
    pub(super) resource: Arc<dyn Managed>,
    /// Its deletion was seen, rather than that a new list lacks it: by what an API server has lost, no key is ended.
    pub(super) is_seen: bool,
}

/// Has a resource forgotten that is gone, and what it left behind cleared away in a task of its own.
pub(super) fn forget(ctx: &Arc<Context>, gone: Gone, stop: CancellationToken) {
    let Gone { resource, is_seen } = gone;
    let (memory, effect) = ctx.memories.gone(resource.uid(), ctx.both_clocks());
    let Some(Effect::ClearAway(pending)) = effect else { return };
    let log = Log::read(resource.annotations(), ctx.now());
    if pending.is_none() && !status_record(&*resource).has_something_to_lose(&log) {
        return;
    }
    let (kind, namespace, name) = (resource.kind(), resource.namespace(), resource.name());
    let account = resource.account_name();
    let span = tracing::info_span!("gone", kind, namespace, name, account);
    let clearing = Clearing::new(ctx, resource.clone(), memory);
    let clear_away = async move {
        if let Some(token_id) = pending {
            clearing.revoker().revoke(&token_id).await;
        }
        if is_seen {
            clearing.clear_away().await;
        }
    };
    let clear_away = async move {
        tokio::select! {
            () = clear_away => {}
            () = stop.cancelled() => {}
        }
    };
    ctx.requests.spawn(clear_away.instrument(span));
}

struct Clearing {
    ctx: Arc<Context>,
    resource: Arc<dyn Managed>,
    memory: Arc<Mutex<Memory>>,
    account: Arc<Account>,
    secrets: Secrets,
    _listed: Kept,
}

impl Clearing {
    fn new(ctx: &Arc<Context>, resource: Arc<dyn Managed>, memory: Arc<Mutex<Memory>>) -> Self {
        let account = ctx.accounts.get(resource.account_name());
        let secrets = Secrets(Api::namespaced(ctx.client.clone(), resource.namespace()));
        let listed = account.keep_listed(&resource.collection());
        Self { ctx: ctx.clone(), resource, memory, account, secrets, _listed: listed }
    }

    fn revoker(&self) -> Revoker {
        Revoker {
            ctx: self.ctx.clone(),
            account: self.account.clone(),
            resource: self.resource.reference(),
            about: self.resource.object_reference(),
            kind: self.resource.kind(),
        }
    }

    /// First the tokens, then the Secret, as in any deletion.
    async fn clear_away(self) {
        let mut done = BTreeSet::new();
        let mut obstacle = None;
        for pause in pauses().take(TRIES) {
            match self.go_on(&mut done).await {
                Ok(true) => return,
                Ok(false) => obstacle = None,
                Err(error) => obstacle = Some(error),
            }
            tokio::time::sleep(pause).await;
        }
        let error = obstacle.map(|error| error.to_string()).unwrap_or_default();
        tracing::warn!(
            error,
            "a resource was deleted without its finalizer: what it left behind is not all cleared away"
        );
    }

    /// Whether nothing is left to do. `done` are the tokens that were revoked, or can't be.
    async fn go_on(&self, done: &mut BTreeSet<TokenId>) -> Result<bool, Error> {
        let (found, secret) = self.look().await?;
        let todo: Vec<TokenId> = found.tokens.difference(done).cloned().collect();
        for token_id in &todo {
            self.revoker().revoke(token_id).await;
        }
        if !todo.is_empty() || found.is_unknown {
            done.extend(todo);
            return Ok(false);
        }
        if let Some(secret) = secret.filter(|_| found.has_secret) {
            asked("Deleting the Secret", self.secrets.delete(&secret)).await?;
            tracing::info!(secret = secret.metadata.name, "deleted the Secret");
        }
        for token_id in &found.stay {
            tracing::warn!(
                tokenId = %token_id,
                "a resource was deleted without its finalizer: its token stays at DataFast, where nobody looks after it"
            );
        }
        Ok(true)
    }

    /// What is left, and the Secret, where it is still the resource's.
    async fn look(&self) -> Result<(LeftBehind, Option<Secret>), Error> {
        let resource = &*self.resource;
        let secret_name = resource.secret_name();
        let secret = asked(READING_SECRET, self.secrets.0.get_opt(&secret_name)).await?;
        // A resource that took its place may work with the same Secret.
        let is_replaced = asked("Listing resources of that name", resource.is_name_taken(&self.ctx.client)).await?;
        let own = secret.as_ref().filter(|_| !is_replaced);
        let (now, view) = (self.ctx.now(), self.account.view(&resource.reference()));
        let local = lock(&self.memory).local().clone();
        let owner = resource.owner();
        let scene = Scene {
            resource,
            secret: own,
            secret_name: &secret_name,
            owner: &owner,
            view: &view,
            local: &local,
            standing: Standing::default(),
            now,
        };
        let seen = scene.observed(&self.ctx);
        let successors = secret.as_ref().filter(|_| is_replaced).and_then(token_of).map(|id| (id, in_words(resource)));
        let taken = self.taken(&seen).into_iter().chain(successors).collect();
        let found = left_behind(&desired(resource), &Observed { taken, ..seen }, now);
        Ok((found, own.cloned()))
    }

    /// Those of the account's tokens that other resources name.
    fn taken(&self, seen: &Observed<'_>) -> BTreeMap<TokenId, String> {
        let others: Vec<_> = self.ctx.resources().filter(|other| other.uid() != self.resource.uid()).collect();
        let tokens = seen.account.snapshot.into_iter().flat_map(|snapshot| snapshot.tokens());
        let own = tokens.filter(|listed| seen.attempt_of(listed).is_some());
        let holder = |id: &TokenId| others.iter().find(|other| status_record(&***other).names(id));
        own.filter_map(|listed| Some((listed.token.id.clone(), in_words(&**holder(&listed.token.id)?)))).collect()
    }
}

fn token_of(secret: &Secret) -> Option<TokenId> {
    TokenId::parse(secret.metadata.annotations.as_ref()?.get(names::TOKEN_ID)?).ok()
}

/// Revokes tokens that have nowhere to go.
pub(super) struct Revoker {
    pub(super) ctx: Arc<Context>,
    pub(super) account: Arc<Account>,
    pub(super) resource: ResourceRef,
    pub(super) about: ObjectReference,
    pub(super) kind: &'static str,
}

impl Revoker {
    /// Tries it for a while. What is left then is reported as unclaimed.
    pub(super) async fn revoke(&self, token_id: &TokenId) {
        let caller = Caller { resource: self.resource.clone(), urgency: Urgency::Leak };
        for pause in pauses().take(TRIES) {
            // Who no longer leads leaves it to the one that does.
            if !self.ctx.leadership.may_act() {
                break;
            }
            match self.account.revoke(&caller, token_id).await {
                Ok(()) => return self.tell(token_id),
                Err(CallError::DataFast(datafast::Error::NotFound | datafast::Error::Rejected { .. })) => break,
                // The process is about to end.
                Err(_) if self.ctx.requests.is_closed() => break,
                Err(_) => tokio::time::sleep(pause).await,
            }
        }
        tracing::warn!(
            tokenId = %token_id,
            "a token whose resource was deleted by force could not be revoked: it is unclaimed"
        );
    }

    fn tell(&self, token_id: &TokenId) {
        let cause = RevokeCause::Deleted.as_str();
        tracing::info!(tokenId = %token_id, cause, "revoked a token whose resource was deleted by force");
        self.ctx.metrics.revoked(self.kind, cause);
        let note = format!("Token {token_id} was revoked: {cause}, without its finalizer");
        self.ctx.events.normal(&self.about, "Revoked", note);
    }
}
