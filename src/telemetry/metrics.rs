//! The operator's metrics. Invariant: no metric has a label from the name of a namespaced object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::process::Process;
use super::watches::{WatchHealth, Watches};
use crate::api::TokenCounts;
use crate::datafast::{OPERATIONS, Observe};
use crate::lock::lock;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindCause {
    kind: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountOperation {
    account: String,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountState {
    account: String,
    state: &'static str,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Account {
    /// Its name, as in [`Said`].
    pub account: String,
}

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    pub(super) registry: Registry,
    requests: Family<Request, Counter>,
    request_duration: Family<Operation, Histogram>,
    reconcile_duration: Family<Kind, Histogram>,
    reconcile_errors: Family<Failure, Counter>,
    tokens: Family<AccountState, Gauge>,
    issued: Family<KindCause, Counter>,
    revoked: Family<KindCause, Counter>,
    account_ready: Family<Account, Gauge>,
    rate_remaining: Family<Account, Gauge>,
    rate_wait: Family<AccountOperation, Histogram>,
    leader: Gauge,
    census: LastCensus,
    pub(super) watches: Watches,
}

/// What is said of all resources at one time.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// How many resources say this.
    pub resources: BTreeMap<Said, u32>,
    /// The earliest of their next rotations, in seconds since 1970.
    pub next_rotations: BTreeMap<KindOf, i64>,
    /// Former tokens that were used after others took their places.
    pub old_in_use: BTreeMap<Account, u32>,
    /// Tokens that nobody uses, where their resources ask for that.
    pub unused: BTreeMap<Account, u32>,
}

/// What a resource says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Said {
    /// Its kind.
    pub kind: &'static str,
    /// Its account; empty where there is none of that name, for tenants can think of many.
    pub account: String,
    /// The reason of `Ready`.
    pub reason: String,
    /// The status of `Ready`: `true` or `false`.
    pub ready: &'static str,
}

/// The resources of a kind that belong to an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct KindOf {
    /// Their kind.
    pub kind: &'static str,
    /// Their account, as in [`Said`].
    pub account: String,
}

/// The last census: all of it is another at once.
#[derive(Clone, Debug, Default)]
struct LastCensus(Arc<Mutex<Census>>);

impl Collector for LastCensus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let census = lock(&self.0);
        let resources = census.resources.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let rotations = census.next_rotations.iter().map(|(labels, at)| (labels, *at));
        let in_use = census.old_in_use.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let help = "Resources, by what their condition Ready says";
        encode_gauges(&mut encoder, "resources", help, resources)?;
        let help = "When the next rotation is due, in seconds since 1970";
        encode_gauges(&mut encoder, "next_rotation_timestamp_seconds", help, rotations)?;
        let help = "Former tokens that were used after others took their places";
        encode_gauges(&mut encoder, "old_tokens_in_use", help, in_use)?;
        let unused = census.unused.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let help = "Tokens that have not been used for as long as their resources ask about";
        encode_gauges(&mut encoder, "tokens_unused", help, unused)
    }
}

pub(super) fn encode_gauges<'a, L: EncodeLabelSet + 'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (&'a L, i64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

/// The version in a label, and always 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// 5 ms to 40 s: from a cached answer to a request that ends by its time limit.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

/// 10 ms to 5 minutes: from no wait to some rate windows.
fn waits() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations),
            reconcile_duration: Family::new_with_constructor(durations),
            reconcile_errors: Family::default(),
            tokens: Family::default(),
            issued: Family::default(),
            revoked: Family::default(),
            account_ready: Family::default(),
            rate_remaining: Family::default(),
            rate_wait: Family::new_with_constructor(waits),
            leader: Gauge::default(),
            census: LastCensus::default(),
            watches: Watches::default(),
        };
        metrics.registry.register_collector(Box::new(Process));
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        let registry = metrics.registry.sub_registry_with_prefix("datafast");
        registry.register("build_info", "The operator's version", build);
        registry.register(
            "api_requests",
            "Requests to DataFast, by operation and HTTP status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "How long requests to DataFast took",
            Unit::Seconds,
            metrics.request_duration.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took",
            Unit::Seconds,
            metrics.reconcile_duration.clone(),
        );
        registry.register("reconcile_errors", "Reconciles that failed", metrics.reconcile_errors.clone());
        registry.register("tokens", "Tokens of an account, by whose they are", metrics.tokens.clone());
        registry.register("tokens_issued", "Tokens issued, by cause", metrics.issued.clone());
        registry.register("tokens_revoked", "Tokens revoked, by cause", metrics.revoked.clone());
        registry.register("account_ready", "Whether an account can be used", metrics.account_ready.clone());
        registry.register(
            "rate_limit_remaining",
            "Calls that are left in an account's rate window, as DataFast told last",
            metrics.rate_remaining.clone(),
        );
        registry.register_with_unit(
            "rate_limit_wait",
            "How long calls waited for their turns in an account's rate window and among its other calls",
            Unit::Seconds,
            metrics.rate_wait.clone(),
        );
        registry.register("leader", "Whether this process is the one that acts", metrics.leader.clone());
        registry.register_collector(Box::new(metrics.census.clone()));
        registry.register_collector(Box::new(metrics.watches.clone()));
        metrics
    }
}

impl Metrics {
    /// A reconcile ended.
    pub fn reconciled(&self, kind: &'static str, took: Duration) {
        self.reconcile_duration.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// A reconcile failed.
    pub fn reconcile_failed(&self, kind: &'static str, reason: &'static str) {
        self.reconcile_errors.get_or_create(&Failure { kind, reason }).inc();
    }

    /// A token was issued.
    pub fn issued(&self, kind: &'static str, cause: &'static str) {
        self.issued.get_or_create(&KindCause { kind, cause }).inc();
    }

    /// A token was revoked.
    pub fn revoked(&self, kind: &'static str, cause: &'static str) {
        self.revoked.get_or_create(&KindCause { kind, cause }).inc();
    }

    /// An account's tokens were counted.
    pub fn tokens(&self, account: &str, counts: &TokenCounts) {
        let states = [
            ("managed", counts.managed),
            ("retiring", counts.retiring),
            ("unclaimed", counts.unclaimed),
            ("foreign", counts.foreign),
        ];
        for (state, number) in states {
            self.tokens.get_or_create(&AccountState { account: account.to_owned(), state }).set(number.into());
        }
    }

    /// Whether an account can be used.
    pub fn account_ready(&self, account: &str, ready: bool) {
        self.account_ready.get_or_create(&Account { account: account.to_owned() }).set(ready.into());
    }

    /// An account is gone: so are its samples.
    pub fn account_gone(&self, account: &str) {
        for state in ["managed", "retiring", "unclaimed", "foreign"] {
            self.tokens.remove(&AccountState { account: account.to_owned(), state });
        }
        self.account_ready.remove(&Account { account: account.to_owned() });
        self.rate_remaining.remove(&Account { account: account.to_owned() });
        for operation in OPERATIONS {
            self.rate_wait.remove(&AccountOperation { account: account.to_owned(), operation });
        }
    }

    /// All resources were counted.
    pub fn counted(&self, census: Census) {
        *lock(&self.census.0) = census;
    }

    /// Another watch, of objects of this kind.
    pub fn watch(&self, kind: &str) -> WatchHealth {
        self.watches.add(kind)
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }
}

impl Observe for Metrics {
    fn request(&self, operation: &'static str, code: &str, took: Duration) {
        self.requests.get_or_create(&Request { operation, code: code.to_owned() }).inc();
        self.request_duration.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }
}

/// Hears of the requests of one account.
pub struct OfAccount {
    metrics: Arc<Metrics>,
    account: String,
}

impl OfAccount {
    /// Of the account of this name.
    pub fn new(metrics: Arc<Metrics>, account: &str) -> Self {
        Self { metrics, account: account.to_owned() }
    }
}

impl Observe for OfAccount {
    fn request(&self, operation: &'static str, code: &str, took: Duration) {
        self.metrics.request(operation, code, took);
    }

    fn waited(&self, operation: &'static str, took: Duration) {
        let of = AccountOperation { account: self.account.clone(), operation };
        self.metrics.rate_wait.get_or_create(&of).observe(took.as_secs_f64());
    }

    fn remaining(&self, calls: u32) {
        let of = Account { account: self.account.clone() };
        self.metrics.rate_remaining.get_or_create(&of).set(calls.into());
    }
}
