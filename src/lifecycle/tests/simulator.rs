//! The smallest shell there can be: it does at once and without a fault what is decided, and lists when asked to.

mod acting;
mod status;

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
                self.apply(Event::Reported(verdict.clone()));
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

    /// What is in the way for a while is over: the account is open, not doubted and has room, and nothing is refused.
    pub(super) fn clear_obstacles(scene: &mut Scene) {
        scene.availability = Availability::Open;
        scene.free = Some(10);
        scene.waiting.clear();
        scene.local = Local { rejected: None, rewrite: None, contest: None, ..std::mem::take(&mut scene.local) };
    }
}
