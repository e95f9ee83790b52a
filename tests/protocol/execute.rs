//! An operator does what it has decided, and takes in what comes of it.

use datafast_operator::datafast::Error;
use datafast_operator::lifecycle::decision::RevokeCause;
use datafast_operator::lifecycle::event::{self, Answer, Event, Now, Refusal};
use datafast_operator::lifecycle::record::{Attempt, Log, Previous};
use jiff::SignedDuration;

use super::bugs::Bug;
use super::model::Protocol;
use super::names::{N, nonce, nonce_of, old, spec_hash, token_id, young};
use super::shared::Object;
use super::world::{Operator, Order, Plan, Secret, World};

/// Longer than any pause after a failure.
const A_PAUSE: SignedDuration = SignedDuration::from_mins(10);

impl Protocol {
    /// Has the core of an operator take note of an event.
    pub(super) fn tell(&self, operator: &mut Operator, event: Event) {
        self.tell_past(operator, event, SignedDuration::ZERO);
    }

    /// Of one that came so long ago.
    fn tell_past(&self, operator: &mut Operator, event: Event, ago: SignedDuration) {
        let heard = self.bug.map_or_else(|| event.clone(), |bug| bug.heard(event.clone()));
        operator.known.local.apply(heard, Now { wall: young() - ago, steady: SignedDuration::ZERO });
    }

    /// A dry run of the Secret is answered. What was refused is tried again whenever the next thing happens.
    fn dry_run(&self, operator: &mut Operator, refuses: bool) {
        operator.is_refused = refuses;
        let outcome = if refuses { Err(Refusal("no".into())) } else { Ok(()) };
        self.tell_past(operator, Event::DryRun(outcome), A_PAUSE);
    }

    /// The request of attempt `n` has ended. The Secret of what made no token is dry run once more.
    pub(super) fn sent(&self, world: &mut World, by: usize, n: N, order: &Order, answer: Answer) {
        let (requests, rolls) = (order.requests(), order.rolls.map(token_id));
        let operator = &mut world.operators[by];
        // The pause after a failure has passed whenever the next thing happens: which is as well at any time.
        let ago = match &answer {
            Answer::Failed(Error::Unavailable { .. }) => A_PAUSE,
            _ => SignedDuration::ZERO,
        };
        let order = event::Order { nonce: nonce(n), spec_hash: spec_hash(order.scope_changed), requests, rolls };
        self.tell_past(operator, Event::Sent { order, answer }, ago);
        if operator.unsent().is_some() {
            self.dry_run(operator, world.refuses_keys);
        }
    }

    pub(super) fn execute(&self, world: &mut World, i: usize) -> Option<()> {
        let (plan, resource_version, secret_version) = world.operators[i].plan.take()?;
        let same_resource = world.resource.as_ref().map(|r| r.version) == resource_version;
        let same_secret = world.secret.as_ref().map(|s| s.version) == secret_version;
        let was_in_use = matches!(&*plan, Plan::Revoke(n, _) if world.is_in_use(*n));
        let operator = &mut world.operators[i];
        match &*plan {
            Plan::Record { again, cause, keep, rolls } => {
                if again.is_none() && world.next > self.most_nonces() {
                    return None;
                }
                if same_resource && let Some(resource) = world.resource.as_mut() {
                    let n = again.unwrap_or(world.next);
                    if again.is_none() {
                        world.next += 1;
                    }
                    if self.bug == Some(Bug::RecordsAfterIssuing) {
                        self.tell(operator, Event::Sending { nonce: nonce(n) });
                        world.posts.insert((i, n, Order::of(resource, *rolls)));
                        return Some(());
                    }
                    resource.version += 1;
                    resource.has_finalizer = true;
                    resource.log = Log(keep.clone());
                    let requests = resource.requests.clone();
                    let rolls = rolls.map(token_id);
                    let attempt = Attempt { nonce: nonce(n), at: young(), cause: *cause, requests, rolls };
                    resource.log.0.push(attempt.clone());
                    self.tell(operator, Event::Recording { nonce: nonce(n) });
                    let (took, horizon) = (SignedDuration::ZERO, self.horizon());
                    self.tell(operator, Event::Recorded { attempt, took, horizon });
                    self.dry_run(operator, world.refuses_keys);
                }
            }
            Plan::Preflight => self.dry_run(operator, world.refuses_keys),
            Plan::DropKey => self.tell(operator, Event::KeyDropped),
            Plan::Send(n, rolls) => {
                let (n, rolls) = (*n, *rolls);
                world.harm.asked_in_vain |= operator.is_refused;
                self.tell(operator, Event::Sending { nonce: nonce(n) });
                let mut order = world.resource.as_ref().map(|resource| Order::of(resource, rolls)).unwrap_or_default();
                // Another key changes nothing else.
                if let Some(token) = world.remote.iter().find(|t| Some(t.n) == rolls) {
                    order.scope_changed = token.scope_changed;
                }
                world.posts.insert((i, n, order));
            }
            Plan::Swap(record) => {
                if world.refuses_keys {
                    self.tell_past(operator, Event::SecretRefused(Refusal("no".into())), A_PAUSE);
                } else if !same_secret {
                    if self.bug == Some(Bug::DropsOvertakenKey) {
                        self.tell(operator, Event::KeyDropped);
                    }
                } else if let Some(key) = operator.held() {
                    self.tell(operator, Event::SecretWritten);
                    let mut record = record.clone();
                    // Times a second apart are no other states.
                    record.issued_at = Some(young());
                    if world.resource.as_ref().is_some_and(|r| r.log.get(nonce_of(key)).is_none_or(|a| a.at == old())) {
                        record.issued_at = Some(old());
                    }
                    let secret = Object::new(Secret { key, record: *record });
                    world.secret = Some(Object { version: secret_version.unwrap_or(0) + 1, ..secret });
                }
            }
            Plan::Rewrite(record) => {
                if same_secret && let Some(secret) = world.secret.as_mut() {
                    secret.version += 1;
                    secret.record = (**record).clone();
                }
            }
            Plan::AddFinalizer => {
                if same_resource && let Some(resource) = world.resource.as_mut() {
                    resource.version += 1;
                    resource.has_finalizer = true;
                    self.tell(operator, Event::FinalizerAdded);
                }
            }
            Plan::Revoke(n, cause) => {
                let (n, cause) = (*n, *cause);
                let wanted = world.resource.as_ref().is_some_and(|r| !r.deleting);
                let secret = world.secret.as_ref();
                let makes_room = cause == RevokeCause::MadeRoom && operator.unsent().is_some();
                if was_in_use && wanted && !makes_room && cause != RevokeCause::Unused {
                    world.harm.live_token_revoked = true;
                }
                let is_young = |p: &Previous| p.token == nonce_of(n).as_str() && p.since == young();
                let in_overlap =
                    !self.overlap.is_zero() && secret.is_some_and(|s| s.record.previous.iter().any(is_young));
                let asked = world.resource.as_ref().is_some_and(|r| r.requests.revoke_now.is_some());
                // What nobody uses ends as a whole.
                if wanted && in_overlap && !asked && cause != RevokeCause::Unused {
                    world.harm.revoked_early = true;
                }
                world.remote.retain(|t| t.n != n);
                operator.leaves_to_lists(n);
                operator.known.revoked.insert(n);
                self.tell(operator, Event::Revoked { token_id: token_id(n), cause, outcome: Ok(()) });
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
                    resource.status = status.clone();
                }
            }
        }
        Some(())
    }
}
