//! Resources that wait for what an account has too little of, in order.

use std::collections::HashMap;
use std::sync::Arc;

use super::ResourceRef;
use crate::lifecycle::queue::{InOrder, Waiting};

/// A queue of resources.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_resource: HashMap<ResourceRef, Waiting>,
    in_order: InOrder,
}

impl Queue {
    /// Those that wait, in order.
    pub(super) fn in_order(&self) -> InOrder {
        self.in_order.clone()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.by_resource.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.by_resource.is_empty()
    }

    /// Whether a resource waits.
    pub(super) fn contains(&self, resource: &ResourceRef) -> bool {
        self.by_resource.contains_key(resource)
    }

    /// Has a resource wait, or changes its place. Returns the place that it had.
    pub(super) fn insert(&mut self, resource: ResourceRef, waiting: Waiting) -> Option<Waiting> {
        let before = self.by_resource.insert(resource, waiting.clone());
        if before.as_ref() != Some(&waiting) {
            let order = Arc::make_mut(&mut self.in_order);
            if let Some(before) = &before {
                order.remove(before);
            }
            order.insert(waiting);
        }
        before
    }

    /// Has a resource leave. Returns the place that it had.
    pub(super) fn remove(&mut self, resource: &ResourceRef) -> Option<Waiting> {
        let before = self.by_resource.remove(resource)?;
        Arc::make_mut(&mut self.in_order).remove(&before);
        Some(before)
    }

    /// Has those leave that are not to stay.
    pub(super) fn retain(&mut self, stays: impl Fn(&ResourceRef) -> bool) {
        let gone: Vec<ResourceRef> = self.by_resource.keys().filter(|resource| !stays(resource)).cloned().collect();
        for resource in &gone {
            self.remove(resource);
        }
    }

    /// The first ones in the queue.
    pub(super) fn first(&self, number: usize) -> Vec<(ResourceRef, Waiting)> {
        let last = self.in_order.iter().nth(number);
        let is_first = |waiting: &Waiting| last.is_none_or(|last| waiting < last);
        let first = self.by_resource.iter().filter(|(_, waiting)| is_first(waiting));
        first.map(|(resource, waiting)| (resource.clone(), waiting.clone())).collect()
    }
}
