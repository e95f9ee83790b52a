//! The time, as an argument: tests move it, and a wall clock that is set does no harm.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// By the wall clock, which people and NTP may set.
    fn now(&self) -> Timestamp;
    /// Since some time in the past, by a clock that nobody can set.
    fn steady(&self) -> Duration;
}

/// This machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn steady(&self) -> Duration {
        self.0.elapsed()
    }
}
