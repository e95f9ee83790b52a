//! Who gets the next free slot of an account.

use jiff::Timestamp;

use super::marker::OwnerId;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// One whose token was revoked to make room.
    MadeRoom,
    /// One that replaces a token which works.
    Rotation,
    /// One that has none.
    New,
}

/// A resource that waits for a slot, in the order in which they are served: by priority, then by how long it has waited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiting {
    /// Who goes first.
    pub priority: Priority,
    /// Since when it has waited.
    pub since: Timestamp,
    /// The resource: of two that began to wait in the same second, always the same one goes first.
    pub owner: OwnerId,
}

/// The slots of an account, as one resource sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// How many are left.
    pub free: i64,
    /// The others that wait for one.
    pub others: Vec<Waiting>,
}

impl Slots {
    /// How many others are served before this one.
    pub fn ahead_of(&self, waiting: &Waiting) -> usize {
        self.others.iter().filter(|other| *other < waiting).count()
    }
}
