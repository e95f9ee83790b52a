//! A token is replaced because the clock, a user or the record asks for it: which of them decides, and when.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::lifecycle::decision::{Action, Decision, RevokeCause};
use crate::lifecycle::desired::{Expiry, Rotation, WhenUnused};
use crate::lifecycle::facts::facts;
use crate::lifecycle::local::{PendingKey, Preflight, Unsent};
use crate::lifecycle::marker::OwnerId;
use crate::lifecycle::observed::Observed;
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::random;
use super::random::windows::window;
use super::scenes::*;
use super::simulator::Simulator;
use super::windows::windows;

/// What decides.
#[derive(Debug, PartialEq)]
enum Decides {
    Deletion,
    Suspension,
    Expiry,
    Unused,
    Need(Cause),
    /// It waits for a window.
    Waits(Cause),
}

fn decides(scene: &Scene) -> Decides {
    match scene.decide() {
        Decision::Act(Action::Revoke { cause: RevokeCause::Deleted, .. }) => Decides::Deletion,
        Decision::Act(Action::DeleteSecret) if scene.desired.deleting => Decides::Deletion,
        Decision::Rest { verdict, .. } if verdict.reason == Reason::Suspended => Decides::Suspension,
        Decision::Act(Action::DeleteSecret) if scene.desired.expiry.is_none() => Decides::Unused,
        Decision::Act(Action::Revoke { cause: RevokeCause::Expired, .. } | Action::DeleteSecret) => Decides::Expiry,
        Decision::Rest { verdict, .. } if verdict.reason == Reason::Unused => Decides::Unused,
        Decision::Act(Action::Revoke { cause: RevokeCause::Unused, .. }) => Decides::Unused,
        Decision::Act(Action::Record { cause, .. }) => Decides::Need(cause),
        Decision::Rest { verdict, .. } if verdict.ready => Decides::Waits(awaited(&verdict.message)),
        other => panic!("{other:?}"),
    }
}

/// What a message says to wait for a window.
fn awaited(message: &str) -> Cause {
    match message {
        message if message.contains("a token with the changed scope waits") => Cause::ScopeChanged,
        message if message.contains("datafa.st/rotate asks for waits") => Cause::RotateRequested,
        message if message.contains("(spec.rotation.every)") => Cause::RotationDue,
        other => panic!("{other:?} says nothing of a window"),
    }
}

type Change = fn(&mut Scene);

/// The order of precedence: what is the case, and what is done about it.
const PRECEDENCE: [(Change, Decides); 9] = [
    (|s| s.desired.deleting = true, Decides::Deletion),
    (|s| s.desired.suspended = true, Decides::Suspension),
    (|s| s.desired.expiry = Some(Expiry { created: ago(A_DAY), after: hours(1) }), Decides::Expiry),
    (|s| s.desired.requests.revoke_now = request("leaked"), Decides::Need(Cause::RevokeNow)),
    (|s| s.secret().key = None, Decides::Need(Cause::KeyLost)),
    (
        |s| (s.snapshot, s.local.proof) = (Some(lists(s.now, &[])), Some(proof(1, false))),
        Decides::Need(Cause::Vanished),
    ),
    (|s| s.desired.scope = wider_scope(), Decides::Need(Cause::ScopeChanged)),
    (|s| s.desired.requests.rotate = request("please"), Decides::Need(Cause::RotateRequested)),
    (|s| s.desired.rotation.every = Some(hours(1)), Decides::Need(Cause::RotationDue)),
];

#[test]
fn of_all_that_is_the_case_what_comes_first_in_the_order_of_precedence_decides() {
    for (place, (first, decided)) in PRECEDENCE.iter().enumerate() {
        let alone = Scene::in_sync().change(first);
        assert_eq!(decides(&alone), *decided);
        for (second, other) in &PRECEDENCE[place..] {
            let both = Scene::in_sync().change(first).change(second);
            assert_eq!(decides(&both), *decided, "beside {other:?}");
        }
        let with_all_after = PRECEDENCE[place..].iter().fold(Scene::in_sync(), |scene, (more, _)| scene.change(more));
        assert_eq!(decides(&with_all_after), *decided, "with all that comes after it");
    }
}

/// Of all that is the case: with windows, the order is the same, and what waits for one makes nothing else wait.
#[test]
fn no_window_changes_the_order_nor_holds_back_what_must_not_wait() {
    let closed = windows(&[window("Deny", "0 0 * * *", "24h", "UTC")]);
    let in_windows = |decided: &Decides| match decided {
        Decides::Need(cause @ (Cause::ScopeChanged | Cause::RotateRequested | Cause::RotationDue)) => {
            Decides::Waits(*cause)
        }
        Decides::Need(cause) => Decides::Need(*cause),
        Decides::Deletion => Decides::Deletion,
        Decides::Suspension => Decides::Suspension,
        Decides::Expiry => Decides::Expiry,
        other => panic!("{other:?} is not in the table"),
    };
    for (place, (first, decided)) in PRECEDENCE.iter().enumerate() {
        for (second, other) in &PRECEDENCE[place..] {
            let both = Scene::in_sync().change(first).change(second);
            let by_own = both.clone().change(|s| s.desired.windows = closed.clone());
            let by_account = both.change(|s| s.windows = Some(closed.clone()));
            for closed in [by_own, by_account] {
                assert_eq!(decides(&closed), in_windows(decided), "beside {other:?}");
            }
        }
    }
    let first = Scene { windows: Some(closed), has_finalizer: true, ..Scene::new() };
    assert_eq!(decides(&first), Decides::Need(Cause::New));
}

/// It was told to be unused, as long as is asked about, and is to end for that.
fn unused(scene: &mut Scene) {
    scene.desired.when_unused = Some(WhenUnused { created: ago(2 * A_DAY), after: hours(1), revoke: true });
    scene.status.unused_since = Some(ago(A_DAY));
}

#[test]
fn what_nobody_uses_ends_before_another_is_issued_unless_a_rotation_is_asked_for() {
    assert_eq!(decides(&Scene::in_sync().change(unused)), Decides::Unused);
    for (other, decided) in &PRECEDENCE {
        let comes_first = match decided {
            Decides::Deletion | Decides::Suspension | Decides::Expiry => decided,
            Decides::Need(Cause::RotateRequested) => decided,
            Decides::Need(_) | Decides::Waits(_) | Decides::Unused => &Decides::Unused,
        };
        assert_eq!(decides(&Scene::in_sync().change(unused).change(other)), *comes_first, "beside {decided:?}");
    }
}

fn every(every: SignedDuration) -> Rotation {
    Rotation { every: Some(every), ..Scene::new().desired.rotation }
}

/// When the token of a resource with this uid, issued at `issued_at`, is replaced.
fn due(uid: &str, rotation: &Rotation, issued_at: Timestamp) -> Timestamp {
    let mut scene = Scene::in_sync();
    scene.log.0[0].at = issued_at;
    scene.secret().record.issued_at = Some(issued_at);
    let next = |seen: &Observed<'_>| Observed { owner: OwnerId::of(uid), ..seen.clone() }.due(rotation);
    scene.observe(next).unwrap().at
}

proptest! {
    #![proptest_config(random::config(128))]

    #[test]
    fn no_key_gets_older_than_every_and_it_is_replaced_at_most_a_twentieth_sooner(
        uid in random::text(),
        issued_at in random::recent_time(),
        seconds in 3600..100_000_000_i64,
    ) {
        let most = SignedDuration::from_secs(seconds);
        let rotation = every(most);
        let after = due(&uid, &rotation, issued_at).duration_since(issued_at);
        prop_assert!(most - most / 20 <= after && after <= most, "{after:?}");
        prop_assert_eq!(due(&uid, &rotation, issued_at).duration_since(issued_at), after, "it never changes");
    }
}

#[test]
fn tokens_that_were_issued_together_are_replaced_one_after_the_other_over_a_twentieth_of_every() {
    let rotation = every(hours(720));
    let mut waits: Vec<_> =
        (0..100).map(|n| hours(720) - due(&format!("uid {n}"), &rotation, now()).duration_since(now())).collect();
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 95, "{} different times", waits.len());
    assert!(waits[0] < hours(4) && waits[waits.len() - 1] > hours(32), "{waits:?} is no spread over 36 h");
}

#[test]
fn an_overlap_as_long_as_every_has_ended_by_the_next_rotation() {
    for overlap in [hours(720), hours(700)] {
        let rotation = Rotation { overlap, ..every(hours(720)) };
        let used = Rotation { max_overlap: Some(overlap), ..every(hours(720)) };
        for n in 0..20 {
            for rotation in [&rotation, &used] {
                let after = due(&format!("uid {n}"), rotation, now()).duration_since(now());
                assert!((overlap..=hours(720)).contains(&after), "{after:?}");
            }
        }
    }
}

#[test]
fn an_every_beyond_all_time_is_never_due() {
    let scene = Scene::in_sync().change(|s| s.desired.rotation.every = Some(SignedDuration::MAX));
    scene.says(Reason::Issued, true, "dft_001");
    assert_eq!(scene.rests().requeue.at, None);
}

/// [`Scene::in_sync`], with a token that is replaced each day; and when that is due.
fn daily() -> (Scene, Timestamp) {
    let mut scene = Scene::in_sync().change(|s| s.desired.rotation = every(hours(24)));
    scene.secret().record.issued_at = Some(ago(60));
    let due = scene.observe(|seen| seen.due(&scene.desired.rotation)).unwrap().at;
    (scene, due)
}

#[test]
fn a_token_is_replaced_once_it_is_as_old_as_it_is_to_get_and_that_time_wakes() {
    let (mut scene, due) = daily();
    scene.says(Reason::Issued, true, "dft_001");
    assert_eq!(scene.rests().requeue.at, Some(due));
    assert_eq!(scene.observe(|seen| facts(&scene.desired, seen, scene.now).next_rotation_at), Some(due));
    scene.now = due - SignedDuration::from_nanos(1);
    scene.rests();
    scene.now = due;
    scene.records(Cause::RotationDue);
    under_way(scene).says(Reason::Rotating, true, "");
}

/// While the request for the next token is under way.
fn under_way(scene: Scene) -> Scene {
    scene.change(|s| s.local.in_flight = Some(nonce(9)))
}

#[test]
fn a_rotation_that_would_come_after_the_end_is_not_announced() {
    let (scene, due) = daily();
    let ends = |at: Timestamp| {
        let expiry = Expiry { created: ago(A_DAY), after: at.duration_since(ago(A_DAY)) };
        let scene = scene.clone().change(|s| s.desired.expiry = Some(expiry));
        scene.observe(|seen| facts(&scene.desired, seen, scene.now).next_rotation_at)
    };
    assert_eq!(ends(due), None);
    assert_eq!(ends(due + SignedDuration::from_secs(1)), Some(due));
}

#[test]
fn each_token_lives_for_every_and_the_next_one_counts_from_its_own_issue() {
    let mut simulator = Simulator::new(daily().0);
    for n in 1..4 {
        let decision = simulator.run().unwrap();
        simulator.wait(&decision);
        simulator.run().unwrap();
        assert_eq!(simulator.causes, vec![Cause::RotationDue; n]);
        let decision = simulator.run().unwrap();
        assert_eq!(simulator.own().len(), 2, "old and new, for the overlap");
        simulator.wait(&decision);
    }
}

#[test]
fn a_token_without_a_known_time_of_issue_is_put_right_before_it_is_replaced() {
    let scene = daily().0.change(|s| s.desired.rotation = every(hours(48)));
    let scene = scene.change(|s| s.secret().record.issued_at = None);
    assert_eq!(scene.writes_secret().issued_at, Some(ago(A_DAY)), "by the log");
}

#[test]
fn a_rotation_never_takes_ready_away_while_the_old_token_works() {
    let rotating = |step: &dyn Fn(&mut Scene)| {
        let scene = Scene::in_sync().change(|s| s.desired.requests.rotate = request("please"));
        scene.with_attempts(&[(1, A_DAY), (2, 0)]).change(step).rests().verdict
    };
    let refusing = || Preflight::Refused(refused(later(1)));
    let steps: [&dyn Fn(&mut Scene); 4] = [
        &|s| s.local.unsent = Some(Unsent { preflight: refusing(), ..unsent(2) }),
        &|s| s.local.in_flight = Some(nonce(2)),
        &|s| s.local.pending = Some(PendingKey { refused: Some(refused(later(1))), ..pending(2, now()) }),
        &|s| (s.free, s.local.unsent) = (Some(0), Some(unsent(2))),
    ];
    for step in steps {
        let verdict = rotating(step);
        assert!(verdict.ready, "{verdict:?}");
        let reasons = [Reason::Rotating, Reason::WaitingForSlot, Reason::SecretWriteRefused];
        assert!(reasons.contains(&verdict.reason), "{verdict:?}");
        assert!(verdict.reason.is_reconciling());
    }
}

#[test]
fn without_a_key_that_works_it_is_issuing_whatever_is_asked_for() {
    for scene in [Scene::secret_deleted(), Scene::token_deleted()] {
        under_way(scene.change(|s| s.desired.requests.revoke_now = request("leaked"))).says(Reason::Issuing, false, "");
    }
}

#[test]
fn a_replaced_scope_is_issuing_for_the_old_token_is_not_what_is_wanted() {
    under_way(Scene::in_sync().change(|s| s.desired.scope = wider_scope())).says(Reason::Issuing, false, "");
}
