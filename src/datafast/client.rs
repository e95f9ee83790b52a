//! The HTTP client: one request per call, never repeated, never redirected, bounded in time and size.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Request, RequestBuilder, StatusCode, Url, redirect, retry};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::collection::{Collection, Verb};
use super::error::Error;
use super::exchange::{Answer, Body, Failure, authorization, read, reason};
use super::wire::{self, Status, Unreadable};
use super::{Issued, NewToken, RawKey, Token, TokenId};

/// How long an idle connection is kept: shorter than servers and proxies commonly keep theirs, so that a request
/// seldom meets a connection that the other side is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const MOST_IDLE: usize = 4;

/// Hears of every request that ended.
pub trait Observe: Send + Sync {
    /// `operation` is one of a few names such as `list_access_tokens`; `code` the HTTP status, or `timeout`, `connect`
    /// or `error` where there was no whole answer; `took` the time to the end of the body.
    fn request(&self, operation: &'static str, code: &str, took: Duration);
}

/// Bounds of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands, TLS and proxy included.
    pub connect: Duration,
    /// Until the answer is read, connecting included. How long a lost request may still take effect is reckoned from
    /// this.
    pub total: Duration,
    /// The largest body that is read, in bytes.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30), body: 1 << 20 }
    }
}

/// Why a client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The base URL cannot be used.
    #[error("the base URL {0}")]
    BaseUrl(&'static str),
    /// TLS cannot be set up: where there are no CA certificates, say.
    #[error("HTTP cannot be set up: {0}")]
    Transport(String),
}

/// A client of one DataFast account, with connections of its own.
///
/// It goes through the proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name, and trusts the system's
/// CA certificates or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base_url: String,
    credential: RawKey,
    observer: Arc<dyn Observe>,
    limits: Limits,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base_url", &self.base_url).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client that calls `base_url`, such as `https://datafa.st/api/v1/admin`, with `credential`.
    ///
    /// # Errors
    /// Where the base URL is not an HTTP URL of a host and a path alone, or TLS cannot be set up.
    pub fn new(base_url: &str, credential: RawKey, observer: Arc<dyn Observe>) -> Result<Self, SetupError> {
        Self::with_limits(base_url, credential, observer, Limits::default())
    }

    /// As [`Client::new`], with bounds of choice.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_limits(
        base_url: &str,
        credential: RawKey,
        observer: Arc<dyn Observe>,
        limits: Limits,
    ) -> Result<Self, SetupError> {
        let base_url = checked(base_url)?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("datafast-operator/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect)
            .timeout(limits.total)
            // The credential must not travel to another host, nor a POST turn into a GET.
            .redirect(redirect::Policy::none())
            // There is no idempotency key: a create sent twice is two tokens. What remains below this is hyper's own
            // second try of a request of which not one byte was written, because its idle connection was closed.
            .retry(retry::never())
            .referer(false)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MOST_IDLE)
            .build()
            .map_err(|error| SetupError::Transport(reason(error)))?;
        Ok(Self { http, base_url, credential, observer, limits })
    }

    /// Lists a collection.
    ///
    /// # Errors
    /// Any failure of the call; an answer that is not wholly a list is [`Error::Unavailable`].
    pub async fn list(&self, collection: &Collection) -> Result<Vec<Token>, Error> {
        let request = self.request(Method::GET, &collection.path());
        let body = self.call(collection.operation(Verb::List), request, &self.credential).await?;
        readable(wire::list(&body, collection))
    }

    /// Creates a token. Dropping the future does not undo it.
    ///
    /// # Errors
    /// Any failure of the call; [`Error::effect`] tells whether a token may exist now.
    pub async fn create(&self, collection: &Collection, token: &NewToken) -> Result<Issued, Error> {
        let request = self.request(Method::POST, &collection.path());
        let request = request.header(CONTENT_TYPE, "application/json").body(wire::new_token(collection, token));
        let body = self.call(collection.operation(Verb::Create), request, &self.credential).await;
        readable(wire::issued(&body.map_err(full_by_message)?, token, None))
    }

    /// Gives a token another key; its old one ends at once. `token` is what is known of it. Dropping the future does not
    /// undo it.
    ///
    /// # Errors
    /// Any failure of the call; [`Error::effect`] tells whether the old key may have ended.
    pub async fn roll(&self, collection: &Collection, id: &TokenId, token: &NewToken) -> Result<Issued, Error> {
        let request = self.request(Method::PUT, &format!("{}/{id}", collection.path()));
        let body = self.call(collection.operation(Verb::Roll), request, &self.credential).await?;
        readable(wire::issued(&body, token, Some(id)))
    }

    /// Deletes a token.
    ///
    /// # Errors
    /// Any failure of the call; [`Error::NotFound`] also where another credential created the token.
    pub async fn delete(&self, collection: &Collection, id: &TokenId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("{}/{id}", collection.path()));
        let body = self.call(collection.operation(Verb::Delete), request, &self.credential).await?;
        readable(wire::acknowledged(&body))
    }

    /// Whether DataFast takes `key`: one call with that key.
    ///
    /// # Errors
    /// Where the answer proves neither: only success and a missing permission (403), in DataFast's own words, come after
    /// the key was recognized. Any page in between can answer 200, and any router 404.
    pub async fn probe(&self, collection: &Collection, key: &RawKey) -> Result<bool, Error> {
        let request = self.request(Method::GET, &collection.probe_path());
        let answer = self.send(collection.operation(Verb::Probe), request, key).await?;
        let status = wire::status(&answer.body);
        match self.judge(answer, key) {
            Err(Error::CredentialsRejected { .. }) => Ok(false),
            Ok(_) if status == Some(Status::Success) => Ok(true),
            Err(Error::Rejected { status: 403, .. }) if status == Some(Status::Error) => Ok(true),
            Ok(_) => Err(Error::unreadable("the answer is not DataFast's")),
            Err(error) => Err(error),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base_url)).header(ACCEPT, "application/json")
    }

    /// Sends a request, and returns the body of its success.
    async fn call(&self, operation: &'static str, request: RequestBuilder, key: &RawKey) -> Result<Body, Error> {
        let answer = self.send(operation, request, key).await?;
        self.judge(answer, key)
    }

    /// Sends a request with `key`, reads its answer, and tells the observer.
    async fn send(&self, operation: &'static str, request: RequestBuilder, key: &RawKey) -> Result<Answer, Error> {
        let start = Instant::now();
        let span = span(operation);
        let result = self.exchange(request, key, &span).instrument(span.clone()).await;
        let code = result.as_ref().map_or_else(|failure| failure.code.to_owned(), |answer| answer.status.to_string());
        match &result {
            Ok(answer) => span.record("http.response.status_code", answer.status),
            Err(failure) => span.record("error.type", failure.code),
        };
        if result.as_ref().is_ok_and(|answer| answer.status >= 400) {
            span.record("error.type", &code);
        }
        if result.as_ref().map_or(true, |answer| answer.status >= 400) {
            span.record("otel.status_code", "ERROR");
        }
        self.observer.request(operation, &code, start.elapsed());
        result.map_err(|failure| failure.error)
    }

    async fn exchange(&self, request: RequestBuilder, key: &RawKey, span: &Span) -> Result<Answer, Failure> {
        let (http, request) = request.header(AUTHORIZATION, authorization(key)?).build_split();
        let request = request.map_err(Failure::of)?;
        describe(span, &request);
        let response = http.execute(request).await.map_err(Failure::of)?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = wait.and_then(|value| wire::retry_after(value, Timestamp::now()));
        match read(response, self.limits.body).await {
            Ok(body) => Ok(Answer { status: status.as_u16(), retry_after, body }),
            // The status of a refusal says enough without its message.
            Err(_) if status.is_client_error() => {
                Ok(Answer { status: status.as_u16(), retry_after, body: Body::default() })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Tells success from failure.
    fn judge(&self, answer: Answer, key: &RawKey) -> Result<Body, Error> {
        let failure = wire::failure(&answer.body);
        let claims_failure = wire::status(&answer.body) == Some(Status::Error);
        let status = match answer.status {
            200..300 if claims_failure => match failure.code {
                Some(code) => code,
                None => return Err(Error::unreadable("the answer says both success and failure")),
            },
            200..300 => return Ok(answer.body),
            status => status,
        };
        let message = if failure.message.is_empty() {
            StatusCode::from_u16(status)
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or("no message")
                .into()
        } else {
            key.redact_from(&self.credential.redact_from(&failure.message))
        };
        Err(match status {
            401 => Error::CredentialsRejected { message },
            404 => Error::NotFound,
            429 => Error::RateLimited { retry_after: answer.retry_after },
            300..400 => Error::unreadable(format!("it answers {status}, a redirect, which is not followed")),
            408 => Error::unreadable(format!("it answers {status}: {message}")),
            400..500 => Error::Rejected { status, message },
            _ => Error::unreadable(format!("it answers {status}: {message}")),
        })
    }
}

/// A request, for traces, by OpenTelemetry's conventions. What is sent with it, and what comes back, is not for them.
fn span(operation: &'static str) -> Span {
    tracing::debug_span!(
        "datafast",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = Empty,
        http.response.status_code = Empty,
        server.address = Empty,
        server.port = Empty,
        url.full = Empty,
        error.type = Empty,
    )
}

fn describe(span: &Span, request: &Request) {
    let url = request.url();
    span.record("http.request.method", request.method().as_str());
    span.record("server.address", url.host_str());
    span.record("server.port", url.port_or_known_default());
    span.record("url.full", url.as_str());
}

fn readable<T>(read: Result<T, Unreadable>) -> Result<T, Error> {
    read.map_err(|Unreadable(reason)| Error::unreadable(reason))
}

/// DataFast answers a full account with 400 as well; only the message tells.
fn full_by_message(error: Error) -> Error {
    match error {
        Error::Rejected { status: 400, message } if speaks_of_a_limit(&message) => Error::Full { message },
        other => other,
    }
}

fn speaks_of_a_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("limit") || message.contains("max")
}

/// The base URL without a slash at its end.
fn checked(base_url: &str) -> Result<String, SetupError> {
    let url = Url::parse(base_url).map_err(|_| SetupError::BaseUrl("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SetupError::BaseUrl("is neither https:// nor http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SetupError::BaseUrl("holds a user name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(SetupError::BaseUrl("has a query or a fragment"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
