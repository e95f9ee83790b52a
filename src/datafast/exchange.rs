//! One request's header, body and failure, with care for the keys in them.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::RawKey;
use super::error::{Effect, Error};
use super::redact::quote;
use crate::causes::with_causes;

/// Where an answer does not tell its length.
const FIRST_BUFFER: usize = 16 * 1024;

/// A body that is wiped on drop.
pub(super) type Body = Zeroizing<Vec<u8>>;

/// An answer that was read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Body,
}

/// No whole answer: the error, and what the observer calls it.
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) error: Error,
}

impl Failure {
    pub(super) fn of(error: reqwest::Error) -> Self {
        let (code, effect) = if error.is_connect() {
            // Before there is a connection nothing can have been sent.
            ("connect", Effect::None)
        } else if error.is_timeout() {
            ("timeout", Effect::Unknown)
        } else {
            ("error", Effect::Unknown)
        };
        Self { code, error: Error::Unavailable { reason: reason(error), effect } }
    }

    pub(super) fn unsent(reason: &str) -> Self {
        Self { code: "error", error: Error::Unavailable { reason: reason.to_owned(), effect: Effect::None } }
    }
}

/// An HTTP client's error with its causes, without the URL.
pub(super) fn reason(error: reqwest::Error) -> String {
    quote(&with_causes(&error.without_url()), &[])
}

pub(super) fn authorization(key: &RawKey) -> Result<HeaderValue, Failure> {
    let text = Zeroizing::new(["Bearer ", key.expose()].concat());
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| Failure::unsent("the credential cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a body of at most `limit` bytes. Its memory is wiped, as a create's answer holds a key.
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Body, Failure> {
    let too_large = || Failure { code: "error", error: Error::unreadable("the answer is too large") };
    let announced =
        response.content_length().map_or(FIRST_BUFFER, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced > limit {
        return Err(too_large());
    }
    let mut body = Body::new(Vec::with_capacity(announced));
    while let Some(chunk) = response.chunk().await.map_err(Failure::of)? {
        let needed = body.len() + chunk.len();
        if needed > limit {
            return Err(too_large());
        }
        if needed > body.capacity() {
            // By hand: a Vec that grows on its own frees its old memory unwiped.
            let mut larger = Body::new(Vec::with_capacity(needed.max(2 * body.capacity())));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
