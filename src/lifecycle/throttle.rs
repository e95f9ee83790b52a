//! How soon a token may be issued again, so that neither a tool that fights over a Secret nor one that asks in a loop can
//! drain the account.

use jiff::{SignedDuration, Timestamp};

use super::record::{Attempt, Cause, Log};

/// What makes the operator issue, by how often it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    /// So many are at once.
    burst: u32,
    /// After that pauses are 1, 2, 4 … minutes, and not longer than this.
    longest_minutes: i64,
    /// After so long without one, it begins anew.
    quiet: SignedDuration,
    /// So far back they are counted.
    memory: SignedDuration,
}

/// A lost key or a vanished token: once in a while that happens.
const AGAIN: Limit = Limit {
    burst: 1,
    longest_minutes: 60,
    quiet: SignedDuration::from_hours(24),
    memory: SignedDuration::from_hours(24),
};
/// A rotation by annotation, or another scope.
const ASKED: Limit = Limit {
    burst: 3,
    longest_minutes: 15,
    quiet: SignedDuration::from_mins(30),
    memory: SignedDuration::from_hours(2),
};
/// A leak, by annotation.
const LEAKED: Limit = Limit { burst: 5, ..ASKED };

/// The limit for a cause. None: what the operator does by itself, or only once.
fn limit(cause: Cause) -> Option<Limit> {
    match cause {
        Cause::KeyLost | Cause::Vanished => Some(AGAIN),
        Cause::RotateRequested | Cause::ScopeChanged => Some(ASKED),
        Cause::RevokeNow => Some(LEAKED),
        Cause::New | Cause::Revoked | Cause::RotationDue | Cause::Unknown => None,
    }
}

/// Whether an entry of the log still counts here, and so is to be kept.
pub fn counts(attempt: &Attempt, now: Timestamp) -> bool {
    limit(attempt.cause).is_some_and(|limit| now.duration_since(attempt.at) < limit.memory)
}

/// The earliest time at which another token may be issued for `cause`. `None`: at once. The log is the memory, so a
/// restart forgets nothing.
pub fn not_before(log: &Log, cause: Cause, now: Timestamp) -> Option<Timestamp> {
    let of = limit(cause)?;
    // Who alternates between annotation and scope asks as often as who does not.
    let recent = log.0.iter().filter(|attempt| {
        let is_alike = limit(attempt.cause).is_some_and(|other| other.quiet == of.quiet);
        is_alike && now.duration_since(attempt.at) < of.memory
    });
    let (count, last) = recent.fold((0_u32, None), |(n, _), attempt| (n + 1, Some(attempt.at)));
    let last = last.filter(|last| now.duration_since(*last) < of.quiet)?;
    let beyond = count.checked_sub(of.burst)?;
    let minutes = of.longest_minutes.min(1 << beyond.min(6));
    last.checked_add(SignedDuration::from_mins(minutes)).ok().filter(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::marker::Nonce;
    use crate::lifecycle::record::Requests;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn entry(n: u8, at: Timestamp, cause: Cause) -> Attempt {
        Attempt { nonce: Nonce::from_random([n; 7]), at, cause, requests: Requests::default(), rolls: None }
    }

    /// The pauses, in minutes, of one that asks again as soon as it may.
    fn pauses(causes: &[Cause]) -> (Vec<i64>, Log, Timestamp) {
        let (mut log, mut now, mut pauses) = (Log::default(), start(), Vec::new());
        for (n, cause) in causes.iter().enumerate() {
            let next = not_before(&log, *cause, now).unwrap_or(now);
            pauses.push(next.duration_since(now).as_mins());
            now = next;
            log.0.push(entry(u8::try_from(n).unwrap(), now, *cause));
        }
        (pauses, log, now)
    }

    #[test]
    fn issuing_again_backs_off_from_at_once_to_an_hour() {
        let (waits, log, now) = pauses(&[Cause::KeyLost; 9]);
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        let day_later = now + SignedDuration::from_hours(24);
        assert_eq!(not_before(&log, Cause::Vanished, day_later), None, "a quiet day later: at once");
    }

    #[test]
    fn what_users_ask_for_comes_at_once_some_times_and_then_ever_later() {
        let (waits, log, now) = pauses(&[Cause::RotateRequested; 9]);
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 15, 15]);
        assert_eq!(not_before(&log, Cause::ScopeChanged, now + SignedDuration::from_mins(30)), None);
        assert_eq!(pauses(&[Cause::RevokeNow; 8]).0, [0, 0, 0, 0, 0, 1, 2, 4]);
    }

    #[test]
    fn to_ask_in_another_way_is_to_ask_again() {
        let mixed = [Cause::RotateRequested, Cause::ScopeChanged].repeat(3);
        assert_eq!(pauses(&mixed).0, [0, 0, 0, 1, 2, 4]);
        let (_, log, now) = pauses(&[Cause::RotateRequested; 4]);
        assert_eq!(not_before(&log, Cause::RevokeNow, now), None, "but a leak has more room");
        assert_eq!(not_before(&log, Cause::KeyLost, now), None);
    }

    #[test]
    fn a_first_token_and_the_clock_do_not_count() {
        let log = Log(vec![entry(0, start(), Cause::New), entry(1, start(), Cause::RotationDue)]);
        for cause in [Cause::New, Cause::KeyLost, Cause::ScopeChanged, Cause::RotationDue] {
            assert_eq!(not_before(&log, cause, start()), None, "{cause:?}");
        }
    }
}
