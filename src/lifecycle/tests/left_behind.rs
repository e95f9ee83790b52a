//! What a resource leaves behind whose finalizer was taken off before it was deleted.

use crate::lifecycle::event::{Answer, Effect, Event, Now};
use crate::lifecycle::left_behind::{LeftBehind, left_behind};
use crate::lifecycle::observed::{SecretOwner, SecretView};

use jiff::SignedDuration;

use super::scenes::*;

fn left(scene: &Scene) -> LeftBehind {
    scene.observe(|seen| left_behind(&scene.desired, seen, scene.now))
}

fn tokens(numbers: &[u8]) -> std::collections::BTreeSet<crate::datafast::TokenId> {
    numbers.iter().map(|n| id(*n)).collect()
}

/// Everything is to go.
fn all_of(numbers: &[u8]) -> LeftBehind {
    LeftBehind { tokens: tokens(numbers), has_secret: true, ..LeftBehind::default() }
}

fn deleted(scene: Scene) -> Scene {
    scene.deleted().change(|s| s.has_finalizer = false).after_restart()
}

#[test]
fn what_status_names_is_revoked_and_the_secret_deleted() {
    assert_eq!(left(&deleted(Scene::in_sync())), all_of(&[1]));
    assert_eq!(left(&deleted(Scene::replaced(5))), all_of(&[1, 2]), "without waiting for the overlap");
    let lost = deleted(Scene::answer_lost());
    assert_eq!(left(&lost), LeftBehind { tokens: tokens(&[1]), ..LeftBehind::default() }, "its log names it");
    let suspended = deleted(Scene::in_sync()).change(|s| s.desired.suspended = true);
    assert_eq!(left(&suspended), all_of(&[1]));
}

#[test]
fn what_is_gone_already_is_not_looked_for() {
    let gone = deleted(Scene::in_sync()).listing(&[]).change(|s| s.secret = SecretView::Missing);
    assert_eq!(left(&gone), LeftBehind::default());
    let revoked = deleted(Scene::in_sync()).change(|s| {
        s.secret = SecretView::Missing;
        s.snapshot.as_mut().unwrap().revoked(&id(1), now());
    });
    assert_eq!(left(&revoked), LeftBehind::default());
}

#[test]
fn what_was_to_stay_stays_and_is_told() {
    let retained = deleted(Scene::in_sync()).change(|s| s.desired.retain = true);
    assert_eq!(left(&retained), LeftBehind { stay: tokens(&[1]), ..LeftBehind::default() });
    let abandoned = deleted(Scene::in_sync()).change(|s| s.desired.abandon = true);
    assert_eq!(left(&abandoned), LeftBehind { stay: tokens(&[1]), has_secret: true, ..LeftBehind::default() });
    let unknown = deleted(Scene::in_sync()).change(|s| s.desired.unreadable = Some(unreadable(true)));
    assert_eq!(left(&unknown), LeftBehind { stay: tokens(&[1]), ..LeftBehind::default() });
}

#[test]
fn a_token_without_its_marker_or_of_another_resource_is_never_revoked() {
    let adopted = deleted(Scene::in_sync()).change(|s| {
        s.status.token_id = Some(id(7));
        s.snapshot = Some(lists(now(), &[token(1), unmarked(7)]));
        s.secret = SecretView::Missing;
        s.log.0.clear();
    });
    assert_eq!(left(&adopted), LeftBehind { stay: tokens(&[7]), ..LeftBehind::default() });
    let taken = deleted(Scene::in_sync()).change(|s| s.taken = tokens(&[1]));
    assert_eq!(left(&taken), LeftBehind { has_secret: true, ..LeftBehind::default() }, "somebody looks after it");
    let copied = deleted(Scene::new()).with_attempts(&[(4, 1)]).listing(&[token_of(&victim(), 4)]);
    assert_eq!(left(&copied), LeftBehind::default(), "a nonce of another's is worth nothing");
}

#[test]
fn a_secret_goes_only_where_it_holds_a_key_of_the_resource() {
    let secret_of = |change: fn(&mut Scene)| left(&deleted(Scene::in_sync()).change(change)).has_secret;
    assert!(secret_of(|_| {}));
    assert!(!secret_of(|s| s.secret().owner = SecretOwner::Other("DataFastAccessToken/other".into())));
    assert!(!secret_of(|s| s.secret().owner = SecretOwner::Nobody));
    // One of the same name was there before, or is there since.
    assert!(!secret_of(|s| (s.secret().record.attempt, s.secret().record.token_id) = (Some(nonce(9)), Some(id(9)))));
    assert!(!secret_of(|s| s.secret().record = Default::default()));
}

#[test]
fn before_a_list_can_tell_it_is_not_known() {
    assert!(left(&deleted(Scene::in_sync()).change(|s| s.snapshot = None)).is_unknown);
    assert!(!left(&deleted(Scene::new()).change(|s| s.snapshot = None)).is_unknown, "there is nothing to be known");
    let young = deleted(Scene::in_sync()).with_attempts(&[(1, 1)]).listing(&[]);
    assert!(left(&young).is_unknown, "a list may lag");
}

fn clocks() -> Now {
    Now { wall: now(), steady: SignedDuration::ZERO }
}

#[test]
fn what_was_released_has_nothing_left_to_be_cleared_away() {
    let mut scene = Scene::in_sync();
    scene.happens(Event::Releasing);
    assert_eq!(scene.local.apply(Event::Vanished, clocks()), None);
    let mut stripped = Scene::in_sync();
    assert_eq!(stripped.local.apply(Event::Vanished, clocks()), Some(Effect::ClearAway(None)));
}

#[test]
fn a_key_that_was_pending_or_comes_later_has_nowhere_to_go() {
    let mut pending = Scene::key_pending();
    assert_eq!(pending.local.apply(Event::Vanished, clocks()), Some(Effect::ClearAway(Some(id(1)))));
    assert!(!pending.local.has_pending_key());
    let mut sent = Scene::new();
    sent.happens(Event::Sending { nonce: nonce(1) });
    assert_eq!(sent.local.apply(Event::Vanished, clocks()), Some(Effect::ClearAway(None)));
    let answer = Answer::Issued { token_id: id(1), key_sha256: Some(fingerprint(1)) };
    let late = sent.local.apply(Event::Sent { order: order(1), answer }, clocks());
    assert_eq!(late, Some(Effect::RevokeOrphan(id(1))));
}
