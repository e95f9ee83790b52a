//! `status.history`: what happened to a resource's keys, each thing once, whoever did it.

use crate::lifecycle::history::MOST;
use crate::lifecycle::observed::SecretView;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

/// What is told, without times: what happened, to the token of which number, and why.
fn told(simulator: &Simulator) -> Vec<(String, u8, String)> {
    let number = |id: &str| (0..=u8::MAX).find(|n| super::scenes::id(*n).as_str() == id).unwrap();
    let entries = simulator.history.iter();
    entries.map(|entry| (entry.what.clone(), number(&entry.token_id), entry.cause.clone())).collect()
}

fn is(what: &str, n: u8, cause: &str) -> (String, u8, String) {
    (what.to_owned(), n, cause.to_owned())
}

/// Asks for a new token by another value, and lets its overlap pass.
fn rotate(simulator: &mut Simulator, value: &str) {
    simulator.scene.desired.requests.rotate = request(value);
    assert_eq!(simulator.settle(), Reason::Issued);
    simulator.pass(hours(2));
    simulator.list();
    assert_eq!(simulator.settle(), Reason::Issued);
}

#[test]
fn a_key_is_told_to_be_issued_then_rotated_then_revoked_and_why() {
    let mut simulator = Simulator::new(Scene::new());
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(told(&simulator), [is("Issued", 100, "New")]);
    rotate(&mut simulator, "please");
    let after = [is("Issued", 100, "New"), is("Rotated", 101, "RotateRequested"), is("Revoked", 100, "Retired")];
    assert_eq!(told(&simulator), after);
}

#[test]
fn the_last_ten_are_told_and_the_latest_is_at_the_end() {
    let mut simulator = Simulator::new(Scene::new());
    assert_eq!(simulator.settle(), Reason::Issued);
    for n in 0..8 {
        rotate(&mut simulator, &format!("{n}"));
    }
    let told = told(&simulator);
    assert_eq!(told.len(), MOST);
    assert_eq!(told[MOST - 2..], [is("Rotated", 108, "RotateRequested"), is("Revoked", 107, "Retired")]);
}

#[test]
fn a_status_without_history_as_an_older_version_left_it_is_not_written_for_that() {
    let mut simulator = Simulator::new(Scene::in_sync());
    simulator.settle();
    let writes = simulator.writes;
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!((simulator.history.len(), simulator.writes), (0, writes));
    rotate(&mut simulator, "please");
    assert_eq!(told(&simulator), [is("Rotated", 100, "RotateRequested"), is("Revoked", 1, "Retired")]);
}

#[test]
fn what_a_process_did_and_could_not_tell_the_next_one_tells_once() {
    let mut simulator = Simulator::new(Scene::in_sync());
    simulator.settle();
    simulator.scene.desired.requests.rotate = request("please");
    // Up to the write of the Secret, after which the process ends.
    while simulator.secrets_token() != Some(id(100)) {
        assert!(simulator.step().is_none());
    }
    simulator.crash();
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(told(&simulator)[0], is("Rotated", 100, "RotateRequested"));
    let revoked = simulator.remote.remove(&id(1));
    // It was revoked, and the process ended on the next line.
    if revoked.is_some() {
        simulator.pass(hours(2));
        simulator.crash();
    }
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(told(&simulator), [is("Rotated", 100, "RotateRequested"), is("Revoked", 1, "Retired")]);
}

#[test]
fn two_keys_that_came_between_two_statuses_are_both_told() {
    let mut simulator = Simulator::new(Scene::in_sync());
    simulator.settle();
    let before = simulator.scene.status.clone();
    for (value, n) in [("1", 100), ("2", 101)] {
        simulator.scene.desired.requests.rotate = request(value);
        while simulator.secrets_token() != Some(id(n)) {
            assert!(simulator.step().is_none());
            // Status can't be written.
            simulator.scene.status.clone_from(&before);
            simulator.history.clear();
        }
        simulator.crash();
    }
    simulator.run();
    let whats: Vec<_> = told(&simulator).into_iter().filter(|(what, ..)| what == "Rotated").collect();
    assert_eq!(whats, [is("Rotated", 100, "RotateRequested"), is("Rotated", 101, "RotateRequested")]);
}

#[test]
fn a_token_that_somebody_else_deleted_is_told_to_have_vanished() {
    let mut simulator = Simulator::new(Scene::in_sync());
    simulator.settle();
    simulator.remote.remove(&id(1));
    assert_eq!(simulator.settle(), Reason::Issued);
    let mut told = told(&simulator);
    told.sort();
    assert_eq!(told, [is("Revoked", 1, "Vanished"), is("Rotated", 100, "Vanished")]);
}

#[test]
fn a_key_that_was_imported_is_told_to_be_adopted() {
    let mut simulator = Simulator::new(Scene::import());
    assert_eq!(simulator.settle(), Reason::Issued);
    assert_eq!(told(&simulator), [is("Adopted", 7, "Imported")]);
}

#[test]
fn another_key_of_the_same_token_is_told_each_time() {
    let mut simulator = Simulator::new(Scene::in_sync().change(|s| s.desired.rotation.rolls = true));
    simulator.settle();
    for value in ["1", "2"] {
        simulator.scene.desired.requests.rotate = request(value);
        assert_eq!(simulator.settle(), Reason::Issued);
    }
    assert_eq!(told(&simulator), [is("Rotated", 1, "RotateRequested"), is("Rotated", 1, "RotateRequested")]);
}

#[test]
fn a_key_that_is_lost_and_one_that_was_never_delivered_are_told() {
    let mut simulator = Simulator::new(Scene::in_sync());
    simulator.settle();
    simulator.scene.secret = SecretView::Missing;
    assert_eq!(simulator.settle(), Reason::Issued);
    assert!(told(&simulator).contains(&is("Rotated", 100, "KeyLost")), "{:?}", told(&simulator));

    let mut simulator = Simulator::new(Scene::answer_lost());
    assert_eq!(simulator.settle(), Reason::Issued);
    assert!(told(&simulator).contains(&is("Revoked", 1, "LostAttempt")), "{:?}", told(&simulator));
}

#[test]
fn a_restored_status_of_another_resource_ends_no_token_that_lives() {
    let mut scene = Scene::new().listing(&[token_of(&victim(), 5)]);
    scene.status.token_id = Some(id(5));
    scene.status.marked = Some(victim());
    scene.taken = [id(5)].into();
    let mut simulator = Simulator::new(scene);
    simulator.settle();
    assert!(
        told(&simulator).iter().all(|(what, n, _)| (what.as_str(), *n) != ("Revoked", 5)),
        "{:?}",
        told(&simulator)
    );
}
