//! A token that is missing in the list: it may be a credential that can't see it. So its key is tried before it counts as
//! gone.

use jiff::SignedDuration;

use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::desired::Expiry;
use crate::lifecycle::facts::{Mirror, facts};
use crate::lifecycle::local::{Proof, Refused};
use crate::lifecycle::observed::Availability;
use crate::lifecycle::record::Cause;
use crate::lifecycle::secret_state::PROOF_LASTS;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

/// Token 1 is in none of the last two lists.
fn missing() -> Scene {
    Scene::token_deleted().change(|s| s.local.proof = None)
}

/// DataFast took, or refused, the key of token 1 so many minutes ago.
fn tried(scene: Scene, is_taken: bool, minutes: i64) -> Scene {
    scene.change(|s| {
        s.local.proof = Some(Proof { at: s.now - SignedDuration::from_mins(minutes), ..proof(1, is_taken) })
    })
}

fn hidden() -> Scene {
    tried(missing(), true, 0)
}

fn expired(scene: Scene) -> Scene {
    scene.change(|s| s.desired.expiry = Some(Expiry { created: ago(2 * A_DAY), after: hours(48) }))
}

fn prove() -> Action {
    Action::Prove { token_id: id(1) }
}

fn says_hidden(scene: &Scene) {
    scene.says(
        Reason::Issued,
        true,
        "Token token-1 works, but the credential of DataFastAccount \"default\" can't see it",
    );
    scene.says(Reason::Issued, true, "give the account the credential back that issued it, or delete the token");
}

#[test]
fn a_token_that_is_missing_is_not_replaced_before_its_key_was_tried() {
    assert_eq!(missing().action(), prove());
    assert_eq!(tried(missing(), true, 60).action(), prove(), "and not for having been tried long ago");
    assert_eq!(tried(missing(), false, 60).action(), prove(), "nor is a refusal true for ever");
}

#[test]
fn as_long_as_one_list_alone_lacks_it_not_even_its_key_is_tried() {
    let once = Snapshot::new(HORIZON, now(), Vec::new());
    let scene = missing().change(|s| s.snapshot = Some(once));
    scene.says(Reason::Issued, true, "list to confirm");
    assert!(scene.rests().requeue.next_list);
}

#[test]
fn a_key_that_datafast_takes_keeps_its_token_ready_and_says_what_to_do() {
    says_hidden(&hidden());
    let requeue = hidden().rests().requeue;
    assert!(requeue.account_changes, "when the token shows up again");
    assert_eq!(requeue.at, Some(later(10)), "and its key is tried again");
    let not_yet_ready = hidden().change(|s| s.status.ready = false);
    says_hidden(&not_yet_ready);
}

#[test]
fn a_key_is_tried_again_after_ten_minutes() {
    says_hidden(&tried(missing(), true, 9));
    assert_eq!(tried(missing(), true, 9).rests().requeue.at, Some(later(1)));
    assert_eq!(tried(missing(), true, 10).action(), prove());
    assert_eq!(tried(missing(), false, 10).action(), prove(), "nor is a refusal true for ever");
    assert_eq!(PROOF_LASTS, SignedDuration::from_mins(10));
}

#[test]
fn what_was_found_out_of_another_key_or_token_says_nothing() {
    let others = [
        Proof { token_id: id(2), ..proof(1, false) },
        Proof { key_sha256: fingerprint(2), ..proof(1, false) },
        proof(2, false),
    ];
    for proof in others {
        let scene = missing().change(|s| s.local.proof = Some(proof));
        assert_eq!(scene.action(), prove());
    }
}

#[test]
fn a_key_that_datafast_refuses_is_that_of_a_deleted_token() {
    tried(missing(), false, 0).records(Cause::Vanished);
    let mut simulator = Simulator::new(missing());
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::Vanished]);
    assert!(simulator.remote.contains_key(&simulator.secrets_token().unwrap()));
}

#[test]
fn a_key_that_could_not_be_tried_is_tried_again_later_and_what_worked_stays_ready() {
    let failed = |ready| {
        missing().change(|s| {
            s.local.unproved = Some(Refused { message: "no route".into(), retry_at: later(1) });
            s.status.ready = ready;
        })
    };
    for ready in [true, false] {
        failed(ready).says(Reason::ApiUnavailable, ready, "could not be found out");
        failed(ready).says(Reason::ApiUnavailable, ready, "no route");
        assert_eq!(failed(ready).rests().requeue.at, Some(later(1)));
        assert_eq!(failed(ready).change(|s| s.now = later(1)).action(), prove());
    }
    missing().change(|s| s.availability = Availability::RateLimited).says(Reason::RateLimited, true, "rate");
    let known = hidden().change(|s| s.availability = Availability::RateLimited);
    says_hidden(&known);
}

#[test]
fn nothing_is_issued_or_revoked_for_a_token_that_is_hidden_whatever_is_asked_for() {
    let asked = |scene: Scene| {
        scene.change(|s| {
            s.desired.requests.rotate = request("please");
            s.desired.requests.revoke_now = request("leaked");
            s.desired.rotation.every = Some(hours(1));
            s.desired.rotation.revoke_first = true;
            s.desired.scope = wider_scope();
        })
    };
    assert_eq!(asked(missing()).action(), prove());
    for free in [None, Some(0), Some(20)] {
        says_hidden(&asked(hidden()).change(|s| s.free = free));
    }
    let mut simulator = Simulator::new(asked(missing()));
    simulator.takes_hidden_keys = true;
    for _ in 0..5 {
        assert_eq!(simulator.settle(), Reason::Issued);
    }
    assert_eq!(simulator.causes, []);
    assert_eq!(simulator.secrets_token(), Some(id(1)));
}

#[test]
fn a_hidden_token_that_shows_up_again_is_as_it_was_and_what_was_asked_for_is_served() {
    let mut simulator = Simulator::new(missing());
    simulator.takes_hidden_keys = true;
    assert_eq!(simulator.settle(), Reason::Issued);
    simulator.remote.insert(id(1), token(1));
    simulator.list();
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, []);
    simulator.scene.desired.requests.rotate = request("please");
    simulator.settle();
    assert_eq!(simulator.causes, [Cause::RotateRequested]);
}

#[test]
fn status_goes_on_naming_a_token_that_is_missing_or_hidden() {
    for scene in [missing(), hidden()] {
        scene.observe(|seen| {
            let facts = facts(&scene.desired, seen, scene.now);
            assert!(matches!(facts.token, Mirror::Keep), "{:?}: its id is the licence to revoke it", facts.token);
        });
    }
}

#[test]
fn suspension_leaves_keys_untried() {
    missing().change(|s| s.desired.suspended = true).says(Reason::Suspended, true, "suspend");
}

#[test]
fn a_deletion_tries_the_key_first_then_revokes_and_tells_of_a_refusal() {
    let mut scene = missing().deleted();
    assert_eq!(scene.action(), prove(), "a list that lacks it does not make it gone");
    scene = tried(scene, true, 0);
    assert_eq!(scene.action(), revoke(1, RevokeCause::Deleted));
    scene.local.denied.insert(id(1), now());
    scene.says(Reason::Deleting, true, "token token-1 to go: DataFast refuses to delete it");
    let later_list = scene.clone().change(|s| s.now = later(1)).listing(&[]);
    later_list.says(Reason::Deleting, true, "another credential created it");
    assert_eq!(later_list.rests().requeue.at, Some(later(10)));
    let again = tried(later_list.change(|s| s.now = later(10)), true, 0).listing(&[]);
    assert_eq!(again.action(), revoke(1, RevokeCause::Deleted));
}

#[test]
fn a_deletion_lets_go_of_a_token_whose_key_is_refused() {
    assert_eq!(tried(missing(), false, 0).deleted().action(), Action::DeleteSecret);
    let waiting = missing().deleted().change(|s| s.availability = Availability::Unavailable("503".into()));
    waiting.says(Reason::ApiUnavailable, true, "Deletion waits for the token to be revoked. ");
}

#[test]
fn to_retain_or_to_abandon_needs_no_key_tried() {
    let retained = missing().deleted().change(|s| s.desired.retain = true);
    assert_eq!(retained.action(), Action::Release);
    let abandoned = missing().deleted().change(|s| s.desired.abandon = true);
    assert_eq!(abandoned.action(), Action::DeleteSecret);
}

#[test]
fn an_expiry_tries_the_key_first_then_revokes_and_tells_of_a_refusal() {
    let mut scene = expired(missing());
    assert_eq!(scene.action(), prove());
    scene = tried(scene, true, 0);
    assert_eq!(scene.action(), revoke(1, RevokeCause::Expired));
    scene.local.denied.insert(id(1), now());
    let denied = scene.change(|s| s.now = later(1)).listing(&[]);
    denied.says(Reason::Expired, false, "waiting for token token-1 to go: DataFast refuses to delete it");
    assert_eq!(denied.rests().requeue.at, Some(later(10)));
    assert_eq!(expired(tried(missing(), false, 0)).action(), Action::DeleteSecret);
}

#[test]
fn at_its_end_too_a_key_that_could_not_be_tried_is_tried_again_later() {
    for scene in [missing().deleted(), expired(missing())] {
        let failed =
            scene.clone().change(|s| s.local.unproved = Some(Refused { message: "no".into(), retry_at: later(1) }));
        assert_eq!(failed.rests().requeue.at, Some(later(1)));
        assert_eq!(failed.change(|s| s.now = later(1)).action(), prove());
        let closed = scene.change(|s| s.availability = Availability::Unavailable("503".into()));
        assert!(closed.rests().requeue.account_changes);
    }
}

#[test]
fn a_hidden_token_that_status_does_not_name_yet_is_not_lost_at_the_end() {
    let unmirrored = |scene: Scene| scene.change(|s| s.status = Default::default());
    assert_eq!(unmirrored(missing()).deleted().action(), prove());
    assert_eq!(unmirrored(hidden()).deleted().action(), revoke(1, RevokeCause::Deleted));
    assert_eq!(expired(unmirrored(hidden())).action(), revoke(1, RevokeCause::Expired));
}
