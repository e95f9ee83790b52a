//! Each website has slots of its own.

use super::*;

#[tokio::test]
async fn a_website_has_ten_slots_of_its_own() {
    let world = Connected::with_websites(2).await;
    (0..9).for_each(|_| drop(world.remote.add_website_key_of(&website(1), ForeignKey::default())));
    world.clock.pass(61);
    world.listed().await;
    world.account.set_limits(Allow::default(), 1, None, None);
    assert_eq!((world.free(), world.free_keys(1), world.free_keys(2)), (Some(0), Some(1), Some(10)));
    assert!(world.create_key(1).await.is_ok(), "a full account has room for keys");
    assert!(matches!(world.create_key(1).await, Err(CallError::NotSent)));
    assert!(world.create_key(2).await.is_ok());
    assert_eq!((world.free_keys(1), world.free_keys(2)), (Some(0), Some(9)));
    world.account.set_limits(Allow::default(), 20, None, None);
    assert_eq!((world.free(), world.free_keys(1)), (Some(19), Some(0)), "keys take no slots of tokens");
}

#[tokio::test]
async fn two_requests_for_the_last_slot_of_a_website_are_one_key_and_another_website_goes_on() {
    let world = Connected::with_websites(2).await;
    (0..9).for_each(|_| drop(world.remote.add_website_key_of(&website(1), ForeignKey::default())));
    world.clock.pass(61);
    world.listed().await;
    let held = world.remote.set_fault(Fault::new(CREATE, Kind::Hold).of_website(website(1)));
    let (first, ()) = tokio::join!(world.create_key(1), async {
        world.remote.held(held).await;
        assert!(matches!(world.create_key(1).await, Err(CallError::NotSent)));
        assert!(world.create_key(2).await.is_ok());
        world.remote.release(held);
    });
    assert!(first.is_ok());
}

#[tokio::test]
async fn a_limit_that_datafast_tells_of_one_website_is_learnt_for_that_one() {
    let world = Connected::with_websites(2).await;
    let hidden = || ForeignKey { hidden: true, ..ForeignKey::default() };
    (0..10).for_each(|_| drop(world.remote.add_website_key_of(&website(1), hidden())));
    assert_eq!(world.free_keys(1), Some(10), "keys of integrations are in no list");
    for name in ["one", "another"] {
        assert!(matches!(world.create_key_for(1, name).await, Err(CallError::DataFast(Error::Full { .. }))));
    }
    assert_eq!((world.free_keys(1), world.free_keys(2), world.free()), (Some(0), Some(10), Some(19)));
    assert_eq!(world.due_in(&keys_of(1)), Some(0.0), "a list may tell more");
    assert!(world.due_in(&keys_of(2)).unwrap() > 0.0 && world.due_in(&TOKENS).unwrap() > 0.0);
    assert!(world.create_key(2).await.is_ok() && world.create().await.is_ok());
    world.listed().await;
    assert_eq!(world.free_keys(1), Some(0), "the list shows none, and DataFast's words count");
    world.clock.pass(601);
    world.listed().await;
    assert_eq!(world.free_keys(1), Some(10), "it is put to the test again");
}

#[tokio::test]
async fn a_roll_takes_no_slot_and_changes_what_lists_show_of_the_key() {
    let world = Connected::with_websites(1).await;
    let issued = world.create_key(1).await.unwrap();
    let id = issued.token.id;
    (0..9).for_each(|_| drop(world.remote.add_website_key_of(&website(1), ForeignKey::default())));
    world.clock.pass(61);
    world.listed().await;
    assert_eq!(world.free_keys(1), Some(0));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let rolled = world.roll_key(1, &id).await.unwrap();
    let (old, new) = (issued.key.unwrap(), rolled.key.unwrap());
    assert_eq!(rolled.token.id, id);
    let shown = || {
        let snapshot = world.account.view(&user_of(1, "agent")).snapshot.unwrap();
        snapshot.get(&id).unwrap().token.display_key.clone()
    };
    assert_eq!((new.fits(&shown()), old.fits(&shown())), (Some(true), Some(false)));
    assert!(matches!(world.account.probe(&of_website(1), &new).await, Ok(true)));
    assert!(matches!(world.account.probe(&of_website(1), &old).await, Ok(false)));
    assert_eq!(world.free_keys(1), Some(0));

    world.remote.set_fault(Fault::new(LIST, Kind::ListLag { seconds: 1.0 }));
    world.clock.pass(61);
    assert_eq!(world.listed().await, [TOKENS, keys_of(1)]);
    assert_eq!(new.fits(&shown()), Some(true), "a list that lags is put right");
}

#[tokio::test]
async fn a_roll_that_comes_too_late_or_from_another_than_the_leader_is_not_sent() {
    let world = Connected::with_websites(1).await;
    let id = world.create_key(1).await.unwrap().token.id;
    let new = NewToken { name: "a".into(), permissions: BTreeSet::new(), website_ids: BTreeSet::new() };
    let late = world.account.roll(&of_website(1), &id, &new, Instant::now(), || true).await;
    let deposed = world.account.roll(&of_website(1), &id, &new, Instant::now() + POLL, || false).await;
    assert!(matches!((late, deposed), (Err(CallError::TooLate), Err(CallError::NotSent))));
    assert_eq!(world.remote.count(Operation::RollWebsiteKey), 0);
}

#[tokio::test]
async fn a_roll_of_a_key_that_is_gone_closes_nothing() {
    let world = Connected::with_websites(1).await;
    let missing = TokenId::parse("65f1c0ffee0123456789ffff").unwrap();
    assert!(matches!(world.roll_key(1, &missing).await, Err(CallError::DataFast(Error::NotFound))));
    assert_eq!(world.gates::<1>(), (Availability::Open, [Availability::Open]));
}

#[tokio::test]
async fn the_queue_for_slots_is_one_for_each_collection() {
    let mut world = Connected::with_websites(2).await;
    let place =
        |minutes| Waiting { priority: Priority::New, since: at(minutes), owner: OwnerId::of(&minutes.to_string()) };
    for (user, minutes) in [(resource("tokens"), 1), (user_of(1, "one"), 2), (user_of(1, "another"), 3)] {
        world.account.line_up(&user, Some(place(minutes)));
    }
    let ahead = |user: &ResourceRef| world.account.view(user).slots.unwrap().ahead_of(&place(4));
    assert_eq!([resource("x"), user_of(1, "x"), user_of(2, "x")].map(|user| ahead(&user)), [1, 2, 0]);
    assert_eq!(world.account.report().waiting, 3);
    wait(&world, NEWS);
    world.world.all_told();
    world.account.line_up(&user_of(1, "another"), Some(place(0)));
    assert_eq!(world.world.woken(), ["one"], "others have another place");
    world.account.keep_in_queue(|user| user.name != "another");
    assert_eq!(world.account.report().waiting, 2);
}
