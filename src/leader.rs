//! Leader election by Lease: one replica acts, the others stand by.
//!
//! Invariant: a leader that could not renew before its own deadline, on the monotonic clock, and earlier than the lease
//! runs out for others, ends its process at once.
//!
//! That clock stands still with a machine that is suspended. What such a leader does until it has renewed in vain, or not at
//! all, is fenced by the record, as all that a leader does late.
//!
//! | Since a renewal, of a lease's duration | |
//! |---|---|
//! | 1/5 | the leader renews again |
//! | 2/3 | the leader ends itself, counting from when it sent the renewal |
//! | 4/5 | another takes the lease, counting from when it saw the renewal: so that it leads within the duration |

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio_util::sync::CancellationToken;

use crate::api::names;
use crate::causes::with_causes;
use crate::lock::lock;
use crate::telemetry::{Failures, Over, millis};
use crate::version::version;

/// The exit code of a leader that lost its lease.
const LEASE_LOST: i32 = 70;
const WATCHDOG: Duration = Duration::from_millis(100);
/// A lease that is given up is taken this soon, however long leases are.
const STANDBY: Duration = Duration::from_secs(1);
/// What an API server may need for an answer, however short leases are.
const SOON: Duration = Duration::from_secs(1);

/// Whether this process may act.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    /// None: there is no election.
    deadline: Option<Arc<Mutex<Instant>>>,
}

impl Leadership {
    /// The only replica there is.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Whether the lease is still surely held. Asked right before a token is issued or revoked.
    pub fn may_act(&self) -> bool {
        self.deadline().is_none_or(|deadline| Instant::now() < deadline)
    }

    /// The time until this process ends itself unless the lease is renewed.
    fn left(&self) -> Duration {
        self.deadline().map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline.as_ref().map(|deadline| *lock(deadline))
    }

    fn extend(&self, to: Instant) {
        if let Some(deadline) = &self.deadline {
            *lock(deadline) = to;
        }
    }
}

/// A candidate for the lease.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    duration: Duration,
    /// The lease as last read, and when it was first read so: another holder's clock is not compared with ours.
    seen: Option<(Option<String>, Instant)>,
    /// The lease as we wrote it last, unless something went wrong since.
    ours: Option<Lease>,
    /// Its version then: it grows with all that is stored.
    written: Option<u128>,
    /// For the log.
    failures: Failures,
}

impl Candidate {
    /// Of this process, for the Lease `datafast-operator`.
    pub fn new(api: Api<Lease>, identity: String, duration: Duration) -> Self {
        Self { api, identity, duration, seen: None, ours: None, written: None, failures: Failures::default() }
    }

    /// The same, with requests of its own.
    #[must_use]
    pub fn by(self, api: Api<Lease>) -> Self {
        Self { api, ..self }
    }

    fn retry(&self) -> Duration {
        self.duration / 5
    }

    /// Our own deadline after a renewal that was sent at `sent`.
    fn deadline(&self, sent: Instant) -> Instant {
        sent + self.duration * 2 / 3
    }

    /// Waits for the lease. None: `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> Option<Leadership> {
        loop {
            let sent = Instant::now();
            let (mut pause, mut is_unsure) = (self.retry().min(STANDBY), false);
            match self.claim(self.retry().max(SOON)).await {
                Ok(Claim::Held) => {
                    let deadline = Arc::new(Mutex::new(self.deadline(sent)));
                    let leadership = Leadership { deadline: Some(deadline) };
                    watch_over(leadership.clone());
                    return Some(leadership);
                }
                Ok(Claim::Raced) => {}
                Ok(Claim::Others { left }) => pause = pause.min(left),
                Err(_) => is_unsure = true,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {
                    // What was not answered may have been written. If it can't be given up now, it runs out by itself.
                    if is_unsure {
                        let _ = tokio::time::timeout(SOON, self.give_up()).await;
                    }
                    return None;
                }
            }
        }
    }

    /// Renews the lease if it was ours, else takes it if it is free. It takes `limit` at most.
    async fn claim(&mut self, limit: Duration) -> kube::Result<Claim> {
        let attempt = async {
            match self.ours.take() {
                Some(lease) => self.write(lease).await,
                None => self.take_if_free().await,
            }
        };
        let attempt = tokio::time::timeout(limit, attempt);
        let claim = attempt.await.unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())));
        match &claim {
            Err(error) => {
                let error = with_causes(error);
                if self.failures.is_news(&error) {
                    tracing::warn!(error, "the lease could not be read or written: it is tried again");
                } else {
                    tracing::debug!(error, "the lease could not be read or written again");
                }
            }
            Ok(_) => {
                if let Some(Over { failures, lasted }) = self.failures.over() {
                    tracing::info!(failures, durationMs = millis(lasted), "the lease can be read and written again");
                }
            }
        }
        claim
    }

    async fn take_if_free(&mut self) -> kube::Result<Claim> {
        let Some(lease) = self.api.get_opt(names::MANAGER).await? else {
            let metadata = ObjectMeta { name: Some(names::MANAGER.into()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.won(created);
        };
        self.refuse_the_past(&lease);
        let version = lease.metadata.resource_version.clone();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => self.seen.insert((version, Instant::now())).1,
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(self.duration);
        let left = (duration * 4 / 5).saturating_sub(since.elapsed());
        if !holder.is_empty() && holder != self.identity && !left.is_zero() {
            return Ok(Claim::Others { left });
        }
        self.write(lease).await
    }

    async fn write(&mut self, mut lease: Lease) -> kube::Result<Claim> {
        lease.spec = Some(self.spec(lease.spec.as_ref()));
        let written = self.api.replace(names::MANAGER, &PostParams::default(), &lease).await;
        self.won(written)
    }

    fn won(&mut self, written: kube::Result<Lease>) -> kube::Result<Claim> {
        match written {
            Ok(lease) => {
                self.refuse_the_past(&lease);
                self.written = version(&lease.metadata);
                self.ours = Some(lease);
                Ok(Claim::Held)
            }
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() || refusal.is_already_exists() => Ok(Claim::Raced),
            Err(error) => Err(error),
        }
    }

    /// Where the cluster was restored from a backup, the lease is an older one than was written. Watches would go on from what
    /// is no longer there, and what this process knows is no longer so: it ends, and its successor reads all anew.
    fn refuse_the_past(&self, lease: &Lease) {
        if version(&lease.metadata).zip(self.written).is_some_and(|(now, before)| now < before) {
            end("the API server has gone back to an older state");
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let same = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX).max(1)),
            acquire_time: same.map_or(Some(now.clone()), |spec| spec.acquire_time.clone()),
            renew_time: Some(now),
            lease_transitions: Some(if same.is_some() || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    /// Renews the lease until `stop`, then gives it up.
    pub async fn hold(mut self, leadership: Leadership, stop: CancellationToken) {
        let mut pause = self.retry();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
            let sent = Instant::now();
            // Time for another try is left, should this one hang.
            let limit = leadership.left() / 2;
            pause = self.retry() / 6;
            let claim = tokio::select! {
                claim = self.claim(limit.max(SOON)) => claim,
                // Should it still be written: it is not the one that is given up then, and refused.
                () = stop.cancelled() => break,
            };
            match claim {
                Ok(Claim::Held) => {
                    leadership.extend(self.deadline(sent));
                    pause = self.retry();
                }
                // Somebody changed the lease since our last write: the next read tells whether it is still ours.
                Ok(Claim::Raced) => {}
                // Somebody else holds it: no deadline needs to be waited for.
                Ok(Claim::Others { .. }) => {
                    leadership.extend(Instant::now());
                    end("another process took the lease");
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.give_up().await {
            tracing::warn!(%error, "the lease could not be given up: it runs out by itself");
        }
    }

    async fn give_up(&mut self) -> kube::Result<()> {
        loop {
            let lease = match self.ours.take() {
                Some(lease) => Some(lease),
                None => self.api.get_opt(names::MANAGER).await?,
            };
            let is_ours = |spec: &&mut LeaseSpec| spec.holder_identity.as_ref() == Some(&self.identity);
            let Some(mut lease) = lease else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut().filter(is_ours) else { return Ok(()) };
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            match self.api.replace(names::MANAGER, &PostParams::default(), &lease).await {
                // A renewal that was under way came in between.
                Err(kube::Error::Api(refusal)) if refusal.is_conflict() => {}
                other => return other.map(drop),
            }
        }
    }
}

/// Whose the lease is.
enum Claim {
    /// Ours.
    Held,
    /// It is not known: somebody else wrote it at the same time.
    Raced,
    /// Another process's, at least for this long.
    Others { left: Duration },
}

/// A thread of its own, so that a busy or stopped runtime can't outlive its lease: after SIGCONT it is the first to run.
fn watch_over(leadership: Leadership) {
    std::thread::spawn(move || {
        while leadership.may_act() {
            std::thread::sleep(WATCHDOG);
        }
        end("the lease could not be renewed in time");
    });
}

fn end(why: &'static str) -> ! {
    let (told, is_told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tracing::error!(why, "no longer the leader: the process ends at once");
        let _ = told.send(());
    });
    // Where nobody takes the output, writing never ends: that must not keep the process.
    let _ = is_told.recv_timeout(WATCHDOG);
    std::process::exit(LEASE_LOST);
}
