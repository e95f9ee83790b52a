//! What an operator sees, and what it decides by that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use datafast_operator::datafast::Token;
use datafast_operator::lifecycle::allow::Standing;
use datafast_operator::lifecycle::decide::decide;
use datafast_operator::lifecycle::decision::{Action, Decision, RevokeCause};
use datafast_operator::lifecycle::desired::{Desired, Rotation, WhenUnused};
use datafast_operator::lifecycle::event::{Event, Now};
use datafast_operator::lifecycle::facts::{Mirror, facts};
use datafast_operator::lifecycle::observed::{
    AccountView, Availability, Drift, Names, Observed, SecretFacts, SecretOwner, SecretView, StatusRecord,
};
use datafast_operator::lifecycle::queue::Slots;
use datafast_operator::lifecycle::snapshot::Snapshot;
use datafast_operator::lifecycle::windows::Windows;
use jiff::{SignedDuration, Timestamp};

use super::bugs::Bug;
use super::model::Protocol;
use super::names::{
    N, fingerprint, listed_token, mask, nonce, number, number_of, owner, raw_key, scope, token, token_id, young,
};
use super::shared::{Object, Shared};
use super::world::{Known, Plan, Remote, Resource, Secret, Status, World};

/// All that a decision goes by. Many worlds look the same to an operator.
#[derive(PartialEq, Eq, Hash)]
struct Sight {
    resource: Shared<Resource>,
    secret: Option<Shared<Secret>>,
    remote: Shared<BTreeSet<Remote>>,
    known: Shared<Known>,
}

/// What was decided: the same sight, the same decision.
#[derive(Default)]
pub(super) struct Decisions(Mutex<HashMap<Sight, Option<Shared<Plan>>>>);

impl Decisions {
    fn of(&self, sight: Sight, decide: impl FnOnce(&Sight) -> Option<Plan>) -> Option<Shared<Plan>> {
        if let Some(plan) = self.0.lock().unwrap().get(&sight) {
            return plan.clone();
        }
        let plan = decide(&sight).map(Shared::new);
        self.0.lock().unwrap().insert(sight, plan.clone());
        plan
    }
}

impl Protocol {
    /// What an operator does next, if anything.
    pub(super) fn plan(&self, world: &World, i: usize) -> Option<Shared<Plan>> {
        let (operator, content) = (&world.operators[i], |object: &Object<Secret>| object.content.clone());
        let sight = Sight {
            resource: world.resource.as_ref()?.content.clone(),
            secret: world.secret.as_ref().map(content),
            remote: world.remote.clone(),
            known: operator.known.clone(),
        };
        let plan = self.decisions.of(sight, |sight| self.decide(sight))?;
        // What was refused is tried again later, and until it is taken with no other outcome.
        let is_refused = || match *plan {
            Plan::Preflight => operator.is_refused,
            Plan::Swap(_) => operator.known.local.pending().is_some_and(|pending| pending.refused.is_some()),
            _ => false,
        };
        (!(world.refuses_keys && is_refused())).then_some(plan)
    }

    fn decide(&self, world: &Sight) -> Option<Plan> {
        let (operator, resource) = (&*world.known, &*world.resource);
        let mut tokens: Vec<Token> = world.remote.iter().filter(|t| t.listed).map(listed_token).collect();
        if self.bug == Some(Bug::NoMasks) {
            tokens.iter_mut().for_each(|token| token.display_key = "...".into());
        }
        let is_listed = |n: N| world.remote.iter().any(|t| t.listed && t.n == n);
        let mut snapshot = Snapshot::new(self.horizon(), young(), tokens.clone());
        snapshot.listed(young(), std::mem::take(&mut tokens));
        for (n, changed) in operator.issued.iter().filter(|(n, _)| !is_listed(*n)) {
            snapshot.issued(token(*n, *changed, *n), young());
        }
        for (n, key) in &operator.rolled {
            snapshot.rolled(&token_id(*n), mask(*key), young());
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
            let key_sha256 = fingerprint(key, n);
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
            horizon: self.horizon(),
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
            Action::Preflight => Plan::Preflight,
            Action::Prove { .. } | Action::Restart { .. } => return None,
        })
    }
}
