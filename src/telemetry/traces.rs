//! Traces over OTLP: one reconcile of a resource, with its requests to DataFast and to the API server.
//!
//! Invariant: without an endpoint in the environment nothing of this exists but its code. Invariant: only spans of ours and
//! of kube's requests are exported, and neither has a body or a header.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use opentelemetry::trace::{SpanId, Status, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use super::ENDPOINTS;
use super::logs::{Failures, Over, millis};
use crate::api::names;
use crate::lock::lock;

/// Whose spans and events are exported.
const TARGETS: [&str; 2] = [env!("CARGO_CRATE_NAME"), "kube_client::client::builder"];
/// The first that is set counts.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// The traces of this process, if it exports any.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Exports what has not been exported yet, as far as that is possible in this time.
    pub fn finish(self, within: Duration) {
        if let Some(provider) = self.0 {
            // Who can't take them now has been told of.
            let _ = provider.shutdown_with_timeout(within);
        }
    }
}

/// Starts to export traces, if the environment asks for that.
///
/// # Errors
/// Where it asks for what can't be done: for people.
pub(super) fn start<S>() -> Result<Option<(impl Layer<S>, Traces)>, String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if !is_wanted(|name| std::env::var(name).ok())? {
        return Ok(None);
    }
    let exporter = Otlp::builder().with_http().build().map_err(|error| error.to_string())?;
    let exporter = Told { exporter, failures: Mutex::default() };
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(Deeds { next: BatchSpanProcessor::builder(exporter).build(), open: Mutex::default() })
        .build();
    // What logs tell at `debug` is for whoever looks for a defect, and says more than others should keep.
    let is_told = |metadata: &Metadata<'_>| {
        let is_known = TARGETS.iter().any(|target| metadata.target().starts_with(target));
        is_known && (metadata.is_span() || *metadata.level() <= Level::INFO)
    };
    let ours = filter_fn(is_told).with_max_level_hint(LevelFilter::DEBUG);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(names::MANAGER))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(ours);
    Ok(Some((layer, Traces(Some(provider)))))
}

/// Whether the environment asks for traces. What else its variables say, the SDK and the exporter read themselves.
fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> Result<bool, String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_disabled || ENDPOINTS.iter().all(|name| variable(name).is_none()) {
        return Ok(false);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(false),
        Some(other) => return Err(format!("OTEL_TRACES_EXPORTER is {other:?}: the operator knows otlp and none")),
    }
    match PROTOCOLS.iter().find_map(|name| variable(name)).as_deref() {
        // The exporter would take any other for this one.
        None | Some("http/protobuf") => Ok(true),
        Some(other) => {
            Err(format!("the OTLP protocol is {other:?}: the operator speaks http/protobuf, on port 4318 mostly"))
        }
    }
}

/// Who exports: as the environment says, or else the operator.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let told = Resource::builder().with_attribute(version).build();
    let is_told = |value: opentelemetry::Value| !value.as_str().starts_with("unknown_service");
    if told.get(&"service.name".into()).is_some_and(is_told) {
        return told;
    }
    Resource::builder_empty()
        .with_attributes(told.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_service_name(names::MANAGER)
        .build()
}

/// Passes on whole traces, and of them those of reconciles in which something was changed, or failed: with every poll, an account
/// and its resources are reconciled, and most of the time that is all.
#[derive(Debug)]
struct Deeds<P> {
    next: P,
    /// The spans of reconciles that are not over yet.
    open: Mutex<HashMap<TraceId, Vec<SpanData>>>,
}

/// The spans that a trace may begin with; requests outside of a reconcile, such as watches, are of no interest.
const ROOTS: [&str; 2] = ["reconcile", "give_up"];

impl<P: SpanProcessor> SpanProcessor for Deeds<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.next.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        let trace = span.span_context.trace_id();
        if span.parent_span_id != SpanId::INVALID {
            lock(&self.open).entry(trace).or_default().push(span);
            return;
        }
        // A span ends after all that are within it, so this is the last one.
        let mut spans = lock(&self.open).remove(&trace).unwrap_or_default();
        let is_look = ROOTS.contains(&&*span.name);
        spans.push(span);
        if is_look && spans.iter().any(is_deed) {
            spans.into_iter().for_each(|span| self.next.on_end(span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// A request that changes something, or anything that failed: a Secret that is not there yet is no failure.
fn is_deed(span: &SpanData) -> bool {
    // kube has the older names of the attributes.
    let attribute = |names: [&str; 2]| {
        let attribute = span.attributes.iter().find(|attribute| names.contains(&attribute.key.as_str()));
        attribute.map(|attribute| attribute.value.to_string())
    };
    let method = attribute(["http.request.method", "http.method"]);
    let is_absent = attribute(["http.response.status_code", "http.status_code"]).is_some_and(|code| code == "404");
    match method.as_deref() {
        None => matches!(span.status, Status::Error { .. }),
        Some("GET") => matches!(span.status, Status::Error { .. }) && !is_absent,
        Some(_) => true,
    }
}

/// An exporter that tells once of a collector that takes nothing, and of its coming back. The SDK would say so at each try.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    failures: Mutex<Failures>,
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        match &outcome {
            Ok(()) => {
                if let Some(Over { failures, lasted }) = lock(&self.failures).over() {
                    tracing::info!(failures, durationMs = millis(lasted), "traces can be exported again");
                }
            }
            Err(error) if lock(&self.failures).is_news(error) => {
                tracing::warn!(%error, "traces can't be exported, and are dropped");
            }
            Err(error) => tracing::debug!(%error, "traces can't be exported"),
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(&[], Ok(false))]
    #[case::an_empty_endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], Ok(false))]
    #[case::an_endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318")], Ok(true))]
    #[case::one_for_traces(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:4318/v1/traces")], Ok(true))]
    #[case::disabled(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"), ("OTEL_SDK_DISABLED", "True")], Ok(false))]
    #[case::none(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"), ("OTEL_TRACES_EXPORTER", "none")], Ok(false))]
    #[case::otlp(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"), ("OTEL_TRACES_EXPORTER", "otlp")], Ok(true))]
    #[case::another(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"), ("OTEL_TRACES_EXPORTER", "zipkin")], Err(()))]
    #[case::grpc(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], Err(()))]
    fn traces_are_exported_where_the_environment_asks(
        #[case] environment: &[(&str, &str)],
        #[case] expected: Result<bool, ()>,
    ) {
        let variable =
            |name: &str| environment.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(is_wanted(variable).map_err(drop), expected);
    }
}
