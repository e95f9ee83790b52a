//! Windows: when they are open, when a rotation is planned, and what never waits for one.

use cronexpr::{MakeTimestamp, parse_crontab};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::api::RotationWindow;
use crate::lifecycle::decision::{Action, Decision};
use crate::lifecycle::facts::facts;
use crate::lifecycle::record::Cause;
use crate::lifecycle::windows::{Calendar, Windows};

use super::random;
use super::random::windows::window;
use super::scenes::*;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn windows(list: &[RotationWindow]) -> Windows {
    let windows = Windows::parse(list);
    assert_eq!(windows.flaw(), None, "{list:?}");
    windows
}

pub(super) fn calendar(own: &Windows) -> Calendar<'_> {
    Calendar { own, account: None }
}

/// Each time, from one to another, at which what is allowed changes.
fn changes(list: &[RotationWindow], from: &str, to: &str) -> Vec<String> {
    let parsed = windows(list);
    let calendar = calendar(&parsed);
    let (from, to) = (at(from), at(to));
    let minutes = (0..).map(|n| from + SignedDuration::from_mins(n)).take_while(|at| *at < to);
    let mut is_open = calendar.allows(from);
    minutes
        .filter(|at| std::mem::replace(&mut is_open, calendar.allows(*at)) != is_open)
        .map(|at| at.to_string())
        .collect()
}

#[test]
fn a_window_is_open_by_the_clock_of_its_time_zone() {
    let nights = [window("Allow", "0 2 * * 1-5", "90m", "Europe/Berlin")];
    assert_eq!(
        changes(&nights, "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"),
        ["2026-01-02T01:00:00Z", "2026-01-02T02:30:00Z"]
    );
    assert_eq!(changes(&nights, "2026-07-03T00:00:00Z", "2026-07-04T00:00:00Z"), ["2026-07-03T01:30:00Z"]);
    assert!(changes(&nights, "2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z").is_empty(), "a weekend");
}

/// On 29 March 2026 the clocks of Berlin go from 2:00 to 3:00, which is 1:00 UTC.
#[test]
fn a_time_that_does_not_exist_is_as_much_later_as_the_clock_is_put_forward() {
    let [allow, deny] = ["Allow", "Deny"].map(|kind| window(kind, "30 2 * * *", "1h", "Europe/Berlin"));
    let changed = ["2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"];
    for list in [allow, deny] {
        assert_eq!(changes(&[list], "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"), changed);
    }
}

/// On 25 October 2026 the clocks of Berlin go from 3:00 to 2:00, which is 1:00 UTC.
#[test]
fn a_time_that_comes_twice_opens_a_window_twice() {
    let list = [window("Allow", "30 2 * * *", "20m", "Europe/Berlin")];
    let changed = ["2026-10-25T00:30:00Z", "2026-10-25T00:50:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:50:00Z"];
    assert_eq!(changes(&list, "2026-10-25T00:00:00Z", "2026-10-25T12:00:00Z"), changed);
}

/// Samoa had no 30 December 2011.
#[test]
fn a_day_that_does_not_exist_denies_no_less() {
    let list = [window("Deny", "0 12 30 12 *", "2h", "Pacific/Apia")];
    assert_eq!(changes(&list, "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z").len(), 2);
}

#[test]
fn deny_beats_allow_and_both_lists_must_allow() {
    let own = windows(&[window("Allow", "0 0 * * *", "12h", "UTC"), window("Deny", "0 6 * * *", "1h", "UTC")]);
    let account = windows(&[window("Allow", "0 5 * * *", "24h", "UTC"), window("Deny", "0 11 * * *", "1h", "UTC")]);
    let both = Calendar { own: &own, account: Some(&account) };
    let open: Vec<i8> = (0..24).filter(|hour| both.allows(at(&format!("2026-01-01T{hour:02}:30:00Z")))).collect();
    assert_eq!(open, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]);
    assert_eq!(both.opens(at("2026-01-01T06:10:00Z")), Some(at("2026-01-01T07:00:00Z")));
    assert_eq!(both.opens(at("2026-01-01T11:10:00Z")), Some(at("2026-01-02T00:00:00Z")));
    let last = |end, past| both.last_before(at(end), at(past));
    let from = "2026-01-01T00:00:00Z";
    assert_eq!(last("2026-01-01T20:00:00Z", from), Some((at("2026-01-01T07:00:00Z"), at("2026-01-01T11:00:00Z"))));
    assert_eq!(last("2026-01-01T08:00:00Z", from), Some((at("2026-01-01T07:00:00Z"), at("2026-01-01T08:00:00Z"))));
    assert_eq!(last("2026-01-01T20:00:00Z", "2026-01-01T11:00:00Z"), None);
}

#[test]
fn what_can_not_be_used_is_named_with_its_value_and_what_to_write_instead() {
    let flaw = |wrong: RotationWindow| {
        Windows::parse(&[window("Allow", "0 2 * * *", "1h", "UTC"), wrong]).flaw().unwrap().to_string()
    };
    for (wrong, said) in [
        (window("Maybe", "0 2 * * *", "1h", "UTC"), "[1].kind \"Maybe\": it must be Allow or Deny"),
        (window("Deny", "0 2 30 2 *", "1h", "UTC"), "[1].schedule \"0 2 30 2 *\": it never comes"),
        (window("Deny", "0 2 31 4,6 */1", "1h", "UTC"), "[1].schedule \"0 2 31 4,6 */1\": it never comes"),
        (window("Deny", "0 22-6 * * *", "1h", "UTC"), "[1].schedule \"0 22-6 * * *\": it can't be parsed"),
        (window("Deny", "0 2 * *", "1h", "UTC"), "[1].schedule \"0 2 * *\": it must have the five fields"),
        (window("Deny", "@daily", "1h", "UTC"), "[1].schedule \"@daily\": it must have the five fields"),
        (window("Deny", "0 2 * * *", "169h", "UTC"), "[1].duration \"169h\": it must be a duration of 1m to 168h"),
        (window("Deny", "0 2 * * *", "soon", "UTC"), "[1].duration \"soon\": it must be a duration of 1m to 168h"),
        (window("Deny", "0 2 * * *", "1h", "Europe/Berln"), "[1].timeZone \"Europe/Berln\": there is no such IANA"),
    ] {
        let flaw = flaw(wrong);
        assert!(flaw.starts_with(said), "{flaw}");
    }
}

#[test]
fn what_comes_seldom_comes_all_the_same() {
    for schedule in ["0 2 29 2 *", "0 2 29 2 */7", "0 2 30 2 1", "*/59 */23 */31 */12 */7"] {
        windows(&[window("Allow", schedule, "1h", "UTC")]);
    }
}

/// A window is open at a time if it opened at one of the minutes before: told without any search.
fn is_open(window: &RotationWindow, at: Timestamp) -> bool {
    let schedule = parse_crontab(&format!("{} UTC", window.schedule)).unwrap();
    let zone = TimeZone::get(window.time_zone()).unwrap();
    let duration =
        SignedDuration::try_from(std::time::Duration::from(window.duration.parse::<kube::core::Duration>().unwrap()))
            .unwrap();
    let oldest = zone.to_datetime(at - duration - SignedDuration::from_hours(25));
    let mut civil = TimeZone::UTC.to_timestamp(oldest).unwrap();
    let last = TimeZone::UTC.to_timestamp(zone.to_datetime(at + SignedDuration::from_hours(25))).unwrap();
    while let Ok(next) = schedule.find_next(MakeTimestamp(civil)) {
        civil = next.timestamp();
        if civil > last {
            return false;
        }
        let start = zone.to_ambiguous_timestamp(next.datetime());
        let starts = [
            start.compatible().unwrap(),
            if matches!(start.offset(), AmbiguousOffset::Fold { .. }) {
                start.later().unwrap()
            } else {
                start.compatible().unwrap()
            },
        ];
        if starts.iter().any(|start| *start <= at && at < *start + duration) {
            return true;
        }
    }
    false
}

fn allows(list: &[RotationWindow], at: Timestamp) -> bool {
    let open = |kind: &str| list.iter().filter(|window| window.kind == kind).any(|window| is_open(window, at));
    let has_allow = list.iter().any(|window| window.kind == "Allow");
    !open("Deny") && (!has_allow || open("Allow"))
}

/// Around the days on which clocks are changed, and others.
fn times() -> impl Strategy<Value = Timestamp> {
    const DAYS: [&str; 6] = [
        "2026-03-29T00:00:00Z",
        "2026-10-25T00:00:00Z",
        "2026-04-04T12:00:00Z",
        "2018-11-04T00:00:00Z",
        "2026-11-01T00:00:00Z",
        "2011-12-30T12:00:00Z",
    ];
    (prop::sample::select(&DAYS[..]), -9 * 1440..9 * 1440_i64)
        .prop_map(|(day, minutes)| at(day) + SignedDuration::from_mins(minutes))
}

/// [`Scene::in_sync`] with windows, a key of some age, and a time by which it is replaced.
pub(super) fn rotating(
    own: &[RotationWindow],
    account: &[RotationWindow],
    every: SignedDuration,
    issued_at: Timestamp,
) -> Scene {
    let mut scene = Scene::in_sync();
    scene.desired.windows = windows(own);
    scene.windows = Some(windows(account));
    scene.desired.rotation.every = Some(every);
    scene.log.0[0].at = issued_at;
    scene.secret().record.issued_at = Some(issued_at);
    scene.now = issued_at;
    scene.snapshot = Some(lists(issued_at, &[token(1)]));
    scene
}

pub(super) fn next(scene: &Scene) -> Option<Timestamp> {
    scene.observe(|seen| facts(&scene.desired, seen, scene.now).next_rotation_at)
}

proptest! {
    #![proptest_config(random::config(32))]

    #[test]
    fn a_window_is_open_exactly_when_it_opened_before(list in random::windows::some(), time in times()) {
        let parsed = windows(&list);
        for minutes in [0, 1, 61] {
            let at = time + SignedDuration::from_mins(minutes);
            prop_assert_eq!(calendar(&parsed).allows(at), allows(&list, at), "{}", at);
        }
    }

    #[test]
    fn the_next_window_is_the_next_and_the_last_is_the_last(list in random::windows::some(), time in times(), hours in 1..60_i64) {
        let parsed = windows(&list);
        let calendar = calendar(&parsed);
        let end = time + SignedDuration::from_hours(hours);
        let between = || (0..hours * 6).map(|n| time + SignedDuration::from_mins(10 * n));
        let open: Vec<Timestamp> = between().filter(|at| calendar.allows(*at)).collect();
        if let Some(opens) = calendar.opens(time) {
            prop_assert!(calendar.allows(opens));
            prop_assert!(open.first().is_none_or(|first| opens <= *first), "{opens} is not the first: {open:?}");
        } else {
            prop_assert!(open.is_empty());
        }
        match calendar.last_before(end, time) {
            Some((opens, closes)) => {
                prop_assert!(time <= opens && opens < closes && closes <= end);
                prop_assert!(open.last().is_none_or(|last| closes > *last), "{closes} is not the last: {open:?}");
                let long = closes.duration_since(opens);
                for n in 0..10 {
                    let at = opens + long * n / 10;
                    prop_assert!(calendar.allows(at), "{at} of {opens} to {closes}");
                }
                prop_assert!(closes == end || !calendar.allows(closes));
            }
            None => prop_assert!(open.iter().all(|at| *at == time), "{open:?}"),
        }
    }

    #[test]
    fn no_key_gets_older_than_every_where_a_window_allows_it_and_none_is_replaced_where_none_does(
        (own, account) in (random::windows::some(), random::windows::some()),
        issued_at in times(),
        hours in 1..100_i64,
    ) {
        let every = SignedDuration::from_hours(hours);
        let scene = rotating(&own, &account, every, issued_at);
        let is_allowed = |at| Calendar { own: &scene.desired.windows, account: scene.windows.as_ref() }.allows(at);
        let begins = next(&scene);
        let (earliest, most) = scene.observe(|seen| seen.due(&scene.desired.rotation).map(|due| (due.earliest, due.most))).unwrap();
        let minutes = most.duration_since(earliest).as_mins();
        let was_allowed = (1..minutes).step_by(17).any(|n| is_allowed(earliest + SignedDuration::from_mins(n)));
        if let Some(begins) = begins {
            prop_assert!(is_allowed(begins), "{begins}");
            prop_assert!(begins <= most || !was_allowed, "{begins} is later than {most}");
            let due = Scene { now: begins, snapshot: Some(lists(begins, &[token(1)])), ..scene.clone() };
            due.records(Cause::RotationDue);
        } else {
            prop_assert!(!was_allowed);
        }
        for n in 0..20 {
            let now = issued_at + every * n / 10;
            let then = Scene { now, snapshot: Some(lists(now, &[token(1)])), ..scene.clone() };
            match then.decide() {
                Decision::Act(Action::Record { cause, .. }) => {
                    prop_assert_eq!(cause, Cause::RotationDue);
                    prop_assert!(is_allowed(now), "it begins at {now}");
                }
                Decision::Rest { requeue, .. } => {
                    let told = next(&then);
                    prop_assert!(told.is_none_or(|at| at > now && requeue.at.is_some_and(|wakes| wakes <= at)), "{told:?}");
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
