//! The pieces that scenes are made of.
//!
//! A number stands for an attempt, its token and its key alike: `token(1)` is what attempt 1 made, and `key(1)` opens it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::datafast::{RawKey, Token, TokenId};
use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::desired::{Expiry, Unreadable};
use crate::lifecycle::event::Order;
use crate::lifecycle::local::{Asked, PendingKey, Preflight, Proof, Refused, Unsent, Watched};
use crate::lifecycle::marker::{ClusterId, Marker, Nonce, OwnerId};
use crate::lifecycle::observed::{Drift, SecretFacts, SecretOwner, StatusRecord};
use crate::lifecycle::record::{Attempt, Cause, Previous, Request, Requests, Scope, SecretRecord};
use crate::lifecycle::snapshot::Snapshot;

pub(super) const HORIZON: SignedDuration = SignedDuration::from_mins(2);
/// An attempt is sent until it is so old.
pub(super) const STAYS_FRESH: SignedDuration = SignedDuration::from_secs(75);
pub(super) const A_DAY: i64 = 24 * 60;

pub(super) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// Minutes before [`now`].
pub(super) fn ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

/// Minutes after [`now`].
pub(super) fn later(minutes: i64) -> Timestamp {
    ago(-minutes)
}

pub(super) const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

pub(super) fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 7])
}

pub(super) fn id(n: u8) -> TokenId {
    TokenId::parse(&format!("token-{n}")).unwrap()
}

pub(super) fn key(n: u8) -> Arc<RawKey> {
    Arc::new(RawKey::parse(format!("dft_{n:03}-and-all-the-rest-{n:04}")).unwrap())
}

/// A key that looks like [`key`] wherever DataFast shows only its ends.
pub(super) fn lookalike(n: u8) -> Arc<RawKey> {
    Arc::new(RawKey::parse(format!("dft_{n:03}-made-up-by-a-tenant-{n:04}")).unwrap())
}

pub(super) fn fingerprint(n: u8) -> String {
    key(n).fingerprint(id(n).as_str())
}

pub(super) fn scope() -> Scope {
    Scope {
        token_name: "team/agent".into(),
        permissions: ["analytics:read".to_owned()].into(),
        website_ids: BTreeSet::new(),
    }
}

pub(super) fn wider_scope() -> Scope {
    Scope { permissions: ["analytics:read".to_owned(), "goals:read".to_owned()].into(), ..scope() }
}

pub(super) fn me() -> OwnerId {
    OwnerId::of("this resource")
}

/// Another resource, of another tenant.
pub(super) fn victim() -> OwnerId {
    OwnerId::of("another resource")
}

/// The resource that has a token of others.
pub(super) const HOLDER: &str = "DataFastAccessToken team-a/agent";

/// A token made by hand in DataFast's own interface.
pub(super) fn unmarked(n: u8) -> Token {
    Token {
        id: id(n),
        name: Some("made by hand".into()),
        display_key: key(n).mask(),
        permissions: scope().permissions,
        website_ids: scope().website_ids,
        last_used_at: None,
        tells_use: true,
        created_at: Some(ago(A_DAY)),
    }
}

pub(super) fn token_of(owner: &OwnerId, n: u8) -> Token {
    let marker = Marker { cluster: ClusterId::of("cluster"), owner: owner.clone(), nonce: nonce(n) };
    Token { name: Some(marker.name(&scope().token_name)), ..unmarked(n) }
}

/// What this resource's attempt `n` made.
pub(super) fn token(n: u8) -> Token {
    token_of(&me(), n)
}

pub(super) fn attempt(n: u8, at: Timestamp, cause: Cause) -> Attempt {
    Attempt { nonce: nonce(n), at, cause, requests: Requests::default(), rolls: None }
}

pub(super) fn previous(n: u8, since: Timestamp) -> Previous {
    Previous { token: nonce(n).to_string(), since, at_once: false }
}

pub(super) fn request(value: &str) -> Option<Request> {
    Request::parse(value)
}

/// This resource's Secret, with the key of token `n`.
pub(super) fn secret(n: u8, issued_at: Timestamp) -> SecretFacts {
    let record = SecretRecord {
        attempt: Some(nonce(n)),
        token_id: Some(id(n)),
        issued_at: Some(issued_at),
        previous: Vec::new(),
        spec_hash: Some(scope().hash()),
        key_sha256: Some(fingerprint(n)),
        request: None,
        answered: Requests::default(),
    };
    SecretFacts { owner: SecretOwner::This, record, key: Some(key(n)), flaw: None, drift: Drift::default() }
}

/// Something in the Secret is not as it is asked for.
pub(super) fn drift() -> Drift {
    Drift { differs: vec!["label \"team\"".into()], last_writer: Some("fighter".into()), ..Drift::default() }
}

/// What is asked of the Secret of token `n`, which is the resource's own.
pub(super) fn asked(n: u8) -> Asked {
    Asked {
        template: String::new(),
        token_id: id(n),
        display_key: key(n).mask(),
        spec_hash: scope().hash(),
        takes_over: false,
    }
}

/// That token `n` was made by this resource, in status.
pub(super) fn status_of(n: u8) -> StatusRecord {
    StatusRecord { attempt: Some(nonce(n)), marked: Some(me()), ..StatusRecord::default() }
}

/// Two lists that show the same, the last one begun at `begun`.
pub(super) fn lists(begun: Timestamp, tokens: &[Token]) -> Snapshot {
    let mut snapshot = Snapshot::new(HORIZON, begun - SignedDuration::from_secs(1), tokens.to_vec());
    snapshot.listed(begun, tokens.to_vec());
    snapshot
}

pub(super) fn refused(retry_at: Timestamp) -> Refused {
    Refused { message: "exceeded quota: secrets=0".into(), retry_at }
}

pub(super) fn pending(n: u8, since: Timestamp) -> PendingKey {
    PendingKey {
        nonce: nonce(n),
        token_id: id(n),
        rolled: false,
        since,
        spec_hash: scope().hash(),
        key_sha256: fingerprint(n),
        requests: Requests::default(),
        refused: None,
    }
}

/// The request for a token of an attempt that was recorded [`now`].
pub(super) fn send(n: u8, cause: Cause) -> Action {
    Action::Send { nonce: nonce(n), cause, rolls: None, by: now() + STAYS_FRESH }
}

/// What that request asks for.
pub(super) fn order(n: u8) -> Order {
    Order { nonce: nonce(n), spec_hash: scope().hash(), requests: Requests::default(), rolls: None }
}

pub(super) fn unsent(n: u8) -> Unsent {
    Unsent { nonce: nonce(n), preflight: Preflight::Passed }
}

/// Seen for the first time at `first`, and for so many minutes since.
pub(super) fn watched(first: Timestamp, minutes: i64) -> Watched {
    let lasted = SignedDuration::from_mins(minutes);
    Watched { first, since: -lasted, lasted }
}

/// A permission that this version does not know; or also what becomes of the token.
pub(super) fn unreadable(is_about_the_end: bool) -> Unreadable {
    Unreadable { what: "spec.permissions[1] (\"heatmaps:read\")".into(), is_about_the_end }
}

/// An end that has come.
pub(super) fn expired() -> Expiry {
    Expiry { created: ago(A_DAY), after: hours(1) }
}

pub(super) fn proof(n: u8, proven: bool) -> Proof {
    Proof { token_id: id(n), key_sha256: fingerprint(n), proven, at: now() }
}

pub(super) fn revoke(n: u8, cause: RevokeCause) -> Action {
    Action::Revoke { token_id: id(n), cause }
}
