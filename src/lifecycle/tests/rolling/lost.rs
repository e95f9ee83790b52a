//! A roll whose answer or key was lost, and what others do to token and Secret.

use super::*;

#[test]
fn a_crash_anywhere_in_a_roll_costs_one_more_at_most_and_leaves_the_live_key_in_the_secret() {
    for cause in ROLLS {
        for restarts in [false, true] {
            for steps in 0..=STEPS {
                for lags in [false, true] {
                    let what = format!("{cause:?}, restarts {restarts}, crash after {steps}, lags {lags}");
                    let mut simulator = Simulator::new(due(cause).change(|s| s.desired.restarts = restarts));
                    let lagging = simulator.remote.clone();
                    (0..steps).any(|_| simulator.step().is_some());
                    if lags {
                        simulator.crash_behind(&lagging)
                    } else {
                        simulator.crash()
                    }
                    is_in_order(&mut simulator, &what);
                    assert!(simulator.rolls.len() <= 2, "{what}: {:?}", simulator.rolls);
                    assert!(simulator.rolls.iter().all(|(_, why)| *why == cause), "{what}: {:?}", simulator.rolls);
                    assert_eq!((simulator.causes.clone(), simulator.secrets_token()), (vec![], Some(id(1))), "{what}");
                    if restarts {
                        let at = simulator.secret_record().issued_at;
                        assert_eq!(simulator.restarted.last(), at.as_ref(), "{what}: workloads have the live key");
                    }
                }
            }
        }
    }
}

#[test]
fn a_lost_roll_is_told_from_a_key_that_somebody_else_gave_the_token() {
    let lost = |attempts: &[Attempt]| {
        let mut scene = in_sync().listing(&[with_key(3)]);
        scene.log.0.extend_from_slice(attempts);
        scene
    };
    assert_eq!(records(&lost(&[])), (Cause::KeyLost, Some(1)), "somebody did it by hand");
    for cause in [Cause::RotationDue, Cause::RevokeNow, Cause::RotateRequested, Cause::KeyLost] {
        let ours = lost(&[roll(2, 2 * A_DAY, cause)]).change(|s| s.now = later(60));
        assert_eq!(records(&ours), (cause, Some(1)), "it is the current one, however old");
    }
    let early = lost(&[roll(2, 1, Cause::RotationDue), attempt(3, now(), Cause::ScopeChanged)]);
    assert_eq!(records(&early), (Cause::RotationDue, Some(1)), "an earlier one may take effect late");
    let past = lost(&[roll(2, 2, Cause::RotationDue), attempt(3, now(), Cause::ScopeChanged)]);
    assert_eq!(records(&past), (Cause::RotationDue, Some(1)), "or took effect long ago");
    let swapped = past.change(|s| s.secret().record.attempt = Some(nonce(3)));
    assert_eq!(records(&swapped), (Cause::KeyLost, Some(1)), "the Secret has had a later key since");
    let unsent = lost(&[roll(2, 1, Cause::RotationDue)]).change(|s| s.local.unsent = Some(unsent(2)));
    assert_eq!(records_cause(&unsent), Cause::KeyLost, "it was not sent, so somebody did it by hand");
    let held = rolled(A_DAY, Cause::RotationDue).listing(&[with_key(3)]);
    assert_eq!(records(&held), (Cause::KeyLost, Some(1)), "the Secret has had that attempt's key");
}

/// Of a scene with an attempt at hand.
fn records_cause(scene: &Scene) -> Cause {
    match scene.action() {
        Action::Record { cause, .. } | Action::Send { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_that_somebody_gives_by_hand_is_lost_and_who_does_it_again_and_again_is_held_back() {
    for rolls in [true, false] {
        let mut simulator = Simulator::new(in_sync().change(|s| {
            s.desired.rotation.rolls = rolls;
            s.desired.rotation.overlap = SignedDuration::ZERO;
        }));
        for n in 0..4 {
            let token = simulator.secrets_token().unwrap();
            simulator.remote.get_mut(&token).unwrap().display_key = key(50 + n).mask();
            simulator.pass(HORIZON);
            simulator.list();
            let said = simulator.run().unwrap().verdict.reason;
            let issued = simulator.rolls.len() + simulator.causes.len();
            match n {
                0 => assert_eq!((said, issued), (Reason::Issued, 1), "the first time at once"),
                1 | 2 => assert_eq!((said, issued), (Reason::Issued, usize::from(n) + 1), "the next pause is shorter"),
                _ => assert_eq!((said, issued), (Reason::Throttled, 3), "four minutes"),
            }
            assert!(simulator.rolls.iter().all(|(_, cause)| *cause == Cause::KeyLost));
            assert!(simulator.causes.iter().all(|cause| *cause == Cause::KeyLost));
            assert_eq!(simulator.rolls.is_empty(), !rolls);
        }
        is_in_order(&mut simulator, "in the end");
    }
}

#[test]
fn whoever_deletes_the_secret_again_and_again_is_held_back_whatever_the_token_was_rolled_for_before() {
    for before in [None, Some(Cause::RotateRequested), Some(Cause::RotationDue), Some(Cause::RevokeNow)] {
        let scene = before.map_or_else(in_sync, |cause| rolled(A_DAY, cause));
        let mut simulator = Simulator::new(scene);
        for n in 0..3 {
            simulator.scene.secret = SecretView::Missing;
            let said = simulator.run().unwrap().verdict.reason;
            let expected = if n == 0 { Reason::Issued } else { Reason::Throttled };
            assert_eq!(said, expected, "{before:?}, {n}");
            assert_eq!(simulator.rolls, [(id(1), Cause::KeyLost)], "{before:?}, {n}");
        }
        is_in_order(&mut simulator, "in the end");
        assert_eq!(simulator.rolls, [Cause::KeyLost; 2].map(|cause| (id(1), cause)), "{before:?}");
    }
}
