//! Traces over OTLP: what an operator exports where its environment asks for that, and what becomes of it where it can't.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use datafast_harness::{ControlPlane, Operator, wait_gone};
use datafast_operator::api::names;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span},
};
use prost::Message;
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    logs::Line,
    shutdown::ends_in_time,
    world::{ARGS, Plane, Setup, WAIT, World, start_with},
};

/// In milliseconds.
const HOUR: &str = "3600000";

/// Takes traces, and keeps them as they came.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    /// Starts one, and returns its endpoint too.
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(Self::take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (collector, endpoint)
    }

    async fn take(State(collector): State<Self>, body: Bytes) {
        collector.0.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    }

    pub(crate) fn bytes(&self) -> Vec<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn exports(&self) -> Vec<ResourceSpans> {
        let requests = self.bytes();
        requests.into_iter().flat_map(|body| ExportTraceServiceRequest::decode(body).unwrap().resource_spans).collect()
    }

    fn spans(&self) -> Vec<Span> {
        self.exports().into_iter().flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

/// Starts an operator that exports traces to this endpoint, so many milliseconds after they are made. It gives the
/// collector an hour for its answer: who waits for one that never comes does not end in time.
pub(crate) async fn start_traced(cluster: &ControlPlane, endpoint: &str, delay: &str) -> Operator {
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", delay),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", HOUR),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    start_with(cluster, None, &ARGS, &environment).await
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|it| (&*it.key, it.value.as_ref().unwrap().value.as_ref().map(text).unwrap())).collect()
}

/// Nothing is sent within the hour, so all of it comes at the end of the process.
#[tokio::test]
async fn a_look_with_its_requests_is_a_trace_and_none_is_lost_at_the_end() {
    let plane = Plane::take().await;
    let (collector, endpoint) = Collector::start().await;
    let operator = start_traced(&plane.cluster, &endpoint, HOUR).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let first = w.issued("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.renewed("agent", &first).await;
    w.issued_alone("agent").await;
    w.polls(2).await;
    assert!(collector.bytes().is_empty());
    assert!(operator.terminate().await.unwrap().status.success());

    for export in collector.exports() {
        let resource = export.resource.unwrap();
        let resource = attributes(&resource.attributes);
        let names = ["service.name", "service.version", "deployment.environment.name"].map(|name| &*resource[name]);
        assert_eq!(names, ["datafast-operator", env!("CARGO_PKG_VERSION"), "test"]);
    }
    let spans = collector.spans();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let ends_in = |span: &Span| {
        let mut span = span.clone();
        while let Some(parent) = spans.iter().find(|it| it.span_id == span.parent_span_id) {
            assert_eq!(parent.trace_id, span.trace_id);
            span = parent.clone();
        }
        assert!(span.parent_span_id.is_empty(), "{span:#?}");
        span
    };
    for (operation, method, times) in [("create_access_token", "POST", 2), ("delete_access_token", "DELETE", 1)] {
        let calls = named(operation);
        assert_eq!(calls.len(), times, "{operation}");
        for call in calls {
            let about = attributes(&call.attributes);
            assert_eq!(about["http.request.method"], method);
            assert_eq!(about["http.response.status_code"], "200");
            assert_eq!(about["server.address"], "127.0.0.1");
            assert_eq!(call.kind, 3, "it is a client's");
            let root = ends_in(call);
            assert_eq!(root.name, "reconcile");
            let about = attributes(&root.attributes);
            let about = ["kind", "namespace", "name", "account"].map(|name| &*about[name]);
            assert_eq!(about, ["DataFastAccessToken", &w.namespace, "agent", &w.name]);
        }
    }
    let mut levels =
        spans.iter().flat_map(|span| &span.events).map(|event| attributes(&event.attributes)["level"].clone());
    assert!(levels.all(|level| level == "INFO"));
    let issued = named("reconcile").into_iter().flat_map(|span| &span.events).filter(|it| it.name == "issued a token");
    let causes: Vec<_> = issued.map(|event| attributes(&event.attributes)["cause"].clone()).collect();
    assert_eq!(causes, ["New", "RotateRequested"]);

    // Most looks find nothing to do: nobody wants to wade through them.
    let is_deed = |span: &&Span| {
        let about = attributes(&span.attributes);
        about.get("http.request.method").or(about.get("http.method")).is_some_and(|method| method != "GET")
    };
    let all: HashSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    let of_deeds: HashSet<_> = spans.iter().filter(is_deed).map(|span| &span.trace_id).collect();
    assert_eq!(all, of_deeds);
    assert!(spans.iter().all(|span| ends_in(span).name == "reconcile"));
}

/// A collector that is not there, and one that never answers.
#[rstest]
#[tokio::test]
async fn a_collector_that_takes_nothing_disturbs_nobody(#[values(false, true)] listens: bool) {
    let plane = Plane::take().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let _listener = listens.then_some(listener);
    let operator = start_traced(&plane.cluster, &endpoint, "100").await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    w.polls(2).await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    ends_in_time(&operator.terminate().await.unwrap());
    let lines: Vec<_> = operator.logs().lines().map(Line::read).collect();
    let about_traces = lines.iter().filter(|line| line.is_told() && line.text("message").contains("traces"));
    assert!(about_traces.count() <= 1, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.text("target").starts_with("opentelemetry")));
}

#[tokio::test]
async fn what_can_not_be_exported_is_told_and_the_rest_works() {
    let plane = Plane::take().await;
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let operator = start_with(&plane.cluster, None, &ARGS, &environment).await;
    let lines: Vec<_> = operator.logs().lines().map(Line::read).collect();
    let told: Vec<_> = lines.iter().filter(|line| line.text("message") == "no traces are exported").collect();
    assert!(told.len() == 1 && told[0].text("error").contains("http/protobuf"), "{lines:#?}");
    assert!(operator.terminate().await.unwrap().status.success());
}
