//! Random scenes: a few tokens of this resource, of another tenant's and of nobody, and records that may name any.

mod memory;
mod surroundings;
pub(super) mod windows;

pub(super) use surroundings::queue;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::datafast::{Token, TokenId};
use crate::lifecycle::desired::{Desired, Expiry, Rotation, WhenUnused};
use crate::lifecycle::local::Proof;
use crate::lifecycle::observed::{Drift, SecretFacts, SecretOwner, SecretView, StatusRecord};
use crate::lifecycle::record::{Attempt, Cause, Log, Previous, Request, Requests, SecretRecord};
use crate::lifecycle::windows::Windows;

use super::scenes::*;

/// Tokens of this resource.
pub(super) const MINE: std::ops::Range<u8> = 0..4;
/// Tokens that another tenant's resource caused.
pub(super) const VICTIMS: std::ops::Range<u8> = 4..7;
/// Tokens that people made by hand; of these, even ones are another resource's by import.
pub(super) const BY_HAND: std::ops::Range<u8> = 7..10;
const ALL: std::ops::Range<u8> = 0..10;
/// Attempts of this resource that made no token yet; whatever comes after is made as the test goes on.
pub(super) const UNSENT: std::ops::Range<u8> = 10..12;

/// `cases`, unless `PROPTEST_CASES` says otherwise; and no file beside the sources when a test fails.
pub(super) fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None, ..Config::default() }
}

pub(super) fn number(id: &TokenId) -> u8 {
    id.as_str().trim_start_matches("token-").parse().unwrap()
}

/// Whether a token is this resource's to revoke, by what docs/architecture.md says of ownership, told without the code under test.
pub(super) fn is_own(scene: &Scene, id: &TokenId) -> bool {
    let proven = |proof: &Proof| {
        let holds = matches!(&scene.secret, SecretView::Present(SecretFacts { key: Some(key), .. })
            if key.fingerprint(id.as_str()) == proof.key_sha256 && !is_anothers(scene));
        proof.proven && proof.token_id == *id && holds && !scene.taken.contains(id)
    };
    let is_listed = scene.snapshot.as_ref().is_some_and(|snapshot| snapshot.get(id).is_some());
    // No list tells the name of a former one that it lacks.
    let is_unlisted = !is_listed && (scene.status.marked == Some(me()) || scene.status.retiring.contains(id));
    let by_status = scene.status.names(id) && !scene.taken.contains(id) && (is_unlisted || is_adopted(scene, id));
    MINE.contains(&number(id))
        || number(id) >= UNSENT.start
        || by_status
        || scene.local.proof.as_ref().is_some_and(proven)
}

/// Whether the record says that this resource has taken a token over: its log, or a Secret that names its uid.
fn is_adopted(scene: &Scene, id: &TokenId) -> bool {
    let in_secret = match &scene.secret {
        SecretView::Present(SecretFacts { owner: SecretOwner::This | SecretOwner::Namesake, record, .. }) => {
            record.token_id.as_ref() == Some(id) || record.previous.iter().any(|p| p.token == id.as_str())
        }
        _ => false,
    };
    in_secret || scene.adopted.contains(id)
}

/// Whether the Secret is another resource's.
pub(super) fn is_anothers(scene: &Scene) -> bool {
    match &scene.secret {
        SecretView::Present(SecretFacts { owner: SecretOwner::Former | SecretOwner::Namesake, record, .. }) => {
            record.token_id.as_ref().is_some_and(|id| scene.taken.contains(id))
        }
        SecretView::Present(facts) => !matches!(facts.owner, SecretOwner::This | SecretOwner::Nobody),
        SecretView::Missing => false,
    }
}

pub(super) fn token_of_any(n: u8) -> Token {
    match n {
        n if MINE.contains(&n) => token(n),
        n if VICTIMS.contains(&n) => token_of(&victim(), n),
        n => unmarked(n),
    }
}

pub(super) fn recent_time() -> impl Strategy<Value = Timestamp> + Clone {
    let offsets = prop_oneof![4 => -300..1_i64, 2 => -100_000..1_i64, 1 => Just(-7200_i64), 1 => Just(-120)];
    offsets.prop_map(|seconds| now() + SignedDuration::from_secs(seconds))
}

/// Any time that there is: records are tenants' to edit.
pub(super) fn any_time() -> impl Strategy<Value = Timestamp> + Clone {
    let extreme = prop_oneof![Just(Timestamp::MIN), Just(Timestamp::MAX), Just(later(A_DAY)), Just(now())];
    prop_oneof![3 => recent_time(), 1 => extreme]
}

/// Texts as tenants may write them into annotations.
pub(super) fn text() -> impl Strategy<Value = String> {
    let shapes = prop_oneof![
        Just(nonce(1).to_string()),
        Just(id(1).to_string()),
        any_time().prop_map(|at| at.to_string()),
        (0..5_u8, any_time()).prop_map(|(n, at)| format!("{}@{at}", nonce(n))),
        (0..5_u8, any_time()).prop_map(|(n, at)| format!("{}@{at}!", nonce(n))),
        (0..5_u8, any_time()).prop_map(|(n, at)| Log(vec![attempt(n, at, Cause::New)]).write()),
    ];
    prop_oneof![any::<String>(), "[\\[\\]{}\",:@!0-9A-Z -]{0,40}", vec(shapes, 0..4).prop_map(|v| v.join(","))]
}

fn cause() -> impl Strategy<Value = Cause> + Clone {
    prop_oneof![
        Just(Cause::New),
        Just(Cause::RevokeNow),
        Just(Cause::KeyLost),
        Just(Cause::Vanished),
        Just(Cause::Revoked),
        Just(Cause::ScopeChanged),
        Just(Cause::RotateRequested),
        Just(Cause::RotationDue),
        Just(Cause::Unknown)
    ]
}

/// Of so few values that a request is often one that was served.
fn request() -> impl Strategy<Value = Option<Request>> + Clone {
    let values = prop_oneof![Just("a"), Just("b")].prop_map(|value| Request::parse(value).unwrap());
    prop::option::weighted(0.3, values)
}

fn requests() -> impl Strategy<Value = Requests> + Clone {
    (request(), request()).prop_map(|(rotate, revoke_now)| Requests { rotate, revoke_now })
}

pub(super) fn log(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Log> {
    let numbers = prop_oneof![3 => ALL, 1 => UNSENT];
    let rolls = prop::option::weighted(0.3, ALL.prop_map(id));
    let attempts =
        (numbers, time, cause(), rolls).prop_map(|(n, at, cause, rolls)| Attempt { rolls, ..attempt(n, at, cause) });
    vec(attempts, 0..4).prop_map(Log)
}

pub(super) fn record(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = SecretRecord> {
    let named =
        (ALL, any::<bool>()).prop_map(|(n, by_id)| if by_id { id(n).to_string() } else { nonce(n).to_string() });
    let entry = (named, time.clone(), prop::bool::weighted(0.3));
    let previous = vec(entry.prop_map(|(token, since, at_once)| Previous { token, since, at_once }), 0..3);
    let hash = of(prop_oneof![Just(scope().hash()), Just(wider_scope().hash()), Just("edited".to_owned())]);
    let fingerprints = of(prop_oneof![ALL.prop_map(fingerprint), Just("edited".to_owned())]);
    let asked = (request(), requests());
    (of(ALL.prop_map(nonce)), of(ALL.prop_map(id)), of(time), previous, hash, fingerprints, asked).prop_map(
        |(attempt, token_id, issued_at, previous, spec_hash, key_sha256, (request, answered))| SecretRecord {
            attempt,
            token_id,
            issued_at,
            previous,
            spec_hash,
            key_sha256,
            request,
            answered,
        },
    )
}

fn secrets(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = SecretView> {
    let owner = prop_oneof![
        8 => Just(SecretOwner::This),
        4 => Just(SecretOwner::Nobody),
        2 => Just(SecretOwner::Former),
        2 => Just(SecretOwner::Namesake),
        1 => Just(SecretOwner::Other("DataFastAccessToken/other".into())),
        1 => Just(SecretOwner::Copy { of: "DataFastAccessToken elsewhere/agent".into() }),
        1 => Just(SecretOwner::Gone("DataFastAccessToken/other".into())),
    ];
    let keys =
        prop_oneof![5 => ALL.prop_map(|n| Some(key(n))), 1 => ALL.prop_map(|n| Some(lookalike(n))), 1 => Just(None)];
    let edited =
        (owner.clone(), record(time.clone()), keys, any::<bool>()).prop_map(|(owner, record, key, drifted)| {
            let drift = if drifted { drift() } else { Drift::default() };
            SecretFacts { owner, record, key, flaw: None, drift }
        });
    // A record in order, but for what a tenant then sets.
    let in_order =
        (ALL, owner, time, any::<bool>(), any::<bool>()).prop_map(|(n, owner, at, drop_attempt, drop_key)| {
            let mut facts = secret(n, at);
            facts.owner = owner;
            facts.record.attempt = facts.record.attempt.filter(|_| !drop_attempt);
            facts.record.key_sha256 = facts.record.key_sha256.filter(|_| !drop_key);
            facts
        });
    prop_oneof![1 => Just(SecretView::Missing), 4 => edited.prop_map(SecretView::Present), 4 => in_order.prop_map(SecretView::Present)]
}

fn rotations() -> impl Strategy<Value = Rotation> {
    let overlap = prop_oneof![0..10_000_i64, Just(i64::MAX)];
    let every = of(prop_oneof![3600..100_000_i64, Just(i64::MAX)]);
    (every, overlap, of(prop_oneof![0..10_000_i64, Just(i64::MAX)]), any::<(bool, bool)>()).prop_map(
        |(every, overlap, more, (revoke_first, rolls))| Rotation {
            every: every.map(SignedDuration::from_secs),
            overlap: SignedDuration::from_secs(overlap),
            max_overlap: more.map(|more| SignedDuration::from_secs(overlap.saturating_add(more))),
            revoke_first,
            rolls,
        },
    )
}

fn desired(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Desired> {
    let after = prop_oneof![60..10_000_i64, Just(i64::MAX)].prop_map(SignedDuration::from_secs);
    let unused = (time.clone(), after.clone(), any::<bool>());
    let unused = unused.prop_map(|(created, after, revoke)| WhenUnused { created, after, revoke });
    let when_unused = prop::option::weighted(0.2, unused);
    let expiry = prop::option::weighted(0.2, (time, after).prop_map(|(created, after)| Expiry { created, after }));
    let often = || prop::bool::weighted(0.2);
    let unreadable = prop::option::weighted(0.1, any::<bool>().prop_map(unreadable));
    let asked = (often(), often(), often(), often(), unreadable, when_unused, windows::lists());
    (any::<bool>(), rotations(), requests(), expiry, any::<bool>(), asked).prop_map(
        |(
            wide,
            rotation,
            requests,
            expiry,
            restarts,
            (retain, suspended, deleting, abandon, unreadable, when_unused, windows),
        )| Desired {
            scope: if wide { wider_scope() } else { scope() },
            rotation,
            windows: Windows::parse(&windows),
            requests,
            expiry,
            when_unused,
            restarts,
            retain,
            suspended,
            unreadable,
            deleting,
            abandon,
        },
    )
}

/// The operator has status name only tokens of this resource: by its marker, or imported by hand. But a status may have been
/// restored beside the original, and name any.
fn statuses(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = StatusRecord> {
    let own = prop_oneof![9 => MINE, 3 => Just(7_u8), 1 => VICTIMS, 1 => BY_HAND];
    let maker = |n: u8| match n {
        n if MINE.contains(&n) => Some(me()),
        n if VICTIMS.contains(&n) => Some(victim()),
        _ => None,
    };
    let retiring = prop::collection::btree_map(own.clone(), of(time.clone()), 0..3);
    (of(own), retiring, any::<bool>(), request(), (of(time.clone()), of(time.clone()), of(time.clone()), of(time)))
        .prop_map(
            move |(n, retiring, ready, rotate_request, (waiting_since, issued_at, last_used_at, unused_since))| {
                StatusRecord {
                    marked: n.and_then(maker),
                    waiting_since,
                    issued_at,
                    last_used_at,
                    unused_since,
                    revoke_after: retiring.iter().filter_map(|(n, until)| Some((id(*n), (*until)?))).collect(),
                    token_id: n.map(id),
                    attempt: n.filter(|n| MINE.contains(n)).map(nonce),
                    retiring: retiring.into_keys().map(id).collect(),
                    ready,
                    rotate_request,
                }
            },
        )
}

/// A scene in which every record may be edited, and times are of this kind. Its parts are boxed: a tree of all of them
/// is more than the stack of a test holds.
pub(super) fn scene(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Scene> {
    let record = (secrets(time.clone()).boxed(), log(time.clone()).boxed(), statuses(time.clone()).boxed());
    let wanted = (desired(time.clone()).boxed(), prop::bool::weighted(0.8));
    let surroundings = surroundings::surroundings(time.clone()).boxed();
    // By the log, which its user can edit: mostly it says what is the case.
    let adopted =
        prop_oneof![4 => Just([id(7)].into()), 1 => prop::collection::btree_set(ALL.prop_map(id), 0..3)].boxed();
    (wanted, record, surroundings, (memory::locals(time.clone()).boxed(), adopted), time).prop_map(
        |((desired, has_finalizer), (secret, log, status), surroundings, (local, adopted), now)| {
            let scene = Scene { desired, has_finalizer, log, status, secret, local, adopted, now, ..Scene::new() };
            surroundings.around(Scene {
                taken: VICTIMS.chain(BY_HAND.filter(|n| n % 2 == 0)).map(id).collect(),
                horizon: HORIZON,
                ..scene
            })
        },
    )
}
