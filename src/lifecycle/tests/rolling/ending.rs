//! A deletion at any moment of a roll.

use super::*;

#[test]
fn a_deletion_at_any_moment_of_a_roll_leaves_nothing() {
    for cause in ROLLS {
        for steps in 0..=STEPS {
            for crash in [false, true] {
                let what = format!("{cause:?}, {steps} steps, crash {crash}");
                let mut simulator = Simulator::new(due(cause));
                (0..steps).any(|_| simulator.step().is_some());
                if crash {
                    simulator.crash();
                }
                simulator.scene.desired.deleting = true;
                simulator.run().unwrap();
                assert!(simulator.released, "{what}: it waits for nothing");
                assert!(simulator.remote.is_empty() && simulator.scene.secret_is_gone(), "{what}");
            }
        }
    }
}

#[test]
fn a_deletion_that_retains_leaves_the_live_key_in_the_secret() {
    for cause in [Cause::RotateRequested, Cause::RevokeNow, Cause::RotationDue] {
        for steps in 0..=STEPS {
            for (crash, lags) in [(false, false), (true, false), (true, true)] {
                let what = format!("{cause:?}, {steps} steps, crash {crash}, lags {lags}");
                let mut simulator = Simulator::new(due(cause).change(|s| s.desired.retain = true));
                let before = simulator.remote.clone();
                (0..steps).any(|_| simulator.step().is_some());
                match (crash, lags) {
                    (true, true) => simulator.crash_behind(&before),
                    (true, false) => simulator.crash(),
                    _ => {}
                }
                simulator.scene.desired.deleting = true;
                simulator.settle();
                assert!(simulator.released, "{what}: {:?}", simulator.scene.decide());
                assert!(simulator.has_live_key(), "{what}: what is left works");
                assert!(simulator.rolls.len() <= 2 && simulator.causes.is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn a_deletion_that_retains_waits_for_the_first_list_where_a_roll_may_have_been_lost() {
    let lost = in_sync().deleted().change(|s| {
        s.desired.retain = true;
        s.log.0.push(roll(2, 1, Cause::RotationDue));
        (s.snapshot, s.availability) = (None, Availability::Connecting);
    });
    assert!(lost.pauses().account_changes, "its Secret may have a key that has ended");
    let abandoned = lost.change(|s| s.desired.abandon = true);
    assert_eq!(abandoned.action(), Action::Release);
}
