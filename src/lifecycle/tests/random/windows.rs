//! Windows as people write them, in time zones whose clocks are changed.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::api::RotationWindow;

/// Central Europe; half an hour beside it, and half an hour of daylight saving time; at midnight; on the other side of the world.
pub(in super::super) const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "America/New_York", "Pacific/Apia"];

pub(in super::super) fn window(kind: &str, schedule: &str, duration: &str, zone: &str) -> RotationWindow {
    let [kind, schedule, duration] = [kind, schedule, duration].map(str::to_owned);
    RotationWindow { kind, schedule, duration, time_zone: Some(zone.to_owned()) }
}

fn one() -> impl Strategy<Value = RotationWindow> {
    let minute = prop_oneof![Just("0"), Just("30"), Just("*/20"), Just("*"), Just("59")];
    let hour = prop_oneof![3 => Just("2"), 1 => Just("22-23,0-6"), 1 => Just("9-17"), 1 => Just("*"), 1 => Just("*/7"), 1 => Just("0")];
    let day = prop_oneof![4 => Just("*"), 1 => Just("1"), 1 => Just("*/2"), 1 => Just("29-31")];
    let month = prop_oneof![6 => Just("*"), 1 => Just("3,10"), 1 => Just("NOV")];
    let weekday = prop_oneof![3 => Just("*"), 1 => Just("1-5"), 1 => Just("SAT,SUN"), 1 => Just("SUN")];
    let duration =
        prop_oneof![Just("1m"), Just("20m"), Just("1h"), Just("4h"), Just("8h30m"), Just("24h"), Just("168h")];
    let kind = prop_oneof![3 => Just("Allow"), 2 => Just("Deny")];
    (kind, (minute, hour, day, month, weekday), duration, prop::sample::select(&ZONES[..])).prop_map(
        |(kind, (minute, hour, day, month, weekday), duration, zone)| {
            window(kind, &format!("{minute} {hour} {day} {month} {weekday}"), duration, zone)
        },
    )
}

pub(in super::super) fn some() -> impl Strategy<Value = Vec<RotationWindow>> {
    vec(one(), 1..4)
}

/// Mostly none.
pub(super) fn lists() -> impl Strategy<Value = Vec<RotationWindow>> {
    prop_oneof![6 => Just(Vec::new()), 1 => some()]
}
