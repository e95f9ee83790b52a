//! The finalizer: whoever takes it off, it comes back; and where the API server refuses to have it changed, that is said.

use crate::lifecycle::allow::Allow;
use crate::lifecycle::decision::{Action, Decision};
use crate::lifecycle::event::{Effect, Event, Now, Refusal};
use crate::lifecycle::local::{Preflight, Rejected};
use crate::lifecycle::observed::{Availability, SecretOwner, SecretView};
use crate::lifecycle::verdict::Reason;

use jiff::SignedDuration;

use super::scenes::*;
use super::simulator::Simulator;

type Change = fn(&mut Scene);

/// What may be said of a resource beside that it has its token.
const STATES: [(&str, Change); 10] = [
    ("Suspended", |s| s.desired.suspended = true),
    ("NotAllowed", |s| s.allow = Some(Allow { permissions: Some([].into()), ..Allow::default() })),
    ("SecretConflict", |s| s.secret().owner = SecretOwner::Other("DataFastAccessToken/other".into())),
    ("Rejected", |s| {
        s.desired.scope = wider_scope();
        s.local.rejected = Some(Rejected {
            spec_hash: wider_scope().hash(),
            message: "no".into(),
            may_be_full: false,
            retry_at: later(10),
        });
    }),
    ("Rejected, unreadable", |s| s.desired.unreadable = Some(unreadable(false))),
    ("WaitingForSlot", |s| (s.desired.requests.rotate, s.free) = (request("please"), Some(0))),
    ("AccountNotReady", |s| (s.availability, s.snapshot) = (Availability::NotReady("no credential".into()), None)),
    ("AccountNotFound", |s| (s.availability, s.snapshot) = (Availability::NotFound, None)),
    ("connecting", |s| (s.availability, s.snapshot) = (Availability::Connecting, None)),
    ("RateLimited", |s| s.availability = Availability::RateLimited),
];

fn stripped(scene: Scene) -> Scene {
    scene.change(|s| s.has_finalizer = false)
}

#[test]
fn the_finalizer_comes_back_before_anything_else_whatever_is_in_the_way() {
    for (state, change) in STATES {
        for scene in [Scene::in_sync(), Scene::replaced(5)] {
            let scene = stripped(scene.change(change));
            assert_eq!(scene.action(), Action::AddFinalizer, "{state}");
            assert_eq!(scene.after_restart().action(), Action::AddFinalizer, "{state}, after a restart");
        }
    }
    for (what, scene) in [
        ("a key that is pending", Scene::key_pending()),
        ("an attempt in the log", Scene::recorded(Preflight::Passed)),
        ("a lost answer", Scene::answer_lost()),
        ("an id in status alone", Scene::secret_deleted().with_attempts(&[])),
        ("a Secret alone", Scene::restored()),
    ] {
        assert_eq!(stripped(scene).action(), Action::AddFinalizer, "{what}");
    }
}

#[test]
fn what_never_had_anything_needs_none() {
    for (state, change) in STATES {
        let scene = Scene::new().change(|s| s.secret = SecretView::Present(secret(9, ago(1))));
        let scene = scene.change(|s| s.secret().owner = SecretOwner::Other("DataFastAccessToken/other".into()));
        assert_ne!(scene.change(change).acts(), Some(Action::AddFinalizer), "{state}");
    }
    Scene::new().records(crate::lifecycle::record::Cause::New);
}

#[test]
fn a_resource_that_is_being_deleted_gets_none_any_more() {
    assert_eq!(stripped(Scene::in_sync().deleted()).acts(), None);
}

fn policy() -> Refusal {
    Refusal("ValidatingAdmissionPolicy 'frozen' denied request".into())
}

#[test]
fn a_finalizer_that_is_refused_is_tried_again_and_the_rest_goes_on() {
    let mut scene = stripped(Scene::replaced(61));
    scene.happens(Event::FinalizerRefused(policy()));
    assert_eq!(scene.action(), revoke(1, crate::lifecycle::decision::RevokeCause::Retired));
    scene.snapshot.as_mut().unwrap().revoked(&id(1), now());
    let again = scene.rests().requeue.at.unwrap();
    assert!(again > now() && again <= later(1), "{again}");
    scene.now = again;
    assert_eq!(scene.action(), Action::AddFinalizer);
    scene.has_finalizer = true;
    scene.happens(Event::FinalizerAdded);
    assert_eq!(scene.rests().requeue.at, None);
}

#[test]
fn what_is_taken_over_waits_for_the_finalizer() {
    let mut scene = Scene::import();
    assert_eq!(scene.action(), Action::AddFinalizer);
    scene.happens(Event::FinalizerRefused(policy()));
    let rest = scene.rests();
    assert!(rest.verdict.message.contains("'frozen'") && rest.requeue.at.is_some(), "{rest:?}");
}

/// Token and Secret are gone; only the finalizer is left.
fn all_but_released() -> Scene {
    Scene::secret_deleted().deleted().change(|s| s.snapshot.as_mut().unwrap().revoked(&id(1), now()))
}

#[test]
fn a_policy_that_keeps_the_finalizer_on_is_quoted_and_tried_again_ever_more_slowly() {
    let mut scene = all_but_released();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(scene.action(), Action::Release);
        scene.happens(Event::Releasing);
        scene.happens(Event::FinalizerRefused(policy()));
        scene.says(
            Reason::Deleting,
            false,
            "the finalizer can't be taken off: ValidatingAdmissionPolicy 'frozen' denied",
        );
        let again = scene.rests().requeue.at.unwrap();
        pauses.push(again.duration_since(scene.now));
        scene.now = again;
    }
    assert!(pauses.is_sorted() && pauses[0] < SignedDuration::from_secs(1), "{pauses:?}");
    assert_eq!(pauses.last(), Some(&SignedDuration::from_mins(1)));
    assert_eq!(scene.action(), Action::Release, "once it may, it goes");
}

#[test]
fn a_refusal_is_told_once_for_each_way_of_refusing() {
    let mut scene = all_but_released();
    let mut told = |refusal: Refusal| {
        let now = Now { wall: now(), steady: SignedDuration::ZERO };
        scene.local.apply(Event::FinalizerRefused(refusal), now)
    };
    assert_eq!(told(policy()), Some(Effect::TellRefusal(policy().0)));
    assert_eq!(told(policy()), None);
    assert!(told(Refusal("forbidden".into())).is_some());
}

#[test]
fn a_resource_without_its_finalizer_gets_it_back_and_loses_nothing() {
    for (state, change) in STATES {
        let mut simulator = Simulator::new(stripped(Scene::in_sync()).change(change));
        simulator.step();
        assert!(simulator.scene.has_finalizer, "{state}");
    }
}

#[test]
fn what_can_not_be_read_is_left_as_it_is_and_said() {
    for scene in [
        Scene::in_sync().change(|s| s.desired.scope = wider_scope()),
        Scene::replaced(61),
        Scene::secret_deleted(),
        Scene::in_sync().change(|s| s.desired.expiry = Some(expired())),
        Scene::in_sync().change(|s| s.secret().drift = drift()),
    ] {
        let scene = scene.change(|s| s.desired.unreadable = Some(unreadable(false)));
        let verdict = scene.says(Reason::Rejected, false, "can't read spec.permissions[1] (\"heatmaps:read\")");
        assert!(verdict.message.contains("upgrade the operator"), "{}", verdict.message);
    }
    let pending = Scene::key_pending().change(|s| s.desired.unreadable = Some(unreadable(false)));
    assert!(matches!(pending.action(), Action::Swap { .. }), "a key in hand is delivered");
}

#[test]
fn a_deletion_goes_on_unless_it_can_not_be_read_what_is_to_become_of_the_token() {
    let deleted = |is_about_the_end| {
        Scene::in_sync().deleted().change(|s| s.desired.unreadable = Some(unreadable(is_about_the_end)))
    };
    assert_eq!(deleted(false).action(), revoke(1, crate::lifecycle::decision::RevokeCause::Deleted));
    deleted(true).says(Reason::Deleting, true, "Upgrade the operator");
    let abandoned = deleted(true).change(|s| s.desired.abandon = true);
    assert_eq!(abandoned.action(), Action::DeleteSecret);
    assert!(matches!(deleted(true).decide(), Decision::Rest { .. }));
}
