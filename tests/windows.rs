//! Rotations keep to windows, and what must not wait does not.

use datafast_harness::{condition, eventually};
use datafast_operator::api::names;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{
    Clocked, Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A window of an hour each day, and when it opens: in two to three hours for the first time.
fn daily(now: Timestamp) -> (Value, Timestamp) {
    let hours = now.as_second() / 3600 + 3;
    let opens = Timestamp::from_second(hours * 3600).unwrap();
    let schedule = format!("0 {} * * *", opens.to_zoned(TimeZone::UTC).hour());
    (json!({ "kind": "Allow", "schedule": schedule, "duration": "1h" }), opens)
}

fn next_rotation(issued: &Issued) -> Timestamp {
    issued.resource.status.as_ref().unwrap().next_rotation_at.as_ref().unwrap().0
}

/// Waits until the message of `Ready`, which stays true, has these words.
async fn says(w: &Clocked, name: &str, words: &str) {
    eventually("Ready says that a rotation waits", WAIT, || async {
        let ready = condition(&w.resource(name).await, "Ready");
        ready.clone().filter(|ready| ready.status == "True" && ready.message.contains(words)).ok_or(ready)
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn a_rotation_that_is_asked_for_waits_for_its_window_and_a_leak_does_not(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let (window, opens) = daily(w.now());
    let rotation = json!({ "windows": [window] });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let first = w.issued("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    says(&w, "agent", &format!("the rotation that datafa.st/rotate asks for waits for a window until {opens}")).await;
    assert_eq!(next_rotation(&w.issued("agent").await), opens);

    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    let second = w.renewed("agent", &first).await;
    assert_eq!((w.posts(), w.deletes()), (2, 1), "one key answers both, and what has leaked is gone");

    w.annotate("agent", json!({ names::ROTATE: "2" })).await;
    says(&w, "agent", "waits for a window").await;
    w.advance_to(opens - SECOND * 30);
    w.look_at("agent").await;
    assert_eq!(w.issued("agent").await.token.id, second.token.id, "not before the window opens");
    w.advance_to(opens);
    w.look_at("agent").await;
    w.renewed("agent", &second).await;
    assert_eq!((w.posts(), w.deletes()), (3, 1));
}

#[rstest]
#[tokio::test]
async fn a_rotation_by_time_is_planned_into_the_last_window_before_it_is_due(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let (window, opens) = daily(w.now());
    let rotation = json!({ "every": "72h", "windows": [window] });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    let first = w.issued("agent").await;
    // Of those in 3, 27, 51 and 75 hours.
    let last = opens + HOUR * 48;
    let planned = next_rotation(&first);
    assert!((last..last + HOUR).contains(&planned), "{planned} is not in the hour from {last} on");
    w.advance_to(planned - SECOND * 30);
    w.look_at("agent").await;
    assert_eq!(w.issued("agent").await.token.id, first.token.id);
    w.advance_to(planned);
    w.look_at("agent").await;
    let second = w.renewed("agent", &first).await;
    assert!(next_rotation(&second) > planned + HOUR * 24);
    assert_eq!(w.posts(), 2);
}

#[tokio::test]
async fn the_accounts_windows_hold_for_all_its_resources_until_they_are_taken_away() {
    let w = Clocked::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let first = w.issued("agent").await;
    let (window, opens) = daily(w.now());
    w.set_account(json!({ "rotationWindows": [window] })).await;
    w.list().await;
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    says(&w, "agent", &format!("a token with the changed scope waits for a window until {opens}")).await;
    says(&w, "agent", "spec.rotationWindows").await;
    assert_eq!(w.posts(), 1);
    w.set_account(json!({})).await;
    w.renewed("agent", &first).await;
    assert_eq!(w.posts(), 2);
}

#[tokio::test]
async fn a_window_that_the_schema_can_not_judge_is_named_and_a_leak_is_answered_all_the_same() {
    let w = Clocked::new().await;
    let window = json!({ "kind": "Allow", "schedule": "0 2 * * *", "duration": "1h", "timeZone": "Europe/Berln" });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "windows": [window] } })).await;
    let ready = w.says("agent", "Rejected").await;
    let words = "spec.rotation.windows[0].timeZone \"Europe/Berln\": there is no such IANA time zone";
    assert!(ready.message.contains(words), "{ready:?}");
    assert_eq!(w.posts(), 1, "a first key never waits");
    w.annotate("agent", json!({ names::REVOKE_NOW: "1" })).await;
    eventually("the key that leaked is gone", WAIT, || async {
        if (w.posts(), w.deletes()) == (2, 1) { Ok(()) } else { Err((w.posts(), w.deletes())) }
    })
    .await;
}
