//! A Secret or a status that was copied from another resource's: the original is safe from the copy.

use std::collections::BTreeSet;

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::marker::{Marker, OwnerId};
use crate::lifecycle::observed::{SecretFacts, SecretOwner, SecretView, StatusRecord};
use crate::lifecycle::ownership::Evidence;
use crate::lifecycle::record::{Cause, SecretRecord};
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

const THEIRS: u8 = 5;

fn copy() -> SecretOwner {
    SecretOwner::Copy { of: HOLDER.into() }
}

/// The Secret of another resource, which is there, with its key.
fn theirs(owner: SecretOwner) -> SecretView {
    SecretView::Present(SecretFacts { owner, ..secret(THEIRS, ago(A_DAY)) })
}

/// Beside another resource that has token 5.
fn beside(scene: Scene) -> Scene {
    let own = if scene.status.token_id.is_some() { vec![token(1)] } else { Vec::new() };
    let all: Vec<_> = own.into_iter().chain([token_of(&victim(), THEIRS)]).collect();
    scene.listing(&all).change(|s| s.taken = [id(THEIRS)].into())
}

#[test]
fn a_copy_is_left_as_it_is_whether_the_resource_is_new_or_had_a_token() {
    for scene in
        [Scene::new(), Scene::in_sync(), Scene::in_sync().change(|s| s.local.proof = Some(proof(THEIRS, true)))]
    {
        let scene = beside(scene).change(|s| (s.has_finalizer, s.secret) = (true, theirs(copy())));
        let verdict =
            scene.says(Reason::SecretConflict, false, "a copy of the Secret of DataFastAccessToken team-a/agent");
        assert!(verdict.message.contains("delete the copy"), "{}", verdict.message);
        assert!(scene.rests().requeue.at.is_some());
        let mut deleted = scene.deleted();
        if let Some(Action::Revoke { token_id, .. }) = deleted.acts() {
            assert_eq!(token_id, id(1), "its own goes");
            deleted.snapshot.as_mut().unwrap().revoked(&token_id, now());
        }
        assert_eq!(deleted.action(), Action::Release, "and the copy stays");
    }
}

#[test]
fn a_copy_whose_owner_is_out_of_sight_is_told_by_the_token_that_another_has() {
    let scene = beside(Scene::new()).change(|s| s.secret = theirs(SecretOwner::Former));
    scene.says(Reason::SecretConflict, false, "a copy, with the key of DataFastAccessToken team-a/agent");
}

#[test]
fn what_a_former_one_left_is_taken_over_by_proof() {
    let mut scene = Scene::restored().change(|s| s.secret().owner = SecretOwner::Former);
    assert_eq!(scene.action(), Action::Prove { token_id: id(1) });
    scene.local.proof = Some(proof(1, true));
    let Action::Rewrite { adopts, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!(adopts, Some(id(1)), "its marker is of another uid");
}

/// It names no uid.
#[test]
fn a_copy_of_an_older_secret_is_a_conflict_too_and_what_was_restored_is_taken_over_by_proof() {
    for scene in [Scene::new(), Scene::in_sync()] {
        let scene = beside(scene).change(|s| (s.has_finalizer, s.secret) = (true, theirs(SecretOwner::Namesake)));
        scene.says(Reason::SecretConflict, false, "a copy, with the key of DataFastAccessToken team-a/agent");
        assert!(!matches!(scene.deleted().acts(), Some(Action::DeleteSecret)));
    }
    let mut restored = Scene::restored().change(|s| s.secret().owner = SecretOwner::Namesake);
    assert_eq!(restored.action(), Action::Prove { token_id: id(1) });
    restored.local.proof = Some(proof(1, true));
    assert!(matches!(restored.action(), Action::Rewrite { .. }));
}

#[test]
fn nothing_is_taken_over_before_all_resources_have_been_seen() {
    for scene in [Scene::restored().change(|s| s.secret().owner = SecretOwner::Former), Scene::import()] {
        let scene = scene.change(|s| (s.has_finalizer, s.sees_all) = (true, false));
        scene.says(Reason::Issuing, scene.status.ready, "has seen the resources of all namespaces");
        assert!(scene.rests().requeue.at.is_some());
        assert!(matches!(scene.change(|s| s.sees_all = true).action(), Action::Prove { .. }));
    }
}

#[test]
fn what_a_former_one_left_under_another_name_keeps_its_token() {
    let mut scene = Scene::restored().change(|s| {
        s.secret().owner = SecretOwner::Former;
        s.desired.scope.token_name = "shop/another".into();
        s.local.proof = Some(proof(1, true));
    });
    let Action::Rewrite { record, adopts, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!((adopts, record.spec_hash.clone()), (Some(id(1)), Some(scene.desired.scope.hash())));
    scene.secret().owner = SecretOwner::This;
    scene.secret().record = record;
    scene.adopted = [id(1)].into();
    scene.says(Reason::Issued, true, "dft_001");
}

#[test]
fn of_two_that_a_token_may_belong_to_the_one_has_it_for_which_more_speaks() {
    let (this, other) = (me(), victim());
    let marker = Marker::of_name(&token(1).name.unwrap()).unwrap();
    let status = |marked: &OwnerId| StatusRecord {
        token_id: Some(id(1)),
        marked: Some(marked.clone()),
        ..StatusRecord::default()
    };
    let nothing = BTreeSet::new;
    let adopted = || BTreeSet::from([id(1)]);
    let restored = status(&this);
    let is_marked = Evidence::of(&id(1), Some(&marker), &this, &StatusRecord::default(), nothing);
    assert_eq!(is_marked, Some(Evidence::Marked));
    assert_eq!(Evidence::of(&id(1), None, &this, &restored, nothing), Some(Evidence::Marked), "status has the name");
    assert_eq!(Evidence::of(&id(1), Some(&marker), &other, &restored, adopted), Some(Evidence::Adopted));
    assert_eq!(Evidence::of(&id(1), Some(&marker), &other, &restored, nothing), Some(Evidence::Named));
    assert_eq!(Evidence::of(&id(1), None, &other, &restored, nothing), Some(Evidence::Named));
    assert_eq!(
        Evidence::of(&id(1), None, &other, &StatusRecord::default(), adopted),
        None,
        "a log tells nothing alone"
    );
    assert!(Evidence::Marked > Evidence::Adopted && Evidence::Adopted > Evidence::Named);
}

#[test]
fn a_secret_whose_owner_is_gone_says_how_to_hand_it_over() {
    let mut scene = Scene::restored();
    scene.secret().owner = SecretOwner::Gone("DataFastAccessToken/ci".into());
    let verdict = scene.says(Reason::SecretConflict, false, "DataFastAccessToken/ci, which is not there any more");
    let command = "kubectl annotate secret agent --overwrite datafa.st/owner=DataFastAccessToken/agent";
    assert!(verdict.message.contains(command), "{}", verdict.message);
    assert!(!verdict.message.contains("another spec.secret.name"));
}

/// A backup was restored into another namespace, status and all, beside the original.
fn trial() -> Scene {
    beside(Scene::new()).change(|s| {
        let marked = Some(victim());
        s.status = StatusRecord { token_id: Some(id(THEIRS)), marked, ready: true, ..StatusRecord::default() };
        s.log.0 = vec![attempt(THEIRS, ago(A_DAY), Cause::New)];
        s.has_finalizer = true;
    })
}

#[test]
fn a_restored_status_gives_no_power_over_the_originals_token() {
    for owner in [copy(), SecretOwner::Former, SecretOwner::Namesake, SecretOwner::This] {
        let scene = trial().change(|s| s.secret = theirs(owner));
        assert!(!matches!(scene.acts(), Some(Action::Revoke { .. })), "{:?}", scene.decide());
        assert!(matches!(scene.deleted().action(), Action::Release | Action::DeleteSecret));
    }
    trial().records(Cause::KeyLost);
    assert_eq!(trial().deleted().action(), Action::Release);
}

#[test]
fn nor_does_it_with_a_log_that_says_that_the_token_was_taken_over() {
    let forged = |scene: Scene| scene.change(|s| s.adopted = [id(THEIRS)].into());
    assert_eq!(forged(trial()).deleted().action(), Action::Release);
    let former = forged(trial()).change(|s| (s.status.token_id, s.status.retiring) = (None, [id(THEIRS)].into()));
    assert_eq!(former.clone().deleted().action(), Action::Release);
    for scene in [forged(trial()), former] {
        let unlisted = scene.deleted().listing(&[]).change(|s| s.log.0[0].at = ago(1));
        assert!(!matches!(unlisted.acts(), Some(Action::Revoke { .. })), "{:?}", unlisted.decide());
    }
}

/// As in another cluster, where the original can't be seen.
#[test]
fn nor_does_it_where_the_original_is_out_of_sight() {
    let away = |scene: Scene| scene.change(|s| s.taken.clear());
    assert_eq!(away(trial()).deleted().action(), Action::Release);
    // As long as a list may lag.
    let unlisted = away(trial()).deleted().listing(&[]).change(|s| s.log.0[0].at = ago(1));
    assert!(!matches!(unlisted.acts(), Some(Action::Revoke { .. })), "{:?}", unlisted.decide());
    let by_hand = away(trial()).listing(&[unmarked(THEIRS)]).change(|s| s.status.marked = None);
    assert_eq!(by_hand.deleted().action(), Action::Release, "the copy has not proved to have its key");
    let restored = away(trial()).change(|s| s.secret = theirs(SecretOwner::Former));
    assert_eq!(restored.action(), Action::Prove { token_id: id(THEIRS) }, "before anything else is done with it");
}

/// A token that was made by hand, and taken over.
fn adopted() -> Scene {
    let mut scene = Scene::import().change(|s| (s.has_finalizer, s.local.proof) = (true, Some(proof(7, true))));
    let Action::Rewrite { record, adopts, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    scene.adopted = adopts.into_iter().collect();
    scene.secret = SecretView::Present(SecretFacts { owner: SecretOwner::This, record, ..secret(7, ago(1)) });
    scene.status.token_id = Some(id(7));
    scene.after_restart()
}

#[test]
fn a_token_that_was_taken_over_is_revoked_at_deletion_whatever_part_of_the_record_is_lost() {
    let by_log = adopted().change(|s| s.secret = SecretView::Missing);
    let by_secret = adopted().change(|s| s.adopted.clear());
    for scene in [adopted(), by_log, by_secret] {
        assert_eq!(scene.deleted().action(), revoke(7, RevokeCause::Deleted));
    }
}

#[test]
fn a_token_that_was_taken_over_retires_when_its_secret_was_lost() {
    let mut scene = adopted().change(|s| s.secret = SecretView::Missing);
    let Action::Record { adopted, cause, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!((adopted, cause), ([id(7)].into(), Cause::KeyLost), "the log goes on telling");
    scene.log.0.push(attempt(2, now(), Cause::KeyLost));
    scene.local.pending = Some(pending(2, now()));
    let scene = scene.listing(&[unmarked(7), token(2)]);
    assert_eq!(scene.writes_secret().previous.iter().map(|p| &*p.token).collect::<Vec<_>>(), ["token-7"]);
}

#[test]
fn the_log_forgets_what_was_taken_over_once_that_is_gone() {
    let scene = Scene::secret_deleted().change(|s| s.adopted = [id(7), id(8)].into()).listing(&[token(1), unmarked(8)]);
    let Action::Record { adopted, .. } = scene.action() else { panic!("{:?}", scene.action()) };
    assert_eq!(adopted, [id(8)].into());
}

#[test]
fn an_older_secret_that_names_a_token_taken_over_is_still_proof_and_is_written_into_the_log_with_the_next_write() {
    let scene = adopted().change(|s| s.adopted.clear());
    scene.says(Reason::Issued, true, "dft_007");
    let Action::Rewrite { adopts, .. } = scene.change(|s| s.secret().drift = drift()).action() else { panic!() };
    assert_eq!(adopts, Some(id(7)));
}

#[test]
fn the_record_that_a_token_was_issued_with_is_no_proof_of_a_take_over() {
    let mut scene = trial().change(|s| (s.taken, s.secret) = (Default::default(), theirs(SecretOwner::This)));
    assert_eq!(scene.action(), Action::Prove { token_id: id(THEIRS) });
    scene.secret().record = SecretRecord { attempt: None, ..secret(THEIRS, ago(A_DAY)).record };
    scene.says(Reason::Issued, true, "dft_005");
}
