//! Parts of a world that many worlds share: a step changes one or two of them, and all others stay as they are.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A part, with its hash once somebody has asked for it. It is copied when it is changed.
#[derive(Debug, Default)]
pub(super) struct Shared<T>(Arc<Hashed<T>>);

#[derive(Debug, Default)]
struct Hashed<T> {
    value: T,
    /// 0: not known yet.
    hash: AtomicU64,
}

impl<T: Hash> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Hashed { value, hash: AtomicU64::new(0) }))
    }

    fn hashed(&self) -> u64 {
        match self.0.hash.load(Ordering::Relaxed) {
            0 => {
                let mut hasher = DefaultHasher::new();
                self.0.value.hash(&mut hasher);
                let hash = hasher.finish().max(1);
                self.0.hash.store(hash, Ordering::Relaxed);
                hash
            }
            hash => hash,
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hashed());
    }
}

impl<T: Hash + PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.hashed() == other.hashed() && self.0.value == other.0.value
    }
}

impl<T: Hash + Eq> Eq for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone + Hash> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::new(self.0.value.clone());
        }
        let hashed = Arc::get_mut(&mut self.0).unwrap();
        *hashed.hash.get_mut() = 0;
        &mut hashed.value
    }
}

/// An object of the cluster, with the version by which a write to one that has changed is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object<T: Hash> {
    pub(super) version: u8,
    pub(super) content: Shared<T>,
}

impl<T: Hash> Object<T> {
    /// As it is after its first write.
    pub(super) fn new(content: T) -> Self {
        Self { version: 1, content: Shared::new(content) }
    }
}

impl<T: Hash> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

impl<T: Clone + Hash> DerefMut for Object<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.content
    }
}
