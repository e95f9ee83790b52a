//! A token gets another key: the same token, no slot, and its old key ends at once.

mod any_order;
mod ending;
mod lists;
mod lost;
mod obstacles;
mod requests;
mod restarts;

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

/// Steps that a roll takes, until what is asked for is in status.
const STEPS: usize = 6;

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
