//! Whether the watches can be trusted: what changes in the cluster is seen by them, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};

use super::census::encode_gauges;
use crate::lock::lock;

/// A watch that has failed for so long is broken: the process is not ready any more.
const BROKEN_AFTER: Duration = Duration::from_secs(30);
/// A watch tells nothing when it is resumed: without another failure for so long, and twice as long as it has failed, it was.
/// More than a connection is waited for.
const RESUMED_AFTER: Duration = Duration::from_secs(45);
/// One that was broken began anew with a list, after which it fails at once or works.
const WORKS_AFTER: Duration = Duration::from_secs(5);

/// All watches of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches(Arc<Mutex<Vec<WatchHealth>>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct WatchHealth(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    kind: String,
    /// Whether the first list is there.
    is_synced: bool,
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    first: Instant,
    last: Instant,
    /// The last list since it is broken.
    listed: Option<Instant>,
}

impl Failing {
    fn is_long(self) -> bool {
        self.last - self.first >= BROKEN_AFTER
    }

    fn is_over(self, now: Instant) -> bool {
        let lasts = |since: Instant| now.saturating_duration_since(since);
        match self.is_long() {
            true => self.listed.is_some_and(|listed| listed > self.last && lasts(listed) >= WORKS_AFTER),
            false => lasts(self.last) >= RESUMED_AFTER + 2 * (self.last - self.first),
        }
    }

    fn is_broken(self, now: Instant) -> bool {
        self.is_long() && !self.is_over(now)
    }
}

impl Watches {
    /// Another watch, of this kind.
    pub(super) fn add(&self, kind: &str) -> WatchHealth {
        let state = State { kind: kind.to_owned(), is_synced: false, failing: None };
        let watch = WatchHealth(Arc::new(Mutex::new(state)));
        lock(&self.0).push(watch.clone());
        watch
    }

    /// The kind of a watch that is broken, if one is.
    pub(super) fn broken(&self) -> Option<String> {
        let watches = lock(&self.0);
        let broken = watches.iter().find(|watch| watch.is_broken())?;
        let kind = lock(&broken.0).kind.clone();
        Some(kind)
    }
}

impl WatchHealth {
    /// It failed. Returns whether it is broken since.
    pub(crate) fn failed(&self) -> bool {
        self.failed_at(Instant::now())
    }

    fn failed_at(&self, now: Instant) -> bool {
        let mut state = lock(&self.0);
        let before = state.failing.filter(|failing| !failing.is_over(now));
        let new = Failing { first: now, last: now, listed: None };
        let failing = Failing { last: now, ..before.unwrap_or(new) };
        state.failing = Some(failing);
        failing.is_long() && before.is_none_or(|before| !before.is_long())
    }

    /// A list is complete. Returns whether that is the first since it is broken.
    pub(crate) fn listed(&self) -> bool {
        self.listed_at(Instant::now())
    }

    fn listed_at(&self, now: Instant) -> bool {
        let mut state = lock(&self.0);
        state.is_synced = true;
        match &mut state.failing {
            Some(failing) if failing.is_long() => failing.listed.replace(now).is_none(),
            failing => {
                *failing = None;
                false
            }
        }
    }

    /// It told of a change.
    pub(crate) fn works(&self) {
        lock(&self.0).failing = None;
    }

    /// Whether it has failed for long, and still does.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken_at(Instant::now())
    }

    fn is_broken_at(&self, now: Instant) -> bool {
        lock(&self.0).failing.is_some_and(|failing| failing.is_broken(now))
    }

    fn is_synced_at(&self, now: Instant) -> bool {
        let state = lock(&self.0);
        state.is_synced && state.failing.is_none_or(|failing| failing.is_over(now))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

impl Collector for Watches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = Instant::now();
        let mut synced: BTreeMap<KindLabel, bool> = BTreeMap::new();
        for watch in lock(&self.0).iter() {
            let kind = lock(&watch.0).kind.clone();
            *synced.entry(KindLabel { kind }).or_insert(true) &= watch.is_synced_at(now);
        }
        let help = "Whether the watches of a kind are in sync: 0 where one is broken";
        encode_gauges(
            &mut encoder,
            "watch_synced",
            help,
            synced.iter().map(|(labels, synced)| (labels, (*synced).into())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (WatchHealth, Instant) {
        let watch = Watches::default().add("Secret");
        watch.listed();
        (watch, Instant::now())
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_watch_is_out_of_sync_before_its_first_list_and_while_it_fails() {
        let watch = Watches::default().add("Secret");
        let start = Instant::now();
        assert!(!watch.is_synced_at(start));
        watch.listed_at(start);
        assert!(watch.is_synced_at(start));
        watch.failed_at(start);
        assert!(!watch.is_synced_at(start));
        watch.works();
        assert!(watch.is_synced_at(start));
    }

    #[test]
    fn a_failure_now_and_then_breaks_no_watch() {
        let (watch, start) = watch();
        for at in [0, 1, 100, 101, 200] {
            assert!(!watch.failed_at(start + seconds(at)), "{at}");
            assert!(!watch.is_broken_at(start + seconds(at + 60)));
        }
        assert!(watch.is_synced_at(start + seconds(246)), "it was resumed without a word");
    }

    /// As the pauses between tries grow.
    fn broken() -> (WatchHealth, Instant) {
        let (watch, start) = watch();
        let told = [0, 1, 3, 7, 15, 31, 60, 90].map(|at| watch.failed_at(start + seconds(at)));
        assert_eq!(told, [false, false, false, false, false, true, false, false], "it is told once");
        (watch, start + seconds(90))
    }

    #[test]
    fn what_fails_for_long_is_broken_until_it_is_seen_to_work() {
        let (watch, last) = broken();
        let much_later = last + seconds(10_000);
        assert!(watch.is_broken_at(much_later) && !watch.is_synced_at(much_later), "nothing came of it");
        assert!(watch.listed_at(much_later), "that is worth telling");
        assert!(watch.is_broken_at(much_later + seconds(4)), "a list is no watch");
        assert!(!watch.is_broken_at(much_later + seconds(5)) && watch.is_synced_at(much_later + seconds(5)));
        assert!(!watch.failed_at(much_later + seconds(6)), "that is another one");
    }

    #[test]
    fn what_can_be_listed_and_not_be_watched_stays_broken() {
        let (watch, last) = broken();
        for at in [30, 60, 90].map(seconds) {
            assert_eq!(watch.listed_at(last + at), at == seconds(30), "it is told once");
            assert!(!watch.failed_at(last + at), "and that it is broken, before");
            assert!(watch.is_broken_at(last + at + seconds(20)));
        }
        watch.works();
        assert!(!watch.is_broken_at(last + seconds(91)));
    }
}
