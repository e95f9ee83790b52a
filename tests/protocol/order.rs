//! What must be in order, once nothing happens any more by itself.

use std::collections::BTreeSet;

use datafast_operator::lifecycle::record::{Attempt, Requests};
use stateright::Model;

use super::model::{MOST_WRITES_SPLIT, Protocol};
use super::names::{N, nonce_of, number_of, young};
use super::step::Step;
use super::world::{Budget, Operator, Plan, Remote, Resource, Secret, World};

impl Protocol {
    pub(super) fn is_past_horizon(world: &World, n: N) -> bool {
        let sending = |o: &Operator| {
            o.plan.as_ref().is_some_and(|(plan, ..)| matches!(&**plan, Plan::Send(sent, _) if *sent == n))
        };
        let log = world.resource.as_ref().map(|resource| &resource.log);
        let rolls = log.and_then(|log| log.get(nonce_of(n))?.rolls.as_ref()).map(number_of);
        // Those before it are past it first.
        let is_before = |a: &&Attempt| a.nonce != *nonce_of(n);
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
    pub(super) fn is_about_to_send(world: &World, n: N) -> bool {
        // A deletion sends nothing but what finishes a roll.
        let is_sent = |r: &Resource, a: &Attempt| a.nonce == *nonce_of(n) && (!r.deleting || a.rolls.is_some());
        let current = |r: &Resource| r.log.current().is_some_and(|a| is_sent(r, a));
        world.resource.as_ref().is_some_and(|r| current(r)) && world.operators.iter().any(|o| o.unsent() == Some(n))
    }

    pub(super) fn outcome(&self, world: &World) -> Result<(), &'static str> {
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
    pub(super) fn has_ended(resource: &Resource) -> bool {
        let Resource { requests, status, .. } = resource;
        let is_served = requests.rotate.is_none() || requests.rotate == status.rotate_request;
        status.unused_since.is_some() && status.token.is_none() && !status.ready && is_served
    }

    /// Whether a token is left that somebody asked to go at once, and only the overlap is waited for.
    pub(super) fn leaves_leaked(&self, world: &World) -> bool {
        let asked = world.resource.as_ref().is_some_and(|r| !r.deleting && r.requests.revoke_now.is_some());
        if !asked || world.remote.len() < 2 {
            return false;
        }
        // Whatever else replaces a token leaves it its overlap.
        let nothing_else = Budget { revoke_now: 0, crash: 0, ..self.budget.clone() }
            == Budget { revoke_now: 0, crash: 0, ..(*world.budget).clone() };
        nothing_else && {
            let mut steps = Vec::new();
            self.actions(world, &mut steps);
            !steps.iter().any(|step| step.is_progress() && *step != Step::OverlapPasses)
        }
    }

    pub(super) fn is_answered(resource: &Resource, secret: &Secret) -> bool {
        let Requests { rotate, revoke_now } = &resource.requests;
        let is_told = rotate.is_none() && revoke_now.is_none() || resource.status.rotate_request.is_some();
        let answered = &secret.record.answered;
        is_told
            && (rotate.is_none() || *rotate == answered.rotate)
            && (revoke_now.is_none() || *revoke_now == answered.revoke_now)
    }

    pub(super) fn has_settled(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        self.actions(world, &mut steps);
        !steps.iter().any(Step::is_progress)
    }
}
