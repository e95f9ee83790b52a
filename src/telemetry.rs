//! Logs, metrics and probes. Invariant: no metric has a label from the name of a namespaced object.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::api::TokenCounts;
use crate::datafast::Observe;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// `text` on a terminal, else `json`.
    pub fn fitting() -> Self {
        if std::io::stdout().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Starts logging to standard output, at the level of `RUST_LOG`, `info` where it is not set.
pub fn start_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // It logs whole answers that it can't parse, which may be Secrets.
    let filter = match "kube_client::client=error".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.with_target(false).init(),
    }
}

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
struct AccountState {
    account: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Account {
    account: String,
}

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    request_duration: Family<Operation, Histogram>,
    reconcile_duration: Family<Kind, Histogram>,
    reconcile_errors: Family<Failure, Counter>,
    tokens: Family<AccountState, Gauge>,
    issued: Family<KindCause, Counter>,
    revoked: Family<KindCause, Counter>,
    account_ready: Family<Account, Gauge>,
    leader: Gauge,
}

/// 5 ms to 40 s: from a cached answer to a request that ends by its time limit.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("datafast"),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations),
            reconcile_duration: Family::new_with_constructor(durations),
            reconcile_errors: Family::default(),
            tokens: Family::default(),
            issued: Family::default(),
            revoked: Family::default(),
            account_ready: Family::default(),
            leader: Gauge::default(),
        };
        let registry = &mut metrics.registry;
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
            "How long looks at a resource took",
            Unit::Seconds,
            metrics.reconcile_duration.clone(),
        );
        registry.register("reconcile_errors", "Looks at a resource that failed", metrics.reconcile_errors.clone());
        registry.register("tokens", "Tokens of an account, by whose they are", metrics.tokens.clone());
        registry.register("tokens_issued", "Tokens issued, by cause", metrics.issued.clone());
        registry.register("tokens_revoked", "Tokens revoked, by cause", metrics.revoked.clone());
        registry.register("account_ready", "Whether an account can be used", metrics.account_ready.clone());
        registry.register("leader", "Whether this process is the one that acts", metrics.leader.clone());
        metrics
    }
}

impl Metrics {
    /// A look at a resource ended.
    pub fn reconciled(&self, kind: &'static str, took: Duration) {
        self.reconcile_duration.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// A look at a resource failed.
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

/// What the probes tell.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// Whether the process does what it is there for: its watches are in sync, or it stands by for the leader.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

type Served = (Arc<Metrics>, Arc<Health>);

/// Serves `/metrics`, `/healthz` and `/readyz` until the process ends.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>, health: Arc<Health>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state((metrics, health));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "probes and metrics are no longer served");
        }
    });
    Ok(())
}

async fn scrape(State((metrics, _)): State<Served>) -> Response {
    let mut body = String::new();
    if text::encode(&mut body, &metrics.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn ready(State((_, health)): State<Served>) -> (StatusCode, &'static str) {
    match health.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "watches are not in sync yet"),
    }
}
