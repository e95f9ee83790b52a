//! What holds of every decision, about any scene.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use crate::lifecycle::allow::Allow;
use crate::lifecycle::decision::{Action, Decision};
use crate::lifecycle::observed::Availability;
use crate::lifecycle::queue::{Slots, Waiting};
use crate::lifecycle::secret_state::SecretState;
use crate::lifecycle::verdict::Reason;

use super::random;
use super::scenes::{HORIZON, unreadable};

proptest! {
    #![proptest_config(random::config(150))]

    #[test]
    fn deciding_never_panics_and_says_what_fits_together(
        scene in random::scene(random::any_time()),
        horizon in prop_oneof![Just(SignedDuration::ZERO), Just(HORIZON), Just(SignedDuration::MAX)],
    ) {
        let scene = scene.change(|s| s.horizon = horizon);
        let decision = scene.decide();
        if let Decision::Rest { verdict, .. } = &decision {
            prop_assert!(!(verdict.reason.is_stalled() && verdict.reason.is_reconciling()));
            prop_assert!(!(verdict.reason.is_stalled() && verdict.ready));
            prop_assert!(!verdict.message.is_empty());
        }
        prop_assert_eq!(scene.decide(), decision, "the same scene, the same decision");
    }

    #[test]
    fn a_closed_account_gets_no_calls(scene in random::scene(random::recent_time())) {
        let calls = matches!(scene.acts(), Some(Action::Send { .. } | Action::Revoke { .. } | Action::Prove { .. }));
        prop_assert!(!calls || scene.availability == Availability::Open);
    }

    #[test]
    fn a_suspended_resource_only_finishes_what_it_has_in_hand(scene in random::scene(random::recent_time())) {
        let mut scene = scene;
        scene.desired.suspended = true;
        scene.desired.deleting = false;
        let is_finished = match scene.acts() {
            None => true,
            Some(Action::AddFinalizer) => !scene.has_finalizer,
            // Of a key that is in the Secret already.
            Some(Action::Restart { .. }) => scene.desired.restarts,
            Some(_) => scene.local.pending.is_some(),
        };
        prop_assert!(is_finished, "{:?}", scene.decide());
    }

    #[test]
    fn of_what_can_not_be_read_only_a_key_in_hand_is_finished(scene in random::scene(random::recent_time())) {
        let mut scene = scene;
        scene.desired.unreadable = Some(unreadable(true));
        scene.desired.deleting = false;
        let is_finished = match scene.acts() {
            None => true,
            Some(Action::AddFinalizer) => !scene.has_finalizer,
            Some(_) => scene.local.pending.is_some(),
        };
        prop_assert!(is_finished, "{:?}", scene.decide());
    }

    #[test]
    fn only_a_fresh_current_attempt_whose_preflight_passed_is_sent(scene in random::scene(random::recent_time())) {
        if let Some(Action::Send { nonce, .. }) = scene.acts() {
            let current = scene.log.current().unwrap();
            prop_assert_eq!(&current.nonce, &nonce);
            prop_assert!(current.at.duration_since(scene.now) <= scene.horizon);
            prop_assert!(scene.now <= current.send_by(scene.horizon));
            prop_assert!(scene.free.is_none_or(|free| free > 0));
            prop_assert_eq!(scene.local.unsent.map(|unsent| unsent.nonce), Some(nonce));
        }
    }

    #[test]
    fn where_nothing_is_done_it_is_known_what_ends_the_wait(scene in random::scene(random::recent_time())) {
        let (is_reconciling, requeue) = match scene.decide() {
            Decision::Act(_) => return Ok(()),
            Decision::Rest { verdict, requeue } => (verdict.reason.is_reconciling(), requeue),
            Decision::Pause { requeue } => (true, requeue),
        };
        // A call that is under way has the resource reconciled when its answer is there.
        let is_called = scene.local.is_calling;
        if is_reconciling && scene.has_finalizer && !scene.desired.deleting && !is_called {
            let ends = requeue.account_changes || requeue.next_list || requeue.at.is_some() || requeue.list.is_some();
            prop_assert!(ends, "{:?}", scene.decide());
        }
        if let Some(at) = requeue.at {
            prop_assert!(at > scene.now, "reconciled again at {at}, which has passed");
        }
        if let (Some(list), Some(snapshot)) = (requeue.list, &scene.snapshot) {
            prop_assert!(list > snapshot.begun(), "waits for a list that is there");
        }
    }

    #[test]
    fn what_an_account_forbids_costs_no_call_but_what_ends_a_token(scene in random::scene(random::recent_time())) {
        let mut scene = scene;
        scene.allow = Some(Allow { permissions: Some(BTreeSet::new()), ..Allow::default() });
        let ends_unused = scene.desired.when_unused.as_ref().is_some_and(|when| when.revoke);
        let ends = scene.desired.deleting || scene.desired.expiry.is_some() || ends_unused;
        match scene.decide() {
            Decision::Act(Action::Prove { .. }) => prop_assert!(ends, "it is about to revoke it"),
            Decision::Act(
                action @ (Action::Send { .. } | Action::Preflight | Action::Rewrite { .. }),
            ) => prop_assert!(false, "{action:?}"),
            Decision::Rest { verdict, requeue } => {
                prop_assert!(requeue.slot.is_none());
                let live = scene.has_finalizer && !ends && !scene.desired.suspended && scene.local.pending.is_none();
                let live = live && scene.desired.unreadable.is_none();
                prop_assert!(!live || verdict.reason == Reason::NotAllowed, "{:?}", verdict);
            }
            _ => {}
        }
    }

    #[test]
    fn a_token_that_is_missing_is_neither_replaced_nor_revoked_but_at_its_end(
        scene in random::scene(random::recent_time()),
    ) {
        let mut scene = scene;
        (scene.desired.deleting, scene.desired.expiry) = (false, None);
        let missing = scene.observe(|seen| match seen.secret_state(&scene.desired.scope, scene.now) {
            SecretState::Missing(id) | SecretState::Hidden(id) => Some(id.clone()),
            _ => None,
        });
        let Some(id) = missing else { return Ok(()) };
        let replaces = match scene.acts() {
            Some(Action::Record { .. } | Action::Preflight | Action::Send { .. }) => true,
            // A pending key goes where it should, or back.
            Some(Action::Revoke { token_id, .. }) => token_id == id && scene.local.pending.is_none(),
            _ => false,
        };
        prop_assert!(!replaces, "{:?}", scene.decide());
    }

    #[test]
    fn each_in_the_queue_has_a_place_of_its_own(queue in random::queue(random::recent_time())) {
        let slots = Slots { queue: super::scenes::in_order(&queue), ..Slots::default() };
        let place = |waiting: &Waiting| slots.ahead_of(waiting);
        let places: BTreeSet<usize> = queue.iter().map(place).collect();
        prop_assert_eq!(places, (0..queue.len()).collect(), "so that no slot is for two, and none for nobody");
    }
}
