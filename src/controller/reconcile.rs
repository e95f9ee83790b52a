//! One reconcile of a resource: observe, decide, perform, until nothing is left to do; then report it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::Api;
use kube::runtime::controller::Action as Requeue;
use kube::runtime::reflector::ObjectRef;

use super::observe::{Scene, desired};
use super::panics::caught;
use super::perform::{Performed, READING_SECRET, Work, doing};
use super::report::Report;
use super::resource::Managed;
use super::{Context, Error, LONGEST_PAUSE, answered, untold};
use crate::account::{Setup, Waits};
use crate::lifecycle::decide::decide;
use crate::lifecycle::decision::{Action, Decision};
use crate::lifecycle::event::Event;
use crate::lifecycle::facts::facts;
use crate::lock::lock;
use crate::telemetry::{Over, millis};

/// More than any resource needs: issuing takes four steps, and each token to be revoked one.
const MOST_STEPS: usize = 64;

/// Reconciles one resource.
#[tracing::instrument(name = "reconcile", skip_all, fields(
    kind = resource.kind(), namespace = resource.namespace(), name = resource.name(), account = resource.account_name(),
))]
pub(super) async fn reconcile(resource: Arc<dyn Managed>, ctx: Arc<Context>) -> Result<Requeue, Error> {
    let (kind, start) = (resource.kind(), Instant::now());
    let outcome = caught(run(resource, &ctx)).await;
    ctx.metrics.reconciled(kind, start.elapsed());
    outcome
}

/// After a failed reconcile: when to try again.
pub(super) fn retry(resource: Arc<dyn Managed>, error: &Error, ctx: Arc<Context>) -> Requeue {
    ctx.metrics.reconcile_failed(resource.kind(), error.reason());
    let memory = ctx.memories.known(resource.uid());
    let is_conflict = matches!(error, Error::Conflict(_));
    let told = memory.map(|memory| {
        let mut memory = lock(&memory);
        if is_conflict {
            memory.was_overtaken();
        }
        memory.failed = memory.failed.saturating_add(1);
        (memory.retries.next(), memory.failures.is_news_after(untold(error), error))
    });
    let (pause, is_news) = told.unwrap_or((None, !is_conflict));
    let pause = pause.unwrap_or(LONGEST_PAUSE);
    let (kind, namespace, name) = (resource.kind(), resource.namespace(), resource.name());
    let account = resource.account_name();
    if is_news {
        let again_in = millis(pause);
        tracing::warn!(kind, namespace, name, account, %error, retryMs = again_in, "the reconcile failed");
    } else {
        tracing::debug!(kind, namespace, name, account, %error, ?pause, "the reconcile failed, and is tried again");
    }
    if !is_conflict {
        // Whoever can't use a slot keeps nobody from it.
        ctx.accounts.get(account).line_up(&resource.reference(), None);
    }
    Requeue::requeue(pause)
}

async fn run(seen: Arc<dyn Managed>, ctx: &Arc<Context>) -> Result<Requeue, Error> {
    let memory = ctx.memories.of(seen.uid());
    let resource = lock(&memory).newest(seen);
    // The watch tells when it is gone.
    if resource.is_gone() {
        return Ok(Requeue::await_change());
    }
    let account = ctx.accounts.get(resource.account_name());
    if ctx.account_resources.get(&ObjectRef::new(resource.account_name())).is_none() {
        account.disconnect(Setup::NotFound);
    }
    if !account.is_in_use() {
        account.reconcile();
    }
    let secrets = Api::namespaced(ctx.client.clone(), resource.namespace());
    let mut work = Work::new(ctx, resource, memory, account, secrets);
    match settle(&mut work).await {
        Err(error) => work.report_failure(error).await,
        settled => settled,
    }
}

/// Observe, decide, perform, until nothing is left to do.
async fn settle(work: &mut Work<'_>) -> Result<Requeue, Error> {
    answered(READING_SECRET, work.read_secret()).await?;
    answered("Reading the namespace", work.read_namespace()).await?;
    for _ in 0..MOST_STEPS {
        if lock(&work.memory).local().is_gone() {
            return Ok(Requeue::await_change());
        }
        let (decision, report, version) = judge(work);
        let decision = match decision {
            Decision::Act(action) => match answered(doing(&action), work.perform(action)).await? {
                Performed::Goes => continue,
                Performed::Gone => return Ok(Requeue::await_change()),
            },
            waits => waits,
        };
        if let Some(report) = report {
            work.report(*report).await?;
        }
        return Ok(rest(work, decision, version));
    }
    Err(Error::Unsettled(MOST_STEPS))
}

/// Has the core decide; with what is to be reported where nothing is left to do, and the version of the account's state
/// that it goes by.
fn judge(work: &Work<'_>) -> (Decision, Option<Box<Report>>, u64) {
    let both_clocks = work.ctx.both_clocks();
    let (local, told) = {
        let mut memory = lock(&work.memory);
        (memory.as_of(both_clocks), memory.to_tell())
    };
    let now = both_clocks.wall;
    let places = lock(&work.ctx.places);
    let view = work.view();
    let (secret_name, owner) = (work.resource.secret_name(), work.resource.owner());
    let (resource, secret) = (&*work.resource, work.secret.as_ref());
    let standing = work.standing(view.allow.as_deref());
    let (secret_name, owner) = (secret_name.as_str(), owner.as_str());
    let scene = Scene { resource, secret, secret_name, owner, view: &view, local: &local, standing, now };
    let (desired, observed) = (desired(resource), scene.observed(work.ctx));
    let decision = decide(&desired, &observed, now);
    if matches!(&decision, Decision::Act(action) if action.takes_place()) {
        lock(&work.memory).take_place();
    }
    if matches!(&decision, Decision::Act(Action::Record { .. })) {
        work.account.begins(resource.reference());
    }
    drop(places);
    match &decision {
        Decision::Act(action) => tracing::debug!(?action, "decided"),
        Decision::Rest { verdict, .. } => tracing::debug!(reason = verdict.reason.as_str(), "nothing to do"),
        Decision::Pause { .. } => tracing::debug!("waits for what is under way"),
    }
    let facts = facts(&desired, &observed, now);
    lock(&work.memory).apply(Event::Retiring(facts.former()), both_clocks);
    let report = match &decision {
        Decision::Rest { verdict, .. } => {
            work.apply(Event::Reported(verdict.clone()));
            Some(Box::new(Report::new(resource, verdict, &facts, &told, now)))
        }
        Decision::Act(_) | Decision::Pause { .. } => None,
    };
    (decision, report, view.version)
}

/// Nothing to do: when to reconcile again, beside when something changes.
fn rest(work: &Work<'_>, decision: Decision, version: u64) -> Requeue {
    let over = lock(&work.memory).succeeded();
    if let Some(Over { failures, lasted }) = over {
        tracing::info!(failures, durationMs = millis(lasted), "reconciles succeed again");
    }
    let this = work.resource.reference();
    let keeps_place = decision.keeps_place(lock(&work.memory).local());
    let requeue = decision.requeue();
    if !keeps_place {
        work.account.line_up(&this, requeue.slot);
        work.account.line_up_for_window(&this, requeue.window);
    }
    let waits = Waits { next_list: requeue.next_list, list: requeue.list, news: requeue.account_changes };
    work.account.wait(this, waits, version);
    if let Some(at) = requeue.list {
        work.account.want_list(&work.resource.collection(), at);
    }
    match requeue.at.map(|at| at.duration_since(work.ctx.now())) {
        Some(wait) => Requeue::requeue(Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(1)),
        None => Requeue::await_change(),
    }
}
