//! Tenants who ask for too much: what it costs DataFast's rate window, and that their neighbours do not wait for it.

use datafast_harness::{condition, eventually};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, FaultBody, ForeignToken, Kind, LoggedRequest, Operation, RateWindow};
use futures::future::join_all;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, apply,
};

fn permissions() -> serde_json::Value {
    json!({ "permissions": ["analytics:read"] })
}

/// A window of so many calls.
fn window(limit: u32, seconds: u32) -> RateWindow {
    RateWindow { limit, seconds, ..RateWindow::default() }
}

fn refused(w: &World) -> usize {
    w.requests().iter().filter(|request| request.status == Some(429)).count()
}

#[rstest]
#[tokio::test]
async fn a_key_that_is_asked_for_in_a_loop_comes_some_times_and_then_ever_later(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", permissions()).await;
    w.issued("agent").await;
    for n in 0..30 {
        w.annotate("agent", json!({ names::ROTATE: format!("{n}") })).await;
        if n % 3 == 0 {
            w.polls(1).await;
        }
        let ready = condition(&w.resource("agent").await, "Ready").unwrap();
        assert_eq!(ready.status, "True", "the last key works all the time: {ready:?}");
        if ready.reason == "Throttled" && n >= 10 {
            break;
        }
    }
    let ready = w.says("agent", "Throttled").await;
    assert!(ready.status == "True" && ready.message.contains("asked for again and again"), "{ready:?}");
    assert!(w.posts() <= 5, "{} requests", w.posts());
    // A leak has room for itself.
    let before = w.posts();
    w.annotate("agent", json!({ names::REVOKE_NOW: "leaked" })).await;
    eventually("the leaked key is replaced", WAIT, || async { (w.posts() > before).then_some(()) }).await;
    let neighbour = w.neighbour().await;
    neighbour.apply("other", permissions()).await;
    neighbour.issued("other").await;
}

#[tokio::test]
async fn a_window_that_others_used_up_is_waited_out_and_a_leak_goes_first() {
    let w = World::with(Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "12h" } })).await;
    w.issued("agent").await;
    w.account_says("Connected").await;
    w.account.set_window(Some(window(60, 30)));
    assert!(w.account.spend(60));
    w.polls(1).await;
    let asked = w.requests().len();
    // The old one is to be revoked at once, and ten others want their first.
    w.annotate("agent", json!({ names::REVOKE_NOW: "leaked" })).await;
    join_all((0..10).map(async |n| w.apply(&format!("new-{n}"), permissions()).await)).await;
    w.says("new-0", "RateLimited").await;
    let told = w.requests()[asked..].iter().filter(|request| request.status == Some(429)).count();
    assert!(told <= 2, "{told} calls into a window that is known to be used up");
    for n in 0..10 {
        w.issued(&format!("new-{n}")).await;
    }
    assert!(refused(&w) <= 3, "{} calls were refused", refused(&w));
    let rate = eventually("the account says what is left", WAIT, || async {
        w.account_resource().await.status.and_then(|status| status.rate)
    })
    .await;
    assert_eq!(rate.limit, Some(60));
}

#[rstest]
#[tokio::test]
async fn many_at_once_keep_to_the_window_that_answers_tell(#[values(true, false)] in_seconds: bool) {
    let w = World::new().await;
    let keys = w.about(WebsiteKey);
    w.account_says("Connected").await;
    w.account.set_window(Some(RateWindow { reset_in_seconds: in_seconds, ..window(20, 8) }));
    w.polls(1).await;
    let before = refused(&w);
    join_all((0..12).map(async |n| w.apply(&format!("agent-{n}"), permissions()).await)).await;
    join_all((0..9).map(async |n| keys.apply(&format!("key-{n}"), json!({})).await)).await;
    for n in 0..12 {
        w.issued(&format!("agent-{n}")).await;
    }
    for n in 0..9 {
        keys.issued(&format!("key-{n}")).await;
    }
    assert!(refused(&w) - before <= 1, "{} calls were refused", refused(&w) - before);
    assert_eq!(w.posts(), 12);
}

#[tokio::test]
async fn the_account_resource_caps_its_share_of_the_window() {
    let w = World::with(Setup { spec: Some(json!({ "requestsPerMinute": 12 })), ..Setup::default() }).await;
    w.account_says("Connected").await;
    join_all((0..16).map(async |n| w.apply(&format!("agent-{n}"), permissions()).await)).await;
    eventually("some wait for the next minute", WAIT, || async {
        let all = w.list().await.unwrap();
        let reasons = all.iter().filter_map(|resource| condition(resource, "Ready")).map(|ready| ready.reason);
        (reasons.filter(|reason| reason == "RateLimited").count() >= 2).then_some(())
    })
    .await;
    let requests = w.requests();
    let most = requests.iter().map(|first| {
        let within =
            |request: &&LoggedRequest| request.at >= first.at && request.at.duration_since(first.at).as_secs() < 58;
        requests.iter().filter(within).count()
    });
    assert!(most.max() <= Some(12), "{requests:#?}");
}

/// Of websites that nobody has seen yet a few are tried a minute, however many are invented.
#[tokio::test]
async fn invented_websites_cost_few_lists_and_hold_up_nobody() {
    let w = World::of(WebsiteKey).await;
    let tenant = w.neighbour().await;
    join_all((0..60).map(async |n| {
        let name = format!("invented-{n}");
        let mut manifest = tenant.manifest(&name, json!({}));
        manifest["spec"]["websiteId"] = json!(format!("{n:024x}"));
        apply(&tenant.objects(), &name, &manifest).await
    }))
    .await;
    let tokens = w.about(AccessToken);
    tokens.apply("agent", permissions()).await;
    tokens.issued("agent").await;
    w.polls(1).await;
    let requests = w.requests();
    let lists: Vec<_> = requests.iter().filter(|r| r.operation == Some(Operation::ListWebsiteKeys)).collect();
    let within = |first: &LoggedRequest| {
        lists.iter().filter(|list| list.at >= first.at && list.at.duration_since(first.at).as_secs() < 60).count()
    };
    let most = lists.iter().map(|first| within(first)).max();
    assert!(most <= Some(40), "{most:?} lists in a minute");
}

/// What looks like a limit in one refusal says nothing of the account.
#[rstest]
#[tokio::test]
async fn a_refusal_with_a_limit_in_its_words_is_the_resources_own(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::with(Setup { kind, others: 2, ..Setup::default() }).await;
    for message in ["name 'limits-agent' is invalid", "too many websites (max 5)"] {
        let body = FaultBody::Error { code: None, message: message.into() };
        w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Status { status: 400, body }).once());
        let (bad, good) = (format!("bad-{}", message.len()), format!("good-{}", message.len()));
        w.apply(&bad, permissions()).await;
        let ready = w.says(&bad, "Rejected").await;
        assert!(ready.message.contains(message), "{ready:?}");
        w.apply(&good, permissions()).await;
        w.issued(&good).await;
    }
    w.add_token(ForeignToken::default());
    assert_eq!(w.account_resource().await.status.unwrap().waiting.unwrap_or(0), 0, "nobody waits for a slot");
}

/// 500 for one resource's requests: it backs off by itself, and others are served at once.
#[rstest]
#[tokio::test]
async fn requests_that_always_fail_for_one_resource_hold_up_no_other(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Status { status: 500, body: FaultBody::Html }).times(4));
    w.apply("bad", permissions()).await;
    let ready = w.says("bad", "ApiUnavailable").await;
    assert_eq!(ready.status, "False");
    w.issued("bad").await;
    let posts = w.requests().into_iter().filter(|r| r.operation == Some(Operation::CreateAccessToken)).count();
    assert_eq!(posts, 5, "each after a longer pause");
    w.account_says("Connected").await;
}
