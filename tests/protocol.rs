//! The issuing protocol, explored state by state: the real `decide` and the real record types, driven by every order of
//! crashes, lost answers, lagging lists and changes by users that the budgets below allow.
//!
//! What is abstract: time is young or past the horizon; the overlap is zero, so that what was replaced goes at once, but
//! in the mixes with rotation, where it passes at any time; and a dry run always passes. A number stands for an attempt, the
//! token that it made, and the key that it brought: of a token that was rolled, the last key alone is live. Two operators
//! are there so that a lost lease can be explored: with `split`, both act.
#![allow(clippy::unwrap_used, reason = "a model that can't be made is a defect of the test")]
#![expect(clippy::too_many_lines, reason = "a step of the model is one match over all there is")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use datafast_operator::datafast::{Effect, Error, RawKey, Token, TokenId};
use datafast_operator::lifecycle::allow::Standing;
use datafast_operator::lifecycle::decide::decide;
use datafast_operator::lifecycle::decision::{Action, Decision, RevokeCause};
use datafast_operator::lifecycle::desired::{Desired, Rotation, WhenUnused};
use datafast_operator::lifecycle::event::{self, Answer, Event, Now};
use datafast_operator::lifecycle::facts::{Mirror, facts};
use datafast_operator::lifecycle::local::Local;
use datafast_operator::lifecycle::marker::{ClusterId, Marker, Nonce, OwnerId};
use datafast_operator::lifecycle::observed::{
    AccountView, Availability, Drift, Names, Observed, SecretFacts, SecretOwner, SecretView, StatusRecord,
};
use datafast_operator::lifecycle::queue::Slots;
use datafast_operator::lifecycle::record::{Attempt, Cause, Log, Previous, Request, Requests, Scope, SecretRecord};
use datafast_operator::lifecycle::snapshot::Snapshot;
use datafast_operator::lifecycle::windows::Windows;
use jiff::{SignedDuration, Timestamp};
use stateright::{Checker, HasDiscoveries, Model, Property};

const HORIZON: SignedDuration = SignedDuration::from_mins(2);

const IN_ORDER: &str = "what has settled is in order";

fn young() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn old() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

type N = u8;

fn nonce(n: N) -> Nonce {
    Nonce::from_random([n; 7])
}

fn token_id(n: N) -> TokenId {
    TokenId::parse(&format!("token-{n}")).unwrap()
}

fn raw_key(n: N) -> Arc<RawKey> {
    Arc::new(RawKey::parse(format!("dft_{n:03}-and-all-the-rest-{n:04}")).unwrap())
}

fn number(nonces: &Nonce) -> N {
    (0..=MOST_ROLLS + 1).find(|n| nonce(*n) == *nonces).unwrap()
}

fn number_of(id: &TokenId) -> N {
    (0..=MOST_ROLLS + 1).find(|n| token_id(*n) == *id).unwrap()
}

const MOST_NONCES: N = 5;
/// Each request that takes effect late costs one more.
const MOST_ROLLS: N = 7;
/// A key that somebody gives a token by hand.
const BY_HAND: N = 9;
/// More than any history here needs of either object: past it, something writes for ever.
const MOST_WRITES: u8 = 40;
const MOST_WRITES_SPLIT: u8 = 9;
/// Two that act at once have too many histories to follow all to their end: so many steps of each.
const SPLIT_DEPTH: usize = 26;

fn scope(changed: bool) -> Scope {
    let permission = if changed { "goals:read" } else { "analytics:read" };
    Scope { token_name: "team/agent".into(), permissions: [permission.to_owned()].into(), website_ids: BTreeSet::new() }
}

fn owner() -> OwnerId {
    OwnerId::of("resource")
}

fn listed_token(t: &Remote) -> Token {
    Token { last_used_at: t.is_used.then(young), ..token(t.n, t.scope_changed, t.keys[t.shown]) }
}

fn token(n: N, changed: bool, key: N) -> Token {
    let marker = Marker { cluster: ClusterId::of("cluster"), owner: owner(), nonce: nonce(n) };
    let scope = scope(changed);
    Token {
        id: token_id(n),
        name: Some(marker.name(&scope.token_name)),
        display_key: raw_key(key).mask(),
        permissions: scope.permissions,
        website_ids: scope.website_ids,
        last_used_at: None,
        tells_use: true,
        created_at: None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Resource {
    version: u8,
    log: Log,
    has_finalizer: bool,
    deleting: bool,
    scope_changed: bool,
    /// Its token gets other keys, rather than others its place.
    rolls: bool,
    requests: Requests,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Status {
    token: Option<N>,
    retiring: BTreeSet<N>,
    ready: bool,
    rotate_request: Option<Request>,
    unused_since: Option<Timestamp>,
}

/// What a token is asked for with.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Order {
    scope_changed: bool,
    rotate: bool,
    revoke_now: bool,
    /// Not a token, but another key for this one.
    rolls: Option<N>,
}

impl Order {
    fn of(resource: &Resource, rolls: Option<N>) -> Self {
        let Requests { rotate, revoke_now } = &resource.requests;
        let (rotate, revoke_now) = (rotate.is_some(), revoke_now.is_some());
        Self { scope_changed: resource.scope_changed, rotate, revoke_now, rolls }
    }

    /// The token whose key attempt `n` brings.
    fn token(&self, n: N) -> N {
        self.rolls.unwrap_or(n)
    }

    fn requests(&self) -> Requests {
        let asked = |is_asked: bool| if is_asked { Request::parse("please") } else { None };
        Requests { rotate: asked(self.rotate), revoke_now: asked(self.revoke_now) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Secret {
    version: u8,
    key: N,
    record: SecretRecord,
}

impl Secret {
    fn token(&self) -> Option<N> {
        self.record.token_id.as_ref().map(number_of)
    }
}

/// A token at DataFast.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Remote {
    n: N,
    listed: bool,
    scope_changed: bool,
    /// All keys that it ever had, the live one last.
    keys: Vec<N>,
    /// Which of them the list shows.
    shown: usize,
    /// It was used, and the list tells so.
    is_used: bool,
}

impl Remote {
    fn new(n: N, listed: bool, order: &Order) -> Self {
        Self { n, listed, scope_changed: order.scope_changed, keys: vec![n], shown: 0, is_used: false }
    }

    fn live_key(&self) -> Option<N> {
        self.keys.last().copied()
    }

    fn lags(&self) -> bool {
        self.shown + 1 < self.keys.len()
    }
}

/// What one operator process knows, and what it is about to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Operator {
    up: bool,
    /// Changed by events alone, as in the operator itself.
    local: Local,
    issued: BTreeSet<(N, bool)>,
    revoked: BTreeSet<N>,
    /// Tokens and the keys that they got.
    rolled: BTreeSet<(N, N)>,
    plan: Option<(Plan, Option<u8>, Option<u8>)>,
}

impl Operator {
    fn apply(&mut self, event: Event) {
        self.local.apply(event, Now { wall: young(), steady: SignedDuration::ZERO });
    }

    /// The request of attempt `n` has ended. What made no token is dry run once more, which always passes.
    fn sent(&mut self, n: N, order: &Order, answer: Answer) {
        let spec_hash = scope(order.scope_changed).hash();
        let (requests, rolls) = (order.requests(), order.rolls.map(token_id));
        // The pause after a failure has passed whenever the next thing happens: which is as well at any time.
        let pause = match &answer {
            Answer::Failed(Error::Unavailable { .. }) => SignedDuration::from_mins(10),
            _ => SignedDuration::ZERO,
        };
        let event = Event::Sent { order: event::Order { nonce: nonce(n), spec_hash, requests, rolls }, answer };
        self.local.apply(event, Now { wall: young() - pause, steady: SignedDuration::ZERO });
        self.apply(Event::DryRun(Ok(())));
    }

    fn in_flight(&self) -> Option<N> {
        self.local.sending().map(number)
    }

    fn unsent(&self) -> Option<N> {
        self.local.to_send().map(number)
    }

    fn held(&self) -> Option<N> {
        self.local.pending().map(|held| number(&held.nonce))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Plan {
    Record { again: Option<N>, cause: Cause, keep: Vec<Attempt>, rolls: Option<N> },
    Send(N, Option<N>),
    DropKey,
    Swap(Box<SecretRecord>),
    Rewrite(Box<SecretRecord>),
    AddFinalizer,
    Revoke(N, RevokeCause),
    DeleteSecret,
    Release,
    Mirror(Status),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Budget {
    crash: u8,
    lost_answer: u8,
    secret_deleted: u8,
    token_deleted: u8,
    scope_change: u8,
    deletion: u8,
    lease_lost: u8,
    /// Times that an operator takes so long that an attempt is past the horizon before it is sent.
    slow: u8,
    rotate: u8,
    revoke_now: u8,
    rolled_by_hand: u8,
    strategy_change: u8,
    used: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    resource: Option<Resource>,
    secret: Option<Secret>,
    remote: BTreeSet<Remote>,
    operators: [Operator; 2],
    /// Requests under way: by whom, for which attempt.
    posts: BTreeSet<(usize, N, Order)>,
    active: [bool; 2],
    next: N,
    budget: Budget,
    live_token_revoked: bool,
    /// A token was revoked within its overlap though nobody asked for any to go at once.
    revoked_early: bool,
}

impl World {
    /// Changes a token at DataFast. Whether there is such a one.
    fn change(&mut self, n: N, change: impl FnOnce(&mut Remote)) -> bool {
        let Some(mut token) = self.remote.iter().find(|t| t.n == n).cloned() else { return false };
        self.remote.remove(&token);
        change(&mut token);
        self.remote.insert(token);
        true
    }

    /// What a request does that takes effect. Whether it does something.
    fn takes_effect(&mut self, n: N, listed: bool, order: &Order) -> bool {
        match order.rolls {
            None => self.remote.insert(Remote::new(n, listed, order)),
            Some(rolled) => self.change(rolled, |token| {
                token.keys.push(n);
                if listed {
                    token.shown = token.keys.len() - 1;
                }
            }),
        }
    }

    /// Whether the Secret holds the live key of a token.
    fn is_in_use(&self, n: N) -> bool {
        let live = self.remote.iter().find(|t| t.n == n).and_then(Remote::live_key);
        self.secret.as_ref().is_some_and(|secret| secret.token() == Some(n) && Some(secret.key) == live)
    }

    fn writes(&self) -> u8 {
        self.resource.as_ref().map_or(0, |r| r.version).max(self.secret.as_ref().map_or(0, |s| s.version))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Plan(usize),
    Execute(usize),
    Start(usize),
    Answer { by: usize, n: N, listed: bool },
    AnswerLost { by: usize, n: N, effect: bool },
    Refused { by: usize, n: N },
    StrayTakesEffect { by: usize, n: N },
    StrayIsLost { by: usize, n: N },
    Appears(N),
    KeyAppears(N),
    HorizonPasses(N),
    Crash(usize),
    LeaseLost,
    UserDeletes,
    UserChangesScope,
    UserAsksToRotate,
    UserAsksToRevoke,
    OverlapPasses,
    UserChangesStrategy,
    SecretDeleted,
    TokenDeleted(N),
    RolledByHand(N),
    Used(N),
}

impl Step {
    /// Steps that the system takes by itself: where none is left, it has settled.
    fn is_progress(&self) -> bool {
        use Step::*;
        matches!(
            self,
            Plan(_)
                | Execute(_)
                | Start(_)
                | Answer { .. }
                | StrayTakesEffect { .. }
                | Appears(_)
                | KeyAppears(_)
                | HorizonPasses(_)
                | OverlapPasses
        )
    }
}

struct Protocol {
    budget: Budget,
    horizon: SignedDuration,
    /// A mutant: the attempt is written down only when its answer is there.
    record_late: bool,
    /// Both operators act: a Secret can then hold a token that the other revoked, until the next look, or for good where
    /// the resource is gone by then. Tokens never leak.
    split: bool,
    /// How long a replaced token stays.
    overlap: SignedDuration,
    /// Slots of the account; a rotation makes room for itself.
    slots: i64,
    /// At first, the token gets other keys.
    rolls: bool,
    /// It begins with a token that was issued long ago: how that comes about, the other mixes explore.
    settled: bool,
    /// Token and Secret stay when the resource goes.
    retain: bool,
    /// A mutant: lists do not tell one key of a token from another.
    shows_no_masks: bool,
    /// A token that nobody uses is revoked.
    ends_unused: bool,
}

impl Protocol {
    fn most_nonces(&self) -> N {
        match (self.split, self.rolls) {
            (true, _) => 3,
            (false, true) => MOST_ROLLS,
            (false, false) => MOST_NONCES,
        }
    }

    fn decide(&self, world: &World, i: usize) -> Option<Plan> {
        let operator = &world.operators[i];
        let resource = world.resource.as_ref()?;
        let mut tokens: Vec<Token> = world.remote.iter().filter(|t| t.listed).map(listed_token).collect();
        if self.shows_no_masks {
            tokens.iter_mut().for_each(|token| token.display_key = "...".into());
        }
        let is_listed = |n: N| world.remote.iter().any(|t| t.listed && t.n == n);
        let mut snapshot = Snapshot::new(self.horizon, young(), tokens.clone());
        snapshot.listed(young(), std::mem::take(&mut tokens));
        for (n, changed) in operator.issued.iter().filter(|(n, _)| !is_listed(*n)) {
            snapshot.issued(token(*n, *changed, *n), young());
        }
        for (n, key) in &operator.rolled {
            snapshot.rolled(&token_id(*n), &raw_key(*key).mask(), young());
        }
        for n in &operator.revoked {
            snapshot.issued(token(*n, false, *n), young());
            snapshot.revoked(&token_id(*n), young());
        }
        let free = self.slots - i64::try_from(snapshot.total()).unwrap();
        // A key that is tried is refused just when its token is gone.
        let mut local = operator.local.clone();
        let in_secret = world.secret.as_ref().and_then(|secret| Some((secret.token()?, secret.key)));
        if let Some((n, key)) = in_secret.filter(|(n, _)| !world.remote.iter().any(|t| t.n == *n)) {
            let key_sha256 = raw_key(key).fingerprint(token_id(n).as_str());
            let tried = Event::Tried { token_id: token_id(n), key_sha256, outcome: Ok(false) };
            local.apply(tried, Now { wall: young(), steady: SignedDuration::ZERO });
        }
        let secret = world.secret.as_ref().map_or(SecretView::Missing, |secret| {
            SecretView::Present(SecretFacts {
                owner: SecretOwner::This,
                record: secret.record.clone(),
                key: Some(raw_key(secret.key)),
                flaw: None,
                drift: Drift::default(),
            })
        });
        let status = resource.status.clone();
        let desired = Desired {
            scope: scope(resource.scope_changed),
            rotation: Rotation {
                every: None,
                overlap: self.overlap,
                max_overlap: None,
                revoke_first: true,
                rolls: resource.rolls,
            },
            windows: Windows::default(),
            requests: resource.requests.clone(),
            expiry: None,
            when_unused: self.ends_unused.then_some(WhenUnused {
                created: Timestamp::MIN,
                after: SignedDuration::from_hours(1),
                revoke: true,
            }),
            restarts: false,
            retain: self.retain,
            suspended: false,
            unreadable: None,
            deleting: resource.deleting,
            abandon: false,
        };
        let seen = Observed {
            names: Names {
                owner: "DataFastAccessToken/agent",
                secret: "agent",
                key: "token",
                account: "default",
                website: None,
            },
            owner: owner(),
            has_finalizer: resource.has_finalizer,
            log: resource.log.clone(),
            status: StatusRecord {
                token_id: status.token.map(token_id),
                attempt: status.token.map(nonce),
                marked: status.token.map(|_| owner()),
                retiring: status.retiring.iter().map(|n| token_id(*n)).collect(),
                revoke_after: BTreeMap::new(),
                ready: status.ready,
                rotate_request: status.rotate_request.clone(),
                waiting_since: None,
                issued_at: None,
                last_used_at: None,
                unused_since: status.unused_since,
            },
            secret,
            account: AccountView {
                availability: Availability::Open,
                snapshot: Some(&snapshot),
                slots: Some(Slots { free, ..Slots::default() }),
                window: None,
                allow: None,
                windows: None,
                standing: Standing::default(),
            },
            local: &local,
            taken: BTreeMap::new(),
            sees_all: true,
            adopted: BTreeSet::new(),
            horizon: self.horizon,
        };
        let decision = decide(&desired, &seen, young());
        let action = match decision {
            Decision::Act(action) => action,
            Decision::Pause { .. } => return None,
            Decision::Rest { .. } if resource.deleting => return None,
            Decision::Rest { verdict, .. } => {
                let facts = facts(&desired, &seen, young());
                let token = match facts.token {
                    Mirror::Is(listed) => Some(number_of(&listed.token.id)),
                    Mirror::Keep => status.token,
                    Mirror::Nothing => None,
                };
                let retiring =
                    facts.retiring.unwrap_or_default().iter().map(|r| number_of(&r.listed.token.id)).collect();
                let ready = verdict.ready;
                let (rotate_request, unused_since) = (facts.rotate_request, facts.unused_since);
                let status = Status { token, retiring, ready, rotate_request, unused_since };
                return (status != resource.status).then_some(Plan::Mirror(status));
            }
        };
        Some(match action {
            Action::AddFinalizer => Plan::AddFinalizer,
            Action::Record { again, cause, keep, rolls, .. } => {
                Plan::Record { again: again.as_ref().map(number), cause, keep, rolls: rolls.as_ref().map(number_of) }
            }
            Action::Send { nonce, rolls, .. } => Plan::Send(number(&nonce), rolls.as_ref().map(number_of)),
            Action::DropKey => Plan::DropKey,
            Action::Swap { record } => Plan::Swap(Box::new(record)),
            Action::Rewrite { record, .. } => Plan::Rewrite(Box::new(record)),
            Action::Revoke { token_id, cause } => {
                let n = number_of(&token_id);
                let is_used = world.remote.iter().any(|t| t.n == n && t.listed && t.is_used);
                assert!(cause != RevokeCause::Unused || !is_used, "a token that is used ends for not being used");
                Plan::Revoke(n, cause)
            }
            Action::DeleteSecret => Plan::DeleteSecret,
            Action::Release => Plan::Release,
            Action::Preflight | Action::Prove { .. } | Action::Restart { .. } => return None,
        })
    }

    fn execute(&self, world: &mut World, i: usize) -> Option<()> {
        let (plan, resource_version, secret_version) = world.operators[i].plan.take()?;
        let same_resource = world.resource.as_ref().map(|r| r.version) == resource_version;
        let same_secret = world.secret.as_ref().map(|s| s.version) == secret_version;
        let was_in_use = matches!(&plan, Plan::Revoke(n, _) if world.is_in_use(*n));
        let operator = &mut world.operators[i];
        match plan {
            Plan::Record { again, cause, keep, rolls } => {
                if again.is_none() && world.next > self.most_nonces() {
                    return None;
                }
                if same_resource && let Some(resource) = world.resource.as_mut() {
                    let n = again.unwrap_or(world.next);
                    if again.is_none() {
                        world.next += 1;
                    }
                    if self.record_late {
                        operator.apply(Event::Sending { nonce: nonce(n) });
                        world.posts.insert((i, n, Order::of(resource, rolls)));
                        return Some(());
                    }
                    resource.version += 1;
                    resource.has_finalizer = true;
                    resource.log = Log(keep);
                    let requests = resource.requests.clone();
                    let rolls = rolls.map(token_id);
                    let attempt = Attempt { nonce: nonce(n), at: young(), cause, requests, rolls };
                    resource.log.0.push(attempt.clone());
                    operator.apply(Event::Recording { nonce: nonce(n) });
                    operator.apply(Event::Recorded { attempt, took: SignedDuration::ZERO, horizon: self.horizon });
                    operator.apply(Event::DryRun(Ok(())));
                }
            }
            Plan::DropKey => operator.apply(Event::KeyDropped),
            Plan::Send(n, rolls) => {
                operator.apply(Event::Sending { nonce: nonce(n) });
                let mut order = world.resource.as_ref().map(|resource| Order::of(resource, rolls)).unwrap_or_default();
                // Another key changes nothing else.
                if let Some(token) = world.remote.iter().find(|t| Some(t.n) == rolls) {
                    order.scope_changed = token.scope_changed;
                }
                world.posts.insert((i, n, order));
            }
            Plan::Swap(record) => {
                if same_secret && let Some(key) = operator.held() {
                    operator.apply(Event::SecretWritten);
                    let mut record = record;
                    // Times a second apart are no other states.
                    record.issued_at = Some(young());
                    if world.resource.as_ref().is_some_and(|r| r.log.get(&nonce(key)).is_none_or(|a| a.at == old())) {
                        record.issued_at = Some(old());
                    }
                    world.secret = Some(Secret { version: secret_version.unwrap_or(0) + 1, key, record: *record });
                }
            }
            Plan::Rewrite(record) => {
                if same_secret && let Some(secret) = world.secret.as_mut() {
                    secret.version += 1;
                    secret.record = *record;
                }
            }
            Plan::AddFinalizer => {
                if same_resource && let Some(resource) = world.resource.as_mut() {
                    resource.version += 1;
                    resource.has_finalizer = true;
                    operator.apply(Event::FinalizerAdded);
                }
            }
            Plan::Revoke(n, cause) => {
                let wanted = world.resource.as_ref().is_some_and(|r| !r.deleting);
                let secret = world.secret.as_ref();
                let makes_room = cause == RevokeCause::MadeRoom && operator.unsent().is_some();
                if was_in_use && wanted && !makes_room && cause != RevokeCause::Unused {
                    world.live_token_revoked = true;
                }
                let is_young = |p: &Previous| p.token == nonce(n).as_str() && p.since == young();
                let in_overlap =
                    !self.overlap.is_zero() && secret.is_some_and(|s| s.record.previous.iter().any(is_young));
                let asked = world.resource.as_ref().is_some_and(|r| r.requests.revoke_now.is_some());
                // What nobody uses ends as a whole.
                if wanted && in_overlap && !asked && cause != RevokeCause::Unused {
                    world.revoked_early = true;
                }
                world.remote.retain(|t| t.n != n);
                operator.issued.retain(|(issued, _)| *issued != n);
                operator.revoked.insert(n);
                operator.apply(Event::Revoked { token_id: token_id(n), cause, outcome: Ok(()) });
            }
            Plan::DeleteSecret => {
                if same_secret {
                    world.secret = None;
                }
            }
            Plan::Release => {
                if same_resource {
                    world.resource = None;
                }
            }
            Plan::Mirror(status) => {
                if same_resource && let Some(resource) = world.resource.as_mut() {
                    resource.version += 1;
                    resource.status = status;
                }
            }
        }
        Some(())
    }

    /// Whether nothing that could make a token of the attempt, or hide one, is under way any more.
    fn is_past_horizon(world: &World, n: N) -> bool {
        let sending = |o: &Operator| matches!(&o.plan, Some((Plan::Send(sent, _), ..)) if *sent == n);
        let log = world.resource.as_ref().map(|resource| &resource.log);
        let rolls = log.and_then(|log| log.get(&nonce(n))?.rolls.as_ref()).map(number_of);
        // Those before it are past it first.
        let is_before = |a: &&Attempt| a.nonce != nonce(n);
        let before = log.filter(|_| rolls.is_some()).into_iter().flat_map(|log| log.0.iter().take_while(is_before));
        if before.into_iter().any(|attempt| attempt.rolls.is_some() && attempt.at == young()) {
            return false;
        }
        // What the list shows of the token is no older than the attempt.
        let is_shown = |t: &Remote| t.listed && (!t.lags() || t.keys[..=t.shown].contains(&n));
        !world.remote.iter().any(|t| Some(t.n) == rolls && !is_shown(t))
            && !world.posts.iter().any(|(_, posted, _)| *posted == n)
            && !world.remote.iter().any(|t| t.n == n && !t.listed)
            && !world.operators.iter().any(|o| o.in_flight() == Some(n) || sending(o))
    }

    /// Whether an operator could send the attempt, and would have to write it down anew if it waited for so long.
    fn is_about_to_send(world: &World, n: N) -> bool {
        // A deletion sends nothing but what finishes a roll.
        let is_sent = |r: &Resource, a: &Attempt| a.nonce == nonce(n) && (!r.deleting || a.rolls.is_some());
        let current = |r: &Resource| r.log.current().is_some_and(|a| is_sent(r, a));
        world.resource.as_ref().is_some_and(current) && world.operators.iter().any(|o| o.unsent() == Some(n))
    }

    fn outcome(&self, world: &World) -> Result<(), &'static str> {
        let live: BTreeSet<N> = world.remote.iter().map(|t| t.n).collect();
        match (&world.resource, &world.secret) {
            (None, secret) if !(live.is_empty() || self.retain && secret.is_some()) => {
                Err("a token outlives its resource")
            }
            (None, _) if live.len() > 1 => Err("a token outlives its resource"),
            // With a lost lease, the key may reach a Secret right after the other operator revoked its token and let go.
            (None, Some(secret)) if self.retain => {
                // That an earlier request takes effect after a later one, no list need tell before the resource goes.
                let is_late = world.remote.iter().any(|t| t.live_key().is_some_and(|live| live < secret.key));
                match secret.token().is_some_and(|token| world.is_in_use(token)) || is_late {
                    true => Ok(()),
                    false => Err("a Secret that stays has a key that has ended"),
                }
            }
            (None, Some(_)) if !self.split => Err("a Secret outlives its resource"),
            (None, _) => Ok(()),
            (Some(resource), _) if resource.deleting => Err("a deletion is stuck"),
            _ if self.split && (world.next > self.most_nonces() || world.writes() >= MOST_WRITES_SPLIT) => Ok(()),
            // More than any of these histories needs: something issues for ever.
            _ if world.next > self.most_nonces() => Err("there is no end to attempts"),
            (Some(resource), None) if live.is_empty() && Self::has_ended(resource) => Ok(()),
            (Some(_), None) => Err("there is no Secret"),
            (Some(_), Some(secret)) if live != secret.token().into_iter().collect() => Err("tokens and Secret differ"),
            (Some(_), Some(secret)) if !secret.token().is_some_and(|token| world.is_in_use(token)) => {
                Err("the Secret's key has ended")
            }
            (Some(resource), Some(secret)) if resource.status.token != secret.token() => Err("status is wrong"),
            (Some(resource), Some(secret)) if !Self::is_answered(resource, secret) => Err("a request is open"),
            (Some(resource), Some(_)) if world.remote.iter().any(|t| t.scope_changed != resource.scope_changed) => {
                Err("the scope is wrong")
            }
            _ => Ok(()),
        }
    }

    /// Whether its token was ended because nobody used it, and no other is asked for.
    fn has_ended(resource: &Resource) -> bool {
        let Resource { requests, status, .. } = resource;
        let is_served = requests.rotate.is_none() || requests.rotate == status.rotate_request;
        status.unused_since.is_some() && status.token.is_none() && !status.ready && is_served
    }

    /// Whether a token is left that somebody asked to go at once, and only the overlap is waited for.
    fn leaves_leaked(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        self.actions(world, &mut steps);
        let waits = !steps.iter().any(|step| step.is_progress() && *step != Step::OverlapPasses);
        let asked = world.resource.as_ref().is_some_and(|r| !r.deleting && r.requests.revoke_now.is_some());
        // Whatever else replaces a token leaves it its overlap.
        let nothing_else = Budget { revoke_now: 0, crash: 0, ..self.budget.clone() }
            == Budget { revoke_now: 0, crash: 0, ..world.budget.clone() };
        waits && asked && nothing_else && world.remote.len() > 1
    }

    fn is_answered(resource: &Resource, secret: &Secret) -> bool {
        let Requests { rotate, revoke_now } = &resource.requests;
        let is_told = rotate.is_none() && revoke_now.is_none() || resource.status.rotate_request.is_some();
        let answered = &secret.record.answered;
        is_told
            && (rotate.is_none() || *rotate == answered.rotate)
            && (revoke_now.is_none() || *revoke_now == answered.revoke_now)
    }

    fn has_settled(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        self.actions(world, &mut steps);
        !steps.iter().any(Step::is_progress)
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let resource = Resource {
            version: 1,
            log: Log::default(),
            has_finalizer: false,
            deleting: false,
            scope_changed: false,
            rolls: self.rolls,
            requests: Requests::default(),
            status: Status::default(),
        };
        let world = World {
            resource: Some(resource),
            secret: None,
            remote: BTreeSet::new(),
            operators: [Operator { up: true, ..Operator::default() }, Operator::default()],
            posts: BTreeSet::new(),
            active: [true, false],
            next: 1,
            budget: self.budget.clone(),
            live_token_revoked: false,
            revoked_early: false,
        };
        vec![if self.settled { settled(world) } else { world }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (i, operator) in world.operators.iter().enumerate() {
            match operator {
                Operator { up: false, .. } if world.active[i] => steps.push(Step::Start(i)),
                Operator { up: false, .. } => {}
                Operator { plan: Some(_), .. } => steps.push(Step::Execute(i)),
                Operator { plan: None, .. } if world.active[i] && self.decide(world, i).is_some() => {
                    steps.push(Step::Plan(i));
                }
                Operator { .. } => {}
            }
            if operator.up && world.budget.crash > 0 {
                steps.push(Step::Crash(i));
            }
        }
        for (by, n, _) in &world.posts {
            let (by, n) = (*by, *n);
            if world.operators[by].up && world.operators[by].in_flight() == Some(n) {
                steps.push(Step::Answer { by, n, listed: true });
                steps.push(Step::Answer { by, n, listed: false });
                if world.budget.lost_answer > 0 {
                    steps.push(Step::AnswerLost { by, n, effect: true });
                    steps.push(Step::AnswerLost { by, n, effect: false });
                    steps.push(Step::Refused { by, n });
                }
            } else {
                steps.push(Step::StrayTakesEffect { by, n });
                steps.push(Step::StrayIsLost { by, n });
            }
        }
        steps.extend(world.remote.iter().filter(|t| !t.listed).map(|t| Step::Appears(t.n)));
        steps.extend(world.remote.iter().filter(|t| t.lags()).map(|t| Step::KeyAppears(t.n)));
        if world.budget.rolled_by_hand > 0 {
            steps.extend(world.remote.iter().filter(|t| t.listed).map(|t| Step::RolledByHand(t.n)));
        }
        if world.budget.used > 0 {
            steps.extend(world.remote.iter().filter(|t| t.listed && !t.is_used).map(|t| Step::Used(t.n)));
        }
        if world.budget.token_deleted > 0 {
            steps.extend(world.remote.iter().map(|t| Step::TokenDeleted(t.n)));
        }
        if let Some(resource) = &world.resource {
            let passes = resource.log.0.iter().filter(|a| a.at == young()).map(|a| number(&a.nonce));
            let is_waiting = |n: &N| Self::is_about_to_send(world, *n);
            let passes = passes.filter(|n| world.budget.slow > 0 || !is_waiting(n));
            steps.extend(passes.filter(|n| Self::is_past_horizon(world, *n)).map(Step::HorizonPasses));
            if !resource.deleting && world.budget.deletion > 0 {
                steps.push(Step::UserDeletes);
            }
            if !resource.deleting && !resource.scope_changed && world.budget.scope_change > 0 {
                steps.push(Step::UserChangesScope);
            }
            if !resource.deleting && world.budget.strategy_change > 0 {
                steps.push(Step::UserChangesStrategy);
            }
            if !resource.deleting && world.budget.rotate > 0 {
                steps.push(Step::UserAsksToRotate);
            }
            if !resource.deleting && world.budget.revoke_now > 0 {
                steps.push(Step::UserAsksToRevoke);
            }
        }
        if world.secret.as_ref().is_some_and(|secret| secret.record.previous.iter().any(|p| p.since == young())) {
            steps.push(Step::OverlapPasses);
        }
        if world.secret.is_some() && world.budget.secret_deleted > 0 {
            steps.push(Step::SecretDeleted);
        }
        if world.budget.lease_lost > 0 {
            steps.push(Step::LeaseLost);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        let resource = world.resource.as_mut();
        match step {
            Step::Plan(i) => {
                let plan = self.decide(last, i)?;
                let versions = (last.resource.as_ref().map(|r| r.version), last.secret.as_ref().map(|s| s.version));
                world.operators[i].plan = Some((plan, versions.0, versions.1));
            }
            Step::Execute(i) => self.execute(&mut world, i)?,
            Step::Start(i) => world.operators[i] = Operator { up: true, ..Operator::default() },
            Step::Answer { by, n, listed } => {
                let order = take_post(&mut world, by, n)?;
                let is_there = world.takes_effect(n, listed, &order);
                let operator = &mut world.operators[by];
                let token_id = token_id(order.token(n));
                let key_sha256 = Some(raw_key(n).fingerprint(token_id.as_str()));
                let issued = Answer::Issued { token_id, key_sha256 };
                match order.rolls {
                    Some(token) if is_there => {
                        operator.rolled.retain(|(rolled, _)| *rolled != token);
                        operator.rolled.insert((token, n));
                        operator.sent(n, &order, issued);
                    }
                    Some(_) => operator.sent(n, &order, Answer::Failed(Error::NotFound)),
                    None => {
                        operator.issued.insert((n, order.scope_changed));
                        operator.sent(n, &order, issued);
                    }
                }
                if self.record_late
                    && let Some(resource) = world.resource.as_mut()
                {
                    resource.version += 1;
                    resource.has_finalizer = true;
                    let requests = resource.requests.clone();
                    let (nonce, at, cause) = (nonce(n), young(), Cause::New);
                    resource.log.0.push(Attempt { nonce, at, cause, requests, rolls: None });
                }
            }
            Step::AnswerLost { by, n, effect } => {
                world.budget.lost_answer -= 1;
                let order = take_post(&mut world, by, n)?;
                if effect {
                    world.takes_effect(n, false, &order);
                }
                let lost = Error::Unavailable { reason: "no answer".into(), effect: Effect::Unknown };
                world.operators[by].sent(n, &order, Answer::Failed(lost));
            }
            Step::Refused { by, n } => {
                world.budget.lost_answer -= 1;
                let order = take_post(&mut world, by, n)?;
                world.operators[by].sent(n, &order, Answer::NotSent);
            }
            Step::StrayTakesEffect { by, n } => {
                let order = take_post(&mut world, by, n)?;
                world.takes_effect(n, false, &order);
            }
            Step::StrayIsLost { by, n } => world.posts.retain(|(b, p, _)| (*b, *p) != (by, n)),
            Step::Appears(n) => {
                world.change(n, |token| token.listed = true);
                for operator in &mut world.operators {
                    operator.issued.retain(|(issued, _)| *issued != n);
                }
            }
            Step::KeyAppears(n) => {
                world.change(n, |token| token.shown = token.keys.len() - 1);
            }
            Step::HorizonPasses(n) => {
                let this = nonce(n);
                if Self::is_about_to_send(last, n) {
                    world.budget.slow -= 1;
                }
                resource?.log.0.iter_mut().filter(|a| a.nonce == this).for_each(|a| a.at = old());
                if let Some(secret) = &mut world.secret {
                    if secret.key == n {
                        secret.record.issued_at = Some(old());
                    }
                    let is_it = |p: &&mut Previous| self.overlap.is_zero() && p.token == this.as_str();
                    secret.record.previous.iter_mut().filter(is_it).for_each(|p| p.since = old());
                }
                for operator in &mut world.operators {
                    operator.issued.retain(|(issued, _)| *issued != n);
                    operator.rolled.retain(|(_, key)| *key != n);
                    operator.revoked.remove(&n);
                }
            }
            Step::Crash(i) => {
                world.budget.crash -= 1;
                world.operators[i] = Operator::default();
            }
            Step::LeaseLost => {
                world.budget.lease_lost -= 1;
                world.active = [true, true];
            }
            Step::UserDeletes => {
                world.budget.deletion -= 1;
                let resource = resource?;
                resource.version += 1;
                resource.deleting = true;
                if !resource.has_finalizer {
                    world.resource = None;
                }
            }
            Step::UserChangesScope => {
                world.budget.scope_change -= 1;
                let resource = resource?;
                resource.version += 1;
                resource.scope_changed = true;
            }
            Step::UserChangesStrategy => {
                world.budget.strategy_change -= 1;
                let resource = resource?;
                resource.version += 1;
                resource.rolls = !resource.rolls;
            }
            Step::UserAsksToRotate => {
                world.budget.rotate -= 1;
                let resource = resource?;
                resource.version += 1;
                resource.requests.rotate = Request::parse("please");
            }
            Step::UserAsksToRevoke => {
                world.budget.revoke_now -= 1;
                let resource = resource?;
                resource.version += 1;
                resource.requests.revoke_now = Request::parse("please");
            }
            Step::OverlapPasses => {
                world.secret.as_mut()?.record.previous.iter_mut().for_each(|p| p.since = old());
            }
            Step::SecretDeleted => {
                world.budget.secret_deleted -= 1;
                world.secret = None;
            }
            Step::RolledByHand(n) => {
                world.budget.rolled_by_hand -= 1;
                world.change(n, |token| token.keys.push(BY_HAND));
            }
            Step::Used(n) => {
                world.budget.used -= 1;
                world.change(n, |token| token.is_used = true);
            }
            Step::TokenDeleted(n) => {
                world.budget.token_deleted -= 1;
                world.remote.retain(|t| t.n != n);
                for operator in &mut world.operators {
                    operator.issued.retain(|(issued, _)| *issued != n);
                }
            }
        }
        Some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        // Two operators that correct each other's status could go on for ever: one of them ends with its lease.
        world.writes() <= if self.split { MOST_WRITES_SPLIT } else { MOST_WRITES }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(IN_ORDER, |model: &Self, world: &World| {
                model.outcome(world).is_ok() || !model.has_settled(world)
            }),
            Property::always("writes come to an end", |_: &Self, world: &World| world.writes() < MOST_WRITES),
            Property::always("no live token is revoked", |model: &Self, world: &World| {
                model.split || !world.live_token_revoked
            }),
            Property::always("what is to go at once does not wait", |model: &Self, world: &World| {
                !model.leaves_leaked(world)
            }),
            Property::always("no former token is revoked within its overlap", |_: &Self, world: &World| {
                !world.revoked_early
            }),
        ]
    }
}

fn budget() -> Budget {
    Budget {
        crash: 1,
        lost_answer: 1,
        secret_deleted: 1,
        token_deleted: 1,
        scope_change: 1,
        deletion: 1,
        lease_lost: 0,
        slow: 1,
        rotate: 0,
        revoke_now: 0,
        rolled_by_hand: 0,
        strategy_change: 0,
        used: 0,
    }
}

/// Nothing happens.
fn nothing() -> Budget {
    Budget {
        crash: 0,
        lost_answer: 0,
        secret_deleted: 0,
        token_deleted: 0,
        scope_change: 0,
        deletion: 0,
        slow: 0,
        ..budget()
    }
}

fn protocol() -> Protocol {
    let overlap = SignedDuration::ZERO;
    Protocol {
        budget: budget(),
        horizon: HORIZON,
        record_late: false,
        split: false,
        overlap,
        slots: 20,
        rolls: false,
        settled: false,
        retain: false,
        shows_no_masks: false,
        ends_unused: false,
    }
}

/// Token 1 was issued long ago: Secret, status and list agree.
fn settled(world: World) -> World {
    let (nonce, at, cause) = (nonce(1), old(), Cause::New);
    let record = SecretRecord {
        attempt: Some(nonce.clone()),
        token_id: Some(token_id(1)),
        issued_at: Some(at),
        spec_hash: Some(scope(false).hash()),
        key_sha256: Some(raw_key(1).fingerprint(token_id(1).as_str())),
        ..SecretRecord::default()
    };
    let resource = world.resource.map(|resource| Resource {
        log: Log(vec![Attempt { nonce, at, cause, requests: Requests::default(), rolls: None }]),
        has_finalizer: true,
        status: Status { token: Some(1), ready: true, ..Status::default() },
        ..resource
    });
    World {
        resource,
        secret: Some(Secret { version: 1, key: 1, record }),
        remote: [Remote::new(1, true, &Order::default())].into(),
        next: 2,
        ..world
    }
}

fn take_post(world: &mut World, by: usize, n: N) -> Option<Order> {
    let post = world.posts.iter().find(|(b, p, _)| (*b, *p) == (by, n))?.clone();
    world.posts.remove(&post);
    Some(post.2)
}

fn check(name: &str, protocol: Protocol) -> impl Checker<Protocol> {
    let start = Instant::now();
    let protocol_is_split = protocol.split;
    let mut checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    if protocol_is_split {
        checker = checker.target_max_depth(SPLIT_DEPTH);
    }
    let checker = checker.spawn_bfs().join();
    println!("model check, {name}: {} states, {:.1} s", checker.unique_state_count(), start.elapsed().as_secs_f32());
    for (property, path) in checker.discoveries() {
        println!("{property}: {:?}", path.into_actions());
    }
    checker
}

/// Every order of these, two or three kinds of misfortune at a time: all at once is too many to explore.
#[test]
fn no_order_of_events_leaks_loses_or_wedges() {
    let few = Budget { token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let mixes = [
        ("answers lost, slow", Budget { slow: 1, ..few.clone() }),
        ("crashes", Budget { crash: 2, ..few.clone() }),
        ("scope changed", Budget { scope_change: 1, lost_answer: 0, ..few.clone() }),
        ("scope changed, answers lost", Budget { scope_change: 1, crash: 0, ..few.clone() }),
        ("Secret deleted", Budget { secret_deleted: 1, lost_answer: 0, ..few.clone() }),
        ("Secret deleted, answers lost", Budget { secret_deleted: 1, crash: 0, ..few.clone() }),
        ("token deleted", Budget { token_deleted: 1, ..few.clone() }),
        ("token and Secret deleted", Budget { token_deleted: 1, secret_deleted: 1, crash: 0, lost_answer: 0, ..few }),
    ];
    for (name, budget) in mixes {
        check(name, Protocol { budget, ..protocol() }).assert_properties();
    }
}

/// Requests to rotate and to revoke, with an overlap that passes at any time, and in an account with room for one token
/// only.
#[test]
fn no_rotation_leaks_loses_or_wedges() {
    let none =
        Budget { crash: 0, lost_answer: 0, token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let rotate = Budget { rotate: 1, ..none.clone() };
    let revoke = Budget { revoke_now: 1, ..none };
    let mixes = [
        ("rotation, crashes", 20, Budget { crash: 1, ..rotate.clone() }),
        ("rotation, answers lost", 20, Budget { lost_answer: 1, deletion: 0, ..rotate.clone() }),
        ("rotation, Secret deleted", 20, Budget { secret_deleted: 1, deletion: 0, ..rotate.clone() }),
        ("rotation, token deleted", 20, Budget { token_deleted: 1, deletion: 0, ..rotate.clone() }),
        ("rotation and revocation", 20, Budget { revoke_now: 1, deletion: 0, ..rotate.clone() }),
        ("revocation, crashes", 20, Budget { crash: 1, ..revoke.clone() }),
        ("revocation, Secret deleted", 20, Budget { secret_deleted: 1, deletion: 0, ..revoke.clone() }),
        ("full account, rotation, crashes", 1, Budget { crash: 1, deletion: 0, ..rotate.clone() }),
        ("full account, rotation, answers lost", 1, Budget { lost_answer: 1, deletion: 0, ..rotate }),
        ("full account, revocation, crashes", 1, Budget { crash: 1, deletion: 0, ..revoke }),
    ];
    for (name, slots, budget) in mixes {
        let overlap = SignedDuration::from_hours(1);
        check(name, Protocol { budget, slots, overlap, ..protocol() }).assert_properties();
    }
}

/// The token gets another key for each request and each lost one, in an account with room for one token only.
#[test]
fn no_roll_leaks_loses_or_wedges() {
    let rotate = Budget { rotate: 1, ..nothing() };
    let mixes = [
        ("roll, crashes", Budget { crash: 2, ..rotate.clone() }),
        ("roll, crash, deletion", Budget { crash: 1, deletion: 1, ..rotate.clone() }),
        ("roll, answers lost, deletion", Budget { lost_answer: 2, deletion: 1, ..rotate.clone() }),
        ("roll, crash, answer lost", Budget { crash: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, Secret deleted, crash", Budget { secret_deleted: 1, crash: 1, ..rotate.clone() }),
        ("roll, Secret deleted, answer lost", Budget { secret_deleted: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, token deleted, crash", Budget { token_deleted: 1, crash: 1, ..rotate.clone() }),
        ("roll, token deleted, answer lost", Budget { token_deleted: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, by hand too, crash", Budget { rolled_by_hand: 1, crash: 1, ..rotate.clone() }),
        ("roll, by hand too, answer lost", Budget { rolled_by_hand: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll, scope changed, crash", Budget { scope_change: 1, crash: 1, ..rotate.clone() }),
        ("roll, another strategy, crash", Budget { strategy_change: 1, crash: 1, ..rotate.clone() }),
        ("roll, another strategy, answer lost", Budget { strategy_change: 1, lost_answer: 1, ..rotate.clone() }),
        ("roll and revocation, crash", Budget { revoke_now: 1, crash: 1, ..rotate.clone() }),
        ("roll, slow, crash", Budget { slow: 1, crash: 1, ..rotate.clone() }),
        ("Secret deleted, by hand too", Budget { secret_deleted: 1, rolled_by_hand: 1, deletion: 1, ..nothing() }),
    ];
    let overlap = SignedDuration::from_hours(1);
    let account = || Protocol { slots: 1, overlap, rolls: true, ..protocol() };
    for (name, budget) in mixes {
        check(name, Protocol { budget, settled: true, ..account() }).assert_properties();
    }
    check("roll from the first token on", Protocol { budget: Budget { crash: 1, ..rotate }, ..account() })
        .assert_properties();
}

/// The token is not used, is used at any time or never, and ends; a new one is asked for at any time.
#[test]
fn no_end_of_an_unused_token_leaks_loses_or_wedges() {
    let rotate = Budget { rotate: 1, ..nothing() };
    let mixes = [
        ("unused, crashes", Budget { crash: 2, ..nothing() }),
        ("unused, rotation, crash", Budget { crash: 1, ..rotate.clone() }),
        ("unused, rotation, answer lost", Budget { lost_answer: 1, ..rotate.clone() }),
        ("unused, used, rotation, crash", Budget { used: 1, crash: 1, ..rotate.clone() }),
        ("unused, used, Secret deleted, crash", Budget { used: 1, secret_deleted: 1, crash: 1, ..nothing() }),
        ("unused, Secret deleted, rotation", Budget { secret_deleted: 1, ..rotate.clone() }),
        ("unused, token deleted, crash", Budget { token_deleted: 1, crash: 1, ..nothing() }),
        ("unused, revocation, crash", Budget { revoke_now: 1, crash: 1, ..nothing() }),
        ("unused, scope changed, crash", Budget { scope_change: 1, crash: 1, ..nothing() }),
        ("unused, deletion, crash", Budget { deletion: 1, crash: 1, ..rotate }),
    ];
    let overlap = SignedDuration::from_hours(1);
    for (name, budget) in mixes {
        check(name, Protocol { budget, overlap, settled: true, ends_unused: true, ..protocol() }).assert_properties();
    }
}

/// What stays when the resource goes has a key that works.
#[test]
fn no_roll_leaves_a_retained_secret_with_a_key_that_has_ended() {
    let rotate = Budget { rotate: 1, deletion: 1, ..nothing() };
    let mixes = [
        ("retained, roll, crashes", true, Budget { crash: 2, ..rotate.clone() }),
        ("retained, roll, answers lost", true, Budget { lost_answer: 2, ..rotate.clone() }),
        ("retained, roll from the first token on", false, Budget { crash: 1, ..rotate }),
    ];
    for (name, settled, budget) in mixes {
        check(name, Protocol { budget, rolls: true, settled, retain: true, ..protocol() }).assert_properties();
    }
}

#[test]
fn a_lost_lease_leaks_nothing() {
    let none =
        Budget { crash: 0, lost_answer: 0, token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let budget = Budget { lease_lost: 1, ..none };
    check("lease lost", Protocol { budget, split: true, ..protocol() }).assert_properties();
    let budget = Budget { lease_lost: 1, rotate: 1, ..nothing() };
    check("lease lost, roll", Protocol { budget, split: true, rolls: true, settled: true, ..protocol() })
        .assert_properties();
}

fn finds_what_is_not_in_order(name: &str, mutant: Protocol) {
    let budget = Budget { token_deleted: 0, secret_deleted: 0, scope_change: 0, slow: 0, ..budget() };
    let checker = check(name, Protocol { budget, ..mutant });
    assert!(checker.discovery(IN_ORDER).is_some(), "the model can't tell {name} from the real protocol");
}

#[test]
fn without_the_horizon_an_orphan_is_found() {
    finds_what_is_not_in_order("no horizon", Protocol { horizon: SignedDuration::ZERO, ..protocol() });
}

#[test]
fn without_masked_keys_in_lists_a_key_that_has_ended_stays() {
    let budget = Budget { rolled_by_hand: 1, ..nothing() };
    let checker =
        check("no masks", Protocol { budget, rolls: true, settled: true, shows_no_masks: true, ..protocol() });
    assert!(checker.discovery(IN_ORDER).is_some());
}

#[test]
fn recording_after_issuing_leaves_an_orphan() {
    finds_what_is_not_in_order("recording late", Protocol { record_late: true, ..protocol() });
}
