//! Deletion: all that is the resource's own goes, then the Secret, then the finalizer; and nothing holds it up for ever.

use jiff::SignedDuration;

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::local::Preflight;
use crate::lifecycle::observed::{Availability, SecretOwner, SecretView, StatusRecord};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

fn revoke_deleted(n: u8) -> Action {
    revoke(n, RevokeCause::Deleted)
}

/// It waits, and says for what. A token that works is `Ready` until it is revoked.
fn waits(scene: &Scene, words: &str) {
    let works = scene.status.ready && !scene.secret_is_gone();
    scene.says(Reason::Deleting, works, words);
}

fn closed_gates() -> [Availability; 4] {
    [
        Availability::NotFound,
        Availability::NotReady("no credential".into()),
        Availability::RateLimited,
        Availability::Unavailable("503".into()),
    ]
}

#[test]
fn a_deleted_resource_revokes_then_deletes_its_secret_then_lets_go() {
    let mut scene = Scene::replaced(1).deleted();
    assert_eq!(scene.action(), revoke_deleted(1), "without waiting for the overlap");
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(scene.action(), revoke_deleted(2));
    scene.snapshot.as_mut().unwrap().revoked(&id(2), now());
    assert_eq!(scene.action(), Action::DeleteSecret);
    scene.secret = SecretView::Missing;
    assert_eq!(scene.action(), Action::Release);
}

#[test]
fn a_suspended_resource_can_be_deleted() {
    let scene = Scene::in_sync().deleted().change(|s| s.desired.suspended = true);
    assert_eq!(scene.action(), revoke_deleted(1));
}

#[test]
fn what_never_issued_anything_is_let_go_at_once_whatever_the_account() {
    for availability in closed_gates() {
        let scene =
            Scene::new().deleted().change(|s| (s.availability, s.snapshot, s.free) = (availability, None, None));
        assert_eq!(scene.action(), Action::Release);
    }
}

#[test]
fn a_recorded_attempt_that_was_certainly_never_sent_holds_nothing_up() {
    assert_eq!(Scene::recorded(Preflight::Refused(refused(later(1)))).deleted().action(), Action::Release);
}

#[test]
fn an_unclaimed_resource_is_none_of_ours() {
    let scene = Scene::in_sync().deleted().change(|s| s.has_finalizer = false);
    assert_eq!(scene.acts(), None);
}

#[test]
fn a_key_at_hand_is_revoked() {
    assert_eq!(Scene::key_pending().deleted().action(), revoke_deleted(1));
    assert_eq!(Scene::key_pending().listing(&[]).deleted().action(), revoke_deleted(1), "listed or not");
}

#[test]
fn an_attempt_without_an_answer_is_waited_for_until_the_horizon_and_a_list_after_it() {
    let sent = Scene::new().with_attempts(&[(1, 1)]).deleted();
    waits(&sent, "2026-01-01T12:01:00Z");
    assert_eq!(sent.rests().requeue.list, Some(later(1)));
    let old_list = sent.clone().change(|s| s.now = later(30));
    waits(&old_list, "an unanswered request may still make a token");
    let after = sent.change(|s| s.now = later(1)).listing(&[]);
    assert_eq!(after.action(), Action::Release);
}

#[test]
fn an_attempt_that_shows_up_in_a_list_is_revoked_and_no_longer_waited_for() {
    let mut scene = Scene::answer_lost().deleted();
    assert_eq!(scene.action(), revoke_deleted(1));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(scene.action(), Action::Release);
}

#[test]
fn a_young_token_that_status_names_is_revoked_without_waiting() {
    let mut scene = Scene::in_sync().with_attempts(&[(1, 1)]).listing(&[]).deleted();
    assert_eq!(scene.action(), revoke_deleted(1), "by the id in status, though no list shows it");
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(scene.action(), Action::DeleteSecret);
}

#[test]
fn the_secrets_token_id_alone_is_no_licence_but_its_attempt_is_waited_for() {
    let scene = Scene::in_sync().with_attempts(&[]).listing(&[]).deleted();
    let unmirrored = scene.change(|s| {
        s.status = StatusRecord::default();
        s.secret().record.issued_at = Some(ago(1));
    });
    waits(&unmirrored, "an unanswered request");
    let listed = unmirrored.clone().listing(&[token(1)]);
    assert_eq!(listed.action(), revoke_deleted(1));
    let past = unmirrored.change(|s| s.now = later(2)).listing(&[]);
    assert_eq!(past.action(), Action::Prove { token_id: id(1) }, "its Secret is its only record");
    assert_eq!(past.change(|s| s.local.proof = Some(proof(1, false))).action(), Action::DeleteSecret);
}

#[test]
fn a_denied_revocation_waits_for_a_later_list_and_says_what_it_may_mean() {
    let mut scene = Scene::in_sync().deleted().change(|s| s.now = later(1));
    scene.local.denied.insert(id(1), later(1));
    waits(&scene, "another credential created it");
    assert_eq!(scene.rests().requeue.list, Some(later(1)));
    let still = scene.clone().change(|s| s.now = later(2)).listing(&[token(1)]);
    waits(&still, "refuses to delete it");
    let again = still.clone().change(|s| s.now = later(11)).listing(&[token(1)]);
    assert_eq!(again.action(), revoke_deleted(1));
    let gone = still.listing(&[]);
    assert_eq!(gone.action(), Action::Prove { token_id: id(1) }, "a list can lack what another credential created");
    assert_eq!(gone.change(|s| s.local.proof = Some(proof(1, false))).action(), Action::DeleteSecret);
}

#[test]
fn one_denied_token_does_not_keep_the_others_alive() {
    let mut scene = Scene::replaced(1).deleted();
    scene.local.denied.insert(id(1), now());
    assert_eq!(scene.action(), revoke_deleted(2));
}

#[test]
fn a_denied_token_that_one_list_lacks_is_not_gone_before_lists_and_its_key_say_so() {
    let mut scene = Scene::in_sync().deleted().listing(&[]);
    scene.log.0[0].at = now();
    scene.local.denied.insert(id(1), now());
    waits(&scene, "refuses to delete it");
    assert!(scene.rests().requeue.next_list);
}

#[test]
fn a_deletion_that_needs_datafast_waits_for_the_account_and_says_so() {
    for availability in closed_gates() {
        let scene = Scene::in_sync().deleted().change(|s| s.availability = availability);
        let verdict = scene.rests().verdict;
        assert!(verdict.message.starts_with("Deletion waits for the token to be revoked."), "{}", verdict.message);
        assert!(scene.rests().requeue.account_changes);
    }
}

#[test]
fn an_abandoned_resource_lets_go_without_datafast_and_its_secret_goes() {
    let mut scene =
        Scene::in_sync().deleted().change(|s| (s.desired.abandon, s.availability) = (true, Availability::NotFound));
    assert_eq!(scene.action(), Action::DeleteSecret);
    scene.desired.retain = true;
    assert_eq!(scene.action(), Action::Release, "with Retain, not even the Secret");
}

#[test]
fn retain_leaves_secret_and_token_but_not_what_is_in_excess() {
    let mut scene = Scene::replaced(1).deleted().change(|s| s.desired.retain = true);
    assert_eq!(scene.action(), revoke_deleted(1));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(scene.action(), Action::Release);
    let lost = Scene::in_sync().with_attempts(&[(1, A_DAY), (2, 1)]).listing(&[token(1), token(2)]);
    assert_eq!(lost.deleted().change(|s| s.desired.retain = true).action(), revoke_deleted(2));
}

#[test]
fn a_secret_that_is_not_ours_is_left_behind() {
    for owner in [SecretOwner::Nobody, SecretOwner::Other("DataFastAccessToken/other".into())] {
        let mut scene = Scene::new().deleted();
        let mut facts = secret(9, ago(1));
        facts.owner = owner;
        scene.secret = SecretView::Present(facts);
        assert_eq!(scene.action(), Action::Release);
    }
}

#[test]
fn a_log_of_the_far_future_holds_a_deletion_up_no_longer_than_its_own_time() {
    let at = now() + SignedDuration::from_hours(24);
    let scene = Scene::new().deleted().change(|s| s.log.0 = vec![attempt(1, at, Cause::New)]);
    waits(&scene, "until then");
    let after = scene.change(|s| s.now = at + HORIZON).listing(&[]);
    assert_eq!(after.action(), Action::Release);
}
