//! What status says: a mirror of the record and of DataFast's list, written seldom.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::datafast::TokenId;
use crate::lifecycle::facts::{LAST_USED_EVERY, Mirror, facts, last_used};
use crate::lifecycle::snapshot::Snapshot;

use super::random;
use super::scenes::*;

#[derive(Debug, PartialEq)]
enum Says {
    Token(TokenId),
    AsItIs,
    Nothing,
}

type Retiring = Option<Vec<(TokenId, Option<Timestamp>)>>;

fn mirror(scene: &Scene) -> (Says, Retiring) {
    scene.observe(|seen| {
        let facts = facts(&scene.desired, seen, scene.now);
        let says = match facts.token {
            Mirror::Is(listed) => Says::Token(listed.token.id.clone()),
            Mirror::Keep => Says::AsItIs,
            Mirror::Nothing => Says::Nothing,
        };
        (says, facts.retiring.map(|all| all.iter().map(|r| (r.listed.token.id.clone(), r.until)).collect()))
    })
}

#[test]
fn status_names_the_secrets_token_and_what_retires_until_when() {
    assert_eq!(mirror(&Scene::in_sync()), (Says::Token(id(1)), Some(vec![])));
    let swapped = Scene::replaced(10).change(|s| s.status = Scene::in_sync().status);
    assert_eq!(mirror(&swapped), (Says::Token(id(2)), Some(vec![(id(1), Some(later(50)))])));
}

#[test]
fn a_lost_attempt_is_not_said_to_be_retiring() {
    assert_eq!(mirror(&Scene::answer_lost()), (Says::Nothing, Some(vec![])));
}

#[test]
fn the_id_in_status_is_the_licence_to_revoke_so_it_stays_while_the_token_may_live() {
    assert_eq!(mirror(&Scene::secret_deleted()), (Says::AsItIs, Some(vec![])));
    assert_eq!(mirror(&Scene::in_sync().change(|s| s.snapshot = None)), (Says::AsItIs, None));
    let once = Scene::in_sync().change(|s| s.snapshot = Some(Snapshot::new(HORIZON, now(), Vec::new())));
    assert_eq!(mirror(&once).0, Says::AsItIs);
}

#[test]
fn a_token_that_is_known_to_be_gone_leaves_status() {
    assert_eq!(mirror(&Scene::token_deleted()).0, Says::Nothing);
    let revoked = Scene::secret_deleted().change(|s| s.snapshot.as_mut().unwrap().revoked(&id(1), now()));
    assert_eq!(mirror(&revoked).0, Says::Nothing);
}

#[test]
fn a_retiring_token_whose_key_is_back_in_the_secret_keeps_its_place_in_status_until_that_is_proven() {
    let mut scene = Scene::replaced(10);
    scene.secret().owner = crate::lifecycle::observed::SecretOwner::Nobody;
    scene.secret().record = Default::default();
    scene.secret().key = Some(key(1));
    let (says, retiring) = mirror(&scene);
    assert_eq!(says, Says::AsItIs);
    assert_eq!(retiring, Some(vec![(id(1), None)]));
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..3600_i64).prop_map(|seconds| now() + SignedDuration::from_secs(seconds))
}

proptest! {
    #![proptest_config(random::config(128))]

    #[test]
    fn last_used_never_goes_back_and_changes_at_most_every_five_minutes(
        polls in prop::collection::vec((0..120_i64, prop::option::of(time()), any::<bool>()), 1..60),
    ) {
        let (mut at, mut shown, mut written_at) = (now(), None, None);
        let mut changes: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (pause, listed, restarts) in polls {
            at += SignedDuration::from_secs(pause);
            // A process that just started does not know when status was last written.
            let known = if restarts { shown } else { written_at };
            let next = last_used(shown, listed, known, at);
            prop_assert!(next >= shown, "{next:?} after {shown:?}");
            prop_assert!(next == shown || next == listed);
            if next != shown {
                if let (Some((before, _)), false) = (changes.last(), restarts) {
                    prop_assert!(at.duration_since(*before) >= LAST_USED_EVERY);
                }
                changes.push((at, next.unwrap()));
                written_at = Some(at);
            }
            shown = next;
        }
    }

    #[test]
    fn the_licence_in_status_outlives_every_look_at_a_listed_token(scene in random::scene(random::recent_time())) {
        let (says, retiring) = mirror(&scene);
        let named = |id: &TokenId| match &says {
            Says::Token(token) => token == id,
            Says::AsItIs => scene.status.token_id.as_ref() == Some(id),
            Says::Nothing => false,
        };
        let before = scene.status.retiring.iter().chain(&scene.status.token_id);
        let listed = |id: &&TokenId| scene.snapshot.as_ref().is_some_and(|s| s.get(id).is_some());
        let held = scene.local.pending.as_ref().map(|held| &held.token_id);
        // That of the original, in a copy of its status, is none.
        let own = before.filter(listed).filter(|id| random::is_own(&scene, id));
        for id in own.filter(|id| Some(*id) != held) {
            let retires = retiring.as_ref().is_some_and(|r| r.iter().any(|(token, _)| token == id));
            prop_assert!(named(id) || retires, "{id} is forgotten");
        }
    }

    #[test]
    fn what_is_said_never_panics_and_never_names_anothers_token(scene in random::scene(random::any_time())) {
        let (says, retiring) = mirror(&scene);
        let named = match says {
            Says::Token(id) => vec![id],
            Says::AsItIs | Says::Nothing => Vec::new(),
        };
        let retiring = retiring.unwrap_or_default().into_iter().map(|(id, _)| id);
        for id in named.into_iter().chain(retiring) {
            // Until it is proved to be the one or the other, it stays in status.
            let is_unproven = scene.status.names(&id) && !scene.taken.contains(&id);
            prop_assert!(random::is_own(&scene, &id) || is_unproven, "{id} is not this resource's");
        }
    }
}

#[test]
fn the_first_use_shows_at_once() {
    assert_eq!(last_used(None, Some(now()), Some(now()), now()), Some(now()));
    assert_eq!(last_used(None, None, None, now()), None);
}
