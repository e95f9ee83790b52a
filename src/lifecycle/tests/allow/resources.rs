//! What is decided about a resource that its account does not allow.

use super::*;

#[test]
fn what_is_not_allowed_waits_for_a_person_and_names_the_rule() {
    let cases: [(Scene, &str); 4] = [
        (forbidden(Scene::new()), "it does not allow analytics:read (allow.permissions)"),
        (Scene::new().change(|s| s.allow = Some(websites(&[SHOP]))), "allow.websiteIds"),
        (
            Scene::new()
                .change(|s| (s.allow, s.standing.outside) = (Some(Allow::default()), Some(Outside::NotSelected))),
            "allow.namespaceSelector",
        ),
        (
            Scene::new().change(|s| {
                s.allow = Some(Allow { max_tokens_per_namespace: Some(1), ..Allow::default() });
                s.standing.ahead = 1;
            }),
            "allow.maxTokensPerNamespace",
        ),
    ];
    for (scene, words) in cases {
        says_not_allowed(&scene, words);
        let reason = scene.rests().verdict.reason;
        assert!(reason.is_stalled() && reason.is_warning() && !reason.is_reconciling());
    }
}

#[test]
fn nothing_is_issued_adopted_proved_rotated_or_rewritten_against_the_rules() {
    let asked = |scene: Scene| {
        scene.change(|s| {
            s.desired.requests.rotate = request("please");
            s.desired.requests.revoke_now = request("leaked");
            s.desired.rotation.every = Some(hours(1));
        })
    };
    let room = |scene: Scene| asked(scene).change(|s| (s.free, s.desired.rotation.revoke_first) = (Some(0), true));
    let scenes = [
        ("new", Scene::new()),
        ("recorded", Scene::recorded(Preflight::Unknown)),
        ("ready to be sent", Scene::recorded(Preflight::Passed)),
        ("secret deleted", Scene::secret_deleted()),
        ("token deleted", Scene::token_deleted()),
        ("token hidden", Scene::token_deleted().change(|s| s.local.proof = None)),
        ("scope changed", Scene::in_sync().change(|s| s.desired.scope = wider_scope())),
        ("asked for another", asked(Scene::in_sync())),
        ("asked for another, without room", room(Scene::in_sync())),
        (
            "asked for another, without room, ready to be sent",
            room(Scene::in_sync()).change(|s| {
                s.log.0.push(attempt(2, now(), Cause::RotateRequested));
                s.local.unsent = Some(unsent(2));
            }),
        ),
        ("import", Scene::import().change(|s| s.has_finalizer = true)),
        ("import, proven", Scene::import().change(|s| (s.has_finalizer, s.local.proof) = (true, Some(proof(7, true))))),
        ("restored", Scene::restored()),
        ("drifted", Scene::in_sync().change(|s| s.secret().drift = drift())),
    ];
    for (name, scene) in scenes {
        let mut scene = scene;
        scene.allow = Some(permissions(&["payments:read"]));
        let verdict = scene.rests().verdict;
        assert_eq!((verdict.reason, verdict.ready), (Reason::NotAllowed, false), "{name}");
    }
}

#[test]
fn it_is_said_before_anything_else_that_stands_in_the_way() {
    let conflict = Scene::import().change(|s| s.secret().record.token_id = None);
    let full = Scene::new().change(|s| s.free = Some(0));
    let closed = Scene::new().change(|s| s.availability = Availability::Unavailable("503".into()));
    for scene in [conflict, full, closed] {
        says_not_allowed(&forbidden(scene), "allow.permissions");
    }
}

#[test]
fn before_it_is_known_what_an_account_allows_its_gate_says_what_is_the_case() {
    let unseen = Scene::new().change(|s| (s.allow, s.availability) = (None, Availability::NotFound));
    unseen.says(Reason::AccountNotFound, false, "no DataFastAccount");
}

#[test]
fn what_was_issued_before_stays_with_its_key() {
    let mut simulator = Simulator::new(forbidden(Scene::in_sync()).change(|s| {
        s.desired.rotation.every = Some(hours(1));
        s.desired.rotation.overlap = hours(1);
    }));
    for _ in 0..5 {
        simulator.pass(hours(10));
        assert_eq!(simulator.settle(), Reason::NotAllowed);
    }
    assert!(simulator.remote.contains_key(&id(1)));
    assert_eq!((simulator.secrets_token(), simulator.scene.status.token_id), (Some(id(1)), Some(id(1))));
    assert_eq!(simulator.causes, []);
}

#[test]
fn what_was_begun_is_brought_to_its_end() {
    assert!(matches!(forbidden(Scene::key_pending()).action(), Action::Swap { .. }), "a key in hand is delivered");
    assert_eq!(forbidden(Scene::replaced(60)).action(), revoke(1, RevokeCause::Retired));
    says_not_allowed(&forbidden(Scene::replaced(59)), "allow.permissions");
    assert_eq!(forbidden(Scene::replaced(59)).rests().requeue.at, Some(later(1)), "its overlap goes on");
    let restarting = Scene::in_sync().with_attempts(&[(1, A_DAY)]).change(|s| {
        s.log.0[0].cause = Cause::KeyLost;
        (s.desired.restarts, s.status.token_id) = (true, None);
    });
    assert!(matches!(forbidden(restarting).action(), Action::Restart { .. }), "its workloads get the new key");
}

#[test]
fn lost_attempts_are_revoked_all_the_same() {
    let lost = Scene::in_sync().with_attempts(&[(1, A_DAY), (2, 1)]).listing(&[token(1), token(2)]);
    assert_eq!(forbidden(lost).action(), revoke(2, RevokeCause::LostAttempt));
    let mut simulator = Simulator::new(forbidden(Scene::answer_lost()));
    assert_eq!(simulator.settle(), Reason::NotAllowed);
    assert!(simulator.own().is_empty(), "the token of an answer that was lost does not stay");
    assert_eq!(simulator.causes, []);
}

#[test]
fn deletion_expiry_and_suspension_work_as_ever() {
    assert_eq!(forbidden(Scene::in_sync()).deleted().action(), revoke(1, RevokeCause::Deleted));
    assert_eq!(forbidden(Scene::new()).deleted().action(), Action::Release);
    let over = Scene::in_sync().change(|s| s.desired.expiry = Some(Expiry { created: ago(A_DAY), after: hours(24) }));
    assert_eq!(forbidden(over).action(), revoke(1, RevokeCause::Expired));
    let later = Scene::in_sync().change(|s| s.desired.expiry = Some(Expiry { created: ago(A_DAY), after: hours(25) }));
    assert_eq!(forbidden(later).rests().requeue.at, Some(super::super::scenes::later(60)));
    let suspended = Scene::in_sync().change(|s| s.desired.suspended = true);
    forbidden(suspended).says(Reason::Suspended, true, "suspend");
}

#[test]
fn once_it_is_allowed_again_it_goes_on() {
    let mut simulator = Simulator::new(forbidden(Scene::new()));
    assert_eq!(simulator.settle(), Reason::NotAllowed);
    assert!(matches!(simulator.scene.secret, SecretView::Missing) && simulator.scene.log.0.is_empty());
    simulator.scene.allow = Some(permissions(&["analytics:read"]));
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::New]);

    let rotate = |s: &mut Scene| s.desired.requests.rotate = request("please");
    let mut simulator = Simulator::new(forbidden(Scene::in_sync().change(rotate)));
    assert_eq!(simulator.settle(), Reason::NotAllowed);
    assert!(!simulator.scene.status.ready);
    simulator.scene.allow = None;
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes, [Cause::RotateRequested], "and what was asked for meanwhile is served");
    simulator.scene.allow = Some(permissions(&[]));
    assert_eq!(simulator.settle(), Reason::NotAllowed);
    simulator.scene.allow = Some(permissions(&["*"]));
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(simulator.causes.len(), 1, "a token that is allowed again is ready as it is");
}

#[test]
fn where_a_namespace_has_a_share_a_resource_has_one_former_token_at_most() {
    let asked = |max_tokens_per_namespace| {
        Scene::replaced(10).change(|s| {
            s.allow = Some(Allow { max_tokens_per_namespace, website_keys: true, ..Allow::default() });
            s.desired.requests.rotate = request("again");
        })
    };
    asked(None).records(Cause::RotateRequested);
    asked(Some(1)).change(|s| s.website = Some(SHOP)).records(Cause::RotateRequested);
    let of_keys = asked(None).change(|s| {
        s.website = Some(SHOP);
        s.allow.as_mut().unwrap().max_keys_per_namespace = Some(1);
    });
    of_keys.says(Reason::WaitingForSlot, true, "allow.maxKeysPerNamespace");
    let waits = asked(Some(1));
    waits.says(Reason::WaitingForSlot, true, "allow.maxTokensPerNamespace");
    assert_eq!(waits.rests().requeue.at, Some(later(50)), "when the former one goes");
    waits.change(|s| s.desired.requests.revoke_now = request("leaked")).records(Cause::RevokeNow);
}

#[test]
fn a_token_makes_no_room_for_one_that_is_not_allowed() {
    let mut scene = Scene::secret_deleted();
    scene.log.0.push(attempt(2, now(), Cause::KeyLost));
    scene.local.unsent = Some(unsent(2));
    (scene.free, scene.allow) = (Some(0), Some(Allow { permissions: Some(BTreeSet::new()), ..Allow::default() }));
    scene.says(Reason::NotAllowed, false, "allow.permissions");
}
