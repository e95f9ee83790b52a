//! One account, with a clock that the test moves; with a sandbox where DataFast is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod calls;
mod clocks;
mod lists;
mod queue;
mod websites;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafast_sandbox::{AccountOptions, Options, Sandbox};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::datafast::{Error, Issued, NewToken, Observe, RawKey, Token};
use crate::lifecycle::queue::Waiting;

const TOKENS: Collection = Collection::AccessTokens;
const HORIZON: SignedDuration = SignedDuration::from_mins(2);
const POLL: Duration = Duration::from_secs(60);

fn noon() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// Minutes after noon.
fn at(minutes: i64) -> Timestamp {
    noon() + SignedDuration::from_mins(minutes)
}

/// At first it is noon, by the wall clock.
#[derive(Debug)]
struct TestClock(Mutex<(Timestamp, Duration)>);

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((noon(), Duration::ZERO))))
    }

    fn pass(&self, seconds: u64) {
        let mut clock = lock(&self.0);
        clock.0 += SignedDuration::from_secs(seconds.try_into().unwrap());
        clock.1 += Duration::from_secs(seconds);
    }

    /// Somebody sets the wall clock, by so many minutes.
    fn set(&self, minutes: i64) {
        lock(&self.0).0 += SignedDuration::from_mins(minutes);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        lock(&self.0).0
    }

    fn steady(&self) -> Duration {
        lock(&self.0).1
    }
}

struct Deaf;

impl Observe for Deaf {
    fn request(&self, _: &'static str, _: &str, _: Duration) {}
}

/// An account and all that it tells.
struct World {
    account: Arc<Account>,
    clock: Arc<TestClock>,
    told: UnboundedReceiver<Wakeup>,
}

impl World {
    /// Room for 20 tokens, and no list yet.
    fn new() -> Self {
        let (wakeups, told) = tokio::sync::mpsc::unbounded_channel();
        let clock = TestClock::new();
        let account = Arc::new(Account::new("default", wakeups, HORIZON, clock.clone()));
        account.set_limits(Allow::default(), 20, None, None);
        Self { account, clock, told }
    }

    /// A list began now, and shows these.
    fn lists(&self, tokens: &[u8]) -> Told {
        let tokens = tokens.iter().map(|n| token(*n)).collect();
        lock(&self.account.state).pool(&TOKENS).listed(self.clock.now(), tokens, HORIZON)
    }

    /// The resources that were woken since the last time, by name.
    fn woken(&mut self) -> Vec<String> {
        let mut woken: Vec<String> = self.all_told().into_iter().filter_map(resource_of).collect();
        woken.sort();
        woken
    }

    fn all_told(&mut self) -> Vec<Wakeup> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    fn free(&self) -> Option<i64> {
        self.account.view(&resource("of no matter")).slots.map(|slots| slots.free)
    }

    fn waits(&self, name: &str, waits: Waits) {
        let seen = self.account.view(&resource(name)).version;
        self.account.wait(resource(name), waits, seen);
    }
}

fn resource_of(wakeup: Wakeup) -> Option<String> {
    match wakeup {
        Wakeup::Resource(resource) => Some(resource.name),
        _ => None,
    }
}

fn resource(name: &str) -> ResourceRef {
    ResourceRef { kind: "DataFastAccessToken", collection: TOKENS, namespace: "team".into(), name: name.into() }
}

fn id(n: u8) -> TokenId {
    TokenId::parse(&format!("token-{n}")).unwrap()
}

fn token(n: u8) -> Token {
    Token {
        id: id(n),
        name: None,
        display_key: "...".into(),
        permissions: BTreeSet::new(),
        website_ids: BTreeSet::new(),
        last_used_at: None,
        tells_use: true,
        created_at: None,
    }
}

/// A [`World`] with a sandbox behind it.
struct Connected {
    world: World,
    sandbox: Sandbox,
    remote: datafast_sandbox::Account,
}

impl std::ops::Deref for Connected {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Connected {
    /// The account's tokens were just listed: the credential is the only one.
    async fn new() -> Self {
        Self::with(AccountOptions::default()).await
    }

    async fn with(options: AccountOptions) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let remote = sandbox.account(options);
        let this = Self { world: World::new(), sandbox, remote };
        this.connect("1");
        this.poll().await;
        this
    }

    /// Uses the sandbox's credential, as this version of the credential's Secret.
    fn connect(&self, version: &str) {
        let url = self.sandbox.base_url();
        let key = RawKey::parse(self.remote.credential()).unwrap();
        let client = || Client::new(&Arc::default(), &url, key, Arc::new(Deaf));
        self.account.connect(client, version.to_owned(), &url).unwrap();
    }

    /// Lists what is due.
    async fn poll_all(&self) -> Vec<(Collection, Told)> {
        let mut listed = Vec::from_iter(self.account.poll_tokens(POLL).await);
        listed.extend(self.account.poll_websites(POLL).await);
        listed
    }

    /// Lists what is due, the account's tokens among it.
    async fn poll(&self) -> Told {
        let listed = self.poll_all().await;
        listed
            .into_iter()
            .find(|(collection, _)| *collection == TOKENS)
            .expect("a list is due, and opens the account")
            .1
    }

    async fn create(&self) -> Result<Issued, CallError> {
        create(&self.account).await
    }
}

async fn create(account: &Account) -> Result<Issued, CallError> {
    create_for(account, "agent").await
}

/// For the resource of this name.
async fn create_for(account: &Account, name: &str) -> Result<Issued, CallError> {
    let permissions = ["analytics:read".to_owned()].into();
    let new = NewToken { name: format!("team/{name}"), permissions, website_ids: BTreeSet::new() };
    account.create(&caller(name), &new, Instant::now() + POLL, || true).await
}

fn caller(name: &str) -> Caller {
    Caller { resource: resource(name), urgency: Urgency::Issue }
}
