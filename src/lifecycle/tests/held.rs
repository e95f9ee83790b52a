//! What a rotation that waits for a window says, and what becomes of one that began inside.

use jiff::{SignedDuration, Timestamp};

use crate::api::RotationWindow;
use crate::lifecycle::decision::Action;
use crate::lifecycle::local::{Preflight, Unsent};
use crate::lifecycle::record::{Attempt, Cause};
use crate::lifecycle::verdict::Reason;
use crate::lifecycle::windows::Windows;

use super::random::windows::window;
use super::scenes::*;
use super::windows::{at, next, rotating, windows};

const EVENING: &str = "2026-01-01T20:00:00Z";
const MORNING: &str = "2026-01-02T07:00:00Z";

/// Open from 2:00 to 4:00.
fn nights() -> RotationWindow {
    window("Allow", "0 2 * * *", "2h", "UTC")
}

fn as_of(scene: Scene, time: &str) -> Scene {
    let now = at(time);
    Scene { now, snapshot: Some(lists(now, &[token(1)])), ..scene }
}

/// A key of the evening before, some hours later.
fn with(list: &[RotationWindow], time: &str) -> Scene {
    as_of(rotating(list, &[], SignedDuration::from_hours(720), at(EVENING)), time)
}

fn asked(scene: &mut Scene) {
    scene.desired.requests.rotate = request("please");
}

#[test]
fn a_rotation_that_is_asked_for_says_when_it_begins_and_begins_then() {
    let scene = with(&[nights()], "2026-01-01T21:00:00Z").change(asked);
    scene.says(
        Reason::Issued,
        true,
        "the rotation that datafa.st/rotate asks for waits for a window until 2026-01-02T02:00:00Z (spec.rotation.windows, which allows it at other times)",
    );
    let opens = at("2026-01-02T02:00:00Z");
    assert_eq!((next(&scene), scene.rests().requeue.at), (Some(opens), Some(opens)), "and it wakes then");
    as_of(scene, "2026-01-02T02:00:00Z").records(Cause::RotateRequested);
}

#[test]
fn of_a_closed_window_of_the_account_the_message_names_the_account() {
    let deny = windows(&[nights(), window("Deny", "0 20 * * *", "12h", "UTC")]);
    let scene = with(&[], "2026-01-01T21:00:00Z").change(asked).change(|s| s.windows = Some(deny));
    let verdict =
        scene.says(Reason::Issued, true, "DataFastAccount \"default\", spec.rotationWindows[1], which denies it");
    assert!(verdict.message.contains("none opens in sight: change the windows"), "{verdict:?}");
    assert_eq!(next(&scene), None);
}

#[test]
fn another_scope_waits_as_a_rotation_and_is_not_forgotten() {
    let closed = with(&[nights()], "2026-01-01T21:00:00Z");
    let wider = closed.clone().change(|s| s.desired.scope = wider_scope());
    let verdict =
        wider.says(Reason::Rotating, true, "a token with the changed scope waits for a window until 2026-01-02T02:00");
    assert!(verdict.reason.is_reconciling(), "what is wanted is not there yet");
    // DataFast can't rename a token, which may all the same do what is wanted.
    let mut renamed = closed.change(|s| s.desired.scope.token_name = "another".to_owned());
    renamed.secret().drift.differs = vec!["labels".to_owned()];
    let written = renamed.writes_secret();
    let mut later = as_of(renamed, "2026-01-02T02:00:00Z");
    later.secret().record = written;
    later.secret().drift.differs.clear();
    later.records(Cause::ScopeChanged);
}

#[test]
fn without_a_window_in_time_the_key_is_overdue_and_says_so_and_the_next_window_has_it_replaced() {
    let weekly = window("Allow", "0 2 * * SUN", "1h", "Europe/Berlin");
    // A Thursday.
    let scene = rotating(&[weekly], &[], SignedDuration::from_hours(48), at("2026-01-01T02:00:00Z"));
    let opens = at("2026-01-04T01:00:00Z");
    assert_eq!(next(&scene), Some(opens), "the true time, though it is late");
    let before = as_of(scene.clone(), "2026-01-03T01:59:59Z");
    assert!(!before.says(Reason::Issued, true, "dft_001").message.contains("overdue"));
    assert_eq!(before.rests().requeue.at, Some(at("2026-01-03T02:00:00Z")), "to say that it is overdue");
    let overdue = as_of(scene, "2026-01-03T02:00:00Z");
    let verdict =
        overdue.says(Reason::Issued, true, "(spec.rotation.every) waits for a window until 2026-01-04T01:00:00Z");
    assert!(
        verdict.message.contains("It is overdue: the key is older than spec.rotation.every since 2026-01-03T02:00:00Z")
    );
    // It is told so whatever waits.
    let scope = overdue.clone().change(|s| s.desired.scope = wider_scope());
    scope.says(Reason::Rotating, true, "It is overdue");
    assert_eq!((next(&overdue), overdue.rests().requeue.at), (Some(opens), Some(opens)));
    as_of(overdue, "2026-01-04T01:00:00Z").records(Cause::RotationDue);
}

#[test]
fn a_window_that_was_missed_is_waited_for_again() {
    let scene = rotating(&[nights()], &[], SignedDuration::from_hours(48), at("2026-01-01T12:00:00Z"));
    let planned = next(&scene).unwrap();
    assert!(planned >= at("2026-01-03T02:00:00Z") && planned < at("2026-01-03T04:00:00Z"), "{planned}");
    // The operator did not run.
    let missed = as_of(scene, "2026-01-03T05:00:00Z");
    let verdict = missed.says(
        Reason::Issued,
        true,
        "a rotation by time (spec.rotation.every) waits for a window until 2026-01-04T02:00:00Z",
    );
    assert!(!verdict.message.contains("overdue"), "not before 12:00: {verdict:?}");
    assert_eq!(missed.rests().requeue.at, Some(at("2026-01-03T12:00:00Z")));
}

fn begun(recorded: &str, now: &str) -> Scene {
    let scene = with(&[nights()], now).change(asked);
    let attempt = Attempt { at: at(recorded), cause: Cause::RotateRequested, ..scene.log.0[0].clone() };
    scene.change(|s| s.log.0.push(Attempt { nonce: nonce(2), ..attempt }))
}

#[test]
fn a_rotation_that_began_is_not_cut_off_by_the_end_of_its_window() {
    let this_process = |scene: Scene| {
        let unsent = Unsent { nonce: nonce(2), preflight: Preflight::Passed };
        scene.change(|s| s.local.unsent = Some(unsent))
    };
    let inside = begun("2026-01-02T03:59:59Z", "2026-01-02T04:00:10Z");
    assert!(matches!(this_process(inside.clone()).action(), Action::Send { .. }), "what is recorded is sent");
    inside.records(Cause::RotateRequested);
    // Its request waited for its turn, and so it was recorded once more.
    assert!(matches!(
        this_process(begun("2026-01-02T04:00:20Z", "2026-01-02T04:01:00Z")).action(),
        Action::Send { .. }
    ));
    // What failed for long begins anew, in the next window.
    begun("2026-01-02T03:59:59Z", MORNING).says(Reason::Issued, true, "waits for a window until 2026-01-03T02:00:00Z");
    let refused = this_process(begun("2026-01-02T04:01:00Z", "2026-01-02T04:02:00Z"));
    let refused = refused.change(|s| s.local.unserved = Some(refused_until("2026-01-02T04:01:30Z")));
    refused.says(Reason::Issued, true, "waits for a window until 2026-01-03T02:00:00Z");
}

fn refused_until(time: &str) -> crate::lifecycle::local::Refused {
    let retry_at: Timestamp = at(time);
    crate::lifecycle::local::Refused { message: "502".to_owned(), retry_at }
}

#[test]
fn windows_that_can_not_be_used_hold_back_rotations_and_not_what_a_leak_needs() {
    let wrong = Windows::parse(&[window("Allow", "0 2 30 2 *", "1h", "UTC")]);
    let scene = with(&[], MORNING).change(|s| s.desired.windows = wrong.clone());
    let verdict =
        scene.says(Reason::Rejected, false, "spec.rotation.windows[0].schedule \"0 2 30 2 *\": it never comes");
    assert!(verdict.reason.is_stalled());
    scene.clone().change(asked).says(Reason::Rejected, false, "choose another day of the month");
    scene.clone().change(|s| s.desired.requests.revoke_now = request("leaked")).records(Cause::RevokeNow);
    scene.change(|s| s.secret().key = None).records(Cause::KeyLost);
    Scene::new().change(|s| (s.desired.windows, s.has_finalizer) = (wrong.clone(), true)).records(Cause::New);
    // The account's are not the resource's fault.
    let shared = with(&[], MORNING).change(|s| s.windows = Some(wrong));
    shared.says(Reason::Issued, true, "dft_001");
    shared.change(asked).says(Reason::Issued, true, "spec.rotationWindows[0].schedule \"0 2 30 2 *\": it never comes");
}

#[test]
fn of_many_resources_not_all_begin_when_the_window_opens() {
    let mut begins: Vec<Timestamp> = (0..50)
        .map(|n| {
            let scene = rotating(&[nights()], &[], SignedDuration::from_hours(240), at(EVENING));
            let owner = crate::lifecycle::marker::OwnerId::of(&format!("uid {n}"));
            let seen = |seen: &crate::lifecycle::observed::Observed<'_>| {
                let seen = crate::lifecycle::observed::Observed { owner: owner.clone(), ..seen.clone() };
                crate::lifecycle::facts::facts(&scene.desired, &seen, scene.now).next_rotation_at.unwrap()
            };
            scene.observe(seen)
        })
        .collect();
    begins.sort();
    begins.dedup();
    assert!(begins.len() > 40, "{} different times", begins.len());
    let (first, last) = (begins[0], begins[begins.len() - 1]);
    assert!(first >= at("2026-01-11T02:00:00Z") && last <= at("2026-01-11T03:00:01Z"), "{first} to {last}");
}
