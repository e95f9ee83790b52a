//! A resource as the rules see it: what is wanted, what is seen, and what follows from both.

use jiff::Timestamp;

use super::decide::{Action, DENIED_AGAIN, Decision, Wake};
use super::holding::Holding;
use super::observed::{Desired, Gate, Observed};
use super::record::Cause;
use super::snapshot::Listed;
use super::verdict::{Reason, Verdict};
use crate::datafast::TokenId;

/// A resource as the rules see it.
pub(super) struct Look<'a> {
    pub(super) desired: &'a Desired,
    pub(super) seen: &'a Observed<'a>,
    pub(super) now: Timestamp,
    pub(super) holding: Holding<'a>,
    /// The Secret's key is good, as far as can be told.
    pub(super) works: bool,
    pub(super) need: Option<Cause>,
}

impl<'a> Look<'a> {
    pub(super) fn new(desired: &'a Desired, seen: &'a Observed<'a>, now: Timestamp) -> Self {
        let holding = seen.holding(&desired.scope);
        let works = match &holding {
            Holding::Live(_) => true,
            Holding::Unconfirmed(_) | Holding::Unproven(_) => seen.status.ready,
            Holding::Nothing | Holding::Foreign(_) | Holding::Vanished => false,
        };
        let need = need(&holding, desired, seen);
        Self { desired, seen, now, holding, works, need }
    }

    pub(super) fn verdict(&self, reason: Reason, message: impl Into<String>) -> Verdict {
        Verdict::new(reason, self.works, message)
    }

    /// The live token whose key the Secret holds.
    pub(super) fn listed(&self) -> Option<&'a Listed> {
        match self.holding {
            Holding::Live(listed) => Some(listed),
            _ => None,
        }
    }

    pub(super) fn act(&self, action: Action) -> Option<Decision> {
        let verdict = self.verdict(Reason::Issuing, "At work");
        Some(Decision { action, verdict, wake: Wake::default() })
    }

    pub(super) fn wait(&self, reason: Reason, message: impl Into<String>, wake: Wake) -> Option<Decision> {
        Some(Decision { action: Action::Rest, verdict: self.verdict(reason, message), wake })
    }

    /// The token whose key the Secret holds, or may hold.
    pub(super) fn current(&self) -> Option<&TokenId> {
        match &self.holding {
            Holding::Live(listed) | Holding::Unproven(listed) => Some(&listed.token.id),
            Holding::Unconfirmed(id) => *id,
            Holding::Nothing | Holding::Foreign(_) | Holding::Vanished => None,
        }
    }

    /// Why no call to DataFast is possible now, if so.
    pub(super) fn closed(&self) -> Option<Decision> {
        let account = self.seen.names.account;
        match &self.seen.account.gate {
            Gate::Open => None,
            Gate::Connecting => {
                let verdict = self.verdict(Reason::Issuing, "Waiting for the account's first list");
                Some(Decision { action: Action::Pause, verdict, wake: Wake::account() })
            }
            Gate::NotFound => {
                self.wait(Reason::AccountNotFound, format!("There is no DataFastAccount {account:?}"), Wake::account())
            }
            Gate::NotReady(why) => {
                let message = format!("DataFastAccount {account:?} is not ready: {why}");
                self.wait(Reason::AccountNotReady, message, Wake::account())
            }
            // No times here: they change with each try, and every resource of the account would be written again.
            Gate::RateLimited => {
                let message =
                    format!("DataFast limits the rate of calls: those of account {account:?} go on by themselves");
                self.wait(Reason::RateLimited, message, Wake::account())
            }
            Gate::Unavailable(why) => {
                let message = format!("DataFast can't be used now ({why}): calls go on by themselves");
                self.wait(Reason::ApiUnavailable, message, Wake::account())
            }
        }
    }

    /// Whether DataFast lately said 404 for a token that its list may still show.
    pub(super) fn denied(&self, id: &TokenId) -> Option<Wake> {
        let at = *self.seen.local.denied.get(id)?;
        let listed_since = self.seen.account.snapshot.is_some_and(|s| s.begun() >= at);
        let again = at.saturating_add(DENIED_AGAIN).unwrap_or(Timestamp::MAX);
        match listed_since {
            false => Some(Wake::list(at)),
            true if self.now < again => Some(Wake::at(again)),
            true => None,
        }
    }
}

fn need(holding: &Holding<'_>, desired: &Desired, seen: &Observed<'_>) -> Option<Cause> {
    match holding {
        Holding::Nothing => {
            let had_one = seen.status.token_id.is_some() || seen.secret_record().is_some();
            Some(if had_one { Cause::KeyLost } else { Cause::New })
        }
        Holding::Vanished => Some(Cause::Vanished),
        Holding::Live(listed) => scope_changed(listed, desired, seen).then_some(Cause::ScopeChanged),
        Holding::Foreign(_) | Holding::Unconfirmed(_) | Holding::Unproven(_) => None,
    }
}

/// By the hash of what was asked for, so that a DataFast which answers with another scope than was asked is not asked
/// again for ever. Where the hash was edited or dropped, the token itself can still say that it is right.
fn scope_changed(listed: &Listed, desired: &Desired, seen: &Observed<'_>) -> bool {
    let hash = seen.secret_record().and_then(|record| record.spec_hash.as_deref());
    let name_fits = || {
        let name = listed.token.name.as_deref().unwrap_or_default();
        listed.marker.as_ref().is_none_or(|marker| marker.name(&desired.scope.token_name) == name)
    };
    hash != Some(&desired.scope.hash()) && !(desired.scope.allows_as_is(&listed.token) && name_fits())
}

pub(super) fn desired_scope_fits(look: &Look<'_>, listed: &Listed) -> bool {
    look.desired.scope.allows_as_is(&listed.token)
}
