//! The HTTP client: one request per call, never repeated, never redirected, bounded in time and size.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Request, StatusCode, Url};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::collection::{Collection, Verb};
use super::envelope::{Envelope, Status};
use super::error::Error;
use super::exchange::{Answer, Body, Failure, authorization, read};
use super::rate::RateWindow;
use super::redact::quote;
use super::transport::{SetupError, Transport};
use super::wire::{self, Unreadable};
use super::{Issued, NewToken, RawKey, Token, TokenId};
use crate::lock::lock;

/// Hears of every request that ended.
pub trait Observe: Send + Sync {
    /// `operation` is one of a few names such as `list_access_tokens`; `code` the HTTP status, or `timeout`, `connect`
    /// or `error` where there was no whole answer; `took` the time to the end of the body.
    fn request(&self, operation: &'static str, code: &str, took: Duration);

    /// A call waited so long for its turn in the account's rate window, and among its other calls.
    fn waited(&self, _operation: &'static str, _took: Duration) {}

    /// So many calls are left in the account's rate window, as an answer told.
    fn remaining(&self, _calls: u32) {}
}

/// A client of one DataFast account.
pub struct Client {
    pub(super) transport: Arc<Transport>,
    /// Without a slash at its end.
    base_url: String,
    credential: RawKey,
    pub(super) observer: Arc<dyn Observe>,
    /// What the last answer told of the rate window, until somebody asks.
    heard: Mutex<Option<RateWindow>>,
}

/// A request as it is to be sent.
struct Ask {
    operation: &'static str,
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client that calls `base_url`, such as `https://datafa.st/api/v1/admin`, with `credential`.
    ///
    /// # Errors
    /// Where the base URL is not an HTTP URL of a host and a path alone, or TLS cannot be set up.
    pub fn new(
        transport: &Arc<Transport>,
        base_url: &str,
        credential: RawKey,
        observer: Arc<dyn Observe>,
    ) -> Result<Self, SetupError> {
        let base_url = checked(base_url)?;
        transport.set_up()?;
        Ok(Self { transport: transport.clone(), base_url, credential, observer, heard: Mutex::default() })
    }

    /// Lists a collection.
    ///
    /// # Errors
    /// Any failure of the call; an answer that is not wholly a list is [`Error::Unavailable`].
    pub async fn list(&self, collection: &Collection) -> Result<Vec<Token>, Error> {
        let body = self.call(Ask::of(collection, Verb::List, Method::GET, collection.path())).await?;
        readable(wire::list(body, collection))
    }

    /// Creates a token. Dropping the future does not undo it.
    ///
    /// # Errors
    /// Any failure of the call; [`Error::effect`] tells whether a token may exist now.
    pub async fn create(&self, collection: &Collection, token: &NewToken) -> Result<Issued, Error> {
        let ask = Ask::of(collection, Verb::Create, Method::POST, collection.path());
        let ask = Ask { body: Some(wire::new_token(collection, token)), ..ask };
        let body = self.call(ask).await.map_err(full_by_message)?;
        readable(wire::issued(body, token, None))
    }

    /// Gives a token another key; its old one ends at once. `token` is what is known of it. Dropping the future does not
    /// undo it.
    ///
    /// # Errors
    /// Any failure of the call; [`Error::effect`] tells whether the old key may have ended.
    pub async fn roll(&self, collection: &Collection, id: &TokenId, token: &NewToken) -> Result<Issued, Error> {
        let path = format!("{}/{id}", collection.path());
        let body = self.call(Ask::of(collection, Verb::Roll, Method::PUT, path)).await?;
        readable(wire::issued(body, token, Some(id)))
    }

    /// Deletes a token.
    ///
    /// # Errors
    /// Any failure of the call; [`Error::NotFound`] also where another credential created the token.
    pub async fn delete(&self, collection: &Collection, id: &TokenId) -> Result<(), Error> {
        let path = format!("{}/{id}", collection.path());
        let body = self.call(Ask::of(collection, Verb::Delete, Method::DELETE, path)).await?;
        readable(wire::acknowledged(body))
    }

    /// Whether DataFast takes `key`: one call with that key.
    ///
    /// # Errors
    /// Where the answer proves neither. Only success and a missing permission (403) come after the key was recognized, and
    /// only 401 says that it was not; each in DataFast's own words, for whatever stands in between can answer anything.
    pub async fn probe(&self, collection: &Collection, key: &RawKey) -> Result<bool, Error> {
        let ask = Ask::of(collection, Verb::Probe, Method::GET, collection.probe_path());
        let answer = self.send(ask, key).await?;
        let envelope = Envelope::read(&answer.body);
        let (is_success, is_refusal) = (envelope.is_success(), envelope.is_refusal(403));
        match self.judge(&answer, envelope, key) {
            Err(Error::CredentialsRejected { .. }) => Ok(false),
            Ok(_) if is_success => Ok(true),
            Err(Error::Rejected { status: 403, .. }) if is_refusal => Ok(true),
            Ok(_) => Err(Error::unreadable("the answer is not DataFast's")),
            Err(error) => Err(error),
        }
    }

    /// Tells the observer how long a call waited for its turn.
    pub fn waited(&self, collection: &Collection, verb: Verb, took: Duration) {
        self.observer.waited(collection.operation(verb), took);
    }

    /// What answers have told of the rate window since this was asked last.
    pub fn heard(&self) -> Option<RateWindow> {
        lock(&self.heard).take()
    }

    fn hear(&self, told: Option<RateWindow>) {
        let Some(told) = told else { return };
        self.observer.remaining(told.remaining);
        let mut heard = lock(&self.heard);
        // Answers may overtake each other: of one window, the one that leaves the least is the newest.
        *heard = Some(heard.map_or(told, |before| before.newer(told)));
    }

    /// Sends a request, and returns what its success says.
    async fn call(&self, ask: Ask) -> Result<Envelope, Error> {
        let answer = self.send(ask, &self.credential).await?;
        let envelope = Envelope::read(&answer.body);
        self.judge(&answer, envelope, &self.credential)
    }

    /// Sends a request with `key`, reads its answer, and tells the observer.
    async fn send(&self, ask: Ask, key: &RawKey) -> Result<Answer, Error> {
        let (start, operation) = (Instant::now(), ask.operation);
        let span = span(operation);
        let result = self.exchange(ask, key, &span).instrument(span.clone()).await;
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

    async fn exchange(&self, ask: Ask, key: &RawKey, span: &Span) -> Result<Answer, Failure> {
        let http = self.transport.current().await.map_err(|error| Failure::unsent(&error.to_string()))?;
        let Ask { method, path, body, .. } = ask;
        let request = http.request(method, format!("{}{path}", self.base_url)).header(ACCEPT, "application/json");
        let request = match body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body),
            None => request,
        };
        let request = request.header(AUTHORIZATION, authorization(key)?).build().map_err(Failure::of)?;
        describe(span, &request);
        let response = http.execute(request).await.map_err(|error| {
            if error.is_connect() {
                self.transport.failed();
            }
            Failure::of(error)
        })?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let now = Timestamp::now();
        let retry_after = wait.and_then(|value| wire::retry_after(value, now));
        let told = RateWindow::of_headers(response.headers(), now);
        let body = read(response, self.transport.limits().body).await;
        let flat =
            || body.as_ref().ok().filter(|_| status.as_u16() == 429).and_then(|body| RateWindow::of_body(body, now));
        let told = told.or_else(flat);
        self.hear(told);
        let retry_after =
            retry_after.or(told.filter(|told| told.remaining == 0 && !told.ends_in.is_zero()).map(|told| told.ends_in));
        match body {
            Ok(body) => Ok(Answer { status: status.as_u16(), retry_after, body }),
            // The status of a refusal says enough without its message.
            Err(_) if status.is_client_error() => {
                Ok(Answer { status: status.as_u16(), retry_after, body: Body::default() })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Tells success from failure.
    fn judge(&self, answer: &Answer, envelope: Envelope, key: &RawKey) -> Result<Envelope, Error> {
        let status = match answer.status {
            200..300 if envelope.status == Some(Status::Error) => match envelope.code() {
                Some(code) => code,
                None => return Err(Error::unreadable("the answer says both success and failure")),
            },
            200..300 => return Ok(envelope),
            status => status,
        };
        let message = match quote(envelope.message(), &[key, &self.credential]) {
            message if message.is_empty() => canonical(status).to_owned(),
            message => message,
        };
        Err(match status {
            401 if envelope.is_refusal(401) => Error::CredentialsRejected { message },
            401 => Error::unreadable(format!("it answers 401 ({message}), but not as DataFast does: {IN_BETWEEN}")),
            429 => Error::RateLimited { retry_after: answer.retry_after },
            300..400 => Error::unreadable(format!("it answers {status}, a redirect, which is not followed")),
            408 => Error::unreadable(format!("it answers {status}: {message}")),
            400..500 if envelope.is_page => {
                Error::unreadable(format!("it answers {status} ({message}) with a page: {IN_BETWEEN}"))
            }
            404 => Error::NotFound,
            400..500 => Error::Rejected { status, message },
            _ => Error::unreadable(format!("it answers {status}: {message}")),
        })
    }
}

impl Ask {
    fn of(collection: &Collection, verb: Verb, method: Method, path: String) -> Self {
        Self { operation: collection.operation(verb), method, path, body: None }
    }
}

/// Where an answer comes from that is not DataFast's.
const IN_BETWEEN: &str = "most likely it comes from a proxy";

fn canonical(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("no message")
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

/// Of a limit of tokens or keys, and not of one of websites, say, or of a name with such a word in it.
fn speaks_of_a_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let words: Vec<&str> =
        message.split(|character: char| !character.is_ascii_alphanumeric() && character != '-').collect();
    let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
    let is_limit = has(&["limit", "limits", "max", "maximum", "quota"]);
    let is_of_tokens = has(&["token", "tokens", "key", "keys", "apikeys", "api-keys", "reached", "exceeded"]);
    let is_of_others = has(&["permission", "permissions", "name", "characters", "invalid"]);
    is_limit && is_of_tokens && !is_of_others
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
