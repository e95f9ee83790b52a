//! What stands in the way of a roll: another strategy, a refusal, another leader.

use super::*;

#[test]
fn a_change_of_strategy_at_any_moment_leaves_one_token_with_its_live_key() {
    for cause in ROLLS {
        for (first, crash) in [(true, false), (true, true), (false, false), (false, true)] {
            for steps in 0..=STEPS {
                let what = format!("{cause:?}, first {first}, {steps} steps, crash {crash}");
                let mut simulator = Simulator::new(due(cause).change(|s| {
                    s.desired.rotation.rolls = first;
                    s.desired.rotation.overlap = SignedDuration::ZERO;
                }));
                (0..steps).any(|_| simulator.step().is_some());
                simulator.scene.desired.rotation.rolls = !first;
                if crash {
                    simulator.crash();
                }
                is_in_order(&mut simulator, &what);
                assert!(simulator.rolls.len() + simulator.causes.len() <= 2, "{what}");
            }
        }
    }
}

#[test]
fn an_attempt_that_was_not_sent_is_recorded_anew_for_the_other_strategy() {
    for cause in ROLLS {
        let to_replace = recorded(due(cause), cause).change(|s| s.desired.rotation.rolls = false);
        match to_replace.action() {
            Action::Record { again: Some(again), rolls: None, cause: why, .. } => {
                assert_eq!((again, why), (nonce(2), cause));
            }
            other => panic!("{other:?}"),
        }
        let to_roll = recorded(due(cause), cause).change(|s| s.log.0[1].rolls = None);
        match to_roll.action() {
            Action::Record { again: Some(again), rolls: Some(token), .. } => {
                assert_eq!((again, token), (nonce(2), id(1)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_token_that_datafast_denies_to_have_is_replaced_and_revoked_after_its_overlap() {
    for cause in ROLLS {
        let denied = recorded(due(cause), cause).change(|s| {
            s.local.unsent = Some(Unsent { preflight: Preflight::Unknown, ..unsent(2) });
            s.local.denied.insert(id(1), now());
        });
        assert_eq!(denied.action(), Action::Preflight, "{cause:?}");
        let passed = denied.change(|s| s.local.unsent = Some(unsent(2)));
        match passed.action() {
            Action::Record { again: Some(_), rolls: None, cause: why, .. } => assert_eq!(why, cause),
            other => panic!("{cause:?}: {other:?}"),
        }
        let mut simulator = Simulator::new(passed.change(|s| s.desired.rotation.overlap = SignedDuration::ZERO));
        is_in_order(&mut simulator, cause.as_str());
        assert_eq!((simulator.rolls, simulator.causes), (vec![], vec![cause]));
    }
}

#[test]
fn a_token_that_is_gone_when_its_key_is_asked_for_is_replaced() {
    for cause in ROLLS {
        let mut simulator = Simulator::new(due(cause));
        // No list shows it yet.
        simulator.remote.clear();
        is_in_order(&mut simulator, cause.as_str());
        assert_eq!((simulator.rolls.len(), simulator.causes.len()), (1, 1), "{cause:?}: asked once, and replaced");
    }
}

#[test]
fn a_key_that_datafast_refuses_to_give_is_asked_for_again_later() {
    for cause in ROLLS {
        let refused = recorded(due(cause), cause).change(|s| {
            s.local.rejected = Some(Rejected {
                spec_hash: scope().hash(),
                message: "no".into(),
                may_be_full: false,
                retry_at: later(10),
            });
        });
        refused.says(Reason::Rejected, false, "refused");
        assert_eq!(refused.rests().requeue.at, Some(later(10)));
        let again = refused.change(|s| s.now = later(10));
        assert!(matches!(again.action(), Action::Record { again: Some(_), rolls: Some(_), .. }), "{cause:?}");
    }
}

#[test]
fn the_new_key_and_its_record_reach_the_secret_in_one_write() {
    for cause in ROLLS {
        let scene = key_pending(cause);
        let record = scene.writes_secret();
        assert_eq!((record.attempt, record.token_id), (Some(nonce(2)), Some(id(1))), "{cause:?}");
        assert_eq!(record.key_sha256, Some(key(2).fingerprint(id(1).as_str())));
        assert_eq!(record.issued_at, Some(now()));
        assert_eq!(record.previous, [], "the token is the same");
        assert_eq!(record.answered, scene.desired.requests);
        for change in [
            (|s| s.desired.suspended = true) as fn(&mut Scene),
            |s| s.availability = Availability::RateLimited,
            |s| s.desired.rotation.rolls = false,
        ] {
            let scene = key_pending(cause).change(change);
            assert!(matches!(scene.action(), Action::Swap { .. }), "{cause:?}: {:?}", scene.action());
        }
    }
}

#[test]
fn a_key_in_hand_that_is_superseded_or_undeliverable_is_let_go_and_its_token_stays() {
    for cause in ROLLS {
        let superseded = key_pending(cause).change(|s| s.log.0.push(roll(3, 0, cause)));
        assert_eq!(superseded.action(), Action::DropKey, "{cause:?}");
        let closed = superseded.change(|s| s.availability = Availability::RateLimited);
        assert_eq!(closed.action(), Action::DropKey, "{cause:?}: that takes no call");

        let mut refusing = key_pending(cause);
        refusing.local.pending.as_mut().unwrap().refused = Some(refused(later(60)));
        refusing.says(Reason::SecretWriteRefused, false, "exceeded quota");
        assert_eq!(refusing.rests().requeue.at, Some(now() + UNDELIVERABLE));
        refusing.now = now() + UNDELIVERABLE;
        assert_eq!(refusing.action(), Action::DropKey, "{cause:?}");

        let over =
            key_pending(cause).change(|s| s.desired.expiry = Some(Expiry { created: ago(A_DAY), after: hours(1) }));
        assert_eq!(over.action(), Action::DropKey, "{cause:?}");
        let mut over = Simulator::new(over);
        over.settle();
        assert!(over.remote.is_empty() && over.scene.secret_is_gone(), "{cause:?}: it ends with its token");
    }
}

#[test]
fn after_a_refused_secret_the_token_gets_another_key_once_the_secret_is_taken() {
    for cause in ROLLS {
        let mut scene = key_pending(cause);
        scene.local.pending.as_mut().unwrap().refused = Some(refused(later(60)));
        let mut simulator = Simulator::new(scene);
        simulator.remote.get_mut(&id(1)).unwrap().display_key = key(2).mask();
        simulator.pass(UNDELIVERABLE);
        assert_eq!(simulator.step(), None);
        assert!(simulator.scene.local.pending.is_none(), "{cause:?}: the key is let go");
        let calling = simulator.scene.clone().change(|s| s.local.in_flight = Some(nonce(9)));
        assert!(!calling.rests().verdict.ready, "{cause:?}: the Secret's key has ended");
        is_in_order(&mut simulator, cause.as_str());
        assert_eq!((simulator.rolls, simulator.causes), (vec![(id(1), cause)], vec![]), "{cause:?}");
    }
}

#[test]
fn two_leaders_that_roll_one_after_the_other_end_with_the_later_key() {
    for cause in [Cause::RotateRequested, Cause::RevokeNow, Cause::RotationDue] {
        let mut simulator = Simulator::new(key_pending(cause));
        // The other one recorded, rolled and swapped.
        simulator.scene.log.0.push(Attempt { requests: simulator.scene.desired.requests.clone(), ..roll(3, 0, cause) });
        let mut facts = rolled_secret(0);
        facts.record.attempt = Some(nonce(3));
        facts.record.key_sha256 = Some(key(3).fingerprint(id(1).as_str()));
        facts.record.answered = simulator.scene.desired.requests.clone();
        facts.key = Some(key(3));
        simulator.scene.secret = SecretView::Present(facts);
        simulator.remote.get_mut(&id(1)).unwrap().display_key = key(3).mask();
        simulator.scene.desired.rotation.every = None;
        is_in_order(&mut simulator, cause.as_str());
        assert_eq!(simulator.rolls, [], "{cause:?}: the later key stays");
    }
}
