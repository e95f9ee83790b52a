//! Whom a list concerns, who keeps a place, and what is done where nothing can be decided.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{KeyStatus, Retiring};
use crate::datafast::Token;
use crate::lifecycle::decision::{Action, Decision, Requeue};
use crate::lifecycle::event::{Event, Now, Refusal};
use crate::lifecycle::failure::{self, Failure, Known, Passes};
use crate::lifecycle::local::Local;
use crate::lifecycle::news::{concerns, kept_place, unused};
use crate::lifecycle::observed::StatusRecord;
use crate::lifecycle::queue::{Priority, Waiting};
use crate::lifecycle::record::Log;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::{Reason, Verdict};

use super::scenes::*;

/// Token 2 is in the Secret, and token 1 retires.
fn status() -> KeyStatus {
    KeyStatus {
        token_id: Some(id(2).to_string()),
        display_key: Some(token(2).display_key),
        issued_at: Some(Time(later(0))),
        retiring: vec![Retiring { token_id: id(1).to_string(), ..Retiring::default() }],
        ..KeyStatus::default()
    }
}

fn has_news(status: &KeyStatus, tokens: &[Token]) -> bool {
    concerns(&Snapshot::new(HORIZON, later(60), tokens.to_vec()), status, &me(), later(60))
}

fn used(n: u8, minutes: i64) -> Token {
    Token { last_used_at: Some(later(minutes)), ..token(n) }
}

#[test]
fn a_list_that_says_what_status_says_wakes_nobody() {
    assert!(!has_news(&status(), &[token(1), token(2)]));
    let others = [token(1), token(2), unmarked(7), token_of(&victim(), 4)];
    assert!(!has_news(&status(), &others), "tokens of others");
    let shown = KeyStatus { last_used_at: Some(Time(later(58))), ..status() };
    assert!(!has_news(&shown, &[token(1), used(2, 59)]), "a use a minute after the last one that is told");
}

#[test]
fn a_list_wakes_whom_it_tells_something_new() {
    for (what, tokens) in [
        ("the token is gone", vec![token(1)]),
        ("the former token is gone", vec![token(2)]),
        ("a first use", vec![token(1), used(2, 1)]),
        ("a use of the former one", vec![used(1, 1), token(2)]),
        ("another key", vec![token(1), Token { display_key: token(3).display_key, ..token(2) }]),
        ("one of its own that status does not name", vec![token(1), token(2), token(3)]),
    ] {
        assert!(has_news(&status(), &tokens), "{what}");
    }
    let retiring = Retiring { last_used_at: Some(Time(later(-1))), ..status().retiring[0].clone() };
    let before_the_swap = KeyStatus { retiring: vec![retiring], ..status() };
    assert!(
        has_news(&before_the_swap, &[used(1, 1), token(2)]),
        "a first use after the swap, so soon after one before it"
    );
}

#[test]
fn that_a_token_is_not_used_is_told_once_and_not_where_it_was_revoked_for_that() {
    let since = KeyStatus { unused_since: Some(Time(later(0))), ..status() };
    let said = |reason| Verdict::new(reason, true, "");
    assert!(unused(Some(&status()), &since, &said(Reason::Issued)).unwrap().contains("revoke it if nobody needs it"));
    assert_eq!(unused(Some(&since), &since, &said(Reason::Issued)), None);
    assert_eq!(unused(Some(&status()), &since, &said(Reason::Unused)), None);
    assert_eq!(unused(None, &status(), &said(Reason::Issued)), None);
}

#[test]
fn who_waited_for_a_slot_when_the_last_process_ended_keeps_the_place() {
    let record = StatusRecord { waiting_since: Some(later(3)), ..StatusRecord::default() };
    let place = |ready, reason| kept_place(&StatusRecord { ready, ..record.clone() }, reason, me());
    let waiting = |priority| Some(Waiting { priority, since: later(3), owner: me() });
    assert_eq!(place(false, Some("WaitingForSlot")), waiting(Priority::New));
    assert_eq!(place(true, Some("WaitingForSlot")), waiting(Priority::Rotation));
    assert_eq!((place(true, Some("Issuing")), place(true, None)), (None, None));
    assert_eq!(kept_place(&StatusRecord::default(), Some("WaitingForSlot"), me()), None);
}

#[test]
fn who_is_at_work_or_only_waits_for_calls_to_be_possible_keeps_a_place() {
    let rests = |reason| Decision::Rest { verdict: Verdict::new(reason, false, ""), requeue: Requeue::default() };
    let idle = Local::default();
    assert!(rests(Reason::RateLimited).keeps_place(&idle) && rests(Reason::AccountNotReady).keeps_place(&idle));
    assert!(Decision::Pause { requeue: Requeue::default() }.keeps_place(&idle));
    assert!(!rests(Reason::NotAllowed).keeps_place(&idle) && !rests(Reason::Issued).keeps_place(&idle));
    let sending = Local { in_flight: Some(nonce(1)), ..Local::default() };
    assert!(rests(Reason::Issuing).keeps_place(&sending));
}

#[test]
fn where_the_secret_can_not_be_read_the_finalizer_is_put_back() {
    let unreadable = Failure { what: "no".into(), unreadable: Some("no".into()), passes: Passes::NotWithoutARight };
    let named = StatusRecord { token_id: Some(id(1)), ..StatusRecord::default() };
    let log = Log(Vec::new());
    let known = |status, local| Known { status, log: &log, local, has_finalizer: false, deleting: false };
    let done = |failure: &Failure, known: Known<'_>| failure::action(failure, &known, later(0));
    let (idle, nothing) = (Local::default(), StatusRecord::default());
    assert_eq!(done(&unreadable, known(&named, &idle)), Some(Action::AddFinalizer));
    assert_eq!(done(&unreadable, Known { has_finalizer: true, ..known(&named, &idle) }), None);
    assert_eq!(done(&unreadable, Known { deleting: true, ..known(&named, &idle) }), None);
    assert_eq!(done(&unreadable, known(&nothing, &idle)), None, "nothing is there to be lost");
    let sending = Local { in_flight: Some(nonce(1)), ..Local::default() };
    assert_eq!(done(&unreadable, known(&nothing, &sending)), Some(Action::AddFinalizer));
    assert_eq!(done(&Failure { unreadable: None, ..unreadable.clone() }, known(&named, &idle)), None);
    let mut refused = Local::default();
    let now = Now { wall: later(0), steady: jiff::SignedDuration::ZERO };
    refused.apply(Event::FinalizerRefused(Refusal("no".into())), now);
    assert_eq!(done(&unreadable, known(&named, &refused)), None, "the pause after a refusal is kept");
}
