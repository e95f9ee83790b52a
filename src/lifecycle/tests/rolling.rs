//! A token gets another key: the same token, no slot, and its old key ends at once.

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::datafast::Token;
use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::desired::Expiry;
use crate::lifecycle::facts::facts;
use crate::lifecycle::local::{PendingKey, Preflight, Rejected, Unsent};
use crate::lifecycle::observed::{Availability, SecretFacts, SecretView, StatusRecord};
use crate::lifecycle::record::{Attempt, Cause, Request};
use crate::lifecycle::rules::delivery::UNDELIVERABLE;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::Reason;

use super::random;
use super::scenes::*;
use super::simulator::Simulator;

const ROLLS: [Cause; 4] = [Cause::RevokeNow, Cause::KeyLost, Cause::RotateRequested, Cause::RotationDue];

/// [`Scene::in_sync`], of a resource whose token gets other keys.
fn in_sync() -> Scene {
    Scene::in_sync().change(|s| (s.desired.rotation.rolls, s.status.issued_at) = (true, Some(ago(A_DAY))))
}

/// [`Scene::in_sync`], and this cause for another key.
fn due(cause: Cause) -> Scene {
    in_sync().change(|s| match cause {
        Cause::RevokeNow => s.desired.requests.revoke_now = request("leaked"),
        Cause::KeyLost => s.secret = SecretView::Missing,
        Cause::RotateRequested => s.desired.requests.rotate = request("please"),
        // So seldom that a test sees no second time.
        Cause::RotationDue => {
            s.desired.rotation.every = Some(hours(900 * 24));
            s.log.0[0].at = ago(1000 * A_DAY);
            s.secret().record.issued_at = Some(ago(1000 * A_DAY));
        }
        cause => panic!("{cause:?} is met by another token"),
    })
}

/// Token 1 with the key of attempt `n`.
fn with_key(n: u8) -> Token {
    Token { display_key: key(n).mask(), ..token(1) }
}

/// Attempt `n` is to give token 1 another key.
fn roll(n: u8, minutes: i64, cause: Cause) -> Attempt {
    Attempt { rolls: Some(id(1)), ..attempt(n, ago(minutes), cause) }
}

/// The Secret with the key that attempt 2 gave token 1.
fn rolled_secret(minutes: i64) -> SecretFacts {
    let mut facts = secret(1, ago(minutes));
    facts.record.attempt = Some(nonce(2));
    facts.record.key_sha256 = Some(key(2).fingerprint(id(1).as_str()));
    facts.key = Some(key(2));
    facts
}

/// Attempt 2 gave token 1 another key so many minutes ago, for this cause: Secret, status and list agree.
fn rolled(minutes: i64, cause: Cause) -> Scene {
    let mut scene = in_sync().listing(&[with_key(2)]);
    scene.log.0.push(roll(2, minutes, cause));
    scene.secret = SecretView::Present(rolled_secret(minutes));
    scene.status.issued_at = Some(ago(minutes));
    scene
}

/// Attempt 2 is recorded just now, and ready to be sent.
fn recorded(mut scene: Scene, cause: Cause) -> Scene {
    let requests = scene.desired.requests.clone();
    scene.log.0.push(Attempt { requests, ..roll(2, 0, cause) });
    scene.local.unsent = Some(unsent(2));
    scene
}

/// DataFast just answered attempt 2, and this process has the key.
fn key_pending(cause: Cause) -> Scene {
    let mut scene = recorded(due(cause), cause);
    scene.local.unsent = None;
    let key_sha256 = key(2).fingerprint(id(1).as_str());
    let requests = scene.desired.requests.clone();
    scene.local.pending = Some(PendingKey { token_id: id(1), rolled: true, key_sha256, requests, ..pending(2, now()) });
    scene.snapshot.as_mut().unwrap().rolled(&id(1), &key(2).mask(), now());
    scene
}

/// What is about to be recorded: the cause, and the token that is to get another key.
fn records(scene: &Scene) -> (Cause, Option<u8>) {
    match scene.action() {
        Action::Record { cause, rolls, .. } => (cause, rolls.as_ref().map(super::random::number)),
        other => panic!("{other:?} is no record"),
    }
}

/// It settles with the one token, whose live key is in the Secret; all that is asked for is answered.
fn is_in_order(simulator: &mut Simulator, what: &str) {
    assert_eq!(simulator.settle(), Reason::Issued, "{what}");
    assert!(simulator.has_live_key(), "{what}: the Secret has a key that works");
    let token = simulator.secrets_token().unwrap();
    assert_eq!(simulator.remote.keys().collect::<Vec<_>>(), [&token], "{what}: nothing leaked");
    let status = &simulator.scene.status;
    assert!(status.ready && status.token_id == Some(token), "{what}");
    let record = simulator.secret_record();
    let asked = &simulator.scene.desired.requests;
    assert!(asked.rotate.is_none() || asked.rotate == record.answered.rotate, "{what}");
    assert!(asked.revoke_now.is_none() || asked.revoke_now == record.answered.revoke_now, "{what}");
    assert_eq!(simulator.scene.status.issued_at.map(|at| at.as_second()), record.issued_at.map(|at| at.as_second()));
}

#[test]
fn each_cause_for_another_key_is_met_by_one_roll_of_the_same_token() {
    for cause in ROLLS {
        let mut simulator = Simulator::new(due(cause));
        is_in_order(&mut simulator, cause.as_str());
        assert_eq!(simulator.rolls, [(id(1), cause)]);
        assert_eq!(simulator.causes, [], "{cause:?}: no token is issued");
        assert_eq!(simulator.secrets_token(), Some(id(1)));
    }
}

#[test]
fn a_roll_is_recorded_and_dry_run_before_it_is_sent_like_any_attempt() {
    for cause in ROLLS {
        assert_eq!(records(&due(cause)), (cause, Some(1)));
        let with = |preflight| {
            recorded(due(cause), cause).change(|s| s.local.unsent = Some(Unsent { preflight, ..unsent(2) }))
        };
        assert_eq!(with(Preflight::Unknown).action(), Action::Preflight);
        with(Preflight::Refused(refused(later(1)))).says(
            Reason::SecretWriteRefused,
            cause != Cause::KeyLost,
            "no token is issued",
        );
        let send = Action::Send { nonce: nonce(2), cause, rolls: Some(id(1)), by: now() + STAYS_FRESH };
        assert_eq!(with(Preflight::Passed).action(), send);
        let stale = with(Preflight::Passed).change(|s| s.now = now() + STAYS_FRESH + SignedDuration::from_nanos(1));
        assert!(matches!(stale.action(), Action::Record { again: Some(_), rolls: Some(_), .. }), "{cause:?}");
    }
}

#[test]
fn what_is_to_be_another_token_is_replaced() {
    let renamed = |s: &mut Scene| s.desired.scope.token_name = "team/other".into();
    let cases: [(&str, Scene, Cause); 6] = [
        ("no token yet", Scene::new().change(|s| s.desired.rotation.rolls = true), Cause::New),
        ("vanished", Scene::token_deleted().change(|s| s.desired.rotation.rolls = true), Cause::Vanished),
        ("other permissions", in_sync().change(|s| s.desired.scope = wider_scope()), Cause::ScopeChanged),
        ("another name", in_sync().change(renamed), Cause::ScopeChanged),
        ("another name, and a request", due(Cause::RevokeNow).change(renamed), Cause::RevokeNow),
        ("another name, and no Secret", due(Cause::KeyLost).change(renamed), Cause::KeyLost),
    ];
    for (name, scene, cause) in cases {
        assert_eq!(records(&scene), (cause, None), "{name}");
        let mut simulator = Simulator::new(scene.change(|s| s.desired.rotation.overlap = SignedDuration::ZERO));
        is_in_order(&mut simulator, name);
        assert_eq!((simulator.rolls, simulator.causes), (vec![], vec![cause]), "{name}");
    }
}

#[test]
fn a_token_that_another_resource_names_is_not_given_another_key() {
    let scene = due(Cause::KeyLost).change(|s| s.status.token_id = None);
    assert_eq!(scene.action(), Scene::secret_deleted().change(|s| s.status.token_id = None).action());
    let named_by_record_alone = in_sync().change(|s| {
        s.status = StatusRecord::default();
        s.secret().key = Some(key(5));
        s.secret().record.token_id = Some(id(7));
        s.snapshot = Some(lists(now(), &[token(1), token_of(&victim(), 7)]));
    });
    assert_eq!(records(&named_by_record_alone).1, None, "a tenant may write any id into a Secret");
}

#[test]
fn nothing_is_rolled_while_it_is_suspended_forbidden_expired_or_the_account_is_closed() {
    type Case = (&'static str, fn(&mut Scene), Reason);
    let cases: [Case; 4] = [
        ("suspended", |s| s.desired.suspended = true, Reason::Suspended),
        ("closed", |s| s.availability = Availability::RateLimited, Reason::RateLimited),
        ("refused", |s| s.availability = Availability::Refused("no such website".into()), Reason::Rejected),
        (
            "forbidden",
            |s| s.allow = Some(crate::lifecycle::allow::Allow { permissions: Some([].into()), ..Default::default() }),
            Reason::NotAllowed,
        ),
    ];
    for cause in ROLLS {
        for (name, change, reason) in cases {
            for scene in [due(cause), recorded(due(cause), cause)] {
                let decision = scene.change(change).rests();
                // What works stays ready though its website is refused.
                let is_kept = reason == Reason::Rejected && cause != Cause::KeyLost;
                let reason = if is_kept { Reason::ApiUnavailable } else { reason };
                assert_eq!(decision.verdict.reason, reason, "{name}, {cause:?}");
                assert_eq!(decision.requeue.slot, None, "{name}, {cause:?}");
            }
        }
        let expired = due(cause).change(|s| s.desired.expiry = Some(Expiry { created: ago(A_DAY), after: hours(1) }));
        assert_eq!(expired.action(), revoke(1, RevokeCause::Expired), "{cause:?}");
        let deleted = recorded(due(cause), cause).deleted();
        assert_eq!(deleted.action(), revoke(1, RevokeCause::Deleted), "{cause:?}");
    }
}

#[test]
fn a_roll_needs_no_slot_no_place_in_the_queue_and_no_share_of_a_namespace() {
    for cause in ROLLS {
        for free in [None, Some(0), Some(-3)] {
            let full = due(cause).change(|s| {
                s.free = free;
                s.desired.rotation.revoke_first = true;
                s.allow =
                    Some(crate::lifecycle::allow::Allow { max_tokens_per_namespace: Some(1), ..Default::default() });
            });
            let mut simulator = Simulator::new(full);
            let said = simulator.settle();
            assert_eq!((said, simulator.rolls.len()), (Reason::Issued, 1), "{cause:?}, {free:?}");
            assert!(simulator.has_live_key() && simulator.causes.is_empty(), "{cause:?}, {free:?}");
        }
    }
}

#[test]
fn a_former_token_goes_on_retiring_while_the_token_in_the_secret_gets_another_key() {
    let scene = Scene::replaced(10).change(|s| {
        s.desired.rotation.rolls = true;
        s.desired.requests.rotate = request("please");
        s.free = Some(0);
    });
    let mut simulator = Simulator::new(scene);
    while simulator.rolls.is_empty() || simulator.scene.local.pending.is_some() {
        assert_eq!(simulator.step(), None);
    }
    assert_eq!(simulator.rolls, [(id(2), Cause::RotateRequested)]);
    assert!(simulator.remote.contains_key(&id(1)), "it has its overlap");
    assert_eq!(simulator.secret_record().previous, [previous(1, ago(10))]);
    simulator.pass(hours(1));
    is_in_order(&mut simulator, "after the overlap");
}

#[test]
fn to_revoke_now_takes_former_tokens_too() {
    let scene = Scene::replaced(10).change(|s| {
        s.desired.rotation.rolls = true;
        s.desired.requests.revoke_now = request("leaked");
    });
    let mut simulator = Simulator::new(scene);
    simulator.run().unwrap();
    assert_eq!(simulator.rolls, [(id(2), Cause::RevokeNow)]);
    assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn to_revoke_now_takes_former_tokens_too_though_the_secret_is_gone() {
    for rolls in [true, false] {
        let scene = Scene::replaced(10).change(|s| {
            s.desired.rotation.rolls = rolls;
            s.desired.requests.revoke_now = request("leaked");
            (s.secret, s.free) = (SecretView::Missing, Some(20));
        });
        let mut simulator = Simulator::new(scene);
        simulator.run().unwrap();
        assert_eq!(simulator.rolls.len(), usize::from(rolls));
        let token = simulator.secrets_token().unwrap();
        assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [token], "rolls: {rolls}");
    }
}

#[test]
fn to_revoke_now_is_not_held_back_though_the_secret_is_deleted_again_and_again() {
    let mut simulator = Simulator::new(in_sync());
    for n in 0..2 {
        simulator.scene.secret = SecretView::Missing;
        let said = simulator.run().unwrap().verdict.reason;
        assert_eq!(said, if n == 0 { Reason::Issued } else { Reason::Throttled });
    }
    simulator.pass(SignedDuration::from_secs(20));
    simulator.scene.desired.requests.revoke_now = request("leaked");
    assert_eq!(simulator.run().unwrap().verdict.reason, Reason::Issued, "at once");
    assert_eq!(simulator.rolls, [(id(1), Cause::KeyLost), (id(1), Cause::RevokeNow)]);
    assert!(simulator.has_live_key());
}

#[test]
fn a_request_that_is_answered_while_the_secret_is_gone_is_told_in_status() {
    for rolls in [true, false] {
        for cause in [Cause::RotateRequested, Cause::RevokeNow] {
            let scene = due(cause).change(|s| (s.desired.rotation.rolls, s.secret) = (rolls, SecretView::Missing));
            let mut simulator = Simulator::new(scene.change(|s| s.desired.rotation.overlap = SignedDuration::ZERO));
            is_in_order(&mut simulator, cause.as_str());
            assert!(simulator.scene.status.rotate_request.is_some(), "{cause:?}, rolls: {rolls}");
            assert_eq!(simulator.rolls.len() + simulator.causes.len(), 1, "{cause:?}, rolls: {rolls}");
        }
    }
}

#[test]
fn each_request_is_answered_by_one_roll() {
    let mut simulator = Simulator::new(in_sync());
    for (n, cause) in [Cause::RotateRequested, Cause::RevokeNow, Cause::RotateRequested].into_iter().enumerate() {
        let value = Request::parse(&format!("{n}"));
        match cause {
            Cause::RevokeNow => simulator.scene.desired.requests.revoke_now = value,
            _ => simulator.scene.desired.requests.rotate = value,
        }
        is_in_order(&mut simulator, cause.as_str());
        simulator.crash();
        is_in_order(&mut simulator, "after a restart");
        assert_eq!(simulator.rolls.len(), n + 1);
        assert_eq!(simulator.rolls[n], (id(1), cause));
        assert_eq!(simulator.scene.status.rotate_request, Request::parse(&format!("{n}")));
    }
    simulator.scene.secret = SecretView::Missing;
    is_in_order(&mut simulator, "without a Secret");
    assert_eq!(simulator.rolls.len(), 4, "what was answered stays answered, though the Secret was lost");
    assert_eq!(simulator.rolls[3], (id(1), Cause::KeyLost));
}

/// Steps that a roll takes, until what is asked for is in status.
const STEPS: usize = 6;

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

#[test]
fn the_next_rotation_counts_from_the_roll() {
    let scene = rolled(60, Cause::RotationDue).change(|s| s.desired.rotation.every = Some(hours(20)));
    let next = scene.observe(|seen| facts(&scene.desired, seen, scene.now).next_rotation_at).unwrap();
    assert!(next >= ago(60) + hours(19) && next <= ago(60) + hours(20));
    scene.says(Reason::Issued, true, "dft_002");
}

#[test]
fn a_token_that_got_another_key_is_told_from_no_other_by_a_log_that_was_edited() {
    for change in [
        (|s| s.log.0.clear()) as fn(&mut Scene),
        |s| s.log.0.truncate(1),
        |s| s.log.0.retain(|attempt| attempt.rolls.is_some()),
        |s| s.secret().record.attempt = None,
        |s| s.secret().record.attempt = Some(nonce(1)),
        |s| s.secret().record = Default::default(),
    ] {
        let mut simulator = Simulator::new(rolled(A_DAY, Cause::RotationDue).change(change));
        is_in_order(&mut simulator, "edited");
        assert_eq!((simulator.rolls, simulator.causes), (vec![], vec![]));
    }
}

#[test]
fn a_token_that_came_back_to_the_secret_is_not_retired_by_what_was_recorded_of_it_before() {
    // Token 2 took the place of token 1, and was lost before status said so: token 1, which status names, gets a key.
    let scene = Scene::replaced(50).change(|s| {
        s.desired.rotation.rolls = true;
        s.status = Scene::in_sync().status;
        s.secret().key = None;
    });
    let mut simulator = Simulator::new(scene);
    simulator.settle();
    let token = simulator.secrets_token().unwrap();
    assert!(simulator.has_live_key());
    simulator.scene.desired.rotation.rolls = false;
    simulator.scene.desired.requests.rotate = request("please");
    simulator.run().unwrap();
    assert_ne!(simulator.secrets_token(), Some(token.clone()));
    simulator.pass(SignedDuration::from_mins(30));
    simulator.list();
    simulator.run().unwrap();
    assert!(simulator.remote.contains_key(&token), "it has its overlap of an hour");
}

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Happens {
    /// So many minutes pass, and there is a list.
    Time(i64),
    Rotate,
    RevokeNow,
    SecretDeleted,
    /// Somebody gives the token another key.
    ByHand,
    /// Another process takes over after so many steps; its first list may lag behind what they did.
    Crash(usize, bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..200_i64).prop_map(Happens::Time),
        2 => Just(Happens::Rotate),
        1 => Just(Happens::RevokeNow),
        1 => Just(Happens::SecretDeleted),
        1 => Just(Happens::ByHand),
        3 => (0..STEPS, any::<bool>()).prop_map(|(steps, lags)| Happens::Crash(steps, lags)),
    ]
}

proptest! {
    #![proptest_config(random::config(300))]

    #[test]
    fn whatever_happens_the_token_stays_and_each_cause_costs_one_roll(events in vec(happens(), 0..20)) {
        let mut simulator = Simulator::new(in_sync().change(|s| (s.desired.restarts, s.free) = (true, Some(0))));
        let (mut asked, mut lost) = (0, 0);
        for (n, event) in events.into_iter().enumerate() {
            let value = Request::parse(&format!("{n}"));
            match event {
                Happens::Time(minutes) => {
                    simulator.pass(SignedDuration::from_mins(minutes));
                    simulator.list();
                }
                Happens::Rotate => (simulator.scene.desired.requests.rotate, asked) = (value, asked + 1),
                Happens::RevokeNow => (simulator.scene.desired.requests.revoke_now, asked) = (value, asked + 1),
                Happens::SecretDeleted => (simulator.scene.secret, lost) = (SecretView::Missing, lost + 1),
                Happens::ByHand => {
                    simulator.remote.get_mut(&id(1)).unwrap().display_key = key(50 + n as u8).mask();
                    lost += 1;
                }
                Happens::Crash(steps, lags) => {
                    let before = simulator.remote.clone();
                    (0..steps).any(|_| simulator.step().is_some());
                    if lags { simulator.crash_behind(&before) } else { simulator.crash() }
                    lost += 1;
                }
            }
            prop_assert!(simulator.run().is_some(), "it comes to rest");
        }
        // Longer than anything is held back.
        for _ in 0..2 {
            simulator.pass(hours(2));
            simulator.list();
            is_in_order(&mut simulator, "in the end");
        }
        prop_assert_eq!((simulator.secrets_token(), simulator.causes.len()), (Some(id(1)), 0));
        prop_assert!(simulator.rolls.len() <= asked + lost, "{:?}", simulator.rolls);
        let at = simulator.secret_record().issued_at;
        prop_assert!(simulator.rolls.is_empty() || simulator.restarted.last() == at.as_ref());
    }
}
