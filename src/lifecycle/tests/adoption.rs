//! Keys that users bring along: taken over where everything fits, left alone where not.

use crate::datafast::Flaw;
use crate::lifecycle::decision::Action;
use crate::lifecycle::local::Refused;
use crate::lifecycle::observed::{Availability, SecretOwner};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;

fn prove(n: u8) -> Action {
    Action::Prove { token_id: id(n) }
}

#[test]
fn an_import_is_claimed_then_proven_then_taken_over() {
    let mut scene = Scene::import();
    assert_eq!(scene.action(), Action::AddFinalizer);
    scene.has_finalizer = true;
    assert_eq!(scene.action(), prove(7));
    scene.local.proof = Some(proof(7, true));
    let record = scene.writes_secret();
    assert_eq!((record.token_id, record.attempt), (Some(id(7)), None));
    assert_eq!(record.key_sha256, Some(fingerprint(7)));
    assert_eq!(record.spec_hash, Some(scope().hash()));
    assert_eq!(record.issued_at, unmarked(7).created_at);

    *scene.secret() = crate::lifecycle::observed::SecretFacts {
        owner: SecretOwner::This,
        record: scene.writes_secret(),
        key: Some(key(7)),
        flaw: None,
        drift: Default::default(),
    };
    scene.says(Reason::Issued, true, "dft_007");
    scene.status.token_id = Some(id(7));
    scene.after_restart().says(Reason::Issued, true, "dft_007");
}

#[test]
fn an_import_that_does_not_fit_is_a_conflict_that_says_why() {
    let import = || Scene::import().change(|s| s.has_finalizer = true);
    let cases: [(&str, Scene); 7] = [
        ("the account has no token token-7", import().listing(&[])),
        ("token token-7 is another resource's", import().change(|s| s.taken = [id(7)].into())),
        ("is not that of token token-7 (dft_007...0007)", import().change(|s| s.secret().key = Some(key(8)))),
        ("its entry \"token\" holds no key", import().change(|s| s.secret().key = None)),
        ("DataFast does not take its key", import().change(|s| s.local.proof = Some(proof(7, false)))),
        ("has other permissions or websites", import().change(|s| s.desired.scope = wider_scope())),
        ("it is not this operator's", import().change(|s| s.secret().record.token_id = None)),
    ];
    for (why, scene) in cases {
        let verdict = scene.says(Reason::SecretConflict, false, why);
        assert!(verdict.reason.is_stalled());
        assert!(verdict.message.contains("Secret \"agent\" exists and is left as it is"));
        assert!(scene.rests().requeue.at.is_some_and(|at| at > now()), "foreign Secrets are not watched");
    }
}

#[test]
fn a_key_that_could_not_be_tried_is_tried_again_later() {
    let mut scene = Scene::import().change(|s| s.has_finalizer = true);
    scene.local.unproved = Some(Refused { message: "no route".into(), retry_at: later(1) });
    scene.says(Reason::ApiUnavailable, false, "no route");
    assert_eq!(scene.rests().requeue.at, Some(later(1)));
    scene.now = later(1);
    assert_eq!(scene.action(), prove(7));
}

#[test]
fn an_entry_that_holds_no_key_is_told_by_what_it_holds() {
    for (flaw, words) in [(Flaw::Missing, "\"token\" holds no key"), (Flaw::Quoted, "\"token\" is in quotes")] {
        let scene = Scene::import().change(|s| (s.secret().key, s.secret().flaw) = (None, Some(flaw)));
        scene.says(Reason::SecretConflict, false, words);
    }
}

#[test]
fn an_unreadable_display_key_proves_nothing() {
    let scene = Scene::import().change(|s| s.has_finalizer = true);
    let masked = crate::datafast::Token { display_key: "********".into(), ..unmarked(7) };
    scene.listing(&[masked]).says(Reason::SecretConflict, false, "is not that of token");
}

#[test]
fn an_import_waits_for_a_list_and_for_the_account() {
    let no_list = Scene::import().change(|s| s.snapshot = None);
    no_list.says(Reason::Issuing, false, "list");
    let closed = Scene::import().change(|s| (s.has_finalizer, s.availability) = (true, Availability::RateLimited));
    closed.says(Reason::RateLimited, false, "");
}

#[test]
fn a_proof_of_one_key_says_nothing_of_another() {
    let changed = Scene::import().change(|s| {
        s.has_finalizer = true;
        s.local.proof = Some(proof(7, true));
        s.secret().key = Some(lookalike(7));
    });
    assert_eq!(changed.action(), prove(7));
    let recovered = Scene::import().change(|s| {
        s.has_finalizer = true;
        s.local.proof =
            Some(crate::lifecycle::local::Proof { key_sha256: lookalike(7).fingerprint("token-7"), ..proof(7, false) });
    });
    assert_eq!(recovered.action(), prove(7), "another key was refused, not this one");
}

#[test]
fn a_token_that_another_resource_took_meanwhile_is_not_adopted_though_its_key_was_proven() {
    let scene = Scene::import().change(|s| {
        s.has_finalizer = true;
        s.local.proof = Some(proof(7, true));
        s.taken = [id(7)].into();
    });
    scene.says(Reason::SecretConflict, false, "token token-7 is another resource's");
}

#[test]
fn a_secret_that_nobody_owns_is_a_conflict() {
    let mut scene = Scene::import();
    scene.secret().record = Default::default();
    scene.says(Reason::SecretConflict, false, "Delete or rename that Secret");
}

#[test]
fn a_secret_of_another_resource_is_a_conflict_that_names_it() {
    for scene in [Scene::new(), Scene::import(), Scene::in_sync()] {
        let mut scene = scene;
        let mut facts = secret(1, ago(A_DAY));
        facts.owner = SecretOwner::Other("DataFastAccessToken/other".into());
        scene.secret = crate::lifecycle::observed::SecretView::Present(facts);
        scene.says(Reason::SecretConflict, false, "it belongs to DataFastAccessToken/other");
    }
}

#[test]
fn a_restored_secret_is_proven_and_kept_under_the_new_uid() {
    let mut scene = Scene::restored();
    assert_eq!(scene.action(), prove(1));
    scene.local.proof = Some(proof(1, true));
    let record = scene.writes_secret();
    assert_eq!(record.attempt, None, "the attempt was another uid's: from now on the id in status names the token");
    assert_eq!(record.token_id, Some(id(1)));
    scene.secret().record = record;
    scene.says(Reason::Issued, true, "dft_001");
}

#[test]
fn a_restored_secret_whose_token_is_gone_gets_another() {
    let refused = |s: &mut Scene| s.local.proof = Some(proof(1, false));
    for scene in [
        Scene::restored().listing(&[]).change(refused),
        Scene::restored().change(|s| s.local.proof = Some(proof(1, false))),
    ] {
        let Action::Record { cause, .. } = scene.action() else { panic!("{:?}", scene.action()) };
        assert!(matches!(cause, Cause::Vanished | Cause::KeyLost));
    }
}

#[test]
fn a_key_of_ours_that_datafast_refuses_is_asked_about_once() {
    let mut scene = Scene::in_sync();
    scene.secret().owner = SecretOwner::Nobody;
    scene.secret().record = Default::default();
    scene.local.proof = Some(proof(1, false));
    scene.says(Reason::SecretConflict, false, "");
}
