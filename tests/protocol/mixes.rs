//! What happens together: two or three kinds of misfortune at a time.

use std::time::Instant;

use jiff::SignedDuration;
use stateright::{Checker, HasDiscoveries, Model};

use super::model::Protocol;
use super::sight::Decisions;
use super::world::Budget;

/// Two that act at once have too many histories to follow all to their end: so many steps of each.
const SPLIT_DEPTH: usize = 26;

pub(super) fn budget() -> Budget {
    Budget {
        crash: 1,
        lost_answer: 1,
        secret_deleted: 1,
        token_deleted: 1,
        scope_change: 1,
        deletion: 1,
        lease_lost: 0,
        slow: 1,
        rotate: 0,
        revoke_now: 0,
        rolled_by_hand: 0,
        strategy_change: 0,
        used: 0,
        refusal: 0,
    }
}

/// Nothing happens.
pub(super) fn nothing() -> Budget {
    Budget {
        crash: 0,
        lost_answer: 0,
        secret_deleted: 0,
        token_deleted: 0,
        scope_change: 0,
        deletion: 0,
        slow: 0,
        ..budget()
    }
}

pub(super) fn protocol() -> Protocol {
    let overlap = SignedDuration::ZERO;
    Protocol {
        budget: budget(),
        bug: None,
        split: false,
        overlap,
        slots: 20,
        rolls: false,
        settled: false,
        retain: false,
        ends_unused: false,
        decisions: Decisions::default(),
    }
}

fn check(name: &str, protocol: Protocol) -> impl Checker<Protocol> {
    let start = Instant::now();
    let protocol_is_split = protocol.split;
    let mut checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    if protocol_is_split {
        checker = checker.target_max_depth(SPLIT_DEPTH);
    }
    let checker = checker.spawn_bfs().join();
    println!("model check, {name}: {} states, {:.1} s", checker.unique_state_count(), start.elapsed().as_secs_f32());
    for (property, path) in checker.discoveries() {
        println!("{property}: {:?}", path.into_actions());
    }
    checker
}

/// Every order of these, two or three kinds of misfortune at a time: all at once is too many to explore.
#[test]
fn no_order_of_events_leaks_loses_or_wedges() {
    let few = Budget { token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let mixes = [
        ("answers lost, slow", Budget { slow: 1, ..few.clone() }),
        ("crashes", Budget { crash: 2, ..few.clone() }),
        ("scope changed", Budget { scope_change: 1, lost_answer: 0, ..few.clone() }),
        ("scope changed, answers lost", Budget { scope_change: 1, crash: 0, ..few.clone() }),
        ("Secret deleted", Budget { secret_deleted: 1, lost_answer: 0, ..few.clone() }),
        ("Secret deleted, answers lost", Budget { secret_deleted: 1, crash: 0, ..few.clone() }),
        ("token deleted", Budget { token_deleted: 1, ..few.clone() }),
        ("Secret refused, crashes", Budget { refusal: 1, crash: 2, lost_answer: 0, ..few.clone() }),
        ("Secret refused, answers lost", Budget { refusal: 1, crash: 0, ..few.clone() }),
        (
            "Secret refused and deleted",
            Budget { refusal: 1, secret_deleted: 1, crash: 0, lost_answer: 0, ..few.clone() },
        ),
        ("token and Secret deleted", Budget { token_deleted: 1, secret_deleted: 1, crash: 0, lost_answer: 0, ..few }),
    ];
    for (name, budget) in mixes {
        check(name, Protocol { budget, ..protocol() }).assert_properties();
    }
}

/// Requests to rotate and to revoke, with an overlap that passes at any time, and in an account with room for one token
/// only.
#[test]
fn no_rotation_leaks_loses_or_wedges() {
    let none =
        Budget { crash: 0, lost_answer: 0, token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let rotate = Budget { rotate: 1, ..none.clone() };
    let revoke = Budget { revoke_now: 1, ..none };
    let mixes = [
        ("rotation, crashes", 20, Budget { crash: 1, ..rotate.clone() }),
        ("rotation, answers lost", 20, Budget { lost_answer: 1, deletion: 0, ..rotate.clone() }),
        ("rotation, Secret deleted", 20, Budget { secret_deleted: 1, deletion: 0, ..rotate.clone() }),
        ("rotation, token deleted", 20, Budget { token_deleted: 1, deletion: 0, ..rotate.clone() }),
        ("rotation and revocation", 20, Budget { revoke_now: 1, deletion: 0, ..rotate.clone() }),
        ("revocation, crashes", 20, Budget { crash: 1, ..revoke.clone() }),
        ("revocation, Secret deleted", 20, Budget { secret_deleted: 1, deletion: 0, ..revoke.clone() }),
        ("full account, rotation, crashes", 1, Budget { crash: 1, deletion: 0, ..rotate.clone() }),
        ("full account, rotation, answers lost", 1, Budget { lost_answer: 1, deletion: 0, ..rotate }),
        ("full account, revocation, crashes", 1, Budget { crash: 1, deletion: 0, ..revoke }),
    ];
    for (name, slots, budget) in mixes {
        let overlap = SignedDuration::from_hours(1);
        check(name, Protocol { budget, slots, overlap, ..protocol() }).assert_properties();
    }
}

/// The token gets another key for each request and each lost one, in an account with room for one token only.
#[test]
fn no_roll_leaks_loses_or_wedges() {
    let rotate = Budget { rotate: 1, ..nothing() };
    let mixes = [
        ("roll, crashes", Budget { crash: 2, ..rotate.clone() }),
        ("roll, crash, deletion", Budget { crash: 1, deletion: 1, ..rotate.clone() }),
        ("roll, answers lost, deletion", Budget { lost_answer: 2, deletion: 1, ..rotate.clone() }),
        ("roll, crash, answer lost", Budget { crash: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, Secret deleted, crash", Budget { secret_deleted: 1, crash: 1, ..rotate.clone() }),
        ("roll, Secret deleted, answer lost", Budget { secret_deleted: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, token deleted, crash", Budget { token_deleted: 1, crash: 1, ..rotate.clone() }),
        ("roll, token deleted, answer lost", Budget { token_deleted: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, by hand too, crash", Budget { rolled_by_hand: 1, crash: 1, ..rotate.clone() }),
        ("roll, by hand too, answer lost", Budget { rolled_by_hand: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, scope changed, crash", Budget { scope_change: 1, crash: 1, ..rotate.clone() }),
        ("roll, another strategy, crash", Budget { strategy_change: 1, crash: 1, ..rotate.clone() }),
        ("roll, another strategy, answer lost", Budget { strategy_change: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, Secret refused, crash", Budget { refusal: 1, crash: 1, ..rotate.clone() }),
        ("roll and revocation, crash", Budget { revoke_now: 1, crash: 1, ..rotate.clone() }),
        ("roll, slow, crash", Budget { slow: 1, crash: 1, ..rotate.clone() }),
        ("Secret deleted, by hand too", Budget { secret_deleted: 1, rolled_by_hand: 1, deletion: 1, ..nothing() }),
    ];
    let overlap = SignedDuration::from_hours(1);
    let account = || Protocol { slots: 1, overlap, rolls: true, ..protocol() };
    for (name, budget) in mixes {
        check(name, Protocol { budget, settled: true, ..account() }).assert_properties();
    }
    check("roll from the first token on", Protocol { budget: Budget { crash: 1, ..rotate }, ..account() })
        .assert_properties();
}

/// The token is not used, is used at any time or never, and ends; a new one is asked for at any time.
#[test]
fn no_end_of_an_unused_token_leaks_loses_or_wedges() {
    let rotate = Budget { rotate: 1, ..nothing() };
    let mixes = [
        ("unused, crashes", Budget { crash: 2, ..nothing() }),
        ("unused, rotation, crash", Budget { crash: 1, ..rotate.clone() }),
        ("unused, rotation, answer lost", Budget { lost_answer: 1, ..rotate.clone() }),
        ("unused, used, rotation, crash", Budget { used: 1, crash: 1, ..rotate.clone() }),
        ("unused, used, Secret deleted, crash", Budget { used: 1, secret_deleted: 1, crash: 1, ..nothing() }),
        ("unused, Secret deleted, rotation", Budget { secret_deleted: 1, ..rotate.clone() }),
        ("unused, token deleted, crash", Budget { token_deleted: 1, crash: 1, ..nothing() }),
        ("unused, revocation, crash", Budget { revoke_now: 1, crash: 1, ..nothing() }),
        ("unused, scope changed, crash", Budget { scope_change: 1, crash: 1, ..nothing() }),
        ("unused, deletion, crash", Budget { deletion: 1, crash: 1, ..rotate }),
    ];
    let overlap = SignedDuration::from_hours(1);
    for (name, budget) in mixes {
        check(name, Protocol { budget, overlap, settled: true, ends_unused: true, ..protocol() }).assert_properties();
    }
}

/// What stays when the resource goes has a key that works.
#[test]
fn no_roll_leaves_a_retained_secret_with_a_key_that_has_ended() {
    let rotate = Budget { rotate: 1, deletion: 1, ..nothing() };
    let mixes = [
        ("retained, roll, crashes", true, Budget { crash: 2, ..rotate.clone() }),
        ("retained, roll, answers lost", true, Budget { lost_answer: 2, ..rotate.clone() }),
        ("retained, roll from the first token on", false, Budget { crash: 1, ..rotate }),
    ];
    for (name, settled, budget) in mixes {
        check(name, Protocol { budget, rolls: true, settled, retain: true, ..protocol() }).assert_properties();
    }
}

#[test]
fn a_lost_lease_leaks_nothing() {
    let none =
        Budget { crash: 0, lost_answer: 0, token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let budget = Budget { lease_lost: 1, ..none };
    check("lease lost", Protocol { budget, split: true, ..protocol() }).assert_properties();
    let budget = Budget { lease_lost: 1, rotate: 1, ..nothing() };
    check("lease lost, roll", Protocol { budget, split: true, rolls: true, settled: true, ..protocol() })
        .assert_properties();
}
