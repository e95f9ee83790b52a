//! One look at a resource: observe, decide, perform, until nothing is left to do; then say so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::runtime::controller::Action as Requeue;
use kube::runtime::reflector::ObjectRef;

use super::observe::{Scene, desired};
use super::perform::{Performed, Work};
use super::resource::Managed;
use super::{Context, Error, LONGEST_PAUSE, answered, status, words};
use crate::account::{Setup, Waits};
use crate::api::KeyStatus;
use crate::datafast::TokenId;
use crate::issue::decide::{Action, Decision, decide};
use crate::issue::facts::{Facts, Mirror, Retiring, facts};
use crate::issue::record::Request;
use crate::issue::verdict::{Reason, Verdict};
use crate::lock::lock;
use crate::telemetry::{Over, millis};

/// More than any resource needs: issuing takes four steps, and each token to be revoked one.
const MOST_STEPS: usize = 64;
/// Reading the Secret is forbidden: asked again this much later.
const FORBIDDEN_AGAIN: Duration = Duration::from_secs(60);

/// Reconciles one resource.
#[tracing::instrument(name = "reconcile", skip_all, fields(
    kind = resource.kind(), namespace = resource.namespace(), name = resource.name(), account = resource.account_name(),
))]
pub(super) async fn reconcile(resource: Arc<dyn Managed>, ctx: Arc<Context>) -> Result<Requeue, Error> {
    let (kind, start) = (resource.kind(), Instant::now());
    let outcome = look(resource, &ctx).await;
    ctx.metrics.reconciled(kind, start.elapsed());
    outcome
}

/// After a failed look: when to look again.
pub(super) fn retry(resource: Arc<dyn Managed>, error: &Error, ctx: Arc<Context>) -> Requeue {
    ctx.metrics.reconcile_failed(resource.kind(), error.reason());
    let memory = ctx.memories.known(resource.uid());
    let is_conflict = matches!(error, Error::Conflict(_));
    let told = memory.map(|memory| {
        let mut memory = lock(&memory);
        if is_conflict {
            memory.was_overtaken();
        }
        (memory.retries.next(), !is_conflict && memory.failures.is_news(error))
    });
    let (pause, is_news) = told.unwrap_or((None, true));
    let pause = pause.unwrap_or(LONGEST_PAUSE);
    let (kind, namespace, name) = (resource.kind(), resource.namespace(), resource.name());
    let account = resource.account_name();
    if is_conflict {
        tracing::debug!(kind, namespace, name, account, %error, "looks again");
    } else {
        if is_news {
            let again_in = millis(pause);
            tracing::warn!(kind, namespace, name, account, %error, retryMs = again_in, "a look at the resource failed");
        } else {
            tracing::debug!(kind, namespace, name, account, %error, ?pause, "a look at the resource failed again");
        }
        // Whoever can't use a slot keeps nobody from it.
        ctx.accounts.get(account).line_up(&resource.reference(), None);
    }
    Requeue::requeue(pause)
}

async fn look(seen: Arc<dyn Managed>, ctx: &Arc<Context>) -> Result<Requeue, Error> {
    let uid = seen.uid().to_owned();
    let memory = ctx.memories.of(&uid);
    let resource = lock(&memory).newest(seen);
    if resource.is_gone() {
        ctx.memories.forget(&uid);
        return Ok(Requeue::await_change());
    }
    let account = ctx.accounts.get(resource.account_name());
    if ctx.account_resources.get(&ObjectRef::new(resource.account_name())).is_none() {
        account.disconnect(Setup::NotFound);
    }
    if !account.is_in_use() {
        account.look();
    }
    let secrets = Api::namespaced(ctx.client.clone(), resource.namespace());
    let mut work = Work::new(ctx, resource, memory, account, secrets);
    match answered(work.read_secret()).await {
        Err(Error::Kubernetes(kube::Error::Api(refusal))) if refusal.is_forbidden() => {
            return secret_unreadable(&mut work, &words(&kube::Error::Api(refusal))).await;
        }
        other => other?,
    }
    answered(work.read_namespace()).await?;
    for _ in 0..MOST_STEPS {
        if lock(&work.memory).is_gone() {
            return Ok(Requeue::await_change());
        }
        let (decision, say, seen) = judge(&work);
        tracing::debug!(action = ?decision.action, reason = decision.verdict.reason.as_str(), "decided");
        match decision.action.clone() {
            Action::Rest => {
                if let Some(say) = say {
                    write_status(&mut work, &decision.verdict, say.status).await?;
                    for (token_id, display_key) in say.used_again {
                        let note = format!(
                            "Token {display_key} was used after another took its place: a consumer still has the old key"
                        );
                        tracing::warn!(tokenId = %token_id, displayKey = display_key, "a former token was used again");
                        work.warn("OldTokenStillInUse", &note);
                    }
                }
                return Ok(rest(&work, decision, seen));
            }
            Action::Pause => return Ok(rest(&work, decision, seen)),
            action => match answered(work.perform(action)).await? {
                Performed::Goes => {}
                Performed::Gone => {
                    ctx.memories.forget(&uid);
                    return Ok(Requeue::await_change());
                }
            },
        }
    }
    Err(Error::Unsettled(MOST_STEPS))
}

/// What is said of a resource that is at rest.
struct Say {
    status: KeyStatus,
    /// Former tokens that DataFast reports in use for the first time since another took their place.
    used_again: Vec<(TokenId, String)>,
}

fn judge(work: &Work<'_>) -> (Decision, Option<Box<Say>>, u64) {
    let clock = &*work.ctx.settings.clock;
    let (local, last_used_written) = {
        let mut memory = lock(&work.memory);
        (memory.look(clock), memory.last_used_written)
    };
    let now = clock.now();
    let view = work.view();
    let secret_name = work.resource.secret_name();
    let (resource, secret): (&dyn Managed, Option<&Secret>) = (&*work.resource, work.secret.as_ref());
    let standing = work.standing(view.allow.as_deref());
    let scene = Scene { resource, secret, secret_name: &secret_name, view: &view, local: &local, standing, now };
    let (desired, observed) = (desired(resource), scene.observed(work.ctx));
    let decision = decide(&desired, &observed, now);
    let say = (decision.action == Action::Rest).then(|| {
        let facts = facts(&desired, &observed, now);
        let retiring = facts.retiring.iter().flatten().map(|retiring| retiring.listed.token.id.clone());
        lock(&work.memory).watch(retiring, clock);
        let status = status::status(resource, &decision.verdict, &facts, last_used_written, now);
        Box::new(Say { status, used_again: used_again(resource, &facts) })
    });
    (decision, say, view.version)
}

fn used_again(resource: &dyn Managed, facts: &Facts<'_>) -> Vec<(TokenId, String)> {
    let shown = resource.status().map(|status| status.retiring.as_slice()).unwrap_or_default();
    let retiring = facts.retiring.iter().flatten();
    let is_news = |retiring: &&Retiring<'_>| {
        retiring.is_news(status::shown_use(shown, &retiring.listed.token.id).map(|time| time.0))
    };
    let tokens = retiring.filter(is_news).map(|retiring| &retiring.listed.token);
    tokens.map(|token| (token.id.clone(), token.display_key.clone())).collect()
}

/// Nothing to do: when to look again, beside when something changes.
fn rest(work: &Work<'_>, decision: Decision, seen: u64) -> Requeue {
    let over = lock(&work.memory).succeeded();
    if let Some(Over { failures, lasted }) = over {
        tracing::info!(failures, durationMs = millis(lasted), "looks at the resource succeed again");
    }
    let wake = decision.wake;
    let waits = Waits { next_list: wake.next_list, list: wake.list, news: wake.news };
    let this = work.resource.reference();
    // Who is at work, or only waits for calls to be possible again, keeps its place.
    let is_at_work = decision.action == Action::Pause || lock(&work.memory).local.in_flight.is_some();
    if !is_at_work && !decision.verdict.reason.is_closed() {
        work.account.line_up(&this, wake.slot);
    }
    work.account.wait(this, waits, seen);
    if let Some(at) = wake.list {
        work.account.want_list(&work.resource.collection(), at);
    }
    match wake.at.map(|at| at.duration_since(work.ctx.now())) {
        Some(wait) => Requeue::requeue(Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(1)),
        None => Requeue::await_change(),
    }
}

/// Without reading the Secret nothing can be judged; what worked is still taken to work.
async fn secret_unreadable(work: &mut Work<'_>, why: &str) -> Result<Requeue, Error> {
    let before = work.resource.status().cloned().unwrap_or_default();
    let works = status::is_true(&before.conditions, crate::api::names::READY);
    let verdict = Verdict::new(
        Reason::SecretWriteRefused,
        works,
        format!("Secret {:?} can't be read, so no token is issued: {why}", work.resource.secret_name()),
    );
    let at = |time: Option<Time>| time.map(|time| time.0);
    let facts = Facts {
        token: Mirror::Keep,
        issued_at: at(before.issued_at),
        next_rotation_at: at(before.next_rotation_at),
        expires_at: at(before.expires_at),
        rotate_request: before.rotate_request.as_deref().and_then(Request::parse),
        retiring: None,
    };
    let status = status::status(&*work.resource, &verdict, &facts, None, work.ctx.now());
    write_status(work, &verdict, status).await?;
    work.account.line_up(&work.resource.reference(), None);
    Ok(Requeue::requeue(FORBIDDEN_AGAIN))
}

async fn write_status(work: &mut Work<'_>, verdict: &Verdict, new: KeyStatus) -> Result<(), Error> {
    let old = work.resource.status().cloned().unwrap_or_default();
    if old == new {
        return Ok(());
    }
    let used = old.last_used_at != new.last_used_at;
    let before = status::ready_reason(&old.conditions);
    let is_news = Some(verdict.reason.as_str()) != before;
    let write = work.resource.write_status(&work.ctx.client, new);
    let Some(written) = answered(write).await? else { return Ok(()) };
    work.resource = {
        let mut memory = lock(&work.memory);
        if used {
            memory.last_used_written = Some(work.ctx.now());
        }
        memory.newest(written)
    };
    if is_news {
        let (ready, reason, detail) = (verdict.ready, verdict.reason.as_str(), &verdict.message);
        if verdict.reason.is_warning() {
            tracing::warn!(ready, reason, before, detail, "Ready has another reason");
            work.warn(reason, detail);
        } else {
            tracing::info!(ready, reason, before, detail, "Ready has another reason");
        }
    }
    Ok(())
}
