//! The model: where it begins, which steps there are, where they lead, and what must hold.

use datafast_operator::datafast::{Effect, Error};
use datafast_operator::lifecycle::event::Answer;
use datafast_operator::lifecycle::record::{Attempt, Cause, Log, Previous, Request, Requests, SecretRecord};
use jiff::SignedDuration;
use stateright::{Model, Property};

use super::bugs::Bug;
use super::names::{
    BY_HAND, HORIZON, MOST_NONCES, MOST_ROLLS, N, fingerprint, nonce, nonce_of, number, old, spec_hash, token_id, young,
};
use super::shared::{Object, Shared};
use super::sight::Decisions;
use super::step::Step;
use super::world::{Budget, Harm, Operator, Order, Remote, Resource, Secret, Status, World};

/// More than any history here needs of either object: past it, something writes for ever.
const MOST_WRITES: u8 = 40;
pub(super) const MOST_WRITES_SPLIT: u8 = 9;

pub(super) const IN_ORDER: &str = "what has settled is in order";
pub(super) const ONE_TOKEN: &str = "an attempt makes one key at most";
pub(super) const KEEPS_KEY: &str = "a key in hand is kept while its attempt is current";
pub(super) const ASKS_IN_TIME: &str = "no key is asked for whose Secret was just refused";

pub(super) struct Protocol {
    pub(super) budget: Budget,
    /// What an operator does wrong on purpose.
    pub(super) bug: Option<Bug>,
    /// Both operators act: a Secret can then hold a token that the other revoked, until the next look, or for good where
    /// the resource is gone by then. Tokens never leak.
    pub(super) split: bool,
    /// How long a replaced token stays.
    pub(super) overlap: SignedDuration,
    /// Slots of the account; a rotation makes room for itself.
    pub(super) slots: i64,
    /// At first, the token gets other keys.
    pub(super) rolls: bool,
    /// It begins with a token that was issued long ago: how that comes about, the other mixes explore.
    pub(super) settled: bool,
    /// Token and Secret stay when the resource goes.
    pub(super) retain: bool,
    /// A token that nobody uses is revoked.
    pub(super) ends_unused: bool,
    pub(super) decisions: Decisions,
}

impl Protocol {
    pub(super) fn horizon(&self) -> SignedDuration {
        if self.bug == Some(Bug::NoHorizon) { SignedDuration::ZERO } else { HORIZON }
    }

    pub(super) fn most_nonces(&self) -> N {
        match (self.split, self.rolls) {
            (true, _) => 3,
            (false, true) => MOST_ROLLS,
            (false, false) => MOST_NONCES,
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let resource = Resource {
            log: Log::default(),
            has_finalizer: false,
            deleting: false,
            scope_changed: false,
            rolls: self.rolls,
            requests: Requests::default(),
            status: Status::default(),
        };
        let world = World {
            resource: Some(Object::new(resource)),
            secret: None,
            refuses_keys: false,
            remote: Shared::default(),
            operators: [Operator::started(), Operator::default()],
            posts: Shared::default(),
            active: [true, false],
            next: 1,
            budget: Shared::new(self.budget.clone()),
            harm: Harm::default(),
        };
        vec![if self.settled { settled(world) } else { world }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (i, operator) in world.operators.iter().enumerate() {
            match operator {
                Operator { up: false, .. } if world.active[i] => steps.push(Step::Start(i)),
                Operator { up: false, .. } => {}
                Operator { plan: Some(_), .. } => steps.push(Step::Execute(i)),
                Operator { plan: None, .. } if world.active[i] && self.plan(world, i).is_some() => {
                    steps.push(Step::Plan(i));
                }
                Operator { .. } => {}
            }
            if operator.up && world.budget.crash > 0 {
                steps.push(Step::Crash(i));
            }
        }
        for (by, n, _) in world.posts.iter() {
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
        if world.refuses_keys {
            steps.push(Step::SecretsTaken);
        } else if world.budget.refusal > 0 {
            steps.push(Step::SecretsRefused);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        let is_crash = matches!(step, Step::Crash(_));
        let resource = &mut world.resource;
        match step {
            Step::Plan(i) => {
                let plan = self.plan(last, i)?;
                let versions = (last.resource.as_ref().map(|r| r.version), last.secret.as_ref().map(|s| s.version));
                world.operators[i].plan = Some((plan, versions.0, versions.1));
            }
            Step::Execute(i) => self.execute(&mut world, i)?,
            Step::Start(i) => world.operators[i] = Operator::started(),
            Step::Answer { by, n, listed } => {
                let order = take_post(&mut world, by, n)?;
                let is_there = world.takes_effect(n, listed, &order);
                let known = &mut world.operators[by].known;
                let token = order.token(n);
                let issued = Answer::Issued { token_id: token_id(token), key_sha256: Some(fingerprint(n, token)) };
                match order.rolls {
                    Some(token) if is_there => {
                        known.rolled.retain(|(rolled, _)| *rolled != token);
                        known.rolled.insert((token, n));
                        self.sent(&mut world, by, n, &order, issued);
                    }
                    Some(_) => self.sent(&mut world, by, n, &order, Answer::Failed(Error::NotFound)),
                    None => {
                        known.issued.insert((n, order.scope_changed));
                        self.sent(&mut world, by, n, &order, issued);
                    }
                }
                if self.bug == Some(Bug::RecordsAfterIssuing)
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
                self.sent(&mut world, by, n, &order, Answer::Failed(lost));
            }
            Step::Refused { by, n } => {
                world.budget.lost_answer -= 1;
                let order = take_post(&mut world, by, n)?;
                self.sent(&mut world, by, n, &order, Answer::NotSent);
            }
            Step::StrayTakesEffect { by, n } => {
                let order = take_post(&mut world, by, n)?;
                world.takes_effect(n, false, &order);
            }
            Step::StrayIsLost { by, n } => world.posts.retain(|(b, p, _)| (*b, *p) != (by, n)),
            Step::Appears(n) => {
                world.change(n, |token| token.listed = true);
                world.operators.iter_mut().for_each(|operator| operator.leaves_to_lists(n));
            }
            Step::KeyAppears(n) => {
                world.change(n, |token| token.shown = token.keys.len() - 1);
            }
            Step::HorizonPasses(n) => {
                let this = nonce(n);
                if Self::is_about_to_send(last, n) {
                    world.budget.slow -= 1;
                }
                resource.as_mut()?.log.0.iter_mut().filter(|a| a.nonce == this).for_each(|a| a.at = old());
                if let Some(secret) = &mut world.secret {
                    if secret.key == n {
                        secret.record.issued_at = Some(old());
                    }
                    let is_it = |p: &Previous| self.overlap.is_zero() && p.token == this.as_str();
                    if secret.record.previous.iter().any(is_it) {
                        secret.record.previous.iter_mut().filter(|p| is_it(p)).for_each(|p| p.since = old());
                    }
                }
                world.operators.iter_mut().for_each(|operator| operator.leaves_all_to_lists(n));
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
                let resource = resource.as_mut()?;
                resource.version += 1;
                resource.deleting = true;
                if !resource.has_finalizer {
                    world.resource = None;
                }
            }
            Step::UserChangesScope => {
                world.budget.scope_change -= 1;
                let resource = resource.as_mut()?;
                resource.version += 1;
                resource.scope_changed = true;
            }
            Step::UserChangesStrategy => {
                world.budget.strategy_change -= 1;
                let resource = resource.as_mut()?;
                resource.version += 1;
                resource.rolls = !resource.rolls;
            }
            Step::UserAsksToRotate => {
                world.budget.rotate -= 1;
                let resource = resource.as_mut()?;
                resource.version += 1;
                resource.requests.rotate = Request::parse("please");
            }
            Step::UserAsksToRevoke => {
                world.budget.revoke_now -= 1;
                let resource = resource.as_mut()?;
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
                world.operators.iter_mut().for_each(|operator| operator.leaves_to_lists(n));
            }
            Step::SecretsRefused => {
                world.budget.refusal -= 1;
                world.refuses_keys = true;
            }
            Step::SecretsTaken => world.refuses_keys = false,
        }
        world.harm.key_dropped |= !is_crash && last.operators.iter().zip(&world.operators).any(dropped(&world));
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
                model.split || !world.harm.live_token_revoked
            }),
            Property::always("what is to go at once does not wait", |model: &Self, world: &World| {
                !model.leaves_leaked(world)
            }),
            Property::always("no former token is revoked within its overlap", |_: &Self, world: &World| {
                !world.harm.revoked_early
            }),
            Property::always(ONE_TOKEN, |_: &Self, world: &World| !world.harm.made_twice),
            Property::always(KEEPS_KEY, |_: &Self, world: &World| !world.harm.key_dropped),
            Property::always(ASKS_IN_TIME, |_: &Self, world: &World| !world.harm.asked_in_vain),
        ]
    }
}

/// Token 1 was issued long ago: Secret, status and list agree.
pub(super) fn settled(world: World) -> World {
    let (nonce, at, cause) = (nonce(1), old(), Cause::New);
    let record = SecretRecord {
        attempt: Some(nonce.clone()),
        token_id: Some(token_id(1)),
        issued_at: Some(at),
        spec_hash: Some(spec_hash(false)),
        key_sha256: Some(fingerprint(1, 1)),
        ..SecretRecord::default()
    };
    let resource = world.resource.map(|resource| Resource {
        log: Log(vec![Attempt { nonce, at, cause, requests: Requests::default(), rolls: None }]),
        has_finalizer: true,
        status: Status { token: Some(1), ready: true, ..Status::default() },
        ..(*resource).clone()
    });
    World {
        resource: resource.map(Object::new),
        secret: Some(Object::new(Secret { key: 1, record })),
        remote: Shared::new([Remote::new(1, true, &Order::default())].into()),
        next: 2,
        ..world
    }
}

pub(super) fn take_post(world: &mut World, by: usize, n: N) -> Option<Order> {
    let post = world.posts.iter().find(|(b, p, _)| (*b, *p) == (by, n))?.clone();
    world.posts.remove(&post);
    Some(post.2)
}

/// Whether an operator, as it was and as it is, has forgotten a key that works and that it was to write.
fn dropped(world: &World) -> impl Fn((&Operator, &Operator)) -> bool {
    |(before, after)| {
        let Some(key) = before.held().filter(|key| after.held() != Some(*key)) else { return false };
        let is_current = |resource: &Object<Resource>| {
            !resource.deleting && resource.log.current().is_some_and(|current| current.nonce == *nonce_of(key))
        };
        world.remote.iter().any(|token| token.live_key() == Some(key))
            && world.resource.as_ref().is_some_and(is_current)
            && world.secret.as_ref().is_none_or(|secret| secret.key != key)
    }
}
