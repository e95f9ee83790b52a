//! What an account may be like.

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::api::DeletionPolicy;
use crate::datafast::Token;
use crate::lifecycle::allow::{Allow, Outside, Standing};
use crate::lifecycle::marker::OwnerId;
use crate::lifecycle::observed::Availability;
use crate::lifecycle::queue::{Priority, Waiting};
use crate::lifecycle::snapshot::Snapshot;

use super::super::scenes::*;
use super::{ALL, token_of_any};

fn gates() -> impl Strategy<Value = Availability> {
    prop_oneof![
        6 => Just(Availability::Open),
        1 => Just(Availability::NotFound),
        1 => Just(Availability::Connecting),
        1 => Just(Availability::RateLimited),
        1 => Just(Availability::Unavailable("503".into())),
    ]
}

fn snapshots(time: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Snapshot> {
    let used = || prop::collection::btree_map(ALL, prop::option::weighted(0.3, time.clone()), 0..8);
    // What a list tells of its use, it may leave out.
    let token = |(n, last_used_at)| Token { last_used_at, tells_use: n % 4 != 3, ..token_of_any(n) };
    let shown = || used().prop_map(move |all| all.into_iter().map(token).collect::<Vec<_>>());
    (time.clone(), shown(), of((time.clone(), shown()))).prop_map(|(begun, tokens, later)| {
        let mut snapshot = Snapshot::new(HORIZON, begun, tokens);
        if let Some((begun, tokens)) = later {
            snapshot.listed(begun, tokens);
        }
        snapshot
    })
}

pub(in super::super) fn queue(
    time: impl Strategy<Value = Timestamp> + Clone + 'static,
) -> impl Strategy<Value = Vec<Waiting>> {
    let priority = prop_oneof![Just(Priority::MadeRoom), Just(Priority::Rotation), Just(Priority::New)];
    let waiting = (priority, time).prop_map(|(priority, since)| (priority, since));
    vec(waiting, 0..4).prop_map(|all| {
        let waiting = |(n, (priority, since))| Waiting { priority, since, owner: OwnerId::of(&format!("other {n}")) };
        all.into_iter().enumerate().map(waiting).collect()
    })
}

/// Mostly such that something is allowed.
fn allows() -> impl Strategy<Value = Allow> {
    let permissions = prop_oneof![
        3 => Just(None),
        1 => Just(Some(["*".to_owned()].into())),
        2 => Just(Some(scope().permissions)),
        1 => Just(Some(["goals:read".to_owned()].into())),
    ];
    let websites = prop::option::weighted(0.1, Just(["65f1c0ffee0123456789abcd".to_owned()].into()));
    let revoke_only = prop::option::weighted(0.2, Just([DeletionPolicy::Revoke].into()));
    (permissions, websites, prop::option::weighted(0.2, 1..4_usize), revoke_only).prop_map(
        |(permissions, website_ids, max_tokens_per_namespace, deletion_policies)| Allow {
            permissions,
            website_ids,
            max_tokens_per_namespace,
            deletion_policies,
            ..Allow::default()
        },
    )
}

/// The part of a scene that is not the resource's.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    availability: Availability,
    snapshot: Option<Snapshot>,
    free: Option<i64>,
    waiting: Vec<Waiting>,
    allow: Option<Allow>,
    standing: Standing,
}

impl Surroundings {
    pub(super) fn around(self, scene: Scene) -> Scene {
        let Self { availability, snapshot, free, waiting, allow, standing } = self;
        Scene { availability, snapshot, free, waiting, allow, standing, ..scene }
    }
}

pub(super) fn surroundings(
    time: impl Strategy<Value = Timestamp> + Clone + 'static,
) -> impl Strategy<Value = Surroundings> {
    let why = prop_oneof![Just(Outside::NotSelected), Just(Outside::Unreadable("forbidden".into()))];
    let of_outside = prop::option::weighted(0.05, why);
    let standing = (of_outside, 0..3_usize).prop_map(|(outside, ahead)| Standing { outside, ahead });
    (
        gates(),
        prop::option::weighted(0.9, snapshots(time.clone())).boxed(),
        of(prop_oneof![1 => Just(0), 2 => -2..20_i64]),
        queue(time).boxed(),
        of(allows()).boxed(),
        standing,
    )
        .prop_map(|(availability, snapshot, free, waiting, allow, standing)| Surroundings {
            availability,
            snapshot,
            free,
            waiting,
            allow,
            standing,
        })
}
