//! Who waits for what of an account: for lists, for news, and for a slot.

use std::collections::BTreeMap;

use super::pool::{Pool, Told, Waits};
use super::{Account, ResourceRef};
use crate::datafast::Collection;
use crate::lifecycle::queue::Waiting;
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
        let (moves, is_news) = {
            let mut state = lock(&self.state);
            let queue = &mut state.pool(&resource.collection).queue;
            let before = queue.len();
            let moves = match waiting {
                Some(waiting) => {
                    let before = queue.insert(resource.clone(), waiting.clone());
                    let has_moved = before.as_ref() != Some(&waiting);
                    let first = before.map_or(waiting.clone(), |before| before.min(waiting));
                    let mut others = queue.iter().filter(|(other, _)| *other != resource);
                    has_moved && others.any(|(_, other)| *other > first)
                }
                None => queue.remove(resource).is_some(),
            };
            (moves, queue.len() != before)
        };
        // Those behind it have another place.
        if moves {
            self.wake_news_of(&resource.collection);
        }
        if is_news {
            self.reconcile();
        }
    }

    /// Has those leave the queue that are no longer there.
    pub fn keep_in_queue(&self, is_there: impl Fn(&ResourceRef) -> bool) {
        let has_shrunk = {
            let mut state = lock(&self.state);
            let length = |pools: &BTreeMap<_, Pool>| pools.values().map(|pool| pool.queue.len()).sum::<usize>();
            let before = length(&state.pools);
            state.pools.values_mut().for_each(|pool| pool.queue.retain(|resource, _| is_there(resource)));
            let gone = |pool: &mut Pool| pool.waiting.extract_if(|resource, _| !is_there(resource)).collect::<Vec<_>>();
            // One that is not seen yet is reconciled again.
            state.pools.values_mut().flat_map(gone).for_each(|(resource, _)| self.wake(resource));
            length(&state.pools) != before
        };
        if has_shrunk {
            self.wake_news();
        }
    }

    /// Puts one that waited for a slot before a restart in its place.
    pub fn queue_up(&self, resource: ResourceRef, waiting: Waiting) {
        lock(&self.state).pool(&resource.collection).queue.entry(resource).or_insert(waiting);
    }

    /// Takes note that a resource waits for nothing.
    pub fn settled(&self, resource: &ResourceRef) {
        self.wait(resource.clone(), Waits::default(), 0);
        self.line_up(resource, None);
    }

    /// Wakes all that wait for a change of the account's state.
    pub fn wake_news(&self) {
        let all: Vec<_> = lock(&self.state).pools.keys().cloned().collect();
        all.iter().for_each(|collection| self.wake_news_of(collection));
    }

    /// Wakes all that wait for a change in a collection.
    pub fn wake_news_of(&self, collection: &Collection) {
        self.wake_those(collection, |waits| waits.news);
    }

    /// Wakes all that waited for a list.
    pub fn wake_listed(&self, collection: &Collection, told: Told) {
        self.wake_those(collection, |waits| {
            waits.next_list || waits.list.is_some_and(|at| at <= told.begun) || waits.news && told.is_news
        });
    }

    fn wake_those(&self, collection: &Collection, concerned: impl Fn(&Waits) -> bool) {
        let woken: Vec<_> = {
            let mut state = lock(&self.state);
            let pool = state.pool(collection);
            pool.version += 1;
            pool.waiting.extract_if(|_, waits| concerned(waits)).collect()
        };
        for (resource, _) in woken {
            self.wake(resource);
        }
    }
}
