//! When a rotation may begin: its time, and what of it windows hold back.

use std::cell::OnceCell;

use jiff::{SignedDuration, Timestamp};

use super::desired::Desired;
use super::local::Unsent;
use super::observed::{Due, Observed};
use super::record::{Attempt, Cause};
use super::windows::Calendar;

/// An attempt that was recorded inside a window is made again for so long after it has closed.
const CARRIES_ON: SignedDuration = SignedDuration::from_mins(10);
/// What this process has begun and not sent is sent all the same, if it was recorded within this time.
const STILL_BEGUN: SignedDuration = SignedDuration::from_hours(1);
/// Where no window opens in sight, one is searched for again.
const SEARCHES_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// When rotations of a resource begin.
pub(super) struct Timing<'a> {
    calendar: Calendar<'a>,
    /// Where `every` asks for one.
    due: Option<Due>,
    plan: Option<Plan>,
    now: Timestamp,
    /// When a rotation may begin, from now on, once that was searched for.
    opens: OnceCell<Option<Timestamp>>,
}

/// A rotation that waits for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Why it is to be.
    pub(super) cause: Cause,
    /// When it begins; none: no window opens in sight.
    pub(super) until: Option<Timestamp>,
    /// Since when the key is older than `every`.
    pub(super) overdue_since: Option<Timestamp>,
}

impl<'a> Timing<'a> {
    pub(super) fn new(desired: &'a Desired, seen: &Observed<'a>, now: Timestamp) -> Self {
        let calendar = Calendar { own: &desired.windows, account: seen.account.windows };
        let due = seen.due(&desired.rotation);
        let plan = due.as_ref().map(|due| Plan::new(&calendar, due, seen.owner.spread()));
        Self { calendar, due, plan, now, opens: OnceCell::new() }
    }

    /// Whether the clock asks for a rotation, be it that no window lets it begin.
    pub(super) fn is_due(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| self.now >= plan.at)
    }

    /// What is to be done about a cause that keeps to windows: now, or when.
    pub(super) fn begins(&self, cause: Cause, seen: &Observed<'_>) -> Result<Cause, Held> {
        if self.is_open() || self.has_begun(seen) {
            return Ok(cause);
        }
        let most = self.due.as_ref().map(|due| due.most);
        let overdue_since = most.filter(|most| *most <= self.now);
        Err(Held { cause, until: self.opens(), overdue_since })
    }

    /// When the next rotation begins, as far as can be told: the one that waits, or the next by time.
    pub(super) fn next(&self, held: Option<&Held>) -> Option<Timestamp> {
        if let Some(held) = held {
            return held.until;
        }
        let plan = self.plan.as_ref()?;
        match plan.at <= self.now {
            true if self.is_open() => Some(plan.at),
            true => self.opens(),
            false if plan.is_inside => Some(plan.at),
            false => self.calendar.opens(plan.at),
        }
    }

    /// Whether a rotation may begin now.
    fn is_open(&self) -> bool {
        self.calendar.is_empty() || self.opens() == Some(self.now)
    }

    /// When a rotation may begin, from now on.
    fn opens(&self) -> Option<Timestamp> {
        *self.opens.get_or_init(|| self.calendar.opens(self.now))
    }

    /// When to reconcile again for a rotation: when it begins, and, where no window opens in sight, to search again.
    pub(super) fn wakes(&self, held: Option<&Held>) -> Option<Timestamp> {
        let again = || self.now.saturating_add(SEARCHES_AGAIN).ok().filter(|_| held.is_some());
        self.next(held).or_else(again)
    }

    /// When the key is overdue: what is reported is another thing then.
    pub(super) fn overdue_at(&self) -> Option<Timestamp> {
        self.due.as_ref().map(|due| due.most).filter(|_| !self.calendar.is_empty())
    }

    /// What is in the way now, for people.
    pub(super) fn obstacle(&self, account: &str) -> Option<String> {
        self.calendar.obstacle(self.now, account)
    }

    /// Whether a rotation began inside a window and has not come to its end: the window's end does not cut it off. What
    /// DataFast has refused meanwhile begins anew.
    fn has_begun(&self, seen: &Observed<'_>) -> bool {
        let held = seen.secret_record().and_then(|record| record.attempt.as_ref());
        let is_rotation = |attempt: &&Attempt| keeps_to_windows(attempt.cause) && Some(&attempt.nonce) != held;
        let Some(current) = seen.log.current().filter(is_rotation) else { return false };
        let (local, age) = (seen.local, self.now.duration_since(current.at));
        let is_at_hand = |unsent: &Unsent| unsent.nonce == current.nonce;
        let is_unsent = local.unsent.as_ref().is_some_and(is_at_hand);
        let was_refused = local.rejected.is_some() || local.unserved.is_some();
        is_unsent && !was_refused && age < STILL_BEGUN || age < CARRIES_ON && self.calendar.allows(current.at)
    }
}

/// Whether a rotation for this cause waits for a window.
pub(super) fn keeps_to_windows(cause: Cause) -> bool {
    matches!(cause, Cause::ScopeChanged | Cause::RotateRequested | Cause::RotationDue)
}

/// When a rotation by time is to begin.
struct Plan {
    at: Timestamp,
    /// A window is open then, or there are none.
    is_inside: bool,
}

impl Plan {
    /// At its own time where the last window before the key is too old has that; otherwise late in that window, by the
    /// resource's share of what is left of it, so that not all begin at once. Without such a window it is late: it begins with
    /// the first one after.
    fn new(calendar: &Calendar<'_>, due: &Due, spread: u16) -> Self {
        if calendar.is_empty() {
            return Self { at: due.at, is_inside: true };
        }
        let Some((opens, closes)) = calendar.last_before(due.most, due.earliest) else {
            return Self { at: due.most, is_inside: false };
        };
        let opens = opens.max(closes.saturating_sub(due.slack).unwrap_or(opens));
        if (opens..closes).contains(&due.at) {
            return Self { at: due.at, is_inside: true };
        }
        let share = i128::from(spread) * closes.duration_since(opens).as_nanos() / (2 * i128::from(u16::MAX));
        let share = i64::try_from(share).map_or(SignedDuration::ZERO, SignedDuration::from_nanos);
        Self { at: opens.saturating_add(share).unwrap_or(opens), is_inside: true }
    }
}
