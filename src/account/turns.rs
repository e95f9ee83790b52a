//! Whose turn it is to call DataFast: the most urgent call first, and among equals namespaces take turns, so that nobody
//! waits behind a neighbour's hundred.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::oneshot;

use super::window::Urgency;
use crate::datafast::Collection;

/// A call's place among those that wait: by urgency, then by round, in which each namespace has one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    urgency: Urgency,
    round: u64,
    number: u64,
}

impl Place {
    fn first(urgency: Urgency) -> Self {
        Self { urgency, round: 0, number: 0 }
    }

    fn last(urgency: Urgency) -> Self {
        Self { urgency, round: u64::MAX, number: u64::MAX }
    }
}

/// A call that waits.
#[derive(Debug)]
struct Ticket {
    collection: Collection,
    namespace: String,
    granted: oneshot::Sender<Granted>,
}

/// Its turn has come, or never will for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// It may be sent: it counts as under way.
    Turn,
    /// The account is closed.
    Closed,
}

/// The calls that wait for their turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<Place, Ticket>,
    /// The round of each urgency that is being served, and the last one in which a namespace has a turn.
    rounds: HashMap<Urgency, Rounds>,
    number: u64,
}

#[derive(Debug, Default)]
struct Rounds {
    now: u64,
    last: HashMap<String, u64>,
}

impl Turns {
    /// Has a call wait for its turn.
    pub(super) fn wait(
        &mut self,
        urgency: Urgency,
        namespace: &str,
        collection: &Collection,
    ) -> (Place, oneshot::Receiver<Granted>) {
        let rounds = self.rounds.entry(urgency).or_default();
        let round = rounds.last.get(namespace).map_or(rounds.now, |last| rounds.now.max(last + 1));
        rounds.last.insert(namespace.to_owned(), round);
        self.number += 1;
        let place = Place { urgency, round, number: self.number };
        let (granted, receiver) = oneshot::channel();
        let ticket = Ticket { collection: collection.clone(), namespace: namespace.to_owned(), granted };
        self.waiting.insert(place, ticket);
        (place, receiver)
    }

    /// A call waits no longer. Whether it did until now.
    pub(super) fn leave(&mut self, place: &Place) -> bool {
        self.waiting.remove(place).is_some()
    }

    /// The next call that may go.
    pub(super) fn next(&self, mut may_go: impl FnMut(Urgency, &Collection) -> bool) -> Option<Place> {
        let mut waiting = self.waiting.iter();
        waiting.find(|(place, ticket)| may_go(place.urgency, &ticket.collection)).map(|(place, _)| *place)
    }

    /// What a waiting call is about.
    pub(super) fn collection(&self, place: &Place) -> Option<&Collection> {
        self.waiting.get(place).map(|ticket| &ticket.collection)
    }

    /// Tells a call that its turn has come. Whether it still waited for that.
    pub(super) fn grant(&mut self, place: &Place, granted: Granted) -> bool {
        let Some(ticket) = self.waiting.remove(place) else { return false };
        if let Some(rounds) = self.rounds.get_mut(&place.urgency) {
            rounds.now = rounds.now.max(place.round);
            let now = rounds.now;
            // A namespace that has no further turn is no longer known.
            if rounds.last.get(&ticket.namespace).is_some_and(|last| *last < now) {
                rounds.last.remove(&ticket.namespace);
            }
            let of_this = Place::first(place.urgency)..=Place::last(place.urgency);
            if self.waiting.range(of_this).next().is_none() {
                self.rounds.remove(&place.urgency);
            }
        }
        ticket.granted.send(granted).is_ok()
    }

    /// How many calls wait that go before those of this urgency, or with them.
    pub(super) fn ahead_of(&self, urgency: Urgency) -> usize {
        self.waiting.keys().take_while(|place| place.urgency <= urgency).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Collection = Collection::AccessTokens;

    fn order(waiting: &[(Urgency, &str)]) -> Vec<(Urgency, String)> {
        let mut turns = Turns::default();
        let _receivers: Vec<_> = waiting.iter().map(|(urgency, ns)| turns.wait(*urgency, ns, &TOKENS)).collect();
        let mut order = Vec::new();
        while let Some(place) = turns.next(|_, _| true) {
            order.push((place.urgency, turns.waiting[&place].namespace.clone()));
            assert!(turns.grant(&place, Granted::Turn));
        }
        assert!(turns.rounds.is_empty(), "nothing is kept of those that have gone");
        order
    }

    #[test]
    fn what_leaked_goes_first_and_lists_last() {
        use Urgency::{Issue, Leak, List, Restore, Retire, Rotate};
        let all = [List, Retire, Issue, Rotate, Restore, Leak];
        let urgencies: Vec<_> = order(&all.map(|urgency| (urgency, "a"))).into_iter().map(|(it, _)| it).collect();
        assert_eq!(urgencies, [Leak, Restore, Rotate, Issue, Retire, List]);
    }

    #[test]
    fn namespaces_take_turns() {
        let many = [(Urgency::Issue, "many"); 5];
        let waiting = [many.as_slice(), &[(Urgency::Issue, "one"), (Urgency::Issue, "other")]].concat();
        let namespaces: Vec<_> = order(&waiting).into_iter().map(|(_, namespace)| namespace).collect();
        assert_eq!(namespaces, ["many", "one", "other", "many", "many", "many", "many"]);
    }

    #[test]
    fn who_comes_back_at_once_waits_for_the_others() {
        let mut turns = Turns::default();
        let mut keep = Vec::new();
        for _ in 0..3 {
            keep.push(turns.wait(Urgency::Issue, "many", &TOKENS));
        }
        keep.push(turns.wait(Urgency::Issue, "one", &TOKENS));
        let first = turns.next(|_, _| true).unwrap();
        turns.grant(&first, Granted::Turn);
        keep.push(turns.wait(Urgency::Issue, "many", &TOKENS));
        let second = turns.next(|_, _| true).unwrap();
        assert_eq!(turns.waiting[&second].namespace, "one");
    }

    #[test]
    fn one_that_waits_no_longer_is_passed_over() {
        let mut turns = Turns::default();
        let (place, receiver) = turns.wait(Urgency::Issue, "a", &TOKENS);
        drop(receiver);
        assert!(!turns.grant(&place, Granted::Turn));
        assert!(!turns.leave(&place));
    }
}
