//! Faults on demand.

use std::time::{Duration, Instant};

use datafast_sandbox::{Fault, FaultBody, Kind, Operation, RetryAfter, Wire};
use serde_json::{Value, json};

use crate::{GIVEN_UP, LAG, World, lag_passes, text};

const CREATE: Operation = Operation::CreateAccessToken;
const LIST: Operation = Operation::ListAccessTokens;

fn status(status: u16, body: FaultBody) -> Kind {
    Kind::Status { status, body }
}

#[tokio::test]
async fn a_fault_strikes_its_operation_as_often_as_asked() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(LIST, status(503, FaultBody::Empty)).times(2).after_passing(1));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(world.status(world.list()).await);
    }
    world.created().await;
    assert_eq!(seen, [200, 503, 503, 200]);
}

#[tokio::test]
async fn faults_that_answer_queue_up_and_clearing_ends_them() {
    let world = World::new().await;
    world.sandbox.set_fault(Fault::new(Operation::Any, status(500, FaultBody::Html)).once());
    world.account.set_fault(Fault::new(Operation::Any, status(502, FaultBody::Html)));
    assert_eq!(world.status(world.list()).await, 500);
    assert_eq!(world.status(world.list()).await, 502);
    world.account.clear_faults();
    assert_eq!(world.status(world.list()).await, 200);
}

#[tokio::test]
async fn rate_limits_say_when_to_come_back_in_every_way() {
    let world = World::new().await;
    for retry_after in [RetryAfter::None, RetryAfter::Seconds(7), RetryAfter::DateIn(60), RetryAfter::Text("x".into())]
    {
        world.account.set_fault(Fault::new(LIST, Kind::RateLimited { retry_after: retry_after.clone() }).once());
        let response = world.list().send().await.unwrap();
        assert_eq!(response.status(), 429);
        let header = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        match retry_after {
            RetryAfter::None => assert_eq!(header, None),
            RetryAfter::DateIn(_) => assert!(header.unwrap().ends_with(" GMT")),
            RetryAfter::Seconds(seconds) => assert_eq!(header.unwrap(), seconds.to_string()),
            RetryAfter::Text(text) => assert_eq!(header.unwrap(), text),
        }
    }
}

#[tokio::test]
async fn bodies_of_choice() {
    let world = World::new().await;
    let json_error = FaultBody::Error { code: Some(418), message: "no".into() };
    for (body, expected) in [
        (json_error, "\"code\":418"),
        (FaultBody::Html, "<!doctype html>"),
        (FaultBody::Empty, ""),
        (FaultBody::OtherShape, "{\"ok\":false"),
        (FaultBody::Truncated, "\"data\":[{"),
        (FaultBody::Text { text: "null".into() }, "null"),
    ] {
        world.account.set_fault(Fault::new(LIST, status(500, body)).once());
        let text = world.list().send().await.unwrap().text().await.unwrap();
        assert!(text.contains(expected), "{text} has no {expected}");
    }
    world.account.set_fault(Fault::new(LIST, status(200, FaultBody::Huge)).once());
    assert!(world.list().send().await.unwrap().bytes().await.unwrap().len() > 1 << 20);
    world.account.set_fault(Fault::new(LIST, status(200, FaultBody::Endless)).once());
    let ended = world.list().timeout(GIVEN_UP).send().await.unwrap().bytes().await;
    assert!(ended.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_redirect_leads_elsewhere() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(LIST, status(307, FaultBody::Empty)));
    assert!(world.list().send().await.unwrap().headers().contains_key("location"));
}

#[tokio::test]
async fn a_dropped_connection_before_and_after_the_effect() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(CREATE, Kind::Drop).once());
    world.account.set_fault(Fault::new(CREATE, Kind::Drop).after_effect().once());
    for effects in [0, 1] {
        assert!(world.create(&json!({})).send().await.is_err());
        assert_eq!(world.account.issued_tokens().len(), effects);
    }
    let requests = world.account.requests();
    assert_eq!(
        requests.iter().map(|request| (request.status, request.effect)).collect::<Vec<_>>(),
        [(None, false), (None, true)]
    );
}

#[tokio::test]
async fn a_hanging_request_is_never_answered() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(CREATE, Kind::Hang).once());
    world.account.set_fault(Fault::new(CREATE, Kind::Hang).after_effect().once());
    for effects in [0, 1] {
        let error = world.create(&json!({})).timeout(GIVEN_UP).send().await.unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(world.account.issued_tokens().len(), effects);
    }
}

#[tokio::test]
async fn a_held_request_takes_effect_on_release_even_if_the_client_gave_up() {
    let world = World::new().await;
    let hold = world.account.set_fault(Fault::new(CREATE, Kind::Hold).once());
    let request = world.create(&json!({ "name": "late" })).send();
    tokio::select! {
        _ = request => panic!("answered while held"),
        () = world.account.held(hold) => {}
    }
    assert_eq!(world.account.issued_tokens().len(), 0);
    world.account.release(hold);
    while world.account.issued_tokens().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.account.issued_tokens()[0].name.as_deref(), Some("late"));
}

#[tokio::test]
async fn a_hold_after_the_effect_shows_the_effect_and_then_answers() {
    let world = World::new().await;
    let hold = world.account.set_fault(Fault::new(CREATE, Kind::Hold).after_effect());
    let request = tokio::spawn(world.create(&json!({})).send());
    world.account.held(hold).await;
    assert_eq!(world.account.issued_tokens().len(), 1);
    world.account.release(hold);
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn latency_delays_an_answer() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(LIST, Kind::Latency { ms: 60 }));
    let start = Instant::now();
    assert_eq!(world.status(world.list()).await, 200);
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_lagging_list_shows_the_past() {
    let world = World::new().await;
    lag_passes().await;
    world.account.set_fault(Fault::new(LIST, Kind::ListLag { seconds: LAG.as_secs_f64() }));
    let id = text(&world.created().await["_id"]).to_owned();
    assert_eq!(world.listed().await.len(), 1, "the create does not show yet");
    lag_passes().await;
    world.account.delete_behind_back(&id);
    assert_eq!(world.listed().await.len(), 2, "the deletion does not show yet");
    lag_passes().await;
    assert_eq!(world.listed().await.len(), 1);
}

#[tokio::test]
async fn a_list_may_show_the_callers_own_tokens_only() {
    let world = World::new().await;
    let id = text(&world.created().await["_id"]).to_owned();
    assert_eq!(world.listed().await.len(), 2);
    world.account.set_fault(Fault::new(LIST, Kind::ListOwn));
    let shown: Vec<_> = world.listed().await.iter().map(|token| text(&token["_id"]).to_owned()).collect();
    assert_eq!(shown, [id]);
    world.account.clear_faults();
    assert_eq!(world.listed().await.len(), 2);
}

#[tokio::test]
async fn answers_in_another_spelling() {
    let world = World::new().await;
    for (wire, fits) in [
        (Wire::IdSpelling, (|data| data[0].get("_id").is_none() && data[0]["id"].is_string()) as fn(&Value) -> bool),
        (Wire::WithoutTimes, |data| data[0].get("createdAt").is_none() && data[0].get("lastUsedAt").is_none()),
        (Wire::WithoutKey, |data| data[0].get("key").is_none() && data[0]["_id"].is_string()),
        (Wire::DataObject, |data| data.is_object() && data["key"].is_string()),
        (Wire::Unmasked, |data| data[0]["displayKey"] == data[0]["key"]),
    ] {
        world.account.set_fault(Fault::new(CREATE, Kind::Wire { wire }).once());
        let body: Value = world.create(&json!({})).send().await.unwrap().json().await.unwrap();
        assert!(fits(&body["data"]), "{wire:?}: {body}");
    }
}
