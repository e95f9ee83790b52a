//! DataFast is busy, broken or away for a while, and many resources want something of it: few calls, nothing twice, and
//! no other account hears of it.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use datafast_harness::{apply_yaml, condition, eventually};
use datafast_operator::api::DataFastAccessToken;
use datafast_sandbox::{Fault, FaultBody, FaultId, ForeignToken, Kind, LoggedRequest, Operation, RetryAfter};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{ARGS, Plane, Setup, WAIT, World, start};

/// Resources of an account.
const EACH: usize = 10;
/// Changes of one account under way at once.
const AT_ONCE: usize = 4;
/// What a storm says of when to come back.
const RETRY_AFTER: u64 = 8;
/// Lists that a storm meets before it is over.
const LISTS: usize = 3;
/// After so many seconds a request without an answer has failed.
const GIVEN_UP: u64 = 30;

/// The shortest that the pauses of an account can be: they double, and only jitter makes them longer.
fn doubling() -> impl Iterator<Item = u64> {
    (0..9).map(|n| 1 << n)
}

fn names() -> impl Iterator<Item = String> {
    (0..EACH).map(|n| format!("agent-{n}"))
}

async fn apply_all(w: &World) {
    join_all(names().map(|name| async move { w.apply(&name, json!({ "permissions": ["analytics:read"] })).await }))
        .await;
}

/// Waits until every resource is issued, each with a live token of its own, and no other token is left.
async fn all_issued(w: &World) {
    eventually("every resource is issued", WAIT, || async {
        let resources = w.list().await.map_err(|e| e.to_string())?;
        let waits = |resource: &DataFastAccessToken| {
            let ready = condition(resource, "Ready");
            ready.as_ref().is_none_or(|ready| ready.reason != "Issued").then(|| (resource.name_any(), ready))
        };
        let waiting: Vec<_> = resources.iter().filter_map(waits).collect();
        if waiting.is_empty() { Ok(()) } else { Err(format!("{waiting:#?}")) }
    })
    .await;
    let mut held = Vec::new();
    for name in names() {
        held.push(w.issued(&name).await.token.id);
    }
    held.sort();
    eventually("the account has their tokens only", WAIT, || async {
        let mut live: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
        live.sort();
        if live == held { Ok(()) } else { Err(live) }
    })
    .await;
}

fn of(requests: &[LoggedRequest], operation: Operation) -> Vec<&LoggedRequest> {
    requests.iter().filter(|request| request.operation == Some(operation)).collect()
}

fn seconds(n: u64) -> SignedDuration {
    SignedDuration::from_secs(n.try_into().unwrap())
}

/// What an account with a storm is like.
struct Storm {
    name: &'static str,
    faults: Vec<Fault>,
    /// What its resources say.
    reason: &'static str,
    /// The shortest between its calls, in seconds.
    pauses: Vec<u64>,
}

fn storms() -> [Storm; 5] {
    let any = |kind| Fault::new(Operation::Any, kind);
    let limited = |retry_after| vec![any(Kind::RateLimited { retry_after })];
    let broken = Kind::Status { status: 503, body: FaultBody::Html };
    // Slow enough that several are under way: some of them take effect.
    let slow = Fault::new(Operation::CreateAccessToken, Kind::Latency { ms: 1000 });
    let lost = Fault::new(Operation::CreateAccessToken, Kind::Drop).after_effect().times(2);
    let storm = |name, faults, reason| Storm { name, faults, reason, pauses: doubling().collect() };
    [
        Storm {
            pauses: vec![RETRY_AFTER; 9],
            ..storm("429, Retry-After", limited(RetryAfter::Seconds(RETRY_AFTER)), "RateLimited")
        },
        storm("429", limited(RetryAfter::None), "RateLimited"),
        Storm { pauses: own_first(), ..storm("503", vec![any(broken)], "ApiUnavailable") },
        Storm { pauses: own_first(), ..storm("cut connections", vec![slow, lost, any(Kind::Drop)], "ApiUnavailable") },
        // No request has failed yet: its answer may still come.
        storm("no answer", vec![any(Kind::Hang)], "Issuing"),
    ]
}

/// The first failure may be that request's alone: the list that comes at once tells that it is not.
fn own_first() -> Vec<u64> {
    std::iter::once(0).chain(doubling()).collect()
}

impl Storm {
    /// Whether its requests wait for an answer: they have not failed yet.
    fn hangs(&self) -> bool {
        self.reason == "Issuing"
    }

    /// Waits until all resources say what it is, and DataFast was asked a few times whether it is over.
    async fn is_met(&self, w: &World, began: Timestamp) {
        join_all(names().map(async |name| {
            assert_eq!(w.says(&name, self.reason).await.status, "False", "{}", self.name);
        }))
        .await;
        eventually("DataFast was asked again and again", WAIT, || async {
            let requests = w.requests();
            let lists = of(&requests, Operation::ListAccessTokens).iter().filter(|list| list.at > began).count();
            if self.hangs() || lists >= LISTS { Ok(()) } else { Err(lists) }
        })
        .await;
    }

    /// What came in under the storm, and the list that ended it: requests that were under way together, and then one list
    /// after each pause.
    fn is_met_with_few_calls(&self, calls: &[LoggedRequest]) {
        let storm = self.name;
        let is_post = |call: &LoggedRequest| call.operation == Some(Operation::CreateAccessToken);
        let (first, lists): (Vec<_>, Vec<_>) = calls.iter().partition(|call| is_post(call));
        // Until the second one fails, a failure may be that request's alone: one more is sent.
        let most = if self.reason == "RateLimited" { AT_ONCE } else { AT_ONCE + 1 };
        assert!((1..=most).contains(&first.len()), "{storm}: {calls:#?}");
        assert!(lists.iter().all(|call| call.operation == Some(Operation::ListAccessTokens)), "{storm}: {calls:#?}");
        // Those that are sent while the first list is on its way may come in after it.
        assert!(calls.iter().skip(first.len() + 1).all(|call| !is_post(call)), "{storm}: {calls:#?}");
        // The first that fails is the last that is sent: others may come in a little later.
        let times: Vec<Timestamp> = first.first().into_iter().chain(&lists).map(|call| call.at).collect();
        for (pair, pause) in times.windows(2).zip(&self.pauses) {
            let paused = pair[1].duration_since(pair[0]);
            assert!(paused >= seconds(*pause), "{storm}: {paused:#} where {pause} s are the least: {calls:#?}");
        }
        // A call that hangs has not failed yet; after any other, DataFast is asked again before the storm is over.
        let failed = seconds(if self.hangs() { GIVEN_UP } else { 0 });
        assert!(lists[0].at.duration_since(first[0].at) >= failed, "{storm}: {calls:#?}");
        assert!(lists.len() > LISTS || self.hangs(), "{storm}: {calls:#?}");
    }

    /// Whoever got a token asked for it once, but for the requests in vain; and what was lost is gone.
    fn costs_nothing_twice(&self, w: &World, in_vain: usize) {
        let (storm, requests) = (self.name, w.requests());
        let posts = of(&requests, Operation::CreateAccessToken);
        let served = posts.iter().filter(|post| post.status == Some(200));
        let mut served: Vec<_> = served.map(|post| resource(post)).collect();
        served.sort();
        assert_eq!(served, names().map(|name| format!("{}/{name}", w.namespace)).collect::<Vec<_>>(), "{storm}");
        assert_eq!(posts.len(), EACH + in_vain, "{storm}");
        let lost = posts.iter().filter(|post| post.effect && post.status.is_none()).count();
        assert_eq!(of(&requests, Operation::DeleteAccessToken).len(), lost, "{storm}");
        assert_eq!(lost > 0, self.name == "cut connections", "{storm}");
    }
}

/// For which resource a token was asked for.
fn resource(post: &LoggedRequest) -> String {
    let name = post.name.as_deref().unwrap_or_default();
    name.split(' ').next().unwrap_or_default().to_owned()
}

/// Exactly what an account needs in peace: a request for each token, and a list at each poll.
fn heard_of_no_storm(w: &World) {
    let requests = w.requests();
    let (posts, lists) = (of(&requests, Operation::CreateAccessToken), of(&requests, Operation::ListAccessTokens));
    assert_eq!(posts.len(), EACH);
    assert_eq!(posts.len() + lists.len(), requests.len(), "{requests:#?}");
    assert!(requests.iter().all(|request| request.status == Some(200)), "{requests:#?}");
    for pair in lists.windows(2) {
        let interval = pair[1].at.duration_since(pair[0].at);
        // On their way some take seconds longer than others.
        assert!(interval >= seconds(5), "a list {interval:#} after another: {lists:#?}");
    }
}

/// An account that is not polled within any test.
fn unpolled() -> Setup {
    Setup { spec: Some(json!({ "pollInterval": "1h" })), ..Setup::default() }
}

/// A hundred resources on ten accounts, five of which DataFast does not serve for a while, each in another way.
#[tokio::test]
async fn a_storm_over_some_accounts_costs_few_calls_and_holds_up_no_other() {
    let storms = storms();
    // The first request of the storm is one for a token.
    let stormy = join_all(storms.iter().map(|_| World::with(unpolled())));
    let calm = join_all((0..5).map(|_| World::new()));
    let (stormy, calm) = tokio::join!(stormy, calm);
    join_all(stormy.iter().chain(&calm).map(|w| w.account_says("Connected"))).await;

    let began = Timestamp::now();
    for (storm, w) in storms.iter().zip(&stormy) {
        for fault in &storm.faults {
            w.set_fault(fault.clone());
        }
    }
    let met = join_all(storms.iter().zip(&stormy).map(async |(storm, w)| {
        apply_all(w).await;
        storm.is_met(w, began).await;
    }));
    // All the while the others have what they want, and are polled.
    let served = join_all(calm.iter().map(async |w| {
        apply_all(w).await;
        all_issued(w).await;
        w.polls(2).await;
    }));
    tokio::join!(met, served);
    stormy.iter().for_each(|w| w.account.clear_faults());

    join_all(stormy.iter().map(all_issued)).await;
    for (storm, w) in storms.iter().zip(&stormy) {
        let requests = w.requests();
        let since = requests.iter().position(|request| request.at > began).unwrap();
        let opens = |r: &LoggedRequest| r.operation == Some(Operation::ListAccessTokens) && r.status == Some(200);
        let over = since + requests[since..].iter().position(opens).unwrap();
        storm.is_met_with_few_calls(&requests[since..=over]);
        storm.costs_nothing_twice(w, of(&requests[since..over], Operation::CreateAccessToken).len());
    }
    calm.iter().for_each(heard_of_no_storm);
}

/// Has as many requests for tokens under way as there may be, which are all answered so when they are released.
async fn under_way_together(w: &World, answer: Kind) -> FaultId {
    w.account_says("Connected").await;
    let times = AT_ONCE.try_into().unwrap();
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold));
    w.set_fault(Fault::new(Operation::CreateAccessToken, answer).times(times));
    apply_all(w).await;
    eventually("as many as may are under way", WAIT, || async {
        let posts = w.posts();
        if posts == u64::from(times) { Ok(()) } else { Err(posts) }
    })
    .await;
    hold
}

/// Requests that were under way together say one thing when they fail together: the first pause is that of a first
/// failure, a second or two. After four failures it were eight seconds at least.
#[tokio::test]
async fn requests_that_fail_together_are_one_failure() {
    let w = World::with(unpolled()).await;
    let hold = under_way_together(&w, Kind::Status { status: 503, body: FaultBody::Html }).await;
    let released = Timestamp::now();
    w.account.release(hold);
    let again = eventually("the account is listed again", WAIT, || async {
        let is_list = |request: &LoggedRequest| request.operation == Some(Operation::ListAccessTokens);
        w.requests().into_iter().find(|request| request.at > released && is_list(request))
    })
    .await;
    let pause = again.at.duration_since(released);
    assert!(pause < seconds(1 << (AT_ONCE - 1)), "a first pause of {pause:#}");
    all_issued(&w).await;
    // The first failure may be that request's alone: until the second one, one more is sent.
    let posts = w.posts();
    assert!((EACH + AT_ONCE..=EACH + AT_ONCE + 1).contains(&(posts as usize)), "{posts}");
}

/// One, then two, then four at once.
#[tokio::test]
async fn after_a_storm_changes_resume_gradually() {
    let plane = Plane::take().await;
    // What has waited long for its turn is not sent: with the usual horizon, that is no matter here.
    let _operator = start(&plane.cluster, None, &["--allow-plain-http", "--leader-elect=false"]).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let mut hold = under_way_together(&w, Kind::RateLimited { retry_after: RetryAfter::Seconds(1) }).await;
    let mut posts = w.posts();
    for at_once in [1, 2, AT_ONCE] {
        // Those under way are answered, and those that come then are held.
        let next = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold));
        w.account.release(hold);
        hold = next;
        posts += at_once as u64;
        eventually(&format!("{at_once} are under way"), WAIT, || async {
            if w.posts() == posts { Ok(()) } else { Err(w.posts()) }
        })
        .await;
        w.polls(1).await;
        assert_eq!(w.posts(), posts, "no more than {at_once} at once");
    }
    w.account.release(hold);
    all_issued(&w).await;
    assert_eq!(w.posts(), (EACH + AT_ONCE) as u64);
}

/// DataFast issues, and no answer comes, again and again, while lists and revocations work. Each try costs a token that
/// must be revoked: they become fewer as after any other failure.
#[tokio::test]
async fn answers_lost_again_and_again_are_asked_for_ever_more_slowly() {
    let w = World::new().await;
    w.account_says("Connected").await;
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Drop).after_effect());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    eventually("it was asked for four times", WAIT, || async { (w.posts() >= 4).then_some(()) }).await;
    w.says("agent", "ApiUnavailable").await;
    w.account.clear_faults();
    let requests = w.requests();
    let posts = of(&requests, Operation::CreateAccessToken);
    w.issued_alone("agent").await;
    let times: Vec<Timestamp> = posts.iter().map(|post| post.at).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    let grow = pauses.iter().zip(doubling()).all(|(pause, least)| *pause >= seconds(least));
    assert!(grow, "pauses: {pauses:?}");
}

/// Its answer is good, but it was asked for before DataFast said to come back later.
#[tokio::test]
async fn a_list_that_was_under_way_cuts_no_pause_short() {
    let w = World::new().await;
    w.account_says("Connected").await;
    let list = w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::Hold).after_effect().once());
    tokio::time::timeout(WAIT, w.account.held(list)).await.expect("a list");
    let busy = Kind::RateLimited { retry_after: RetryAfter::Seconds(RETRY_AFTER) };
    w.set_fault(Fault::new(Operation::CreateAccessToken, busy).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.says("agent", "RateLimited").await;
    w.account.release(list);
    w.issued_alone("agent").await;
    let requests = w.requests();
    let refused = requests.iter().position(|request| request.status == Some(429)).unwrap();
    let pause = requests[refused + 1].at.duration_since(requests[refused].at);
    assert!(pause >= seconds(RETRY_AFTER), "called again after {pause:#}: {requests:#?}");
}

/// An admission webhook that never answers, and is ignored after this many seconds: so long takes each write of the
/// account's status.
const SLOW: Duration = Duration::from_secs(3);

/// The account has no time to tell that it may not be called before it may be called again.
#[tokio::test]
async fn a_pause_that_ends_while_the_account_is_written_ends_for_all() {
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.account_says("Connected").await;
    let webhook = slow_status(&w).await;

    let answer = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
    let busy = Kind::RateLimited { retry_after: RetryAfter::Seconds(1) };
    w.set_fault(Fault::new(Operation::CreateAccessToken, busy).once());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    tokio::time::timeout(WAIT, w.account.held(answer)).await.expect("a request for a token");
    w.says("agent", "Issuing").await;
    // The next list shows it, and then the account's status is to be written.
    w.add_token(ForeignToken::default());
    w.polls(1).await;
    w.account.release(answer);
    tokio::select! {
        _ = w.issued("agent") => {}
        () = w.polls(10) => panic!("it goes on by itself: many lists after the pause have been good"),
    }
    assert_eq!(w.posts(), 2);

    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(w.client.clone());
    webhooks.delete(&w.name, &DeleteParams::default()).await.unwrap();
    drop(webhook);
}

/// Until the webhook is deleted. What is returned is the port that it calls.
async fn slow_status(w: &World) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{ name: {name} }}
webhooks:
  - name: slow.example.com
    clientConfig: {{ url: "https://{address}/" }}
    rules:
      - {{ apiGroups: [datafa.st], apiVersions: ["*"], operations: [UPDATE], resources: [datafastaccounts/status] }}
    failurePolicy: Ignore
    sideEffects: None
    admissionReviewVersions: [v1]
    timeoutSeconds: {seconds}
"#,
        name = w.name,
        address = listener.local_addr().unwrap(),
        seconds = SLOW.as_secs(),
    );
    apply_yaml(&w.client, "user", &w.namespace, &yaml).await.unwrap();
    eventually("writes of the account's status are slow", WAIT, || async {
        let (begun, nothing) = (Instant::now(), Patch::Merge(json!({})));
        w.accounts().patch_status(&w.name, &PatchParams::default(), &nothing).await.unwrap();
        if begun.elapsed() >= SLOW { Ok(()) } else { Err(begun.elapsed()) }
    })
    .await;
    listener
}
