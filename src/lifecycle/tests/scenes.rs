//! Scenes: one resource, its Secret and its account at one time, named after what has happened to them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::datafast::{Token, TokenId};
use crate::lifecycle::allow::{Allow, Standing};
use crate::lifecycle::decide::decide;
use crate::lifecycle::decision::{Action, Decision, Requeue};
use crate::lifecycle::desired::{Desired, Rotation};
use crate::lifecycle::event::{Event, Now};
use crate::lifecycle::local::{Local, Preflight, Unsent};
use crate::lifecycle::marker::OwnerId;
use crate::lifecycle::observed::{
    AccountView, Availability, Names, Observed, SecretFacts, SecretOwner, SecretView, StatusRecord,
};
use crate::lifecycle::queue::{InOrder, RateWindow, Slots, Waiting};
use crate::lifecycle::record::{Cause, Log, Requests, SecretRecord};
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::{Reason, Verdict};
use crate::lifecycle::windows::Windows;

pub(super) use super::pieces::*;

/// Everything that `decide` looks at. Fields may be set at will: a test says in what it differs from a named scene.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) desired: Desired,
    /// Of a website key.
    pub(super) website: Option<&'static str>,
    pub(super) has_finalizer: bool,
    pub(super) log: Log,
    pub(super) status: StatusRecord,
    pub(super) secret: SecretView,
    pub(super) availability: Availability,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) free: Option<i64>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) window: Option<RateWindow>,
    pub(super) allow: Option<Allow>,
    pub(super) windows: Option<Windows>,
    pub(super) standing: Standing,
    pub(super) local: Local,
    pub(super) taken: BTreeSet<TokenId>,
    pub(super) sees_all: bool,
    pub(super) adopted: BTreeSet<TokenId>,
    pub(super) horizon: SignedDuration,
    pub(super) now: Timestamp,
}

/// [`Decision::Rest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) verdict: Verdict,
    pub(super) requeue: Requeue,
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
                windows: Windows::default(),
                requests: Requests::default(),
                expiry: None,
                when_unused: None,
                restarts: false,
                retain: false,
                suspended: false,
                unreadable: None,
                deleting: false,
                abandon: false,
            },
            website: None,
            has_finalizer: false,
            log: Log::default(),
            status: StatusRecord::default(),
            secret: SecretView::Missing,
            availability: Availability::Open,
            snapshot: Some(lists(now(), &[])),
            free: Some(20),
            waiting: Vec::new(),
            window: None,
            allow: None,
            windows: None,
            standing: Standing::default(),
            local: Local::default(),
            taken: BTreeSet::new(),
            sees_all: true,
            adopted: BTreeSet::new(),
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
    pub(super) fn key_pending() -> Self {
        let mut scene = Self::new().with_attempts(&[(1, 0)]).listing(&[token(1)]);
        scene.local.pending = Some(pending(1, now()));
        scene
    }

    /// Attempt 1 made a token a minute ago, and its answer never came.
    pub(super) fn answer_lost() -> Self {
        Self::new().with_attempts(&[(1, 1)]).listing(&[token(1)])
    }

    /// Token 1, issued a day ago: Secret, status and list agree.
    pub(super) fn in_sync() -> Self {
        let mut scene = Self::new().with_attempts(&[(1, A_DAY)]).listing(&[token(1)]);
        scene.secret = SecretView::Present(secret(1, ago(A_DAY)));
        scene.status = StatusRecord { token_id: Some(id(1)), ready: true, ..status_of(1) };
        scene
    }

    /// Token 2 took the place of token 1 `minutes` ago, as this process has seen; status says so.
    pub(super) fn replaced(minutes: i64) -> Self {
        let mut scene = Self::in_sync().with_attempts(&[(1, A_DAY), (2, minutes)]).listing(&[token(1), token(2)]);
        let mut secret = secret(2, ago(minutes));
        secret.record.previous = vec![previous(1, ago(minutes))];
        scene.secret = SecretView::Present(secret);
        scene.status.token_id = Some(id(2));
        scene.status.attempt = Some(nonce(2));
        scene.status.retiring = [id(1)].into();
        scene.status.revoke_after = [(id(1), ago(minutes) + scene.desired.rotation.overlap)].into();
        scene.local.retired = [(id(1), watched(ago(minutes), minutes))].into();
        scene
    }

    /// Somebody deleted the Secret of token 1.
    pub(super) fn secret_deleted() -> Self {
        Self { secret: SecretView::Missing, ..Self::in_sync() }
    }

    /// The account no longer shows token 1.
    pub(super) fn token_deleted() -> Self {
        Self::in_sync().listing(&[]).change(|s| s.local.proof = Some(proof(1, false)))
    }

    /// A user put key 7 into a Secret, and asks for token 7, made by hand, to be taken over.
    pub(super) fn import() -> Self {
        let mut scene = Self::new().listing(&[unmarked(7)]);
        let record = SecretRecord { token_id: Some(id(7)), ..SecretRecord::default() };
        let facts = SecretFacts { owner: SecretOwner::Nobody, record, key: Some(key(7)), flaw: None, drift: drift() };
        scene.secret = SecretView::Present(facts);
        scene
    }

    /// A backup was restored: the Secret is as it was, the resource has a new uid and neither log nor status.
    pub(super) fn restored() -> Self {
        let mut scene = Self::new().listing(&[token_of(&OwnerId::of("before the restore"), 1)]);
        scene.secret = SecretView::Present(secret(1, ago(A_DAY)));
        scene.has_finalizer = true;
        scene
    }

    pub(super) fn deleted(mut self) -> Self {
        self.desired.deleting = true;
        self.has_finalizer = true;
        self
    }

    /// The log: attempts and how many minutes ago each was recorded. With them comes the finalizer.
    pub(super) fn with_attempts(mut self, attempts: &[(u8, i64)]) -> Self {
        self.log = Log(attempts.iter().map(|(n, minutes)| attempt(*n, ago(*minutes), Cause::New)).collect());
        self.has_finalizer = true;
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

    pub(super) fn observe<R>(&self, f: impl FnOnce(&Observed<'_>) -> R) -> R {
        f(&Observed {
            names: Names {
                owner: "DataFastAccessToken/agent",
                secret: "agent",
                key: "token",
                account: "default",
                website: self.website,
            },
            owner: me(),
            has_finalizer: self.has_finalizer,
            log: self.log.clone(),
            status: self.status.clone(),
            secret: self.secret.clone(),
            account: AccountView {
                availability: self.availability.clone(),
                snapshot: self.snapshot.as_ref(),
                slots: self.free.map(|free| Slots { free, queue: in_order(&self.waiting), is_learnt: false }),
                window: self.window.clone(),
                allow: self.allow.as_ref(),
                windows: self.windows.as_ref(),
                standing: self.standing.clone(),
            },
            local: &self.local,
            taken: self.taken.iter().map(|id| (id.clone(), HOLDER.to_owned())).collect(),
            sees_all: self.sees_all,
            adopted: self.adopted.clone(),
            horizon: self.horizon,
        })
    }

    pub(super) fn decide(&self) -> Decision {
        self.observe(|seen| decide(&self.desired, seen, self.now))
    }

    /// Something happens now.
    pub(super) fn happens(&mut self, event: Event) {
        self.local.apply(event, Now { wall: self.now, steady: SignedDuration::ZERO });
    }

    /// What is to be done, if anything is.
    pub(super) fn acts(&self) -> Option<Action> {
        match self.decide() {
            Decision::Act(action) => Some(action),
            Decision::Rest { .. } | Decision::Pause { .. } => None,
        }
    }

    /// What is to be done, which must be something.
    pub(super) fn action(&self) -> Action {
        match self.decide() {
            Decision::Act(action) => action,
            other => panic!("nothing is done: {other:?}"),
        }
    }

    /// What is reported and when it is reconciled again, where nothing is done, which must be so here.
    pub(super) fn rests(&self) -> Rest {
        match self.decide() {
            Decision::Rest { verdict, requeue } => Rest { verdict, requeue },
            other => panic!("{other:?}"),
        }
    }

    /// When it is reconciled again, where nothing is done nor reported, which must be so here.
    pub(super) fn pauses(&self) -> Requeue {
        match self.decide() {
            Decision::Pause { requeue } => requeue,
            other => panic!("{other:?}"),
        }
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
            Action::Swap { record } | Action::Rewrite { record, .. } => record,
            other => panic!("{other:?} writes no Secret"),
        }
    }
}

/// A queue of these.
pub(super) fn in_order(waiting: &[Waiting]) -> InOrder {
    InOrder::new(waiting.iter().cloned().collect())
}
