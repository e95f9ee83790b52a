//! The rate window of an account.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafast_sandbox::{AccountOptions, Fault, FaultBody, Kind, Operation, Options, RateWindow, Sandbox};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{SITE, World, text};

/// A window that no test outlives.
const HOUR: u32 = 3600;

const HEADERS: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

async fn world(window: RateWindow) -> World {
    World::with(AccountOptions { rate_window: Some(window), ..AccountOptions::default() }).await
}

fn calls(limit: u32) -> RateWindow {
    RateWindow { limit, seconds: HOUR, ..RateWindow::default() }
}

/// Limit, remaining calls and end of the window, as the headers tell them.
fn told(response: &Response) -> Option<[i64; 3]> {
    let number = |name| response.headers().get(name).map(|value| value.to_str().unwrap().parse().unwrap());
    let numbers: Vec<_> = HEADERS.into_iter().filter_map(number).collect();
    assert!(numbers.is_empty() || numbers.len() == HEADERS.len(), "all of them, or none");
    numbers.try_into().ok()
}

fn now_in_milliseconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

fn remaining(world: &World) -> u32 {
    world.account.window().unwrap().remaining
}

#[tokio::test]
async fn without_a_window_any_number_of_calls_is_answered_and_no_header_tells_of_one() {
    let world = World::new().await;
    for _ in 0..70 {
        let response = world.list().send().await.unwrap();
        assert_eq!((response.status().as_u16(), told(&response)), (200, None));
    }
    assert_eq!(world.account.window(), None);
    assert!(!world.account.spend(1) && !world.account.reset_window());
}

#[tokio::test]
async fn every_answer_tells_what_is_left_and_when_the_window_ends_in_milliseconds() {
    let world = world(calls(9)).await;
    assert_eq!(world.account.window().unwrap().reset, None, "no call has begun it");
    let before = now_in_milliseconds();
    let first = told(&world.list().send().await.unwrap()).unwrap();
    let length = i64::from(HOUR) * 1000;
    assert!((before + length..=now_in_milliseconds() + length).contains(&first[2]), "{first:?}");
    assert_eq!(world.account.window().unwrap().reset, Some(first[2]));

    let credential = world.account.credential();
    let bad_gateway = Kind::Status { status: 502, body: FaultBody::Html };
    world.account.set_fault(Fault::new(Operation::GetAccount, bad_gateway));
    let requests = [
        (200, world.create(&json!({}))),
        (400, world.create(&json!({ "permissions": [] }))),
        (404, world.delete("none")),
        (404, world.request(Method::GET, "/elsewhere", &credential)),
        (405, world.request(Method::PATCH, "/access-tokens", &credential)),
        (502, world.request(Method::GET, "/account", &credential)),
    ];
    for ((status, request), left) in requests.into_iter().zip((0..8).rev()) {
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), told(&response)), (status, Some([9, left, first[2]])));
    }
}

#[tokio::test]
async fn a_call_beyond_the_limit_has_a_flat_429_and_no_effect() {
    let world = world(calls(2)).await;
    let id = text(&world.created().await["_id"]).to_owned();
    world.listed().await;
    let reset = world.account.window().unwrap().reset.unwrap();
    for request in [world.create(&json!({ "name": "b" })), world.delete(&id), world.create_key(SITE, &json!({}))] {
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), told(&response)), (429, Some([2, 0, reset])));
        assert!(!response.headers().contains_key("retry-after"));
        let mut body: Value = response.json().await.unwrap();
        assert!(!text(&body["error"].take()).is_empty());
        assert_eq!(body, json!({ "error": null, "limit": 2, "remaining": 0, "reset": reset }));
    }
    let issued: Vec<_> = world.account.issued_tokens().into_iter().map(|token| token.id).collect();
    assert_eq!((issued, world.account.live_website_keys().len()), (vec![id], 0));
    let refused = &world.account.requests()[2..];
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|request| request.status == Some(429) && !request.effect));
    assert_eq!(refused[0].name.as_deref(), Some("b"));
}

#[tokio::test]
async fn all_keys_of_an_account_and_other_clients_spend_from_one_window() {
    let world = world(calls(10)).await;
    let other = world.sandbox.account(AccountOptions { rate_window: Some(calls(10)), ..Default::default() });
    let token = text(&world.created().await["key"]).to_owned();
    assert_eq!(remaining(&world), 9);
    world.status(world.request(Method::GET, "/account", &token)).await;
    assert_eq!(remaining(&world), 8);
    world.status(world.list_keys_as(&world.account.add_website_key(), SITE)).await;
    assert_eq!(remaining(&world), 7);
    let former = world.account.credential();
    world.account.replace_credential(&AccountOptions::default());
    assert_eq!(world.status(world.request(Method::GET, "/account", &former)).await, 401);
    assert_eq!(remaining(&world), 6);
    assert!(world.account.spend(6));
    assert_eq!(remaining(&world), 0);
    assert_eq!(world.status(world.request(Method::GET, "/account", &former)).await, 429);
    assert_eq!(world.account.requests().len(), 5, "another client's calls are in no log");

    let unknown = world.request(Method::GET, "/account", "dft_unknown").send().await.unwrap();
    assert_eq!((unknown.status().as_u16(), told(&unknown)), (401, None));
    assert_eq!(other.window().unwrap().remaining, 10, "another account has another window");
}

#[tokio::test]
async fn a_new_window_begins_with_the_first_call_after_the_last_one() {
    let world = world(RateWindow { limit: 2, seconds: 1, ..RateWindow::default() }).await;
    let [_, left, first] = told(&world.list().send().await.unwrap()).unwrap();
    assert_eq!(left, 1);
    while world.account.window().unwrap().reset.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(now_in_milliseconds() >= first);
    assert_eq!(remaining(&world), 2);
    let [_, left, second] = told(&world.list().send().await.unwrap()).unwrap();
    assert_eq!(left, 1, "what was spent of the first one does not count");
    assert!(second >= first + 1000, "it is as long as the first one, and follows it");
}

#[tokio::test]
async fn a_window_can_be_ended_at_once_and_taken_away() {
    let world = world(calls(1)).await;
    world.account.spend(1);
    assert_eq!(world.status(world.list()).await, 429);
    assert!(world.account.reset_window());
    assert_eq!(world.status(world.list()).await, 200);
    assert_eq!(world.status(world.list()).await, 429);
    world.account.set_window(Some(calls(2)));
    assert_eq!(remaining(&world), 2);
    world.account.set_window(None);
    assert_eq!(told(&world.list().send().await.unwrap()), None);
}

#[tokio::test]
async fn the_window_can_be_told_in_seconds_or_not_at_all_and_say_when_to_come_back() {
    let world = world(RateWindow { reset_in_seconds: true, retry_after: true, ..calls(1) }).await;
    let [_, _, reset] = told(&world.list().send().await.unwrap()).unwrap();
    let end = world.account.window().unwrap().reset.unwrap();
    assert!((end..end + 1000).contains(&(reset * 1000)), "{reset} is not {end} rounded up");
    let refused = world.list().send().await.unwrap();
    let retry_after: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((HOUR - 60..=HOUR).contains(&retry_after), "{retry_after}");
    assert_eq!(refused.json::<Value>().await.unwrap()["reset"], reset);

    world.account.set_window(Some(RateWindow { without_headers: true, ..calls(1) }));
    for status in [200, 429] {
        let response = world.list().send().await.unwrap();
        assert_eq!((response.status().as_u16(), told(&response)), (status, None));
        assert!(!response.headers().contains_key("retry-after"));
    }
}

#[tokio::test]
async fn a_refused_call_uses_no_fault_up_and_a_call_that_meets_one_counts() {
    let world = world(calls(1)).await;
    world.account.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Drop).after_effect().once());
    world.account.spend(1);
    assert_eq!(world.status(world.create(&json!({}))).await, 429);
    world.account.reset_window();
    assert!(world.create(&json!({})).send().await.is_err());
    assert_eq!((world.account.issued_tokens().len(), remaining(&world)), (1, 0));
}

#[tokio::test]
async fn a_sandbox_gives_its_window_to_accounts_that_have_none_of_their_own() {
    let sandbox = Sandbox::start(Options { rate_window: Some(calls(5)), ..Options::default() }).await.unwrap();
    let own = AccountOptions { rate_window: Some(calls(6)), ..AccountOptions::default() };
    let limits = [AccountOptions::default(), own].map(|options| sandbox.account(options).window().unwrap().limit);
    assert_eq!(limits, [5, 6]);
}

#[tokio::test]
async fn every_answer_has_a_date() {
    let world = world(calls(2)).await;
    let unavailable = Kind::Status { status: 503, body: FaultBody::Empty };
    world.account.set_fault(Fault::new(Operation::ListAccessTokens, unavailable).once());
    for status in [503, 200, 429] {
        let response = world.list().send().await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers()["date"].to_str().unwrap().ends_with(" GMT"));
    }
}
