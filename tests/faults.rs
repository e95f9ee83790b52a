//! DataFast refuses, is busy, or answers nonsense: the right reason, few calls, nothing issued twice, and recovery by
//! itself.

use std::time::Duration;

use datafast_harness::condition;
use datafast_sandbox::{AccountOptions, Fault, FaultBody, Kind, LoggedRequest, Operation, RetryAfter};
use futures::future::join_all;
use jiff::SignedDuration;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Setup,
    Subject::{self, AccessToken, WebsiteKey},
    World, sandbox,
};

/// Long enough that a client which does not hold back has called a hundred times.
const A_WHILE: Duration = Duration::from_secs(20);
/// What one that backs off needs at most in that time.
const FEW: usize = 8;

/// Asserts that no more than a few calls came in within any while.
fn are_few(name: &str, calls: &[LoggedRequest]) {
    let while_of = |calls: &[LoggedRequest]| calls[FEW].at.duration_since(calls[0].at).unsigned_abs();
    assert!(calls.windows(FEW + 1).all(|calls| while_of(calls) >= A_WHILE), "{name}: {calls:#?}");
}

fn status(status: u16, body: FaultBody) -> Kind {
    Kind::Status { status, body }
}

fn unusable() -> Vec<(&'static str, Kind)> {
    vec![
        ("500", status(500, FaultBody::default())),
        ("502 with a page", status(502, FaultBody::Html)),
        ("503 with nothing", status(503, FaultBody::Empty)),
        ("401 with a page", status(401, FaultBody::Html)),
        ("403 with a page", status(403, FaultBody::Html)),
        ("404 with a page", status(404, FaultBody::Html)),
        ("200 with nothing", status(200, FaultBody::Empty)),
        ("200 with a page", status(200, FaultBody::Html)),
        ("200 with another shape", status(200, FaultBody::OtherShape)),
        ("200 that breaks off", status(200, FaultBody::Truncated)),
        ("200 of three megabytes", status(200, FaultBody::Huge)),
        ("200 without end", status(200, FaultBody::Endless)),
        ("a redirect", status(302, FaultBody::Empty)),
        ("no answer but an end", Kind::Drop),
        ("no answer and no end", Kind::Hang),
    ]
}

/// From the first moment on every call meets the fault. How often the operator calls is seen over a while; then the
/// fault goes, and all is well.
async fn a_resource_waits(name: &str, kind: Kind, reason: &str) {
    let w = World::faulty(Fault::new(Operation::Any, kind)).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    assert_eq!(w.account_says(reason).await.status, "False", "{name}");
    assert_eq!(w.says("agent", reason).await.status, "False", "{name}");
    tokio::time::sleep(A_WHILE).await;
    are_few(name, &w.requests());
    assert_eq!(w.posts(), 0, "{name}: nothing is issued before a list was seen");
    w.account.clear_faults();
    w.issued_alone("agent").await;
    assert_eq!(w.posts(), 1, "{name}");
}

#[tokio::test]
async fn a_datafast_that_cannot_be_used_is_waited_for() {
    let cases = unusable();
    join_all(cases.into_iter().map(|(name, kind)| a_resource_waits(name, kind, "ApiUnavailable"))).await;
}

#[tokio::test]
async fn a_busy_datafast_is_waited_for() {
    let retry_after =
        [RetryAfter::None, RetryAfter::Seconds(4), RetryAfter::DateIn(5), RetryAfter::Text("soon".into())];
    let cases = retry_after.map(|retry_after| (format!("{retry_after:?}"), Kind::RateLimited { retry_after }));
    join_all(cases.iter().map(|(name, kind)| a_resource_waits(name, kind.clone(), "RateLimited"))).await;
}

/// For all resources of the account at once, and whatever they want.
#[rstest]
#[tokio::test]
async fn datafast_says_when_to_come_back_and_is_left_alone_until_then(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    for (retry_after, at_least) in [(RetryAfter::Seconds(15), 15), (RetryAfter::DateIn(15), 14)] {
        let w = World::of(kind).await;
        w.apply("old", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
        w.issued("old").await;
        w.set_fault(Fault::new(Operation::Any, Kind::RateLimited { retry_after }).once());
        w.apply("old", json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } })).await;
        assert_eq!(w.says("old", "RateLimited").await.status, "True", "its token still works");
        w.apply("new", json!({ "permissions": ["analytics:read"] })).await;
        assert_eq!(w.says("new", "RateLimited").await.status, "False");
        w.issued("new").await;
        // Whichever call it was told to, it holds back all.
        let requests = w.account.requests();
        let limited = requests.iter().position(|request| request.status == Some(429)).unwrap();
        let pause = requests[limited + 1].at.duration_since(requests[limited].at);
        assert!(pause >= SignedDuration::from_secs(at_least), "called again after {pause}");
        assert_eq!(w.issued("old").await.token.permissions, ["goals:read"]);
    }
}

/// Only the request for a token meets the fault, without an effect.
async fn no_token_is_issued(of: Subject, name: &str, kind: Kind, reason: &str) {
    let w = World::of(of).await;
    w.account_says("Connected").await;
    w.set_fault(Fault::new(Operation::CreateAccessToken, kind));
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    assert_eq!(w.says("agent", reason).await.status, "False", "{name}");
    tokio::time::sleep(A_WHILE).await;
    are_few(name, &w.changes());
    w.account.clear_faults();
    w.issued_alone("agent").await;
    w.polls(1).await;
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn a_request_that_cannot_be_answered_is_not_repeated_in_haste(#[values(AccessToken, WebsiteKey)] of: Subject) {
    let cases = unusable().into_iter().filter(|(_, kind)| {
        // These take half a minute each, and are tried as lost answers.
        !matches!(kind, Kind::Hang | Kind::Status { body: FaultBody::Endless, .. })
    });
    let busy = ("busy", Kind::RateLimited { retry_after: RetryAfter::None });
    let unavailable = cases.map(|(name, kind)| no_token_is_issued(of, name, kind, "ApiUnavailable"));
    let unavailable = join_all(unavailable);
    futures::join!(unavailable, no_token_is_issued(of, busy.0, busy.1, "RateLimited"));
}

/// DataFast says no to what is asked for: it is quoted, not asked again and again, and another spec is tried at once.
async fn is_rejected(w: &World, quote: &str) {
    let ready = w.says("agent", "Rejected").await;
    assert!(ready.status == "False" && ready.message.contains(quote), "{ready:?}");
    let stalled = condition(&w.resource("agent").await, "Stalled");
    assert!(stalled.as_ref().is_some_and(|stalled| stalled.status == "True"), "{stalled:?}");
    w.event("agent", "Rejected").await;
    let posts = w.posts();
    w.polls(2).await;
    assert!(w.posts() <= posts + 1, "{} more requests", w.posts() - posts);
}

#[rstest]
#[tokio::test]
async fn a_refusal_is_quoted_until_the_spec_is_another(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let body = FaultBody::Error { code: None, message: "Invalid permissions: analytics:read is no more".to_owned() };
    w.set_fault(Fault::new(Operation::CreateAccessToken, status(400, body)));
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    is_rejected(&w, "Invalid permissions: analytics:read is no more").await;
    w.account.clear_faults();
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    w.issued_alone("agent").await;
}

#[tokio::test]
async fn a_scope_beyond_the_credential_is_refused_by_datafast() {
    let permissions = ["api-keys:read", "api-keys:write", "analytics:read"];
    let permissions = Some(permissions.map(str::to_owned).to_vec());
    let account = AccountOptions { permissions, ..AccountOptions::default() };
    let w = World::with(Setup { account, ..Setup::default() }).await;
    w.apply("agent", json!({ "permissions": ["goals:write"] })).await;
    is_rejected(&w, "cannot exceed the permissions and websites of its creator").await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn a_refused_change_leaves_the_old_token_at_work(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    let body = FaultBody::Error { code: None, message: "Not for you".to_owned() };
    w.set_fault(Fault::new(Operation::CreateAccessToken, status(403, body)));
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    is_rejected(&w, "Not for you").await;
    assert_eq!(w.secret("agent").await, before.secret);
    assert_eq!(w.issued_tokens().len(), 1);
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    assert_eq!(w.issued_alone("agent").await.token.id, before.token.id, "back to what it was: nothing to do");
}

#[rstest]
#[tokio::test]
async fn a_wrong_address_is_told_and_can_be_put_right(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.set_account(json!({ "baseUrl": format!("{}/wrong", sandbox().base_url()) })).await;
    w.account_says("ApiUnavailable").await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let ready = w.says_one_of("agent", &["ApiUnavailable", "AccountNotReady"]).await;
    assert_eq!(ready.status, "False");
    assert_eq!(w.posts(), 0);
    w.set_account(json!({})).await;
    w.issued_alone("agent").await;
}

#[rstest]
#[tokio::test]
async fn an_outage_takes_no_readiness(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.set_fault(Fault::new(Operation::Any, Kind::Drop));
    w.account_says("ApiUnavailable").await;
    w.apply("new", json!({ "permissions": ["analytics:read"] })).await;
    assert_eq!(w.says("new", "ApiUnavailable").await.status, "False");
    assert_eq!(w.issued("agent").await.resource.resource_version(), before.resource.resource_version());
    // Where something is to be done, it says why it is not.
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    assert_eq!(w.says("agent", "ApiUnavailable").await.status, "True");
    assert_eq!(w.secret("agent").await, before.secret);
    w.account.clear_faults();
    w.issued("new").await;
    assert_eq!(w.issued("agent").await.token.permissions, ["goals:read"]);
}
