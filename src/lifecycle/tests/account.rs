//! A closed or full account takes nothing away from a token that works.

use crate::lifecycle::decision::Action;
use crate::lifecycle::observed::Availability;
use crate::lifecycle::verdict::{Reason, Verdict};

use super::scenes::*;

fn gates() -> [(Availability, Reason); 4] {
    [
        (Availability::NotFound, Reason::AccountNotFound),
        (Availability::NotReady("no credential".into()), Reason::AccountNotReady),
        (Availability::RateLimited, Reason::RateLimited),
        (Availability::Unavailable("503".into()), Reason::ApiUnavailable),
    ]
}

#[test]
fn what_works_stays_ready_whatever_the_account_says() {
    for (availability, reason) in gates() {
        let settled = Scene::in_sync().change(|s| s.availability = availability.clone());
        let said = match reason {
            Reason::AccountNotFound | Reason::AccountNotReady => reason,
            // It concerns the next call only, and passes by itself.
            _ => Reason::Issued,
        };
        settled.says(said, true, "");
        let restarted = settled.change(|s| s.snapshot = None);
        restarted.says(reason, true, "");
    }
}

#[test]
fn what_never_worked_does_not_become_ready_behind_a_closed_account() {
    for (availability, reason) in gates() {
        let scene = Scene::in_sync()
            .change(|s| (s.availability, s.snapshot, s.status.ready) = (availability.clone(), None, false));
        scene.says(reason, false, "");
        let gone = Scene::token_deleted().change(|s| s.availability = availability);
        gone.says(reason, false, "");
    }
}

#[test]
fn a_wider_scope_waits_for_the_account_and_the_old_token_stays_ready() {
    for (availability, reason) in gates() {
        let scene = Scene::in_sync().change(|s| (s.availability, s.desired.scope) = (availability, wider_scope()));
        scene.says(reason, true, "");
    }
    let full = Scene::in_sync().change(|s| (s.free, s.desired.scope) = (Some(0), wider_scope()));
    full.says(Reason::WaitingForSlot, false, "no free slot");
}

#[test]
fn before_an_account_has_connected_nothing_is_done_and_nothing_is_said() {
    let connecting =
        |scene: Scene| scene.change(|s| (s.availability, s.snapshot, s.free) = (Availability::Connecting, None, None));
    for scene in [Scene::new(), Scene::in_sync(), Scene::secret_deleted(), Scene::in_sync().deleted()] {
        assert!(connecting(scene).pauses().account_changes);
    }
}

#[test]
fn a_closed_account_still_gets_its_secrets_repaired() {
    for (availability, _) in gates() {
        let mut scene = Scene::in_sync().change(|s| s.availability = availability);
        scene.secret().drift = drift();
        assert!(matches!(scene.action(), Action::Rewrite { .. }));
    }
}

#[test]
fn a_retired_token_waits_for_the_account_to_open() {
    for (availability, _) in gates() {
        let scene = Scene::replaced(61).change(|s| s.availability = availability);
        assert!(scene.rests().verdict.ready);
        assert!(scene.rests().requeue.account_changes, "it is revoked when the account opens");
    }
}

#[test]
fn waiting_for_a_person_and_waiting_for_time_exclude_each_other() {
    use Reason::*;
    let all = [
        Issued,
        Issuing,
        Rotating,
        WaitingForSlot,
        RateLimited,
        ApiUnavailable,
        AccountNotFound,
        AccountNotReady,
        NotAllowed,
        Rejected,
        SecretConflict,
        SecretWriteRefused,
        Throttled,
        Suspended,
        Expired,
        SecretUnreadable,
        SecretContested,
        Deleting,
    ];
    let mut words = std::collections::BTreeSet::new();
    for reason in all {
        assert!(!(reason.is_stalled() && reason.is_reconciling()), "{reason:?}");
        assert!(!Verdict::new(reason, false, "").ready, "{reason:?} is not ready without a working token");
        assert!(!(reason.is_stalled() && Verdict::new(reason, true, "").ready), "{reason:?}");
        assert_eq!(reason.as_str(), format!("{reason:?}"));
        words.insert(reason.as_str());
    }
    assert_eq!(words.len(), all.len());
    let stalled: Vec<_> = all.into_iter().filter(|r| r.is_stalled()).collect();
    assert_eq!(stalled, [NotAllowed, Rejected, SecretConflict]);
    let kept: Vec<_> = all.into_iter().filter(|r| Verdict::new(*r, true, "").ready).collect();
    assert_eq!(
        kept,
        [
            Issued,
            Rotating,
            RateLimited,
            ApiUnavailable,
            AccountNotFound,
            AccountNotReady,
            SecretWriteRefused,
            Throttled,
            Suspended,
            SecretUnreadable,
            SecretContested,
            Deleting
        ]
    );
}
