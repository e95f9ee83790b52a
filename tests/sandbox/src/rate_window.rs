//! The window in which an account's calls are counted.

use serde::{Deserialize, Serialize};

/// How many calls an account has in which time, and how its answers tell of it.
///
/// A window begins with the first call after the last one ended. Every request with a key that is or was the account's
/// counts, whatever becomes of it; requests with unknown keys count nowhere. A call beyond the limit is answered 429,
/// with a flat body and not the error shape of [`Kind::RateLimited`](crate::Kind::RateLimited). It has no effect, and it
/// neither meets a fault nor uses one up. What an answer tells is as of when the call came in, however late it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateWindow {
    /// Calls in a window.
    pub limit: u32,
    /// How long a window is.
    pub seconds: u32,
    /// Whether answers tell the window's end in seconds, rounded up, and not in milliseconds.
    pub reset_in_seconds: bool,
    /// Whether answers go without `X-RateLimit-*`.
    pub without_headers: bool,
    /// Whether a 429 has a `Retry-After`: the seconds until the window ends, rounded up.
    pub retry_after: bool,
}

impl Default for RateWindow {
    /// About what others see of the live API.
    fn default() -> Self {
        Self { limit: 60, seconds: 60, reset_in_seconds: false, without_headers: false, retry_after: false }
    }
}

/// What is left of an account's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowView {
    /// Calls in a window.
    pub limit: u32,
    /// Calls that are left.
    pub remaining: u32,
    /// When the window ends, in milliseconds since the epoch; none: the next call begins one.
    pub reset: Option<i64>,
}

/// An account's window, and what was spent of it. Times are milliseconds since the epoch.
#[derive(Debug)]
pub(crate) struct Spending {
    terms: RateWindow,
    spent: u32,
    ends: i64,
}

impl Spending {
    pub(crate) fn new(terms: RateWindow) -> Self {
        Self { terms, spent: 0, ends: i64::MIN }
    }

    pub(crate) fn spend(&mut self, calls: u32, now: i64) {
        if now >= self.ends {
            self.spent = 0;
            self.ends = now + 1000 * i64::from(self.terms.seconds);
        }
        self.spent = self.spent.saturating_add(calls);
    }

    /// Spends one call, and says what its answer tells of the window.
    pub(crate) fn take(&mut self, now: i64) -> Quota {
        self.spend(1, now);
        Quota { terms: self.terms, spent: self.spent, ends: self.ends, now }
    }

    /// Ends the window that runs.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.terms);
    }

    pub(crate) fn view(&self, now: i64) -> WindowView {
        let limit = self.terms.limit;
        if now >= self.ends {
            return WindowView { limit, remaining: limit, reset: None };
        }
        WindowView { limit, remaining: limit.saturating_sub(self.spent), reset: Some(self.ends) }
    }
}

/// The window as one call met it.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) terms: RateWindow,
    spent: u32,
    ends: i64,
    now: i64,
}

impl Quota {
    /// Whether the call is beyond the limit.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.spent > self.terms.limit
    }

    pub(crate) fn remaining(&self) -> u32 {
        self.terms.limit.saturating_sub(self.spent)
    }

    /// The window's end as answers tell it.
    pub(crate) fn reset(&self) -> i64 {
        if self.terms.reset_in_seconds { seconds(self.ends) } else { self.ends }
    }

    pub(crate) fn retry_after(&self) -> Option<i64> {
        self.terms.retry_after.then(|| seconds(self.ends - self.now))
    }
}

/// Rounded up: who comes back then finds a new window.
fn seconds(milliseconds: i64) -> i64 {
    (milliseconds + 999) / 1000
}
