//! Faults on demand, in calls about website keys.

use datafast_sandbox::{Fault, FaultBody, ForeignKey, Kind, Operation, RetryAfter, Wire};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::{GIVEN_UP, LAG, OTHER_SITE, SITE, World, lag_passes, text};

const LIST: Operation = Operation::ListWebsiteKeys;
const CREATE: Operation = Operation::CreateWebsiteKey;
const ROLL: Operation = Operation::RollWebsiteKey;
const DELETE: Operation = Operation::DeleteWebsiteKey;

fn call(world: &World, operation: Operation, website: &str, id: &str) -> RequestBuilder {
    match operation {
        LIST => world.list_keys(website),
        CREATE => world.create_key(website, &json!({ "name": "k" })),
        ROLL => world.roll_key(website, id),
        _ => world.delete_key(website, id),
    }
}

/// Ids and keys of the keys that work.
fn live(world: &World) -> Vec<(String, String)> {
    world.account.live_website_keys().into_iter().map(|key| (key.id, key.key)).collect()
}

#[tokio::test]
async fn a_fault_strikes_its_operation_alone() {
    let world = World::new().await;
    for struck in [LIST, CREATE, ROLL, DELETE] {
        let id = world.account.add_website_key_of(SITE, ForeignKey::default());
        let status = Kind::Status { status: 503, body: FaultBody::Html };
        world.account.set_fault(Fault::new(struck, status).once());
        world.account.set_fault(Fault::new(struck, Kind::RateLimited { retry_after: RetryAfter::None }).once());
        for operation in [LIST, CREATE, ROLL, DELETE] {
            let mut seen = Vec::new();
            for _ in 0..2 {
                seen.push(world.status(call(&world, operation, SITE, &id)).await);
            }
            if operation == struck {
                assert_eq!(seen, [503, 429], "{struck:?}");
            } else {
                assert_eq!(seen[0], 200, "{operation:?} while {struck:?} fails");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_is_lost_before_and_after_the_effect() {
    for operation in [CREATE, ROLL, DELETE] {
        for kind in [Kind::Drop, Kind::Hang] {
            let world = World::new().await;
            let id = text(&world.created_key().await["_id"]).to_owned();
            let before = live(&world);
            world.account.set_fault(Fault::new(operation, kind.clone()).once());
            world.account.set_fault(Fault::new(operation, kind.clone()).after_effect().once());
            for effect in [false, true] {
                let request = call(&world, operation, SITE, &id).timeout(GIVEN_UP);
                assert!(request.send().await.is_err());
                assert_eq!(live(&world) != before, effect, "{operation:?} {kind:?}");
                let logged = world.account.requests().pop().unwrap();
                assert_eq!((logged.status, logged.effect), (None, effect), "{operation:?} {kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_held_roll_takes_effect_on_release() {
    let world = World::new().await;
    let id = text(&world.created_key().await["_id"]).to_owned();
    let before = live(&world);
    let hold = world.account.set_fault(Fault::new(ROLL, Kind::Hold).once());
    let request = tokio::spawn(world.roll_key(SITE, &id).send());
    world.account.held(hold).await;
    assert_eq!(live(&world), before);
    world.account.release(hold);
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert_ne!(live(&world), before);
}

#[tokio::test]
async fn one_website_fails_and_the_other_does_not() {
    let world = World::new().await;
    let down = || Kind::Status { status: 500, body: FaultBody::Empty };
    world.account.set_fault(Fault::new(LIST, down()).of_website(SITE));
    assert_eq!(world.status(world.list_keys(OTHER_SITE)).await, 200);
    assert_eq!(world.status(world.list_keys(SITE)).await, 500);
    world.account.set_fault(Fault::new(Operation::Any, down()).of_website(OTHER_SITE));
    assert_eq!(world.status(world.list_keys(OTHER_SITE)).await, 500);
    assert_eq!(world.status(world.create_key(SITE, &json!({}))).await, 200);
    assert_eq!(world.status(world.list()).await, 200, "access tokens are of no website");
    world.account.clear_faults();
    assert_eq!(world.status(world.list_keys(SITE)).await, 200);
}

#[tokio::test]
async fn a_lagging_list_shows_the_keys_of_the_past() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(LIST, Kind::ListLag { seconds: LAG.as_secs_f64() }));
    let shown = async || -> Value {
        world.listed_keys().await.iter().map(|key| json!([key["_id"], key["displayKey"]])).collect()
    };
    let created = world.created_key().await;
    let id = text(&created["_id"]);
    assert_eq!(shown().await, json!([]), "the create does not show yet");
    lag_passes().await;
    let first = json!([[id, created["displayKey"]]]);
    assert_eq!(shown().await, first);
    world.account.roll_behind_back(id).unwrap();
    let second = json!([[id, world.account.website_keys()[0].display_key]]);
    assert_eq!(shown().await, first, "the roll does not show yet");
    lag_passes().await;
    assert_eq!(shown().await, second);
    for _ in 0..2 {
        world.account.roll_behind_back(id).unwrap();
    }
    world.account.delete_behind_back(id);
    assert_eq!(shown().await, second, "neither more rolls nor the deletion show yet");
    lag_passes().await;
    assert_eq!(shown().await, json!([]));
}

#[tokio::test]
async fn a_list_may_show_the_callers_own_keys_only() {
    let world = World::new().await;
    let created = world.created_key().await;
    world.account.add_website_key_of(SITE, ForeignKey::default());
    assert_eq!(world.listed_keys().await.len(), 2);
    world.account.set_fault(Fault::new(LIST, Kind::ListOwn));
    let shown: Vec<_> = world.listed_keys().await.iter().map(|key| key["_id"].clone()).collect();
    assert_eq!(shown, [created["_id"].clone()]);
}

#[tokio::test]
async fn creates_and_rolls_answer_in_another_spelling() {
    let world = World::new().await;
    let id = text(&world.created_key().await["_id"]).to_owned();
    for operation in [CREATE, ROLL] {
        for (wire, fits) in [
            (
                Wire::IdSpelling,
                (|data| data[0].get("_id").is_none() && data[0]["id"].is_string()) as fn(&Value) -> bool,
            ),
            (Wire::WithoutTimes, |data| data[0].get("createdAt").is_none() && data[0].get("lastUsedAt").is_none()),
            (Wire::WithoutKey, |data| data[0].get("key").is_none() && data[0]["_id"].is_string()),
            (Wire::DataObject, |data| data.is_object() && data["key"].is_string()),
        ] {
            world.account.set_fault(Fault::new(operation, Kind::Wire { wire }).once());
            let answer = call(&world, operation, SITE, &id).send().await.unwrap();
            let body: Value = answer.json().await.unwrap();
            assert!(fits(&body["data"]), "{operation:?} {wire:?}: {body}");
        }
    }
}
