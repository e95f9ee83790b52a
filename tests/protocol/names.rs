//! Numbers for what has names: a number stands for an attempt, the token that it made, and the key that it brought.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use datafast_operator::datafast::{RawKey, Token, TokenId};
use datafast_operator::lifecycle::marker::{ClusterId, Marker, Nonce, OwnerId};
use datafast_operator::lifecycle::record::Scope;
use jiff::{SignedDuration, Timestamp};

use super::world::Remote;

pub(super) type N = u8;

pub(super) const HORIZON: SignedDuration = SignedDuration::from_mins(2);
pub(super) const MOST_NONCES: N = 5;
/// Each request that takes effect late costs one more.
pub(super) const MOST_ROLLS: N = 7;
/// A key that somebody gives a token by hand.
pub(super) const BY_HAND: N = 9;

/// All names, made once: they are asked for millions of times.
struct Names {
    nonces: Vec<Nonce>,
    ids: Vec<TokenId>,
    keys: Vec<Arc<RawKey>>,
    masks: Vec<String>,
    fingerprints: Vec<Vec<String>>,
    owner: OwnerId,
    scopes: [Scope; 2],
    spec_hashes: [String; 2],
    /// By token, and whether its scope is the changed one.
    tokens: Vec<[Token; 2]>,
    young: Timestamp,
    old: Timestamp,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let all = 0..=BY_HAND;
    let nonces: Vec<Nonce> = all.clone().map(|n| Nonce::from_random([n; 7])).collect();
    let ids: Vec<TokenId> = all.clone().map(|n| TokenId::parse(&format!("token-{n}")).unwrap()).collect();
    let key = |n| Arc::new(RawKey::parse(format!("dft_{n:03}-and-all-the-rest-{n:04}")).unwrap());
    let keys: Vec<Arc<RawKey>> = all.map(key).collect();
    let scopes = ["analytics:read", "goals:read"].map(|permission| Scope {
        token_name: "team/agent".into(),
        permissions: [permission.to_owned()].into(),
        website_ids: BTreeSet::new(),
    });
    let owner = OwnerId::of("resource");
    let token = |nonce: &Nonce, id: &TokenId, scope: &Scope| Token {
        id: id.clone(),
        name: Some(
            Marker { cluster: ClusterId::of("cluster"), owner: owner.clone(), nonce: nonce.clone() }
                .name(&scope.token_name),
        ),
        display_key: String::new(),
        permissions: scope.permissions.clone(),
        website_ids: scope.website_ids.clone(),
        last_used_at: None,
        tells_use: true,
        created_at: None,
    };
    let tokens = nonces.iter().zip(&ids).map(|(nonce, id)| scopes.each_ref().map(|scope| token(nonce, id, scope)));
    Names {
        tokens: tokens.collect(),
        masks: keys.iter().map(|key| key.mask()).collect(),
        fingerprints: keys.iter().map(|key| ids.iter().map(|id| key.fingerprint(id.as_str())).collect()).collect(),
        spec_hashes: scopes.each_ref().map(Scope::hash),
        nonces,
        ids,
        keys,
        owner,
        scopes,
        young: "2026-01-02T00:00:00Z".parse().unwrap(),
        old: "2026-01-01T12:00:00Z".parse().unwrap(),
    }
});

pub(super) fn young() -> Timestamp {
    NAMES.young
}

pub(super) fn old() -> Timestamp {
    NAMES.old
}

pub(super) fn nonce(n: N) -> Nonce {
    nonce_of(n).clone()
}

pub(super) fn nonce_of(n: N) -> &'static Nonce {
    &NAMES.nonces[usize::from(n)]
}

pub(super) fn token_id(n: N) -> TokenId {
    NAMES.ids[usize::from(n)].clone()
}

pub(super) fn raw_key(n: N) -> Arc<RawKey> {
    NAMES.keys[usize::from(n)].clone()
}

pub(super) fn mask(key: N) -> &'static str {
    &NAMES.masks[usize::from(key)]
}

/// Of a key that is a token's.
pub(super) fn fingerprint(key: N, token: N) -> String {
    NAMES.fingerprints[usize::from(key)][usize::from(token)].clone()
}

fn position<T: PartialEq>(all: &[T], one: &T) -> N {
    all.iter().position(|other| other == one).and_then(|n| N::try_from(n).ok()).unwrap()
}

pub(super) fn number(nonce: &Nonce) -> N {
    position(&NAMES.nonces, nonce)
}

pub(super) fn number_of(id: &TokenId) -> N {
    position(&NAMES.ids, id)
}

pub(super) fn scope(changed: bool) -> Scope {
    NAMES.scopes[usize::from(changed)].clone()
}

/// Of a scope.
pub(super) fn spec_hash(changed: bool) -> String {
    NAMES.spec_hashes[usize::from(changed)].clone()
}

pub(super) fn owner() -> OwnerId {
    NAMES.owner.clone()
}

pub(super) fn listed_token(t: &Remote) -> Token {
    Token { last_used_at: t.is_used.then(young), ..token(t.n, t.scope_changed, t.keys[t.shown]) }
}

pub(super) fn token(n: N, changed: bool, key: N) -> Token {
    Token { display_key: mask(key).to_owned(), ..NAMES.tokens[usize::from(n)][usize::from(changed)].clone() }
}
