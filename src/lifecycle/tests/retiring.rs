//! Tokens that go: lost ones at once, retired ones after the overlap; and keys and tokens that others took away.

use jiff::SignedDuration;

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::local::Preflight;
use crate::lifecycle::observed::SecretView;
use crate::lifecycle::record::Cause;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

/// [`Scene::secret_deleted`], with the next attempt recorded and ready to be sent.
fn about_to_send() -> Scene {
    Scene::secret_deleted().with_attempts(&[(1, A_DAY), (2, 0)]).change(|s| s.local.unsent = Some(unsent(2)))
}

#[test]
fn a_lost_attempt_that_is_the_current_one_is_fenced_off_before_it_is_revoked() {
    let lost = Scene::answer_lost();
    let Action::Record { again: None, cause: Cause::New, keep, rolls: None, .. } = lost.action() else {
        panic!("{:?}", lost.action())
    };
    assert_eq!(keep, lost.log.0, "it stays in the log: the licence to revoke it");
    let fenced = lost.with_attempts(&[(1, 1), (2, 0)]);
    assert_eq!(fenced.action(), revoke(1, RevokeCause::LostAttempt));
}

#[test]
fn a_lost_attempt_is_revoked_without_a_new_one_where_none_is_wanted() {
    let mut scene = Scene::in_sync().with_attempts(&[(1, A_DAY), (2, 1)]).listing(&[token(1), token(2)]);
    assert_eq!(scene.action(), revoke(2, RevokeCause::LostAttempt));
    scene.desired.suspended = true;
    scene.says(Reason::Suspended, true, "suspend");
}

#[test]
fn a_lost_attempt_of_a_full_account_makes_room_for_the_next() {
    let scene = Scene::answer_lost().change(|s| s.free = Some(0));
    scene.records(Cause::New);
    assert_eq!(scene.with_attempts(&[(1, 1), (2, 0)]).action(), revoke(1, RevokeCause::LostAttempt));
}

#[test]
fn a_replaced_token_lives_on_for_the_overlap() {
    let early = Scene::replaced(59);
    early.says(Reason::Issued, true, "dft_002");
    assert_eq!(early.rests().requeue.at, Some(later(1)));
    assert_eq!(Scene::replaced(60).action(), revoke(1, RevokeCause::Retired));
}

#[test]
fn the_overlap_counts_from_the_swap_by_the_secrets_record_even_if_status_was_never_written() {
    let scene = |minutes| Scene::replaced(minutes).change(|s| s.status = Scene::in_sync().status);
    scene(59).says(Reason::Issued, true, "dft_002");
    assert_eq!(scene(60).action(), revoke(1, RevokeCause::Retired));
}

#[test]
fn a_change_of_the_overlap_holds_for_what_retires_already() {
    let shorter = Scene::replaced(10).change(|s| s.desired.rotation.overlap = SignedDuration::from_mins(5));
    assert_eq!(shorter.action(), revoke(1, RevokeCause::Retired));
    let longer = Scene::replaced(61).change(|s| s.desired.rotation.overlap = SignedDuration::from_hours(2));
    assert_eq!(longer.rests().requeue.at, Some(later(59)));
    let for_ever = Scene::replaced(61).change(|s| s.desired.rotation.overlap = SignedDuration::MAX);
    for_ever.says(Reason::Issued, true, "dft_002");
}

#[test]
fn a_token_that_only_status_remembers_retires_with_the_overlap_of_the_secrets_token() {
    let forgotten = |minutes| Scene::replaced(minutes).change(|s| s.secret().record.previous.clear());
    forgotten(59).says(Reason::Issued, true, "dft_002");
    assert_eq!(forgotten(60).action(), revoke(1, RevokeCause::Retired));
}

#[test]
fn a_suspended_resource_revokes_nothing_but_says_when_it_would() {
    Scene::replaced(61).change(|s| s.desired.suspended = true).says(Reason::Suspended, true, "suspend");
}

#[test]
fn one_list_is_not_enough_to_call_a_token_vanished() {
    let once = Scene::in_sync().change(|s| s.snapshot = Some(Snapshot::new(HORIZON, now(), Vec::new())));
    once.says(Reason::Issued, true, "confirm");
    let came_back = Scene::in_sync().change(|s| {
        let mut snapshot = Snapshot::new(HORIZON, ago(2), Vec::new());
        snapshot.listed(ago(1), vec![token(1)]);
        snapshot.listed(now(), Vec::new());
        s.snapshot = Some(snapshot);
    });
    came_back.says(Reason::Issued, true, "confirm");
    Scene::token_deleted().records(Cause::Vanished);
}

#[test]
fn a_token_younger_than_the_horizon_has_not_vanished_however_many_lists_lag() {
    let young = |seconds| {
        Scene::token_deleted().change(|s| {
            s.log.0[0].at = now() - SignedDuration::from_secs(seconds);
            s.secret().record.issued_at = Some(s.log.0[0].at);
        })
    };
    young(119).says(Reason::Issued, true, "confirm");
    young(120).records(Cause::Vanished);
}

#[test]
fn what_vanished_is_not_ready() {
    let scene = Scene::token_deleted().change(|s| s.free = Some(0));
    scene.says(Reason::WaitingForSlot, false, "no free slot");
}

#[test]
fn a_deleted_secret_and_a_changed_key_are_answered_with_a_new_token() {
    Scene::secret_deleted().records(Cause::KeyLost);
    let changed = Scene::in_sync().change(|s| s.secret().key = Some(key(5)));
    changed.records(Cause::KeyLost);
    let emptied = Scene::in_sync().change(|s| s.secret().key = None);
    emptied.records(Cause::KeyLost);
    let subtly = Scene::in_sync().change(|s| s.secret().key = Some(lookalike(1)));
    subtly.records(Cause::KeyLost);
}

#[test]
fn the_token_of_a_lost_key_lives_until_the_overlap_after_the_next_swap() {
    let before = about_to_send();
    assert_eq!(before.action(), send(2, Cause::KeyLost));
    let mut swapped = Scene::replaced(0).change(|s| s.status = Scene::in_sync().status);
    swapped.says(Reason::Issued, true, "dft_002");
    (swapped.now, swapped.local.retired) = (later(60), [(id(1), watched(now(), 60))].into());
    assert_eq!(swapped.action(), revoke(1, RevokeCause::Retired));
}

#[test]
fn where_one_retires_already_the_token_of_a_lost_key_goes_before_the_next_is_sent() {
    let mut scene = about_to_send().change(|s| s.status.retiring = [id(9)].into());
    assert_eq!(scene.action(), revoke(1, RevokeCause::MadeRoom));
    scene.local.unsent.as_mut().unwrap().preflight = Preflight::Refused(refused(later(1)));
    scene.says(Reason::SecretWriteRefused, false, "quota");
    scene.local.unsent = None;
    scene.records(Cause::KeyLost);
}

#[test]
fn where_no_slot_is_free_the_token_of_a_lost_key_makes_room_for_the_next() {
    let full = about_to_send().change(|s| s.free = Some(0));
    assert_eq!(full.action(), revoke(1, RevokeCause::MadeRoom));
    let not_yet = Scene::secret_deleted().change(|s| s.free = Some(0));
    not_yet.records(Cause::KeyLost);
}

#[test]
fn the_token_of_a_lost_key_is_kept_as_long_as_datafast_refuses_the_next() {
    let full = about_to_send().change(|s| {
        s.free = Some(0);
        s.local.rejected = Some(crate::lifecycle::local::Rejected {
            spec_hash: scope().hash(),
            message: "no".into(),
            may_be_full: false,
            retry_at: later(10),
        });
    });
    full.says(Reason::Rejected, false, "refused");
}

#[test]
fn a_key_that_was_lost_before_status_named_its_token_is_a_lost_attempt() {
    let scene = Scene::secret_deleted().change(|s| s.status = Default::default());
    scene.records(Cause::New);
    assert_eq!(scene.with_attempts(&[(1, A_DAY), (2, 0)]).action(), revoke(1, RevokeCause::LostAttempt));
}

#[test]
fn a_denied_revocation_is_not_repeated_until_a_later_list_shows_the_token_again() {
    let denied = |at, list| {
        Scene::replaced(61).change(|s| {
            s.local.denied.insert(id(1), at);
            s.snapshot = Some(lists(list, &[token(1), token(2)]));
        })
    };
    let waits = denied(ago(1), ago(1) - SignedDuration::from_secs(1));
    waits.says(Reason::Issued, true, "dft_002");
    assert_eq!(waits.rests().requeue.list, Some(ago(1)));
    let still_listed = denied(ago(1), now());
    assert_eq!(still_listed.rests().requeue.at, Some(later(9)));
    assert_eq!(denied(ago(10), now()).action(), revoke(1, RevokeCause::Retired));
}

#[test]
fn the_list_that_a_denied_revocation_waits_for_is_the_one_it_asks_to_be_woken_by() {
    let scene = Scene::replaced(61).change(|s| {
        s.local.denied.insert(id(1), ago(1));
        s.snapshot = Some(lists(ago(1), &[token(1), token(2)]));
    });
    assert_eq!(scene.rests().requeue.list, None, "a list that began then is there: waiting for it would never end");
}

#[test]
fn a_secret_that_lost_its_label_keeps_its_token_alive() {
    let mut scene = Scene::in_sync();
    scene.secret().owner = crate::lifecycle::observed::SecretOwner::Nobody;
    scene.secret().record = Default::default();
    assert_eq!(scene.action(), Action::Prove { token_id: id(1) });
    scene.secret = SecretView::Present(scene.secret().clone());
    scene.local.proof = Some(proof(1, true));
    assert_eq!(scene.writes_secret().attempt, Some(nonce(1)));
}
