//! All there is at one time: the resource, its Secret, DataFast, the operators, and what may still happen.

use std::collections::BTreeSet;

use datafast_operator::lifecycle::decision::RevokeCause;
use datafast_operator::lifecycle::local::Local;
use datafast_operator::lifecycle::record::{Attempt, Cause, Log, Request, Requests, SecretRecord};
use jiff::Timestamp;

use super::names::{N, number, number_of};
use super::shared::{Object, Shared};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    pub(super) log: Log,
    pub(super) has_finalizer: bool,
    pub(super) deleting: bool,
    pub(super) scope_changed: bool,
    /// Its token gets other keys, rather than others its place.
    pub(super) rolls: bool,
    pub(super) requests: Requests,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Status {
    pub(super) token: Option<N>,
    pub(super) retiring: BTreeSet<N>,
    pub(super) ready: bool,
    pub(super) rotate_request: Option<Request>,
    pub(super) unused_since: Option<Timestamp>,
}

/// What a token is asked for with.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Order {
    pub(super) scope_changed: bool,
    pub(super) rotate: bool,
    pub(super) revoke_now: bool,
    /// Not a token, but another key for this one.
    pub(super) rolls: Option<N>,
}

impl Order {
    pub(super) fn of(resource: &Resource, rolls: Option<N>) -> Self {
        let Requests { rotate, revoke_now } = &resource.requests;
        let (rotate, revoke_now) = (rotate.is_some(), revoke_now.is_some());
        Self { scope_changed: resource.scope_changed, rotate, revoke_now, rolls }
    }

    /// The token whose key attempt `n` brings.
    pub(super) fn token(&self, n: N) -> N {
        self.rolls.unwrap_or(n)
    }

    pub(super) fn requests(&self) -> Requests {
        let asked = |is_asked: bool| if is_asked { Request::parse("please") } else { None };
        Requests { rotate: asked(self.rotate), revoke_now: asked(self.revoke_now) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Secret {
    pub(super) key: N,
    pub(super) record: SecretRecord,
}

impl Secret {
    pub(super) fn token(&self) -> Option<N> {
        self.record.token_id.as_ref().map(number_of)
    }
}

/// A token at DataFast.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Remote {
    pub(super) n: N,
    pub(super) listed: bool,
    pub(super) scope_changed: bool,
    /// All keys that it ever had, the live one last.
    pub(super) keys: Vec<N>,
    /// Which of them the list shows.
    pub(super) shown: usize,
    /// It was used, and the list tells so.
    pub(super) is_used: bool,
}

impl Remote {
    pub(super) fn new(n: N, listed: bool, order: &Order) -> Self {
        Self { n, listed, scope_changed: order.scope_changed, keys: vec![n], shown: 0, is_used: false }
    }

    pub(super) fn live_key(&self) -> Option<N> {
        self.keys.last().copied()
    }

    pub(super) fn lags(&self) -> bool {
        self.shown + 1 < self.keys.len()
    }
}

/// One operator process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Operator {
    pub(super) up: bool,
    pub(super) known: Shared<Known>,
    /// The last dry run of the Secret was refused.
    pub(super) is_refused: bool,
    /// What it is about to do, by which versions of resource and Secret.
    pub(super) plan: Option<(Shared<Plan>, Option<u8>, Option<u8>)>,
}

/// What it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Known {
    /// Changed by events alone, as in the operator itself.
    pub(super) local: Local,
    pub(super) issued: BTreeSet<(N, bool)>,
    pub(super) revoked: BTreeSet<N>,
    /// Tokens and the keys that they got.
    pub(super) rolled: BTreeSet<(N, N)>,
}

impl Operator {
    pub(super) fn started() -> Self {
        Self { up: true, ..Self::default() }
    }

    pub(super) fn in_flight(&self) -> Option<N> {
        self.known.local.sending().map(number)
    }

    pub(super) fn unsent(&self) -> Option<N> {
        self.known.local.to_send().map(number)
    }

    pub(super) fn held(&self) -> Option<N> {
        self.known.local.pending().map(|held| number(&held.nonce))
    }

    /// Lists tell of this token from now on: whether it is there.
    pub(super) fn leaves_to_lists(&mut self, n: N) {
        if self.known.issued.iter().any(|(issued, _)| *issued == n) {
            self.known.issued.retain(|(issued, _)| *issued != n);
        }
    }

    /// Lists tell all that came of this attempt.
    pub(super) fn leaves_all_to_lists(&mut self, n: N) {
        self.leaves_to_lists(n);
        if self.known.revoked.contains(&n) || self.known.rolled.iter().any(|(_, key)| *key == n) {
            self.known.rolled.retain(|(_, key)| *key != n);
            self.known.revoked.remove(&n);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Plan {
    Record { again: Option<N>, cause: Cause, keep: Vec<Attempt>, rolls: Option<N> },
    Send(N, Option<N>),
    Preflight,
    DropKey,
    Swap(Box<SecretRecord>),
    Rewrite(Box<SecretRecord>),
    AddFinalizer,
    Revoke(N, RevokeCause),
    DeleteSecret,
    Release,
    Mirror(Status),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Budget {
    pub(super) crash: u8,
    pub(super) lost_answer: u8,
    pub(super) secret_deleted: u8,
    pub(super) token_deleted: u8,
    pub(super) scope_change: u8,
    pub(super) deletion: u8,
    pub(super) lease_lost: u8,
    /// Times that an operator takes so long that an attempt is past the horizon before it is sent.
    pub(super) slow: u8,
    pub(super) rotate: u8,
    pub(super) revoke_now: u8,
    pub(super) rolled_by_hand: u8,
    pub(super) strategy_change: u8,
    pub(super) used: u8,
    /// Times that a policy refuses Secrets with a new key, for a while.
    pub(super) refusal: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) resource: Option<Object<Resource>>,
    pub(super) secret: Option<Object<Secret>>,
    /// Secrets with a new key are refused.
    pub(super) refuses_keys: bool,
    pub(super) remote: Shared<BTreeSet<Remote>>,
    pub(super) operators: [Operator; 2],
    /// Requests under way: by whom, for which attempt.
    pub(super) posts: Shared<BTreeSet<(usize, N, Order)>>,
    pub(super) active: [bool; 2],
    pub(super) next: N,
    pub(super) budget: Shared<Budget>,
    pub(super) harm: Harm,
}

/// What must not happen, and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Harm {
    pub(super) live_token_revoked: bool,
    /// A token was revoked within its overlap though nobody asked for any to go at once.
    pub(super) revoked_early: bool,
    /// Two requests of one attempt took effect.
    pub(super) made_twice: bool,
    /// An operator forgot a key that it had, that works, and whose attempt is current.
    pub(super) key_dropped: bool,
    /// A key was asked for though the Secret was just refused.
    pub(super) asked_in_vain: bool,
}

impl World {
    /// Changes a token at DataFast. Whether there is such a one.
    pub(super) fn change(&mut self, n: N, change: impl FnOnce(&mut Remote)) -> bool {
        let Some(mut token) = self.remote.iter().find(|t| t.n == n).cloned() else { return false };
        self.remote.remove(&token);
        change(&mut token);
        self.remote.insert(token);
        true
    }

    /// What a request does that takes effect. Whether it does something.
    pub(super) fn takes_effect(&mut self, n: N, listed: bool, order: &Order) -> bool {
        self.harm.made_twice |= self.remote.iter().any(|token| token.keys.contains(&n));
        match order.rolls {
            None => self.remote.insert(Remote::new(n, listed, order)),
            Some(rolled) => self.change(rolled, |token| {
                token.keys.push(n);
                if listed {
                    token.shown = token.keys.len() - 1;
                }
            }),
        }
    }

    /// Whether the Secret holds the live key of a token.
    pub(super) fn is_in_use(&self, n: N) -> bool {
        let live = self.remote.iter().find(|t| t.n == n).and_then(Remote::live_key);
        self.secret.as_ref().is_some_and(|secret| secret.token() == Some(n) && Some(secret.key) == live)
    }

    pub(super) fn writes(&self) -> u8 {
        self.resource.as_ref().map_or(0, |r| r.version).max(self.secret.as_ref().map_or(0, |s| s.version))
    }
}
