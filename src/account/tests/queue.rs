//! Who waits for what, and who is woken when.

use crate::lifecycle::marker::OwnerId;
use crate::lifecycle::queue::Priority::{self, MadeRoom, New, Rotation};

use super::*;

fn place(priority: Priority, minutes: i64) -> Waiting {
    Waiting { priority, since: at(minutes), owner: OwnerId::of(&minutes.to_string()) }
}

const NEWS: Waits = Waits { next_list: false, list: None, news: true };
const NEXT_LIST: Waits = Waits { next_list: true, list: None, news: false };

fn list_of(minutes: i64) -> Waits {
    Waits { list: Some(at(minutes)), ..Waits::default() }
}

/// An account with a list, and one resource for each thing that can be waited for.
fn crowd() -> World {
    let mut world = World::new();
    world.lists(&[1]);
    let all = [
        ("news", NEWS),
        ("next list", NEXT_LIST),
        ("list of now", list_of(0)),
        ("list of later", list_of(1)),
        ("news or list of later", Waits { news: true, ..list_of(1) }),
        ("nothing", Waits::default()),
    ];
    all.into_iter().for_each(|(name, waits)| world.waits(name, waits));
    assert_eq!(world.woken(), [""; 0]);
    world
}

#[test]
fn news_wake_those_that_wait_for_news() {
    let mut world = crowd();
    world.account.wake_news();
    assert_eq!(world.woken(), ["news", "news or list of later"]);
    world.account.wake_news();
    assert_eq!(world.woken(), [""; 0], "each once: who still waits says so again");
}

#[test]
fn a_list_without_news_wakes_only_those_that_wait_for_a_list_that_began_then() {
    let mut world = crowd();
    let told = world.lists(&[1]);
    world.account.wake_listed(&TOKENS, told);
    assert_eq!(world.woken(), ["list of now", "next list"]);
    world.clock.pass(60);
    let told = world.lists(&[1]);
    world.account.wake_listed(&TOKENS, told);
    assert_eq!(world.woken(), ["list of later", "news or list of later"]);
}

#[test]
fn a_list_with_news_wakes_those_that_wait_for_news_too() {
    for tokens in [&[1, 2][..], &[2], &[]] {
        let mut world = crowd();
        let told = world.lists(tokens);
        world.account.wake_listed(&TOKENS, told);
        assert_eq!(world.woken(), ["list of now", "news", "news or list of later", "next list"], "{tokens:?}");
    }
}

#[test]
fn only_other_tokens_are_news() {
    let world = World::new();
    assert!(world.lists(&[1]).is_news, "the first list");
    assert!(!world.lists(&[1]).is_news);
    let used = vec![Token { last_used_at: Some(noon()), ..token(1) }];
    assert!(
        !lock(&world.account.state).pool(&TOKENS).listed(noon(), used, HORIZON).is_news,
        "who waits does not wait for a use"
    );
    lock(&world.account.state).pool(&TOKENS).change(|snapshot| snapshot.issued(token(2), noon()));
    assert!(!world.lists(&[1, 2]).is_news, "what we issued ourselves is known");
    assert!(world.lists(&[1, 2, 3]).is_news);
    assert!(world.lists(&[2, 3]).is_news);
}

#[test]
fn what_happens_between_a_look_and_its_wait_is_not_missed() {
    let news = |world: &World| world.account.wake_news();
    let a_list = |world: &World| world.account.wake_listed(&TOKENS, world.lists(&[1]));
    let events: [fn(&World); 2] = [news, a_list];
    for happens in events {
        for waits in [NEWS, NEXT_LIST, list_of(1)] {
            let mut world = World::new();
            world.lists(&[1]);
            let seen = world.account.view(&resource("agent")).version;
            happens(&world);
            world.account.wait(resource("agent"), waits, seen);
            assert_eq!(world.woken(), ["agent"], "{waits:?}");
        }
        let mut world = World::new();
        happens(&world);
        world.account.wait(resource("agent"), Waits::default(), 0);
        assert_eq!(world.woken(), [""; 0], "who waits for nothing is left alone");
    }
}

#[test]
fn what_a_resource_waits_for_is_what_it_said_last() {
    let mut world = World::new();
    world.waits("agent", NEWS);
    world.waits("agent", NEXT_LIST);
    world.account.wake_news();
    assert_eq!(world.woken(), [""; 0]);
    world.waits("agent", NEWS);
    world.account.settled(&resource("agent"));
    world.account.wake_news();
    assert_eq!(world.woken(), [""; 0]);
}

/// `first` and `second` wait for a slot, in this order, and for news.
fn queue() -> World {
    let mut world = World::new();
    world.lists(&[1]);
    for (name, minutes) in [("first", 1), ("second", 2)] {
        world.account.line_up(&resource(name), Some(place(New, minutes)));
        world.waits(name, NEWS);
    }
    world.all_told();
    world
}

fn ahead_of(world: &World, name: &str, waiting: &Waiting) -> usize {
    world.account.view(&resource(name)).slots.unwrap().ahead_of(waiting)
}

#[test]
fn each_sees_the_others_in_the_queue_and_not_itself() {
    let world = queue();
    assert_eq!(ahead_of(&world, "first", &place(New, 1)), 0);
    assert_eq!(ahead_of(&world, "second", &place(New, 2)), 1);
    assert_eq!(ahead_of(&world, "third", &place(New, 3)), 2);
    assert_eq!(ahead_of(&world, "third", &place(Rotation, 3)), 0);
    assert_eq!(world.account.report().waiting, 2);
}

#[test]
fn who_comes_in_before_others_wakes_them_for_they_have_another_place() {
    for (priority, minutes) in [(MadeRoom, 9), (Rotation, 9), (New, 0)] {
        let mut world = queue();
        world.account.line_up(&resource("third"), Some(place(priority, minutes)));
        assert_eq!(world.woken(), ["first", "second"]);
    }
}

#[test]
fn who_comes_in_last_or_stays_in_place_wakes_nobody_but_is_counted() {
    let mut world = queue();
    world.account.line_up(&resource("third"), Some(place(New, 3)));
    assert_eq!(world.all_told(), [Wakeup::Account("default".into())], "the account counts who waits");
    for (name, minutes) in [("first", 1), ("second", 2), ("third", 3)] {
        world.account.line_up(&resource(name), Some(place(New, minutes)));
    }
    assert_eq!(world.all_told(), []);
    assert_eq!(world.account.report().waiting, 3);
}

#[test]
fn who_moves_ahead_wakes_those_that_it_passes() {
    let mut world = queue();
    world.account.line_up(&resource("second"), Some(place(MadeRoom, 5)));
    assert!(world.woken().contains(&"first".to_owned()));
    assert_eq!(ahead_of(&world, "first", &place(New, 1)), 1);
}

#[test]
fn who_leaves_wakes_the_others_once() {
    for leave in [
        |world: &World| world.account.line_up(&resource("first"), None),
        |world: &World| {
            world.account.settled(&resource("first"));
        },
    ] {
        let mut world = queue();
        leave(&world);
        let told = world.all_told();
        assert!(told.contains(&Wakeup::Account("default".into())));
        assert!(told.contains(&Wakeup::Resource(resource("second"))));
        assert_eq!(ahead_of(&world, "second", &place(New, 2)), 0);
        assert_eq!(world.account.report().waiting, 1);
        world.waits("second", NEWS);
        leave(&world);
        assert_eq!(world.all_told(), [], "who is not in the queue leaves nobody behind");
    }
}

#[test]
fn after_a_restart_those_that_waited_stand_as_before_until_they_say_otherwise() {
    let mut world = World::new();
    // In whatever order they are read.
    for (name, priority, minutes) in [("c", New, 3), ("a", Rotation, 7), ("b", New, 1)] {
        world.account.queue_up(resource(name), place(priority, minutes));
    }
    assert_eq!(world.all_told(), [], "nobody has waited yet");
    assert_eq!(world.account.report().waiting, 3);
    world.lists(&[1]);
    assert_eq!(ahead_of(&world, "a", &place(Rotation, 7)), 0);
    assert_eq!(ahead_of(&world, "b", &place(New, 1)), 1);
    assert_eq!(ahead_of(&world, "c", &place(New, 3)), 2);
    assert_eq!(ahead_of(&world, "new here", &place(New, 9)), 3);

    world.account.line_up(&resource("c"), Some(place(MadeRoom, 8)));
    world.account.queue_up(resource("c"), place(New, 3));
    assert_eq!(ahead_of(&world, "a", &place(Rotation, 7)), 1, "what a reconcile said counts for more than status");
}

#[test]
fn before_the_first_list_nobody_knows_of_slots() {
    let world = World::new();
    assert_eq!(world.account.view(&resource("agent")).slots, None);
}

#[test]
fn who_is_no_longer_there_keeps_nobody_waiting() {
    let mut world = queue();
    world.account.keep_in_queue(|_| true);
    assert_eq!(world.all_told(), []);
    world.account.keep_in_queue(|resource| resource.name != "first");
    assert!(world.woken().contains(&"second".to_owned()));
    assert_eq!(ahead_of(&world, "second", &place(New, 2)), 0);
}

#[test]
fn who_moves_back_in_the_queue_wakes_those_that_are_ahead_by_then() {
    let mut world = World::new();
    world.lists(&[1]);
    world.account.line_up(&resource("a"), Some(place(MadeRoom, 5)));
    world.account.line_up(&resource("b"), Some(place(Rotation, 1)));
    world.waits("b", NEWS);
    world.all_told();
    world.account.line_up(&resource("a"), Some(place(Rotation, 5)));
    assert_eq!(world.woken(), ["b"]);
}

#[test]
fn an_account_that_is_gone_forbids_nothing() {
    let world = World::new();
    world.account.disconnect(Setup::NotFound);
    assert_eq!(world.account.view(&resource("agent")).allow, None);
}
