//! What status is to say of a resource's tokens: a mirror of the record, and of DataFast's list.

use jiff::{SignedDuration, Timestamp};

use super::holding::Holding;
use super::look::Look;
use super::observed::{Desired, Observed};
use super::snapshot::Listed;
use super::superseded::retiring;

/// `lastUsedAt` is written at most this often for a resource, so that busy tokens make no storm of writes.
pub const LAST_USED_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// What status says of tokens.
#[derive(Debug)]
pub struct Facts<'a> {
    /// `tokenId`, `displayKey` and so on.
    pub token: Mirror<'a>,
    /// `issuedAt`.
    pub issued_at: Option<Timestamp>,
    /// `retiring`, with the times of revocation. None: as it is, for no list is there to tell.
    pub retiring: Option<Vec<(&'a Listed, Option<Timestamp>)>>,
}

/// What status says of the token.
#[derive(Debug)]
pub enum Mirror<'a> {
    /// This one.
    Is(&'a Listed),
    /// What it says already.
    Keep,
    /// None: there is no token.
    Nothing,
}

/// Reads off what status is to say.
pub fn facts<'a>(desired: &'a Desired, seen: &'a Observed<'a>, now: Timestamp) -> Facts<'a> {
    let look = Look::new(desired, seen, now);
    let named = seen.status.token_id.as_ref();
    let token = match (look.listed(), seen.account.snapshot, named) {
        (Some(listed), ..) => Mirror::Is(listed),
        (None, _, None) => Mirror::Nothing,
        // As long as the token may live, its id in status is the licence to revoke it.
        (None, Some(snapshot), Some(id)) if snapshot.has_revoked(id) => Mirror::Nothing,
        (None, Some(snapshot), Some(id)) => match (&look.holding, snapshot.get(id)) {
            (Holding::Nothing | Holding::Vanished, None) => Mirror::Nothing,
            _ => Mirror::Keep,
        },
        (None, None, Some(_)) => Mirror::Keep,
    };
    let kept = matches!(token, Mirror::Keep).then_some(named).flatten();
    let others = |(listed, _): &(&Listed, Option<Timestamp>)| kept != Some(&listed.token.id);
    // The key of a retiring token may be back in the Secret; until that is proven, status must not forget the token.
    let unproven = match &look.holding {
        Holding::Unproven(listed) if seen.status.retiring.contains(&listed.token.id) => Some(listed.token.id.clone()),
        _ => None,
    };
    let retiring: Option<Vec<_>> = seen.account.snapshot.map(|_| {
        let tokens = retiring(&look).map(|(listed, until)| (listed.token.id.clone(), until));
        let tokens: Vec<_> = tokens.chain(unproven.map(|id| (id, None))).collect();
        let snapshot = seen.account.snapshot;
        tokens.into_iter().filter_map(|(id, until)| Some((snapshot?.get(&id)?, until))).filter(others).collect()
    });
    Facts { token, issued_at: seen.secret_record().and_then(|record| record.issued_at), retiring }
}

/// The `lastUsedAt` to show: the first use at once, later ones at most every five minutes. `written_at`: when this
/// process last wrote one for the resource.
pub fn last_used(
    shown: Option<Timestamp>,
    listed: Option<Timestamp>,
    written_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let (Some(old), Some(new)) = (shown, listed) else { return listed.or(shown) };
    let since = written_at.map_or(old, |at| at.max(old));
    let is_due = new > old && now.duration_since(since) >= LAST_USED_EVERY;
    Some(if is_due { new } else { old })
}
