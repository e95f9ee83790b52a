//! Whoever edits annotations and Secrets gets no power over tokens of others, and keeps what works working.

use proptest::prelude::*;

use crate::api::names;
use crate::datafast::TokenId;
use crate::lifecycle::decision::{Action, Decision, RevokeCause};
use crate::lifecycle::local::Proof;
use crate::lifecycle::observed::{SecretFacts, SecretOwner, SecretView};
use crate::lifecycle::record::{Cause, Log, Previous, SecretRecord};
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::verdict::Reason;

use super::random;
use super::scenes::*;

const THEIRS: u8 = 5;

/// [`Scene::in_sync`], in an account where another resource has token 5.
fn beside_a_victim() -> Scene {
    Scene::in_sync().listing(&[token(1), token_of(&victim(), THEIRS)]).change(|s| s.taken = [id(THEIRS)].into())
}

fn revoked(scene: &Scene) -> Option<TokenId> {
    match scene.acts() {
        Some(Action::Revoke { token_id, .. }) => Some(token_id),
        _ => None,
    }
}

/// The edit costs the victim nothing, neither now nor when the resource is deleted.
fn is_harmless(edit: impl FnOnce(&mut Scene)) -> Scene {
    let scene = beside_a_victim().change(edit);
    assert_ne!(revoked(&scene), Some(id(THEIRS)));
    if let Some(Action::Prove { token_id }) = scene.acts() {
        assert_ne!(token_id, id(THEIRS), "it is another resource's");
    }
    let mut deleted = scene.clone().deleted();
    while let Some(id) = revoked(&deleted) {
        assert_eq!(id, super::scenes::id(1));
        deleted.snapshot.as_mut().unwrap().revoked(&id, now());
    }
    scene
}

#[test]
fn a_victims_nonce_in_the_log_gives_no_power() {
    for minutes in [0, A_DAY] {
        let scene = is_harmless(|s| s.log.0.push(attempt(THEIRS, ago(minutes), Cause::New)));
        scene.says(Reason::Issued, true, "dft_001");
    }
}

#[test]
fn a_victims_nonce_in_the_secret_gives_no_power_and_is_put_right() {
    let scene = is_harmless(|s| s.secret().record.attempt = Some(nonce(THEIRS)));
    assert_eq!(scene.writes_secret().attempt, Some(nonce(1)));
}

#[test]
fn a_victims_token_id_gives_no_power() {
    let with_hash = is_harmless(|s| s.secret().record.token_id = Some(id(THEIRS)));
    assert!(matches!(with_hash.action(), Action::Record { cause: Cause::KeyLost, .. }), "the hash no longer fits");
    let without = is_harmless(|s| {
        s.secret().record.token_id = Some(id(THEIRS));
        s.secret().record.key_sha256 = None;
    });
    assert_eq!(without.writes_secret().token_id, Some(id(1)), "the attempt still tells");
}

#[test]
fn a_victims_token_in_previous_gives_no_power() {
    for token in [nonce(THEIRS).to_string(), id(THEIRS).to_string()] {
        let scene =
            is_harmless(|s| s.secret().record.previous = vec![Previous { token, ..previous(THEIRS, ago(A_DAY)) }]);
        scene.says(Reason::Issued, true, "dft_001");
    }
}

#[test]
fn a_key_made_up_to_look_like_the_victims_gains_nothing() {
    is_harmless(|s| {
        s.secret().record = SecretRecord { token_id: Some(id(THEIRS)), ..SecretRecord::default() };
        s.secret().key = Some(lookalike(THEIRS));
    });
    let import = is_harmless(|s| {
        s.secret().owner = SecretOwner::Nobody;
        s.secret().record = SecretRecord { token_id: Some(id(THEIRS)), ..SecretRecord::default() };
        s.secret().key = Some(lookalike(THEIRS));
    });
    import.says(Reason::SecretConflict, false, "is another resource's");
}

#[test]
fn even_the_victims_real_key_does_not_make_its_token_ours() {
    let stolen = |owner| {
        is_harmless(|s| {
            s.secret().owner = owner;
            s.secret().record = SecretRecord { token_id: Some(id(THEIRS)), ..SecretRecord::default() };
            s.secret().key = Some(key(THEIRS));
            s.local.proof = Some(proof(THEIRS, true));
        })
    };
    stolen(SecretOwner::Nobody).says(Reason::SecretConflict, false, "is another resource's");
    assert!(matches!(stolen(SecretOwner::This).action(), Action::Record { .. }), "our own key is lost, no more");
}

#[test]
fn a_proof_is_worth_nothing_once_the_secret_is_anothers() {
    let scene = Scene::import().change(|s| {
        s.has_finalizer = true;
        s.local.proof = Some(proof(7, true));
        s.secret().owner = SecretOwner::Other("DataFastAccessToken/other".into());
    });
    scene.says(Reason::SecretConflict, false, "DataFastAccessToken/other");
    assert_ne!(revoked(&scene.deleted()), Some(id(7)));
}

#[test]
fn a_marker_copied_into_the_name_of_a_token_of_ours_changes_nothing_for_the_victim() {
    let name = format!("{} [k8s:00000000/{}.{}] tail", scope().token_name, victim(), nonce(THEIRS));
    let sly = crate::datafast::Token { name: Some(name), ..unmarked(8) };
    let scene = beside_a_victim().listing(&[token(1), token_of(&victim(), THEIRS), sly]);
    scene.says(Reason::Issued, true, "dft_001");
}

#[test]
fn a_dropped_log_takes_nothing_from_the_token_in_use() {
    for change in [|s: &mut Scene| s.log.0.clear(), |s: &mut Scene| s.log = Log(vec![attempt(9, ago(9), Cause::New)])] {
        let scene = is_harmless(change);
        scene.says(Reason::Issued, true, "dft_001");
        scene.change(|s| s.status = Default::default()).says(Reason::Issued, true, "dft_001");
    }
}

#[test]
fn edited_times_shorten_or_lengthen_only_ones_own_overlap() {
    for minutes in [-A_DAY, 10 * A_DAY] {
        let scene = Scene::replaced(10).change(|s| {
            s.secret().record.previous = vec![previous(1, ago(minutes))];
            s.log.0.iter_mut().for_each(|a| a.at = ago(minutes));
            s.secret().record.issued_at = Some(ago(minutes));
        });
        match scene.decide() {
            Decision::Rest { verdict, .. } => assert!(verdict.ready),
            other => assert_eq!(other, Decision::Act(revoke(1, RevokeCause::Retired))),
        }
    }
}

#[test]
fn megabytes_and_garbage_in_annotations_leave_a_settled_token_in_place() {
    let full = Log((0..20_000).map(|n| attempt((n % 251) as u8, now(), Cause::KeyLost)).collect()).write();
    for text in [full, "x".repeat(1 << 20), "[[[[".repeat(1 << 18), "{\"nonce\":1}".to_owned(), "\0".to_owned()] {
        let annotations = |name: &str| [(name.to_owned(), text.clone())].into();
        let garbage = Scene::in_sync().change(|s| {
            s.log = Log::read(&annotations(names::ATTEMPTS), now());
            s.secret().record.previous = SecretRecord::read(&annotations(names::PREVIOUS), now()).previous;
        });
        garbage.says(Reason::Issued, true, "dft_001");
    }
}

fn live(scene: &Scene) -> Option<TokenId> {
    scene.observe(|seen| match seen.secret_state(&scene.desired.scope, scene.now) {
        SecretState::Live(listed) => Some(listed.token.id.clone()),
        _ => None,
    })
}

/// A key that works is not the key of whatever token its Secret names.
#[test]
fn another_key_that_works_gives_no_power_over_the_token_that_the_secret_names() {
    let mut scene = Scene::new().listing(&[]).change(|s| s.has_finalizer = true);
    let record = SecretRecord { token_id: Some(id(7)), ..SecretRecord::default() };
    scene.secret = SecretView::Present(SecretFacts { record, key: Some(key(3)), ..secret(1, ago(A_DAY)) });
    assert_eq!(scene.action(), Action::Prove { token_id: id(7) });
    scene.local.proof = Some(Proof { key_sha256: key(3).fingerprint(id(7).as_str()), ..proof(7, true) });
    let listed = scene.listing(&[unmarked(7)]);
    assert!(!matches!(listed.acts(), Some(Action::Revoke { .. })), "{:?}", listed.decide());
}

proptest! {
    #![proptest_config(random::config(400))]

    #[test]
    fn no_record_however_edited_revokes_or_takes_over_a_token_of_others(scene in random::scene(random::recent_time())) {
        let Some(action) = scene.acts() else { return Ok(()) };
        match action {
            Action::Revoke { token_id, .. } => prop_assert!(random::is_own(&scene, &token_id), "revokes {token_id}"),
            Action::Rewrite { record, .. } => {
                let id = record.token_id.unwrap();
                prop_assert!(random::is_own(&scene, &id), "takes over {id}");
                prop_assert!(!random::is_anothers(&scene), "writes another's Secret");
            }
            // What no list shows is only asked about with the Secret's own key.
            Action::Prove { token_id } if scene.snapshot.as_ref().is_some_and(|s| s.get(&token_id).is_some()) => {
                prop_assert!(!scene.taken.contains(&token_id), "asks about {token_id}");
            }
            Action::Swap { .. } | Action::DeleteSecret => prop_assert!(!random::is_anothers(&scene), "touches another's Secret"),
            _ => {}
        }
    }

    #[test]
    fn no_record_however_edited_revokes_the_token_that_the_secret_holds_unless_its_user_asks_for_that(scene in random::scene(random::recent_time())) {
        let Some(Action::Revoke { token_id, cause }) = scene.acts() else { return Ok(()) };
        let is_held = scene.local.pending.as_ref().is_some_and(|held| held.token_id == token_id);
        if live(&scene).as_ref() == Some(&token_id) && !is_held {
            let asked = match cause {
                RevokeCause::Deleted => scene.desired.deleting,
                RevokeCause::Expired => scene.desired.expiry.as_ref().is_some_and(|expiry| {
                    let watched = scene.local.watched.is_some_and(|watched| watched.lasted >= expiry.after);
                    expiry.at() <= scene.now || watched
                }),
                RevokeCause::Unused => {
                    let snapshot = scene.snapshot.as_ref().unwrap();
                    let listed = &snapshot.get(&token_id).unwrap().token;
                    let when = scene.desired.when_unused.as_ref().unwrap();
                    let used = listed.last_used_at.unwrap_or(when.created).max(when.created);
                    when.revoke && listed.tells_use && snapshot.begun().duration_since(used) >= when.after
                }
                RevokeCause::MadeRoom => {
                    scene.free == Some(0)
                        && (scene.desired.rotation.revoke_first || scene.desired.requests.revoke_now.is_some())
                }
                _ => false,
            };
            prop_assert!(asked, "revokes what is in use: {cause:?}");
        }
    }
}
