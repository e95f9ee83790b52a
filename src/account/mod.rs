//! What all resources of one DataFast account share: its lists of tokens and keys, their slots, its rate limit, its
//! credential.
//!
//! Invariant: every call to DataFast goes through an [`Account`], so that one refusal holds back all of them, and the
//! list is one for all. Invariant: nothing here knows a resource's kind or reads one.

mod calls;
mod gate;
mod kept;
mod pool;
mod queue;
mod state;
#[cfg(test)]
mod tests;
mod turns;
mod waiting;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

pub use calls::{CallError, Caller};
use gate::Call;
pub use gate::Trouble;
pub use kept::Kept;
pub use pool::{Told, Waits};
use state::{Connection, State};
pub use state::{Report, Setup, View};
pub use window::Urgency;

use crate::clock::Clock;
use crate::datafast::{Client, Collection, Error, SetupError, Token, TokenId};
use crate::lifecycle::allow::Allow;
use crate::lifecycle::observed;
use crate::lifecycle::snapshot::Snapshot;
use crate::lock::lock;
use crate::telemetry::{Failures, Over, millis};

/// Lists of websites' keys under way at once.
const MOST_LISTS: usize = 4;
/// After so long no further list of a website's keys is begun: the account's own is to come again.
const MOST_LISTING: Duration = Duration::from_secs(10);
/// A list for which there is no room is tried again this much later at the soonest.
const LIST_LATER: Duration = Duration::from_secs(1);
/// Between one list and the next.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// Names a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceRef {
    /// Its kind.
    pub kind: &'static str,
    /// Where at DataFast its token is.
    pub collection: Collection,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What an account tells the controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Reconcile this resource.
    Resource(ResourceRef),
    /// Reconcile the account resource of this name.
    Account(String),
    /// The labels of this namespace may be others.
    NamespaceChanged(String),
    /// The account resource of this name is gone.
    AccountGone(String),
}

/// The accounts in use, by the name of their resource.
#[derive(Debug)]
pub struct Accounts {
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    wakeups: UnboundedSender<Wakeup>,
    horizon: SignedDuration,
    clock: Arc<dyn Clock>,
}

impl Accounts {
    /// None yet. Wake-ups are sent to `wakeups`.
    pub fn new(wakeups: UnboundedSender<Wakeup>, horizon: SignedDuration, clock: Arc<dyn Clock>) -> Self {
        Self { accounts: Mutex::default(), wakeups, horizon, clock }
    }

    /// An account that resources may ask for before its resource is there.
    pub fn get(&self, name: &str) -> Arc<Account> {
        let new = || Arc::new(Account::new(name, self.wakeups.clone(), self.horizon, self.clock.clone()));
        lock(&self.accounts).entry(name.to_owned()).or_insert_with(new).clone()
    }
}

/// One account.
#[derive(Debug)]
pub struct Account {
    name: String,
    /// Looks at its resource that failed, for the log.
    pub(crate) failed_looks: Mutex<Failures>,
    state: Mutex<State>,
    wakeups: UnboundedSender<Wakeup>,
    horizon: SignedDuration,
    clock: Arc<dyn Clock>,
}

impl Account {
    fn new(name: &str, wakeups: UnboundedSender<Wakeup>, horizon: SignedDuration, clock: Arc<dyn Clock>) -> Self {
        let (failed_looks, state) = Default::default();
        Self { name: name.to_owned(), failed_looks, state, wakeups, horizon, clock }
    }

    /// The name of its resource.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the credential and where to use it. Another one than before takes effect at once: what DataFast said to the
    /// old one no longer counts. Returns whether it is another one.
    ///
    /// # Errors
    /// Where no client can be made with it.
    pub fn connect(
        &self,
        client: impl FnOnce() -> Result<Client, SetupError>,
        version: String,
        base_url: &str,
    ) -> Result<bool, SetupError> {
        let mut state = lock(&self.state);
        state.setup = Setup::Ready;
        if state.connection.as_ref().is_some_and(|connection| connection.version == version) {
            return Ok(false);
        }
        let client = client()?;
        state.connection = Some(Connection { client: Arc::new(client), version, base_url: base_url.to_owned() });
        state.begin_anew();
        Ok(true)
    }

    /// Takes note that there is no resource or no credential.
    pub fn disconnect(&self, setup: Setup) {
        let mut state = lock(&self.state);
        if setup == Setup::NotFound {
            state.allow = None;
        }
        state.connection = None;
        state.begin_anew();
        state.setup = setup;
        self.dispatch(&mut state);
    }

    /// What a resource sees.
    pub fn view(&self, resource: &ResourceRef) -> View {
        let mut state = lock(&self.state);
        let is_new = !state.pools.contains_key(&resource.collection);
        let view = state.view(resource, self.clock.now(), self.clock.steady());
        drop(state);
        // Its first list is due.
        if is_new {
            self.reconcile();
        }
        view
    }

    /// What is known of a collection.
    pub fn snapshot(&self, collection: &Collection) -> Option<Arc<Snapshot>> {
        lock(&self.state).pools.get(collection)?.snapshot.clone()
    }

    /// Sets which collections are listed; the account's tokens are in any case. Those are forgotten that nobody asks for.
    pub fn set_in_use_collections(&self, in_use: &BTreeSet<Collection>) {
        let mut state = lock(&self.state);
        let now = self.clock.now();
        state.keep_collections(in_use, now.saturating_sub(self.horizon).unwrap_or(Timestamp::MIN), now);
    }

    /// The gates that differ from what was told last: how each was then, and how it is now.
    pub fn news(&self) -> Vec<(Option<observed::Availability>, observed::Availability)> {
        let mut state = lock(&self.state);
        let gates: Vec<_> = state.pools.keys().map(|it| (it.clone(), state.availability(it))).collect();
        let mut news = Vec::new();
        for (collection, now) in gates {
            let told = &mut state.pool(&collection).told;
            if told.as_ref() != Some(&now) {
                news.push((told.replace(now.clone()), now));
            }
        }
        news
    }

    /// What the account resource's status says.
    pub fn report(&self) -> Report {
        lock(&self.state).report(self.clock.now(), self.clock.steady())
    }

    /// Whether the account resource is known to be held by our finalizer, as it must be while a resource refers to it.
    pub fn is_in_use(&self) -> bool {
        lock(&self.state).in_use
    }

    /// Takes note of that.
    pub fn set_in_use(&self, in_use: bool) {
        lock(&self.state).in_use = in_use;
    }

    /// Has the account resource reconciled.
    pub fn reconcile(&self) {
        // The receiver lives as long as the process.
        let _ = self.wakeups.send(Wakeup::Account(self.name.clone()));
    }

    /// Sets what the account allows, how many tokens it may have and how many calls a minute are made for it, by the generation of its spec. Returns whether that
    /// is another one than before.
    pub fn set_limits(&self, allow: Allow, limit: i32, requests: Option<u32>, generation: Option<i64>) -> bool {
        let mut state = lock(&self.state);
        state.window.set_cap(requests);
        let is_other = state.allow.is_some() && state.generation != generation;
        (state.allow, state.generation) = (Some(Arc::new(allow)), generation);
        state.pool(&Collection::AccessTokens).limit = limit.into();
        is_other
    }

    /// Takes note of the tokens that resources say they have: what the next list of each collection lacks of them has gone
    /// missing.
    pub fn expect(&self, tokens: impl Iterator<Item = (Collection, TokenId)>) {
        let mut state = lock(&self.state);
        state.pools.values_mut().for_each(|pool| pool.expected.clear());
        for (collection, id) in tokens {
            state.pool(&collection).expected.insert(id);
        }
    }

    /// Wakes one resource.
    pub fn wake(&self, resource: ResourceRef) {
        let _ = self.wakeups.send(Wakeup::Resource(resource));
    }

    /// Asks for a list that begins at `at` or later, but earlier than the next regular one.
    pub fn want_list(&self, collection: &Collection, at: Timestamp) {
        let mut state = lock(&self.state);
        let pool = state.pool(collection);
        if pool.snapshot.as_ref().is_none_or(|snapshot| snapshot.begun() < at)
            && pool.next_list.is_none_or(|next| next > at)
        {
            pool.next_list = Some(at);
            drop(state);
            self.reconcile();
        }
    }

    /// How long until the next list is due; none where there is nothing to list with.
    pub fn until_list(&self) -> Option<Duration> {
        let mut state = lock(&self.state);
        state.connection.as_ref()?;
        state.tick(self.clock.now());
        let at = state.pools.keys().filter_map(|collection| state.due(collection)).min()?;
        Some(at.duration_since(self.clock.now()).try_into().unwrap_or_default())
    }

    /// Lists the account's tokens if that is due, and wakes those that waited for that. Returns what was listed.
    pub async fn poll_tokens(&self, interval: Duration) -> Option<(Collection, Told)> {
        self.list(Collection::AccessTokens, interval).await
    }

    /// Lists its websites' keys that are due, those first that have been due for longest. Where that takes long, the rest
    /// is left for the next time.
    pub async fn poll_websites(&self, interval: Duration) -> Vec<(Collection, Told)> {
        let start = tokio::time::Instant::now();
        let mut listed = Vec::new();
        let websites = lock(&self.state).websites_by_due();
        let in_time = websites.into_iter().take_while(|_| start.elapsed() < MOST_LISTING);
        let lists = in_time.map(|collection| self.list(collection, interval));
        let mut lists = futures::stream::iter(lists).buffer_unordered(MOST_LISTS);
        while let Some(list) = lists.next().await {
            listed.extend(list);
        }
        listed
    }

    async fn list(&self, collection: Collection, interval: Duration) -> Option<(Collection, Told)> {
        let (client, start, begun, closed) = {
            let mut state = lock(&self.state);
            let now = self.clock.now();
            state.tick(now);
            let interval = interval.max(state.shortest_interval());
            let pool = state.pool(&collection);
            // A shorter interval than when the next list was planned takes effect now.
            let regular = pool.last_list.as_ref().and_then(|last| last.wall.checked_add(interval).ok());
            pool.next_list = pool.next_list.map(|next| regular.map_or(next, |regular| next.min(regular)));
            let is_listing = pool.listing;
            let client = state.connection.as_ref()?.client.clone();
            if is_listing || state.due(&collection).is_none_or(|due| due > now) {
                return None;
            }
            let steady = self.clock.steady();
            if !state.may_list(&collection, now, steady) {
                let later = now.checked_add(state.window.opens_in(steady).max(LIST_LATER)).unwrap_or(now);
                state.pool(&collection).postpone(later);
                return None;
            }
            let closed = state.closed(&collection).cloned();
            let pool = state.pool(&collection);
            pool.listing = true;
            pool.next_list = None;
            let begun = pool.begin_list(now, steady, self.horizon);
            state.window.begins(steady);
            (client, now, begun, closed)
        };
        let mut listing = Listing { account: self, collection: &collection, counts: true };
        let answer = client.list(&collection).await;
        listing.answered(&client, answer.as_ref().err());
        drop(listing);
        let mut state = lock(&self.state);
        let now = self.clock.now();
        if state.connection.as_ref().is_none_or(|connection| !Arc::ptr_eq(&connection.client, &client)) {
            // The credential changed meanwhile: what the old one saw says nothing of what the new one sees.
            return None;
        }
        match answer {
            Ok(tokens) => {
                let interval = interval.max(state.shortest_interval());
                drop(state);
                Some(self.listed(Listed { collection, tokens, start, begun, closed }, interval))
            }
            Err(error) => {
                state.failed(&collection, Call::List, &error, now);
                let pool = state.pool(&collection);
                if let (Collection::WebsiteKeys(website), true) = (&collection, pool.failures.is_news(&error)) {
                    tracing::warn!(website, %error, "the list of a website's keys failed");
                } else {
                    // The account's own list decides on its `Ready`, whose line tells.
                    tracing::debug!(?collection, %error, "a list failed");
                }
                self.dispatch(&mut state);
                None
            }
        }
    }

    /// Takes in what a list showed, and wakes those that waited for it.
    fn listed(&self, listed: Listed, interval: Duration) -> (Collection, Told) {
        let Listed { collection, tokens, start, begun, closed } = listed;
        let mut state = lock(&self.state);
        let now = self.clock.now();
        // What was refused while it was under way is not put right by it.
        let is_opened = closed.is_some() && state.closed(&collection) == closed.as_ref();
        if is_opened || state.closed(&collection).is_none() {
            state.answered(&collection, Call::List);
        }
        let pool = state.pool(&collection);
        // One that was asked for meanwhile comes earlier; one that takes long is not followed by the next at once.
        let regular = start.checked_add(interval).unwrap_or(now).max(now);
        let regular = regular.checked_add(SHORTEST_REST).unwrap_or(regular);
        pool.next_list = Some(pool.next_list.map_or(regular, |wanted| wanted.min(regular)));
        let over = pool.failures.over();
        let told = pool.listed(begun, tokens, self.horizon);
        // The clock was set back while it was under way.
        if begun > now {
            pool.change(Snapshot::distrust);
        }
        self.dispatch(&mut state);
        drop(state);
        if let (Collection::WebsiteKeys(website), Some(Over { failures, lasted })) = (&collection, over) {
            tracing::info!(website, failures, durationMs = millis(lasted), "a website's keys can be listed again");
        }
        let told = Told { is_news: told.is_news || is_opened, ..told };
        // Who waits for this one does not wait for others that take long.
        self.wake_listed(&collection, told);
        (collection, told)
    }
}

/// A list that was answered.
struct Listed {
    collection: Collection,
    tokens: Vec<Token>,
    start: Timestamp,
    begun: Timestamp,
    /// What kept the collection from calls when the list began.
    closed: Option<(Trouble, Timestamp)>,
}

/// Ends a listing even where the future that does it is dropped.
struct Listing<'a> {
    account: &'a Account,
    collection: &'a Collection,
    /// The rate window counts it as under way.
    counts: bool,
}

impl Listing<'_> {
    fn answered(&mut self, client: &Client, error: Option<&Error>) {
        lock(&self.account.state).window.answered(client.heard(), error, self.account.clock.steady());
        self.counts = false;
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.account.state);
        state.pool(self.collection).listing = false;
        if self.counts {
            state.window.cancelled();
        }
    }
}
