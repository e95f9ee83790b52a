//! What has settled stays as it is; what drifted is written again; a token is issued anew only for another scope.

use crate::lifecycle::decision::Action;
use crate::lifecycle::observed::Drift;
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

fn rewrites(scene: &Scene) {
    let record = match scene.action() {
        Action::Rewrite { record, .. } => record,
        other => panic!("{other:?} is no rewrite"),
    };
    assert_eq!(record, secret(1, ago(A_DAY)).record, "the record is as it was before somebody edited it");
    scene.clone().change(|s| s.secret().record = record).change(|s| s.secret().drift = Drift::default()).says(
        Reason::Issued,
        true,
        "",
    );
}

#[test]
fn what_has_settled_is_left_alone() {
    let decision = Scene::in_sync().rests();
    assert_eq!(decision.requeue, Default::default(), "nothing to wait for: changes requeue it");
    Scene::in_sync().after_restart().says(Reason::Issued, true, "Secret \"agent\" holds token dft_001...0001");
}

#[test]
fn a_settled_token_without_the_finalizer_is_claimed_again() {
    assert_eq!(Scene::in_sync().change(|s| s.has_finalizer = false).action(), Action::AddFinalizer);
}

#[test]
fn a_secret_that_differs_from_what_is_asked_for_is_written_again_with_its_own_key() {
    rewrites(&Scene::in_sync().change(|s| s.secret().drift = drift()));
}

#[test]
fn every_edited_or_dropped_annotation_of_the_record_is_put_right_without_a_new_token() {
    let edits: [fn(&mut crate::lifecycle::record::SecretRecord); 8] = [
        |r| r.spec_hash = None,
        |r| r.spec_hash = Some("edited".into()),
        |r| r.attempt = None,
        |r| r.attempt = Some(nonce(9)),
        |r| r.token_id = None,
        |r| r.key_sha256 = None,
        |r| (r.token_id, r.key_sha256) = (Some(id(9)), None),
        |r| (r.attempt, r.token_id, r.key_sha256, r.spec_hash) = (None, None, None, None),
    ];
    for edit in edits {
        rewrites(&Scene::in_sync().change(|s| edit(&mut s.secret().record)));
    }
}

#[test]
fn a_refused_rewrite_is_tried_again_later_and_the_token_stays_ready() {
    let mut scene = Scene::in_sync();
    scene.secret().drift = drift();
    scene.local.rewrite = Some(refused(later(1)));
    scene.says(Reason::SecretWriteRefused, true, "exceeded quota");
    assert_eq!(scene.rests().requeue.at, Some(later(1)));
    scene.now = later(1);
    assert!(matches!(scene.action(), Action::Rewrite { .. }));
}

#[test]
fn another_scope_or_name_is_issued_anew() {
    for scope in [wider_scope(), crate::lifecycle::record::Scope { token_name: "renamed".into(), ..scope() }] {
        let scene = Scene::in_sync().change(|s| s.desired.scope = scope);
        assert!(matches!(scene.action(), Action::Record { cause: Cause::ScopeChanged, .. }), "{:?}", scene.action());
    }
}

#[test]
fn a_datafast_that_answers_with_another_scope_than_asked_is_not_asked_for_ever() {
    let narrowed = crate::datafast::Token { permissions: ["goals:read".to_owned()].into(), ..token(1) };
    let scene = Scene::in_sync().listing(&[narrowed]);
    scene.says(Reason::Issued, true, "");
}

#[test]
fn a_token_narrowed_and_its_hash_dropped_is_issued_anew_once() {
    let narrowed = crate::datafast::Token { permissions: ["goals:read".to_owned()].into(), ..token(1) };
    let scene = Scene::in_sync().listing(&[narrowed]).change(|s| s.secret().record.spec_hash = None);
    assert!(matches!(scene.action(), Action::Record { cause: Cause::ScopeChanged, .. }));
}

#[test]
fn an_adopted_token_keeps_the_name_that_people_gave_it() {
    let mut scene = Scene::in_sync().listing(&[unmarked(1)]);
    scene.secret().record.spec_hash = None;
    assert_eq!(scene.writes_secret().attempt, None);
}

#[test]
fn before_the_first_list_what_was_ready_stays_so_and_what_was_not_does_not_become_it() {
    let scene = Scene::in_sync().change(|s| s.snapshot = None);
    scene.says(Reason::Issued, true, "confirm");
    scene.change(|s| s.status.ready = false).says(Reason::Issuing, false, "confirm");
}
