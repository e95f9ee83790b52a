//! Users ask for a new token by annotation: each request is served once, by one token.

use crate::lifecycle::decision::RevokeCause;
use crate::lifecycle::facts::facts;
use crate::lifecycle::local::PendingKey;
use crate::lifecycle::observed::{Availability, SecretView};
use crate::lifecycle::record::{Cause, Request, Requests};
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

fn asks(rotate: &str, revoke_now: &str) -> Requests {
    Requests { rotate: request(rotate), revoke_now: request(revoke_now) }
}

/// [`Scene::in_sync`], with these requests, of which those were served before.
fn asked(now: Requests, before: Requests) -> Scene {
    Scene::in_sync().change(|s| {
        s.desired.requests = now;
        s.secret().record.answered = before;
    })
}

/// What status says was served last.
fn served(scene: &Scene) -> Option<Request> {
    scene.observe(|seen| facts(&scene.desired, seen, scene.now).rotate_request)
}

/// Settles with these requests, and tells why tokens were issued since the last time.
fn causes_of(simulator: &mut Simulator, requests: Requests) -> Vec<Cause> {
    simulator.causes.clear();
    simulator.scene.desired.requests = requests;
    assert_eq!(simulator.settle(), Reason::Issued);
    simulator.causes.clone()
}

#[test]
fn each_value_costs_one_token_and_status_tells_that_it_was_served() {
    let mut simulator = Simulator::new(Scene::in_sync());
    assert_eq!(causes_of(&mut simulator, asks("", "")), []);
    assert_eq!(served(&simulator.scene), None);
    for value in ["1", "2", "1"] {
        assert_eq!(causes_of(&mut simulator, asks(value, "")), [Cause::RotateRequested]);
        assert_eq!(served(&simulator.scene), request(value));
        assert_eq!(simulator.scene.status.rotate_request, request(value));
        simulator.crash();
        assert_eq!(causes_of(&mut simulator, asks(value, "")), [], "it is served already, whoever served it");
    }
    assert_eq!(causes_of(&mut simulator, asks("1", "1")), [Cause::RevokeNow]);
    assert_eq!(served(&simulator.scene), request("1"));
}

#[test]
fn a_request_that_is_taken_back_and_made_again_is_no_new_one() {
    let mut simulator = Simulator::new(asked(asks("1", "2"), asks("1", "2")));
    for requests in [asks("", ""), asks("1", ""), asks("1", "2")] {
        assert_eq!(causes_of(&mut simulator, requests), []);
    }
    causes_of(&mut simulator, asks("", "3"));
    assert_eq!(causes_of(&mut simulator, asks("1", "3")), [], "nor where another was served meanwhile");
}

#[test]
fn both_annotations_are_served_by_one_token_and_none_answers_the_other() {
    asked(asks("a", "b"), asks("a", "b")).says(Reason::Issued, true, "dft_001");
    asked(asks("a", "b"), asks("a", "")).records(Cause::RevokeNow);
    asked(asks("a", "b"), asks("", "b")).records(Cause::RotateRequested);
    asked(asks("b", "a"), asks("a", "b")).records(Cause::RevokeNow);
    let mut simulator = Simulator::new(asked(asks("", ""), asks("", "")));
    assert_eq!(causes_of(&mut simulator, asks("a", "b")), [Cause::RevokeNow], "one token for both");
    assert_eq!(served(&simulator.scene), request("b"));
}

#[test]
fn a_value_that_rotate_has_had_is_still_a_request_to_revoke_now_and_the_other_way_round() {
    asked(asks("1", "1"), asks("1", "")).records(Cause::RevokeNow);
    asked(asks("1", "1"), asks("", "1")).records(Cause::RotateRequested);
}

#[test]
fn what_is_asked_for_before_the_first_token_is_served_by_it() {
    for (requests, last) in [(asks("a", ""), "a"), (asks("", "b"), "b"), (asks("a", "b"), "b")] {
        let mut simulator = Simulator::new(Scene::new());
        assert_eq!(causes_of(&mut simulator, requests), [Cause::New]);
        assert_eq!(simulator.scene.status.rotate_request, request(last));
    }
}

#[test]
fn a_request_made_after_the_post_was_sent_is_served_by_another_token() {
    let mut scene = asked(asks("early", ""), asks("", "")).with_attempts(&[(1, A_DAY), (2, 0)]);
    scene = scene.listing(&[token(1), token(2)]);
    scene.local.pending = Some(PendingKey { requests: asks("early", ""), ..pending(2, now()) });
    scene.desired.requests = asks("late", "late too");
    let record = scene.writes_secret();
    assert_eq!(record.answered, asks("early", ""));
    assert_eq!(record.request, request("early"));
    assert!(record.previous.iter().all(|previous| !previous.at_once), "revoke-now came too late for this swap");
    let mut simulator = Simulator::new(scene.change(|s| s.desired.requests = asks("late", "")));
    simulator.scene.local.pending.as_mut().unwrap().requests = asks("early", "");
    assert_eq!(causes_of(&mut simulator, asks("late", "")), [Cause::RotateRequested]);
    assert_eq!(served(&simulator.scene), request("late"));
}

#[test]
fn a_token_that_is_issued_for_another_reason_serves_the_request_too() {
    let mut simulator = Simulator::new(Scene::in_sync().change(|s| s.desired.scope = wider_scope()));
    assert_eq!(causes_of(&mut simulator, asks("a", "")), [Cause::ScopeChanged]);
    assert_eq!(served(&simulator.scene), request("a"));
}

#[test]
fn what_was_served_last_is_remembered_when_the_secret_is_deleted() {
    let mut simulator = Simulator::new(Scene::in_sync());
    causes_of(&mut simulator, asks("a", ""));
    simulator.scene.secret = SecretView::Missing;
    assert_eq!(causes_of(&mut simulator, asks("a", "")), [Cause::KeyLost]);
    assert_eq!(simulator.scene.status.rotate_request, request("a"));
}

#[test]
fn a_request_to_revoke_now_that_was_served_is_not_served_again_when_the_secret_is_deleted() {
    let mut simulator = Simulator::new(Scene::in_sync());
    causes_of(&mut simulator, asks("", "b"));
    simulator.scene.secret = SecretView::Missing;
    assert_eq!(causes_of(&mut simulator, asks("", "b")), [Cause::KeyLost]);
}

/// Token 3 is about to take the place of token 2, and token 1 retires still.
fn swapping(requests: Requests) -> Scene {
    let mut scene = Scene::replaced(10).with_attempts(&[(1, A_DAY), (2, 10), (3, 0)]);
    scene = scene.listing(&[token(1), token(2), token(3)]);
    scene.desired.rotation.overlap = hours(1000);
    scene.desired.requests = requests.clone();
    scene.local.pending = Some(PendingKey { requests, ..pending(3, now()) });
    scene
}

#[test]
fn revoke_now_takes_all_former_tokens_at_once_after_the_swap_however_long_the_overlap() {
    let before = swapping(asks("", "leaked"));
    let record = before.writes_secret();
    assert_eq!(record.previous.iter().map(|p| p.at_once).collect::<Vec<_>>(), [true, true]);
    let mut after = before.after_restart().change(|s| s.secret = SecretView::Present(secret(3, now())));
    after.secret().record = record;
    assert_eq!(after.action(), revoke(1, RevokeCause::RevokeNow));
    after.snapshot.as_mut().unwrap().revoked(&id(1), now());
    assert_eq!(after.action(), revoke(2, RevokeCause::RevokeNow));
    after.snapshot.as_mut().unwrap().revoked(&id(2), now());
    after.says(Reason::Issued, true, "dft_003");
}

#[test]
fn a_used_token_is_revoked_at_once_too_where_that_is_asked_for() {
    let mut scene = Scene::replaced(0).change(|s| {
        s.desired.rotation.max_overlap = Some(hours(10));
        s.secret().record.previous[0].at_once = true;
    });
    let used = crate::datafast::Token { last_used_at: Some(later(1)), ..token(1) };
    scene = scene.listing(&[used, token(2)]);
    assert_eq!(scene.action(), revoke(1, RevokeCause::RevokeNow));
}

#[test]
fn a_rotation_that_is_only_asked_for_leaves_the_former_tokens_their_overlap() {
    let record = swapping(asks("please", "")).writes_secret();
    assert_eq!(record.previous, [previous(1, ago(10)), previous(2, now())]);
    let mut served = swapping(asks("", "leaked"));
    served.secret().record.answered = asks("", "leaked");
    assert_eq!(served.writes_secret().previous, record.previous, "revoke-now was served before");
}

#[test]
fn the_token_whose_key_was_lost_goes_at_once_too_where_that_is_asked_for() {
    let mut simulator = Simulator::new(Scene::secret_deleted());
    simulator.scene.desired.requests = asks("", "leaked");
    simulator.run().unwrap();
    assert_eq!(simulator.causes, [Cause::RevokeNow]);
    assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [simulator.secrets_token().unwrap()]);
}

#[test]
fn an_empty_value_asks_for_nothing_and_of_a_long_one_the_beginning_counts() {
    assert_eq!(Request::parse(""), None);
    let long = |tail: &str| Request::parse(&format!("{}{tail}", "ü".repeat(256)));
    assert_eq!(long("a"), long("b"));
    assert_ne!(Request::parse("a"), Request::parse("b"));
}

#[test]
fn a_suspended_resource_serves_a_request_once_it_is_resumed() {
    let mut scene = asked(asks("a", ""), asks("", "")).change(|s| s.desired.suspended = true);
    scene.says(Reason::Suspended, true, "suspend");
    scene.desired.suspended = false;
    scene.records(Cause::RotateRequested);
}

#[test]
fn a_request_waits_for_a_closed_account_and_what_works_stays_ready() {
    let closed =
        asked(asks("a", ""), asks("", "")).change(|s| s.availability = Availability::Unavailable("503".into()));
    closed.says(Reason::ApiUnavailable, true, "503");
    assert!(closed.rests().requeue.account_changes);
}

#[test]
fn whoever_edits_the_secrets_record_has_nothing_issued_again() {
    let served = asked(asks("a", "b"), asks("a", "b")).change(|s| s.log.0[0].requests = asks("a", "b"));
    for edited in [asks("a", "b"), asks("", ""), asks("x", "y")] {
        served.clone().change(|s| s.secret().record.answered = edited).says(Reason::Issued, true, "dft_001");
    }
    let daily = Scene::in_sync().change(|s| {
        s.log.0[0].at = ago(60);
        s.desired.rotation.every = Some(hours(2));
        s.secret().record.issued_at = Some(ago(A_DAY));
    });
    daily.says(Reason::Issued, true, "dft_001");
}

#[test]
fn without_a_secret_the_log_tells_which_of_both_requests_its_key_answered() {
    let lost = |answered: Requests, now: Requests, told: &str| {
        let scene = Scene::secret_deleted().change(|s| s.log.0[0].requests = answered);
        scene.change(|s| (s.desired.requests, s.status.rotate_request) = (now, request(told)))
    };
    lost(asks("a", "b"), asks("a", "b"), "a").records(Cause::KeyLost);
    lost(asks("1", ""), asks("1", "1"), "1").records(Cause::RevokeNow);
}
