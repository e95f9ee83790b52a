//! What the rules decide: one action, or nothing to do and when to reconcile again.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::local::{Asked, Local};
use super::marker::Nonce;
use super::queue::Waiting;
use super::record::{Attempt, Cause, SecretRecord};
use super::verdict::Verdict;
use crate::datafast::TokenId;

/// What is to be done about a resource now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do this, then decide again.
    Act(Action),
    /// Nothing: report this, and reconcile again later.
    Rest {
        /// What to report.
        verdict: Verdict,
        /// When to reconcile again, beside when the resource changes.
        requeue: Requeue,
    },
    /// Nothing, and nothing is to be reported either: something is under way that changes the answer in a moment.
    Pause {
        /// When to reconcile again, beside when that has ended.
        requeue: Requeue,
    },
}

impl Decision {
    /// Whether the resource keeps its place among those that wait for a slot or for the rate window: it is at work, or only
    /// waits for calls to be possible again.
    pub fn keeps_place(&self, local: &Local) -> bool {
        local.sending().is_some()
            || match self {
                Self::Rest { verdict, .. } => verdict.reason.is_closed(),
                Self::Act(_) | Self::Pause { .. } => true,
            }
    }

    /// When to reconcile again: where something is done, that tells.
    pub fn requeue(self) -> Requeue {
        match self {
            Self::Act(_) => Requeue::default(),
            Self::Rest { requeue, .. } | Self::Pause { requeue } => requeue,
        }
    }

    /// The same, and reconcile again at these times too.
    pub(super) fn also(self, other: Requeue) -> Self {
        match self {
            Self::Act(action) => Self::Act(action),
            Self::Rest { verdict, requeue } => Self::Rest { verdict, requeue: requeue.earliest(other) },
            Self::Pause { requeue } => Self::Pause { requeue: requeue.earliest(other) },
        }
    }

    /// The same, with what it is about before the message.
    pub(super) fn explained(self, about: &str) -> Self {
        match self {
            Self::Rest { verdict, requeue } => {
                let message = format!("{about} {}", verdict.message);
                Self::Rest { verdict: Verdict { message, ..verdict }, requeue }
            }
            other => other,
        }
    }
}

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put the finalizer on the resource, before anything is its own.
    AddFinalizer,
    /// Write an attempt into the resource's log (with the finalizer), and dry-run the Secret at the same time.
    Record {
        /// The attempt to write again with a new time; none: a new nonce.
        again: Option<Nonce>,
        /// [`Attempt::at`].
        at: Timestamp,
        /// Why a token is issued.
        cause: Cause,
        /// What stays in the log before it.
        keep: Vec<Attempt>,
        /// Tokens of others that the log says were taken over.
        adopted: BTreeSet<TokenId>,
        /// The token that is to get another key; none: a new token.
        rolls: Option<TokenId>,
    },
    /// Dry-run the Secret for an attempt that is in the log already.
    Preflight,
    /// Ask DataFast for the token.
    Send {
        /// Of this attempt.
        nonce: Nonce,
        /// Why.
        cause: Cause,
        /// The token that is to get another key; none: a new token.
        rolls: Option<TokenId>,
        /// Not later than this.
        by: Timestamp,
    },
    /// Forget the key that this process holds: its token stays, and gets another one.
    DropKey,
    /// Write the Secret with the key that this process holds.
    Swap {
        /// Its annotations.
        record: SecretRecord,
    },
    /// Write the Secret again with the key that is in it.
    Rewrite {
        /// Its annotations.
        record: SecretRecord,
        /// What is asked of it.
        asked: Asked,
        /// Before that, write down in the log that its token is taken over.
        adopts: Option<TokenId>,
    },
    /// Find out with one call whether the key in the Secret is that of this token.
    Prove {
        /// The token.
        token_id: TokenId,
    },
    /// Revoke a token.
    Revoke {
        /// The token.
        token_id: TokenId,
        /// Why.
        cause: RevokeCause,
    },
    /// Have the workloads that read the Secret restarted, for it has a new key.
    Restart {
        /// When it got that.
        at: Timestamp,
    },
    /// Delete the Secret.
    DeleteSecret,
    /// Take the finalizer off.
    Release,
}

impl Action {
    /// Whether it brings the resource nearer to a token, and so takes a place in its namespace's share.
    pub fn takes_place(&self) -> bool {
        match self {
            Self::Record { .. }
            | Self::Preflight
            | Self::Send { .. }
            | Self::Swap { .. }
            | Self::Rewrite { .. }
            | Self::Prove { .. } => true,
            // Whatever there is keeps its finalizer: an attempt that somebody made up, too.
            Self::AddFinalizer
            | Self::DropKey
            | Self::Revoke { .. }
            | Self::Restart { .. }
            | Self::DeleteSecret
            | Self::Release => false,
        }
    }
}

/// Why a token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokeCause {
    /// Its attempt was lost: no Secret ever held its key.
    LostAttempt,
    /// Its key could not be written to the Secret.
    Undeliverable,
    /// Another token took its place, and its overlap has passed.
    Retired,
    /// Another token took its place because a user asked for this one to go.
    RevokeNow,
    /// The account had no room for it beside its successor.
    MadeRoom,
    /// `expiresAfter` has passed.
    Expired,
    /// Nobody used it for `whenUnused.after`.
    Unused,
    /// The resource is being deleted.
    Deleted,
}

impl RevokeCause {
    /// The word in logs, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostAttempt => "LostAttempt",
            Self::Undeliverable => "Undeliverable",
            Self::Retired => "Retired",
            Self::RevokeNow => "RevokeNow",
            Self::MadeRoom => "MadeRoom",
            Self::Expired => "Expired",
            Self::Unused => "Unused",
            Self::Deleted => "Deleted",
        }
    }
}

/// When to reconcile the resource again, beside when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requeue {
    /// At this time.
    pub at: Option<Timestamp>,
    /// When a list that began at or after this time is there.
    pub list: Option<Timestamp>,
    /// At the next list, whatever it shows.
    pub next_list: bool,
    /// When the account's state changes: its availability, its tokens, its slots, what it allows.
    pub account_changes: bool,
    /// When a slot is free, after those that are served first.
    pub slot: Option<Waiting>,
    /// When the rate window has room, after those that are served first.
    pub window: Option<Waiting>,
}

impl Requeue {
    pub(super) fn earliest(self, other: Self) -> Self {
        let min = |a: Option<Timestamp>, b: Option<Timestamp>| a.into_iter().chain(b).min();
        Self {
            at: min(self.at, other.at),
            list: min(self.list, other.list),
            next_list: self.next_list || other.next_list,
            account_changes: self.account_changes || other.account_changes,
            slot: self.slot.or(other.slot),
            window: self.window.or(other.window),
        }
    }

    pub(super) fn at(at: Timestamp) -> Self {
        Self { at: Some(at), ..Self::default() }
    }

    pub(super) fn list(after: Timestamp) -> Self {
        Self { list: Some(after), ..Self::default() }
    }

    pub(super) fn next_list() -> Self {
        Self { next_list: true, ..Self::default() }
    }

    pub(super) fn on_account_change() -> Self {
        Self { account_changes: true, ..Self::default() }
    }
}
