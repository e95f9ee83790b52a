//! The smallest shell there can be: it does at once and without a fault what is decided, and lists when asked to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{HistoryEntry, KeyStatus, Retiring};
use crate::datafast::{Effect, Error, RawKey, Token, TokenId};
use crate::lifecycle::decision::{Action, Decision, RevokeCause};
use crate::lifecycle::desired::Desired;
use crate::lifecycle::event::{Answer, Event, Now, Order};
use crate::lifecycle::facts::{Mirror, facts};
use crate::lifecycle::history::{Revocation, history};
use crate::lifecycle::local::Local;
use crate::lifecycle::marker::Nonce;
use crate::lifecycle::observed::{Availability, Drift, SecretFacts, SecretOwner, SecretView, StatusRecord};
use crate::lifecycle::record::{Attempt, Cause, SecretRecord};
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::{Reason, Verdict};

use super::random;
use super::scenes::*;

/// Numbers of attempts that this process makes.
const FIRST_NEW: u8 = 100;

/// The key that DataFast takes as this token's: its mask shows which number it has.
fn live_key(token: &Token) -> Arc<RawKey> {
    (0..=u8::MAX).map(key).find(|key| key.mask() == token.display_key).expect("a key of this test")
}

/// How long a request to DataFast is waited for.
const LONGEST_REQUEST: SignedDuration = SignedDuration::from_secs(30);

/// As much of a status as its history is told from.
fn shown(status: &StatusRecord, history: &[HistoryEntry]) -> KeyStatus {
    let retiring = |id: &TokenId| Retiring { token_id: id.to_string(), ..Retiring::default() };
    KeyStatus {
        token_id: status.token_id.as_ref().map(ToString::to_string),
        issued_at: status.issued_at.map(Time),
        retiring: status.retiring.iter().map(retiring).collect(),
        history: history.to_vec(),
        ..KeyStatus::default()
    }
}

/// How long each answer takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Slowness {
    /// Of the API server.
    pub(super) kubernetes: SignedDuration,
    /// Of DataFast.
    pub(super) datafast: SignedDuration,
}

pub(super) struct Simulator {
    pub(super) scene: Scene,
    /// All tokens of the account.
    pub(super) remote: BTreeMap<TokenId, Token>,
    /// Why tokens were issued.
    pub(super) causes: Vec<Cause>,
    /// With which time workloads were restarted.
    pub(super) restarted: Vec<Timestamp>,
    /// Tokens that got another key, and why.
    pub(super) rolls: Vec<(TokenId, Cause)>,
    /// The time that has passed, whatever the wall clock says.
    pub(super) steady: SignedDuration,
    pub(super) released: bool,
    /// DataFast knows none of the tokens that its list lacks.
    pub(super) takes_hidden_keys: bool,
    /// How long answers take.
    pub(super) slowness: Slowness,
    /// When the API server last answered that the Secret has another key.
    pub(super) swapped: Option<Timestamp>,
    /// When tokens were revoked.
    pub(super) revoked: BTreeMap<TokenId, Timestamp>,
    /// What the API server was asked to write, dry runs among it.
    pub(super) writes: usize,
    /// `status.history`.
    pub(super) history: Vec<HistoryEntry>,
    /// What of it this process has not written yet.
    to_tell: Vec<Revocation>,
    next: u8,
    pending_key: Option<Arc<RawKey>>,
}

impl Simulator {
    /// Starts with just the tokens that the scene's list shows, and the one whose key is held.
    pub(super) fn new(mut scene: Scene) -> Self {
        let listed = scene.snapshot.iter().flat_map(Snapshot::tokens).map(|listed| listed.token.clone());
        let held = scene.local.pending.as_ref().map(|held| random::number(&held.token_id));
        let mut remote: BTreeMap<TokenId, Token> = listed.map(|token| (token.id.clone(), token)).collect();
        if let Some(n) = held {
            remote.insert(id(n), token(n));
        }
        scene.now = now();
        Self {
            scene,
            remote,
            causes: Vec::new(),
            restarted: Vec::new(),
            rolls: Vec::new(),
            steady: SignedDuration::ZERO,
            released: false,
            takes_hidden_keys: false,
            slowness: Slowness::default(),
            swapped: None,
            revoked: BTreeMap::new(),
            writes: 0,
            history: Vec::new(),
            to_tell: Vec::new(),
            next: FIRST_NEW,
            pending_key: held.map(key),
        }
    }

    pub(super) fn decide(&mut self) -> Decision {
        let now = self.both_clocks();
        self.scene.local.tick(now);
        self.scene.decide()
    }

    /// Does the next thing; or, where there is none but to wait, says what is decided.
    pub(super) fn step(&mut self) -> Option<Rest> {
        let decision = self.decide();
        let retired = self.scene.observe(|seen| facts(&self.scene.desired, seen, self.scene.now).former());
        self.apply(Event::Retiring(retired));
        self.pass(SignedDuration::from_millis(1));
        match decision {
            Decision::Act(action) => {
                self.act(action);
                None
            }
            Decision::Rest { verdict, requeue } => {
                let is_done = self.released || !self.mirror(verdict.ready);
                is_done.then_some(Rest { verdict, requeue })
            }
            // What was reported before stays.
            Decision::Pause { requeue } => {
                let verdict = Verdict::new(Reason::Issuing, self.scene.status.ready, "");
                Some(Rest { verdict, requeue })
            }
        }
    }

    /// Acts until nothing is left to do but to wait; `None`: it does not come to an end.
    pub(super) fn run(&mut self) -> Option<Rest> {
        (0..40).find_map(|_| self.step())
    }

    /// Looks and waits until nothing changes but the time. Each wait is a poll at least, so this is far past the horizon.
    pub(super) fn settle(&mut self) -> Reason {
        let mut said = Reason::Issuing;
        for _ in 0..12 {
            let decision = self.run().expect("it comes to rest");
            if self.released {
                break;
            }
            said = decision.verdict.reason;
            self.wait(&decision);
        }
        said
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: SignedDuration) {
        self.scene.now = self.scene.now.saturating_add(time).unwrap();
        self.steady += time;
    }

    /// Lets time pass until what is waited for is there, and a list with it.
    pub(super) fn wait(&mut self, decision: &Rest) {
        let poll = self.scene.now + SignedDuration::from_secs(60);
        let soon = decision.requeue.at.filter(|at| *at < later(400 * A_DAY));
        let until = poll.max(soon.unwrap_or(poll)).max(decision.requeue.list.unwrap_or(poll));
        self.pass(until.duration_since(self.scene.now));
        self.list();
        // By now a call that was under way is over.
        self.scene.local.is_calling = false;
    }

    pub(super) fn list(&mut self) {
        let begun = self.scene.now;
        if !self.datafast() {
            self.scene.availability = Availability::Unavailable("no answer".into());
            return;
        }
        if matches!(self.scene.availability, Availability::Unavailable(_)) {
            self.scene.availability = Availability::Open;
        }
        let tokens: Vec<Token> = self.remote.values().cloned().collect();
        let horizon = self.scene.horizon;
        match &mut self.scene.snapshot {
            Some(snapshot) => snapshot.listed(begun, tokens),
            none => *none = Some(Snapshot::new(horizon, begun, tokens)),
        }
    }

    /// Another process takes over: what this one knew is gone.
    pub(super) fn crash(&mut self) {
        (self.scene.local, self.scene.snapshot) = (Local::default(), None);
        self.pending_key = None;
        self.to_tell.clear();
        self.list();
    }

    /// Another process takes over, whose first list still shows this.
    pub(super) fn crash_behind(&mut self, lagging: &BTreeMap<TokenId, Token>) {
        self.crash();
        let tokens = lagging.values().cloned().collect();
        self.scene.snapshot = Some(Snapshot::new(self.scene.horizon, self.scene.now, tokens));
    }

    /// Tokens of the account that are this resource's.
    pub(super) fn own(&self) -> BTreeSet<TokenId> {
        self.remote.keys().filter(|id| random::is_own(&self.scene, id)).cloned().collect()
    }

    /// The record of the Secret, which must be there.
    pub(super) fn secret_record(&self) -> &SecretRecord {
        match &self.scene.secret {
            SecretView::Present(facts) => &facts.record,
            SecretView::Missing => panic!("there is no Secret"),
        }
    }

    /// Whether DataFast takes the key that the Secret holds as that of the token it names.
    pub(super) fn has_live_key(&self) -> bool {
        let SecretView::Present(SecretFacts { record, key: Some(key), .. }) = &self.scene.secret else { return false };
        let live = record.token_id.as_ref().and_then(|id| self.remote.get(id)).map(live_key);
        live.is_some_and(|live| live.expose() == key.expose())
    }

    /// The token that the Secret names.
    pub(super) fn secrets_token(&self) -> Option<TokenId> {
        match &self.scene.secret {
            SecretView::Present(facts) => facts.record.token_id.clone(),
            SecretView::Missing => None,
        }
    }

    fn mirror(&mut self, ready: bool) -> bool {
        let scene = &self.scene;
        let (status, history) = scene.observe(|seen| {
            let facts = facts(&scene.desired, seen, scene.now);
            let before = scene.status.clone();
            let before_use = before.last_used_at;
            let (token_id, attempt, marked) = match &facts.token {
                Mirror::Is(listed) => {
                    let marked = listed.marker.as_ref().map(|marker| marker.owner.clone());
                    (Some(listed.token.id.clone()), seen.attempt_of(listed).cloned(), marked)
                }
                Mirror::Keep => (before.token_id, before.attempt, before.marked),
                Mirror::Nothing => (None, None, None),
            };
            let whole_seconds = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap();
            let retiring = facts.retiring.as_ref().map(|all| {
                let until = all.iter().filter_map(|r| Some((r.listed.token.id.clone(), whole_seconds(r.until?))));
                (all.iter().map(|r| r.listed.token.id.clone()).collect(), until.collect())
            });
            let kept = || (scene.status.retiring.clone(), scene.status.revoke_after.clone());
            let (retiring, revoke_after) = retiring.unwrap_or_else(kept);
            let status = StatusRecord {
                token_id,
                attempt,
                marked,
                retiring,
                revoke_after,
                ready,
                issued_at: facts.issued_at.map(whole_seconds),
                rotate_request: facts.rotate_request.clone(),
                waiting_since: None,
                unused_since: facts.unused_since.map(whole_seconds),
                last_used_at: match &facts.token {
                    Mirror::Is(listed) => listed.token.last_used_at.map(whole_seconds),
                    Mirror::Keep => before_use,
                    Mirror::Nothing => None,
                },
            };
            let (before, after) = (shown(&scene.status, &self.history), shown(&status, &[]));
            let history = history(&before, &after, &facts, &self.to_tell, scene.now);
            (status, history)
        });
        let changed = status != self.scene.status;
        self.scene.status = status;
        if changed {
            self.history = history;
            self.to_tell.retain(|revocation| !revocation.is_told(&self.history));
            self.kubernetes(1);
        }
        changed
    }

    fn both_clocks(&self) -> Now {
        Now { wall: self.scene.now, steady: self.steady }
    }

    fn apply(&mut self, event: Event) {
        let now = self.both_clocks();
        self.scene.local.apply(event, now);
        if !self.scene.local.has_pending_key() {
            self.pending_key = None;
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::AddFinalizer => {
                self.scene.has_finalizer = true;
                self.kubernetes(1);
                self.apply(Event::FinalizerAdded);
            }
            Action::Record { again, at, cause, keep, adopted, rolls } => {
                self.scene.adopted = adopted;
                let nonce = again.unwrap_or_else(|| nonce(self.next));
                self.next += 1;
                let requests = self.scene.desired.requests.clone();
                self.record(Attempt { nonce, at, cause, requests, rolls }, keep);
            }
            Action::Preflight => {
                self.kubernetes(1);
                self.apply(Event::DryRun(Ok(())));
            }
            Action::Send { nonce, cause, rolls, by } => {
                assert!(self.scene.now <= by, "sent at {}, to be sent by {by}", self.scene.now);
                self.send(nonce, cause, rolls);
            }
            Action::DropKey => self.apply(Event::KeyDropped),
            Action::Swap { record } => {
                self.write(record, true);
                self.swapped = Some(self.scene.now);
                self.apply(Event::SecretWritten);
            }
            Action::Rewrite { record, asked, adopts } => {
                self.scene.adopted.extend(adopts);
                self.write(record, false);
                self.apply(Event::SecretRewritten { asked, as_written: true });
            }
            Action::Prove { token_id } => {
                let key_sha256 = self.scene.secret().key.as_ref().unwrap().fingerprint(token_id.as_str());
                let live = self.remote.get(&token_id).map(live_key);
                let hidden = || self.takes_hidden_keys.then(|| key(random::number(&token_id)));
                let proven = live.or_else(hidden).is_some_and(|key| key_sha256 == key.fingerprint(token_id.as_str()));
                self.apply(Event::Tried { token_id, key_sha256, outcome: Ok(proven) });
            }
            Action::Revoke { token_id, cause } => self.revoke(token_id, cause),
            Action::Restart { at } => {
                self.restarted.push(at);
                self.apply(Event::Restarted { at });
            }
            Action::DeleteSecret => self.scene.secret = SecretView::Missing,
            Action::Release => {
                self.scene.has_finalizer = false;
                self.released = true;
            }
        }
    }

    fn record(&mut self, attempt: Attempt, keep: Vec<Attempt>) {
        let start = self.scene.now;
        self.apply(Event::Recording { nonce: attempt.nonce.clone() });
        self.scene.has_finalizer = true;
        self.scene.log.0 = keep;
        self.scene.log.0.push(attempt.clone());
        self.kubernetes(2);
        let took = self.scene.now.duration_since(start);
        self.apply(Event::Recorded { attempt, took, horizon: self.scene.horizon });
        self.apply(Event::DryRun(Ok(())));
    }

    fn send(&mut self, sent: Nonce, cause: Cause, rolls: Option<TokenId>) {
        let Desired { scope, requests, .. } = &self.scene.desired;
        let order = Order { nonce: sent.clone(), spec_hash: scope.hash(), requests: requests.clone(), rolls };
        self.apply(Event::Sending { nonce: sent.clone() });
        let n = (0..=u8::MAX).find(|n| nonce(*n) == sent).unwrap();
        let made = match &order.rolls {
            None => self.issue(n, cause),
            Some(token_id) => self.roll(n, cause, token_id.clone()),
        };
        let answer = match made {
            Ok(token_id) => {
                self.pending_key = Some(key(n));
                Answer::Issued { key_sha256: Some(key(n).fingerprint(token_id.as_str())), token_id }
            }
            Err(error) => Answer::Failed(error),
        };
        self.apply(Event::Sent { order, answer });
    }

    fn issue(&mut self, n: u8, cause: Cause) -> Result<TokenId, Error> {
        self.causes.push(cause);
        let issued = Token { permissions: self.scene.desired.scope.permissions.clone(), ..token(n) };
        self.remote.insert(issued.id.clone(), issued.clone());
        if !self.datafast() {
            // Until a list is answered.
            self.scene.availability = Availability::Unavailable("no answer".into());
            return Err(Error::Unavailable { reason: "no answer".into(), effect: Effect::Unknown });
        }
        let now = self.scene.now;
        self.scene.snapshot.iter_mut().for_each(|s| s.issued(issued.clone(), now));
        self.scene.free = self.scene.free.map(|free| free - 1);
        Ok(issued.id)
    }

    fn roll(&mut self, n: u8, cause: Cause, token_id: TokenId) -> Result<TokenId, Error> {
        self.rolls.push((token_id.clone(), cause));
        let now = self.scene.now;
        self.remote.get_mut(&token_id).ok_or(Error::NotFound)?.display_key = key(n).mask();
        self.scene.snapshot.iter_mut().for_each(|s| s.rolled(&token_id, &key(n).mask(), now));
        Ok(token_id)
    }

    fn revoke(&mut self, token_id: TokenId, cause: RevokeCause) {
        let now = self.scene.now;
        let existed = self.remote.remove(&token_id).is_some();
        self.scene.free = self.scene.free.map(|free| free + i64::from(existed));
        if existed {
            self.revoked.insert(token_id.clone(), now);
            self.to_tell.push(Revocation { at: now, token_id: token_id.clone(), display_key: None, cause });
            self.scene.snapshot.iter_mut().for_each(|s| s.revoked(&token_id, now));
        }
        let outcome = if existed { Ok(()) } else { Err(Some(Error::NotFound)) };
        self.apply(Event::Revoked { token_id, cause, outcome });
    }

    /// The API server is asked to write, so many things at once.
    fn kubernetes(&mut self, writes: usize) {
        self.writes += writes;
        self.pass(self.slowness.kubernetes);
    }

    /// DataFast is asked. Whether it answers in time.
    fn datafast(&mut self) -> bool {
        let takes = self.slowness.datafast;
        self.pass(takes.min(LONGEST_REQUEST));
        takes <= LONGEST_REQUEST
    }

    /// Through text, as the API server stores it.
    fn write(&mut self, record: SecretRecord, swap: bool) {
        self.kubernetes(1);
        let annotations = record.annotations().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let record = SecretRecord::read(&annotations.collect(), self.scene.now);
        let key = if swap { self.pending_key.clone() } else { self.scene.secret().key.clone() };
        let facts = SecretFacts { owner: SecretOwner::This, record, key, flaw: None, drift: Drift::default() };
        self.scene.secret = SecretView::Present(facts);
    }

    /// What is in the way for a while is over: the account is open, not doubted and has room, and nothing is refused.
    pub(super) fn clear_obstacles(scene: &mut Scene) {
        scene.availability = Availability::Open;
        scene.free = Some(10);
        scene.waiting.clear();
        scene.local = Local { rejected: None, rewrite: None, contest: None, ..std::mem::take(&mut scene.local) };
    }
}
