//! Whatever happens in whatever order, tokens come and go as promised.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::datafast::TokenId;
use crate::lifecycle::decision::{Action, Decision, RevokeCause};
use crate::lifecycle::desired::Rotation;
use crate::lifecycle::record::{Cause, Requests};
use crate::lifecycle::verdict::Reason;

use crate::api::HistoryEntry;
use crate::lifecycle::history::MOST;

use super::random;
use super::scenes::*;
use super::simulator::Simulator;

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Happens {
    /// Time passes, in minutes; then there is a new list.
    Time(i64),
    /// All tokens are used.
    Use,
    /// A user asks for a new token.
    Rotate,
    /// A user asks for the old tokens to go.
    RevokeNow,
    /// Somebody sets the wall clock, by minutes.
    Clock(i64),
    /// The user changes how long a former token stays, in minutes; and how much longer if it is used.
    Overlap(i64, Option<i64>),
    /// Others leave so many slots.
    Slots(i64),
}

fn overlaps() -> impl Strategy<Value = (i64, Option<i64>)> {
    (0..180_i64, of(0..300_i64))
}

/// One thing that happens; and after how many actions another process takes over, if one does.
fn happens() -> impl Strategy<Value = (Happens, Option<usize>)> {
    let event = prop_oneof![
        6 => prop_oneof![0..30_i64, 30..400_i64].prop_map(Happens::Time),
        3 => Just(Happens::Use),
        2 => Just(Happens::Rotate),
        1 => Just(Happens::RevokeNow),
        1 => (-300..600_i64).prop_map(Happens::Clock),
        1 => overlaps().prop_map(|(overlap, more)| Happens::Overlap(overlap, more)),
        2 => (-1..3_i64).prop_map(Happens::Slots),
    ];
    (event, prop::option::weighted(0.3, 0..8_usize))
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn with_overlap(rotation: &mut Rotation, (overlap, more): (i64, Option<i64>)) {
    rotation.overlap = minutes(overlap);
    rotation.max_overlap = more.map(|more| minutes(overlap + more));
}

/// A former token.
struct Former {
    /// When another took its place, by both clocks.
    since: Timestamp,
    steady: SignedDuration,
    /// By how much the wall clock was set ahead, and back, since then.
    ahead: SignedDuration,
    back: SignedDuration,
    /// Whether the process that saw it retire has died.
    handed_over: bool,
    /// Whether it was asked to go at once.
    at_once: bool,
}

/// A resource's history, and what must be true of it, told without the code under test.
struct History {
    simulator: Simulator,
    former: BTreeMap<TokenId, Former>,
    /// Whether a user waits for a new token, and whether for the old ones to go.
    asked: bool,
    asked_to_revoke: bool,
    /// Requests that were made, for another value each.
    values: u32,
    swaps: usize,
    /// Keys that were lost with the process that had them in hand.
    lost: usize,
    /// By how much the wall clock was set back, in minutes.
    back: i64,
}

impl History {
    fn new(rotation: Rotation) -> Self {
        let simulator = Simulator::new(Scene::new().change(|s| s.desired.rotation = rotation));
        let former = BTreeMap::new();
        Self { simulator, former, asked: false, asked_to_revoke: false, values: 0, swaps: 0, lost: 0, back: 0 }
    }

    fn rotation(&self) -> &Rotation {
        &self.simulator.scene.desired.rotation
    }

    fn requests(&mut self) -> &mut Requests {
        &mut self.simulator.scene.desired.requests
    }

    fn happens(&mut self, event: &Happens, crash: Option<usize>) {
        match event {
            Happens::Time(time) => self.simulator.pass(minutes(*time)),
            Happens::Use => {
                let now = self.simulator.scene.now;
                let tokens = self.simulator.remote.values_mut();
                tokens.for_each(|token| token.last_used_at = token.last_used_at.max(Some(now)));
            }
            Happens::Rotate => {
                self.values += 1;
                self.requests().rotate = request(&format!("rotate {}", self.values));
                self.asked = true;
            }
            Happens::RevokeNow => {
                self.values += 1;
                self.requests().revoke_now = request(&format!("revoke {}", self.values));
                (self.asked, self.asked_to_revoke) = (true, true);
            }
            Happens::Clock(by) => {
                self.back += (-by).max(0);
                let by = minutes(*by);
                self.simulator.scene.now += by;
                for former in self.former.values_mut() {
                    former.ahead += by.max(SignedDuration::ZERO);
                    former.back += (-by).max(SignedDuration::ZERO);
                }
            }
            Happens::Overlap(overlap, more) => {
                with_overlap(&mut self.simulator.scene.desired.rotation, (*overlap, *more));
            }
            Happens::Slots(free) => self.simulator.scene.free = Some(*free),
        }
        self.simulator.list();
        if let Some(actions) = crash {
            (0..actions).any(|_| self.step());
            self.lost += usize::from(self.simulator.scene.local.pending.is_some());
            self.simulator.crash();
            self.former.values_mut().for_each(|former| former.handed_over = true);
        }
        assert!((0..40).any(|_| self.step()), "it comes to rest");
        self.is_at_rest();
    }

    /// Does the next thing; whether there is none.
    fn step(&mut self) -> bool {
        let before = self.simulator.secrets_token();
        let decision = self.simulator.decide();
        match &decision {
            Decision::Act(Action::Record { cause, .. }) => {
                assert_ne!(*cause, Cause::Vanished, "nobody deleted a token")
            }
            Decision::Act(Action::Revoke { token_id, cause }) => self.may_be_revoked(token_id, *cause),
            Decision::Act(Action::Swap { record }) => {
                assert_eq!(record.answered, self.simulator.scene.desired.requests, "it answers all that is asked for");
                self.is_swapped(before);
            }
            _ => {}
        }
        self.simulator.step().is_some()
    }

    /// Each swap is the first, or due, or asked for since the last one.
    fn is_swapped(&mut self, before: Option<TokenId>) {
        let cause = *self.simulator.causes.last().unwrap();
        self.swaps += 1;
        match cause {
            Cause::New => assert_eq!(self.swaps, 1),
            Cause::RotationDue => assert!(self.rotation().every.is_some()),
            Cause::RevokeNow => assert!(self.asked_to_revoke),
            cause => assert!(cause == Cause::RotateRequested && self.asked, "{cause:?}"),
        }
        let (since, steady) = (self.simulator.scene.now, self.simulator.steady);
        if let Some(token) = before.filter(|token| self.simulator.remote.contains_key(token)) {
            let none = SignedDuration::ZERO;
            let former = Former { since, steady, ahead: none, back: none, handed_over: false, at_once: false };
            self.former.insert(token, former);
        }
        let at_once = self.asked_to_revoke;
        self.former.values_mut().for_each(|former| former.at_once |= at_once);
        (self.asked, self.asked_to_revoke) = (false, false);
    }

    fn may_be_revoked(&self, token: &TokenId, cause: RevokeCause) {
        let is_the_secrets = self.simulator.secrets_token().as_ref() == Some(token);
        let has_no_slot = self.simulator.scene.free == Some(0);
        match (cause, self.former.get(token)) {
            (RevokeCause::MadeRoom, former) => {
                assert!(has_no_slot && self.simulator.scene.local.unsent.is_some());
                assert!(self.rotation().revoke_first || self.asked_to_revoke);
                let is_left = |former: &&TokenId| self.simulator.remote.contains_key(*former);
                let is_last = is_the_secrets && !self.former.keys().any(|former| is_left(&former));
                assert!(former.is_some() || is_last, "a former one goes first");
            }
            (RevokeCause::RevokeNow, Some(former)) => assert!(former.at_once && !is_the_secrets),
            (RevokeCause::Retired, Some(former)) => {
                assert!(!former.at_once && !is_the_secrets);
                let really = self.simulator.steady - former.steady;
                // A process that took over has only the wall clock to tell what was before it.
                let lived = if former.handed_over { really + former.ahead } else { really };
                assert!(lived >= self.rotation().overlap, "lived for {lived:?}");
                if let (true, Some(most)) = (self.is_used(token, former), self.rotation().max_overlap) {
                    assert!(lived >= most, "in use, and lived for {lived:?}");
                }
            }
            (RevokeCause::LostAttempt, None) => assert!(!is_the_secrets),
            (cause, former) => panic!("{cause:?}, former: {}", former.is_some()),
        }
    }

    fn is_used(&self, token: &TokenId, former: &Former) -> bool {
        let used = self.simulator.remote[token].last_used_at;
        used.is_some_and(|used| used.as_second() > former.since.as_second())
    }

    /// Status tells how the Secret's token came, and of no token's end that still lives; each thing once, in its order.
    fn is_told(&self) {
        let told = &self.simulator.history;
        assert!(told.len() <= MOST && told.is_sorted_by_key(|entry| entry.at.0), "{told:?}");
        let lives = |id: &str| self.simulator.remote.keys().any(|live| live.as_str() == id);
        let times = |of: &HistoryEntry| {
            told.iter().filter(|entry| (&entry.token_id, &entry.what) == (&of.token_id, &of.what)).count()
        };
        for entry in told {
            assert_eq!(times(entry), 1, "{entry:?} in {told:?}");
            assert!(entry.what != "Revoked" || !lives(&entry.token_id), "{entry:?} lives");
            assert_ne!(entry.cause, "Vanished", "nobody else deletes a token");
        }
        let current = self.simulator.scene.status.token_id.as_ref().map(TokenId::as_str);
        let is_its = |entry: &&HistoryEntry| Some(entry.token_id.as_str()) == current && entry.what != "Revoked";
        // Where the clock was set back, what came before may be told to have come after.
        if current.is_some() && self.back == 0 {
            assert!(told.iter().any(|entry| is_its(&entry)), "{current:?} is not in {told:?}");
        }
    }

    /// There are no tokens but the Secret's and those that still may stay.
    fn is_at_rest(&mut self) {
        self.is_told();
        let current = self.simulator.secrets_token();
        for token in self.simulator.own() {
            if Some(&token) == current.as_ref() {
                continue;
            }
            let former = self.former.get(&token).unwrap_or_else(|| panic!("{token} is neither held nor was"));
            let most = self.rotation().max_overlap.filter(|_| self.is_used(&token, former));
            let stays = most.unwrap_or(self.rotation().overlap) + former.back;
            let lives = self.simulator.steady - former.steady;
            assert!(!former.at_once, "asked to go at once");
            // Another process may not know how long the write of the Secret took.
            let unsure = if former.handed_over { minutes(3) } else { SignedDuration::from_secs(1) };
            assert!(lives <= stays + unsure, "{token} lives for {lives:?}, past {stays:?}");
        }
        assert_eq!(
            self.simulator.causes.len(),
            self.swaps + self.lost,
            "each token is held by the Secret once, or lost"
        );
    }

    /// With room, and time for a missing token to be told from a list that lags, all that is asked for is served.
    fn ends_well(&mut self) {
        // That time counts by the wall clock.
        self.happens(&Happens::Time(self.back), None);
        for _ in 0..4 {
            self.happens(&Happens::Slots(5), None);
            self.happens(&Happens::Time(2), None);
        }
        let verdict = self.simulator.scene.rests().verdict;
        assert_eq!(verdict.reason, Reason::Issued, "{}", verdict.message);
        assert!(self.simulator.scene.status.ready);
        assert!(!self.asked, "{:?} is not served", self.simulator.scene.desired.requests);
        assert!(self.simulator.remote.contains_key(&self.simulator.secrets_token().unwrap()));
    }
}

proptest! {
    #![proptest_config(random::config(200))]

    #[test]
    fn whatever_happens_each_request_costs_one_token_and_each_former_token_lives_as_long_as_it_should(
        (overlap, every, revoke_first) in (overlaps(), of(60..600_i64), any::<bool>()),
        events in vec(happens(), 0..25),
    ) {
        let mut rotation = Rotation { every: every.map(minutes), revoke_first, ..Scene::new().desired.rotation };
        with_overlap(&mut rotation, overlap);
        let mut history = History::new(rotation);
        events.iter().for_each(|(event, crash)| history.happens(event, *crash));
        history.ends_well();
    }
}
