//! Workloads are restarted after each new key that took another's place, and for nothing else.

use crate::lifecycle::decision::Action;
use crate::lifecycle::observed::SecretView;
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

/// Token 2 just took the place of token 1, for this cause; status does not say so yet.
fn swapped(cause: Cause) -> Scene {
    Scene::replaced(1).change(|s| {
        s.desired.restarts = true;
        s.status = Scene::in_sync().status;
        s.log.0[1].cause = cause;
    })
}

fn restart() -> Action {
    Action::Restart { at: ago(1) }
}

#[test]
fn every_new_key_but_the_first_restarts_workloads_at_the_time_of_its_swap() {
    use Cause::*;
    for cause in [RevokeNow, KeyLost, Vanished, ScopeChanged, RotateRequested, RotationDue, Unknown] {
        assert_eq!(swapped(cause).action(), restart(), "{cause:?}");
        assert_eq!(swapped(cause).change(|s| s.status = Default::default()).action(), restart(), "{cause:?}");
    }
    swapped(New).says(Reason::Issued, true, "dft_002");
}

#[test]
fn without_workloads_to_restart_there_is_nothing_to_do() {
    swapped(Cause::RotationDue).change(|s| s.desired.restarts = false).says(Reason::Issued, true, "dft_002");
}

#[test]
fn what_was_done_is_not_done_again_by_this_process_nor_once_status_names_the_token() {
    let done = swapped(Cause::RotationDue).change(|s| s.local.restarted = Some(ago(1)));
    done.says(Reason::Issued, true, "dft_002");
    assert_eq!(done.after_restart().action(), restart(), "it may not have been done");
    let named = swapped(Cause::RotationDue).change(|s| s.status.token_id = Some(id(2)));
    named.says(Reason::Issued, true, "dft_002");
    let before = swapped(Cause::RotationDue).change(|s| s.local.restarted = Some(ago(A_DAY)));
    assert_eq!(before.action(), restart(), "that was for the key before");
}

#[test]
fn an_attempt_that_the_log_has_forgotten_restarts_workloads_only_where_status_names_another_token() {
    let forgotten = swapped(Cause::RotationDue).change(|s| s.log.0.truncate(1));
    assert_eq!(forgotten.action(), restart());
    forgotten.change(|s| s.status = Default::default()).rests();
}

#[test]
fn a_first_token_and_one_that_is_taken_over_restart_nothing() {
    for scene in [Scene::new(), Scene::in_sync(), Scene::import(), Scene::restored()] {
        let mut simulator = Simulator::new(scene.change(|s| s.desired.restarts = true));
        assert_eq!(simulator.settle(), Reason::Issued);
        assert_eq!(simulator.restarted, []);
    }
}

#[test]
fn each_swap_restarts_workloads_once_before_status_names_the_token() {
    let mut simulator = Simulator::new(Scene::in_sync().change(|s| s.desired.restarts = true));
    simulator.scene.desired.requests.rotate = request("please");
    while simulator.restarted.is_empty() {
        assert_eq!(simulator.step(), None);
    }
    assert_eq!(simulator.scene.status.token_id, Some(id(1)));
    simulator.crash();
    simulator.settle();
    let swapped = simulator.secret_record().issued_at.unwrap();
    assert_eq!(simulator.restarted, [swapped, swapped], "again, for the crash: it changes nothing");
    simulator.crash();
    simulator.settle();
    assert_eq!(simulator.restarted.len(), 2);
    simulator.scene.secret = SecretView::Missing;
    simulator.settle();
    assert_eq!(simulator.causes, [Cause::RotateRequested, Cause::KeyLost]);
    assert_eq!(simulator.restarted.len(), 3);
}

#[test]
fn a_suspended_resource_still_restarts_what_has_a_new_key() {
    let suspended = swapped(Cause::RotationDue).change(|s| s.desired.suspended = true);
    assert_eq!(suspended.action(), restart(), "the old key goes when it is resumed");
}

#[test]
fn a_key_whose_token_no_list_shows_yet_restarts_nothing() {
    swapped(Cause::RotationDue).change(|s| s.snapshot = None).says(Reason::Issued, true, "confirm");
}
