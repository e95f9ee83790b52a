//! What lists tell: tokens that went missing, and slots.

use super::*;

/// An account whose resources say that they have tokens 1, 2 and 3, as its list shows.
fn expecting() -> World {
    let world = World::new();
    world.account.expect([id(1), id(2), id(3)].map(|id| (TOKENS, id)).into_iter());
    world.lists(&[1, 2, 3, 9]);
    world
}

/// How many tokens are said to have gone missing; none where they are not many.
fn missing(world: &World) -> Option<usize> {
    world.account.report().missing
}

#[test]
fn one_token_that_goes_missing_is_no_matter_of_the_accounts_and_two_are() {
    for (listed, expected) in
        [(&[1, 2, 3][..], None), (&[1, 2], None), (&[1], Some(2)), (&[], Some(3)), (&[9], Some(3))]
    {
        let world = expecting();
        world.lists(listed);
        assert_eq!(missing(&world), expected, "{listed:?}");
    }
}

#[test]
fn tokens_are_missing_as_long_as_lists_lack_them() {
    let world = expecting();
    assert!(world.lists(&[]).is_news);
    assert_eq!(missing(&world), Some(3));
    assert!(!world.lists(&[]).is_news);
    assert_eq!(missing(&world), Some(3), "they do not count as deleted by being missing for long");
    world.account.expect([id(1)].map(|id| (TOKENS, id)).into_iter());
    world.lists(&[]);
    assert_eq!(missing(&world), None);
    world.account.expect([id(1), id(2)].map(|id| (TOKENS, id)).into_iter());
    world.lists(&[]);
    assert_eq!(missing(&world), Some(2));
    world.lists(&[1, 2, 3]);
    assert_eq!(missing(&world), None);
}

#[test]
fn the_first_list_of_a_process_may_lack_tokens_too() {
    let world = World::new();
    world.account.expect([id(1), id(2)].map(|id| (TOKENS, id)).into_iter());
    assert_eq!(missing(&world), None, "nothing is known yet");
    world.lists(&[9]);
    assert_eq!(missing(&world), Some(2));
}

#[test]
fn what_we_revoked_or_issued_ourselves_is_not_missing() {
    let world = expecting();
    {
        let mut state = lock(&world.account.state);
        for n in 1..=3 {
            state.pool(&TOKENS).change(|snapshot| snapshot.revoked(&id(n), noon()));
        }
    }
    world.lists(&[]);
    assert_eq!(missing(&world), None);
    let world = expecting();
    world.account.expect([id(4), id(5)].map(|id| (TOKENS, id)).into_iter());
    {
        let mut state = lock(&world.account.state);
        state.pool(&TOKENS).change(|snapshot| snapshot.issued(token(4), noon()));
        state.pool(&TOKENS).change(|snapshot| snapshot.issued(token(5), noon()));
    }
    world.lists(&[1, 2, 3]);
    assert_eq!(missing(&world), None, "a list may lag");
}

#[test]
fn slots_are_what_the_limit_leaves_be_it_less_than_nothing() {
    let world = expecting();
    for (limit, free) in [(20, 16), (5, 1), (4, 0), (1, -3)] {
        world.account.set_limits(Allow::default(), limit, None, None);
        assert_eq!(world.free(), Some(free));
    }
}

#[test]
fn other_limits_than_before_are_told_apart_from_the_first_and_the_same() {
    let (wakeups, _told) = tokio::sync::mpsc::unbounded_channel();
    let account = Account::new("default", wakeups, HORIZON, TestClock::new());
    let narrow = || Allow { max_tokens_per_namespace: Some(1), ..Allow::default() };
    assert_eq!(account.view(&resource("agent")).allow, None, "nothing is known yet");
    let changes = [
        (Allow::default(), 20, false),
        (Allow::default(), 20, false),
        (narrow(), 20, true),
        (narrow(), 20, false),
        (narrow(), 10, true),
        (Allow::default(), 10, true),
    ];
    let mut generation = 1;
    for (allow, limit, is_other) in changes {
        generation += i64::from(is_other);
        assert_eq!(account.set_limits(allow.clone(), limit, None, Some(generation)), is_other, "{allow:?}, {limit}");
        assert_eq!(account.view(&resource("agent")).allow.as_deref(), Some(&allow));
    }
}
