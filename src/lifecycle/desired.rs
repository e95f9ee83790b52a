//! What the spec of a resource and its annotations ask for.

use jiff::{SignedDuration, Timestamp};

use super::record::{Requests, Scope};
use super::windows::Windows;

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What the token may do.
    pub scope: Scope,
    /// How the token is replaced.
    pub rotation: Rotation,
    /// When a rotation may begin.
    pub windows: Windows,
    /// What users ask for by annotation.
    pub requests: Requests,
    /// When token and Secret end for good.
    pub expiry: Option<Expiry>,
    /// What is done about a token that nobody uses.
    pub when_unused: Option<WhenUnused>,
    /// Whether workloads are to be restarted after each new key.
    pub restarts: bool,
    /// Leave token and Secret when the resource goes.
    pub retain: bool,
    /// Change nothing.
    pub suspended: bool,
    /// What of the spec this version of the operator can't read; none: nothing.
    pub unreadable: Option<Unreadable>,
    /// The resource is being deleted.
    pub deleting: bool,
    /// At deletion, release the resource without DataFast.
    pub abandon: bool,
}

/// When a token is replaced by a new one, and how long the old one stays.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// This long after it was issued at the latest, and a little sooner for each resource its own:
    /// [`super::observed::Observed::due`].
    pub every: Option<SignedDuration>,
    /// How long a replaced token stays valid after the swap.
    pub overlap: SignedDuration,
    /// Where set, a replaced token that is used after the swap stays until this long after it.
    pub max_overlap: Option<SignedDuration>,
    /// Where the account has no room for both, the old token goes first.
    pub revoke_first: bool,
    /// The token stays, and gets another key; its old one ends at once.
    pub rolls: bool,
}

/// What of a spec this version of the operator can't read: a later one's CRD has let it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The field and its value, for people.
    pub what: String,
    /// Whether it may say what becomes of token and Secret when the resource goes.
    pub is_about_the_end: bool,
}

/// What is done about a token that nobody uses.
#[derive(Clone, Debug)]
pub struct WhenUnused {
    /// The resource was created at this time. A key that is older was taken over, and counts from then.
    pub created: Timestamp,
    /// This long after its last use.
    pub after: SignedDuration,
    /// It is revoked, and not only told of.
    pub revoke: bool,
}

/// When a resource's token and Secret end for good.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// The resource was created at this time,
    pub created: Timestamp,
    /// and this much later it is over.
    pub after: SignedDuration,
}

impl Expiry {
    /// When it is over.
    pub fn at(&self) -> Timestamp {
        self.created.saturating_add(self.after).unwrap_or(Timestamp::MAX)
    }
}
