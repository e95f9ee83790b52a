//! The smallest shell there can be: it does at once and without a fault what is decided, and lists when asked to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::datafast::{RawKey, Token, TokenId};
use crate::issue::decide::{Action, Decision, RevokeCause};
use crate::issue::facts::{Mirror, facts};
use crate::issue::local::{Held, Local, Preflight, Proof, Unsent, Watched};
use crate::issue::marker::Nonce;
use crate::issue::observed::{Desired, Gate, SecretFacts, SecretOwner, SecretView, StatusRecord};
use crate::issue::record::{Attempt, Cause, SecretRecord};
use crate::issue::snapshot::Snapshot;
use crate::issue::verdict::Reason;

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

/// How long each answer takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Slowness {
    /// Of the API server.
    pub(super) kubernetes: SignedDuration,
    /// Of DataFast.
    pub(super) datafast: SignedDuration,
}

/// A time by the wall clock, and by the steady one.
type Since = (Timestamp, SignedDuration);

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
    /// What the API server was asked to write, dry runs among it.
    pub(super) writes: usize,
    next: u8,
    held_key: Option<Arc<RawKey>>,
    watched: Option<Since>,
    retired: BTreeMap<TokenId, Since>,
}

impl Simulator {
    /// Starts with just the tokens that the scene's list shows, and the one whose key is held.
    pub(super) fn new(mut scene: Scene) -> Self {
        let listed = scene.snapshot.iter().flat_map(Snapshot::tokens).map(|listed| listed.token.clone());
        let held = scene.local.held.as_ref().map(|held| random::number(&held.token_id));
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
            writes: 0,
            next: FIRST_NEW,
            held_key: held.map(key),
            watched: None,
            retired: BTreeMap::new(),
        }
    }

    pub(super) fn decide(&mut self) -> Decision {
        let since_now = (self.scene.now, self.steady);
        let lasted = |(first, since): Since| Watched { first, lasted: since_now.1 - since };
        self.scene.local.watched = Some(lasted(*self.watched.get_or_insert(since_now)));
        self.scene.local.retired = self.retired.iter().map(|(id, since)| (id.clone(), lasted(*since))).collect();
        self.scene.decide()
    }

    /// Does the next thing; or, where there is none but to wait, says what is decided.
    pub(super) fn step(&mut self) -> Option<Decision> {
        let decision = self.decide();
        self.pass(SignedDuration::from_millis(1));
        let is_done = match &decision.action {
            Action::Rest => self.released || !self.mirror(decision.verdict.ready),
            Action::Pause => true,
            action => {
                self.act(action.clone());
                false
            }
        };
        is_done.then_some(decision)
    }

    /// Acts until nothing is left to do but to wait; `None`: it does not come to an end.
    pub(super) fn run(&mut self) -> Option<Decision> {
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
    pub(super) fn wait(&mut self, decision: &Decision) {
        let poll = self.scene.now + SignedDuration::from_secs(60);
        let soon = decision.wake.at.filter(|at| *at < later(400 * A_DAY));
        let until = poll.max(soon.unwrap_or(poll)).max(decision.wake.list.unwrap_or(poll));
        self.pass(until.duration_since(self.scene.now));
        self.list();
        // By now a call that was under way is over.
        self.scene.local.is_calling = false;
    }

    pub(super) fn list(&mut self) {
        let begun = self.scene.now;
        if !self.datafast() {
            self.scene.gate = Gate::Unavailable("no answer".into());
            return;
        }
        if matches!(self.scene.gate, Gate::Unavailable(_)) {
            self.scene.gate = Gate::Open;
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
        (self.held_key, self.watched) = (None, None);
        self.retired.clear();
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
        let since = (self.scene.now, self.steady);
        let scene = &self.scene;
        let (status, retired) = scene.look(|seen| {
            let facts = facts(&scene.desired, seen, scene.now);
            let (token_id, attempt) = match facts.token {
                Mirror::Is(listed) => (Some(listed.token.id.clone()), seen.attempt_of(listed).cloned()),
                Mirror::Keep => (scene.status.token_id.clone(), scene.status.attempt.clone()),
                Mirror::Nothing => (None, None),
            };
            let shown: Option<BTreeSet<TokenId>> =
                facts.retiring.map(|all| all.iter().map(|r| r.listed.token.id.clone()).collect());
            let retiring = shown.clone().unwrap_or_else(|| scene.status.retiring.clone());
            let status = StatusRecord {
                token_id,
                attempt,
                retiring,
                ready,
                issued_at: facts.issued_at.map(|at| Timestamp::from_second(at.as_second()).unwrap()),
                rotate_request: facts.rotate_request,
                waiting_since: None,
            };
            (status, shown.unwrap_or_default())
        });
        let mut known = std::mem::take(&mut self.retired);
        self.retired = retired.into_iter().map(|id| (id.clone(), known.remove(&id).unwrap_or(since))).collect();
        let changed = status != self.scene.status;
        self.scene.status = status;
        if changed {
            self.kubernetes(1);
        }
        changed
    }

    fn act(&mut self, action: Action) {
        let now = self.scene.now;
        let scene = &mut self.scene;
        match action {
            Action::Rest | Action::Pause => {}
            Action::Claim => {
                scene.claimed = true;
                self.kubernetes(1);
            }
            Action::Record { again, at, cause, keep, rolls } => {
                let nonce = again.unwrap_or_else(|| nonce(self.next));
                self.next += 1;
                scene.claimed = true;
                scene.log.0 = keep;
                let requests = scene.desired.requests.clone();
                let attempt = Attempt { nonce: nonce.clone(), at, cause, requests, rolls };
                scene.log.0.push(attempt.clone());
                scene.local.unsent = Some(Unsent { nonce, preflight: Preflight::Passed });
                self.kubernetes(2);
                let scene = &mut self.scene;
                scene.local.recorded(&attempt, scene.now.duration_since(now), scene.now, scene.horizon);
            }
            Action::Preflight => {
                if let Some(unsent) = &mut scene.local.unsent {
                    unsent.preflight = Preflight::Passed;
                }
                self.kubernetes(1);
            }
            Action::Send { nonce: sent, cause, rolls: Some(token_id), .. } => {
                self.rolls.push((token_id.clone(), cause));
                let n = (0..=u8::MAX).find(|n| nonce(*n) == sent).unwrap();
                scene.local.unsent = None;
                let Some(token) = self.remote.get_mut(&token_id) else {
                    (scene.local.unsent, _) = (Some(unsent(n)), scene.local.denied.insert(token_id, now));
                    return;
                };
                token.display_key = key(n).mask();
                let Desired { scope: wanted, requests, .. } = &scene.desired;
                scene.snapshot.iter_mut().for_each(|s| s.rolled(&token_id, &key(n).mask(), now));
                let key_sha256 = key(n).fingerprint(token_id.as_str());
                let (spec_hash, requests) = (wanted.hash(), requests.clone());
                scene.local.held =
                    Some(Held { rolled: true, token_id, key_sha256, spec_hash, requests, ..held(n, now) });
                self.held_key = Some(key(n));
            }
            Action::LetGo => (scene.local.held, self.held_key) = (None, None),
            Action::Send { nonce: sent, cause, rolls: None, by } => {
                assert!(now <= by, "sent at {now}, to be sent by {by}");
                self.causes.push(cause);
                if !self.datafast() {
                    self.no_answer(&sent);
                    return;
                }
                let (now, scene) = (self.scene.now, &mut self.scene);
                scene.local.was_sent();
                let n = (0..=u8::MAX).find(|n| nonce(*n) == sent).unwrap();
                let Desired { scope: wanted, requests, .. } = &scene.desired;
                let issued = Token { permissions: wanted.permissions.clone(), ..token(n) };
                scene.local.unsent = None;
                scene.local.held = Some(Held { spec_hash: wanted.hash(), requests: requests.clone(), ..held(n, now) });
                scene.snapshot.iter_mut().for_each(|s| s.issued(issued.clone(), now));
                scene.free = scene.free.map(|free| free - 1);
                self.remote.insert(issued.id.clone(), issued);
                self.held_key = Some(key(n));
            }
            Action::Swap { record } => {
                (scene.local.held, scene.local.made_room) = (None, false);
                self.write(record, true);
            }
            Action::Rewrite { record } => self.write(record, false),
            Action::Prove { token_id } => {
                let key_sha256 = scene.secret().key.as_ref().unwrap().fingerprint(token_id.as_str());
                let live = self.remote.get(&token_id).map(live_key);
                let hidden = || self.takes_hidden_keys.then(|| key(random::number(&token_id)));
                let proven = live.or_else(hidden).is_some_and(|key| key_sha256 == key.fingerprint(token_id.as_str()));
                scene.local.proof = Some(Proof { token_id, key_sha256, proven, at: now });
            }
            Action::Revoke { token_id, cause } => {
                let existed = self.remote.remove(&token_id).is_some();
                scene.local.made_room |= existed && cause == RevokeCause::MadeRoom;
                scene.free = scene.free.map(|free| free + i64::from(existed));
                if existed {
                    scene.snapshot.iter_mut().for_each(|s| s.revoked(&token_id, now));
                } else {
                    scene.local.denied.insert(token_id.clone(), now);
                }
                scene.local.held = scene.local.held.take().filter(|held| held.token_id != token_id);
            }
            Action::Restart { at } => {
                self.restarted.push(at);
                scene.local.restarted = Some(at);
            }
            Action::DeleteSecret => scene.secret = SecretView::Missing,
            Action::Release => {
                scene.claimed = false;
                self.released = true;
            }
        }
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

    /// A request made a token, and its answer did not come: the account is closed until a list is answered.
    fn no_answer(&mut self, sent: &Nonce) {
        let n = (0..=u8::MAX).find(|n| nonce(*n) == *sent).unwrap();
        let made = Token { permissions: self.scene.desired.scope.permissions.clone(), ..token(n) };
        self.remote.insert(made.id.clone(), made);
        self.scene.local.unsent = None;
        self.scene.local.was_sent();
        self.scene.gate = Gate::Unavailable("no answer".into());
    }

    /// Through text, as the API server stores it.
    fn write(&mut self, record: SecretRecord, swap: bool) {
        self.kubernetes(1);
        let annotations = record.annotations().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let record = SecretRecord::read(&annotations.collect(), self.scene.now);
        let key = if swap { self.held_key.take() } else { self.scene.secret().key.clone() };
        let facts = SecretFacts { owner: SecretOwner::This, record, key, drifted: false };
        self.scene.secret = SecretView::Present(facts);
        self.scene.local.rewrite = None;
    }

    /// What is in the way for a while is over: the account is open, not doubted and has room, and nothing is refused.
    pub(super) fn clear_obstacles(scene: &mut Scene) {
        scene.gate = Gate::Open;
        scene.free = Some(10);
        scene.waiting.clear();
        scene.local = Local { rejected: None, rewrite: None, ..std::mem::take(&mut scene.local) };
    }
}
