//! The operator's metrics. Invariant: no metric has a label from the name of a namespaced object.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::census::{Account, Census, LastCensus};
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
    /// The accounts that have samples.
    accounts: Mutex<BTreeSet<String>>,
    pub(super) watches: Watches,
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
            accounts: Mutex::default(),
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
        let Account { account } = self.account(account);
        for (state, number) in states {
            self.tokens.get_or_create(&AccountState { account: account.clone(), state }).set(number.into());
        }
    }

    /// Whether an account can be used.
    pub fn account_ready(&self, account: &str, ready: bool) {
        self.account_ready.get_or_create(&self.account(account)).set(ready.into());
    }

    /// An account that has samples from now on.
    fn account(&self, name: &str) -> Account {
        let mut accounts = lock(&self.accounts);
        if !accounts.contains(name) {
            accounts.insert(name.to_owned());
        }
        Account { account: name.to_owned() }
    }

    /// All resources were counted. The samples of accounts that are gone go too, also those that came late.
    pub fn counted(&self, census: Census) {
        let gone: Vec<_> = lock(&self.accounts).difference(&census.accounts).cloned().collect();
        for account in gone {
            self.forget(&account);
        }
        self.census.replace(census);
    }

    fn forget(&self, account: &str) {
        lock(&self.accounts).remove(account);
        for state in ["managed", "retiring", "unclaimed", "foreign"] {
            self.tokens.remove(&AccountState { account: account.to_owned(), state });
        }
        self.account_ready.remove(&Account { account: account.to_owned() });
        self.rate_remaining.remove(&Account { account: account.to_owned() });
        for operation in OPERATIONS {
            self.rate_wait.remove(&AccountOperation { account: account.to_owned(), operation });
        }
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
        let Account { account } = self.metrics.account(&self.account);
        let of = AccountOperation { account, operation };
        self.metrics.rate_wait.get_or_create(&of).observe(took.as_secs_f64());
    }

    fn remaining(&self, calls: u32) {
        self.metrics.rate_remaining.get_or_create(&self.metrics.account(&self.account)).set(calls.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn samples_of_an_account_that_is_gone_go_however_late_they_came() {
        let metrics = Arc::new(Metrics::default());
        let accounts = BTreeSet::from(["there".to_owned()]);
        for _ in 0..2 {
            for account in ["there", "gone"] {
                metrics.account_ready(account, true);
                metrics.tokens(account, &TokenCounts::default());
                let of = OfAccount::new(metrics.clone(), account);
                of.waited(OPERATIONS[0], Duration::ZERO);
                of.remaining(1);
            }
            metrics.counted(Census { accounts: accounts.clone(), ..Census::default() });
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &metrics.registry).unwrap();
            assert!(text.contains("account=\"there\"") && !text.contains("account=\"gone\""), "{text}");
        }
    }
}
