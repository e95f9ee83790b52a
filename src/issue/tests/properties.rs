//! What holds of every decision, about any scene.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use crate::issue::allow::Allow;
use crate::issue::decide::Action;
use crate::issue::holding::Holding;
use crate::issue::observed::Gate;
use crate::issue::queue::{Slots, Waiting};
use crate::issue::verdict::Reason;

use super::random;
use super::scenes::HORIZON;

proptest! {
    #![proptest_config(random::config(150))]

    #[test]
    fn deciding_never_panics_and_says_what_fits_together(
        scene in random::scene(random::any_time()),
        horizon in prop_oneof![Just(SignedDuration::ZERO), Just(HORIZON), Just(SignedDuration::MAX)],
    ) {
        let scene = scene.change(|s| s.horizon = horizon);
        let decision = scene.decide();
        let reason = decision.verdict.reason;
        prop_assert!(!(reason.is_stalled() && reason.is_reconciling()));
        prop_assert!(!(reason.is_stalled() && decision.verdict.ready));
        prop_assert!(!decision.verdict.message.is_empty());
        prop_assert_eq!(scene.decide(), decision, "the same scene, the same decision");
    }

    #[test]
    fn a_closed_account_gets_no_calls(scene in random::scene(random::recent_time())) {
        let calls = matches!(scene.action(), Action::Send { .. } | Action::Revoke { .. } | Action::Prove { .. });
        prop_assert!(!calls || scene.gate == Gate::Open);
    }

    #[test]
    fn a_suspended_resource_only_finishes_what_it_has_in_hand(scene in random::scene(random::recent_time())) {
        let mut scene = scene;
        scene.desired.suspended = true;
        scene.desired.deleting = false;
        let is_finished = match scene.action() {
            Action::Rest | Action::Pause => true,
            // Of a key that is in the Secret already.
            Action::Restart { .. } => scene.desired.restarts,
            _ => scene.local.held.is_some(),
        };
        prop_assert!(is_finished, "{:?}", scene.action());
    }

    #[test]
    fn only_a_fresh_current_attempt_whose_preflight_passed_is_sent(scene in random::scene(random::recent_time())) {
        if let Action::Send { nonce, .. } = scene.action() {
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
        let decision = scene.decide();
        let rests = matches!(decision.action, Action::Rest | Action::Pause);
        // A call that is under way wakes when its answer is there.
        let is_called = scene.local.is_calling;
        let waits = decision.verdict.reason.is_reconciling() && scene.claimed && !scene.desired.deleting && !is_called;
        if rests && waits {
            let wake = &decision.wake;
            let is_woken = wake.news || wake.next_list || wake.at.is_some() || wake.list.is_some();
            prop_assert!(is_woken, "{:?}", decision.verdict);
        }
        if let (true, Some(at)) = (rests, decision.wake.at) {
            prop_assert!(at > scene.now, "woken at {at}, which has passed");
        }
        if let (true, Some(list), Some(snapshot)) = (rests, decision.wake.list, &scene.snapshot) {
            prop_assert!(list > snapshot.begun(), "waits for a list that is there");
        }
    }

    #[test]
    fn what_an_account_forbids_costs_no_call_but_what_ends_a_token(scene in random::scene(random::recent_time())) {
        let mut scene = scene;
        scene.allow = Some(Allow { permissions: Some(BTreeSet::new()), ..Allow::default() });
        let ends = scene.desired.deleting || scene.desired.expiry.is_some();
        match scene.action() {
            Action::Send { .. } | Action::Preflight => prop_assert!(false, "{:?}", scene.action()),
            Action::Prove { .. } => prop_assert!(ends, "it is about to revoke it"),
            Action::Rewrite { .. } | Action::Claim => prop_assert!(false, "{:?}", scene.action()),
            Action::Rest => {
                let decision = scene.decide();
                prop_assert!(decision.wake.slot.is_none());
                let live = scene.claimed && !ends && !scene.desired.suspended && scene.local.held.is_none();
                prop_assert!(!live || decision.verdict.reason == Reason::NotAllowed, "{:?}", decision.verdict);
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
        let missing = scene.look(|seen| match seen.holding(&scene.desired.scope, scene.now) {
            Holding::Missing(id) | Holding::Hidden(id) => Some(id.clone()),
            _ => None,
        });
        let Some(id) = missing else { return Ok(()) };
        let replaces = match scene.action() {
            Action::Record { .. } | Action::Preflight | Action::Send { .. } => true,
            // A key in hand goes where it should, or back.
            Action::Revoke { token_id, .. } => token_id == id && scene.local.held.is_none(),
            _ => false,
        };
        prop_assert!(!replaces, "{:?}", scene.action());
    }

    #[test]
    fn each_in_the_queue_has_a_place_of_its_own(queue in random::queue(random::recent_time())) {
        let place = |waiting: &Waiting| {
            let others = queue.iter().filter(|other| *other != waiting).cloned().collect();
            Slots { free: 0, others }.ahead_of(waiting)
        };
        let places: BTreeSet<usize> = queue.iter().map(place).collect();
        prop_assert_eq!(places, (0..queue.len()).collect(), "so that no slot is for two, and none for nobody");
    }
}
