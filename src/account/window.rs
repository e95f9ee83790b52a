//! An account's rate window: how many calls are left in it, by what DataFast's answers tell and what the account resource
//! allows. Calls are paced by it, so that a 429 is an exception.

use std::collections::VecDeque;
use std::time::Duration;

use crate::datafast::{Error, RateWindow};

/// `requestsPerMinute` counts the calls of so long.
const MINUTE: Duration = Duration::from_secs(60);

/// For what a call is made, in the order in which calls go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A token goes that leaked, or that nobody knows the key of.
    Leak,
    /// Somebody gets a key that works again.
    Restore,
    /// A token is replaced while it works, or is revoked because its user asks for that.
    Rotate,
    /// A first token.
    Issue,
    /// A former token goes.
    Retire,
    /// A list.
    List,
}

impl Urgency {
    /// How many calls of a window are kept for what is more urgent.
    fn reserve(self, limit: u32) -> u32 {
        match self {
            Self::Leak => 0,
            Self::Restore => limit / 20,
            Self::Rotate | Self::Issue | Self::Retire => limit / 10,
            Self::List => limit / 4,
        }
    }
}

/// By the steady clock.
#[derive(Debug, Default)]
pub(super) struct Window {
    told: Option<Told>,
    /// Calls that were sent and not answered yet: DataFast may not have counted them.
    under_way: u32,
    cap: Option<u32>,
    /// When calls were sent, within the last minute; only where there is a cap.
    sent: VecDeque<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    limit: u32,
    remaining: u32,
    ends: Duration,
}

impl Window {
    /// What of the window this account resource may use, in calls a minute; none: what is left in it.
    pub(super) fn set_cap(&mut self, cap: Option<u32>) {
        self.cap = cap;
        if cap.is_none() {
            self.sent.clear();
        }
    }

    /// Takes note that nothing counts that DataFast told another credential.
    pub(super) fn begin_anew(&mut self) {
        self.told = None;
    }

    /// A call is sent.
    pub(super) fn begins(&mut self, now: Duration) {
        self.under_way += 1;
        if self.cap.is_some() {
            self.sent.push_back(now);
        }
    }

    /// A call was not sent after all, or nobody waits for its answer.
    pub(super) fn cancelled(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// A call has ended; with what its answer told of the window, and how it failed.
    pub(super) fn answered(&mut self, heard: Option<RateWindow>, error: Option<&Error>, now: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        self.hear(heard, !matches!(error, Some(Error::Unavailable { .. })), now);
        if let (Some(Error::RateLimited { .. }), Some(told)) = (error, &mut self.told) {
            told.remaining = 0;
        }
    }

    fn hear(&mut self, heard: Option<RateWindow>, is_answered: bool, now: Duration) {
        match heard {
            Some(heard) => {
                let ends = now.saturating_add(heard.ends_in);
                let told = Told { limit: heard.limit, remaining: heard.remaining, ends };
                // Answers may overtake each other: of one window, the one that leaves the least is the newest.
                self.told = match self.told {
                    Some(before) if is_same(&before, &told) && before.remaining < told.remaining => Some(before),
                    _ => Some(told),
                };
            }
            // Answers no longer tell of one.
            None if is_answered && self.told.is_some_and(|told| now >= told.ends) => self.told = None,
            None => {}
        }
    }

    /// Whether a call may be sent now.
    pub(super) fn has_room(&mut self, urgency: Urgency, now: Duration) -> bool {
        self.has_room_in_cap(urgency, now)
            && match self.told {
                None => true,
                // It is over: one call finds out about the next one, so that a reset sets off no herd.
                Some(told) if now >= told.ends => self.under_way == 0,
                Some(told) => told.remaining.saturating_sub(self.under_way) > urgency.reserve(told.limit),
            }
    }

    fn has_room_in_cap(&mut self, urgency: Urgency, now: Duration) -> bool {
        self.sent.retain(|sent| now.saturating_sub(*sent) < MINUTE);
        self.cap.is_none_or(|cap| {
            let sent = u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
            cap.saturating_sub(sent) > urgency.reserve(cap)
        })
    }

    /// How many calls of this urgency may still be planned for now; none: as many as are wanted.
    pub(super) fn room(&mut self, urgency: Urgency, now: Duration) -> Option<u32> {
        self.sent.retain(|sent| now.saturating_sub(*sent) < MINUTE);
        let sent = u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
        let by_cap = self.cap.map(|cap| cap.saturating_sub(sent).saturating_sub(urgency.reserve(cap)));
        let by_window = self.told.map(|told| {
            let left = if now >= told.ends { told.limit } else { told.remaining };
            left.saturating_sub(self.under_way).saturating_sub(urgency.reserve(told.limit))
        });
        by_cap.into_iter().chain(by_window).min()
    }

    /// In how long there may be more room than now; none: no time changes that.
    pub(super) fn changes_in(&self, now: Duration) -> Option<Duration> {
        let by_window = self.told.map(|told| told.ends).filter(|ends| *ends > now);
        let by_cap = self.sent.front().filter(|_| self.cap.is_some()).map(|sent| *sent + MINUTE);
        let at = by_window.into_iter().chain(by_cap).min()?;
        Some(at.saturating_sub(now) + Duration::from_millis(1))
    }

    /// In how long there is room again, where there is none.
    pub(super) fn opens_in(&self, now: Duration) -> Duration {
        let by_window = self.told.map(|told| told.ends.saturating_sub(now)).unwrap_or_default();
        let oldest = self.sent.front().filter(|_| self.cap.is_some());
        let by_cap = oldest.map(|sent| (*sent + MINUTE).saturating_sub(now)).unwrap_or_default();
        let capped = self.cap.is_some_and(|cap| u32::try_from(self.sent.len()).unwrap_or(u32::MAX) >= cap);
        let used_up = self.told.is_some_and(|told| told.remaining.saturating_sub(self.under_way) == 0);
        match (capped, used_up) {
            (true, true) => by_window.max(by_cap),
            (true, false) => by_cap,
            _ => by_window.max(Duration::from_millis(50)),
        }
    }

    /// How many calls a minute can be planned for; none: no limit is known.
    pub(super) fn calls_per_minute(&self) -> Option<u32> {
        self.cap.into_iter().chain(self.told.map(|told| told.limit)).min()
    }

    /// The window as last told, and in how long it ends, for people.
    pub(super) fn shown(&self, now: Duration) -> Option<(u32, u32, Duration)> {
        let told = self.told?;
        (now < told.ends).then(|| (told.limit, told.remaining, told.ends - now))
    }
}

/// Whether two answers were about one window: its end is told to the second at best.
fn is_same(one: &Told, other: &Told) -> bool {
    one.limit == other.limit && one.ends.abs_diff(other.ends) < Duration::from_secs(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn heard(remaining: u32, ends_in: u64) -> Option<RateWindow> {
        Some(RateWindow { limit: 60, remaining, ends_in: at(ends_in) })
    }

    /// One call was made now, and told so much.
    fn told(remaining: u32, ends_in: u64) -> Window {
        let mut window = Window::default();
        window.begins(at(0));
        window.answered(heard(remaining, ends_in), None, at(0));
        window
    }

    fn sends(window: &mut Window, urgency: Urgency, now: Duration) -> u32 {
        let mut sent = 0;
        while sent < 1000 && window.has_room(urgency, now) {
            window.begins(now);
            sent += 1;
        }
        sent
    }

    #[test]
    fn where_no_answer_tells_of_a_window_none_is_assumed() {
        let mut window = Window::default();
        window.begins(at(0));
        window.answered(None, None, at(0));
        assert_eq!(sends(&mut window, Urgency::List, at(0)), 1000);
    }

    #[test]
    fn no_more_calls_go_than_are_left_and_the_last_ones_are_for_what_is_urgent() {
        assert_eq!(sends(&mut told(20, 30), Urgency::List, at(1)), 5);
        assert_eq!(sends(&mut told(20, 30), Urgency::Issue, at(1)), 14);
        assert_eq!(sends(&mut told(20, 30), Urgency::Leak, at(1)), 20);
        assert_eq!(sends(&mut told(0, 30), Urgency::Leak, at(29)), 0);
    }

    #[test]
    fn what_other_clients_spend_is_seen() {
        let mut window = told(50, 30);
        window.begins(at(1));
        window.answered(heard(3, 29), None, at(1));
        assert_eq!(sends(&mut window, Urgency::Leak, at(1)), 3);
    }

    #[test]
    fn answers_that_overtake_each_other_leave_the_least() {
        let mut window = told(9, 30);
        window.begins(at(0));
        window.answered(heard(12, 30), None, at(0));
        assert_eq!(sends(&mut window, Urgency::Leak, at(0)), 9);
    }

    #[test]
    fn after_its_end_one_call_finds_out_about_the_next_window() {
        let mut window = told(0, 30);
        assert_eq!(sends(&mut window, Urgency::Issue, at(30)), 1);
        window.answered(heard(59, 60), None, at(31));
        assert_eq!(sends(&mut window, Urgency::Issue, at(31)), 53);
        let mut silent = told(0, 30);
        silent.begins(at(30));
        silent.answered(None, None, at(30));
        assert_eq!(sends(&mut silent, Urgency::List, at(30)), 1000, "answers no longer tell of one");
    }

    #[test]
    fn the_cap_of_the_account_resource_counts_calls_of_a_minute() {
        let mut window = Window::default();
        window.set_cap(Some(5));
        assert_eq!(sends(&mut window, Urgency::Issue, at(0)), 5);
        assert_eq!(window.opens_in(at(20)), at(40));
        assert_eq!(sends(&mut window, Urgency::Issue, at(59)), 0);
        assert_eq!(sends(&mut window, Urgency::Issue, at(60)), 5);
        window.set_cap(Some(1));
        assert_eq!(sends(&mut window, Urgency::List, at(120)), 1, "even the smallest cap leaves lists");
    }
}
