//! DataFast's rate window, as answers tell it.
//!
//! Not documented, but seen: `X-RateLimit-Limit`, `-Remaining` and `-Reset` on every answer, and the same in the flat body
//! of a 429. `Reset` is a time since the epoch, in milliseconds or in seconds.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap};
use serde::Deserialize;

/// A smaller number than this is in seconds: 10^12 milliseconds were over in 2001.
const FIRST_MILLISECONDS: i64 = 1_000_000_000_000;
/// No window is longer. What says otherwise is a clock that is wrong.
const LONGEST: Duration = Duration::from_secs(600);

/// A rate window, as one answer told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateWindow {
    /// How many calls it has in all.
    pub limit: u32,
    /// How many are left in it, after the call that was answered.
    pub remaining: u32,
    /// In how long it ends, 10 minutes at most.
    pub ends_in: Duration,
}

impl RateWindow {
    /// Reads the headers of an answer. None: it has no such headers, or nonsense in them.
    pub(super) fn of_headers(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let number = |name| text(name).and_then(|text| text.parse::<i64>().ok());
        // By DataFast's own clock, where it tells the time: ours may differ.
        let date = headers.get(DATE).and_then(|value| value.to_str().ok());
        let theirs = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        Self::new(
            number("x-ratelimit-limit")?,
            number("x-ratelimit-remaining")?,
            number("x-ratelimit-reset")?,
            theirs.unwrap_or(now),
        )
    }

    /// Reads the flat body of a 429.
    pub(super) fn of_body(body: &[u8], now: Timestamp) -> Option<Self> {
        #[derive(Deserialize)]
        struct Flat {
            limit: i64,
            remaining: i64,
            reset: i64,
        }
        let Flat { limit, remaining, reset } = serde_json::from_slice(body).ok()?;
        Self::new(limit, remaining, reset, now)
    }

    /// Of two answers at about the same time, the newer one: of one window it is the one that leaves less.
    pub(super) fn newer(self, other: Self) -> Self {
        let is_same = self.ends_in.abs_diff(other.ends_in) < Duration::from_secs(2);
        if is_same && self.remaining < other.remaining { self } else { other }
    }

    fn new(limit: i64, remaining: i64, reset: i64, now: Timestamp) -> Option<Self> {
        let reset = match reset < FIRST_MILLISECONDS {
            true => Timestamp::from_second(reset),
            false => Timestamp::from_millisecond(reset),
        };
        let ends_in = Duration::try_from(reset.ok()?.duration_since(now)).unwrap_or_default();
        let count = |number: i64| u32::try_from(number.max(0)).ok();
        let limit = count(limit).filter(|limit| *limit > 0)?;
        Some(Self { limit, remaining: count(remaining)?.min(limit), ends_in: ends_in.min(LONGEST) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn told(reset: &str, date: Option<&str>) -> Option<RateWindow> {
        let mut pairs = vec![("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", reset)];
        pairs.extend(date.map(|date| ("date", date)));
        RateWindow::of_headers(&headers(&pairs), now())
    }

    #[test]
    fn the_reset_is_in_milliseconds_or_in_seconds() {
        let expected = RateWindow { limit: 60, remaining: 7, ends_in: Duration::from_secs(30) };
        let at = now().as_second() + 30;
        assert_eq!(told(&format!("{at}000"), None), Some(expected));
        assert_eq!(told(&at.to_string(), None), Some(expected));
    }

    #[test]
    fn it_ends_by_datafasts_clock() {
        let reset = (now().as_second() + 330).to_string();
        let ends_in = |date| told(&reset, date).map(|window| window.ends_in.as_secs());
        assert_eq!(ends_in(Some("Thu, 01 Jan 2026 12:05:00 GMT")), Some(30));
        assert_eq!(ends_in(Some("nonsense")), Some(330));
    }

    #[test]
    fn nonsense_is_no_window_and_a_far_end_is_cut() {
        for reset in ["", "soon", "99999999999999999999"] {
            assert_eq!(told(reset, None), None, "{reset}");
        }
        assert_eq!(told("99999999999", None).map(|window| window.ends_in), Some(LONGEST));
        assert_eq!(told("1", None).map(|window| window.ends_in), Some(Duration::ZERO));
        let without_limit = [("x-ratelimit-limit", "0"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")];
        assert_eq!(RateWindow::of_headers(&headers(&without_limit), now()), None);
        assert_eq!(RateWindow::of_headers(&HeaderMap::new(), now()), None);
    }

    #[test]
    fn the_flat_body_of_a_429_tells_it_too() {
        let reset = now().as_millisecond() + 12_000;
        let body = format!(r#"{{"error": "Too many requests", "limit": 60, "remaining": 0, "reset": {reset}}}"#);
        let expected = RateWindow { limit: 60, remaining: 0, ends_in: Duration::from_secs(12) };
        assert_eq!(RateWindow::of_body(body.as_bytes(), now()), Some(expected));
        assert_eq!(RateWindow::of_body(b"<html>429</html>", now()), None);
    }
}
