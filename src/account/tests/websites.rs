//! Websites beside the account's tokens, and beside each other: each has slots and troubles of its own, and what concerns
//! the credential concerns all.

mod news;
mod slots;
mod troubles;

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

const NEWS: Waits = Waits { next_list: false, list: None, news: true };
const NEXT_LIST: Waits = Waits { next_list: true, list: None, news: false };

/// Someone waits for this of each: `tokens`, `one` and `two`.
fn wait(world: &World, waits: Waits) {
    for user in [resource("tokens"), user_of(1, "one"), user_of(2, "two")] {
        let seen = world.account.view(&user).version;
        world.account.wait(user, waits, seen);
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
