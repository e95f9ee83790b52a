//! From nothing to a request: record, preflight, send.

use jiff::SignedDuration;

use crate::datafast::{Effect, Error};
use crate::lifecycle::decision::Action;
use crate::lifecycle::event::{Answer, Event};
use crate::lifecycle::local::{Preflight, Rejected};
use crate::lifecycle::observed::Availability;
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

fn record(cause: Cause) -> Action {
    Action::Record { again: None, at: now(), cause, keep: Vec::new(), adopted: Default::default(), rolls: None }
}

fn unsent(scene: &mut Scene) -> &mut Preflight {
    &mut scene.local.unsent.as_mut().unwrap().preflight
}

#[test]
fn a_new_resource_records_an_attempt_before_anything_else() {
    assert_eq!(Scene::new().action(), record(Cause::New));
}

#[test]
fn a_recorded_attempt_whose_secret_can_be_written_is_sent() {
    assert_eq!(Scene::recorded(Preflight::Passed).action(), send(1, Cause::New));
}

#[test]
fn nothing_is_sent_before_the_secret_is_known_to_be_writable() {
    assert_eq!(Scene::recorded(Preflight::Unknown).action(), Action::Preflight);
    let refused = Scene::recorded(Preflight::Refused(refused(later(1))));
    let verdict = refused.says(Reason::SecretWriteRefused, false, "exceeded quota");
    assert!(!verdict.reason.is_stalled(), "it is tried again by itself");
    assert_eq!(refused.rests().requeue.at, Some(later(1)));
}

#[test]
fn a_refused_secret_costs_one_record_however_often_it_is_tried() {
    let mut scene = Scene::recorded(Preflight::Refused(refused(now())));
    assert_eq!(scene.action(), Action::Preflight, "the attempt in the log is used again");
    *unsent(&mut scene) = Preflight::Passed;
    scene.now = later(10);
    let Action::Record { again, keep, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!((again, keep), (Some(nonce(1)), Vec::new()), "the same nonce, in place of its old entry");
}

#[test]
fn an_attempt_is_not_sent_once_a_request_no_longer_ends_well_within_its_horizon() {
    let mut scene = Scene::recorded(Preflight::Passed);
    scene.now = now() + STAYS_FRESH;
    assert_eq!(scene.action(), send(1, Cause::New));
    scene.now += SignedDuration::from_nanos(1);
    assert!(matches!(scene.action(), Action::Record { again: Some(_), .. }));
}

#[test]
fn an_attempt_of_the_future_is_not_sent_but_recorded_again() {
    let scene = Scene::recorded(Preflight::Passed).change(|s| s.log.0[0].at = later(60));
    assert!(matches!(scene.action(), Action::Record { again: Some(_), .. }));
}

#[test]
fn a_request_leaves_45_seconds_of_the_horizon_or_half_of_a_short_one() {
    for (horizon, fresh) in [(600, 555), (120, 75), (90, 45), (60, 30), (20, 10)] {
        let horizon = SignedDuration::from_secs(horizon);
        let send_by = attempt(1, now(), Cause::New).send_by(horizon);
        assert_eq!(send_by.duration_since(now()), SignedDuration::from_secs(fresh), "{horizon}");
    }
}

#[test]
fn an_attempt_that_came_too_late_is_recorded_again_ahead_of_its_time_by_what_that_took() {
    let mut scene = Scene::recorded(Preflight::Passed).change(|s| s.now = now() + 2 * STAYS_FRESH);
    let (took, at) = (2 * STAYS_FRESH, scene.now);
    scene.happens(Event::Recorded { attempt: attempt(1, now(), Cause::New), took, horizon: HORIZON });
    assert_eq!(
        scene.action(),
        Action::Record {
            again: Some(nonce(1)),
            at: at + HORIZON,
            cause: Cause::New,
            keep: Vec::new(),
            adopted: Default::default(),
            rolls: None
        },
        "by a horizon at most"
    );
    scene.log.0[0].at = at + HORIZON;
    assert!(matches!(scene.action(), Action::Send { .. }), "its time is yet to come, and so is the horizon's end");
    scene.now = at + HORIZON + STAYS_FRESH;
    assert!(matches!(scene.action(), Action::Send { .. }));
    scene.now += SignedDuration::from_nanos(1);
    assert!(matches!(scene.action(), Action::Record { .. }));
}

#[test]
fn what_comes_too_late_again_and_again_is_tried_ever_less_often_and_says_why() {
    let mut scene = Scene::recorded(Preflight::Passed);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        scene.log.0[0].at = scene.now;
        scene.now += SignedDuration::from_secs(76);
        let (attempt, took) = (scene.log.0[0].clone(), SignedDuration::from_millis(76_400));
        scene.happens(Event::Recorded { attempt, took, horizon: HORIZON });
        let retry_at = scene.local.late.as_ref().unwrap().retry_at;
        pauses.push(retry_at.duration_since(scene.now).as_mins());
        if retry_at > scene.now {
            let verdict = scene.says(Reason::Issuing, false, "The API server took 1m 16s to record");
            assert!(!verdict.reason.is_warning());
            assert_eq!(scene.rests().requeue.at, Some(retry_at));
        }
        scene.now = retry_at;
        assert!(matches!(scene.action(), Action::Record { again: Some(_), .. }));
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    let unavailable = Error::Unavailable { reason: "503".into(), effect: Effect::None };
    scene.happens(Event::Sent { order: order(1), answer: Answer::Failed(unavailable) });
    let too_late = || Event::Sent { order: order(1), answer: Answer::TooLate(SignedDuration::from_secs(80)) };
    scene.happens(too_late());
    scene.happens(Event::DryRun(Ok(())));
    assert!(matches!(scene.action(), Action::Record { .. }), "after a request that was sent, it begins anew");
    scene.happens(too_late());
    scene.happens(Event::DryRun(Ok(())));
    scene.says(Reason::Issuing, false, "waited 1m 20s for its turn");
}

#[test]
fn an_attempt_that_is_no_longer_the_current_one_is_not_sent() {
    let mut scene = Scene::recorded(Preflight::Passed);
    scene.log.0.push(attempt(2, now(), Cause::New));
    let Action::Record { again: None, keep, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!(keep, scene.log.0, "both may have been sent by somebody");
}

#[test]
fn a_crash_between_record_and_send_costs_another_record_and_no_token() {
    let scene = Scene::recorded(Preflight::Passed).after_restart();
    let Action::Record { again: None, keep, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!(keep, scene.log.0);
}

#[test]
fn while_a_request_is_under_way_nothing_else_is_done() {
    let mut scene = Scene::recorded(Preflight::Passed);
    scene.local.in_flight = Some(nonce(1));
    scene.says(Reason::Issuing, false, "answer");
    let deleted = scene.deleted();
    deleted.says(Reason::Deleting, false, "answer");
}

#[test]
fn the_log_forgets_only_what_a_list_past_the_horizon_does_not_show() {
    let keep = |scene: &Scene| match scene.action() {
        Action::Record { keep, .. } => keep.iter().map(|a| a.nonce.clone()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let scene = Scene::new().with_attempts(&[(1, 10), (2, 1)]);
    assert_eq!(keep(&scene), [nonce(2)], "attempt 1 is past the horizon and absent, attempt 2 is too young to tell");
    let no_list = scene.clone().change(|s| s.snapshot = None);
    assert_eq!(keep(&no_list), [nonce(1), nonce(2)], "no list, no proof");
    let old_list = scene.change(|s| s.snapshot = Some(lists(ago(9), &[])));
    assert_eq!(keep(&old_list), [nonce(1), nonce(2)], "a list from within the horizon proves nothing");
}

#[test]
fn what_datafast_refused_is_not_asked_again_until_spec_changes_or_time_passes() {
    let rejected = |hash| Rejected {
        spec_hash: hash,
        message: "unknown permission".into(),
        may_be_full: false,
        retry_at: later(10),
    };
    let mut scene = Scene::recorded(Preflight::Passed);
    scene.local.rejected = Some(rejected(scope().hash()));
    let verdict = scene.says(Reason::Rejected, false, "\"unknown permission\"");
    assert!(verdict.reason.is_stalled());
    assert_eq!(scene.rests().requeue.at, Some(later(10)));

    let corrected = scene.clone().change(|s| s.desired.scope = wider_scope());
    assert_eq!(corrected.action(), send(1, Cause::New), "the attempt that made no token is used again");
    let mut waited = scene;
    waited.now = later(10);
    assert!(matches!(waited.action(), Action::Record { again: Some(_), .. }), "it may be the account that was changed");
}

#[test]
fn a_full_account_is_waited_for_without_recording() {
    let full = Scene::new().change(|s| s.free = Some(0));
    full.says(Reason::WaitingForSlot, false, "no free slot");
    assert!(full.rests().requeue.account_changes);
    let over = full.change(|s| s.free = Some(-3));
    over.says(Reason::WaitingForSlot, false, "no free slot");
}

#[test]
fn before_the_first_list_slots_are_unknown_and_do_not_hinder() {
    let scene = Scene::new().change(|s| (s.snapshot, s.free) = (None, None));
    assert_eq!(scene.action(), record(Cause::New));
}

#[test]
fn a_closed_account_is_not_asked_and_nothing_is_recorded_for_it() {
    let gates = [
        (Availability::NotFound, Reason::AccountNotFound, "no DataFastAccount \"default\""),
        (
            Availability::NotReady("its credential is refused".into()),
            Reason::AccountNotReady,
            "its credential is refused",
        ),
        (Availability::RateLimited, Reason::RateLimited, "limits the rate"),
        (Availability::Unavailable("502, not JSON".into()), Reason::ApiUnavailable, "502, not JSON"),
    ];
    for (availability, reason, words) in gates {
        for scene in [Scene::new(), Scene::recorded(Preflight::Passed), Scene::recorded(Preflight::Unknown)] {
            let scene = scene.change(|s| s.availability = availability.clone());
            let verdict = scene.says(reason, false, words);
            assert!(!verdict.reason.is_stalled(), "it goes on by itself");
            assert!(scene.rests().requeue.account_changes);
        }
    }
}

#[test]
fn a_suspended_resource_issues_nothing() {
    for scene in [Scene::new(), Scene::recorded(Preflight::Passed), Scene::secret_deleted(), Scene::token_deleted()] {
        let scene = scene.change(|s| s.desired.suspended = true);
        scene.says(Reason::Suspended, false, "suspend");
    }
}

#[test]
fn issuing_again_and_again_is_throttled_but_a_change_of_scope_is_not() {
    let fought_over = Scene::secret_deleted().change(|s| {
        s.log.0.push(attempt(2, ago(10), Cause::KeyLost));
        s.log.0.push(attempt(3, ago(1), Cause::KeyLost));
    });
    fought_over.says(Reason::Throttled, false, "2026-01-01T12:01:00Z");
    assert_eq!(fought_over.rests().requeue.at, Some(later(1)));
    let waited = fought_over.clone().change(|s| s.now = later(1));
    let Action::Record { cause: Cause::KeyLost, keep, .. } = waited.action() else { panic!("{:?}", waited.action()) };
    assert!(keep.contains(&attempt(2, ago(10), Cause::KeyLost)), "the log is the memory of the throttle");

    let changed = Scene::in_sync().change(|s| {
        s.log = fought_over.log.clone();
        s.desired.scope = wider_scope();
    });
    assert!(matches!(changed.action(), Action::Record { cause: Cause::ScopeChanged, .. }));
}

#[test]
fn an_attempt_that_made_no_token_is_no_reason_to_wait() {
    let scene = Scene::secret_deleted().change(|s| {
        s.log.0.push(attempt(2, now(), Cause::KeyLost));
        s.local.unsent = Some(crate::lifecycle::local::Unsent { nonce: nonce(2), preflight: Preflight::Passed });
    });
    assert_eq!(scene.action(), send(2, Cause::KeyLost));
}
