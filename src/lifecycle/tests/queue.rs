//! Who waits for a slot gets it in turn: whoever made room first, rotations before new ones, then by time.

use jiff::{SignedDuration, Timestamp};

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::local::{Preflight, Refused, Rejected};
use crate::lifecycle::marker::OwnerId;
use crate::lifecycle::observed::{Availability, SecretView};
use crate::lifecycle::queue::Priority::{MadeRoom, New, Rotation};
use crate::lifecycle::queue::{Priority, Slots, Waiting};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

fn place(priority: Priority, since: Timestamp, owner: &str) -> Waiting {
    Waiting { priority, since, owner: OwnerId::of(owner) }
}

/// So many others that wait, of this priority and since this time.
fn others(count: usize, priority: Priority, since: Timestamp) -> Vec<Waiting> {
    (0..count).map(|n| place(priority, since, &format!("other {n}"))).collect()
}

/// A new resource that has waited for ten minutes.
fn waits() -> Scene {
    Scene::new().change(|s| (s.free, s.status.waiting_since) = (Some(0), Some(ago(10))))
}

/// A rotation that has waited for ten minutes.
fn rotation_waits() -> Scene {
    Scene::in_sync().change(|s| {
        (s.free, s.desired.requests.rotate) = (Some(0), request("please"));
        s.status.waiting_since = Some(ago(10));
    })
}

/// The next attempt is recorded and may be sent.
fn ready(scene: Scene, cause: Cause) -> Scene {
    scene.change(|s| {
        s.has_finalizer = true;
        s.log.0.push(attempt(2, now(), cause));
        s.local.unsent = Some(unsent(2));
    })
}

#[test]
fn who_made_room_is_first_then_rotations_then_by_time_then_always_in_the_same_order() {
    let (a, b) = if OwnerId::of("a") < OwnerId::of("b") { ("a", "b") } else { ("b", "a") };
    let in_order = [
        place(MadeRoom, ago(1), "1"),
        place(Rotation, ago(3), "2"),
        place(Rotation, ago(2), "3"),
        place(New, ago(9), "4"),
        place(New, ago(4), a),
        place(New, ago(4), b),
    ];
    let slots = Slots { queue: super::scenes::in_order(&in_order), ..Slots::default() };
    for (index, waiting) in in_order.iter().enumerate() {
        assert_eq!(slots.ahead_of(waiting), index, "{waiting:?}");
    }
}

#[test]
fn a_place_in_the_queue_is_told() {
    for ahead in 0..4 {
        let scene = waits().change(|s| s.waiting = others(ahead, New, ago(20)));
        let words = format!("DataFastAccount \"default\" has no free slot: place {} in the queue.", ahead + 1);
        scene.says(Reason::WaitingForSlot, false, &words);
        let behind = scene.change(|s| s.waiting.extend(others(3, New, ago(5))));
        behind.says(Reason::WaitingForSlot, false, &words);
    }
}

#[test]
fn a_resource_is_served_once_there_are_more_slots_than_others_before_it() {
    for ahead in 0..3_usize {
        for free in -1..5_i64 {
            let new = waits().change(|s| (s.free, s.waiting) = (Some(free), others(ahead, New, ago(20))));
            if free > i64::try_from(ahead).unwrap() {
                new.records(Cause::New);
            } else {
                new.says(Reason::WaitingForSlot, false, &format!("place {} ", ahead + 1));
            }
        }
    }
    let behind = waits().change(|s| (s.free, s.waiting) = (Some(1), others(9, New, ago(9))));
    behind.records(Cause::New);
}

#[test]
fn a_rotation_goes_before_new_tokens_however_long_those_have_waited() {
    let rotation = rotation_waits().change(|s| (s.free, s.waiting) = (Some(1), others(3, New, ago(A_DAY))));
    rotation.records(Cause::RotateRequested);
    assert_eq!(ready(rotation, Cause::RotateRequested).action(), send(2, Cause::RotateRequested));
    let new = waits().change(|s| (s.free, s.waiting) = (Some(1), others(1, Rotation, now())));
    new.says(Reason::WaitingForSlot, false, "place 2 ");
    let later = rotation_waits().change(|s| (s.free, s.waiting) = (Some(1), others(1, Rotation, ago(11))));
    later.says(Reason::WaitingForSlot, true, "place 2 ");
}

#[test]
fn a_recorded_rotation_whose_turn_passed_waits_like_the_others() {
    let scene = ready(rotation_waits(), Cause::RotateRequested);
    let overtaken = scene.change(|s| (s.free, s.waiting) = (Some(1), others(1, Rotation, ago(11))));
    overtaken.says(Reason::WaitingForSlot, true, "place 2 ");
}

#[test]
fn what_lost_its_token_waits_like_a_new_one_and_made_room_goes_before_all() {
    let priority = |scene: Scene| scene.rests().requeue.slot.unwrap().priority;
    assert_eq!(priority(waits()), New);
    assert_eq!(priority(Scene::token_deleted().change(|s| s.free = Some(0))), New);
    assert_eq!(priority(rotation_waits()), Rotation);
    assert_eq!(priority(rotation_waits().change(|s| s.desired.scope = wider_scope())), Rotation);
    let mut made_room = rotation_waits().change(|s| s.desired.rotation.revoke_first = true);
    made_room.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(priority(made_room), MadeRoom);
}

#[test]
fn time_in_the_queue_counts_from_when_status_said_so_or_from_now_in_whole_seconds() {
    let since = |scene: &Scene| scene.rests().requeue.slot.unwrap().since;
    assert_eq!(since(&waits()), ago(10));
    let first = waits().change(|s| {
        s.status.waiting_since = None;
        s.now = now() + SignedDuration::from_millis(700);
    });
    assert_eq!(since(&first), now(), "as status will say it, so that its place stays");
    assert_eq!(first.rests().requeue.slot.unwrap().owner, me());
}

#[test]
fn only_who_waits_for_a_slot_stands_in_the_queue() {
    let full = |scene: Scene| scene.change(|s| s.free = Some(0));
    for scene in [waits(), rotation_waits(), full(Scene::token_deleted())] {
        let requeue = scene.rests().requeue;
        assert!(requeue.slot.is_some() && requeue.account_changes, "{requeue:?}");
    }
    let others = [
        full(Scene::in_sync()),
        full(Scene::replaced(10)),
        waits().change(|s| s.desired.suspended = true),
        full(Scene::import()).change(|s| s.secret().record.token_id = None),
        waits().change(|s| s.availability = Availability::RateLimited),
    ];
    for scene in others {
        assert_eq!(scene.rests().requeue.slot, None, "{:?}", scene.rests().verdict);
    }
}

#[test]
fn who_could_not_use_a_slot_does_not_wait_for_one() {
    let rejected =
        Rejected { spec_hash: scope().hash(), message: "no".into(), may_be_full: false, retry_at: later(10) };
    let rejected = waits().change(|s| s.local.rejected = Some(rejected));
    rejected.says(Reason::Rejected, false, "refused the request");
    let throttled = Scene::token_deleted().change(|s| {
        s.free = Some(0);
        s.log.0.push(attempt(2, ago(2), Cause::Vanished));
        s.log.0.push(attempt(3, now(), Cause::Vanished));
    });
    throttled.says(Reason::Throttled, false, "the next is issued at");
    for scene in [rejected, throttled] {
        assert_eq!(scene.rests().requeue.slot, None);
    }
}

#[test]
fn a_secret_that_would_be_refused_is_found_out_only_when_it_is_ones_turn() {
    let scene = |free| {
        let refused = Refused { message: "exceeded quota".into(), retry_at: later(1) };
        ready(waits(), Cause::New).change(|s| {
            s.free = Some(free);
            s.local.unsent.as_mut().unwrap().preflight = Preflight::Refused(refused);
        })
    };
    scene(0).says(Reason::WaitingForSlot, false, "place 1 ");
    scene(1).says(Reason::SecretWriteRefused, false, "exceeded quota");
    assert_eq!(scene(1).rests().requeue.slot, None, "it does not keep others from the slot");
}

#[test]
fn to_revoke_first_frees_a_slot_for_oneself_though_others_wait() {
    let crowd = || [others(2, Rotation, ago(A_DAY)), others(2, New, ago(A_DAY))].concat();
    let rotation = rotation_waits().change(|s| (s.desired.rotation.revoke_first, s.waiting) = (true, crowd()));
    let mut scene = ready(rotation, Cause::RotateRequested);
    assert_eq!(scene.action(), revoke(1, RevokeCause::MadeRoom));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    scene.free = Some(1);
    assert_eq!(scene.action(), send(2, Cause::RotateRequested), "the slot is its own");
    let another = scene.change(|s| s.waiting.push(place(MadeRoom, ago(11), "another")));
    another.says(Reason::WaitingForSlot, false, "place 2 ");
}

#[test]
fn a_lost_key_makes_room_for_its_successor_though_others_wait() {
    let mut scene = ready(Scene::secret_deleted(), Cause::KeyLost).change(|s| {
        (s.free, s.waiting) = (Some(0), [others(2, Rotation, ago(A_DAY)), others(2, New, ago(A_DAY))].concat());
    });
    assert_eq!(scene.action(), revoke(1, RevokeCause::MadeRoom));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    (scene.free, scene.status.token_id, scene.local.made_room) = (Some(1), None, true);
    scene.secret = SecretView::Missing;
    assert!(matches!(scene.action(), Action::Send { .. }), "{:?}", scene.action());
}

#[test]
fn making_room_among_others_costs_one_token_and_leaves_one() {
    let crowd = [others(3, Rotation, ago(A_DAY)), others(3, New, ago(A_DAY))].concat();
    let scene = rotation_waits().change(|s| (s.desired.rotation.revoke_first, s.waiting) = (true, crowd));
    let mut simulator = Simulator::new(scene);
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!((simulator.causes.len(), simulator.scene.free), (1, Some(0)));
    assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [simulator.secrets_token().unwrap()]);
}

#[test]
fn one_that_waited_is_served_when_those_before_it_have_been() {
    let mut simulator = Simulator::new(waits().change(|s| s.waiting = others(2, New, ago(20))));
    for ahead in [2, 1] {
        simulator.scene.waiting.truncate(ahead);
        simulator.scene.free = Some(i64::try_from(ahead).unwrap());
        assert_eq!(simulator.settle(), Reason::WaitingForSlot);
    }
    simulator.scene.waiting.clear();
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::New]);
}

#[test]
fn who_made_room_before_a_crash_is_still_first_after_it() {
    let crowd = [others(3, Rotation, ago(A_DAY)), others(3, New, ago(A_DAY))].concat();
    let scene = rotation_waits().change(|s| (s.desired.rotation.revoke_first, s.waiting) = (true, crowd));
    let mut simulator = Simulator::new(scene);
    while simulator.remote.contains_key(&id(1)) {
        assert_eq!(simulator.step(), None);
    }
    simulator.crash();
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::RotateRequested]);
}

#[test]
fn a_lost_key_takes_no_slot_that_others_wait_for() {
    let lost = Scene::secret_deleted().change(|s| (s.free, s.waiting) = (Some(1), others(1, Rotation, ago(20))));
    lost.says(Reason::WaitingForSlot, false, "place 2 ");
}

#[test]
fn a_new_token_whose_request_came_to_nothing_still_waits_behind_rotations() {
    let scene = Scene::recorded(Preflight::Unknown).change(|s| s.free = Some(0));
    assert_eq!(scene.rests().requeue.slot.unwrap().priority, New);
}

#[test]
fn whose_former_token_made_room_has_that_slot() {
    let mut scene = ready(Scene::replaced(10), Cause::RotateRequested).change(|s| {
        (s.free, s.desired.requests.rotate, s.desired.rotation.revoke_first) = (Some(0), request("please"), true);
        s.waiting = others(1, Rotation, ago(A_DAY));
    });
    assert_eq!(scene.action(), revoke(1, RevokeCause::MadeRoom));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    (scene.free, scene.local.made_room) = (Some(1), true);
    assert!(matches!(scene.action(), Action::Send { .. }), "{:?}", scene.action());
}
