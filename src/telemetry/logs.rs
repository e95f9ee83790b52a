//! Logs: a line for each thing that happened.
//!
//! Invariant: no line at `info` or above comes again and again while nothing changes, neither with each poll nor with each
//! try of what fails. Whose a line is, its span says: one for each reconcile.

use std::collections::BTreeSet;
use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::{EnvFilter, Layer};

/// The most that is logged of what others log, whatever `RUST_LOG` says.
const AT_MOST: [(&str, LevelFilter); 6] = [
    // It logs whole answers that it can't parse, which may be Secrets; what failed is logged by whoever asked.
    ("kube_client::client", LevelFilter::OFF),
    ("kube_client::client::tls", LevelFilter::WARN),
    // At each try; whoever made the request tells of it.
    ("kube_runtime::watcher", LevelFilter::OFF),
    ("rustls_platform_verifier", LevelFilter::OFF),
    // What of theirs anybody should know, `traces` tells.
    ("opentelemetry", LevelFilter::OFF),
    // Its span around each reconcile says the same as ours.
    ("kube_runtime::controller", LevelFilter::WARN),
];

/// The format of log lines.
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

/// Logs to standard output, at the level of `RUST_LOG`, `info` where it is not set.
pub(super) fn layer<S>(format: LogFormat) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    // Beside the directives of RUST_LOG and not among them, where one about a span would have the last word.
    let at_most = Targets::new().with_default(LevelFilter::TRACE).with_targets(AT_MOST);
    let logs = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer().fmt_fields(JsonFields::new()).event_format(Flat).boxed(),
        LogFormat::Text => {
            // Colours are for people who look on, unless they do without (<https://no-color.org>).
            let colours =
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).boxed()
        }
    };
    logs.with_filter(filter.and(at_most))
}

/// A line as one flat JSON object: the fields of the event and of its spans side by side, so that whoever looks for a
/// resource need not know which are which. tracing-subscriber's own format has a span's name among its fields, in the
/// place of one that is called `name` as well.
struct Flat;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    message: Option<Value>,
    #[serde(flatten)]
    fields: Map<String, Value>,
    target: &'a str,
}

impl<S, N> FormatEvent<S, N> for Flat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        let mut fields = Map::new();
        for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
            fields.extend(span.extensions().get::<FormattedFields<N>>().map(|text| read(text)).unwrap_or_default());
        }
        let mut text = String::new();
        ctx.format_fields(Writer::new(&mut text), event)?;
        fields.extend(read(&text));
        let message = fields.remove("message");
        // What comes by way of the crate log has its origin in fields too.
        fields.retain(|name, _| !["timestamp", "level", "target"].contains(&&**name) && !name.starts_with("log."));
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let line = Line { timestamp, level: metadata.level().as_str(), message, fields, target: metadata.target() };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

/// A duration as lines have it: in whole milliseconds, under a name that ends in `Ms`.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// After so long without a failure, the same one is told again: not everything that fails tells when it works again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// What fails in ever more ways tells a number, or a time, that is another each time.
const MOST_WAYS: usize = 8;

/// What fails again and again: each way of failing is worth one line, and so is its end.
#[derive(Debug, Default)]
pub(crate) struct Failures(Option<Failing>);

#[derive(Debug)]
struct Failing {
    told: BTreeSet<String>,
    times: u32,
    since: Instant,
    last_at: Instant,
}

/// Failures that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// How many there were.
    pub(crate) failures: u32,
    /// Since the first.
    pub(crate) lasted: Duration,
}

impl Failures {
    /// It failed. Returns whether in a way that has not been told.
    pub(crate) fn is_news(&mut self, failure: &impl fmt::Display) -> bool {
        self.is_news_after(0, failure)
    }

    /// As [`Failures::is_news`], of what passes by itself: it is news where it has failed so often before, in a row.
    pub(crate) fn is_news_after(&mut self, untold: u32, failure: &impl fmt::Display) -> bool {
        let now = Instant::now();
        let of_late = self.0.take().filter(|failing| now.duration_since(failing.last_at) < FORGOTTEN_AFTER);
        let new = || Failing { told: BTreeSet::new(), times: 0, since: now, last_at: now };
        let failing = self.0.insert(of_late.unwrap_or_else(new));
        (failing.times, failing.last_at) = (failing.times.saturating_add(1), now);
        failing.times > untold && failing.told.len() < MOST_WAYS && failing.told.insert(failure.to_string())
    }

    /// How often it has failed in a row.
    pub(crate) fn times(&self) -> u32 {
        self.0.as_ref().map_or(0, |failing| failing.times)
    }

    /// It went well. Returns what is over by that, if anything is that was told.
    pub(crate) fn over(&mut self) -> Option<Over> {
        let Failing { times, since, .. } = self.0.take().filter(|failing| !failing.told.is_empty())?;
        Some(Over { failures: times, lasted: since.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_told_once_and_its_end() {
        let mut failures = Failures::default();
        assert_eq!(failures.over(), None);
        assert_eq!(
            ["a", "a", "b", "b", "a"].map(|failure| failures.is_news(&failure)),
            [true, false, true, false, false]
        );
        assert_eq!(failures.over().unwrap().failures, 5);
        assert_eq!(failures.over(), None);
        assert!(failures.is_news(&"a"), "after it went well, the same is news again");
    }

    #[test]
    fn what_passes_by_itself_is_told_where_it_does_not() {
        let mut failures = Failures::default();
        assert_eq!([(); 4].map(|()| failures.is_news_after(2, &"a")), [false, false, true, false]);
        assert_eq!(failures.over().unwrap().failures, 4);
        assert!(!failures.is_news_after(2, &"a"));
        assert_eq!(failures.over(), None, "nobody has heard of it");
    }
}
