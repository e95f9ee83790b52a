//! The smallest shell there can be: it does at once and without a fault what is decided, and lists when asked to.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::datafast::{RawKey, Token, TokenId};
use crate::issue::decide::{Action, Decision};
use crate::issue::facts::{Mirror, facts};
use crate::issue::observed::{
    Gate, Held, Local, Preflight, Proof, SecretFacts, SecretOwner, SecretView, StatusRecord, Unsent,
};
use crate::issue::record::{Attempt, SecretRecord};
use crate::issue::snapshot::Snapshot;

use super::random;
use super::scenes::*;

/// Numbers of attempts that this process makes.
const FIRST_NEW: u8 = 100;

pub(super) struct Simulator {
    pub(super) scene: Scene,
    /// All tokens of the account.
    pub(super) remote: BTreeMap<TokenId, Token>,
    pub(super) sent: u32,
    next: u8,
    held_key: Option<Arc<RawKey>>,
    pub(super) released: bool,
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
        Self { scene, remote, sent: 0, next: FIRST_NEW, held_key: held.map(key), released: false }
    }

    /// Acts until nothing is left to do but to wait; `None`: it does not come to an end.
    pub(super) fn run(&mut self) -> Option<Decision> {
        for _ in 0..40 {
            let decision = self.scene.decide();
            self.scene.now += SignedDuration::from_millis(1);
            if matches!(decision.action, Action::Rest | Action::Pause) {
                if self.released || !self.mirror(decision.verdict.ready) {
                    return Some(decision);
                }
            } else {
                self.act(decision.action);
            }
        }
        None
    }

    /// Lets time pass until what is waited for is there, and a list with it.
    pub(super) fn wait(&mut self, decision: &Decision) {
        let poll = self.scene.now + SignedDuration::from_secs(60);
        let soon = decision.wake.at.filter(|at| *at < later(400 * A_DAY));
        self.scene.now = poll.max(soon.unwrap_or(poll)).max(decision.wake.list.unwrap_or(poll));
        let tokens: Vec<Token> = self.remote.values().cloned().collect();
        let (horizon, now) = (self.scene.horizon, self.scene.now);
        match &mut self.scene.snapshot {
            Some(snapshot) => snapshot.listed(now, tokens),
            none => *none = Some(Snapshot::new(horizon, now, tokens)),
        }
    }

    fn mirror(&mut self, ready: bool) -> bool {
        let scene = &self.scene;
        let status = scene.look(|seen| {
            let facts = facts(&scene.desired, seen, scene.now);
            let retiring = facts.retiring.map(|r| r.iter().map(|(listed, _)| listed.token.id.clone()).collect());
            let (token_id, attempt) = match facts.token {
                Mirror::Is(listed) => (Some(listed.token.id.clone()), seen.attempt_of(listed).cloned()),
                Mirror::Keep => (scene.status.token_id.clone(), scene.status.attempt.clone()),
                Mirror::Nothing => (None, None),
            };
            let retiring = retiring.unwrap_or_else(|| scene.status.retiring.clone());
            StatusRecord { token_id, attempt, retiring, ready }
        });
        let changed = status != self.scene.status;
        self.scene.status = status;
        changed
    }

    fn act(&mut self, action: Action) {
        let now = self.scene.now;
        let scene = &mut self.scene;
        match action {
            Action::Rest | Action::Pause => {}
            Action::Claim => scene.claimed = true,
            Action::Record { again, cause, keep } => {
                let nonce = again.unwrap_or_else(|| nonce(self.next));
                self.next += 1;
                scene.claimed = true;
                scene.log.0 = keep;
                scene.log.0.push(Attempt { nonce: nonce.clone(), at: now, cause });
                scene.local.unsent = Some(Unsent { nonce, preflight: Preflight::Passed });
            }
            Action::Preflight => {
                if let Some(unsent) = &mut scene.local.unsent {
                    unsent.preflight = Preflight::Passed;
                }
            }
            Action::Send { nonce: sent, .. } => {
                self.sent += 1;
                let n = (0..=u8::MAX).find(|n| nonce(*n) == sent).unwrap();
                let wanted = &scene.desired.scope;
                let issued = Token { permissions: wanted.permissions.clone(), ..token(n) };
                scene.local.unsent = None;
                scene.local.held = Some(Held { spec_hash: wanted.hash(), ..held(n, now) });
                scene.snapshot.iter_mut().for_each(|s| s.issued(issued.clone(), now));
                scene.free = scene.free.map(|free| free - 1);
                self.remote.insert(issued.id.clone(), issued);
                self.held_key = Some(key(n));
            }
            Action::Swap { record } => {
                scene.local.held = None;
                self.write(record, true);
            }
            Action::Rewrite { record } => self.write(record, false),
            Action::Prove { token_id } => {
                let key_sha256 = scene.secret().key.as_ref().unwrap().fingerprint(token_id.as_str());
                let proven = key_sha256 == fingerprint(random::number(&token_id));
                scene.local.proof = Some(Proof { token_id, key_sha256, proven });
            }
            Action::Revoke { token_id, .. } => {
                let existed = self.remote.remove(&token_id).is_some();
                scene.free = scene.free.map(|free| free + i64::from(existed));
                if existed {
                    scene.snapshot.iter_mut().for_each(|s| s.revoked(&token_id, now));
                } else {
                    scene.local.denied.insert(token_id.clone(), now);
                }
                scene.local.held = scene.local.held.take().filter(|held| held.token_id != token_id);
            }
            Action::DeleteSecret => scene.secret = SecretView::Missing,
            Action::Release => {
                scene.claimed = false;
                self.released = true;
            }
        }
    }

    /// Through text, as the API server stores it.
    fn write(&mut self, record: SecretRecord, swap: bool) {
        let annotations = record.annotations().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let record = SecretRecord::read(&annotations.collect(), self.scene.now);
        let key = if swap { self.held_key.take() } else { self.scene.secret().key.clone() };
        let facts = SecretFacts { owner: SecretOwner::This, record, key, drifted: false };
        self.scene.secret = SecretView::Present(facts);
        self.scene.local.rewrite = None;
    }

    /// What is in the way for a while is over: the account is open, with room, and nothing is being refused.
    pub(super) fn clear_obstacles(scene: &mut Scene) {
        scene.gate = Gate::Open;
        scene.free = Some(10);
        scene.local = Local { rejected: None, rewrite: None, ..std::mem::take(&mut scene.local) };
    }
}
