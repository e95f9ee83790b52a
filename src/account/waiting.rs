//! Who waits for what of an account: for lists, for news, and for a slot.

use std::collections::BTreeMap;

use super::pool::{Pool, Told, Waits};
use super::{Account, ResourceRef};
use crate::datafast::Collection;
use crate::lifecycle::queue::{MOST_PLACES, Waiting};
use crate::lock::lock;

impl Account {
    /// Wakes a resource when what it waits for is there. `seen`: the version of the view that makes it wait.
    pub fn wait(&self, resource: ResourceRef, waits: Waits, seen: u64) {
        let is_late = {
            let mut state = lock(&self.state);
            let pool = state.pool(&resource.collection);
            match waits == Waits::default() {
                true => pool.waiting.remove(&resource),
                false => pool.waiting.insert(resource.clone(), waits),
            };
            waits != Waits::default() && pool.version != seen
        };
        if is_late {
            self.wake(resource);
        }
    }

    /// Has a resource stand in the queue for a slot, or leave it.
    pub fn line_up(&self, resource: &ResourceRef, waiting: Option<Waiting>) {
        let (moved, is_news) = {
            let mut state = lock(&self.state);
            let queue = &mut state.pool(&resource.collection).queue;
            let length = queue.len();
            let before = match &waiting {
                Some(waiting) => queue.insert(resource.clone(), waiting.clone()),
                None => queue.remove(resource),
            };
            let moved = (before != waiting).then(|| before.into_iter().chain(waiting).min()).flatten();
            (moved, queue.len() != length)
        };
        // Those behind it have another place.
        if let Some(from) = moved {
            self.wake_first(&resource.collection, |other, waiting| *waiting > from && other != resource);
        }
        if is_news {
            self.reconcile();
        }
    }

    /// Takes note that a resource begins an attempt, which will need a call.
    pub fn begins(&self, resource: ResourceRef) {
        let mut state = lock(&self.state);
        state.rate_queue.remove(&resource);
        state.begun.insert(resource);
    }

    /// Has a resource stand in the queue for the rate window, or leave it.
    pub fn line_up_for_window(&self, resource: &ResourceRef, waiting: Option<Waiting>) {
        let mut state = lock(&self.state);
        state.begun.remove(resource);
        let queue = &mut state.rate_queue;
        match waiting {
            Some(waiting) => queue.insert(resource.clone(), waiting),
            None => queue.remove(resource),
        };
    }

    /// Wakes those that wait for a change of the account's slots; of the queue only those who can go on, or are told their
    /// place: it changes nothing for others.
    pub(super) fn wake_for_slot(&self, collection: &Collection) {
        self.wake_first(collection, |_, _| true);
        self.wake_those(collection, |waits, is_queued| waits.news && !is_queued);
    }

    fn wake_first(&self, collection: &Collection, concerned: impl Fn(&ResourceRef, &Waiting) -> bool) {
        let first = {
            let mut state = lock(&self.state);
            let pool = state.pool(collection);
            pool.version += 1;
            let free = usize::try_from(pool.free().unwrap_or(0).max(0)).unwrap_or(0);
            let mut first = pool.queue.first(free + MOST_PLACES);
            first.retain(|(resource, waiting)| concerned(resource, waiting));
            let first: Vec<_> = first.into_iter().map(|(resource, _)| resource).collect();
            for resource in &first {
                pool.waiting.remove(resource);
            }
            first
        };
        first.into_iter().for_each(|resource| self.wake(resource));
    }

    /// Has those leave the queue that are no longer there.
    pub fn keep_in_queue(&self, is_there: impl Fn(&ResourceRef) -> bool) {
        let has_shrunk = {
            let mut state = lock(&self.state);
            let length = |pools: &BTreeMap<_, Pool>| pools.values().map(|pool| pool.queue.len()).sum::<usize>();
            let before = length(&state.pools);
            for pool in state.pools.values_mut() {
                pool.queue.retain(&is_there);
            }
            state.rate_queue.retain(&is_there);
            state.begun.retain(&is_there);
            let gone = |pool: &mut Pool| pool.waiting.extract_if(|resource, _| !is_there(resource)).collect::<Vec<_>>();
            // One that is not seen yet is reconciled again.
            state.pools.values_mut().flat_map(gone).for_each(|(resource, _)| self.wake(resource));
            length(&state.pools) != before
        };
        if has_shrunk {
            let all: Vec<_> = lock(&self.state).pools.keys().cloned().collect();
            all.iter().for_each(|collection| self.wake_for_slot(collection));
        }
    }

    /// Puts one that waited for a slot before a restart in its place.
    pub fn queue_up(&self, resource: ResourceRef, waiting: Waiting) {
        let mut state = lock(&self.state);
        let queue = &mut state.pool(&resource.collection).queue;
        if !queue.contains(&resource) {
            queue.insert(resource, waiting);
        }
    }

    /// Takes note that a resource waits for nothing.
    pub fn settled(&self, resource: &ResourceRef) {
        self.wait(resource.clone(), Waits::default(), 0);
        self.line_up(resource, None);
        self.line_up_for_window(resource, None);
    }

    /// Wakes all that wait for a change of the account's state.
    pub fn wake_news(&self) {
        let all: Vec<_> = lock(&self.state).pools.keys().cloned().collect();
        all.iter().for_each(|collection| self.wake_news_of(collection));
    }

    /// Wakes all that wait for a change in a collection.
    pub fn wake_news_of(&self, collection: &Collection) {
        self.wake_those(collection, |waits, _| waits.news);
    }

    /// Wakes all that waited for a list.
    pub fn wake_listed(&self, collection: &Collection, told: Told) {
        self.wake_those(collection, |waits, is_queued| {
            let is_listed = waits.next_list || waits.list.is_some_and(|at| at <= told.begun);
            is_listed || waits.news && told.is_news && !is_queued
        });
        if told.is_news {
            self.wake_first(collection, |_, _| true);
        }
    }

    /// `concerned` is told what one waits for, and whether it is in the queue for a slot.
    fn wake_those(&self, collection: &Collection, concerned: impl Fn(&Waits, bool) -> bool) {
        let woken: Vec<_> = {
            let mut state = lock(&self.state);
            let pool = state.pool(collection);
            pool.version += 1;
            let Pool { waiting, queue, .. } = pool;
            waiting.extract_if(|resource, waits| concerned(waits, queue.contains(resource))).collect()
        };
        for (resource, _) in woken {
            self.wake(resource);
        }
    }
}
