//! What a process may know of a resource.

use jiff::{SignedDuration, Timestamp};
use proptest::option::of;
use proptest::prelude::*;

use crate::lifecycle::local::{
    Contest, Late, LateCause, Local, PendingKey, Preflight, Proof, Rejected, Unsent, Watched,
};

use super::super::scenes::*;
use super::{ALL, MINE, UNSENT, requests};

#[expect(clippy::too_many_lines, reason = "one line for each field")]
pub(super) fn locals(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Local> {
    let refusal = time.clone().prop_map(refused).boxed();
    let preflight = prop_oneof![
        1 => Just(Preflight::Unknown),
        2 => Just(Preflight::Passed),
        1 => refusal.clone().prop_map(Preflight::Refused)
    ];
    let unsent = (UNSENT, preflight).prop_map(|(n, preflight)| Unsent { nonce: nonce(n), preflight });
    let late = (time.clone(), 0..300_i64, any::<bool>()).prop_map(|(retry_at, took, is_turn)| Late {
        cause: if is_turn { LateCause::Turn } else { LateCause::ApiServer },
        took: SignedDuration::from_secs(took),
        times: 2,
        retry_at,
    });
    let holds = (MINE, time.clone(), of(refusal.clone()), requests(), any::<bool>());
    let holds = holds.prop_map(|(n, since, refused, requests, rolled)| PendingKey {
        refused,
        requests,
        rolled,
        ..pending(n, since)
    });
    let rejected = (any::<bool>(), time.clone()).prop_map(|(wide, retry_at)| Rejected {
        may_be_full: false,
        spec_hash: if wide { wider_scope() } else { scope() }.hash(),
        message: "no".into(),
        retry_at,
    });
    // Only a key of the token itself can be proven; by hand, or another tenant's that leaked.
    let proofs = (ALL, any::<bool>(), any::<bool>(), time.clone()).prop_map(|(n, is_lookalike, proven, at)| {
        let key_sha256 = if is_lookalike { lookalike(n).fingerprint(id(n).as_str()) } else { fingerprint(n) };
        Proof { key_sha256, at, ..proof(n, proven && !is_lookalike) }
    });
    let contest =
        (ALL, 1..9_u32, time.clone(), any::<(bool, bool)>()).prop_map(|(n, times, at, (as_written, said))| {
            let said = said.then(|| "it was changed".to_owned());
            Contest { asked: asked(n), times, at, as_written, said }
        });
    let denied = prop::collection::btree_map(ALL.prop_map(id), time.clone(), 0..2);
    let watch = (time.clone(), prop_oneof![0..10_000_i64, Just(i64::MAX)]).prop_map(|(first, lasted)| Watched {
        first,
        since: SignedDuration::ZERO,
        lasted: SignedDuration::from_secs(lasted),
    });
    let watches = (of(watch.clone()), prop::collection::btree_map(MINE.prop_map(id), watch, 0..3));
    (
        prop::option::weighted(0.2, holds),
        (of(unsent), prop::option::weighted(0.1, late)),
        (
            prop::option::weighted(0.2, refusal.clone()),
            prop::option::weighted(0.2, contest),
            prop::option::weighted(0.1, refusal),
        ),
        prop::option::weighted(0.2, rejected),
        of(proofs),
        denied,
        (watches, of(time.clone()), prop::bool::weighted(0.05)),
    )
        .prop_map(
            |(
                pending,
                (unsent, late),
                (rewrite, contest, finalizer),
                rejected,
                proof,
                denied,
                ((watched, retired), restarted, is_calling),
            )| {
                Local {
                    is_calling,
                    made_room: false,
                    pending,
                    in_flight: None,
                    unsent,
                    late,
                    unproved: rewrite.clone(),
                    rewrite,
                    contest,
                    finalizer,
                    rejected,
                    proof,
                    denied,
                    watched,
                    retired,
                    restarted,
                    ..Local::default()
                }
            },
        )
}
