//! The judgement: one resource, as wanted and as seen, and the next thing to do about it.
//!
//! [`RULES`] reads as a table of contents. The first rule that has something to say decides.

use jiff::{SignedDuration, Timestamp};

use super::marker::Nonce;
use super::observed::{Desired, Gate, Held, Holding, Observed, Preflight, SecretView, Unsent};
use super::record::{Attempt, Cause, Previous, SecretRecord};
use super::snapshot::Listed;
use super::verdict::{Reason, Verdict};
use super::{ending, throttle};
use crate::datafast::TokenId;

/// A key that no Secret took for this long is given up, and its token revoked.
pub const UNDELIVERABLE: SignedDuration = SignedDuration::from_mins(5);
/// DataFast says 404 for a token that its list shows: asked again this much later.
pub const DENIED_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, but to say so.
    Rest,
    /// Nothing, not even to say anything: what is the case will be known in a moment.
    Pause,
    /// Put the finalizer on the resource, before anything is its own.
    Claim,
    /// Write an attempt into the resource's log (with the finalizer), and dry-run the Secret at the same time.
    Record {
        /// The attempt to write again with a new time; none: a new nonce.
        again: Option<Nonce>,
        /// Why a token is issued.
        cause: Cause,
        /// What stays in the log before it.
        keep: Vec<Attempt>,
    },
    /// Dry-run the Secret for an attempt that is in the log already.
    Preflight,
    /// Ask DataFast for the token.
    Send {
        /// Of this attempt.
        nonce: Nonce,
        /// Why.
        cause: Cause,
    },
    /// Write the Secret with the key that this process holds.
    Swap {
        /// Its annotations.
        record: SecretRecord,
    },
    /// Write the Secret again with the key that is in it.
    Rewrite {
        /// Its annotations.
        record: SecretRecord,
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
    /// Delete the Secret.
    DeleteSecret,
    /// Take the finalizer off.
    Release,
}

/// Why a token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokeCause {
    /// Its attempt was lost: no Secret ever held its key.
    LostAttempt,
    /// Its key could not be written to the Secret.
    Undeliverable,
    /// Another token took its place.
    Retired,
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
            Self::Deleted => "Deleted",
        }
    }
}

/// When to look at the resource again, beside when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// At this time.
    pub at: Option<Timestamp>,
    /// When a list that began at or after this time is there.
    pub list: Option<Timestamp>,
    /// At the next list, or when the account's state changes.
    pub account: bool,
}

impl Wake {
    fn earliest(self, other: Self) -> Self {
        let min = |a: Option<Timestamp>, b: Option<Timestamp>| a.into_iter().chain(b).min();
        Self { at: min(self.at, other.at), list: min(self.list, other.list), account: self.account || other.account }
    }

    pub(super) fn at(at: Timestamp) -> Self {
        Self { at: Some(at), ..Self::default() }
    }

    pub(super) fn list(after: Timestamp) -> Self {
        Self { list: Some(after), ..Self::default() }
    }

    pub(super) fn account() -> Self {
        Self { account: true, ..Self::default() }
    }
}

/// What to do, what to say, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do now.
    pub action: Action,
    /// What to say where that is nothing, or fails.
    pub verdict: Verdict,
    /// When to look again where that is nothing.
    pub wake: Wake,
}

/// A resource as the rules see it.
pub(super) struct Look<'a> {
    pub(super) desired: &'a Desired,
    pub(super) seen: &'a Observed<'a>,
    pub(super) now: Timestamp,
    pub(super) holding: Holding<'a>,
    /// The Secret's key is good, as far as can be told.
    works: bool,
    need: Option<Cause>,
}

type Rule = fn(&Look) -> Option<Decision>;

/// In this order: what was begun is finished, then what is in excess goes, then what is missing comes.
const RULES: [Rule; 8] =
    [request_under_way, key_held, suspended, superseded_tokens, foreign_secret, adoption, token_needed, drift];

/// Decides what to do next about a resource. `now` must not be earlier than any time in `seen` that this process wrote.
pub fn decide(desired: &Desired, seen: &Observed<'_>, now: Timestamp) -> Decision {
    let look = Look::new(desired, seen, now);
    if desired.deleting {
        return ending::decide(&look);
    }
    let mut decision = RULES.iter().find_map(|rule| rule(&look)).unwrap_or_else(|| settled(&look));
    decision.wake = decision.wake.earliest(next_retirement(&look));
    decision
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

    fn act(&self, action: Action) -> Option<Decision> {
        let verdict = self.verdict(Reason::Issuing, "At work");
        Some(Decision { action, verdict, wake: Wake::default() })
    }

    fn wait(&self, reason: Reason, message: impl Into<String>, wake: Wake) -> Option<Decision> {
        Some(Decision { action: Action::Rest, verdict: self.verdict(reason, message), wake })
    }

    /// The token whose key the Secret holds, or may hold.
    fn current(&self) -> Option<&TokenId> {
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

fn request_under_way(look: &Look<'_>) -> Option<Decision> {
    look.seen.local.in_flight.as_ref()?;
    look.wait(Reason::Issuing, "Waiting for DataFast's answer", Wake::default())
}

fn key_held(look: &Look<'_>) -> Option<Decision> {
    let held = look.seen.local.held.as_ref()?;
    let give_up_at = held.since.saturating_add(UNDELIVERABLE).unwrap_or(Timestamp::MAX);
    let superseded = look.seen.log.current().is_none_or(|current| current.nonce != held.nonce);
    if superseded || look.now >= give_up_at {
        let revoke = Action::Revoke { token_id: held.token_id.clone(), cause: RevokeCause::Undeliverable };
        return look.closed().or_else(|| look.act(revoke));
    }
    if let Holding::Foreign(why) = &look.holding {
        return look.wait(Reason::SecretConflict, conflict(look, why), Wake::at(give_up_at));
    }
    match held.refused.as_ref().filter(|refused| look.now < refused.retry_at) {
        Some(refused) => look.wait(
            Reason::SecretWriteRefused,
            format!(
                "Secret {:?} could not be written, and its key is kept until it is: {}",
                look.seen.names.secret, refused.message
            ),
            Wake::at(refused.retry_at.min(give_up_at)),
        ),
        None => look.act(Action::Swap { record: swapped(look, held) }),
    }
}

fn suspended(look: &Look<'_>) -> Option<Decision> {
    look.desired
        .suspended
        .then(|| look.wait(Reason::Suspended, "spec.suspend is true: nothing is changed", Wake::default()))?
}

/// Revokes lost tokens at once and retired ones when their overlap has passed.
fn superseded_tokens(look: &Look<'_>) -> Option<Decision> {
    let (listed, standing) = in_excess(look).find(|(listed, standing)| {
        let is_due = match standing {
            Standing::Lost => true,
            Standing::Retired(until) => until.is_some_and(|until| look.now >= until),
        };
        is_due && look.denied(&listed.token.id).is_none()
    })?;
    if look.closed().is_some() {
        return None;
    }
    let is_current = look.seen.log.current().is_some_and(|c| look.seen.attempt_of(listed) == Some(&c.nonce));
    match (standing, is_current, look.need) {
        // The new entry keeps another leader that may hold this key from writing it: its attempt is no longer current.
        (Standing::Lost, true, Some(cause)) => look.act(record(look, None, cause)),
        (Standing::Lost, ..) => look.act(revoke(listed, RevokeCause::LostAttempt)),
        (Standing::Retired(_), ..) => look.act(revoke(listed, RevokeCause::Retired)),
    }
}

fn revoke(listed: &Listed, cause: RevokeCause) -> Action {
    Action::Revoke { token_id: listed.token.id.clone(), cause }
}

/// What a token of ours is that the Secret does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No Secret ever held its key.
    Lost,
    /// Another took its place; it goes at this time, or, where that is not known yet, after the next swap.
    Retired(Option<Timestamp>),
}

/// Our tokens that the Secret does not hold.
fn in_excess<'a>(look: &'a Look<'a>) -> impl Iterator<Item = (&'a Listed, Standing)> {
    let held = look.seen.local.held.as_ref().map(|h| &h.token_id);
    // Where the Secret names no token that can be told, any of ours may be the one in it.
    let unclear = matches!(look.holding, Holding::Unconfirmed(None));
    let mine = look.seen.own_tokens().filter(move |_| !unclear);
    mine.filter(move |listed| {
        let id = &listed.token.id;
        look.current() != Some(id) && held != Some(id)
    })
    .map(|listed| (listed, standing(look, listed)))
}

fn standing(look: &Look<'_>, listed: &Listed) -> Standing {
    let seen = look.seen;
    match (replaced_at(look, listed), seen.status.names(&listed.token.id)) {
        (None, false) => Standing::Lost,
        // No Secret has its key any more, but consumers may. It goes first only where another has no room beside it,
        // and not before that other one can be issued.
        (None, true) if look.need == Some(Cause::KeyLost) => {
            let in_the_way = !seen.status.retiring.is_empty() || has_no_slot(look);
            Standing::Retired((in_the_way && may_send(look)).then_some(look.now))
        }
        (since, _) => {
            let since = since.or_else(|| look.works.then(|| seen.secret_record()?.issued_at)?);
            Standing::Retired(since.map(|at| at.saturating_add(look.desired.overlap).unwrap_or(Timestamp::MAX)))
        }
    }
}

/// Since when the Secret has held another token than this one, by its record.
fn replaced_at(look: &Look<'_>, listed: &Listed) -> Option<Timestamp> {
    let nonce = look.seen.attempt_of(listed).map(Nonce::as_str);
    let is_it = |p: &&Previous| Some(p.token.as_str()) == nonce || p.token == listed.token.id.as_str();
    look.seen.secret_record()?.previous.iter().find(is_it).map(|p| p.since)
}

fn next_retirement(look: &Look<'_>) -> Wake {
    let waits = in_excess(look).filter_map(|(_, standing)| match standing {
        Standing::Retired(Some(at)) if at > look.now => Some(Wake::at(at)),
        Standing::Retired(None) => None,
        // Due, and not revoked: the account is closed, or denied it.
        Standing::Lost | Standing::Retired(Some(_)) => Some(Wake::account()),
    });
    let denied = look.seen.own_tokens().filter_map(|listed| look.denied(&listed.token.id));
    waits.chain(denied).fold(Wake::default(), Wake::earliest)
}

/// Tokens that the Secret held before and that are still there, with the times at which they go.
pub(super) fn retiring<'a>(look: &'a Look<'a>) -> impl Iterator<Item = (&'a Listed, Option<Timestamp>)> {
    in_excess(look).filter_map(|(listed, standing)| match standing {
        Standing::Retired(until) => Some((listed, until)),
        Standing::Lost => None,
    })
}

fn conflict(look: &Look<'_>, why: &str) -> String {
    let name = look.seen.names.secret;
    format!(
        "Secret {name:?} exists and is left as it is, for {why}. Delete or rename that Secret, or create this resource with another spec.secret.name"
    )
}

fn foreign_secret(look: &Look<'_>) -> Option<Decision> {
    let Holding::Foreign(why) = &look.holding else { return None };
    // Secrets that are not ours are not watched; a look now and then finds it gone.
    let again = look.now.saturating_add(SignedDuration::from_secs(30)).unwrap_or(Timestamp::MAX);
    let wake = Wake { at: Some(again), account: true, list: None };
    look.wait(Reason::SecretConflict, conflict(look, why), wake)
}

fn adoption(look: &Look<'_>) -> Option<Decision> {
    let Holding::Unproven(listed) = &look.holding else { return None };
    if !look.seen.claimed {
        return look.act(Action::Claim);
    }
    if look.seen.proven(&listed.token.id) {
        return look.act(Action::Rewrite { record: wanted_record(look, listed)? });
    }
    let prove = Action::Prove { token_id: listed.token.id.clone() };
    look.closed().or_else(|| look.act(prove))
}

fn token_needed(look: &Look<'_>) -> Option<Decision> {
    let cause = look.need?;
    look.closed()
        .or_else(|| no_slot(look))
        .or_else(|| rejected(look))
        .or_else(|| throttled(look, cause))
        .or_else(|| issue(look, cause))
}

fn has_no_slot(look: &Look<'_>) -> bool {
    look.seen.account.free.is_some_and(|free| free <= 0)
}

fn no_slot(look: &Look<'_>) -> Option<Decision> {
    let account = look.seen.names.account;
    // A token whose key is lost makes room for its successor.
    let makes_room = look.need == Some(Cause::KeyLost) && retiring(look).next().is_some();
    if !has_no_slot(look) || makes_room {
        return None;
    }
    let message =
        format!("DataFastAccount {account:?} has no free slot: it goes on when a token of the account is deleted");
    look.wait(Reason::WaitingForSlot, message, Wake::account())
}

fn rejected(look: &Look<'_>) -> Option<Decision> {
    let rejected = look.seen.local.rejected.as_ref()?;
    if rejected.spec_hash != look.desired.scope.hash() || look.now >= rejected.retry_at {
        return None;
    }
    let message =
        format!("DataFast refused the request: {:?}. Correct spec, or the account's credential", rejected.message);
    look.wait(Reason::Rejected, message, Wake::at(rejected.retry_at))
}

fn throttled(look: &Look<'_>, cause: Cause) -> Option<Decision> {
    if !matches!(cause, Cause::KeyLost | Cause::Vanished) {
        return None;
    }
    let mut issued = look.seen.log.clone();
    // An attempt that made no token is no reason to wait.
    issued.0.retain(|a| look.seen.local.unsent.as_ref().is_none_or(|unsent| unsent.nonce != a.nonce));
    let at = throttle::not_before(&issued, look.now)?;
    let message = format!(
        "Its token was deleted or its Secret was changed again and again: the next is issued at {at:.0}. Find out what does that"
    );
    look.wait(Reason::Throttled, message, Wake::at(at))
}

/// The attempt that is recorded as the current one and has made no token.
fn unsent<'a>(look: &Look<'a>) -> Option<(&'a Unsent, &'a Attempt)> {
    let unsent = look.seen.local.unsent.as_ref()?;
    let current = look.seen.log.current().filter(|current| current.nonce == unsent.nonce)?;
    Some((unsent, current))
}

/// Whether nothing is left to do but to send the request.
fn may_send(look: &Look<'_>) -> bool {
    let held_up = |cause| rejected(look).or_else(|| throttled(look, cause)).is_some();
    let is_ready =
        |(unsent, current): (&Unsent, &Attempt)| unsent.preflight == Preflight::Passed && is_fresh(look, current);
    unsent(look).is_some_and(is_ready) && !look.need.is_some_and(held_up)
}

fn issue(look: &Look<'_>, cause: Cause) -> Option<Decision> {
    let Some((unsent, _)) = unsent(look) else {
        return look.act(record(look, None, cause));
    };
    match &unsent.preflight {
        Preflight::Refused(refused) if look.now < refused.retry_at => {
            let name = look.seen.names.secret;
            let message = format!("Secret {name:?} would be refused, so no token is issued: {}", refused.message);
            look.wait(Reason::SecretWriteRefused, message, Wake::at(refused.retry_at))
        }
        Preflight::Refused(_) | Preflight::Unknown => look.act(Action::Preflight),
        Preflight::Passed if may_send(look) => look.act(Action::Send { nonce: unsent.nonce.clone(), cause }),
        // The horizon is counted from the recorded time: an old entry would be given up before its request ends.
        Preflight::Passed => look.act(record(look, Some(unsent.nonce.clone()), cause)),
    }
}

/// Whether an attempt was recorded so lately that its request ends well within the horizon.
fn is_fresh(look: &Look<'_>, attempt: &Attempt) -> bool {
    let age = look.now.duration_since(attempt.at);
    !age.is_negative() && age <= look.seen.horizon / 4
}

fn record(look: &Look<'_>, again: Option<Nonce>, cause: Cause) -> Action {
    let stays = |attempt: &&Attempt| {
        let absent =
            |snapshot: &super::snapshot::Snapshot| snapshot.is_absent(&look.seen.owner, &attempt.nonce, attempt.at);
        let is_gone = look.seen.account.snapshot.is_some_and(absent);
        again.as_ref() != Some(&attempt.nonce) && (!is_gone || throttle::counts(attempt.cause, attempt.at, look.now))
    };
    let keep = look.seen.log.0.iter().filter(stays).cloned().collect();
    Action::Record { again, cause, keep }
}

/// The Secret's record once it holds the key at hand: what it held before becomes `previous`.
fn swapped(look: &Look<'_>, held: &Held) -> SecretRecord {
    let before = look.seen.secret_record();
    let mut previous: Vec<Previous> = before.map(|b| b.previous.clone()).unwrap_or_default();
    let names =
        |listed: &Listed| look.seen.attempt_of(listed).map_or_else(|| listed.token.id.to_string(), ToString::to_string);
    let replaced = look.seen.own_tokens().filter(|listed| listed.token.id != held.token_id);
    let replaced =
        replaced.filter(|listed| look.current() == Some(&listed.token.id) || look.seen.status.names(&listed.token.id));
    for token in replaced.map(names).collect::<Vec<_>>() {
        if previous.iter().all(|p| p.token != token) {
            previous.push(Previous { token, since: look.now });
        }
    }
    previous.retain(|p| !is_known_gone(look, p));
    SecretRecord {
        attempt: Some(held.nonce.clone()),
        token_id: Some(held.token_id.clone()),
        issued_at: Some(look.now),
        previous,
        spec_hash: Some(held.spec_hash.clone()),
        key_sha256: Some(held.key_sha256.clone()),
        request: before.and_then(|b| b.request.clone()),
    }
}

fn is_known_gone(look: &Look<'_>, previous: &Previous) -> bool {
    let Some(snapshot) = look.seen.account.snapshot else { return false };
    let late_enough = snapshot.begun().duration_since(previous.since) >= look.seen.horizon;
    let is_listed = snapshot.tokens().any(|listed| {
        listed.token.id.as_str() == previous.token
            || look.seen.attempt_of(listed).is_some_and(|nonce| nonce.as_str() == previous.token)
    });
    late_enough && !is_listed
}

/// The record that the Secret of a live token should have.
fn wanted_record(look: &Look<'_>, listed: &Listed) -> Option<SecretRecord> {
    let SecretView::Present(facts) = &look.seen.secret else { return None };
    let key = facts.key.as_ref()?;
    let id = &listed.token.id;
    let attempt = look.seen.attempt_of(listed).cloned();
    let recorded = attempt.as_ref().and_then(|nonce| look.seen.log.get(nonce)).map(|a| a.at);
    // DataFast's clock may be wrong, and a time of the future would not be read back: it would be written for ever.
    let known = recorded.or(listed.token.created_at).filter(|at| *at <= look.now);
    let issued_at = facts.record.issued_at.or(known).unwrap_or(look.now);
    Some(SecretRecord {
        attempt,
        token_id: Some(id.clone()),
        issued_at: Some(issued_at),
        spec_hash: match desired_scope_fits(look, listed) {
            true => Some(look.desired.scope.hash()),
            false => facts.record.spec_hash.clone(),
        },
        key_sha256: Some(key.fingerprint(id.as_str())),
        ..facts.record.clone()
    })
}

fn desired_scope_fits(look: &Look<'_>, listed: &Listed) -> bool {
    look.desired.scope.allows_as_is(&listed.token)
}

fn drift(look: &Look<'_>) -> Option<Decision> {
    let (Holding::Live(listed), SecretView::Present(facts)) = (&look.holding, &look.seen.secret) else { return None };
    if !look.seen.claimed {
        return look.act(Action::Claim);
    }
    let record = wanted_record(look, listed)?;
    if !facts.drifted && record == facts.record {
        return None;
    }
    match look.seen.local.rewrite.as_ref().filter(|refused| look.now < refused.retry_at) {
        Some(refused) => {
            let message =
                format!("Secret {:?} could not be brought up to date: {}", look.seen.names.secret, refused.message);
            look.wait(Reason::SecretWriteRefused, message, Wake::at(refused.retry_at))
        }
        None => look.act(Action::Rewrite { record }),
    }
}

fn settled(look: &Look<'_>) -> Decision {
    let name = look.seen.names.secret;
    let rest =
        |reason, message: String, wake| Decision { action: Action::Rest, verdict: look.verdict(reason, message), wake };
    match &look.holding {
        Holding::Live(_) if matches!(look.seen.account.gate, Gate::NotFound | Gate::NotReady(_)) => {
            look.closed().unwrap_or_else(|| rest(Reason::Issued, String::new(), Wake::default()))
        }
        Holding::Live(listed) => {
            let message = format!("Secret {name:?} holds token {}", listed.token.display_key);
            rest(Reason::Issued, message, Wake::default())
        }
        _ => look.closed().unwrap_or_else(|| {
            let message = format!("Waiting for DataFast's list to confirm the token in Secret {name:?}");
            rest(if look.works { Reason::Issued } else { Reason::Issuing }, message, Wake::account())
        }),
    }
}
