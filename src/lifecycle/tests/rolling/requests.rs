//! What users ask for is answered by one roll.

use super::*;

#[test]
fn to_revoke_now_takes_former_tokens_too() {
    let scene = Scene::replaced(10).change(|s| {
        s.desired.rotation.rolls = true;
        s.desired.requests.revoke_now = request("leaked");
    });
    let mut simulator = Simulator::new(scene);
    simulator.run().unwrap();
    assert_eq!(simulator.rolls, [(id(2), Cause::RevokeNow)]);
    assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn to_revoke_now_takes_former_tokens_too_though_the_secret_is_gone() {
    for rolls in [true, false] {
        let scene = Scene::replaced(10).change(|s| {
            s.desired.rotation.rolls = rolls;
            s.desired.requests.revoke_now = request("leaked");
            (s.secret, s.free) = (SecretView::Missing, Some(20));
        });
        let mut simulator = Simulator::new(scene);
        simulator.run().unwrap();
        assert_eq!(simulator.rolls.len(), usize::from(rolls));
        let token = simulator.secrets_token().unwrap();
        assert_eq!(simulator.own().into_iter().collect::<Vec<_>>(), [token], "rolls: {rolls}");
    }
}

#[test]
fn to_revoke_now_is_not_held_back_though_the_secret_is_deleted_again_and_again() {
    let mut simulator = Simulator::new(in_sync());
    for n in 0..2 {
        simulator.scene.secret = SecretView::Missing;
        let said = simulator.run().unwrap().verdict.reason;
        assert_eq!(said, if n == 0 { Reason::Issued } else { Reason::Throttled });
    }
    simulator.pass(SignedDuration::from_secs(20));
    simulator.scene.desired.requests.revoke_now = request("leaked");
    assert_eq!(simulator.run().unwrap().verdict.reason, Reason::Issued, "at once");
    assert_eq!(simulator.rolls, [(id(1), Cause::KeyLost), (id(1), Cause::RevokeNow)]);
    assert!(simulator.has_live_key());
}

#[test]
fn a_request_that_is_answered_while_the_secret_is_gone_is_told_in_status() {
    for rolls in [true, false] {
        for cause in [Cause::RotateRequested, Cause::RevokeNow] {
            let scene = due(cause).change(|s| (s.desired.rotation.rolls, s.secret) = (rolls, SecretView::Missing));
            let mut simulator = Simulator::new(scene.change(|s| s.desired.rotation.overlap = SignedDuration::ZERO));
            is_in_order(&mut simulator, cause.as_str());
            assert!(simulator.scene.status.rotate_request.is_some(), "{cause:?}, rolls: {rolls}");
            assert_eq!(simulator.rolls.len() + simulator.causes.len(), 1, "{cause:?}, rolls: {rolls}");
        }
    }
}

#[test]
fn each_request_is_answered_by_one_roll() {
    let mut simulator = Simulator::new(in_sync());
    for (n, cause) in [Cause::RotateRequested, Cause::RevokeNow, Cause::RotateRequested].into_iter().enumerate() {
        let value = Request::parse(&format!("{n}"));
        match cause {
            Cause::RevokeNow => simulator.scene.desired.requests.revoke_now = value,
            _ => simulator.scene.desired.requests.rotate = value,
        }
        is_in_order(&mut simulator, cause.as_str());
        simulator.crash();
        is_in_order(&mut simulator, "after a restart");
        assert_eq!(simulator.rolls.len(), n + 1);
        assert_eq!(simulator.rolls[n], (id(1), cause));
        assert_eq!(simulator.scene.status.rotate_request, Request::parse(&format!("{n}")));
    }
    simulator.scene.secret = SecretView::Missing;
    is_in_order(&mut simulator, "without a Secret");
    assert_eq!(simulator.rolls.len(), 4, "what was answered stays answered, though the Secret was lost");
    assert_eq!(simulator.rolls[3], (id(1), Cause::KeyLost));
}
