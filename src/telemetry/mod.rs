//! Logs, metrics, traces and probes. Invariant: no metric has a label from the name of a namespaced object.

mod census;
mod logs;
mod metrics;
mod panics;
mod process;
mod server;
#[cfg(feature = "otlp")]
mod traces;
#[cfg(not(feature = "otlp"))]
#[path = "no_traces.rs"]
mod traces;
mod watches;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use census::{Account, Census, KindOf, Overdue, Said};
pub(crate) use logs::{Failures, Over};
pub use logs::{LogFormat, millis};
pub use metrics::{Metrics, OfAccount};
pub use server::{Health, serve};
pub use traces::Traces;
pub use watches::WatchHealth;

/// By either of them the environment asks for traces.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Starts logs, of panics too; and traces, where the environment asks for them by OpenTelemetry's standard variables. Those that are
/// returned are to be finished before the process ends.
pub fn start(format: LogFormat) -> Traces {
    let (layer, traces) = match traces::start() {
        Ok(Some((layer, traces))) => (Some(layer), Ok(traces)),
        Ok(None) => (None, Ok(Traces::default())),
        Err(error) => (None, Err(error)),
    };
    tracing_subscriber::registry().with(logs::layer(format)).with(layer).init();
    panics::log();
    traces.unwrap_or_else(|error| {
        tracing::warn!(error, "no traces are exported");
        Traces::default()
    })
}
