//! How soon a token may be issued again, so that a tool that fights over a Secret can't drain the account.

use jiff::{SignedDuration, Timestamp};

use super::record::{Cause, Log};

/// After a day without issuing again, the first time is at once again.
const QUIET: SignedDuration = SignedDuration::from_hours(24);
const LONGEST_MINUTES: i64 = 60;

fn is_again(cause: Cause) -> bool {
    matches!(cause, Cause::KeyLost | Cause::Vanished)
}

/// Whether an entry of the log still counts here, and so is to be kept.
pub fn counts(cause: Cause, at: Timestamp, now: Timestamp) -> bool {
    is_again(cause) && now.duration_since(at) < QUIET
}

/// The earliest time at which a vanished token or a lost key may be answered by a new token: at once, then 1, 2, 4 …
/// 60 minutes after the last time. `None`: at once. The log is the memory, so a restart forgets nothing.
pub fn not_before(log: &Log, now: Timestamp) -> Option<Timestamp> {
    let recent = log.0.iter().filter(|a| counts(a.cause, a.at, now));
    let (count, last) = recent.fold((0_u32, None), |(n, _), a| (n + 1, Some(a.at)));
    let minutes = LONGEST_MINUTES.min(1 << count.saturating_sub(1).min(6));
    last.and_then(|last| last.checked_add(SignedDuration::from_mins(minutes)).ok()).filter(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::marker::Nonce;
    use crate::lifecycle::record::{Attempt, Requests};

    fn entry(nonce: Nonce, at: Timestamp, cause: Cause) -> Attempt {
        Attempt { nonce, at, cause, requests: Requests::default(), rolls: None }
    }

    #[test]
    fn issuing_again_backs_off_from_at_once_to_an_hour() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut log = Log::default();
        let mut now = start;
        let mut waits = Vec::new();
        for n in 0..9_u8 {
            let next = not_before(&log, now).unwrap_or(now);
            waits.push(next.duration_since(now).as_mins());
            now = next;
            log.0.push(entry(Nonce::from_random([n; 7]), now, Cause::KeyLost));
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(not_before(&log, now + SignedDuration::from_hours(24)), None, "a quiet day later: at once");
    }

    #[test]
    fn a_first_token_and_a_change_of_scope_do_not_count() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let entry = |cause| entry(Nonce::from_random([0; 7]), now, cause);
        assert_eq!(not_before(&Log(vec![entry(Cause::New), entry(Cause::ScopeChanged)]), now), None);
    }
}
