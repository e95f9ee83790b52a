//! What is written reads back; what can't be read is as if it were not there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::api::names;
use crate::lifecycle::marker::{ClusterId, Marker, OwnerId};
use crate::lifecycle::record::{Attempt, Cause, Log, Previous, Scope, SecretRecord};
use crate::lifecycle::throttle;

use super::random;
use super::scenes::*;

fn annotations(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn reread(record: &SecretRecord) -> SecretRecord {
    let written = record.annotations().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    SecretRecord::read(&written.collect(), Timestamp::MAX)
}

fn reread_log(log: &Log) -> Log {
    Log::read(&annotations(&[(names::ATTEMPTS, log.write())]), Timestamp::MAX)
}

fn words() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set("[a-z:*]{1,6}", 0..4)
}

fn scopes() -> impl Strategy<Value = Scope> {
    ("[a-z/]{1,6}", words(), words()).prop_map(|(token_name, permissions, website_ids)| Scope {
        token_name,
        permissions,
        website_ids,
    })
}

proptest! {
    #![proptest_config(random::config(128))]

    #[test]
    fn a_written_log_reads_back(log in random::log(random::any_time())) {
        prop_assert_eq!(reread_log(&log), log);
    }

    #[test]
    fn a_written_secret_record_reads_back(record in random::record(random::any_time())) {
        prop_assert_eq!(reread(&record), record);
    }

    #[test]
    fn any_annotation_can_be_read_and_what_was_read_is_written_alike(
        values in prop::collection::vec(random::text(), 10),
        at in random::any_time(),
    ) {
        let names = [names::ATTEMPTS, names::ATTEMPT, names::TOKEN_ID, names::ISSUED_AT, names::PREVIOUS,
            names::SPEC_HASH, names::KEY_SHA256, names::REQUEST, names::ROTATE, names::REVOKE_NOW];
        let pairs: Vec<_> = names.into_iter().zip(values).collect();
        let read = annotations(&pairs);
        let log = Log::read(&read, at);
        prop_assert_eq!(reread_log(&log), log);
        let record = SecretRecord::read(&read, at);
        prop_assert_eq!(reread(&record), record);
    }

    #[test]
    fn a_marker_reads_back_whatever_the_name_before_it(name in random::text(), uid in random::text(), bytes: [u8; 7]) {
        let nonce = crate::lifecycle::marker::Nonce::from_random(bytes);
        let marker = Marker { cluster: ClusterId::of(&uid), owner: OwnerId::of(&name), nonce };
        let full = marker.name(&name);
        prop_assert!(full.chars().count() <= 93);
        prop_assert_eq!(Marker::of_name(&full), Some(marker));
        Marker::of_name(&name);
    }

    #[test]
    fn scopes_have_the_same_hash_only_if_they_are_the_same(a in scopes(), b in scopes()) {
        prop_assert_eq!(a.hash() == b.hash(), a == b);
    }

    #[test]
    fn what_the_throttle_once_allows_it_goes_on_to_allow(
        pauses in prop::collection::vec((0..5000_i64, prop_oneof![Just(Cause::KeyLost), Just(Cause::Vanished), Just(Cause::New), Just(Cause::ScopeChanged)]), 0..40),
        wait in 0..200_i64,
        more in 0..3000_i64,
        cause in prop_oneof![Just(Cause::KeyLost), Just(Cause::RotateRequested), Just(Cause::RevokeNow)],
    ) {
        let not_before = |log: &Log, at| throttle::not_before(log, cause, at);
        let mut at = ago(0);
        let mut log = Log::default();
        let mut last = at;
        for (n, (pause, before)) in (0_u8..).zip(pauses) {
            at += SignedDuration::from_secs(pause);
            let without = not_before(&log, at);
            log.0.push(attempt(n, at, before));
            prop_assert!(not_before(&log, at) >= without, "one more attempt makes nothing sooner");
            last = at;
        }
        let then = last + SignedDuration::from_mins(wait);
        match not_before(&log, then) {
            None => prop_assert_eq!(not_before(&log, then + SignedDuration::from_mins(more)), None),
            Some(until) => {
                prop_assert!(until > then && until.duration_since(last) <= SignedDuration::from_hours(1));
                prop_assert_eq!(not_before(&log, until), None);
            }
        }
    }
}

#[test]
fn attempts_of_an_unknown_cause_are_still_attempts() {
    let text = format!(r#"[{{"nonce":"{}","at":"2026-01-01T00:00:00Z","cause":"FromTheFuture"}}]"#, nonce(1));
    let log = Log::read(&annotations(&[(names::ATTEMPTS, text)]), now());
    assert_eq!(log.0.iter().map(|a| a.cause).collect::<Vec<_>>(), [Cause::Unknown]);
}

#[test]
fn entries_that_make_no_sense_are_left_out_and_the_others_count() {
    let good = Log(vec![attempt(1, ago(3), Cause::KeyLost)]);
    let inner = good.write().trim_matches(['[', ']']).to_owned();
    let too_new = Log(vec![attempt(2, later(A_DAY + 1), Cause::New)]).write().trim_matches(['[', ']']).to_owned();
    let text = format!(
        r#"[1, null, {{}}, {{"nonce":"short","at":"2026-01-01T00:00:00Z","cause":"New"}}, {too_new}, {inner}]"#
    );
    assert_eq!(Log::read(&annotations(&[(names::ATTEMPTS, text)]), now()), good);
    for garbage in ["", "{}", "[", "null", "\"[]\"", &"[".repeat(1 << 20), &"9".repeat(1 << 20)] {
        assert_eq!(Log::read(&annotations(&[(names::ATTEMPTS, garbage.to_owned())]), now()), Log::default());
    }
}

#[test]
fn of_a_megabyte_only_the_newest_entries_are_kept() {
    let attempts: Vec<Attempt> = (0..20_000).map(|n| attempt((n % 251) as u8, ago(20_000 - n), Cause::New)).collect();
    let log = Log(attempts.clone());
    let read = Log::read(&annotations(&[(names::ATTEMPTS, log.write())]), now());
    assert_eq!(read.0, attempts[attempts.len() - 64..]);

    let previous: String = (0..50_000).map(|n| format!("token-{n}@{},", ago(1))).collect();
    let record = SecretRecord::read(&annotations(&[(names::PREVIOUS, previous)]), now());
    assert_eq!(record.previous.len(), 64);
    assert_eq!(record.previous[0], Previous { token: "token-0".into(), since: ago(1), at_once: false });
}

#[test]
fn times_of_more_than_a_day_ahead_are_not_believed() {
    let read = |at: Timestamp| {
        let pairs = [(names::ISSUED_AT, at.to_string()), (names::PREVIOUS, format!("{}@{at}", nonce(1)))];
        let record = SecretRecord::read(&annotations(&pairs), now());
        (record.issued_at.is_some(), record.previous.len())
    };
    assert_eq!(read(later(A_DAY)), (true, 1));
    assert_eq!(read(later(A_DAY) + SignedDuration::from_secs(1)), (false, 0));
}
