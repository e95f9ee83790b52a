//! A reverse proxy between the operator and one of its servers.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::{
    ControlPlane,
    error::{Context, Result},
    helpers::{ANSWERED_WITHIN, plain_http},
    plan::{Fault, Plan, Side, Verdict},
};

/// More than any object that the API server takes.
const LARGEST_REQUEST: usize = 16 << 20;

/// A reverse proxy on loopback, plain HTTP, that follows a [`Plan`]. Answers are streamed, so watches work; requests that
/// write are carried to their end even when the operator dies meanwhile, as a server would that has read them.
///
/// It runs in the tokio runtime that started it; all its connections break when it is dropped.
pub struct Cutter {
    url: String,
    server: JoinHandle<()>,
}

struct Upstream {
    name: String,
    url: String,
    client: reqwest::Client,
    plan: Plan,
}

impl Cutter {
    /// Stands before a server, at `upstream` (`http://…` or `https://…`), trusted by `ca` (PEM). `name` is what the plan's
    /// log calls it.
    ///
    /// # Errors
    ///
    /// Where no port or client can be had.
    pub async fn start(plan: &Plan, name: &str, upstream: &str, ca: Option<&[u8]>) -> Result<Self> {
        let mut client = plain_http().redirect(reqwest::redirect::Policy::none()).connect_timeout(ANSWERED_WITHIN);
        if let Some(ca) = ca {
            client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca)?);
        }
        let upstream = Arc::new(Upstream {
            name: name.into(),
            url: upstream.trim_end_matches('/').into(),
            client: client.build()?,
            plan: plan.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the cutter")?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(handle).with_state(upstream);
        let server = tokio::spawn(serve(listener, router, plan.clone()));
        Ok(Self { url, server })
    }

    /// Stands before the API server, under the name `kubernetes`.
    ///
    /// # Errors
    ///
    /// As [`Cutter::start`].
    pub async fn to_cluster(plan: &Plan, cluster: &ControlPlane) -> Result<Self> {
        Self::start(plan, "kubernetes", &cluster.url(), Some(&cluster.ca()?)).await
    }

    /// Where it listens: `http://127.0.0.1:…`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves until aborted. The connections live in a set that ends with it; and each ends with the plan's round.
async fn serve(listener: TcpListener, router: Router, plan: Plan) {
    let mut connections = JoinSet::new();
    loop {
        // A connection that was broken off before it was accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let round_over = plan.round_over();
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            tokio::select! {
                // How a connection ended is told to the client, not to us.
                _ = connection => {}
                () = round_over => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, LARGEST_REQUEST).await {
        Ok(body) => body,
        Err(e) => return (StatusCode::BAD_REQUEST, e.to_string()).into_response(),
    };
    // The delay comes first: what a cut holds must not wait in it and slip through afterwards.
    let delay = upstream.plan.delay_of(&parts.method, &parts.uri);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some((instead, over)) = upstream.plan.instead(&parts.method, &parts.uri, &body) {
        return instead.response(over).await;
    }
    upstream.plan.late_lists.passed(&parts.uri).await;
    match upstream.plan.judge(&upstream.name, &parts.method, &parts.uri) {
        Verdict::Hold => std::future::pending().await,
        Verdict::Forward => upstream.forward(parts, body).await,
        Verdict::Refuse(status) => (status, "this watch is away by plan").into_response(),
        Verdict::ForwardTooLate => upstream.forward(too_late(parts), body).await,
        Verdict::Count(ticket) => {
            carry(async move {
                let response = upstream.forward(parts, body).await;
                upstream.plan.answered(ticket, response.status());
                response
            })
            .await
        }
        Verdict::Strike(ticket, fault) => {
            carry(async move {
                let side = match fault {
                    Fault::Cut { side, .. } | Fault::Fail { side, .. } => side,
                    Fault::None => return upstream.forward(parts, body).await,
                    Fault::Late { by, .. } => {
                        upstream.plan.struck(ticket);
                        tokio::time::sleep(by).await;
                        let response = upstream.forward(parts, body).await;
                        upstream.plan.answered(ticket, response.status());
                        return response;
                    }
                };
                if side == Side::After {
                    let response = upstream.forward(parts, body).await;
                    let status = response.status();
                    // Whether the answer comes through whole is nobody's business any more.
                    let _ = to_bytes(response.into_body(), usize::MAX).await;
                    upstream.plan.answered(ticket, status);
                }
                upstream.plan.struck(ticket);
                match fault {
                    Fault::Fail { status, .. } => (status, "answered by the plan").into_response(),
                    _ => std::future::pending().await,
                }
            })
            .await
        }
    }
}

/// A watch from the first version that there ever was.
fn too_late(mut parts: Parts) -> Parts {
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| if pair.starts_with("resourceVersion=") { "resourceVersion=1" } else { pair });
    let path = format!("{}?{}", parts.uri.path(), pairs.collect::<Vec<_>>().join("&"));
    if let Ok(uri) = path.parse() {
        parts.uri = uri;
    }
    parts
}

/// Runs to its end even if the connection of whoever asked breaks.
async fn carry(work: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(work).await.unwrap_or_else(|e| (StatusCode::BAD_GATEWAY, e.to_string()).into_response())
}

impl Upstream {
    async fn forward(&self, parts: Parts, body: Bytes) -> Response {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = self.client.request(parts.method, format!("{}{path}", self.url));
        request = request.headers(end_to_end(parts.headers));
        if !body.is_empty() {
            request = request.body(body);
        }
        match request.send().await {
            Ok(answer) => {
                let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
                let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                response
            }
            Err(e) => (StatusCode::BAD_GATEWAY, format!("{}: {e}", self.name)).into_response(),
        }
    }
}

/// Without the headers that belong to one connection only.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE] {
        headers.remove(name);
    }
    headers
}
