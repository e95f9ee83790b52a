//! The port with probes and metrics.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use tokio::net::TcpListener;

use super::Metrics;

/// What the probes tell.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// Whether the process does what it is there for: its watches are in sync, or it waits for the lease.
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
