//! How long a former token stays: at least for the overlap, at most for `maxOverlap`, whatever the wall clock is set to.

use jiff::{SignedDuration, Timestamp};

use crate::datafast::Token;
use crate::lifecycle::decision::RevokeCause;
use crate::lifecycle::facts::facts;
use crate::lifecycle::snapshot::Snapshot;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

const A_SECOND: SignedDuration = SignedDuration::from_secs(1);

fn retired(n: u8) -> crate::lifecycle::decision::Action {
    revoke(n, RevokeCause::Retired)
}

fn used(n: u8, at: Timestamp) -> Token {
    Token { last_used_at: Some(at), ..token(n) }
}

/// [`Scene::replaced`], with an overlap of one hour that use makes ten; the former token was last used then.
fn use_aware(minutes: i64, last_used_at: Option<Timestamp>) -> Scene {
    let former = Token { last_used_at, ..token(1) };
    Scene::replaced(minutes).listing(&[former, token(2)]).change(|s| s.desired.rotation.max_overlap = Some(hours(10)))
}

fn with_list_of(scene: Scene, begun: Timestamp) -> Scene {
    let tokens: Vec<Token> = scene.snapshot.as_ref().unwrap().tokens().map(|listed| listed.token.clone()).collect();
    scene.change(|s| s.snapshot = Some(lists(begun, &tokens)))
}

#[test]
fn an_unused_token_goes_once_a_list_that_began_after_its_overlap_says_so() {
    let early = use_aware(59, None);
    let verdict = early.says(Reason::Issued, true, "dft_002");
    assert!(!verdict.message.contains("predecessor"), "it is of no concern to anybody: {}", verdict.message);
    assert_eq!(early.rests().requeue.at, Some(later(1)));
    let unknown = with_list_of(use_aware(60, None), now() - SignedDuration::from_nanos(1));
    unknown.says(Reason::Issued, true, "dft_002");
    assert!(unknown.rests().requeue.next_list, "the next list tells");
    assert_eq!(use_aware(60, None).action(), retired(1));
}

#[test]
fn uses_before_the_swap_are_none_after_it() {
    for at in [ago(A_DAY), ago(61), ago(60), ago(60) + SignedDuration::from_millis(999)] {
        assert_eq!(use_aware(60, Some(at)).action(), retired(1), "status tells whole seconds");
    }
    use_aware(60, Some(ago(60) + A_SECOND)).rests();
}

#[test]
fn a_used_token_stays_until_max_overlap_and_ready_says_so() {
    let used = |minutes| use_aware(minutes, Some(ago(minutes) + A_SECOND));
    for minutes in [5, 60, 599] {
        let words = "its predecessor dft_001...0001 is still in use, and is revoked at 2026-01-01T";
        used(minutes).says(Reason::Issued, true, words);
        assert_eq!(used(minutes).rests().requeue.at, Some(later(600 - minutes)));
    }
    used(599).says(Reason::Issued, true, "is revoked at 2026-01-01T12:01:00Z");
    assert_eq!(used(600).action(), retired(1));
}

#[test]
fn at_max_overlap_a_token_goes_whatever_is_known_of_its_use() {
    for scene in [use_aware(600, None), use_aware(600, Some(ago(300)))] {
        assert_eq!(with_list_of(scene, ago(590)).action(), retired(1), "no list was needed");
    }
}

#[test]
fn a_use_that_the_list_after_the_overlap_tells_of_keeps_the_token() {
    let mut simulator = Simulator::new(use_aware(0, None));
    let decision = simulator.run().unwrap();
    simulator.remote.get_mut(&id(1)).unwrap().last_used_at = Some(later(30));
    simulator.wait(&decision);
    let decision = simulator.run().unwrap();
    assert!(decision.verdict.message.contains("still in use"), "{}", decision.verdict.message);
    assert!(simulator.remote.contains_key(&id(1)));
    simulator.wait(&decision);
    simulator.run().unwrap();
    assert!(!simulator.remote.contains_key(&id(1)));
    assert!(simulator.steady >= hours(10) && simulator.steady < hours(10) + SignedDuration::from_mins(2));
}

#[test]
fn without_max_overlap_a_used_token_goes_after_the_overlap_but_is_said_to_be_in_use() {
    let scene = |minutes| Scene::replaced(minutes).listing(&[used(1, ago(1)), token(2)]);
    scene(59).says(Reason::Issued, true, "still in use, and is revoked at 2026-01-01T12:01:00Z");
    assert_eq!(scene(60).action(), retired(1));
}

#[test]
fn status_tells_until_when_a_former_token_stays() {
    let until = |scene: Scene| {
        scene.observe(|seen| {
            facts(&scene.desired, seen, scene.now).retiring.unwrap().first().map(|r| (r.since, r.until))
        })
    };
    assert_eq!(until(use_aware(10, None)), Some((Some(ago(10)), Some(later(50)))));
    assert_eq!(until(use_aware(10, Some(ago(5)))), Some((Some(ago(10)), Some(later(590)))));
}

#[test]
fn a_first_use_after_the_swap_is_news_once() {
    let is_news = |used: Option<Timestamp>, shown: Option<Timestamp>| {
        let scene = use_aware(60, used);
        scene.observe(|seen| facts(&scene.desired, seen, scene.now).retiring.unwrap()[0].is_news(shown))
    };
    assert!(!is_news(None, None));
    assert!(!is_news(Some(ago(60)), None), "not after the swap");
    assert!(is_news(Some(ago(59)), None));
    assert!(is_news(Some(ago(59)), Some(ago(61))), "what is shown was before the swap");
    assert!(!is_news(Some(ago(50)), Some(ago(59))), "it is known already");
}

#[test]
fn a_change_of_overlap_and_max_overlap_holds_for_what_retires_already() {
    let changed = |overlap, max_overlap| {
        use_aware(120, Some(ago(30))).change(|s| {
            s.desired.rotation.overlap = hours(overlap);
            s.desired.rotation.max_overlap = max_overlap;
        })
    };
    changed(1, Some(hours(10))).says(Reason::Issued, true, "20:00:00Z");
    changed(1, Some(hours(3))).says(Reason::Issued, true, "13:00:00Z");
    assert_eq!(changed(1, Some(hours(2))).action(), retired(1));
    assert_eq!(changed(1, None).action(), retired(1));
    changed(3, None).says(Reason::Issued, true, "13:00:00Z");
    assert_eq!(changed(2, Some(hours(2))).action(), retired(1));
    changed(3, Some(hours(3))).says(Reason::Issued, true, "13:00:00Z");
}

#[test]
fn several_retire_at_once_and_each_goes_at_its_own_time() {
    let at = |minutes: i64| {
        let mut scene = Scene::replaced(0).listing(&[used(1, ago(1)), token(2), token(3)]);
        let mut facts = secret(3, now());
        facts.record.previous = vec![previous(1, ago(50)), previous(2, ago(20))];
        scene.secret = crate::lifecycle::observed::SecretView::Present(facts);
        scene.status.token_id = Some(id(3));
        scene.status.retiring = [id(1), id(2)].into();
        let seen = [(1, 50), (2, 20)].map(|(n, swapped)| (id(n), watched(ago(swapped), swapped + minutes)));
        scene.local.retired = seen.into();
        scene.now = later(minutes);
        with_list_of(scene, later(minutes))
    };
    assert_eq!(at(9).rests().requeue.at, Some(later(10)));
    assert_eq!(at(10).action(), retired(1));
    let first_gone = |minutes| at(minutes).change(|s| s.snapshot.as_mut().unwrap().revoked(&id(1), s.now));
    assert_eq!(first_gone(10).rests().requeue.at, Some(later(40)));
    assert_eq!(first_gone(40).action(), retired(2));
    let use_aware = |minutes| at(minutes).change(|s| s.desired.rotation.max_overlap = Some(hours(2)));
    assert_eq!(use_aware(40).action(), retired(2), "token 1 is in use");
    assert_eq!(use_aware(70).action(), retired(1));
}

/// Token 1 was replaced ten minutes ago, as this process has seen; then the wall clock was set by so many minutes.
fn clock_set_by(minutes: i64) -> Scene {
    Scene::replaced(10).change(|s| {
        s.local.watched = Some(watched(ago(10), 10));
        s.local.retired = [(id(1), watched(ago(10), 10))].into();
        s.now = later(minutes);
    })
}

#[test]
fn a_wall_clock_that_goes_ahead_retires_nothing_early() {
    for minutes in [51, A_DAY, 1000 * A_DAY] {
        let scene = clock_set_by(minutes);
        scene.says(Reason::Issued, true, "dft_002");
        assert_eq!(
            scene.rests().requeue.at,
            Some(later(minutes + 50)),
            "the rest of the overlap, as time really passes"
        );
        let use_aware = scene.change(|s| s.desired.rotation.max_overlap = Some(hours(3)));
        with_list_of(use_aware.clone(), use_aware.now).says(Reason::Issued, true, "dft_002");
    }
    let over = clock_set_by(A_DAY).change(|s| s.local.retired = [(id(1), watched(ago(10), 60))].into());
    assert_eq!(over.action(), retired(1));
}

#[test]
fn a_wall_clock_that_goes_back_retires_nothing_early() {
    for minutes in [-1, -11, -A_DAY] {
        clock_set_by(minutes).says(Reason::Issued, true, "dft_002");
    }
}

/// What another process has told in status was told in whole seconds.
#[test]
fn a_process_that_began_while_the_wall_clock_was_ahead_retires_nothing_early_once_it_is_right() {
    let scene =
        |minutes| Scene::replaced(minutes).change(|s| s.local.retired = [(id(1), watched(later(A_DAY), 5))].into());
    scene(59).says(Reason::Issued, true, "dft_002");
    assert_eq!(scene(59).rests().requeue.at, Some(later(1) + A_SECOND));
    assert_eq!(scene(61).action(), retired(1));
}

#[test]
fn what_this_process_has_not_seen_from_the_swap_on_counts_by_the_wall_clock_until_then() {
    let seen_late =
        |lasted| Scene::replaced(61).change(|s| s.local.retired = [(id(1), watched(ago(31), lasted))].into());
    assert_eq!(seen_late(31).action(), retired(1));
    let rest = seen_late(10).rests().requeue.at;
    assert_eq!(rest, Some(later(20) + A_SECOND), "the wall clock went ahead by 21 minutes since");
    assert_eq!(Scene::replaced(61).after_restart().action(), retired(1), "at first, the wall clock is all there is");
}

/// Rotates with an API server this slow, and says when the Secret had the key, by the answer, and when the old token went.
fn rotated(overlap: SignedDuration, write: SignedDuration, meanwhile: impl Fn(&mut Simulator)) -> [Timestamp; 2] {
    let mut simulator = Simulator::new(Scene::in_sync().change(|s| s.desired.rotation.overlap = overlap));
    simulator.scene.desired.requests.rotate = request("please");
    simulator.slowness.kubernetes = write;
    while simulator.swapped.is_none() {
        assert_eq!(simulator.step(), None);
    }
    meanwhile(&mut simulator);
    simulator.slowness.kubernetes = SignedDuration::ZERO;
    for _ in 0..20 {
        let rest = simulator.run().unwrap();
        let soon = rest.requeue.at.map(|at| at.duration_since(simulator.scene.now)).filter(|wait| *wait < hours(2));
        simulator.pass(soon.unwrap_or(SignedDuration::from_secs(60)));
        simulator.list();
    }
    assert_eq!(simulator.scene.status.retiring, [].into());
    [simulator.swapped.unwrap(), simulator.revoked[&id(1)]]
}

const WRITES: [i64; 6] = [0, 10, 999, 1000, 6200, 60_000];

/// Milliseconds.
fn millis(n: i64) -> SignedDuration {
    SignedDuration::from_millis(n)
}

#[test]
fn an_overlap_counts_from_when_the_write_of_the_secret_was_answered() {
    for overlap in [millis(5000), hours(1)] {
        for write in WRITES.map(millis) {
            let [swapped, revoked] = rotated(overlap, write, |_| {});
            let lasted = revoked.duration_since(swapped);
            assert!(lasted >= overlap, "{lasted:#} of {overlap:#}, after a write of {write:#}");
            assert!(lasted <= overlap + A_SECOND + millis(10), "{lasted:#} of {overlap:#}, after a write of {write:#}");
        }
    }
}

#[test]
fn a_crash_before_the_answer_or_before_status_tells_of_it_shortens_no_overlap() {
    for write in WRITES.map(millis) {
        for down in [0, 1, 100, 3600].map(SignedDuration::from_secs) {
            let crashed = |simulator: &mut Simulator| {
                simulator.pass(down);
                simulator.crash();
            };
            let [swapped, revoked] = rotated(hours(1), write, crashed);
            let lasted = revoked.duration_since(swapped);
            assert!(lasted >= hours(1), "{lasted:#} after a write of {write:#}, {down:#} later");
            // However long nobody was there, no write takes so long.
            assert!(lasted <= hours(1).max(down) + SignedDuration::from_mins(4), "{lasted:#}, {down:#} later");
        }
    }
}

#[test]
fn status_tells_the_same_time_after_a_restart_and_it_is_kept() {
    let told = |simulator: &Simulator| simulator.scene.status.revoke_after.clone();
    for write in WRITES.map(millis) {
        let restarted = |simulator: &mut Simulator| {
            simulator.slowness.kubernetes = SignedDuration::ZERO;
            simulator.run().unwrap();
            let before = told(simulator);
            let late = before[&id(1)].duration_since(simulator.swapped.unwrap()) - hours(1);
            assert!((-A_SECOND..=A_SECOND).contains(&late), "it tells {late:#} after a write of {write:#}");
            for down in [0, 1, 10, 600] {
                simulator.pass(SignedDuration::from_secs(down));
                simulator.crash();
                simulator.run().unwrap();
                assert_eq!(told(simulator), before, "after a write of {write:#}");
            }
        };
        let [swapped, revoked] = rotated(hours(1), write, restarted);
        let lasted = revoked.duration_since(swapped);
        assert!((hours(1)..=hours(1) + A_SECOND + A_SECOND).contains(&lasted), "{lasted:#} after a write of {write:#}");
    }
}

#[test]
fn the_time_for_which_a_lost_key_was_waited_is_no_part_of_the_overlap() {
    let mut simulator = Simulator::new(Scene::secret_deleted().change(|s| s.free = Some(-1)));
    for _ in 0..3 {
        let rest = simulator.run().unwrap();
        assert_eq!(rest.verdict.reason, Reason::WaitingForSlot);
        simulator.pass(hours(1));
        simulator.list();
    }
    simulator.scene.free = Some(5);
    simulator.run().unwrap();
    assert_ne!(simulator.secrets_token(), Some(id(1)));
    assert!(simulator.remote.contains_key(&id(1)), "its overlap has only begun");
    assert!(simulator.scene.status.revoke_after[&id(1)] >= simulator.scene.now + SignedDuration::from_mins(59));
}

#[test]
fn a_time_in_status_that_can_not_be_of_this_swap_counts_for_nothing() {
    for told in [ago(A_DAY), ago(1), later(55), later(A_DAY), Timestamp::MIN, Timestamp::MAX] {
        let scene = Scene::replaced(10).after_restart().change(|s| s.status.revoke_after = [(id(1), told)].into());
        let until = scene.observe(|seen| facts(&scene.desired, seen, scene.now).retiring.unwrap()[0].until);
        assert_eq!(until, Some(later(53)), "it is known to have been written within three minutes: {told}");
    }
}

#[test]
fn a_wall_clock_that_was_ahead_at_the_swap_does_not_keep_a_token_for_longer_than_it_was_seen_to_retire() {
    let scene = Scene::replaced(-A_DAY).change(|s| s.local.retired = [(id(1), watched(later(A_DAY), 60))].into());
    assert_eq!(scene.action(), retired(1));
}

#[test]
fn what_is_to_go_at_once_goes_whatever_the_wall_clock_says() {
    let scene = |minutes| Scene::replaced(minutes).change(|s| s.secret().record.previous[0].at_once = true);
    for minutes in [-A_DAY, -5, 0] {
        assert_eq!(scene(minutes).action(), revoke(1, RevokeCause::RevokeNow));
    }
}

#[test]
fn no_list_at_all_retires_nothing() {
    use_aware(6000, None).change(|s| s.snapshot = None).says(Reason::Issued, true, "confirm");
    let one = Snapshot::new(HORIZON, now(), vec![token(1), token(2)]);
    assert_eq!(use_aware(60, None).change(|s| s.snapshot = Some(one)).action(), retired(1));
}
