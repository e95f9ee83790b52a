//! Scenes: one resource, its Secret and its account at one time, named after what has happened to them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::datafast::{Token, TokenId};
use crate::issue::allow::{Allow, Standing};
use crate::issue::decide::{Action, Decision, decide};
use crate::issue::local::{Local, Preflight, Unsent};
use crate::issue::marker::OwnerId;
use crate::issue::observed::{
    AccountView, Desired, Gate, Names, Observed, Rotation, SecretFacts, SecretOwner, SecretView, StatusRecord,
};
use crate::issue::queue::{Slots, Waiting};
use crate::issue::record::{Cause, Log, Requests, SecretRecord};
use crate::issue::snapshot::Snapshot;
use crate::issue::verdict::{Reason, Verdict};

pub(super) use super::pieces::*;

/// Everything that `decide` looks at. Fields may be set at will: a test says in what it differs from a named scene.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) desired: Desired,
    pub(super) claimed: bool,
    pub(super) log: Log,
    pub(super) status: StatusRecord,
    pub(super) secret: SecretView,
    pub(super) gate: Gate,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) free: Option<i64>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) allow: Option<Allow>,
    pub(super) standing: Standing,
    pub(super) local: Local,
    pub(super) taken: BTreeSet<TokenId>,
    pub(super) horizon: SignedDuration,
    pub(super) now: Timestamp,
}

impl Scene {
    /// A resource that was just created, in an account without tokens.
    pub(super) fn new() -> Self {
        Self {
            desired: Desired {
                scope: scope(),
                rotation: Rotation {
                    every: None,
                    overlap: SignedDuration::from_hours(1),
                    max_overlap: None,
                    revoke_first: false,
                    rolls: false,
                },
                requests: Requests::default(),
                expiry: None,
                restarts: false,
                retain: false,
                suspended: false,
                deleting: false,
                abandon: false,
            },
            claimed: false,
            log: Log::default(),
            status: StatusRecord::default(),
            secret: SecretView::Missing,
            gate: Gate::Open,
            snapshot: Some(lists(now(), &[])),
            free: Some(20),
            waiting: Vec::new(),
            allow: None,
            standing: Standing::default(),
            local: Local::default(),
            taken: BTreeSet::new(),
            horizon: HORIZON,
            now: now(),
        }
    }

    /// Attempt 1 was just recorded, and this process has not sent it.
    pub(super) fn recorded(preflight: Preflight) -> Self {
        let mut scene = Self::new().with_attempts(&[(1, 0)]);
        scene.local.unsent = Some(Unsent { nonce: nonce(1), preflight });
        scene
    }

    /// DataFast just answered attempt 1, and this process has the key.
    pub(super) fn key_held() -> Self {
        let mut scene = Self::new().with_attempts(&[(1, 0)]).listing(&[token(1)]);
        scene.local.held = Some(held(1, now()));
        scene
    }

    /// Attempt 1 made a token a minute ago, and its answer never came.
    pub(super) fn answer_lost() -> Self {
        Self::new().with_attempts(&[(1, 1)]).listing(&[token(1)])
    }

    /// Token 1, issued a day ago: Secret, status and list agree.
    pub(super) fn settled() -> Self {
        let mut scene = Self::new().with_attempts(&[(1, A_DAY)]).listing(&[token(1)]);
        scene.secret = SecretView::Present(secret(1, ago(A_DAY)));
        scene.status =
            StatusRecord { token_id: Some(id(1)), attempt: Some(nonce(1)), ready: true, ..StatusRecord::default() };
        scene
    }

    /// Token 2 took the place of token 1 `minutes` ago; status says so.
    pub(super) fn replaced(minutes: i64) -> Self {
        let mut scene = Self::settled().with_attempts(&[(1, A_DAY), (2, minutes)]).listing(&[token(1), token(2)]);
        let mut secret = secret(2, ago(minutes));
        secret.record.previous = vec![previous(1, ago(minutes))];
        scene.secret = SecretView::Present(secret);
        scene.status.token_id = Some(id(2));
        scene.status.attempt = Some(nonce(2));
        scene.status.retiring = [id(1)].into();
        scene
    }

    /// Somebody deleted the Secret of token 1.
    pub(super) fn secret_deleted() -> Self {
        Self { secret: SecretView::Missing, ..Self::settled() }
    }

    /// The account no longer shows token 1.
    pub(super) fn token_deleted() -> Self {
        Self::settled().listing(&[]).change(|s| s.local.proof = Some(proof(1, false)))
    }

    /// A user put key 7 into a Secret, and asks for token 7, made by hand, to be taken over.
    pub(super) fn import() -> Self {
        let mut scene = Self::new().listing(&[unmarked(7)]);
        let record = SecretRecord { token_id: Some(id(7)), ..SecretRecord::default() };
        let facts = SecretFacts { owner: SecretOwner::Nobody, record, key: Some(key(7)), drifted: true };
        scene.secret = SecretView::Present(facts);
        scene
    }

    /// A backup was restored: the Secret is as it was, the resource has a new uid and neither log nor status.
    pub(super) fn restored() -> Self {
        let mut scene = Self::new().listing(&[token_of(&OwnerId::of("before the restore"), 1)]);
        scene.secret = SecretView::Present(secret(1, ago(A_DAY)));
        scene.claimed = true;
        scene
    }

    pub(super) fn deleted(mut self) -> Self {
        self.desired.deleting = true;
        self.claimed = true;
        self
    }

    /// The log: attempts and how many minutes ago each was recorded. With them comes the finalizer.
    pub(super) fn with_attempts(mut self, attempts: &[(u8, i64)]) -> Self {
        self.log = Log(attempts.iter().map(|(n, minutes)| attempt(*n, ago(*minutes), Cause::New)).collect());
        self.claimed = true;
        self
    }

    /// The last two lists showed these.
    pub(super) fn listing(mut self, tokens: &[Token]) -> Self {
        self.snapshot = Some(lists(self.now, tokens));
        self
    }

    /// A new process: what the last one knew is gone.
    pub(super) fn after_restart(mut self) -> Self {
        self.local = Local::default();
        self
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The Secret, which must be there.
    pub(super) fn secret(&mut self) -> &mut SecretFacts {
        match &mut self.secret {
            SecretView::Present(facts) => facts,
            SecretView::Missing => panic!("this scene has no Secret"),
        }
    }

    pub(super) fn secret_is_gone(&self) -> bool {
        matches!(self.secret, SecretView::Missing)
    }

    pub(super) fn look<R>(&self, f: impl FnOnce(&Observed<'_>) -> R) -> R {
        f(&Observed {
            names: Names { secret: "agent", key: "token", account: "default", website: None },
            owner: me(),
            claimed: self.claimed,
            log: self.log.clone(),
            status: self.status.clone(),
            secret: self.secret.clone(),
            account: AccountView {
                gate: self.gate.clone(),
                snapshot: self.snapshot.as_ref(),
                slots: self.free.map(|free| Slots { free, others: self.waiting.clone() }),
                allow: self.allow.as_ref(),
                standing: self.standing,
            },
            local: &self.local,
            taken: self.taken.clone(),
            horizon: self.horizon,
        })
    }

    pub(super) fn decide(&self) -> Decision {
        self.look(|seen| decide(&self.desired, seen, self.now))
    }

    pub(super) fn action(&self) -> Action {
        self.decide().action
    }

    /// What is said where nothing is done, which must be so here.
    pub(super) fn rests(&self) -> Decision {
        let decision = self.decide();
        assert_eq!(decision.action, Action::Rest, "{}", decision.verdict.message);
        decision
    }

    /// [`Scene::rests`] with this reason and `Ready`, and with these words in the message.
    pub(super) fn says(&self, reason: Reason, ready: bool, words: &str) -> Verdict {
        let verdict = self.rests().verdict;
        assert_eq!((verdict.reason, verdict.ready), (reason, ready), "{}", verdict.message);
        assert!(verdict.message.contains(words), "{:?} does not say {words:?}", verdict.message);
        verdict
    }

    /// A new attempt for this cause is about to be recorded.
    pub(super) fn records(&self, cause: Cause) {
        match self.action() {
            Action::Record { again: None, cause: why, .. } => assert_eq!(why, cause),
            other => panic!("{other:?} is no record of {cause:?}"),
        }
    }

    /// The record in the Secret that is about to be written.
    pub(super) fn writes_secret(&self) -> SecretRecord {
        match self.action() {
            Action::Swap { record } | Action::Rewrite { record } => record,
            other => panic!("{other:?} writes no Secret"),
        }
    }
}
