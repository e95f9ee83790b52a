//! What is said of all resources at one time, as metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::lock::lock;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Account {
    /// Its name, as in [`Said`].
    pub account: String,
}

/// What is said of all resources at one time.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// The accounts that there are.
    pub accounts: BTreeSet<String>,
    /// How many resources say this.
    pub resources: BTreeMap<Said, u32>,
    /// The earliest of their next rotations, in seconds since 1970.
    pub next_rotations: BTreeMap<KindOf, i64>,
    /// Resources whose keys are older than they are to get.
    pub overdue: BTreeMap<Overdue, u32>,
    /// Former tokens that were used after others took their places.
    pub old_in_use: BTreeMap<Account, u32>,
    /// Tokens that nobody uses, where their resources ask for that.
    pub unused: BTreeMap<Account, u32>,
}

/// What a resource says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Said {
    /// Its kind.
    pub kind: &'static str,
    /// Its account; empty where there is none of that name, for tenants can think of many.
    pub account: String,
    /// The reason of `Ready`.
    pub reason: String,
    /// The status of `Ready`: `true` or `false`.
    pub ready: &'static str,
}

/// The resources of a kind that belong to an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct KindOf {
    /// Their kind.
    pub kind: &'static str,
    /// Their account, as in [`Said`].
    pub account: String,
}

/// Why the keys of some resources are older than they are to get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Overdue {
    /// Their kind.
    pub kind: &'static str,
    /// Their account, as in [`Said`].
    pub account: String,
    /// `RotationWindows` where no window is open, and otherwise the reason of `Ready`.
    pub reason: String,
}

/// The last census: all of it is another at once.
#[derive(Clone, Debug, Default)]
pub(super) struct LastCensus(Arc<Mutex<Census>>);

impl LastCensus {
    pub(super) fn replace(&self, census: Census) {
        *lock(&self.0) = census;
    }
}

impl Collector for LastCensus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let census = lock(&self.0);
        let resources = census.resources.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let rotations = census.next_rotations.iter().map(|(labels, at)| (labels, *at));
        let in_use = census.old_in_use.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let help = "Resources, by what their condition Ready says";
        encode_gauges(&mut encoder, "resources", help, resources)?;
        let help = "When the next rotation is due, in seconds since 1970";
        encode_gauges(&mut encoder, "next_rotation_timestamp_seconds", help, rotations)?;
        let overdue = census.overdue.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let help = "Keys that are older than rotation.every, by what the rotation waits for";
        encode_gauges(&mut encoder, "rotations_overdue", help, overdue)?;
        let help = "Former tokens that were used after others took their places";
        encode_gauges(&mut encoder, "old_tokens_in_use", help, in_use)?;
        let unused = census.unused.iter().map(|(labels, number)| (labels, i64::from(*number)));
        let help = "Tokens that have not been used for as long as their resources ask about";
        encode_gauges(&mut encoder, "tokens_unused", help, unused)
    }
}

pub(super) fn encode_gauges<'a, L: EncodeLabelSet + 'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (&'a L, i64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}
