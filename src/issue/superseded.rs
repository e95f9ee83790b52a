//! Tokens of the resource that its Secret does not hold: lost ones go at once, retired ones when their overlap has passed.

use jiff::{SignedDuration, Timestamp};

use super::decide::{Action, Decision, RevokeCause, Wake};
use super::issuing::{lacks_one_slot, may_send, record};
use super::local::Watched;
use super::look::Look;
use super::marker::Nonce;
use super::record::Previous;
use super::snapshot::Listed;

/// Revokes lost tokens at once and retired ones when their overlap has passed.
pub(super) fn superseded_tokens(look: &Look<'_>) -> Option<Decision> {
    let (listed, excess) = in_excess(look).find(|(listed, excess)| {
        let is_due = match excess {
            Excess::Lost => true,
            Excess::Retired(retirement) => retirement.is_due(look),
        };
        is_due && look.denied(&listed.token.id).is_none()
    })?;
    if look.closed().is_some() {
        return None;
    }
    let is_current = look.seen.log.current().is_some_and(|c| look.seen.attempt_of(listed) == Some(&c.nonce));
    match (excess, is_current, look.need) {
        // The new entry keeps another leader that may hold this key from writing it: its attempt is no longer current.
        (Excess::Lost, true, Some(cause)) => look.act(record(look, None, cause)),
        (Excess::Lost, ..) => look.act(revoke(listed, RevokeCause::LostAttempt)),
        (Excess::Retired(retirement), ..) => look.act(revoke(listed, retirement.cause)),
    }
}

fn revoke(listed: &Listed, cause: RevokeCause) -> Action {
    Action::Revoke { token_id: listed.token.id.clone(), cause }
}

/// What a token of ours is that the Secret does not hold.
#[derive(Clone, Copy, Debug)]
enum Excess<'a> {
    /// No Secret ever held its key.
    Lost,
    /// Another took its place, or is about to.
    Retired(Retirement<'a>),
}

/// A token that goes because another took its place.
#[derive(Clone, Copy, Debug)]
pub struct Retirement<'a> {
    /// The token.
    pub listed: &'a Listed,
    /// Since when the Secret has held another one; none where it does not yet.
    pub since: Option<Timestamp>,
    /// How long after that it stays.
    stays: SignedDuration,
    /// Why it is revoked then.
    cause: RevokeCause,
}

impl Retirement<'_> {
    /// It is revoked at this time, or a little later: where a list or the account has to be waited for.
    pub fn until(&self) -> Option<Timestamp> {
        self.since.map(|at| at.saturating_add(self.stays).unwrap_or(Timestamp::MAX))
    }

    /// Whether it was used after another took its place, by the whole seconds that status can tell.
    pub fn is_in_use(&self) -> bool {
        self.since.is_some_and(|since| is_after(self.listed.token.last_used_at, since))
    }

    /// How long it still has.
    fn remains(&self, look: &Look<'_>) -> Option<SignedDuration> {
        let watched = look.seen.local.retired.get(&self.listed.token.id);
        if self.stays.is_zero() {
            return self.since.map(|_| SignedDuration::ZERO);
        }
        Some(self.stays.saturating_sub(Watched::elapsed(watched, self.since?, look.now)))
    }

    fn is_due(&self, look: &Look<'_>) -> bool {
        self.remains(look).is_some_and(|remains| remains <= SignedDuration::ZERO) && !self.needs_list(look)
    }

    /// That it was not used can only be told by a list that began after its overlap.
    fn needs_list(&self, look: &Look<'_>) -> bool {
        let waits_for_use = self.cause == RevokeCause::Retired
            && !self.is_in_use()
            && look.desired.rotation.max_overlap.is_some_and(|most| most > self.stays);
        let is_late = |until| look.seen.account.snapshot.is_some_and(|snapshot| snapshot.begun() >= until);
        let in_any_case = || {
            let most = Retirement { stays: look.desired.rotation.max_overlap.unwrap_or_default(), ..*self };
            most.remains(look).is_some_and(|remains| remains <= SignedDuration::ZERO)
        };
        waits_for_use && !self.until().is_some_and(is_late) && !in_any_case()
    }
}

/// Whether a use that DataFast or status reports came after a time, by the whole seconds that status has.
pub fn is_after(used: Option<Timestamp>, since: Timestamp) -> bool {
    used.is_some_and(|used| used.as_second() > since.as_second())
}

/// Our tokens that the Secret does not hold.
fn in_excess<'a>(look: &'a Look<'a>) -> impl Iterator<Item = (&'a Listed, Excess<'a>)> {
    let held = look.seen.local.held.as_ref().map(|h| &h.token_id);
    look.seen
        .own_tokens()
        .filter(move |listed| {
            let id = &listed.token.id;
            look.current() != Some(id) && held != Some(id) && look.rolls != Some(id)
        })
        .map(|listed| (listed, excess(look, listed)))
}

fn excess<'a>(look: &Look<'_>, listed: &'a Listed) -> Excess<'a> {
    let seen = look.seen;
    let rotation = &look.desired.rotation;
    let retired = |since, stays, cause| Excess::Retired(Retirement { listed, since, stays, cause });
    match (replaced(look, listed), seen.status.names(&listed.token.id)) {
        (None, false) => Excess::Lost,
        // No Secret has its key any more, but consumers may. It goes first only where another has no room beside it,
        // and not before that other one can be issued.
        (None, true) if look.has_lost_key() => {
            let in_the_way = !seen.status.retiring.is_empty() || lacks_one_slot(look);
            let since = (in_the_way && may_send(look)).then_some(look.now);
            retired(since, SignedDuration::ZERO, RevokeCause::MadeRoom)
        }
        (Some(Previous { since, at_once: true, .. }), _) => {
            retired(Some(*since), SignedDuration::ZERO, RevokeCause::RevokeNow)
        }
        (previous, _) => {
            let since = previous.map(|previous| previous.since);
            let since = since.or_else(|| look.works.then(|| seen.secret_record()?.issued_at)?);
            let after_overlap = Retirement { listed, since, stays: rotation.overlap, cause: RevokeCause::Retired };
            match rotation.max_overlap.filter(|_| after_overlap.is_in_use()) {
                Some(most) => retired(since, most, RevokeCause::Retired),
                None => Excess::Retired(after_overlap),
            }
        }
    }
}

/// What the Secret's record says of a token that it held before.
fn replaced<'a>(look: &Look<'a>, listed: &Listed) -> Option<&'a Previous> {
    let nonce = look.seen.attempt_of(listed).map(Nonce::as_str);
    let is_it = |p: &&Previous| Some(p.token.as_str()) == nonce || p.token == listed.token.id.as_str();
    look.seen.secret_record()?.previous.iter().find(is_it)
}

pub(super) fn next_retirement(look: &Look<'_>) -> Wake {
    let waits = in_excess(look).filter_map(|(_, excess)| match excess {
        // Due, and not revoked: the account is closed, or denied it.
        Excess::Lost => Some(Wake::news()),
        Excess::Retired(retirement) => match retirement.remains(look)? {
            remains if remains > SignedDuration::ZERO => {
                Some(Wake::at(look.now.saturating_add(remains).unwrap_or(Timestamp::MAX)))
            }
            _ if retirement.needs_list(look) => Some(Wake::next_list()),
            _ => Some(Wake::news()),
        },
    });
    let denied = look.seen.own_tokens().filter_map(|listed| look.denied(&listed.token.id));
    waits.chain(denied).fold(Wake::default(), Wake::earliest)
}

/// Tokens that the Secret held before and that are still there.
pub(super) fn retiring<'a>(look: &'a Look<'a>) -> impl Iterator<Item = Retirement<'a>> {
    in_excess(look).filter_map(|(_, excess)| match excess {
        Excess::Retired(retirement) => Some(retirement),
        Excess::Lost => None,
    })
}
