//! `whenUnused`: a token that nobody uses is told, or ends; and only one that surely nobody uses.

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::datafast::Token;
use crate::lifecycle::decision::{Action, Decision, RevokeCause};
use crate::lifecycle::desired::WhenUnused;
use crate::lifecycle::facts::facts;
use crate::lifecycle::observed::{Availability, SecretView};
use crate::lifecycle::record::Cause;
use crate::lifecycle::verdict::Reason;

use super::random;
use super::scenes::*;
use super::simulator::Simulator;

/// Two days.
const AFTER: SignedDuration = SignedDuration::from_hours(48);

fn when(revoke: bool) -> Option<WhenUnused> {
    Some(WhenUnused { created: ago(30 * A_DAY), after: AFTER, revoke })
}

/// Token 1, which the Secret has had for three days, and that was never used.
fn idle(revoke: bool) -> Scene {
    Scene::in_sync().change(|s| {
        s.desired.when_unused = when(revoke);
        s.log.0[0].at = ago(3 * A_DAY);
        s.secret().record.issued_at = Some(ago(3 * A_DAY));
        s.status.issued_at = Some(ago(3 * A_DAY));
    })
}

fn used(n: u8, at: Timestamp) -> Token {
    Token { last_used_at: Some(at), ..token(n) }
}

/// `unusedSince`, as status is to say it.
fn told(scene: &Scene) -> Option<Timestamp> {
    scene.observe(|seen| facts(&scene.desired, seen, scene.now).unused_since)
}

fn unused(n: u8) -> Action {
    revoke(n, RevokeCause::Unused)
}

/// [`idle`], and status tells that it ends.
fn ends() -> Scene {
    idle(true).change(|s| s.status.unused_since = Some(ago(3 * A_DAY)))
}

/// Until nothing is left to do, with lists that show all of it; not until the next time that is waited for.
fn settle(simulator: &mut Simulator) -> Reason {
    let mut round = |_| {
        simulator.pass(SignedDuration::from_mins(3));
        simulator.list();
        simulator.run().expect("it comes to rest").verdict.reason
    };
    (0..4).map(&mut round).last().unwrap()
}

#[test]
fn what_is_not_used_is_told_and_its_token_goes_on_working() {
    let scene = idle(false);
    scene.says(Reason::Issued, true, "no key of it has been used since");
    assert_eq!(told(&scene), Some(ago(3 * A_DAY)));
    let used = scene.listing(&[used(1, ago(60))]);
    assert_eq!(told(&used), None);
    assert!(!used.rests().verdict.message.contains("used since"));
    assert_eq!(used.rests().requeue.at, Some(ago(60) + AFTER));
    assert_eq!(told(&used.change(|s| s.desired.when_unused = None)), None);
}

#[test]
fn the_time_counts_from_the_last_use_of_any_of_its_keys() {
    let last = now() - AFTER + SignedDuration::from_mins(5);
    assert_eq!(told(&idle(false).listing(&[used(1, last)])), None);
    let former = Scene::replaced(3 * A_DAY).change(|s| {
        s.desired.when_unused = when(true);
        s.desired.rotation.overlap = hours(1000);
        s.local.retired.clear();
    });
    assert!(told(&former).is_some());
    assert_eq!(told(&former.listing(&[used(1, last), token(2)])), None, "a consumer has the former one's");
}

#[test]
fn a_key_that_was_taken_over_counts_from_when_there_was_the_resource() {
    let scene = idle(true).change(|s| s.desired.when_unused.as_mut().unwrap().created = ago(60));
    assert_eq!(told(&scene), None);
    scene.says(Reason::Issued, true, "dft_001");
}

#[test]
fn before_it_ends_status_tells_that_it_does_and_which_request_was_served() {
    let scene = idle(true).change(|s| {
        s.desired.requests.rotate = request("served");
        s.secret().record.answered = s.desired.requests.clone();
        s.secret().record.request = request("another, for revoke-now");
    });
    scene.says(Reason::Unused, false, "about to be revoked");
    assert!(scene.rests().requeue.at.unwrap() < now() + SignedDuration::from_secs(1), "at once");
    let told = scene.observe(|seen| {
        let facts = facts(&scene.desired, seen, scene.now);
        (facts.unused_since, facts.rotate_request)
    });
    assert_eq!(told, (Some(ago(3 * A_DAY)), request("served")));
    assert_eq!(ends().action(), unused(1));
}

#[test]
fn what_is_not_known_is_no_reason_to_revoke() {
    let over = ago(3 * A_DAY) + AFTER;
    let late = over + HORIZON - SignedDuration::from_secs(1);
    let lists_that_lag = lists(late, &[token(1)]);
    let silent = Token { tells_use: false, ..token(1) };
    let scenes = [
        ("a list that may lag", ends().change(|s| s.snapshot = Some(lists_that_lag))),
        ("a list that does not tell", ends().listing(&[silent])),
        ("a list that lacks it", ends().listing(&[])),
        ("a process that has no list yet", ends().after_restart().change(|s| s.snapshot = None)),
        ("a token out of sight", ends().listing(&[]).change(|s| s.local.proof = Some(proof(1, true)))),
        ("DataFast away", ends().change(|s| s.availability = Availability::Unavailable("503".into()))),
        ("a 429", ends().change(|s| s.availability = Availability::RateLimited)),
        ("no account", ends().change(|s| s.availability = Availability::NotFound)),
    ];
    for (what, scene) in scenes {
        assert!(
            !matches!(scene.acts(), Some(Action::Revoke { .. } | Action::DeleteSecret)),
            "{what}: {:?}",
            scene.acts()
        );
        assert!(!matches!(scene.acts(), Some(Action::Record { .. })), "{what}: {:?}", scene.acts());
    }
}

#[test]
fn a_wall_clock_that_went_ahead_ends_nothing() {
    let scene = idle(true).change(|s| {
        s.secret().record.issued_at = Some(ago(60));
        s.log.0[0].at = ago(60);
        s.local.watched = Some(watched(ago(90), 90));
    });
    for minutes in [0, A_DAY, 1000 * A_DAY] {
        let ahead = scene.clone().change(|s| {
            s.now = later(minutes);
            s.snapshot = Some(lists(s.now, &[token(1)]));
        });
        ahead.says(Reason::Issued, true, "dft_001");
        assert_eq!(told(&ahead), None);
    }
}

#[test]
fn it_ends_once_and_stays_so_until_a_new_token_is_asked_for() {
    let mut simulator = Simulator::new(idle(true));
    assert_eq!(settle(&mut simulator), Reason::Unused);
    assert!(simulator.own().is_empty() && simulator.scene.secret_is_gone());
    assert_eq!(simulator.scene.status.token_id, None);
    simulator.scene.says(Reason::Unused, false, "datafa.st/rotate");
    let writes = simulator.writes;
    simulator.scene.desired.requests.revoke_now = request("leaked");
    simulator.scene.desired.scope = wider_scope();
    simulator.crash();
    assert_eq!(settle(&mut simulator), Reason::Unused);
    assert_eq!((simulator.causes.len(), simulator.writes), (0, writes), "nothing is written");
    simulator.scene.desired.requests.rotate = request("again");
    assert_eq!(settle(&mut simulator), Reason::Issued);
    assert_eq!((simulator.own().len(), simulator.scene.status.unused_since), (1, None));
    assert_eq!(simulator.causes, [Cause::New]);
    let told: Vec<_> = simulator.history.iter().map(|entry| (entry.what.as_str(), entry.cause.as_str())).collect();
    assert_eq!(told, [("Revoked", "Unused"), ("Issued", "New")]);
}

#[test]
fn without_the_field_or_with_report_it_is_wanted_again() {
    for when_unused in [None, when(false)] {
        let mut simulator = Simulator::new(idle(true));
        assert_eq!(settle(&mut simulator), Reason::Unused);
        simulator.scene.desired.when_unused = when_unused;
        assert_eq!(settle(&mut simulator), Reason::Issued);
    }
}

#[test]
fn a_crash_between_any_two_steps_leaves_neither_token_nor_another_one() {
    for steps in 0..8 {
        for again in [false, true] {
            let mut simulator = Simulator::new(idle(true));
            (0..steps).any(|_| simulator.step().is_some());
            simulator.crash();
            assert_eq!(settle(&mut simulator), Reason::Unused, "after {steps}");
            assert!(simulator.own().is_empty() && simulator.scene.secret_is_gone() && simulator.causes.is_empty());
            if again {
                simulator.scene.desired.requests.rotate = request("again");
                (0..steps).any(|_| simulator.step().is_some());
                simulator.crash();
                assert_eq!(settle(&mut simulator), Reason::Issued, "after {steps}");
                assert_eq!(simulator.own().len(), 1);
            }
        }
    }
}

#[test]
fn a_use_that_shows_in_the_meantime_ends_nothing() {
    let mut scene = ends().listing(&[used(1, ago(1))]);
    scene.says(Reason::Issued, true, "dft_001");
    assert_eq!(told(&scene), None);
    scene.secret = SecretView::Missing;
    let mut simulator = Simulator::new(scene);
    assert_eq!(settle(&mut simulator), Reason::Issued, "its Secret was deleted, and it was used");
    assert_eq!(simulator.causes, [Cause::KeyLost]);
}

#[test]
fn a_report_is_kept_while_nothing_tells_and_taken_back_when_it_is_used() {
    let reported = idle(false).change(|s| s.status.unused_since = Some(ago(3 * A_DAY)));
    let restarted = reported.clone().after_restart().change(|s| s.snapshot = None);
    assert_eq!(told(&restarted), Some(ago(3 * A_DAY)));
    let silent = reported.clone().listing(&[Token { tells_use: false, ..token(1) }]);
    assert_eq!(told(&silent), Some(ago(3 * A_DAY)));
    assert_eq!(told(&reported.listing(&[used(1, ago(1))])), None);
}

/// What may happen.
#[derive(Clone, Debug)]
enum Happens {
    /// Hours pass.
    Time(i64),
    Use,
    Rotate,
    /// The Secret is deleted.
    Loss,
    /// Another process takes over, after so many steps.
    Crash(usize),
    /// The wall clock is set ahead, by hours, for as long as this lasts.
    Ahead(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..60_i64).prop_map(Happens::Time),
        3 => Just(Happens::Use),
        1 => Just(Happens::Rotate),
        1 => Just(Happens::Loss),
        2 => (0..6_usize).prop_map(Happens::Crash),
        1 => (0..100_i64).prop_map(Happens::Ahead),
    ]
}

struct History {
    simulator: Simulator,
    /// When a key was last used or swapped, by the time that has really passed.
    last: SignedDuration,
    ended: bool,
    asked: u32,
}

impl History {
    fn step(&mut self) -> bool {
        match self.simulator.decide() {
            Decision::Act(Action::Revoke { cause: RevokeCause::Unused, .. }) => {
                let idle = self.simulator.steady - self.last;
                assert!(self.ended || idle >= AFTER, "revoked after {idle:?}");
                self.ended = true;
            }
            Decision::Act(Action::Record { .. }) => assert!(!self.ended, "issued again, and nobody asked for that"),
            Decision::Act(Action::Swap { .. }) => self.last = self.simulator.steady,
            _ => {}
        }
        self.simulator.step().is_some()
    }

    fn run(&mut self) {
        // A list after the horizon.
        for _ in 0..3 {
            self.simulator.pass(SignedDuration::from_mins(3));
            self.simulator.list();
            assert!((0..40).any(|_| self.step()), "it comes to rest");
        }
    }

    fn happens(&mut self, event: &Happens) {
        match event {
            Happens::Time(time) => self.simulator.pass(hours(*time)),
            Happens::Use => {
                let now = self.simulator.scene.now;
                if !self.simulator.remote.is_empty() && !self.ended {
                    self.simulator.remote.values_mut().for_each(|token| token.last_used_at = Some(now));
                    self.last = self.simulator.steady;
                }
            }
            Happens::Rotate => {
                self.asked += 1;
                self.simulator.scene.desired.requests.rotate = request(&format!("{}", self.asked));
                self.ended = false;
            }
            Happens::Loss => self.simulator.scene.secret = SecretView::Missing,
            Happens::Crash(steps) => {
                self.simulator.list();
                (0..*steps).any(|_| self.step());
                self.simulator.crash();
            }
            Happens::Ahead(time) => {
                self.simulator.scene.now += hours(*time);
                self.simulator.list();
                assert!((0..40).any(|_| self.step()), "it comes to rest");
                self.simulator.scene.now -= hours(*time);
                self.simulator.scene.snapshot.as_mut().unwrap().distrust();
            }
        }
        self.run();
    }
}

proptest! {
    #![proptest_config(random::config(200))]

    #[test]
    fn whatever_happens_only_what_nobody_used_ends_and_it_stays_so(events in vec(happens(), 0..20)) {
        let mut simulator = Simulator::new(Scene::new().change(|s| s.desired.when_unused = when(true)));
        assert_eq!(settle(&mut simulator), Reason::Issued);
        let last = simulator.steady;
        let mut history = History { simulator, last: SignedDuration::ZERO, ended: false, asked: 0 };
        // It was issued at some time up to now.
        history.last = last - SignedDuration::from_mins(20);
        events.iter().for_each(|event| history.happens(event));
        history.happens(&Happens::Time(60));
        history.happens(&Happens::Time(60));
        prop_assert!(history.simulator.own().is_empty(), "nobody used it for so long");
        history.happens(&Happens::Rotate);
        prop_assert_eq!(history.simulator.own().len(), 1);
    }
}
