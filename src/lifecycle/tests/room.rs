//! A full account: a rotation waits for a slot, or has the old token make room.

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::local::{Preflight, Rejected, Unsent};
use crate::lifecycle::observed::Availability;
use crate::lifecycle::record::{Attempt, Cause};
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

/// [`Scene::in_sync`] in a full account, with a request to rotate.
fn full() -> Scene {
    Scene::in_sync().change(|s| (s.free, s.desired.requests.rotate) = (Some(0), request("please")))
}

fn revoke_first() -> Scene {
    full().change(|s| s.desired.rotation.revoke_first = true)
}

/// The next attempt is recorded, and its Secret was dry-run with this outcome.
fn recorded(mut scene: Scene, preflight: Preflight) -> Scene {
    scene.log.0.push(attempt(2, now(), Cause::RotateRequested));
    scene.local.unsent = Some(Unsent { preflight, ..unsent(2) });
    scene
}

fn makes_room() -> Action {
    revoke(1, RevokeCause::MadeRoom)
}

#[test]
fn a_rotation_waits_for_a_slot_while_the_old_token_works_and_nothing_is_revoked() {
    for scene in [full(), recorded(full(), Preflight::Passed)] {
        let verdict = scene.says(Reason::WaitingForSlot, true, "whenFull");
        assert!(verdict.message.contains("\"default\" has no free slot"), "{}", verdict.message);
        assert!(scene.rests().requeue.account_changes);
    }
}

#[test]
fn a_rotation_that_waited_goes_on_when_there_is_a_slot() {
    let mut simulator = Simulator::new(full());
    assert_eq!(simulator.settle(), Reason::WaitingForSlot);
    assert_eq!(simulator.causes, []);
    simulator.scene.free = Some(1);
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::RotateRequested]);
}

#[test]
fn the_old_token_is_not_revoked_before_its_successor_is_recorded_and_its_secret_sure_to_be_taken() {
    revoke_first().records(Cause::RotateRequested);
    assert_eq!(recorded(revoke_first(), Preflight::Unknown).action(), Action::Preflight);
    let refused = recorded(revoke_first(), Preflight::Refused(refused(later(1))));
    refused.says(Reason::SecretWriteRefused, true, "exceeded quota");
    assert_eq!(recorded(revoke_first(), Preflight::Passed).action(), makes_room());
}

#[test]
fn the_old_token_stays_where_its_successor_could_not_be_sent_at_once() {
    let ready = recorded(revoke_first(), Preflight::Passed);
    let stale = ready.clone().change(|s| s.now = now() + STAYS_FRESH + jiff::SignedDuration::from_nanos(1));
    assert!(matches!(stale.action(), Action::Record { again: Some(_), .. }), "{:?}", stale.action());
    let superseded = ready.clone().change(|s| s.log.0.push(attempt(3, now(), Cause::RotateRequested)));
    superseded.records(Cause::RotateRequested);
    let rejected =
        Rejected { spec_hash: scope().hash(), message: "no".into(), may_be_full: false, retry_at: later(10) };
    ready.clone().change(|s| s.local.rejected = Some(rejected)).says(Reason::Rejected, false, "refused");
    let closed = ready.change(|s| s.availability = Availability::RateLimited);
    closed.says(Reason::RateLimited, true, "");
}

#[test]
fn the_old_token_is_revoked_only_where_that_makes_the_one_slot_that_is_missing() {
    let with_free = |free| recorded(revoke_first(), Preflight::Passed).change(|s| s.free = free);
    for over_full in [-1, -3] {
        with_free(Some(over_full)).says(Reason::WaitingForSlot, true, "no free slot");
    }
    let send = send(2, Cause::RotateRequested);
    assert_eq!(with_free(Some(1)).action(), send, "with room for both, there is an overlap");
    assert_eq!(with_free(None).action(), send, "before the first list, DataFast tells");
}

#[test]
fn having_made_room_its_successor_is_sent_at_once_and_the_cause_stays_what_it_was() {
    let mut scene = recorded(revoke_first(), Preflight::Passed);
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    scene.free = Some(1);
    assert_eq!(scene.action(), send(2, Cause::RotateRequested));
}

#[test]
fn making_room_costs_one_token_and_leaves_one() {
    for cause in [Cause::RotateRequested, Cause::ScopeChanged] {
        let mut simulator = Simulator::new(revoke_first());
        if cause == Cause::ScopeChanged {
            simulator.scene.desired.scope = wider_scope();
        }
        assert_eq!(simulator.settle(), Reason::Issued);
        assert_eq!(simulator.causes, [cause]);
        assert_eq!(simulator.scene.free, Some(0));
        assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [simulator.secrets_token().unwrap()]);
    }
}

#[test]
fn after_a_crash_between_making_room_and_issuing_the_rotation_goes_on_and_is_no_vanished_token() {
    for revoke_now in [false, true] {
        let mut simulator = Simulator::new(if revoke_now { full() } else { revoke_first() });
        if revoke_now {
            simulator.scene.desired.requests.revoke_now = request("leaked");
        }
        let cause = if revoke_now { Cause::RevokeNow } else { Cause::RotateRequested };
        while simulator.remote.contains_key(&id(1)) {
            assert_eq!(simulator.step(), None);
        }
        assert_eq!(simulator.causes, [], "room is made, and nothing is sent");
        simulator.crash();
        assert_eq!(simulator.settle(), Reason::Issued);
        assert_eq!(simulator.causes, [cause]);
        let recorded: Vec<Cause> = simulator.scene.log.0.iter().map(|Attempt { cause, .. }| *cause).collect();
        assert!(!recorded.contains(&Cause::Vanished), "{recorded:?}");
        assert!(simulator.scene.status.ready);
    }
}

#[test]
fn a_token_that_somebody_deletes_while_a_rotation_waits_has_vanished() {
    let deleted = |s: &mut Scene| (s.free, s.local.proof) = (Some(1), Some(proof(1, false)));
    full().listing(&[]).change(deleted).records(Cause::Vanished);
    recorded(full(), Preflight::Unknown).after_restart().listing(&[]).change(deleted).records(Cause::Vanished);
}

#[test]
fn until_a_second_list_confirms_it_a_missing_token_is_not_replaced_even_where_room_was_made() {
    let scene = recorded(revoke_first(), Preflight::Passed).after_restart();
    let once = scene.change(|s| (s.free, s.snapshot) = (Some(1), Some(Snapshot::new(HORIZON, now(), Vec::new()))));
    once.says(Reason::Issued, true, "confirm");
    assert!(once.rests().requeue.next_list);
}

#[test]
fn to_revoke_now_makes_room_whatever_when_full_says() {
    for revoke_first in [false, true] {
        let leaked = full().change(|s| {
            s.desired.rotation.revoke_first = revoke_first;
            s.desired.requests.revoke_now = request("leaked");
        });
        leaked.records(Cause::RevokeNow);
        assert_eq!(recorded(leaked.clone(), Preflight::Passed).action(), makes_room());
        leaked.change(|s| s.free = Some(-1)).says(Reason::WaitingForSlot, true, "no free slot");
    }
}

#[test]
fn a_first_and_a_vanished_token_revoke_nothing_to_make_room() {
    for scene in [Scene::new(), Scene::token_deleted()] {
        let scene = scene.change(|s| (s.free, s.desired.rotation.revoke_first) = (Some(0), true));
        scene.says(Reason::WaitingForSlot, false, "no free slot");
    }
}

#[test]
fn a_former_token_makes_room_rather_than_the_one_in_the_secret() {
    let mut scene = Scene::replaced(10);
    (scene.free, scene.desired.requests.rotate, scene.desired.rotation.revoke_first) =
        (Some(0), request("please"), true);
    scene.log.0.push(attempt(3, now(), Cause::RotateRequested));
    scene.local.unsent = Some(Unsent { preflight: Preflight::Passed, ..unsent(3) });
    assert_eq!(scene.action(), makes_room());
}

#[test]
fn an_attempt_of_long_ago_does_not_hide_that_a_token_was_deleted() {
    let scene = Scene::token_deleted();
    let stale = attempt(2, ago(2 * A_DAY), Cause::RevokeNow);
    scene.change(|s| s.log.0.push(stale)).records(Cause::Vanished);
}

#[test]
fn nobody_is_told_to_revoke_first_who_does() {
    let over_full = revoke_first().change(|s| s.free = Some(-1));
    let verdict = over_full.says(Reason::WaitingForSlot, true, "no free slot");
    assert!(!verdict.message.contains("whenFull"), "{}", verdict.message);
}
