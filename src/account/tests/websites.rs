//! Websites beside the account's tokens, and beside each other: each has slots and troubles of its own, and what concerns
//! the credential concerns all.

use datafast_sandbox::{Fault, FaultBody, ForeignKey, Kind, Operation, RetryAfter};

use crate::lifecycle::marker::OwnerId;
use crate::lifecycle::observed::Availability;
use crate::lifecycle::queue::Priority;

use super::*;

const LIST: Operation = Operation::ListWebsiteKeys;
const CREATE: Operation = Operation::CreateWebsiteKey;

/// 24 hex digits.
fn website(n: u8) -> String {
    format!("65f1c0ffee01234567890{n:03}")
}

fn of_website(n: u8) -> Caller {
    let resource = ResourceRef { kind: "DataFastWebsiteKey", collection: keys_of(n), ..resource("agent") };
    Caller { resource, urgency: Urgency::Issue }
}

fn keys_of(n: u8) -> Collection {
    Collection::WebsiteKeys(website(n))
}

/// A resource that has a key of this website.
fn user_of(n: u8, name: &str) -> ResourceRef {
    ResourceRef { kind: "DataFastWebsiteKey", collection: keys_of(n), ..resource(name) }
}

fn status(operation: Operation, status: u16) -> Fault {
    let body = FaultBody::Error { code: None, message: "so it is".into() };
    Fault::new(operation, Kind::Status { status, body })
}

fn rate_limited(operation: Operation) -> Fault {
    Fault::new(operation, Kind::RateLimited { retry_after: RetryAfter::Seconds(90) })
}

impl Connected {
    /// The account's tokens and the keys of so many websites were just listed.
    async fn with_websites(websites: u8) -> Self {
        let this = Self::new().await;
        (1..=websites).for_each(|n| drop(this.account.view(&user_of(n, "agent"))));
        this.account.set_in_use_collections(&(1..=websites).map(keys_of).collect());
        assert_eq!(this.listed().await.len(), usize::from(websites));
        this
    }

    /// Lists what is due; what came of it, in order.
    async fn listed(&self) -> Vec<Collection> {
        let mut listed: Vec<_> = self.poll_all().await.into_iter().map(|(collection, _)| collection).collect();
        listed.sort();
        listed
    }

    async fn create_key(&self, n: u8) -> Result<Issued, CallError> {
        self.create_key_for(n, "agent").await
    }

    /// For the resource of this name.
    async fn create_key_for(&self, n: u8, name: &str) -> Result<Issued, CallError> {
        let permissions = BTreeSet::new();
        let new = NewToken { name: format!("team/{name}"), permissions, website_ids: BTreeSet::new() };
        let mut caller = of_website(n);
        caller.resource.name = name.to_owned();
        self.account.create(&caller, &new, Instant::now() + POLL, || true).await
    }

    /// DataFast can't serve two resources: then it is not the request.
    async fn fails_to_create_keys(&self, n: u8) {
        for name in ["one", "another"] {
            let answer = self.create_key_for(n, name).await;
            assert!(matches!(answer, Err(CallError::DataFast(Error::Unavailable { .. }))), "{name}: {answer:?}");
        }
    }

    async fn roll_key(&self, n: u8, id: &TokenId) -> Result<Issued, CallError> {
        let new = NewToken { name: "team/agent".into(), permissions: BTreeSet::new(), website_ids: BTreeSet::new() };
        self.account.roll(&of_website(n), id, &new, Instant::now() + POLL, || true).await
    }

    fn gate_of(&self, collection: Collection) -> Availability {
        self.account.view(&ResourceRef { collection, ..resource("agent") }).availability
    }

    /// Of the account's tokens, and of the first websites.
    fn gates<const N: usize>(&self) -> (Availability, [Availability; N]) {
        (self.gate_of(TOKENS), std::array::from_fn(|n| self.gate_of(keys_of(n as u8 + 1))))
    }

    fn free_keys(&self, n: u8) -> Option<i64> {
        self.account.view(&user_of(n, "of no matter")).slots.map(|slots| slots.free)
    }

    /// How long until a collection is listed.
    fn due_in(&self, collection: &Collection) -> Option<f64> {
        let due = lock(&self.account.state).due(collection)?;
        Some(due.duration_since(self.clock.now()).as_secs_f64())
    }
}

fn unavailable(gate: &Availability) -> bool {
    matches!(gate, Availability::Unavailable(_))
}

#[tokio::test]
async fn a_website_is_listed_once_a_resource_asks_for_it_and_then_each_interval() {
    let mut world = Connected::new().await;
    world.world.all_told();
    assert_eq!(world.gate_of(keys_of(1)), Availability::Connecting);
    assert_eq!(world.world.all_told(), [Wakeup::Account("default".into())], "somebody asks for it");
    assert_eq!(world.listed().await, [], "whether the resource may is not known yet");
    world.account.set_in_use_collections(&[keys_of(1)].into());
    assert_eq!(world.account.until_list(), Some(Duration::ZERO));
    assert_eq!(world.listed().await, [keys_of(1)], "the account's own list is not due yet");
    assert_eq!(world.gates::<1>(), (Availability::Open, [Availability::Open]));
    assert_eq!(world.listed().await, []);
    world.clock.pass(61);
    assert_eq!(world.listed().await, [TOKENS, keys_of(1)]);
}

#[tokio::test]
async fn a_website_that_no_resource_asks_for_any_more_is_forgotten() {
    let world = Connected::with_websites(2).await;
    world.account.set_in_use_collections(&[keys_of(2)].into());
    world.clock.pass(61);
    assert_eq!(world.listed().await, [TOKENS, keys_of(2)]);
    world.account.set_in_use_collections(&BTreeSet::new());
    world.clock.pass(61);
    assert_eq!(world.listed().await, [TOKENS], "the account's tokens are always listed");
    assert_eq!(world.gate_of(keys_of(1)), Availability::Connecting, "who asks again waits for a list");
}

#[tokio::test]
async fn a_website_that_is_forgotten_while_it_is_listed_or_gets_a_key_is_no_trouble() {
    for operation in [LIST, CREATE] {
        let world = Connected::with_websites(1).await;
        world.clock.pass(61);
        let held = world.remote.set_fault(Fault::new(operation, Kind::Hold));
        let ((), ()) = tokio::join!(
            async {
                match operation {
                    LIST => drop(world.poll_all().await),
                    _ => drop(world.create_key(1).await.unwrap()),
                }
            },
            async {
                world.remote.held(held).await;
                world.account.set_in_use_collections(&BTreeSet::new());
                world.remote.release(held);
            }
        );
        world.account.set_in_use_collections(&BTreeSet::new());
        assert!(!lock(&world.account.state).pools.contains_key(&keys_of(1)), "{operation:?}");
    }
}

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
async fn four_websites_are_listed_at_once_and_no_more() {
    let world = Connected::with_websites(6).await;
    let before = world.remote.count(LIST);
    world.clock.pass(61);
    let held = world.remote.set_fault(Fault::new(LIST, Kind::Hold));
    let (listed, ()) = tokio::join!(world.listed(), async {
        while world.remote.count(LIST) - before < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(world.remote.count(LIST) - before, 4);
        world.remote.release(held);
    });
    assert_eq!(listed.len(), 7);
}

#[tokio::test]
async fn a_list_that_is_wanted_of_one_website_is_made_of_that_one() {
    let world = Connected::with_websites(2).await;
    world.clock.pass(10);
    assert_eq!(world.listed().await, []);
    world.account.want_list(&keys_of(1), world.clock.now());
    assert_eq!(world.account.until_list(), Some(Duration::ZERO));
    assert_eq!(world.listed().await, [keys_of(1)]);
    world.account.want_list(&keys_of(1), world.clock.now());
    assert_eq!(world.listed().await, [], "it is there");
    world.account.want_list(&TOKENS, world.clock.now());
    assert_eq!(world.listed().await, [TOKENS]);
}

const NEWS: Waits = Waits { next_list: false, list: None, news: true };
const NEXT_LIST: Waits = Waits { next_list: true, list: None, news: false };

/// Someone waits for this of each: `tokens`, `one` and `two`.
fn wait(world: &World, waits: Waits) {
    for user in [resource("tokens"), user_of(1, "one"), user_of(2, "two")] {
        let seen = world.account.view(&user).version;
        world.account.wait(user, waits, seen);
    }
}

#[tokio::test]
async fn lists_and_news_of_a_collection_wake_its_users_and_news_of_the_account_all() {
    let mut world = Connected::with_websites(2).await;
    wait(&world, NEXT_LIST);
    world.world.all_told();
    let told = Told { begun: noon(), is_news: true };
    world.account.wake_listed(&keys_of(1), told);
    assert_eq!(world.world.woken(), ["one"]);
    world.account.wake_listed(&TOKENS, told);
    assert_eq!(world.world.woken(), ["tokens"]);

    wait(&world, NEWS);
    world.world.all_told();
    let key = world.create_key(2).await.unwrap().token.id;
    assert_eq!(world.world.woken(), [""; 0]);
    world.account.revoke(&of_website(2), &key).await.unwrap();
    assert_eq!(world.world.woken(), ["two"], "a slot of its website is free");
    wait(&world, NEWS);
    world.account.wake_news();
    assert_eq!(world.world.woken(), ["one", "tokens", "two"]);
}

/// It closes and opens between two times that somebody asks for news.
#[tokio::test]
async fn an_account_that_opens_again_wakes_the_users_of_all_collections_though_nobody_heard_of_its_pause() {
    let mut world = Connected::with_websites(2).await;
    world.account.news();
    world.remote.set_fault(rate_limited(CREATE).of_website(website(1)).once());
    assert!(world.create_key(1).await.is_err());
    wait(&world, NEWS);
    world.world.all_told();
    world.clock.pass(100);
    assert!(world.account.poll_tokens(POLL).await.is_some());
    assert_eq!(world.account.news(), []);
    assert_eq!(world.world.woken(), ["one", "tokens", "two"]);
}

#[tokio::test]
async fn each_collection_tells_of_its_gate_when_it_changes() {
    let world = Connected::with_websites(2).await;
    let news = || world.account.news().into_iter().map(|(_, now)| now).collect::<Vec<_>>();
    assert_eq!(news(), [Availability::Open, Availability::Open, Availability::Open]);
    assert_eq!(news(), []);
    world.remote.set_fault(status(CREATE, 503).of_website(website(1)).times(2));
    world.fails_to_create_keys(1).await;
    assert!(news().iter().all(unavailable) && news().is_empty());
    world.clock.pass(10);
    world.listed().await;
    assert_eq!(news(), [Availability::Open]);
    world.remote.set_fault(rate_limited(CREATE).of_website(website(1)).once());
    assert!(world.create_key(1).await.is_err());
    assert_eq!(news(), [Availability::RateLimited, Availability::RateLimited, Availability::RateLimited]);
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

#[tokio::test]
async fn a_website_that_somebody_clears_up_is_listed_until_that_is_done() {
    let this = Connected::with_websites(1).await;
    let kept = this.account.keep_listed(&keys_of(1));
    this.account.set_in_use_collections(&BTreeSet::new());
    this.clock.pass(POLL.as_secs() + 1);
    assert!(this.listed().await.contains(&keys_of(1)));
    assert!(this.account.snapshot(&keys_of(1)).is_some());
    drop(kept);
    this.account.set_in_use_collections(&BTreeSet::new());
    assert!(this.account.snapshot(&keys_of(1)).is_none());
}
