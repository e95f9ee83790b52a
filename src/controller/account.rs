//! The account resource: its poll, whom its news concern, and the finalizer that keeps it while it is in use.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action as Requeue;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::lenient::Lenient;
use super::memory::WrittenAccounts;
use super::observe::status_record;
use super::panics::caught;
use super::resource::Managed;
use super::watch::Progress;
use super::{
    Context, Error, LONGEST_PAUSE, account_credential, account_status, answered, asked, pauses, status, untold,
};
use crate::account::{Account, Setup};
use crate::api::{DataFastAccount, names};
use crate::datafast::TokenId;
use crate::lifecycle::allow::Allow;
use crate::lifecycle::event::Event;
use crate::lifecycle::news;
use crate::lifecycle::observed::Availability;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::windows::Windows;
use crate::lock::lock;
use crate::telemetry::{Over, millis};

pub(super) const KIND: &str = "DataFastAccount";
/// A deletion that waits for resources is tried again this often.
const STILL_IN_USE: Duration = Duration::from_secs(5);

/// After a failure, the next try has this pause of [`pauses`] first, some seconds, and no later one than that: a minute.
const FIRST_PAUSE: u32 = 4;
const LAST_PAUSE: u32 = 10;

/// What an account's reconcile needs beside the context.
pub(super) struct AccountContext {
    pub(super) ctx: Arc<Context>,
    /// Of the watches of resources and Secrets.
    pub(super) progress: Vec<Progress>,
    /// The end of the process.
    pub(super) stop: CancellationToken,
    pub(super) written: WrittenAccounts,
}

impl AccountContext {
    /// The namespaces that are to be watched and can't be read. Resources there may use any account.
    pub(super) fn unseen(&self) -> BTreeSet<&str> {
        let unseen = self.progress.iter().filter(|progress| !progress.is_synced());
        unseen.filter_map(|progress| progress.scope.as_deref()).collect()
    }
}

#[tracing::instrument(name = "reconcile", skip_all, fields(
    kind = KIND, name = resource.name_any(), account = resource.name_any(),
))]
pub(super) async fn reconcile(
    resource: Arc<Lenient<DataFastAccount>>,
    cx: Arc<AccountContext>,
) -> Result<Requeue, Error> {
    // Before all users are seen, an account would seem unused, and live tokens unclaimed.
    tokio::select! {
        _ = join_all(cx.progress.iter().map(Progress::settled)) => {}
        () = cx.stop.cancelled() => return Ok(Requeue::await_change()),
    }
    let start = Instant::now();
    let outcome = caught(run(&cx.written.newest(resource.clone()), &cx)).await;
    cx.ctx.metrics.reconciled(KIND, start.elapsed());
    if outcome.is_ok() {
        let over = lock(&cx.ctx.accounts.get(&resource.name_any()).failed_reconciles).over();
        if let Some(Over { failures, lasted }) = over {
            tracing::info!(failures, durationMs = millis(lasted), "reconciles succeed again");
        }
    }
    outcome
}

pub(super) fn retry(resource: Arc<Lenient<DataFastAccount>>, error: &Error, cx: Arc<AccountContext>) -> Requeue {
    cx.ctx.metrics.reconcile_failed(KIND, error.reason());
    let name = resource.name_any();
    let is_conflict = matches!(error, Error::Conflict(_));
    if is_conflict {
        cx.written.was_overtaken(&name);
    }
    let (is_news, times) = {
        let account = cx.ctx.accounts.get(&name);
        let mut failures = lock(&account.failed_reconciles);
        (failures.is_news_after(untold(error), error), failures.times())
    };
    if is_news {
        tracing::warn!(kind = KIND, name, account = name, %error, "the reconcile failed");
    } else {
        tracing::debug!(kind = KIND, name, account = name, %error, "the reconcile failed again");
    }
    let after = if is_conflict { times } else { times.max(FIRST_PAUSE) }.min(LAST_PAUSE);
    let pause = usize::try_from(after).ok().and_then(|after| pauses().nth(after));
    Requeue::requeue(pause.unwrap_or(LONGEST_PAUSE))
}

async fn run(resource: &Lenient<DataFastAccount>, cx: &AccountContext) -> Result<Requeue, Error> {
    let ctx = &cx.ctx;
    let name = resource.name_any();
    let account = ctx.accounts.get(&name);
    // Before the users: whatever is seen by then is among them.
    let may_have_more = !cx.unseen().is_empty();
    let users = ctx.users_of(&name);
    let deleting = resource.metadata.deletion_timestamp.is_some();
    if users.is_empty() && !account.is_in_use() && account_credential::is_foreign(resource, ctx).await? {
        return Ok(Requeue::await_change());
    }
    let (kept, failed) = match keep(resource, cx, &account, !users.is_empty(), may_have_more).await {
        Ok(kept) => (kept, None),
        Err(error) if lock(&account.failed_reconciles).times() < untold(&error) => return Err(error),
        Err(error) => (Some(last_seen(resource, ctx)), Some(error)),
    };
    let Some(resource) = &kept else {
        account.disconnect(Setup::NotFound);
        tell(&account, &users);
        return Ok(Requeue::await_change());
    };
    let requests = resource.spec.requests_per_minute.and_then(|most| u32::try_from(most).ok());
    let can_be_read = resource.unreadable().is_none();
    let is_other = || {
        account.set_windows(Windows::parse(&resource.spec.rotation_windows));
        account.set_limits(allow(resource), resource.token_limit(), requests, resource.metadata.generation)
    };
    if can_be_read && is_other() {
        users.iter().for_each(|user| account.wake(user.reference()));
    }
    let failed = failed.or(connect(resource, ctx, &account, &users).await.err());
    // What is not allowed is not asked of DataFast, but for what was issued before.
    let beyond = ctx.beyond_share(resource, &users);
    let is_listed =
        |user: &Arc<dyn Managed>| user.has_finalizer() || ctx.allows(resource, &**user) && !beyond.contains(user.uid());
    // As of now: a user that came while this account waited for an answer may have a place already.
    let now = ctx.users_of(&name);
    account.set_in_use_collections(&now.iter().filter(|user| is_listed(user)).map(|user| user.collection()).collect());
    account.expect(users.iter().filter_map(|user| Some((user.collection(), expected(&**user, ctx)?))));
    let there: HashSet<_> = now.iter().filter(|user| !user.is_gone()).map(|user| user.reference()).collect();
    account.keep_in_queue(|resource| there.contains(resource));
    if account.report().snapshot.is_none() {
        users.iter().for_each(|user| queue_up(&account, &**user));
    }
    let mut listed = Vec::from_iter(account.poll_tokens(resource.poll_interval()).await);
    tell(&account, &users);
    listed.extend(account.poll_websites(resource.poll_interval()).await);
    tell(&account, &users);
    let report = account.report();
    for (collection, _) in listed {
        let concerned = users.iter().filter(|user| user.collection() == collection);
        if let Some(snapshot) = account.snapshot(&collection) {
            wake_stirred(&account, concerned, &snapshot, ctx.now());
        }
    }
    answered(status::WRITING_STATUS, account_status::write(resource, cx, &report, &users, failed.as_ref())).await?;
    // What can be done without it is done: it is tried again soon.
    if let Some(error) = failed {
        return Err(error);
    }
    let poll = resource.poll_interval();
    let wait = account.until_list().map_or(poll, |due| due.min(poll.max(Duration::from_secs(600))));
    Ok(Requeue::requeue(if deleting { wait.min(STILL_IN_USE) } else { wait } + Duration::from_millis(1)))
}

/// The account may have changed while an answer was waited for, and then status could not be written over it.
fn last_seen(resource: &Lenient<DataFastAccount>, ctx: &Context) -> Lenient<DataFastAccount> {
    let seen = ctx.account_resources.get(&ObjectRef::new(&resource.name_any()));
    let seen = seen.filter(|seen| seen.uid() == resource.uid());
    seen.map_or_else(|| resource.clone(), |seen| (*seen).clone())
}

/// Hands the account its credential, and has its users hear of another one.
async fn connect(
    resource: &Lenient<DataFastAccount>,
    ctx: &Context,
    account: &Account,
    users: &[Arc<dyn Managed>],
) -> Result<(), Error> {
    if account_credential::connect(resource, ctx, account).await? {
        for user in users {
            if let Some(memory) = ctx.memories.known(user.uid()) {
                lock(&memory).apply(Event::CredentialChanged, ctx.both_clocks());
            }
            account.wake(user.reference());
        }
    }
    Ok(())
}

/// The token that a resource says it has, where every list must show it by now.
fn expected(user: &dyn Managed, ctx: &Context) -> Option<TokenId> {
    let issued_at = user.status()?.issued_at.as_ref()?.0;
    status_record(user).token_id.filter(|_| ctx.now().duration_since(issued_at) >= ctx.horizon())
}

pub(super) fn allow(resource: &DataFastAccount) -> Allow {
    let allow = &resource.spec.allow;
    Allow {
        permissions: allow.permissions.as_ref().map(|all| all.iter().map(ToString::to_string).collect()),
        website_ids: allow.website_ids.as_ref().map(|all| all.iter().map(ToString::to_string).collect()),
        website_keys: allow.website_keys,
        max_tokens_per_namespace: allow.max_tokens_per_namespace.and_then(|most| usize::try_from(most).ok()),
        max_keys_per_namespace: allow.max_keys_per_namespace.and_then(|most| usize::try_from(most).ok()),
        deletion_policies: allow.deletion_policies.clone(),
    }
}

/// One that waited for a slot when the last process ended keeps its place.
fn queue_up(account: &Account, user: &dyn Managed) {
    let conditions = user.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let waiting = news::kept_place(&status_record(user), status::ready_reason(conditions), user.owner_id());
    if let Some(waiting) = waiting {
        account.queue_up(user.reference(), waiting);
    }
}

/// An account's resource is gone, with or without our leave: its users hear of it.
pub(super) fn gone(ctx: &Context, name: &str) {
    let account = ctx.accounts.get(name);
    account.disconnect(Setup::NotFound);
    tell(&account, &ctx.users_of(name));
}

/// The finalizer is there while, and only while, a resource refers to the account, or one that is out of sight may.
/// Returns the account as it is then, if it stays.
async fn keep(
    resource: &Lenient<DataFastAccount>,
    cx: &AccountContext,
    account: &Account,
    in_use: bool,
    may_have_more: bool,
) -> Result<Option<Lenient<DataFastAccount>>, Error> {
    let mut kept = resource.clone();
    let held = resource.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER_IN_USE);
    let in_use = in_use || held && may_have_more;
    let deleting = resource.metadata.deletion_timestamp.is_some();
    if held != in_use && !(in_use && deleting) {
        let others = resource.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER_IN_USE).cloned();
        let finalizers: Vec<String> = others.chain(in_use.then(|| names::FINALIZER_IN_USE.to_owned())).collect();
        let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": resource.resource_version() } });
        let api: Api<Lenient<DataFastAccount>> = Api::all(cx.ctx.client.clone());
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        match asked("Patching the account's finalizers", api.patch(&resource.name_any(), &params, &Patch::Merge(patch)))
            .await
        {
            Ok(patched) => {
                if in_use || !deleting {
                    cx.written.wrote(patched.clone());
                }
                kept = patched;
            }
            Err(Error::Kubernetes { error: kube::Error::Api(refusal), .. }) if refusal.is_not_found() => {
                return Ok(None);
            }
            Err(Error::Kubernetes { error: kube::Error::Api(refusal), .. }) if refusal.is_conflict() => {
                return Err(Error::Conflict("the account"));
            }
            Err(error) => return Err(error),
        }
    }
    account.set_in_use(in_use);
    Ok((in_use || !deleting).then_some(kept))
}

/// Wakes whom a change of the account's state concerns: all, where it shows in what works; else those that wait.
fn tell(account: &Account, users: &[Arc<dyn Managed>]) {
    let news = account.news();
    if news.is_empty() {
        return;
    }
    let shows = |gate: &Availability| matches!(gate, Availability::NotFound | Availability::NotReady(_));
    if news.iter().any(|(before, now)| before.as_ref().is_some_and(shows) || shows(now)) {
        users.iter().for_each(|user| account.wake(user.reference()));
    }
    account.wake_news();
}

/// Wakes the resources for which the list has news, by what their status says.
fn wake_stirred<'a>(
    account: &Account,
    users: impl Iterator<Item = &'a Arc<dyn Managed>>,
    snapshot: &Snapshot,
    now: Timestamp,
) {
    for user in users {
        let status = user.status().cloned().unwrap_or_default();
        if news::concerns(snapshot, &status, &user.owner_id(), now) {
            account.wake(user.reference());
        }
    }
}
