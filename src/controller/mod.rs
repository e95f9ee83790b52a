//! The shell: it observes, asks the core, performs one action, and asks again until nothing is left to do.
//!
//! Invariant: no judgement here. What is to be done, and what is said of it, is [`crate::lifecycle`]'s to decide; this
//! module may fail at any line, and the record makes good for it.

mod account;
mod account_credential;
mod account_status;
mod census;
mod events;
mod memory;
mod observe;
mod perform;
mod reconcile;
mod report;
mod requests;
mod resource;
mod restart;
mod run;
mod secret;
mod secret_writer;
mod standing;
mod status;
mod supervisor;
mod unclaimed;
mod watch;

use resource::Managed;
pub use run::{Settings, run};

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::Store;

use crate::account::Accounts;
use crate::api::DataFastAccount;
use crate::leader::Leadership;
use crate::lifecycle::event::Now;
use crate::lifecycle::marker::ClusterId;
use crate::telemetry::Metrics;

/// What every reconcile needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) accounts: Accounts,
    pub(crate) memories: memory::Memories,
    pub(crate) events: events::Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) leadership: Leadership,
    pub(crate) cluster: ClusterId,
    pub(crate) settings: Settings,
    /// For each kind, one for each watched namespace, or one for all.
    pub(crate) stores: Vec<Box<dyn resource::KindStore>>,
    pub(crate) account_resources: Store<DataFastAccount>,
    /// Of all namespaces; none where only some are watched.
    pub(crate) namespaces: Option<Store<PartialObjectMeta<Namespace>>>,
    /// Requests under way: they are waited for at the end.
    pub(crate) requests: tokio_util::task::TaskTracker,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }

    /// Now, by both clocks.
    pub(crate) fn both_clocks(&self) -> Now {
        let steady = SignedDuration::try_from(self.settings.clock.steady()).unwrap_or(SignedDuration::MAX);
        Now { wall: self.now(), steady }
    }

    /// How long ago that was; nothing where it is ahead by the clock.
    pub(crate) fn since(&self, at: Timestamp) -> Duration {
        self.now().duration_since(at).try_into().unwrap_or_default()
    }

    pub(crate) fn horizon(&self) -> SignedDuration {
        SignedDuration::try_from(self.settings.horizon).unwrap_or(SignedDuration::MAX)
    }

    /// The resources that refer to an account, as last seen.
    pub(crate) fn users_of(&self, account: &str) -> Vec<Arc<dyn Managed>> {
        self.resources().filter(|resource| resource.account_name() == account).collect()
    }

    /// One resource, as last seen.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<dyn Managed>> {
        self.stores.iter().find_map(|store| store.find(kind, namespace, name))
    }

    /// All resources, as last seen.
    pub(crate) fn resources(&self) -> impl Iterator<Item = Arc<dyn Managed>> {
        self.stores.iter().flat_map(|store| store.all())
    }
}

/// Why a reconcile ended early. It is tried again, ever later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server.
    #[error("Kubernetes: {0}")]
    Kubernetes(#[from] kube::Error),
    /// Somebody else changed the object: reconcile again at once.
    #[error("{0} was changed by somebody else meanwhile")]
    Conflict(&'static str),
    /// The API server did not answer.
    #[error("the API server did not answer within {0:?}")]
    TimedOut(Duration),
    /// The rules found no end. That would be a defect: it must not become a hot loop.
    #[error("not settled after {0} steps")]
    Unsettled(usize),
}

impl Error {
    /// The bounded word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Kubernetes(kube::Error::Api(_)) => "Refused",
            Self::Kubernetes(_) => "Unreachable",
            Self::Conflict(_) => "Conflict",
            Self::TimedOut(_) => "TimedOut",
            Self::Unsettled(_) => "Unsettled",
        }
    }
}

/// How long an answer of the API server is waited for. It ends requests itself after a minute: what takes longer is a proxy
/// that is very slow, or a connection that is dead.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(150);

/// One request to the API server, or some at once. The limit is for each, and not for all that a reconcile has to ask: an API
/// server that is slow with each would otherwise have it begin anew for ever.
pub(crate) async fn answered<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(ANSWER_LIMIT, request).await.unwrap_or(Err(Error::TimedOut(ANSWER_LIMIT)))
}

/// Between tries of one object.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Pauses between tries of one object: 100 ms to a minute.
pub(crate) fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_PAUSE)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// What the API server said, cut to a length that fits a condition.
pub(crate) fn words(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    };
    text.chars().take(500).collect()
}
