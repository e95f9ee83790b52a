//! What fails about one website, and what concerns all.

use super::*;

#[tokio::test]
async fn what_fails_about_one_website_holds_back_neither_tokens_nor_other_websites() {
    for (operation, code) in [(LIST, 500), (LIST, 403), (LIST, 404), (CREATE, 503)] {
        let world = Connected::with_websites(2).await;
        world.remote.set_fault(status(operation, code).of_website(website(1)));
        if operation == LIST {
            world.clock.pass(61);
            assert_eq!(world.listed().await, [TOKENS, keys_of(2)], "{code}");
        } else {
            world.fails_to_create_keys(1).await;
        }
        let (tokens, [one, two]) = world.gates();
        assert_eq!((tokens, two), (Availability::Open, Availability::Open), "{operation:?} {code}");
        assert!(!matches!(one, Availability::Open | Availability::Connecting), "{operation:?} {code}: {one:?}");
        let before = world.remote.count(CREATE);
        assert!(matches!(world.create_key(1).await, Err(CallError::NotSent)));
        assert_eq!(world.remote.count(CREATE), before);
        assert!(world.create().await.is_ok() && world.create_key(2).await.is_ok(), "{operation:?} {code}");
        assert_eq!(world.account.report().trouble, None, "the account is well");

        world.remote.clear_faults();
        world.clock.pass(301);
        assert!(world.listed().await.contains(&keys_of(1)));
        assert_eq!(world.gate_of(keys_of(1)), Availability::Open);
        assert!(world.create_key(1).await.is_ok(), "{operation:?} {code}");
    }
}

#[tokio::test]
async fn a_website_whose_keys_may_not_be_listed_says_so_in_datafasts_words() {
    for (code, expected) in [(403, "so it is"), (400, "so it is"), (404, "there is no such website")] {
        let world = Connected::with_websites(1).await;
        world.remote.set_fault(status(LIST, code));
        world.clock.pass(61);
        world.listed().await;
        assert_eq!(world.gate_of(keys_of(1)), Availability::Refused(expected.into()));
    }
}

#[tokio::test]
async fn a_website_that_fails_again_and_again_is_listed_after_ever_longer_pauses_and_the_account_as_before() {
    for operation in [LIST, CREATE] {
        let world = Connected::with_websites(1).await;
        world.remote.set_fault(status(operation, 503));
        let lists_of_tokens = || world.remote.count(Operation::ListAccessTokens);
        let (before, start) = (lists_of_tokens(), world.clock.now());
        world.clock.pass(61);
        if operation == CREATE {
            assert!(world.create_key_for(1, "another").await.is_err());
        }
        let mut pauses = Vec::new();
        for _ in 0..10 {
            world.listed().await;
            if operation == CREATE {
                assert!(matches!(world.create_key(1).await, Err(CallError::DataFast(_))), "the list opened it");
            }
            let pause = world.due_in(&keys_of(1)).unwrap();
            pauses.push(pause);
            world.clock.pass(pause.ceil() as u64);
        }
        for (n, pause) in pauses.iter().enumerate() {
            let least = (1 << n).min(300);
            assert!((f64::from(least)..=300.0).contains(pause), "{operation:?}, {n}: {pauses:?}");
        }
        let passed = world.clock.now().duration_since(start).as_secs() as u64;
        assert!(lists_of_tokens() - before <= passed / 60 + 1, "one each interval at most");
        world.remote.clear_faults();
        world.listed().await;
        assert!(world.create_key(1).await.is_ok());
        world.remote.set_fault(status(CREATE, 503));
        world.fails_to_create_keys(1).await;
        assert!(world.due_in(&keys_of(1)).unwrap() <= 2.0, "after a success it begins anew");
    }
}

#[tokio::test]
async fn a_rate_limit_or_a_refused_credential_closes_everything_whatever_call_it_is_told_to() {
    for operation in [LIST, CREATE, Operation::RollWebsiteKey, Operation::DeleteWebsiteKey] {
        for limited in [true, false] {
            let world = Connected::with_websites(2).await;
            let key = world.create_key(1).await.unwrap().token.id;
            let fault = if limited { rate_limited(operation) } else { status(operation, 401) };
            world.remote.set_fault(fault.of_website(website(1)));
            match operation {
                LIST => {
                    world.clock.pass(61);
                    world.listed().await;
                }
                CREATE => drop(world.create_key(1).await),
                Operation::RollWebsiteKey => drop(world.roll_key(1, &key).await),
                _ => drop(world.account.revoke(&of_website(1), &key).await),
            }
            let (tokens, [one, two]) = world.gates();
            assert!(
                matches!(tokens, Availability::RateLimited | Availability::NotReady(_)),
                "{operation:?}: {tokens:?}"
            );
            assert_eq!(matches!(tokens, Availability::RateLimited), limited);
            assert_eq!((&one, &two), (&tokens, &tokens), "{operation:?}");
            assert!(matches!(world.create().await, Err(CallError::NotSent)));
            assert!(matches!(world.create_key(2).await, Err(CallError::NotSent)));
            assert!(world.account.report().trouble.is_some());

            let lists = world.remote.count(LIST);
            world.clock.pass(61);
            world.listed().await;
            assert_eq!(world.remote.count(LIST), lists, "no website is listed while the account is closed");
            world.remote.clear_faults();
            world.clock.pass(300);
            assert_eq!(world.listed().await, [TOKENS, keys_of(1), keys_of(2)], "its own list opens it for all");
            assert_eq!(world.gates(), (Availability::Open, [Availability::Open, Availability::Open]));
        }
    }
}

#[tokio::test]
async fn a_pause_that_one_website_causes_again_and_again_grows_though_the_accounts_own_list_works() {
    let world = Connected::with_websites(2).await;
    let limit = Fault::new(CREATE, Kind::RateLimited { retry_after: RetryAfter::None });
    world.remote.set_fault(limit.of_website(website(1)));
    let mut pauses = Vec::new();
    for _ in 0..5 {
        assert!(matches!(world.create_key(1).await, Err(CallError::DataFast(Error::RateLimited { .. }))));
        let pause = world.due_in(&TOKENS).unwrap();
        pauses.push(pause);
        world.clock.pass(pause.ceil() as u64);
        assert!(world.listed().await.contains(&TOKENS));
        assert_eq!(world.gate_of(TOKENS), Availability::Open);
    }
    assert!(pauses.iter().enumerate().all(|(n, pause)| *pause >= f64::from(1 << n)), "{pauses:?}");
}

#[tokio::test]
async fn while_the_account_is_closed_no_website_is_listed_not_even_for_the_first_time() {
    let world = Connected::with_websites(1).await;
    world.remote.set_fault(status(Operation::ListAccessTokens, 500));
    world.clock.pass(61);
    world.account.view(&user_of(2, "new"));
    world.account.set_in_use_collections(&[keys_of(1), keys_of(2)].into());
    let before = world.remote.count(LIST);
    assert_eq!(world.listed().await, []);
    assert_eq!(world.remote.count(LIST), before);
    let (tokens, [one, two]) = world.gates();
    assert!(unavailable(&tokens) && unavailable(&one) && unavailable(&two), "{tokens:?} {one:?} {two:?}");
    assert_eq!((world.due_in(&keys_of(1)), world.due_in(&keys_of(2))), (None, None));
    world.remote.clear_faults();
    world.clock.pass(301);
    assert_eq!(world.listed().await, [TOKENS, keys_of(1), keys_of(2)]);
}

#[tokio::test]
async fn a_key_that_datafast_does_not_take_says_nothing_of_the_credential() {
    let world = Connected::with_websites(1).await;
    let unknown = RawKey::parse("df_of_nobody".to_owned()).unwrap();
    assert!(matches!(world.account.probe(&of_website(1), &unknown).await, Ok(false)));
    assert_eq!(world.gates::<1>(), (Availability::Open, [Availability::Open]));
}

#[test]
fn keys_that_go_missing_are_counted_for_each_website_and_many_of_one_are_the_accounts_matter() {
    let world = World::new();
    let expected = [(keys_of(1), id(1)), (keys_of(2), id(2)), (keys_of(2), id(3)), (TOKENS, id(4))];
    world.account.expect(expected.into_iter());
    let lists = |collection: Collection, tokens: &[u8]| {
        let tokens = tokens.iter().map(|n| token(*n)).collect();
        lock(&world.account.state).pool(&collection).listed(noon(), tokens, HORIZON);
        world.account.report().missing
    };
    assert_eq!(lists(keys_of(1), &[]), None, "one each is no matter of the account's");
    assert_eq!(lists(TOKENS, &[]), None);
    assert_eq!(lists(keys_of(2), &[]), Some(2));
    assert_eq!(lists(keys_of(2), &[2, 3]), None);
}

#[tokio::test]
async fn another_credential_opens_what_was_closed_for_the_last_one() {
    let world = Connected::with_websites(1).await;
    world.remote.set_fault(status(LIST, 403).once());
    world.clock.pass(61);
    world.listed().await;
    assert!(matches!(world.gate_of(keys_of(1)), Availability::Refused(_)));
    world.connect("2");
    assert_eq!(world.listed().await, [TOKENS, keys_of(1)], "both are listed at once");
    assert_eq!(world.gate_of(keys_of(1)), Availability::Open);
}

#[tokio::test]
async fn a_website_that_does_not_answer_leaves_turns_to_tokens_and_other_websites() {
    let world = Connected::with_websites(4).await;
    let hold = |n: u8| Fault::new(CREATE, Kind::Hold).of_website(website(n));
    for n in 1..=3 {
        world.remote.set_fault(hold(n));
    }
    let hanging = futures::future::join_all((0..12).map(|n| world.create_key(1 + n % 3)));
    let others = async {
        // As many as may are under way by then.
        while lock(&world.account.state).calls < 3 {
            tokio::task::yield_now().await;
        }
        world.create().await.unwrap();
        assert_eq!(lock(&world.account.state).calls, 3);
        assert!((1..=3).all(|n| lock(&world.account.state).pool(&keys_of(n)).calls <= 2));
        world.remote.clear_faults();
    };
    let (answers, ()) = tokio::join!(hanging, others);
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_a_former_credential_is_told_closes_nothing_for_the_new_one() {
    let world = Connected::with_websites(1).await;
    let held = world.remote.set_fault(Fault::new(CREATE, Kind::Hold));
    world.remote.set_fault(status(CREATE, 401).after_effect());
    let ((), answer) = tokio::join!(
        async {
            world.remote.held(held).await;
            world.connect("another");
            world.remote.clear_faults();
        },
        world.create_key(1)
    );
    assert!(matches!(answer, Err(CallError::DataFast(Error::CredentialsRejected { .. }))), "{answer:?}");
    assert_eq!(world.gate_of(TOKENS), Availability::Open);
}
