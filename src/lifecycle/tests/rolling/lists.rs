//! Lists that lag behind a roll.

use super::*;

#[test]
fn a_list_that_lags_behind_a_roll_proves_nothing_until_the_horizon() {
    let behind = |seconds: i64| {
        let begun = now() - SignedDuration::from_mins(10) + SignedDuration::from_secs(seconds);
        rolled(10, Cause::RotationDue).change(|s| s.snapshot = Some(lists(begun, &[token(1)])))
    };
    for seconds in [0, 1, 119] {
        behind(seconds).says(Reason::Issued, true, "confirm");
        assert!(behind(seconds).rests().requeue.next_list);
    }
    assert_eq!(records(&behind(120)), (Cause::KeyLost, Some(1)));
}

#[test]
fn what_this_process_rolled_is_not_doubted_for_a_list_that_lags() {
    let mut snapshot = lists(ago(1), &[token(1)]);
    snapshot.rolled(&id(1), &key(2).mask(), now());
    let shown = |snapshot: &Snapshot| snapshot.get(&id(1)).unwrap().token.display_key.clone();
    assert_eq!(shown(&snapshot), key(2).mask());
    for (minutes, expected) in [(0, 2), (1, 2), (2, 1)] {
        snapshot.listed(later(minutes), vec![token(1)]);
        assert_eq!(shown(&snapshot), key(expected).mask(), "a list that begins {minutes} minutes after it");
    }
}

#[test]
fn a_lagging_list_changes_nothing_after_a_swap() {
    let mut simulator = Simulator::new(due(Cause::RotateRequested));
    let lagging: Vec<Token> = simulator.remote.values().cloned().collect();
    simulator.run().unwrap();
    for _ in 0..3 {
        simulator.pass(SignedDuration::from_secs(30));
        let now = simulator.scene.now;
        simulator.scene.snapshot.as_mut().unwrap().listed(now, lagging.clone());
        let decision = simulator.run().unwrap();
        assert_eq!((decision.verdict.reason, decision.verdict.ready), (Reason::Issued, true));
        assert!(decision.verdict.message.contains(&key(100).mask()), "{}", decision.verdict.message);
    }
    is_in_order(&mut simulator, "in the end");
    assert_eq!(simulator.rolls.len(), 1);
}
