//! Whatever the scene, doing what is decided comes to rest, and to one token at one cost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::datafast::TokenId;
use crate::lifecycle::local::Preflight;
use crate::lifecycle::observed::SecretView;
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;
use crate::lifecycle::windows::Windows;

use super::random;
use super::scenes::*;
use super::simulator::Simulator;

#[test]
fn every_scene_settles_with_one_token_in_its_secret() {
    let scenes = [
        ("new", Scene::new(), 1),
        ("recorded", Scene::recorded(Preflight::Passed), 1),
        ("recorded, then a restart", Scene::recorded(Preflight::Passed).after_restart(), 1),
        ("key held", Scene::key_pending(), 0),
        ("answer lost", Scene::answer_lost(), 1),
        ("settled", Scene::in_sync(), 0),
        ("replaced", Scene::replaced(10), 0),
        ("secret deleted", Scene::secret_deleted(), 1),
        ("secret deleted, account full", Scene::secret_deleted().change(|s| s.free = Some(0)), 1),
        ("secret deleted while one retires", Scene::replaced(10).change(|s| s.secret = SecretView::Missing), 1),
        ("token deleted", Scene::token_deleted(), 1),
        ("scope changed", Scene::in_sync().change(|s| s.desired.scope = wider_scope()), 1),
        ("import", Scene::import(), 0),
        ("restored", Scene::restored(), 0),
    ];
    for (name, scene, cost) in scenes {
        let mut simulator =
            Simulator::new(scene.change(|s| s.desired.rotation.overlap = jiff::SignedDuration::from_mins(2)));
        assert_eq!(simulator.settle(), Reason::Issued, "{name}");
        assert_eq!(simulator.causes.len(), cost, "{name}");
        let token = simulator.secrets_token().unwrap();
        assert_eq!(simulator.remote.keys().collect::<Vec<_>>(), [&token], "{name}: nothing leaked");
        assert_eq!(simulator.scene.status.token_id, Some(token), "{name}");
        assert!(simulator.scene.status.ready && simulator.scene.status.retiring.is_empty(), "{name}");
    }
}

#[test]
fn a_token_that_datafast_dates_in_the_future_does_not_have_its_secret_written_for_ever() {
    let tomorrow = crate::datafast::Token { created_at: Some(later(2 * A_DAY)), ..unmarked(7) };
    let mut simulator = Simulator::new(Scene::import().listing(&[tomorrow]));
    assert_eq!(simulator.settle(), Reason::Issued);
}

proptest! {
    #![proptest_config(random::config(200))]

    #[test]
    fn any_scene_comes_to_rest_at_the_cost_of_one_token(
        scene in random::scene(random::recent_time()),
        takes_hidden_keys: bool,
    ) {
        let scene = scene.change(|s| s.desired.windows = Windows::default());
        let theirs: BTreeSet<TokenId> = scene.taken.clone();
        let mut simulator = Simulator::new(scene);
        simulator.takes_hidden_keys = takes_hidden_keys;
        let before: Vec<TokenId> = simulator.remote.keys().filter(|id| theirs.contains(id)).cloned().collect();
        simulator.settle();
        let mut causes = simulator.causes;
        causes.extend(simulator.rolls.iter().map(|(_, cause)| *cause));
        causes.retain(|cause| *cause != Cause::RotationDue);
        prop_assert!(causes.len() <= 1, "{causes:?}");
        prop_assert!(before.iter().all(|id| simulator.remote.contains_key(id)), "a token of others is gone");
    }

    #[test]
    fn once_nothing_is_in_the_way_a_resource_gets_its_one_token(scene in random::scene(random::recent_time())) {
        let mut scene = scene;
        Simulator::clear_obstacles(&mut scene);
        scene.desired.rotation.overlap = jiff::SignedDuration::ZERO;
        scene.desired.windows = Windows::default();
        (scene.allow, scene.desired.unreadable, scene.desired.when_unused) = (None, None, None);
        (scene.desired.suspended, scene.desired.deleting, scene.desired.expiry) = (false, false, None);
        scene.log.0.retain(|attempt| attempt.at < ago(A_DAY));
        let mut simulator = Simulator::new(scene);
        let said = simulator.settle();
        if said == Reason::SecretConflict {
            prop_assert_eq!(simulator.causes.len(), 0, "a Secret that is not ours costs no token");
        } else {
            prop_assert_eq!(said, Reason::Issued);
            prop_assert!(simulator.remote.contains_key(&simulator.secrets_token().unwrap()));
        }
    }

    #[test]
    fn a_deletion_comes_to_its_end_and_leaves_nothing_that_the_record_names(
        scene in random::scene(random::recent_time()),
        retain: bool,
    ) {
        let mut scene = scene.deleted();
        Simulator::clear_obstacles(&mut scene);
        (scene.desired.retain, scene.desired.abandon, scene.desired.unreadable) = (retain, false, None);
        let kept = scene.clone();
        let mut simulator = Simulator::new(scene);
        simulator.settle();
        prop_assert!(simulator.released, "{:?}", simulator.scene.decide());
        prop_assert_eq!(simulator.causes.len(), 0);
        let left = simulator.own();
        let named = |id: &TokenId| kept.status.names(id) || kept.log.get(&nonce(random::number(id))).is_some();
        let left: Vec<_> = left.into_iter().filter(named).collect();
        prop_assert!(left.len() <= usize::from(retain), "{left:?} is left");
    }
}
