//! Logs, metrics and probes. Invariant: no metric has a label from the name of a namespaced object.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::api::TokenCounts;
use crate::datafast::Observe;
use crate::lock::lock;

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

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Account {
    /// Its name, as in [`Said`].
    pub account: String,
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
    census: LastCensus,
}

/// What the kernel tells of this process, under the names that Prometheus' own clients use.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Where there is no /proc, there are no such metrics.
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        let Ok(stat) = process.stat() else { return Ok(()) };
        let ticks = f64::from(u32::try_from(procfs::ticks_per_second()).unwrap_or(u32::MAX));
        let seconds = |ticked: u64| ticked as f64 / ticks;
        let cpu = ConstCounter::new(seconds(stat.utime.saturating_add(stat.stime)));
        let (name, help) = ("process_cpu", "User and system time spent");
        cpu.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?)?;
        let resident = stat.rss.saturating_mul(procfs::page_size());
        let started = procfs::boot_time_secs().ok().map(|boot| boot as f64 + seconds(stat.starttime));
        let files = process.fd_count().ok().map(|count| count as f64);
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory in bytes", Some(resident as f64)),
            ("process_virtual_memory_bytes", "Virtual memory in bytes", Some(stat.vsize as f64)),
            ("process_start_time_seconds", "When the process started, in seconds since 1970", started),
            ("process_open_fds", "Open file descriptors", files),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
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
        encode_gauges(&mut encoder, "old_tokens_in_use", help, in_use)
    }
}

fn encode_gauges<'a, L: EncodeLabelSet + 'a>(
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
            leader: Gauge::default(),
            census: LastCensus::default(),
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
        registry.register_collector(Box::new(metrics.census.clone()));
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

    /// All resources were counted.
    pub fn counted(&self, census: Census) {
        *lock(&self.census.0) = census;
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

async fn scrape(State((metrics, _)): State<Served>, headers: HeaderMap) -> Response {
    let mut body = String::new();
    if text::encode(&mut body, &metrics.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (content_type, body) = match accepted.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        true => ("application/openmetrics-text; version=1.0.0; charset=utf-8", body),
        false => ("text/plain; version=0.0.4; charset=utf-8", classic(&body)),
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// The older text format, for whoever does not ask for OpenMetrics. There the name of a counter is that of its samples.
fn classic(openmetrics: &str) -> String {
    let types = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let counters: BTreeSet<&str> = types.filter(|(_, type_)| *type_ == "counter").map(|(name, _)| name).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|about| Some((about, line.strip_prefix(about)?)));
        match described.and_then(|(about, rest)| Some((about, rest.split_once(' ')?))) {
            Some((about, (name, rest))) if counters.contains(name) => {
                text.extend([about, name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

async fn ready(State((_, health)): State<Served>) -> (StatusCode, &'static str) {
    match health.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "watches are not in sync yet"),
    }
}
