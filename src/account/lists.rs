//! When an account's tokens and its websites' keys are listed, and what becomes of the answers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;

use super::gate::{Call, Trouble};
use super::{Account, Told};
use crate::datafast::{Client, Collection, Error, Token};
use crate::lifecycle::snapshot::Snapshot;
use crate::lock::lock;
use crate::telemetry::{Over, millis};

/// Lists of websites' keys under way at once.
const MOST_LISTS: usize = 4;
/// After so long no further list of a website's keys is begun: the account's own is to come again.
const MOST_LISTING: Duration = Duration::from_secs(10);
/// A list for which there is no room is tried again this much later at the soonest.
const LIST_LATER: Duration = Duration::from_secs(1);
/// Between one list and the next.
const SHORTEST_REST: Duration = Duration::from_millis(1);

impl Account {
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
        // What closed the account held back the calls of all its collections.
        if is_opened && collection == Collection::AccessTokens {
            self.wake_news();
        }
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
