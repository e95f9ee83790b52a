//! CEL rules of a window's schedule: what they take, `lifecycle::windows` can parse.

use kube::core::{Message, Rule};

/// One field: `*`, values or ranges, each with a step, in a list. No field has an empty item.
fn field(value: &str, range: &str, step: &str) -> String {
    let item = format!("([*]|{range}|{value})(/{step})?");
    format!("{item}(,{item})*")
}

/// Ranges of names, which ascend. Those of numbers are compared by [`ranges_ascend`].
fn ranges_of(names: &[&str]) -> String {
    let ranges = names.iter().enumerate().map(|(n, from)| format!("{from}-({})", names[n..].join("|")));
    ranges.collect::<Vec<_>>().join("|")
}

const MINUTE: &str = "[0-5]?[0-9]";
const HOUR: &str = "([01]?[0-9]|2[0-3])";
const DAY: &str = "(0?[1-9]|[12][0-9]|3[01])";
const MONTH: &str = "(0?[1-9]|1[0-2])";
const WEEKDAY: &str = "0?[0-7]";
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

fn pattern() -> String {
    let numbers = |value: &str, step: &str| field(value, &format!("{value}-{value}"), step);
    let named = |value: &str, names: &[&str], step: &str| {
        let range = format!("{value}-{value}|{}", ranges_of(names));
        field(&format!("({value}|{})", names.join("|")), &format!("({range})"), step)
    };
    let fields = [
        numbers(MINUTE, "(0?[1-9]|[1-5][0-9])"),
        numbers(HOUR, "(0?[1-9]|1[0-9]|2[0-3])"),
        numbers(DAY, DAY),
        named(MONTH, &MONTHS, MONTH),
        named(WEEKDAY, &WEEKDAYS, "0?[1-7]"),
    ];
    format!("(?i)^ *{} *$", fields.join(" +"))
}

/// A schedule in five fields, each with values that it can have.
pub(super) fn schedule(name: &str) -> Rule {
    Rule::new(format!("self.matches('{}')", pattern())).message(Message::Expression(format!(
        "'{name} (' + self + ') must have the five fields of cron, minute (0-59), hour (0-23), day of month (1-31), \
         month (1-12 or JAN-DEC) and day of week (0-7 or SUN-SAT), such as 0 2 * * 1-5; ranges of names begin with \
         the lesser one, and the week with SUN'"
    )))
}

/// A range from a higher number to a lower one says nothing to cron.
pub(super) fn ranges_ascend(name: &str) -> Rule {
    let ends = "r.split('-')";
    Rule::new(format!("self.findAll('[0-9]{{1,2}}-[0-9]{{1,2}}').all(r, int({ends}[0]) <= int({ends}[1]))")).message(
        Message::Expression(format!(
            "'{name} (' + self + ') has a range that ends before it begins: write the hours 22-6 as 22-23,0-6'"
        )),
    )
}

/// 30 February never comes. What else never does is found by the operator.
pub(super) fn schedule_comes(name: &str) -> Rule {
    let days = |day: &str, months: &str| {
        format!("self.matches('(?i)^ *[^ ]+ +[^ ]+ +{day}(-{day})?(,{day}(-{day})?)* +{months}(,{months})* +[*] *$')")
    };
    let in_february = days("3[01]", "(0?2|FEB)");
    let in_short_months = days("31", "(0?[2469]|11|FEB|APR|JUN|SEP|NOV)");
    Rule::new(format!("!{in_february} && !{in_short_months}")).message(Message::Expression(format!(
        "'{name} (' + self + ') never comes: no such month has that day; choose another day of the month'"
    )))
}

/// The name of a time zone. Whether there is one of that name, the operator finds out.
pub(super) fn time_zone(name: &str) -> Rule {
    Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self != 'Local'").message(
        Message::Expression(format!(
            "'{name} (' + self + ') must be the name of an IANA time zone, such as Europe/Berlin or UTC'"
        )),
    )
}
