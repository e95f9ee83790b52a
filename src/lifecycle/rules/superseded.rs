//! Tokens of the resource that its Secret does not hold: lost ones go at once, retired ones when their overlap has passed.

use jiff::{SignedDuration, Timestamp};

use super::attempt::{may_send, record};
use crate::datafast::TokenId;
use crate::lifecycle::context::Context;
use crate::lifecycle::decision::{Action, Decision, Requeue, RevokeCause};
use crate::lifecycle::local::Watched;
use crate::lifecycle::marker::Nonce;
use crate::lifecycle::record::Previous;
use crate::lifecycle::snapshot::{Listed, is_after};

/// Revokes lost tokens at once and retired ones when their overlap has passed.
pub(in crate::lifecycle) fn superseded_tokens(cx: &Context<'_>) -> Option<Decision> {
    let (listed, excess) = in_excess(cx).find(|(listed, excess)| {
        let is_due = match excess {
            Excess::Lost => true,
            Excess::Retired(retirement) => retirement.is_due(cx),
        };
        is_due && cx.denied(&listed.token.id).is_none()
    })?;
    if cx.closed().is_some() {
        return None;
    }
    let is_current = cx.seen.log.current().is_some_and(|c| cx.seen.attempt_of(listed) == Some(&c.nonce));
    match (excess, is_current, cx.need) {
        // The new entry keeps another leader that may hold this key from writing it: its attempt is no longer current.
        (Excess::Lost, true, Some(cause)) => cx.act(record(cx, None, cause)),
        (Excess::Lost, ..) => cx.act(revoke(listed, RevokeCause::LostAttempt)),
        (Excess::Retired(retirement), ..) => cx.act(revoke(listed, retirement.cause)),
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
pub(in crate::lifecycle) struct Retirement<'a> {
    /// The token.
    pub(in crate::lifecycle) listed: &'a Listed,
    /// When the Secret got another one's key; none where it has not yet.
    swap: Option<Swap>,
    /// How long after that it stays.
    stays: SignedDuration,
    /// Why it is revoked then.
    cause: RevokeCause,
}

impl Retirement<'_> {
    /// Since when the Secret has held another one's key; none where it does not yet.
    pub(in crate::lifecycle) fn since(&self) -> Option<Timestamp> {
        self.swap.map(|swap| swap.told)
    }

    /// It is revoked at this time, or a little later: where a list or the account has to be waited for.
    pub(in crate::lifecycle) fn until(&self) -> Option<Timestamp> {
        self.since().map(|at| plus(at, self.stays))
    }

    /// Whether it was used after another took its place, by the whole seconds that status can tell.
    pub(in crate::lifecycle) fn is_in_use(&self) -> bool {
        self.since().is_some_and(|since| is_after(self.listed.token.last_used_at, since))
    }

    /// How long it still has.
    fn remains(&self, cx: &Context<'_>) -> Option<SignedDuration> {
        let watched = cx.seen.local.retired.get(&self.listed.token.id);
        if self.stays.is_zero() {
            return self.swap.map(|_| SignedDuration::ZERO);
        }
        let swap = self.swap?;
        let stays = self.stays.saturating_add(swap.rounded());
        Some(stays.saturating_sub(Watched::elapsed(watched, swap.surely, cx.now)))
    }

    fn is_due(&self, cx: &Context<'_>) -> bool {
        self.remains(cx).is_some_and(|remains| remains <= SignedDuration::ZERO) && !self.needs_list(cx)
    }

    /// That it was not used can only be told by a list that began after its overlap.
    fn needs_list(&self, cx: &Context<'_>) -> bool {
        let waits_for_use = self.cause == RevokeCause::Retired
            && !self.is_in_use()
            && cx.desired.rotation.max_overlap.is_some_and(|most| most > self.stays);
        let over = self.swap.map(|swap| plus(swap.surely.max(swap.told), self.stays));
        let is_late = |over| cx.seen.account.snapshot.is_some_and(|snapshot| snapshot.begun() >= over);
        let in_any_case = || {
            let most = Retirement { stays: cx.desired.rotation.max_overlap.unwrap_or_default(), ..*self };
            most.remains(cx).is_some_and(|remains| remains <= SignedDuration::ZERO)
        };
        waits_for_use && !over.is_some_and(is_late) && !in_any_case()
    }
}

/// A Secret that was to be written so long ago has been, or was refused: no request to the API server is waited for longer.
const LONGEST_WRITE: SignedDuration = SignedDuration::from_mins(3);
const A_SECOND: SignedDuration = SignedDuration::from_secs(1);

/// When a Secret got another token's key. The record says when that was decided; the write may have taken a while, and an
/// overlap counts from when it was answered.
#[derive(Clone, Copy, Debug)]
struct Swap {
    /// What is told: the recorded time, and the whole seconds by which the write was late.
    told: Timestamp,
    /// By then the Secret had it.
    surely: Timestamp,
}

impl Swap {
    fn at(at: Timestamp) -> Self {
        Self { told: at, surely: at }
    }

    /// The process that wrote the Secret has seen the former token retire from the answer on. Any other knows what status
    /// told of that; or else that the Secret had the key when it was first seen, and not much later than was decided.
    fn of(cx: &Context<'_>, id: &TokenId, recorded: Timestamp) -> Self {
        let first_seen = cx.seen.local.retired.get(id).map_or(cx.now, |watched| watched.first);
        let seen = first_seen.min(plus(recorded, LONGEST_WRITE)).max(recorded);
        let rotation = &cx.desired.rotation;
        let told = cx.seen.status.revoke_after.get(id).and_then(|until| {
            let late = |stays| rounded_up(until.duration_since(recorded).saturating_sub(stays));
            let fits = |late: &SignedDuration| !late.is_negative() && plus(recorded, *late) < plus(seen, A_SECOND);
            [Some(rotation.overlap), rotation.max_overlap].into_iter().flatten().map(late).find(fits)
        });
        let late = told.unwrap_or_else(|| match seen.duration_since(recorded) {
            late if late < A_SECOND => SignedDuration::ZERO,
            late => rounded_up(late),
        });
        let told = plus(recorded, late);
        // What was less than a second late was told to be in time.
        Self { told, surely: plus(recorded, late.max(A_SECOND)).min(seen) }
    }

    /// By how much more is told than was seen, so that nothing goes before the time that is told.
    fn rounded(self) -> SignedDuration {
        self.told.duration_since(self.surely).max(SignedDuration::ZERO)
    }
}

fn plus(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// To whole seconds, which is what status has.
fn rounded_up(time: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(time.as_secs().saturating_add((time.subsec_nanos() > 0).into()))
}

/// Our tokens that the Secret does not hold.
fn in_excess<'a>(cx: &'a Context<'a>) -> impl Iterator<Item = (&'a Listed, Excess<'a>)> {
    let pending = cx.seen.local.pending.as_ref().map(|h| &h.token_id);
    cx.seen
        .own_tokens()
        .filter(move |listed| {
            let id = &listed.token.id;
            cx.current() != Some(id) && pending != Some(id) && cx.rolls != Some(id)
        })
        .map(|listed| (listed, excess(cx, listed)))
}

fn excess<'a>(cx: &Context<'_>, listed: &'a Listed) -> Excess<'a> {
    let seen = cx.seen;
    let rotation = &cx.desired.rotation;
    let retired = |swap, stays, cause| Excess::Retired(Retirement { listed, swap, stays, cause });
    match (replaced(cx, listed), seen.status.names(&listed.token.id)) {
        (None, false) => Excess::Lost,
        // No Secret has its key any more, but consumers may. It goes first only where another has no room beside it,
        // and not before that other one can be issued.
        (None, true) if cx.has_lost_key() => {
            let in_the_way = !seen.status.retiring.is_empty() || cx.lacks_one_slot();
            let swap = (in_the_way && may_send(cx)).then_some(Swap::at(cx.now));
            retired(swap, SignedDuration::ZERO, RevokeCause::MadeRoom)
        }
        (Some(Previous { since, at_once: true, .. }), _) => {
            retired(Some(Swap::at(*since)), SignedDuration::ZERO, RevokeCause::RevokeNow)
        }
        (previous, _) => {
            let recorded = previous.map(|previous| previous.since);
            let recorded = recorded.or_else(|| cx.works.then(|| seen.secret_record()?.issued_at)?);
            let swap = recorded.map(|recorded| Swap::of(cx, &listed.token.id, recorded));
            let after_overlap = Retirement { listed, swap, stays: rotation.overlap, cause: RevokeCause::Retired };
            match rotation.max_overlap.filter(|_| after_overlap.is_in_use()) {
                Some(most) => retired(swap, most, RevokeCause::Retired),
                None => Excess::Retired(after_overlap),
            }
        }
    }
}

/// What the Secret's record says of a token that it held before.
fn replaced<'a>(cx: &Context<'a>, listed: &Listed) -> Option<&'a Previous> {
    let nonce = cx.seen.attempt_of(listed).map(Nonce::as_str);
    let is_it = |p: &&Previous| Some(p.token.as_str()) == nonce || p.token == listed.token.id.as_str();
    cx.seen.secret_record()?.previous.iter().find(is_it)
}

pub(in crate::lifecycle) fn next_retirement(cx: &Context<'_>) -> Requeue {
    let waits = in_excess(cx).filter_map(|(_, excess)| match excess {
        // Due, and not revoked: the account is closed, or denied it.
        Excess::Lost => Some(Requeue::on_account_change()),
        Excess::Retired(retirement) => match retirement.remains(cx)? {
            remains if remains > SignedDuration::ZERO => {
                Some(Requeue::at(cx.now.saturating_add(remains).unwrap_or(Timestamp::MAX)))
            }
            _ if retirement.needs_list(cx) => Some(Requeue::next_list()),
            _ => Some(Requeue::on_account_change()),
        },
    });
    let denied = cx.seen.own_tokens().filter_map(|listed| cx.denied(&listed.token.id));
    waits.chain(denied).fold(Requeue::default(), Requeue::earliest)
}

/// Tokens that the Secret held before and that are still there.
pub(in crate::lifecycle) fn retiring<'a>(cx: &'a Context<'a>) -> impl Iterator<Item = Retirement<'a>> {
    in_excess(cx).filter_map(|(_, excess)| match excess {
        Excess::Retired(retirement) => Some(retirement),
        Excess::Lost => None,
    })
}
