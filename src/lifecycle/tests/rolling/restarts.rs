//! Workloads are restarted after each roll.

use super::*;

#[test]
fn workloads_are_restarted_though_a_list_lags_behind_the_roll_that_another_process_swapped() {
    let mut simulator = Simulator::new(due(Cause::RotateRequested).change(|s| s.desired.restarts = true));
    let lagging = simulator.remote.clone();
    while simulator.rolls.is_empty() || simulator.scene.local.pending.is_some() {
        assert_eq!(simulator.step(), None);
    }
    assert_eq!(simulator.restarted, []);
    simulator.crash_behind(&lagging);
    is_in_order(&mut simulator, "after the crash");
    assert_eq!(simulator.restarted, [simulator.secret_record().issued_at.unwrap()]);
}

#[test]
fn workloads_are_restarted_once_the_account_opens_after_a_crash_between_swap_and_restart() {
    let mut simulator = Simulator::new(due(Cause::RotateRequested).change(|s| s.desired.restarts = true));
    while simulator.rolls.is_empty() || simulator.scene.local.pending.is_some() {
        assert_eq!(simulator.step(), None);
    }
    simulator.crash();
    (simulator.scene.snapshot, simulator.scene.availability) = (None, Availability::Unavailable("503".into()));
    simulator.run().unwrap();
    simulator.scene.availability = Availability::Open;
    simulator.list();
    is_in_order(&mut simulator, "after the crash");
    assert_eq!(simulator.restarted, [simulator.secret_record().issued_at.unwrap()]);
}

#[test]
fn a_roll_restarts_workloads_though_it_had_to_wait_without_a_secret() {
    let mut simulator = Simulator::new(due(Cause::KeyLost).change(|s| {
        s.desired.restarts = true;
        s.availability = Availability::RateLimited;
    }));
    assert_eq!(simulator.run().unwrap().verdict.reason, Reason::RateLimited);
    simulator.scene.availability = Availability::Open;
    is_in_order(&mut simulator, "in the end");
    assert_eq!(simulator.restarted, [simulator.secret_record().issued_at.unwrap()]);
}

#[test]
fn each_roll_restarts_workloads_be_it_in_the_same_second() {
    let mut simulator = Simulator::new(in_sync().change(|s| s.desired.restarts = true));
    for n in 0..3 {
        simulator.scene.desired.requests.rotate = Request::parse(&format!("{n}"));
        simulator.run().unwrap();
        assert_eq!(simulator.restarted.len(), n + 1);
        assert_eq!(simulator.restarted.last(), simulator.secret_record().issued_at.as_ref());
    }
    let seconds: Vec<_> = simulator.restarted.iter().map(|at| at.as_second()).collect();
    assert!(seconds.is_sorted_by(|a, b| a < b), "status tells them apart: {seconds:?}");
    assert!(simulator.scene.now < now() + SignedDuration::from_secs(1), "all in one second");
    simulator.crash();
    simulator.settle();
    assert_eq!(simulator.restarted.len(), 3, "and none is done again");
}

#[test]
fn a_restart_that_status_does_not_tell_of_is_done_again() {
    let swapped = rolled(1, Cause::RotationDue).change(|s| {
        s.desired.restarts = true;
        s.status.issued_at = Some(ago(A_DAY));
    });
    assert_eq!(swapped.action(), Action::Restart { at: ago(1) });
    let done = swapped.clone().change(|s| s.local.restarted = Some(ago(1)));
    done.says(Reason::Issued, true, "dft_002");
    assert_eq!(done.after_restart().action(), Action::Restart { at: ago(1) });
    let earlier = swapped.clone().change(|s| s.local.restarted = Some(ago(2)));
    assert_eq!(earlier.action(), Action::Restart { at: ago(1) }, "that was for the key before");
    swapped.change(|s| s.status.issued_at = Some(ago(1))).says(Reason::Issued, true, "dft_002");
}
