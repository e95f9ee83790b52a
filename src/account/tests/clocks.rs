//! A wall clock that is set ahead or back: no list counts for more than it can prove, and none is made in vain.

use datafast_sandbox::Operation;

use crate::account::pool::Pool;
use crate::lifecycle::marker::{ClusterId, Marker, Nonce, OwnerId};

use super::*;

/// When a list that begins now counts as begun.
fn begins(pool: &mut Pool, clock: &TestClock) -> Timestamp {
    pool.begin_list(clock.now(), clock.steady(), HORIZON)
}

/// A list has just begun.
fn begun() -> (Pool, Arc<TestClock>) {
    let (mut pool, clock) = (Pool::new(&TOKENS), TestClock::new());
    pool.limit = 20;
    assert_eq!(begins(&mut pool, &clock), noon());
    (pool, clock)
}

/// Seconds by which the next lists, a minute apart, count as begun before the wall clock says so.
fn behind<const N: usize>(pool: &mut Pool, clock: &TestClock) -> [i64; N] {
    [0; N].map(|_| {
        clock.pass(60);
        clock.now().duration_since(begins(pool, clock)).as_secs()
    })
}

#[test]
fn lists_count_as_begun_when_the_clock_says_so() {
    let (mut pool, clock) = begun();
    assert_eq!(behind(&mut pool, &clock), [0; 5]);
    clock.pass(7 * 24 * 3600);
    assert_eq!(behind(&mut pool, &clock), [0; 2], "after whatever pause");
}

#[test]
fn what_the_clock_skips_counts_once_the_horizon_has_passed_after_it() {
    for minutes in [1, 60, 24 * 60] {
        let (mut pool, clock) = begun();
        clock.set(minutes);
        assert_eq!(behind(&mut pool, &clock), [minutes * 60, minutes * 60, 0, 0]);
    }
}

#[test]
fn what_was_recorded_before_a_jump_does_not_look_older_than_it_is() {
    let (mut pool, clock) = begun();
    clock.pass(30);
    let recorded = clock.now();
    clock.set(24 * 60);
    for seconds in [1, 29, 30, 30, 30] {
        clock.pass(seconds);
        let age = begins(&mut pool, &clock).duration_since(recorded);
        assert!(age.as_secs() <= clock.steady().as_secs() as i64 - 30, "{age:?}");
    }
}

#[test]
fn a_clock_that_is_corrected_a_little_is_right() {
    let (mut pool, clock) = begun();
    lock(&clock.0).0 += SignedDuration::from_secs(5);
    assert_eq!(behind(&mut pool, &clock), [0; 2]);
    lock(&clock.0).0 += SignedDuration::from_secs(6);
    assert_eq!(behind(&mut pool, &clock), [6, 6, 0]);
    lock(&clock.0).0 -= SignedDuration::from_secs(30);
    assert_eq!(behind(&mut pool, &clock), [0; 2], "earlier than they began is on the safe side");
}

#[test]
fn a_second_jump_is_waited_out_too() {
    let (mut pool, clock) = begun();
    clock.set(60);
    assert_eq!(behind(&mut pool, &clock), [3600; 2]);
    clock.pass(60);
    assert_eq!(clock.now(), begins(&mut pool, &clock));
    clock.set(60);
    assert_eq!(behind(&mut pool, &clock), [3600, 3600, 0]);
}

#[test]
fn a_clock_that_goes_ahead_and_back_leaves_no_trace() {
    let (mut pool, clock) = begun();
    clock.set(60);
    assert_eq!(behind(&mut pool, &clock), [3600; 1]);
    clock.set(-60);
    pool.tick(clock.now());
    assert_eq!(behind(&mut pool, &clock), [0; 3]);
}

fn marked(owner: &OwnerId, nonce: &Nonce) -> Token {
    let marker = Marker { cluster: ClusterId::of("cluster"), owner: owner.clone(), nonce: nonce.clone() };
    Token { name: Some(marker.name("team/agent")), ..token(1) }
}

#[test]
fn after_a_clock_was_set_back_old_lists_prove_nothing() {
    let (mut pool, clock) = begun();
    let (owner, nonce) = (OwnerId::of("agent"), Nonce::from_random([1; 7]));
    for _ in 0..2 {
        pool.listed(clock.now(), Vec::new(), HORIZON);
    }
    clock.set(-60);
    let recorded = clock.now() - HORIZON;
    let proves = |pool: &Pool| {
        let snapshot = pool.snapshot.clone().unwrap();
        (snapshot.is_absent(&owner, &nonce, recorded), snapshot.has_vanished(&id(1), recorded))
    };
    assert_eq!(proves(&pool), (true, true), "so it seems, until the clock is looked at");
    pool.tick(clock.now());
    assert_eq!(proves(&pool), (false, false));

    let begun = begins(&mut pool, &clock);
    assert_eq!(begun, clock.now());
    pool.listed(begun, Vec::new(), HORIZON);
    assert!(proves(&pool).0, "a list that began since does");
    pool.listed(begun, Vec::new(), HORIZON);
    assert_eq!(proves(&pool), (true, true));
    pool.listed(begun, vec![marked(&owner, &nonce)], HORIZON);
    assert_eq!(proves(&pool), (false, false));
}

#[test]
fn what_is_known_of_tokens_stays_when_a_clock_is_set_back() {
    let (mut pool, clock) = begun();
    pool.listed(clock.now(), vec![token(1)], HORIZON);
    clock.set(-60);
    pool.tick(clock.now());
    assert!(pool.snapshot.unwrap().get(&id(1)).is_some());
}

/// Lists whenever one is due, as long as one is.
async fn lists_due(world: &Connected) -> u64 {
    let before = world.remote.count(Operation::ListAccessTokens);
    for _ in 0..10 {
        if world.account.until_list() == Some(Duration::ZERO) {
            world.poll_all().await;
        }
    }
    world.remote.count(Operation::ListAccessTokens) - before
}

#[tokio::test]
async fn after_a_jump_there_is_one_list_and_then_one_each_interval() {
    for minutes in [-24 * 60, -1, 1, 60, 24 * 60] {
        let world = Connected::new().await;
        world.clock.pass(10);
        assert_eq!(lists_due(&world).await, 0, "none is due yet");
        world.clock.set(minutes);
        assert_eq!(lists_due(&world).await, 1, "{minutes} minutes");
        for _ in 0..3 {
            world.clock.pass(59);
            assert_eq!(lists_due(&world).await, 0, "{minutes} minutes");
            world.clock.pass(2);
            assert_eq!(lists_due(&world).await, 1, "{minutes} minutes");
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_list_over_a_jump_gets_it_after_the_horizon_and_it_is_one_of_the_regular_ones() {
    let mut world = Connected::new().await;
    let wanted = at(2);
    world.waits("agent", Waits { list: Some(wanted), ..Waits::default() });
    world.account.want_list(&TOKENS, wanted);
    world.clock.set(60);
    let (mut lists, mut seconds) = (0, 0);
    while world.world.woken().is_empty() {
        if world.account.until_list() == Some(Duration::ZERO) {
            assert_eq!(world.poll_all().await.len(), 1);
            lists += 1;
        }
        world.clock.pass(1);
        seconds += 1;
        assert!(seconds <= 200, "it waits for ever");
    }
    assert!(seconds > 120, "a list counts as later than it is");
    assert_eq!(lists, 3);
}

#[tokio::test]
async fn a_pause_that_datafast_asked_for_ends_though_the_clock_was_set_back() {
    use datafast_sandbox::{Fault, Kind, RetryAfter};
    let world = Connected::new().await;
    let retry_after = RetryAfter::Seconds(90);
    world.remote.set_fault(Fault::new(Operation::CreateAccessToken, Kind::RateLimited { retry_after }).once());
    assert!(matches!(world.create().await, Err(CallError::DataFast(Error::RateLimited { .. }))));
    assert_eq!(world.account.until_list(), Some(Duration::from_secs(90)));
    world.clock.set(-24 * 60);
    assert_eq!(world.account.until_list(), Some(Duration::from_secs(600)), "no pause is longer than ten minutes");
    world.clock.pass(600);
    assert_eq!(lists_due(&world).await, 1);
    assert!(world.create().await.is_ok());
}
