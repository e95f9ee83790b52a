//! Something changes the Secret each time that it is written: it is written again ever more slowly, and nothing is issued.

use jiff::SignedDuration;

use crate::lifecycle::decision::{Action, Decision};
use crate::lifecycle::event::Event;
use crate::lifecycle::local::Refused;
use crate::lifecycle::observed::{Drift, SecretOwner, SecretView};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

/// Something is not as it is asked for.
fn changed(scene: &Scene) -> Scene {
    scene.clone().change(|s| s.secret().drift = drift())
}

/// The Secret is written again, and somebody changes it at once.
fn fights(scene: &mut Scene) {
    let Action::Rewrite { asked, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    scene.happens(Event::SecretRewritten { asked, as_written: true });
}

/// What is reported, as the shell reports it.
fn reported(scene: &mut Scene) -> String {
    let verdict = scene.says(Reason::SecretContested, true, "");
    scene.happens(Event::Reported(verdict.clone()));
    verdict.message
}

/// Lets time pass until it is written again. Returns how many minutes that were.
fn waits(scene: &mut Scene) -> i64 {
    let since = scene.now;
    while !matches!(scene.decide(), Decision::Act(_)) {
        scene.says(Reason::SecretContested, true, "");
        scene.now += SignedDuration::from_secs(1);
    }
    scene.now.duration_since(since).as_secs() / 60
}

#[test]
fn a_secret_that_is_changed_each_time_is_written_at_once_and_then_ever_more_slowly() {
    let mut scene = changed(&Scene::in_sync());
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pauses.push(waits(&mut scene));
        fights(&mut scene);
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn after_an_hour_of_quiet_it_is_written_at_once_again() {
    let fought = |minutes: i64| {
        let mut scene = changed(&Scene::in_sync());
        fights(&mut scene);
        scene.now = later(1);
        fights(&mut scene);
        scene.now = later(1 + 2 + minutes);
        fights(&mut scene);
        waits(&mut scene)
    };
    assert_eq!(fought(59), 4);
    assert_eq!(fought(60), 1);
}

#[test]
fn it_says_who_changed_what_and_when_it_is_written_again() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    let message = reported(&mut scene);
    for words in ["Secret \"agent\"", "label \"team\" is not", "field manager \"fighter\"", "2026-01-01T12:01:00Z"] {
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
    let verdict = scene.rests().verdict;
    assert!(verdict.reason.is_reconciling() && verdict.reason.is_warning() && !verdict.reason.is_stalled());
    scene.status.ready = false;
    assert!(scene.rests().verdict.ready, "its key works all the same");
}

#[test]
fn what_was_said_is_said_again_until_it_is_written_again_whatever_is_changed_meanwhile() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    let message = reported(&mut scene);
    scene.secret().drift = Drift { differs: vec!["entry \"env\"".into()], last_writer: None, ..Drift::default() };
    assert_eq!(scene.rests().verdict.message, message, "else status would be written as often as that changes");
    scene.now = later(1);
    fights(&mut scene);
    assert!(reported(&mut scene).contains("entry \"env\" is not"));
}

#[test]
fn an_edited_record_is_a_contest_too() {
    let mut scene = Scene::in_sync().change(|s| s.secret().record.attempt = Some(nonce(9)));
    fights(&mut scene);
    assert!(reported(&mut scene).contains("annotation \"datafa.st/attempt\" is not"));
}

#[test]
fn a_record_that_is_dropped_each_time_is_not_taken_over_in_a_hot_loop() {
    let mut scene = Scene::in_sync().change(|s| {
        s.secret().owner = SecretOwner::Nobody;
        s.secret().record = Default::default();
        s.secret().drift = drift();
        s.local.proof = Some(proof(1, true));
    });
    fights(&mut scene);
    reported(&mut scene);
    assert_eq!(waits(&mut scene), 1);
}

#[test]
fn a_first_take_over_is_no_contest() {
    let mut scene = Scene::import().change(|s| (s.has_finalizer, s.local.proof) = (true, Some(proof(7, true))));
    let Action::Rewrite { record, asked, adopts } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!(adopts, Some(id(7)));
    scene.happens(Event::SecretRewritten { asked, as_written: true });
    scene.status.token_id = Some(id(7));
    scene.secret().owner = SecretOwner::This;
    scene.secret().record = record;
    fights(&mut scene);
    reported(&mut scene);
}

#[test]
fn a_change_of_what_is_asked_for_does_not_wait() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    reported(&mut scene);
    scene.secret().drift.template = "another".into();
    fights(&mut scene);
    reported(&mut scene);
}

#[test]
fn a_webhook_that_changes_it_as_it_is_written_is_named() {
    let mut scene = changed(&Scene::in_sync());
    let Action::Rewrite { asked, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    scene.happens(Event::SecretRewritten { asked, as_written: false });
    let message = reported(&mut scene);
    assert!(message.contains("mutating admission webhook") && !message.contains("fighter"), "{message}");
    assert_eq!(waits(&mut scene), 1);
}

#[test]
fn without_its_label_the_secret_is_not_watched_and_so_is_read_again_soon() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    assert_eq!(scene.rests().requeue.at, Some(now() + SignedDuration::from_secs(30)));
}

#[test]
fn in_order_again_it_says_so() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    reported(&mut scene);
    scene.change(|s| s.secret().drift = Drift::default()).says(Reason::Issued, true, "dft_001");
}

#[test]
fn a_fight_holds_up_neither_a_rotation_nor_a_lost_key() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    scene.clone().change(|s| s.desired.requests.rotate = request("please")).records(Cause::RotateRequested);
    scene.change(|s| s.secret = SecretView::Missing).records(Cause::KeyLost);
}

#[test]
fn a_clock_that_is_set_back_makes_it_wait_no_longer() {
    let mut scene = changed(&Scene::in_sync());
    fights(&mut scene);
    scene.now = ago(A_DAY);
    fights(&mut scene);
}

#[test]
fn a_take_over_that_the_api_server_refuses_is_tried_again_later() {
    let mut scene = Scene::import().change(|s| (s.has_finalizer, s.local.proof) = (true, Some(proof(7, true))));
    scene.local.rewrite = Some(Refused { message: "failed calling webhook".into(), retry_at: later(1) });
    scene.says(Reason::SecretWriteRefused, false, "failed calling webhook");
    assert_eq!(scene.rests().requeue.at, Some(later(1)));
}
