//! Whether an account may be called: one state for all its calls, so that a refusal of one holds back the others.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};

use crate::datafast::{Collection, Error};

/// DataFast states no limits: the first pause is a second, the longest five minutes.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));
/// As long as `Retry-After` is honoured at most.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// Changes of one account under way at once, where all is well.
pub(super) const MOST_CALLS: u32 = 4;
/// A refused credential is tried again this much later, for it may be DataFast that was mended.
const CREDENTIALS_AGAIN: Duration = Duration::from_secs(5 * 60);

fn pauses() -> ExponentialBackoff {
    let (first, longest) = PAUSES;
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Why an account may not be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 429.
    RateLimited,
    /// 5xx, nothing, or nonsense; what happened.
    Unavailable(String),
    /// 401, or a credential that may not even list; DataFast's words.
    CredentialsRejected(String),
    /// A website's keys may not be listed; DataFast's words.
    Refused(String),
}

/// The gate of an account, or of one website of it. It closes at a call that fails for a reason that concerns all calls,
/// and only a list opens it: of all calls, that one has no effect that could be lost.
#[derive(Debug)]
pub(super) struct Gate {
    opened_by: Call,
    closed: Option<(Trouble, Timestamp)>,
    pauses: ExponentialBackoff,
    /// What failed last: that other calls work proves little, but of a list that failed, any proves enough.
    failed: Option<Call>,
    /// Changes that may be under way at once: one after a failure, and twice as many after each that succeeds.
    calls: u32,
}

impl Gate {
    /// An open one, that this list opens again.
    pub(super) fn new(opened_by: Call) -> Self {
        Self { opened_by, closed: None, pauses: pauses(), failed: None, calls: MOST_CALLS }
    }
}

/// What a call was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A list of the account's tokens.
    List,
    /// A list of a website's keys.
    ListKeys,
    /// A token that is issued.
    Create,
    /// Anything else.
    Change,
    /// A website's key that is issued or rolled.
    CreateKey,
    /// Anything else about a website's keys.
    ChangeKey,
}

impl Call {
    /// A call of one kind, told apart by where it is made: that tokens can be issued proves nothing for keys.
    pub(super) fn of(self, collection: &Collection) -> Self {
        match (self, collection) {
            (call, Collection::AccessTokens) => call,
            (Self::List | Self::ListKeys, Collection::WebsiteKeys(_)) => Self::ListKeys,
            (Self::Create | Self::CreateKey, Collection::WebsiteKeys(_)) => Self::CreateKey,
            (Self::Change | Self::ChangeKey, Collection::WebsiteKeys(_)) => Self::ChangeKey,
        }
    }
}

impl Gate {
    /// Why calls are held back, and until when; then a list is to find out whether they may go on.
    pub(super) fn closed(&self) -> Option<&(Trouble, Timestamp)> {
        self.closed.as_ref()
    }

    /// Takes note of the time. No pause is longer than DataFast may ask for; where one seems to be, the clock was set back.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if let Some((_, until)) = &mut self.closed {
            *until = (*until).min(now.saturating_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX));
        }
    }

    /// The list that is to find out whether calls may go on has no room now.
    pub(super) fn postpone(&mut self, at: Timestamp) {
        if let Some((_, until)) = &mut self.closed {
            *until = at.max(*until);
        }
    }

    /// How many changes may be under way at once.
    pub(super) fn calls(&self) -> u32 {
        self.calls
    }

    /// Takes note of a call that DataFast answered in an orderly way.
    pub(super) fn succeeded(&mut self, call: Call) {
        if self.failed.is_none_or(|failed| failed == call || failed == self.opened_by) {
            self.pauses = pauses();
            self.failed = None;
        }
        match call {
            call if call == self.opened_by => self.closed = None,
            Call::List | Call::ListKeys => {}
            _ => self.calls = MOST_CALLS.min(self.calls * 2),
        }
    }

    /// Takes note of a failed call.
    pub(super) fn failed(&mut self, call: Call, error: &Error, now: Timestamp) {
        let trouble = match error {
            Error::RateLimited { .. } => Trouble::RateLimited,
            Error::CredentialsRejected { message } => Trouble::CredentialsRejected(message.clone()),
            Error::Unavailable { reason, .. } => Trouble::Unavailable(reason.clone()),
            // A credential that may not list can't be used at all.
            Error::Rejected { status: 403, message } if call == Call::List => {
                Trouble::CredentialsRejected(message.clone())
            }
            Error::Rejected { message, .. } if call == Call::ListKeys => Trouble::Refused(message.clone()),
            Error::NotFound if call == Call::ListKeys => Trouble::Refused("there is no such website".into()),
            other if call == self.opened_by => Trouble::Unavailable(other.to_string()),
            // The answer concerns this one request: others may go on.
            Error::Rejected { .. } | Error::Full { .. } | Error::NotFound => return self.succeeded(call),
        };
        // Those that were under way together fail together, and only once.
        let is_new = self.closed.is_none() || call == self.opened_by;
        if call != self.opened_by || self.failed.is_none() {
            self.failed = Some(call);
        }
        self.calls = 1;
        let pause = match (error, &trouble) {
            (Error::RateLimited { retry_after: Some(pause) }, _) => (*pause).max(PAUSES.0),
            (_, Trouble::CredentialsRejected(_)) => CREDENTIALS_AGAIN,
            _ if !is_new => Duration::ZERO,
            _ => self.pauses.next().unwrap_or(PAUSES.1).min(PAUSES.1),
        };
        let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let later = self.closed.as_ref().map_or(until, |(_, before)| until.max(*before));
        self.closed = Some((trouble, later));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datafast::Effect;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn seconds_closed(gate: &Gate) -> f64 {
        let (_, until) = gate.closed().expect("the gate is closed");
        until.duration_since(now()).as_secs_f64()
    }

    #[test]
    fn retry_after_is_honoured() {
        let mut gate = Gate::new(Call::List);
        gate.failed(Call::Change, &Error::RateLimited { retry_after: Some(Duration::from_secs(90)) }, now());
        assert_eq!(gate.closed().map(|(trouble, _)| trouble), Some(&Trouble::RateLimited));
        assert_eq!(seconds_closed(&gate), 90.0);
    }

    #[test]
    fn without_it_pauses_grow_from_a_second_to_five_minutes() {
        let mut gate = Gate::new(Call::List);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            gate.closed = None;
            gate.failed(Call::List, &Error::RateLimited { retry_after: None }, now());
            pauses.push(seconds_closed(&gate));
        }
        assert!((1.0..3.0).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= 300.0) && pauses[11] == 300.0, "{pauses:?}");
        gate.succeeded(Call::List);
        gate.failed(Call::List, &Error::RateLimited { retry_after: None }, now());
        assert!(seconds_closed(&gate) < 3.0, "after a success it begins anew");
    }

    #[test]
    fn a_list_opens_the_gate_but_does_not_shorten_the_pauses_of_failing_changes() {
        let mut gate = Gate::new(Call::List);
        let broken = Error::Unavailable { reason: "503".into(), effect: Effect::Unknown };
        for _ in 0..6 {
            gate.failed(Call::Change, &broken, now());
            gate.succeeded(Call::List);
            assert_eq!(gate.closed(), None);
        }
        gate.failed(Call::Change, &broken, now());
        assert!(seconds_closed(&gate) >= 32.0);
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let mut gate = Gate::new(Call::List);
        let broken = Error::Unavailable { reason: "503".into(), effect: Effect::Unknown };
        for _ in 0..4 {
            gate.failed(Call::Create, &broken, now());
        }
        assert!(seconds_closed(&gate) < 3.0);
        gate.failed(Call::List, &broken, now());
        assert!(seconds_closed(&gate) >= 2.0, "the list that was to open it failed too");
        gate.failed(Call::Create, &Error::RateLimited { retry_after: Some(Duration::from_secs(90)) }, now());
        assert_eq!(seconds_closed(&gate), 90.0, "what DataFast asks for counts whenever it says so");
    }

    #[test]
    fn revocations_that_work_do_not_shorten_the_pauses_of_failing_requests_for_tokens() {
        let mut gate = Gate::new(Call::List);
        let broken = Error::Unavailable { reason: "no answer".into(), effect: Effect::Unknown };
        for _ in 0..6 {
            gate.failed(Call::Create, &broken, now());
            gate.succeeded(Call::List);
            gate.succeeded(Call::Change);
        }
        gate.failed(Call::Create, &broken, now());
        assert!(seconds_closed(&gate) >= 32.0);
        gate.succeeded(Call::List);
        gate.succeeded(Call::Create);
        gate.failed(Call::Create, &broken, now());
        assert!(seconds_closed(&gate) < 3.0);
    }

    #[test]
    fn after_a_failure_calls_resume_gradually() {
        let mut gate = Gate::new(Call::List);
        assert_eq!(gate.calls(), MOST_CALLS);
        gate.failed(Call::List, &Error::RateLimited { retry_after: None }, now());
        gate.succeeded(Call::List);
        let calls = [0; 4].map(|_| {
            let calls = gate.calls();
            gate.succeeded(Call::Change);
            calls
        });
        assert_eq!(calls, [1, 2, 4, 4]);
    }

    #[test]
    fn what_concerns_one_request_closes_nothing() {
        let mut gate = Gate::new(Call::List);
        gate.failed(Call::Change, &Error::NotFound, now());
        gate.failed(Call::Change, &Error::Rejected { status: 400, message: "no".into() }, now());
        assert_eq!(gate.closed(), None);
    }
}
