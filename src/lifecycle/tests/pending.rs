//! A key that DataFast issued is on its way into the Secret: it gets there, or its token is revoked.

use jiff::SignedDuration;

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::observed::{Availability, SecretOwner, SecretView};
use crate::lifecycle::record::{Cause, Previous, Requests, SecretRecord};
use crate::lifecycle::rules::delivery::UNDELIVERABLE;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

fn undeliverable() -> Action {
    revoke(1, RevokeCause::Undeliverable)
}

/// A Secret that is another resource's.
fn somebody_elses() -> SecretView {
    let mut facts = secret(9, ago(A_DAY));
    facts.owner = SecretOwner::Other("DataFastAccessToken/other".into());
    SecretView::Present(facts)
}

#[test]
fn an_issued_key_goes_into_the_secret_with_its_record() {
    let record = Scene::key_pending().writes_secret();
    assert_eq!(
        record,
        SecretRecord {
            attempt: Some(nonce(1)),
            token_id: Some(id(1)),
            issued_at: Some(now()),
            previous: Vec::new(),
            spec_hash: Some(scope().hash()),
            key_sha256: Some(fingerprint(1)),
            request: None,
            answered: Requests::default(),
        }
    );
}

#[test]
fn a_key_at_hand_is_delivered_even_when_suspended_or_while_datafast_is_down() {
    let suspended = Scene::key_pending().change(|s| s.desired.suspended = true);
    assert!(matches!(suspended.action(), Action::Swap { .. }));
    let down = Scene::key_pending().change(|s| s.availability = Availability::Unavailable("503".into()));
    assert!(matches!(down.action(), Action::Swap { .. }));
}

#[test]
fn what_the_secret_held_before_becomes_previous() {
    let mut scene = Scene::in_sync().with_attempts(&[(1, A_DAY), (2, 0)]).listing(&[token(1), token(2)]);
    scene.local.pending = Some(pending(2, now()));
    scene.secret().record.request = request("rotate me");
    let record = scene.writes_secret();
    assert_eq!(record.previous, [previous(1, now())]);
    assert_eq!(record.attempt, Some(nonce(2)));
    assert_eq!(record.request, request("rotate me"));
}

#[test]
fn a_token_whose_secret_was_deleted_is_still_named_by_the_next_secret() {
    let mut scene = Scene::secret_deleted().with_attempts(&[(1, A_DAY), (2, 0)]).listing(&[token(1), token(2)]);
    scene.local.pending = Some(pending(2, now()));
    assert_eq!(scene.writes_secret().previous, [previous(1, now())]);
}

#[test]
fn an_adopted_token_becomes_previous_by_its_id() {
    let mut scene = Scene::import().with_attempts(&[(2, 0)]).listing(&[unmarked(7), token(2)]);
    scene.secret().owner = SecretOwner::This;
    scene.status.token_id = Some(id(7));
    scene.local.pending = Some(pending(2, now()));
    assert_eq!(scene.writes_secret().previous, [Previous { token: "token-7".into(), ..previous(7, now()) }]);
}

#[test]
fn previous_forgets_a_token_only_when_a_later_list_shows_it_gone() {
    let mut scene = Scene::replaced(30).with_attempts(&[(1, A_DAY), (2, 30), (3, 0)]);
    scene.local.pending = Some(pending(3, now()));
    let listed = scene.clone().listing(&[token(1), token(2), token(3)]);
    assert_eq!(listed.writes_secret().previous, [previous(1, ago(30)), previous(2, now())]);
    let gone = scene.clone().listing(&[token(2), token(3)]);
    assert_eq!(gone.writes_secret().previous, [previous(2, now())]);
    let too_early = scene.change(|s| s.snapshot = Some(lists(ago(29), &[token(2), token(3)])));
    assert_eq!(too_early.writes_secret().previous, [previous(1, ago(30)), previous(2, now())]);
}

#[test]
fn a_refused_secret_is_tried_again_with_the_same_key() {
    let mut scene = Scene::key_pending();
    scene.local.pending.as_mut().unwrap().refused = Some(refused(later(1)));
    scene.says(Reason::SecretWriteRefused, false, "exceeded quota");
    assert_eq!(scene.rests().requeue.at, Some(later(1)));
    scene.now = later(1);
    assert!(matches!(scene.action(), Action::Swap { .. }));
}

#[test]
fn a_key_that_no_secret_took_for_five_minutes_is_revoked() {
    let mut scene = Scene::key_pending();
    scene.local.pending.as_mut().unwrap().refused = Some(refused(later(60)));
    assert_eq!(scene.rests().requeue.at, Some(now() + UNDELIVERABLE), "the refusal's own time comes too late");
    scene.now = now() + UNDELIVERABLE;
    assert_eq!(scene.action(), undeliverable());
    let down = scene.change(|s| s.availability = Availability::RateLimited);
    down.says(Reason::RateLimited, false, "limits the rate");
}

#[test]
fn a_key_whose_attempt_was_superseded_is_revoked_and_never_written() {
    let mut scene = Scene::key_pending();
    scene.log.0.push(attempt(2, now(), Cause::New));
    assert_eq!(scene.action(), undeliverable());
    let log_gone = Scene::key_pending().change(|s| s.log.0.clear());
    assert_eq!(log_gone.action(), undeliverable());
}

#[test]
fn a_secret_that_became_somebody_elses_meanwhile_is_not_overwritten() {
    let mut scene = Scene::key_pending().change(|s| s.secret = somebody_elses());
    let verdict = scene.says(Reason::SecretConflict, false, "it belongs to DataFastAccessToken/other");
    assert!(verdict.reason.is_stalled());
    assert_eq!(
        scene.rests().requeue.at,
        Some(now() + SignedDuration::from_secs(30)),
        "it may go before the key is given up"
    );
    scene.now = now() + UNDELIVERABLE;
    assert_eq!(scene.action(), undeliverable());
}

#[test]
fn a_key_is_not_given_up_before_a_secret_was_refused() {
    let mut scene = Scene::key_pending();
    scene.now = now() + UNDELIVERABLE;
    assert!(matches!(scene.action(), Action::Swap { .. }), "the API server may have been away all the time");
}

#[test]
fn a_key_at_hand_is_never_taken_for_a_lost_one() {
    let scene = Scene::replaced(300).with_attempts(&[(1, A_DAY), (2, 300), (3, 0)]);
    let scene = scene.listing(&[token(1), token(2), token(3)]).change(|s| s.local.pending = Some(pending(3, now())));
    assert!(matches!(scene.action(), Action::Swap { .. }), "{:?}", scene.action());
}
