//! The port with probes and metrics.

use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

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

/// What keeps those who open connections and send nothing, or read nothing, from all others.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// At once. Beyond that, the oldest gives way: an answer takes a moment, and so it is one that does not end.
    connections: usize,
    /// Until the head of the request is there.
    head: Duration,
    /// Until the answer is sent.
    whole: Duration,
}

const LIMITS: Limits = Limits { connections: 64, head: Duration::from_secs(5), whole: Duration::from_secs(20) };
/// The smallest that the HTTP server can do with; nobody asks for anything here that takes more.
const LONGEST_HEAD: usize = 8192;
/// After a connection that could not be accepted, for want of file descriptors say.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves `/metrics`, `/healthz` and `/readyz` until the process ends.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>, health: Arc<Health>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(answer(listener, router(metrics, health), LIMITS));
    Ok(())
}

fn router(metrics: Arc<Metrics>, health: Arc<Health>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state((metrics, health))
}

/// Answers one request for each connection; its body, if it has one, is not read.
async fn answer(listener: TcpListener, router: Router, limits: Limits) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).keep_alive(false).max_buf_size(LONGEST_HEAD);
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Whoever opened it is gone already.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= limits.connections {
            open.pop_front().inspect(AbortHandle::abort);
        }
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = tokio::spawn(tokio::time::timeout(limits.whole, connection));
        open.push_back(connection.abort_handle());
    }
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

async fn ready(State((metrics, health)): State<Served>) -> (StatusCode, String) {
    match (health.ready.load(Ordering::Relaxed), metrics.watches.broken()) {
        (true, None) => (StatusCode::OK, "ok".to_owned()),
        (true, Some(kind)) => (StatusCode::SERVICE_UNAVAILABLE, format!("the watch of {kind} objects is broken")),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "watches are not in sync yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn served(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(answer(listener, router(Arc::default(), Arc::default()), limits));
        address
    }

    /// What is answered to a request, to its end.
    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Far longer than the test: nothing but the number of connections can help.
    const PATIENT: Limits = Limits { head: Duration::from_secs(600), whole: Duration::from_secs(600), ..LIMITS };

    #[tokio::test]
    async fn connections_that_send_nothing_keep_no_probe_from_its_answer() {
        let address = served(PATIENT).await;
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        for _ in 0..3 {
            assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
            assert!(get(address, "/metrics").await.contains("datafast_leader 0"));
        }
        // The first of them gave way, the last one has not.
        assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0);
        silent[199].write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        silent[199].read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let address = served(Limits { head: Duration::from_millis(50), ..PATIENT }).await;
        for begun in ["", "GET /metr", "GET /metrics HTTP/1.1\r\nhost: a\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{begun:?}");
        }
    }

    #[tokio::test]
    async fn no_connection_is_kept_for_longer_than_it_may_last() {
        let address = served(Limits { whole: Duration::from_millis(50), ..PATIENT }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metr").await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "it ends though the rest could still come");
    }

    #[tokio::test]
    async fn a_body_is_not_waited_for() {
        let address = served(PATIENT).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn one_connection_gets_one_answer() {
        let address = served(PATIENT).await;
        assert!(get(address, "/readyz").await.to_ascii_lowercase().contains("connection: close"));
    }
}
