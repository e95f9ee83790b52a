//! Logs, metrics and probes. Invariant: no metric has a label from the name of a namespaced object.

mod logs;
mod metrics;
mod process;
mod server;

pub(crate) use logs::{Failures, Over};
pub use logs::{LogFormat, millis, start_logs};
pub use metrics::{Account, Census, KindOf, Metrics, Said};
pub use server::{Health, serve};
