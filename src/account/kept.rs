//! Collections that somebody looks after though no resource asks for them any more.

use std::sync::Arc;

use super::Account;
use crate::datafast::Collection;
use crate::lock::lock;

/// A collection that is listed as long as this is there.
#[derive(Debug)]
pub struct Kept(Arc<Account>, Collection);

impl Account {
    /// Has a collection listed until what is returned is dropped.
    pub fn keep_listed(self: &Arc<Self>, collection: &Collection) -> Kept {
        lock(&self.state).pool(collection).kept += 1;
        Kept(self.clone(), collection.clone())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(pool) = lock(&self.0.state).pools.get_mut(&self.1) {
            pool.kept -= 1;
        }
        // Nobody may ask for it now.
        self.0.reconcile();
    }
}
