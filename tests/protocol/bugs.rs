//! What an operator does wrong on purpose: a model that finds nothing wrong with that would prove nothing.

use datafast_operator::datafast::{Effect, Error};
use datafast_operator::lifecycle::event::{Answer, Event};
use jiff::SignedDuration;
use stateright::{Checker, HasDiscoveries, Model};

use super::mixes::{nothing, protocol};
use super::model::{ASKS_IN_TIME, IN_ORDER, KEEPS_KEY, ONE_TOKEN, Protocol};
use super::world::Budget;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The attempt is written down only when its answer is there.
    RecordsAfterIssuing,
    /// What a list does not show is gone at once.
    NoHorizon,
    /// A request whose answer was lost is taken for one that was not sent.
    TakesLostAnswerForNone,
    /// A pending key is dropped when somebody else was faster in writing the Secret.
    DropsOvertakenKey,
    /// A dry run that was refused is taken for one that passed.
    ForgetsRefusal,
    /// Lists do not tell one key of a token from another.
    NoMasks,
}

impl Bug {
    /// What the core hears of an event.
    pub(super) fn heard(self, event: Event) -> Event {
        match (self, event) {
            (Self::TakesLostAnswerForNone, Event::Sent { order, answer: Answer::Failed(error) }) => {
                let error = match error {
                    Error::Unavailable { reason, effect: Effect::Unknown } => {
                        Error::Unavailable { reason, effect: Effect::None }
                    }
                    other => other,
                };
                Event::Sent { order, answer: Answer::Failed(error) }
            }
            (Self::ForgetsRefusal, Event::DryRun(Err(_))) => Event::DryRun(Ok(())),
            (_, event) => event,
        }
    }
}

/// Properties that do not hold, and how many states it took to find that. One thread: each run finds the same.
fn explored(model: Protocol) -> (Vec<&'static str>, usize) {
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<&str> = checker.discoveries().into_keys().collect();
    found.sort_unstable();
    (found, checker.unique_state_count())
}

/// The same mix without the bug is in order.
#[test]
fn each_deliberate_bug_is_found() {
    let overlap = SignedDuration::from_hours(1);
    let issues = |budget: Budget| Protocol { budget, ..protocol() };
    let rotates =
        |budget: Budget| Protocol { budget: Budget { rotate: 1, ..budget }, overlap, settled: true, ..protocol() };
    let rolls = |budget: Budget| Protocol { budget, overlap, rolls: true, settled: true, slots: 1, ..protocol() };
    let crash = || issues(Budget { crash: 1, deletion: 1, ..nothing() });
    let lost = || issues(Budget { lost_answer: 1, deletion: 1, ..nothing() });
    let deleted = || rotates(Budget { secret_deleted: 1, ..nothing() });
    let refused = || issues(Budget { refusal: 1, ..nothing() });
    let by_hand = || rolls(Budget { rolled_by_hand: 1, ..nothing() });
    let bugs: [(Bug, &str, &dyn Fn() -> Protocol, &str); 6] = [
        (Bug::RecordsAfterIssuing, "crash, deletion", &crash, IN_ORDER),
        (Bug::NoHorizon, "answer lost, deletion", &lost, IN_ORDER),
        (Bug::TakesLostAnswerForNone, "answer lost, deletion", &lost, ONE_TOKEN),
        (Bug::DropsOvertakenKey, "rotation, Secret deleted", &deleted, KEEPS_KEY),
        (Bug::ForgetsRefusal, "Secret refused", &refused, ASKS_IN_TIME),
        (Bug::NoMasks, "another key by hand", &by_hand, IN_ORDER),
    ];
    println!("{:<24} {:<26} {:>6} {:>8}  found by", "bug", "what happens", "states", "without");
    for (bug, mix, model, property) in bugs {
        let (found, states) = explored(Protocol { bug: Some(bug), ..model() });
        let (finds, all) = explored(model());
        println!("{:<24} {mix:<26} {states:>6} {all:>8}  {}", format!("{bug:?}"), found.join("; "));
        assert!(finds.is_empty(), "{mix}: {finds:?}");
        assert!(found.contains(&property), "{bug:?} is not found by: {property}");
    }
}
