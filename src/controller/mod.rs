//! The shell: it observes, asks the core, performs one action, and asks again until nothing is left to do.
//!
//! Invariant: no judgement here. What is to be done, and what is said of it, is [`crate::lifecycle`]'s to decide; this
//! module may fail at any line, and the record makes good for it.

mod account;
mod account_credential;
mod account_status;
mod census;
mod events;
mod left_behind;
mod lenient;
mod managed_fields;
mod memory;
mod observe;
mod panics;
mod perform;
mod reconcile;
mod report;
mod requests;
mod resource;
mod restart;
mod run;
mod secret;
mod secret_owner;
mod secret_writer;
mod standing;
mod status;
mod supervisor;
mod unclaimed;
mod watch;

use lenient::Lenient;
use resource::Managed;
pub use run::{Settings, run};
pub use standing::forbids;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::Store;

use crate::account::Accounts;
use crate::api::DataFastAccount;
use crate::datafast::{RawKey, Transport, redacted};
use crate::leader::Leadership;
use crate::lifecycle::event::Now;
use crate::lifecycle::marker::ClusterId;
use crate::telemetry::Metrics;

/// What every reconcile needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) accounts: Accounts,
    /// To DataFast.
    pub(crate) transport: Arc<Transport>,
    pub(crate) memories: memory::Memories,
    pub(crate) events: events::Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) leadership: Leadership,
    pub(crate) cluster: ClusterId,
    pub(crate) settings: Settings,
    /// For each kind, one for each watched namespace, or one for all.
    pub(crate) stores: Vec<Box<dyn resource::KindStore>>,
    /// How far their first lists have come.
    progress: Vec<watch::Progress>,
    pub(crate) account_resources: Store<Lenient<DataFastAccount>>,
    /// Of all namespaces; none where only some are watched.
    pub(crate) namespaces: Option<Store<PartialObjectMeta<Namespace>>>,
    /// Secrets of the operator's, for each watched namespace, or of all.
    pub(crate) secrets: Vec<Store<PartialObjectMeta<Secret>>>,
    /// Held while it is decided whether a resource may have a token, until the place is taken: of two that are judged at
    /// once for the last place of a namespace, one sees the other.
    pub(crate) places: Mutex<()>,
    /// Which tokens resources name.
    pub(crate) claims: unclaimed::LastClaims,
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

    /// Whether all resources have been seen since the start.
    pub(crate) fn sees_all(&self) -> bool {
        self.progress.iter().all(watch::Progress::is_settled)
    }

    /// All resources, as last seen.
    pub(crate) fn resources(&self) -> impl Iterator<Item = Arc<dyn Managed>> {
        self.stores.iter().flat_map(|store| store.all())
    }
}

/// Why a reconcile ended early. It is tried again, ever later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A request to the API server: for what it was, and how it failed.
    #[error("{doing} failed: {}", words(.error))]
    Kubernetes {
        /// As the beginning of a sentence.
        doing: &'static str,
        /// What the API server answered, or why it did not.
        error: kube::Error,
    },
    /// Somebody else changed the object: reconcile again at once.
    #[error("{0} was changed by somebody else meanwhile")]
    Conflict(&'static str),
    /// The API server did not answer: for what it was, as the beginning of a sentence.
    #[error("{0} failed: {no_answer}", no_answer = NoAnswer)]
    TimedOut(&'static str),
    /// The rules found no end. That would be a defect: it must not become a hot loop.
    #[error("not settled after {0} steps")]
    Unsettled(usize),
    /// A defect: what is said of it is where, in a line of its own.
    #[error("it panicked, which is a defect of the operator")]
    Panicked,
}

impl Error {
    /// The bounded word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Kubernetes { error: kube::Error::Api(_), .. } => "Refused",
            Self::Kubernetes { .. } => "Unreachable",
            Self::Conflict(_) => "Conflict",
            Self::TimedOut(_) => "TimedOut",
            Self::Unsettled(_) => "Unsettled",
            Self::Panicked => "Panic",
        }
    }

    /// A right is missing, or a policy says no.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kubernetes { error: kube::Error::Api(refusal), .. } if refusal.is_forbidden())
    }

    /// What the API server said, or why nothing is known of that: after a colon.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Kubernetes { error, .. } => words(error),
            Self::TimedOut(_) => NoAnswer.to_string(),
            other => other.to_string(),
        }
    }
}

/// That the API server did not answer, for people.
struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the API server did not answer within {ANSWER_LIMIT:?}")
    }
}

/// Says for what a request to the API server was.
pub(crate) trait Doing<T> {
    /// As the beginning of a sentence: `Reading the Secret`.
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for kube::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error::Kubernetes { doing, error })
    }
}

/// How long an answer of the API server is waited for. It ends requests itself after a minute: what takes longer is a proxy
/// that is very slow, or a connection that is dead.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(150);

/// One request to the API server, or some at once; for what they are, as the beginning of a sentence. The limit is for each,
/// and not for all that a reconcile has to ask: an API server that is slow with each would otherwise have it begin anew for
/// ever.
pub(crate) async fn answered<T>(
    doing: &'static str,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(ANSWER_LIMIT, request).await.unwrap_or(Err(Error::TimedOut(doing)))
}

/// As [`answered`], of one request.
pub(crate) async fn asked<T>(doing: &'static str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    answered(doing, async { request.await.doing(doing) }).await
}

/// How often in a row it fails so before that is told: that somebody else was faster happens.
pub(crate) fn untold(error: &Error) -> u32 {
    if matches!(error, Error::Conflict(_)) { 4 } else { 0 }
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

/// So much of what the API server said fits a condition.
const MOST_WORDS: usize = 500;

/// What the API server said, cut to a length that fits a condition. Whoever refuses a Secret may quote all of it: no key is
/// left in these words.
pub(crate) fn words(error: &kube::Error) -> String {
    words_without(error, None)
}

/// A failure of a request that had this key in it.
pub(crate) fn failed_with(key: &RawKey, doing: &'static str, error: kube::Error) -> Error {
    let error = match error {
        kube::Error::Api(status) => {
            let message = redacted(&status.message, &[key]);
            kube::Error::Api(Box::new(kube::core::Status { message, ..*status }))
        }
        other => other,
    };
    Error::Kubernetes { doing, error }
}

/// As [`words`]; the key is left out also where it does not look like one.
pub(crate) fn words_without(error: &kube::Error, key: Option<&RawKey>) -> String {
    let text = match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    };
    // Before it is cut: half a key would not be recognized.
    redacted(&text, key.as_slice()).chars().take(MOST_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dft_7c1e94b2f80a6d35e9b047c2d1863fa5b94e20c7d8136fab";

    fn refusal(message: String) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status { message, ..kube::core::Status::default() }))
    }

    /// However long the text before it is: it is cut afterwards.
    #[test]
    fn no_words_of_the_api_server_have_a_key_nor_a_part_of_one() {
        let odd = RawKey::parse("key-of-no-known-shape".to_owned()).unwrap();
        let entry = data_encoding::BASE64.encode(format!("DATAFAST_TOKEN={KEY}\n").as_bytes());
        for length in 380..500 {
            let text = format!("{} {KEY} {entry} {}", "x".repeat(length), odd.expose());
            let (said, failed) = (words(&refusal(text.clone())), failed_with(&odd, "This", refusal(text.clone())));
            for quoted in [said, failed.to_string(), words_without(&refusal(text), Some(&odd))] {
                assert!(!quoted.contains("7c1e") && !quoted.contains("REFUQUZ"), "{quoted}");
            }
        }
        let text = format!("no: {}", odd.expose());
        assert_eq!(words_without(&refusal(text.clone()), Some(&odd)), "no: [redacted]");
        assert_eq!(failed_with(&odd, "This", refusal(text)).to_string(), "This failed: no: [redacted]");
    }
}
