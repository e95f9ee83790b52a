//! Past `expiresAfter` tokens and Secret go for good, and the resource stays to say so.

use jiff::SignedDuration;

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::desired::Expiry;
use crate::lifecycle::facts::facts;
use crate::lifecycle::local::Preflight;
use crate::lifecycle::observed::{Availability, SecretOwner, SecretView, StatusRecord};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

/// The resource was created two days ago; it was over this many minutes ago.
fn over(scene: Scene, minutes: i64) -> Scene {
    let created = ago(2 * A_DAY);
    scene.change(|s| s.desired.expiry = Some(Expiry { created, after: ago(minutes).duration_since(created) }))
}

fn expired(n: u8) -> Action {
    revoke(n, RevokeCause::Expired)
}

#[test]
fn until_its_end_a_token_is_as_it_is_and_that_time_wakes_and_is_announced() {
    let scene = over(Scene::in_sync(), -10);
    scene.says(Reason::Issued, true, "dft_001");
    assert_eq!(scene.rests().requeue.at, Some(later(10)));
    assert_eq!(scene.observe(|seen| facts(&scene.desired, seen, scene.now).expires_at), Some(later(10)));
    let just_before = scene.clone().change(|s| s.now = later(10) - SignedDuration::from_nanos(1));
    just_before.rests();
    assert_eq!(scene.change(|s| s.now = later(10)).action(), expired(1));
}

#[test]
fn what_has_expired_revokes_all_its_tokens_then_deletes_its_secret_then_says_so() {
    for retain in [false, true] {
        let mut scene = over(Scene::replaced(1), 0).change(|s| s.desired.retain = retain);
        assert_eq!(scene.action(), expired(1), "without waiting for the overlap");
        scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
        assert_eq!(scene.action(), expired(2));
        scene.snapshot.as_mut().unwrap().revoked(&id(2), now());
        assert_eq!(scene.action(), Action::DeleteSecret);
        scene.secret = SecretView::Missing;
        let verdict = scene.says(Reason::Expired, false, "spec.expiresAfter has passed at 2026-01-01T12:00:00Z");
        assert!(verdict.message.contains("raise it"), "{}", verdict.message);
        assert!(!verdict.reason.is_reconciling() && !verdict.reason.is_stalled() && !verdict.reason.is_warning());
        assert_eq!(scene.rests().requeue, Default::default(), "nothing to wait for");
    }
}

#[test]
fn nothing_is_issued_for_what_has_expired_whatever_is_asked_for() {
    for scene in [Scene::new(), Scene::recorded(Preflight::Passed), over(Scene::new(), A_DAY)] {
        let asked = over(scene, 1).change(|s| {
            s.desired.requests.revoke_now = request("leaked");
            s.desired.rotation.every = Some(hours(1));
        });
        asked.says(Reason::Expired, false, "has passed");
    }
}

#[test]
fn a_suspended_resource_does_not_expire() {
    let scene = over(Scene::in_sync(), 60).change(|s| s.desired.suspended = true);
    scene.says(Reason::Suspended, true, "suspend");
    let key_pending = over(Scene::key_pending(), 60).change(|s| s.desired.suspended = true);
    assert!(matches!(key_pending.action(), Action::Swap { .. }), "{:?}", key_pending.action());
}

#[test]
fn a_closed_account_is_waited_for_and_said_to_be_waited_for() {
    let gates = [
        Availability::NotFound,
        Availability::NotReady("no credential".into()),
        Availability::RateLimited,
        Availability::Unavailable("503".into()),
    ];
    for availability in gates {
        let closed = over(Scene::in_sync(), 0).change(|s| s.availability = availability.clone());
        closed.says(Reason::Expired, false, "its token is still to be revoked");
        assert!(closed.rests().requeue.account_changes);
        let restarted = closed.after_restart().change(|s| (s.snapshot, s.status) = (None, StatusRecord::default()));
        restarted.says(Reason::Expired, false, "its token is still to be revoked");
        let all_gone = over(Scene::new(), 0).change(|s| s.availability = availability);
        all_gone.says(Reason::Expired, false, "raise it");
    }
}

#[test]
fn raising_it_brings_a_new_token_as_if_there_had_been_none() {
    let mut simulator = Simulator::new(over(Scene::in_sync(), 0));
    assert_eq!(simulator.settle(), Reason::Expired);
    assert!(simulator.own().is_empty() && matches!(simulator.scene.secret, SecretView::Missing));
    assert_eq!(simulator.scene.status.token_id, None);
    simulator.scene.desired.expiry.as_mut().unwrap().after = SignedDuration::MAX;
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::New]);
    assert_eq!(simulator.own().len(), 1);
}

#[test]
fn an_expiry_that_was_dropped_leaves_the_token_as_it_is() {
    over(Scene::in_sync(), 0).change(|s| s.desired.expiry = None).says(Reason::Issued, true, "dft_001");
}

#[test]
fn a_secret_that_is_not_ours_is_left_as_it_is() {
    for owner in [SecretOwner::Other("DataFastAccessToken/other".into()), SecretOwner::Nobody] {
        let mut scene = over(Scene::in_sync(), 0);
        scene.secret().owner = owner.clone();
        assert_eq!(scene.action(), expired(1), "our own token, by status");
        scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
        scene.says(Reason::Expired, false, "has passed");
    }
    over(Scene::import(), 0).says(Reason::Expired, false, "has passed");
}

#[test]
fn a_token_of_another_resource_is_left_alone() {
    let mut scene = over(Scene::in_sync(), 0).listing(&[token(1), token_of(&victim(), 5), unmarked(7)]);
    assert_eq!(scene.action(), expired(1));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(scene.action(), Action::DeleteSecret);
}

#[test]
fn a_key_in_hand_is_revoked_and_never_written() {
    assert_eq!(over(Scene::key_pending(), 0).action(), revoke(1, RevokeCause::Undeliverable));
}

#[test]
fn a_lost_token_is_revoked_when_a_list_shows_it_though_all_else_is_over() {
    let lost = over(Scene::answer_lost(), 0);
    assert_eq!(lost.action(), expired(1));
    let hidden = lost.listing(&[]);
    hidden.says(Reason::Expired, false, "has passed");
    assert_eq!(hidden.listing(&[token(1)]).action(), expired(1));
}

#[test]
fn a_request_under_way_is_waited_for() {
    let mut scene = over(Scene::recorded(Preflight::Passed), 0);
    scene.local.in_flight = Some(nonce(1));
    scene.says(Reason::Issuing, false, "answer");
}

#[test]
fn a_restored_token_is_proven_to_be_ours_before_it_is_revoked() {
    let mut scene = over(Scene::restored(), 0);
    assert_eq!(scene.action(), Action::Prove { token_id: id(1) });
    scene.local.proof = Some(proof(1, true));
    assert_eq!(scene.action(), expired(1));
    scene.local.proof = Some(proof(1, false));
    assert_eq!(scene.action(), Action::DeleteSecret, "its key is no token's of ours");
}

#[test]
fn a_denied_revocation_keeps_the_secret_and_says_what_it_may_mean() {
    let mut scene = over(Scene::in_sync(), 0);
    scene.local.denied.insert(id(1), now() - SignedDuration::from_secs(1));
    scene.says(Reason::Expired, false, "another credential created it");
    assert!(scene.rests().requeue.at.is_some());
}

#[test]
fn a_wall_clock_that_goes_ahead_or_back_ends_nothing_early() {
    let created = ago(60);
    let scene = Scene::in_sync().change(|s| {
        s.desired.expiry = Some(Expiry { created, after: hours(2) });
        s.local.watched = Some(watched(created, 60));
    });
    for minutes in [-A_DAY, -61, 0, 61, A_DAY, 1000 * A_DAY] {
        scene.clone().change(|s| s.now = later(minutes)).says(Reason::Issued, true, "dft_001");
    }
    let ahead = scene.clone().change(|s| s.now = later(A_DAY));
    assert_eq!(ahead.rests().requeue.at, Some(later(A_DAY + 60)), "it comes when the time has really passed");
    let really = scene.change(|s| (s.now, s.local.watched) = (later(A_DAY), Some(watched(created, 120))));
    assert_eq!(really.action(), expired(1));
}

#[test]
fn an_expiry_beyond_all_time_never_comes() {
    let expiry = Expiry { created: ago(60), after: SignedDuration::MAX };
    Scene::in_sync().change(|s| s.desired.expiry = Some(expiry)).says(Reason::Issued, true, "dft_001");
}
