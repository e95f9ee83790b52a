//! What a reconcile reports: status, and with it events and logs about what is new in it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action as Requeue;

use super::observe::status_record;
use super::perform::{READING_SECRET, Work, doing};
use super::resource::Managed;
use super::status::{Told, WRITING_STATUS};
use super::{Error, answered, status, words};
use crate::api::{KeyStatus, names};
use crate::datafast::TokenId;
use crate::lifecycle::decision::Action;
use crate::lifecycle::facts::{Facts, Mirror, Retiring};
use crate::lifecycle::failure::{self, Failure, Known, Passes};
use crate::lifecycle::news;
use crate::lifecycle::record::{Log, Request};
use crate::lifecycle::verdict::{Reason, Verdict};
use crate::lock::lock;

/// A Secret that can't be read is read again this much later.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(60);

/// What is reported of a resource for which nothing is left to do.
pub(super) struct Report {
    verdict: Verdict,
    status: KeyStatus,
    /// Former tokens that DataFast reports in use for the first time since another took their place.
    used_again: Vec<(TokenId, String)>,
    /// A token that has not been used for as long as `whenUnused` asks about, which status is to say for the first time.
    unused: Option<String>,
}

impl Report {
    pub(super) fn new(
        resource: &dyn Managed,
        verdict: &Verdict,
        facts: &Facts<'_>,
        told: &Told,
        now: Timestamp,
    ) -> Self {
        let status = status::status(resource, verdict, facts, told, now);
        let unused = news::unused(resource.status(), &status, verdict);
        Self { verdict: verdict.clone(), status, used_again: used_again(resource, facts), unused }
    }
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

/// The failure, for the core.
fn failure(error: &Error) -> Failure {
    let asked = |doing, error: &kube::Error| {
        let is_secret = doing == READING_SECRET;
        let passes = match error {
            kube::Error::Api(refusal) if is_secret && refusal.is_forbidden() => Passes::NotWithoutARight,
            kube::Error::Api(refusal) if refusal.is_conflict() || [429, 503, 504].contains(&refusal.code) => {
                Passes::Mostly
            }
            kube::Error::Api(_) | kube::Error::SerdeError(_) => Passes::Seldom,
            _ => Passes::Mostly,
        };
        (is_secret.then(|| words(error)), passes)
    };
    let (unreadable, passes) = match error {
        Error::Kubernetes { doing, error } => asked(*doing, error),
        Error::Conflict(_) => (None, Passes::Mostly),
        Error::TimedOut(READING_SECRET) => (Some(error.words()), Passes::Hardly),
        Error::TimedOut(_) | Error::Unsettled(_) | Error::Panicked => (None, Passes::Hardly),
    };
    Failure { what: error.to_string(), unreadable, passes }
}

impl Work<'_> {
    /// Writes status where it changed, and publishes what is new in it.
    pub(super) async fn report(&mut self, report: Report) -> Result<(), Error> {
        self.write_status(&report.verdict, report.status).await?;
        for (token_id, display_key) in report.used_again {
            let note =
                format!("Token {display_key} was used after another took its place: a consumer still has the old key");
            tracing::warn!(tokenId = %token_id, displayKey = display_key, "a former token was used again");
            self.warn("OldTokenStillInUse", &note);
        }
        if let Some(note) = report.unused {
            tracing::warn!("a token is not used");
            self.warn(Reason::Unused.as_str(), &note);
        }
        Ok(())
    }

    /// What stands in the way of the resource, its status says. What worked is still taken to work.
    pub(super) async fn report_failure(&mut self, error: Error) -> Result<Requeue, Error> {
        if matches!(error, Error::Kubernetes { doing: WRITING_STATUS, .. } | Error::TimedOut(WRITING_STATUS)) {
            return Err(error);
        }
        self.catch_up();
        let failure = failure(&error);
        let before = self.resource.status().cloned().unwrap_or_default();
        let (works, deleting) = (status::is_true(&before.conditions, names::READY), self.resource.is_deleted());
        let failed = lock(&self.memory).failed;
        let Some(verdict) = failure::verdict(&failure, failed, &self.resource.secret_name(), works, deleting) else {
            return Err(error);
        };
        if let Some(action) = self.action_after(&failure) {
            answered(doing(&action), self.perform(action)).await?;
        }
        let at = |time: Option<Time>| time.map(|time| time.0);
        let facts = Facts {
            token: Mirror::Keep,
            issued_at: at(before.issued_at),
            next_rotation_at: at(before.next_rotation_at),
            expires_at: at(before.expires_at),
            rotate_request: before.rotate_request.as_deref().and_then(Request::parse),
            retiring: None,
            unused_since: at(before.unused_since),
            maker: None,
            gone: Vec::new(),
        };
        let told = lock(&self.memory).to_tell();
        let status = status::status(&*self.resource, &verdict, &facts, &told, self.ctx.now());
        let told = self.write_status(&verdict, status).await;
        self.account.line_up(&self.resource.reference(), None);
        match failure.passes {
            Passes::NotWithoutARight => told.map(|()| Requeue::requeue(UNREADABLE_AGAIN)),
            _ => Err(error),
        }
    }

    /// Takes the resource as last seen: it may have changed while an answer was waited for, and then status could not be written
    /// over it.
    fn catch_up(&mut self) {
        let resource = &*self.resource;
        let seen = self.ctx.find(resource.kind(), resource.namespace(), resource.name());
        if let Some(seen) = seen.filter(|seen| seen.uid() == resource.uid()) {
            self.resource = lock(&self.memory).newest(seen);
        }
    }

    /// What is done in spite of a failure.
    fn action_after(&self, failure: &Failure) -> Option<Action> {
        let (resource, now) = (&*self.resource, self.ctx.now());
        let memory = lock(&self.memory);
        let known = Known {
            status: &status_record(resource),
            log: &Log::read(resource.annotations(), now),
            local: memory.local(),
            has_finalizer: resource.has_finalizer(),
            deleting: resource.is_deleted(),
        };
        failure::action(failure, &known, now)
    }

    async fn write_status(&mut self, verdict: &Verdict, new: KeyStatus) -> Result<(), Error> {
        let old = self.resource.status().cloned().unwrap_or_default();
        if old == new {
            return Ok(());
        }
        let used = old.last_used_at != new.last_used_at;
        let before = status::ready_reason(&old.conditions);
        let is_new_reason = Some(verdict.reason.as_str()) != before;
        let write = self.resource.write_status(&self.ctx.client, new);
        let Some(written) = answered(WRITING_STATUS, write).await? else { return Ok(()) };
        self.resource = {
            let mut memory = lock(&self.memory);
            if let Some(status) = written.status() {
                memory.has_told(status, used.then(|| self.ctx.now()));
            }
            memory.newest(written)
        };
        if is_new_reason {
            let (ready, reason, detail) = (verdict.ready, verdict.reason.as_str(), &verdict.message);
            if verdict.reason.is_warning() {
                tracing::warn!(ready, reason, before, detail, "Ready has another reason");
                self.warn(reason, detail);
            } else {
                tracing::info!(ready, reason, before, detail, "Ready has another reason");
            }
        }
        Ok(())
    }
}
