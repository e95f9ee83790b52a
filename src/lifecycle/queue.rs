//! Who gets what an account has too little of: slots, and calls of its rate window.

use std::collections::BTreeSet;
use std::sync::Arc;

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

/// A resource that waits, in the order in which they are served: by priority, then by how long it has waited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiting {
    /// Who goes first.
    pub priority: Priority,
    /// Since when it has waited.
    pub since: Timestamp,
    /// The resource: of two that began to wait in the same second, always the same one goes first.
    pub owner: OwnerId,
}

/// So many are told their place. Beyond, a place that moves changes nothing for its resource.
pub const MOST_PLACES: usize = 10;

/// Those that wait, in order. A copy is cheap.
pub type InOrder = Arc<BTreeSet<Waiting>>;

/// How many others are served before `waiting`, up to a little more than [`MOST_PLACES`] and `free`.
fn ahead_of(queue: &InOrder, waiting: &Waiting, free: i64) -> usize {
    let enough = usize::try_from(free.max(0)).unwrap_or(0) + MOST_PLACES + 1;
    queue.range(..waiting).filter(|other| other.owner != waiting.owner).take(enough).count()
}

/// A place in a queue, for people: beyond the first ones no number is told, for it would change all the time.
pub fn place(ahead: usize) -> String {
    if ahead < MOST_PLACES { format!("place {} in the queue", ahead + 1) } else { "more than 10 are ahead".into() }
}

/// The slots of an account, as its resources see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// How many are left.
    pub free: i64,
    /// Those that wait for one.
    pub queue: InOrder,
    /// DataFast's own limit is below the account resource's, and known: what is free by it is free.
    pub is_learnt: bool,
}

impl Slots {
    /// How many others are served before this one.
    pub fn ahead_of(&self, waiting: &Waiting) -> usize {
        ahead_of(&self.queue, waiting, self.free)
    }
}

/// An account's rate window, as those see it that are about to begin an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateWindow {
    /// For how many more attempts it has room.
    pub room: i64,
    /// When there is more.
    pub until: Timestamp,
    /// Those that wait for that.
    pub queue: InOrder,
}

impl RateWindow {
    /// How many others are served before this one, where it has to wait.
    pub fn makes_wait(&self, waiting: &Waiting) -> Option<usize> {
        let ahead = ahead_of(&self.queue, waiting, self.room);
        (!i64::try_from(ahead).is_ok_and(|ahead| ahead < self.room)).then_some(ahead)
    }
}
