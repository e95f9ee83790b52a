//! One window: when it opens, and until when it stays open.

use cronexpr::{Crontab, MakeTimestamp, parse_crontab};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, AmbiguousTimestamp, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::flaw::Fault;
use crate::api::RotationWindow;

/// A time during which a window is open without a break: from the first up to, but not including, the second.
pub(super) type Run = (Timestamp, Timestamp);

/// Calendars repeat after 28 years, but for centuries: what does not come in these never does.
const YEARS_OF_A_CYCLE: i64 = 28;
/// Days tried on the way back in time.
const MOST_DAYS_BACK: usize = 5 * 366;
const MINUTES_OF_A_DAY: i64 = 24 * 60;
/// How far the date may be another one in a time zone, and because of a clock that is put forward.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);

/// A window, parsed.
///
/// The schedule is applied to the calendar first and to the time zone then, so that a time of day that does not exist because
/// the clock is put forward is as much later, and one that comes twice opens the window twice.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Midnight of each day on which it opens, as if the time zone were UTC.
    days: Crontab,
    /// The minutes of such a day at which it opens, in order.
    minutes: Vec<i64>,
    duration: SignedDuration,
    zone: TimeZone,
}

impl Window {
    pub(super) fn parse(window: &RotationWindow) -> Result<Self, Fault> {
        let schedule = || ("schedule", window.schedule.clone());
        let duration = window.duration.parse::<kube::core::Duration>().ok();
        let duration = duration.and_then(|duration| SignedDuration::try_from(std::time::Duration::from(duration)).ok());
        let (least, most) = (SignedDuration::from_mins(1), SignedDuration::from_hours(168));
        let fits = |duration: &SignedDuration| (least..=most).contains(duration);
        let duration = duration.filter(fits).ok_or_else(|| {
            let remedy = "it must be a duration of 1m to 168h, such as 4h";
            Fault::new("duration", window.duration.clone(), remedy)
        })?;
        let zone = TimeZone::get(window.time_zone()).map_err(|_| {
            let remedy = "there is no such IANA time zone: write one such as Europe/Berlin or UTC";
            Fault::new("timeZone", window.time_zone().to_owned(), remedy)
        })?;
        let fields: Vec<&str> = window.schedule.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            let remedy = "it must have the five fields of cron, such as 0 2 * * SAT";
            return Err(Fault::of(schedule(), remedy));
        };
        let parse = |text: String| {
            parse_crontab(&text).map_err(|_| {
                let remedy =
                    "it can't be parsed: write five fields of cron, such as 0 2 * * SAT, with ranges that ascend";
                Fault::of(schedule(), remedy)
            })
        };
        let days = parse(format!("0 0 {day} {month} {weekday} UTC"))?;
        let minutes = matching(&parse(format!("{minute} 0 * * * UTC"))?, 60, 1);
        let hours = matching(&parse(format!("0 {hour} * * * UTC"))?, 24, 60);
        if !comes(&days) {
            return Err(Fault::of(schedule(), "it never comes: there is no such day; choose another day of the month"));
        }
        let minutes = hours.iter().flat_map(|hour| minutes.iter().map(move |minute| hour + minute)).collect();
        Ok(Self { days, minutes, duration, zone })
    }

    /// Until when it is open at least, where it is open at a time.
    pub(super) fn closes(&self, at: Timestamp) -> Option<Timestamp> {
        let oldest = self.oldest(at);
        // What opened last closes last.
        let days = self.date(at, SignedDuration::ZERO).series(-1.day()).take_while(|day| *day >= oldest);
        let open = |(opens, closes): &Run| *opens <= at && at < *closes;
        days.map(|day| self.runs_of(day)).find_map(|runs| runs.into_iter().rfind(open)).map(|(_, closes)| closes)
    }

    /// Since when it was open at least, where it was right before a time.
    pub(super) fn opened(&self, at: Timestamp) -> Option<Timestamp> {
        let last = self.date(at, SignedDuration::ZERO);
        // What opened first was open the longest.
        let days = self.oldest(at).series(1.day()).take_while(|day| *day <= last);
        let open = |(opens, closes): &Run| *opens < at && at <= *closes;
        days.map(|day| self.runs_of(day)).find_map(|runs| runs.into_iter().find(open)).map(|(opens, _)| opens)
    }

    /// What opened on an earlier day is closed by then.
    fn oldest(&self, at: Timestamp) -> Date {
        self.date(at, -(self.duration + A_DAY))
    }

    /// When it opens next after a time.
    pub(super) fn opens_after(&self, at: Timestamp) -> Option<Timestamp> {
        let mut day = self.date(at, -A_DAY);
        // The first days may be before that time still.
        for _ in 0..5 {
            day = self.next_day(day)?;
            if let Some((opens, _)) = self.runs_of(day).into_iter().find(|(opens, _)| *opens > at) {
                return Some(opens);
            }
        }
        None
    }

    /// When it closed last before a time, where that is after `past`.
    pub(super) fn closed_before(&self, at: Timestamp, past: Timestamp) -> Option<Timestamp> {
        let days = self.date(at, A_DAY).series(-1.day()).take(MOST_DAYS_BACK);
        let oldest = self.date(past, -(self.duration + A_DAY));
        let mut days = days.take_while(|day| *day >= oldest);
        let closed = |day: Date| self.runs_of(day).into_iter().map(|(_, closes)| closes).filter(|it| *it < at).max();
        let found = days.by_ref().find_map(closed)?;
        // A clock that is put back has one day reach into the next.
        let before = days.next().and_then(closed);
        before.into_iter().chain([found]).max().filter(|closed| *closed > past)
    }

    /// The date where it is, somewhat before or after a time.
    fn date(&self, at: Timestamp, offset: SignedDuration) -> Date {
        let at = at.saturating_add(offset).unwrap_or(at);
        self.zone.to_datetime(at).date()
    }

    fn next_day(&self, after: Date) -> Option<Date> {
        // The search looks four years ahead, and panics at the end of all time.
        if after.year() > Date::MAX.year() - 8 {
            return None;
        }
        let next = self.days.find_next(MakeTimestamp(midnight(after)?)).ok()?;
        Some(next.date())
    }

    /// The runs that begin on a day, in order. Those that touch are one.
    fn runs_of(&self, day: Date) -> Vec<Run> {
        let is_one = midnight(day).is_some_and(|at| self.days.matches(MakeTimestamp(at)).unwrap_or(false));
        if !is_one {
            return Vec::new();
        }
        match self.steady_offset(day) {
            Some(first) => self.runs_by_the_clock(first),
            None => self.runs_by_each_start(day),
        }
    }

    /// When it opens first on a day on which no clock is changed while it does.
    fn steady_offset(&self, day: Date) -> Option<Timestamp> {
        let (first, last) = (*self.minutes.first()?, *self.minutes.last()?);
        let [first, last] = [first, last].map(|minute| self.zone.to_ambiguous_timestamp(time_of(day, minute)));
        let is_steady = !first.is_ambiguous() && !last.is_ambiguous() && first.offset() == last.offset();
        is_steady.then(|| first.compatible().ok()).flatten()
    }

    fn runs_by_the_clock(&self, first: Timestamp) -> Vec<Run> {
        let offset = self.minutes.first().copied().unwrap_or_default();
        let start = |minute: &i64| first.saturating_add(SignedDuration::from_mins(minute - offset)).unwrap_or(first);
        joined(self.minutes.iter().map(start), self.duration)
    }

    fn runs_by_each_start(&self, day: Date) -> Vec<Run> {
        let starts = self.minutes.iter().flat_map(|minute| {
            let at = self.zone.to_ambiguous_timestamp(time_of(day, *minute));
            let second = is_fold(&at).then(|| at.later().ok()).flatten();
            at.compatible().ok().into_iter().chain(second)
        });
        let mut starts: Vec<Timestamp> = starts.collect();
        starts.sort();
        joined(starts.into_iter(), self.duration)
    }
}

fn joined(starts: impl Iterator<Item = Timestamp>, duration: SignedDuration) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for opens in starts {
        let closes = opens.saturating_add(duration).unwrap_or(Timestamp::MAX);
        match runs.last_mut() {
            Some(last) if opens <= last.1 => last.1 = closes.max(last.1),
            _ => runs.push((opens, closes)),
        }
    }
    runs
}

/// The minutes of a day, one each `step`, that a schedule has.
fn matching(schedule: &Crontab, count: i64, step: i64) -> Vec<i64> {
    let is_one = |minute: &i64| {
        let at = Timestamp::from_second(minute * 60).map(MakeTimestamp);
        at.is_ok_and(|at| schedule.matches(at).unwrap_or(false))
    };
    (0..count).map(|n| n * step).filter(is_one).collect()
}

/// Whether there are such days at all. The search for one ends after four years.
fn comes(days: &Crontab) -> bool {
    let years = (2000..2000 + YEARS_OF_A_CYCLE).step_by(4).filter_map(|year| i16::try_from(year).ok());
    let mut starts = years.filter_map(|year| midnight(jiff::civil::date(year, 1, 1).yesterday().ok()?));
    starts.any(|at| days.find_next(MakeTimestamp(at)).is_ok())
}

/// Whether it comes twice, for the clock is put back.
fn is_fold(at: &AmbiguousTimestamp) -> bool {
    matches!(at.offset(), AmbiguousOffset::Fold { .. })
}

fn midnight(day: Date) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(day.to_datetime(Time::midnight())).ok()
}

fn time_of(day: Date, minute: i64) -> DateTime {
    let minute = minute.rem_euclid(MINUTES_OF_A_DAY);
    let part = |value: i64| i8::try_from(value).unwrap_or_default();
    day.at(part(minute / 60), part(minute % 60), 0, 0)
}
