//! Answers as DataFast writes them, and the ones that faults put in their place.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use futures::stream;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use serde_json::{Value, json};

use crate::fault::{FaultBody, RetryAfter, Wire};
use crate::rate_window::Quota;

/// How often an endless body sends some bytes more.
const DRIP: Duration = Duration::from_millis(50);
const HUGE_CHUNK: usize = 64 * 1024;
const HUGE_CHUNKS: usize = 48;

/// What the API answers to a call.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Whether the call changed something.
    pub(super) effect: bool,
    pub(super) token_id: Option<String>,
    pub(super) name: Option<String>,
    body: Content,
}

enum Content {
    Data(Vec<Value>),
    Error(String),
}

pub(super) fn succeed(data: Vec<Value>) -> Answer {
    Answer { status: StatusCode::OK, effect: false, token_id: None, name: None, body: Content::Data(data) }
}

pub(super) fn refuse(status: StatusCode, message: &str) -> Answer {
    Answer { status, effect: false, token_id: None, name: None, body: Content::Error(message.to_owned()) }
}

impl Answer {
    /// Notes the token or website key that the call created, rolled or deleted.
    pub(super) fn effected(self, token_id: &str, name: Option<&str>) -> Self {
        Self { effect: true, token_id: Some(token_id.to_owned()), name: name.map(str::to_owned), ..self }
    }

    pub(super) fn into_response(self, wire: &[Wire]) -> Response {
        let body = match self.body {
            Content::Error(message) => error_body(self.status.as_u16(), &message),
            Content::Data(data) => success_body(data, wire),
        };
        (self.status, Json(body)).into_response()
    }
}

fn success_body(mut data: Vec<Value>, wire: &[Wire]) -> Value {
    if wire.contains(&Wire::Unmasked) {
        data.iter_mut().filter(|object| object.get("displayKey").is_some()).for_each(unmask);
    }
    // Only the answers to a create and a roll have a key, and so their variants apply to objects with one.
    for object in data.iter_mut().filter_map(Value::as_object_mut).filter(|object| object.contains_key("key")) {
        for variant in wire {
            match variant {
                Wire::IdSpelling => {
                    if let Some(id) = object.remove("_id") {
                        object.insert("id".to_owned(), id);
                    }
                }
                Wire::WithoutTimes => {
                    object.remove("lastUsedAt");
                    object.remove("createdAt");
                }
                Wire::WithoutKey | Wire::DataObject | Wire::Unmasked => {}
            }
        }
        if wire.contains(&Wire::WithoutKey) {
            object.remove("key");
        }
    }
    let single = wire.contains(&Wire::DataObject) && data.len() == 1;
    let data = if single { data.remove(0) } else { Value::Array(data) };
    json!({ "status": "success", "data": data })
}

fn unmask(object: &mut Value) {
    let id = object["_id"].as_str().unwrap_or_default();
    let made_up = format!("dft_{id}{id}");
    object["displayKey"] = object.get("key").cloned().unwrap_or_else(|| json!(made_up));
}

fn error_body(code: u16, message: &str) -> Value {
    json!({ "status": "error", "error": { "code": code, "message": message } })
}

pub(super) fn rate_limited(retry_after: &RetryAfter) -> Response {
    let mut response =
        (StatusCode::TOO_MANY_REQUESTS, Json(error_body(429, "Too many requests. Try again later"))).into_response();
    let value = match retry_after {
        RetryAfter::None => None,
        RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
        RetryAfter::DateIn(seconds) => http_date(Timestamp::now() + SignedDuration::from_secs(*seconds)),
        RetryAfter::Text(text) => Some(text.clone()),
    };
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// The answer to a call beyond the limit of its account's rate window.
pub(super) fn beyond_limit(quota: &Quota) -> Response {
    let body = json!({
        "error": "Rate limit exceeded",
        "limit": quota.terms.limit,
        "remaining": quota.remaining(),
        "reset": quota.reset(),
    });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    if let Some(seconds) = quota.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Adds what every answer tells of the account's rate window.
pub(super) fn with_quota(mut response: Response, quota: &Quota) -> Response {
    if !quota.terms.without_headers {
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-limit", quota.terms.limit.into());
        headers.insert("x-ratelimit-remaining", quota.remaining().into());
        headers.insert("x-ratelimit-reset", quota.reset().into());
    }
    response
}

fn http_date(at: Timestamp) -> Option<String> {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

/// The answer of a status fault. A status that HTTP does not have becomes 500.
pub(super) fn faulty(status: u16, body: &FaultBody) -> Response {
    let mut response = match body {
        FaultBody::Error { code, message } => Json(error_body(code.unwrap_or(status), message)).into_response(),
        FaultBody::Html => Html("<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>").into_response(),
        FaultBody::Empty => ().into_response(),
        FaultBody::OtherShape => Json(json!({ "ok": false, "result": ["unexpected"] })).into_response(),
        FaultBody::Truncated => as_json("{\"status\":\"success\",\"data\":[{\"_id\":\"65".into()),
        FaultBody::Endless => as_json(endless()),
        FaultBody::Huge => as_json(huge()),
        FaultBody::Text { text } => as_json(text.clone().into()),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if response.status().is_redirection() {
        // Somewhere a client must not follow to: nothing listens there.
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("http://127.0.0.1:9/elsewhere"));
    }
    response
}

fn as_json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn endless() -> Body {
    Body::from_stream(stream::unfold((), |()| async {
        tokio::time::sleep(DRIP).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"                ")), ()))
    }))
}

fn huge() -> Body {
    let chunk = Bytes::from(vec![b' '; HUGE_CHUNK]);
    Body::from_stream(stream::iter((0..HUGE_CHUNKS).map(move |_| Ok::<_, Infallible>(chunk.clone()))))
}
