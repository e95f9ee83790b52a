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

const STORM: Duration = Duration::from_secs(30);
/// Resources of an account.
const EACH: usize = 10;
/// Changes of one account under way at once.
const AT_ONCE: usize = 4;
/// What a storm says of when to come back.
const RETRY_AFTER: u64 = 8;

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
    eventually("every resource is issued", 2 * WAIT, || async {
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
        storm("503", vec![any(broken)], "ApiUnavailable"),
        storm("cut connections", vec![slow, lost, any(Kind::Drop)], "ApiUnavailable"),
        // No request has failed yet: its answer may still come.
        storm("no answer", vec![any(Kind::Hang)], "Issuing"),
    ]
}

impl Storm {
    /// What came in under the storm, and the list that ended it: requests that were under way together, and then one list
    /// after each pause.
    fn is_met_with_few_calls(&self, calls: &[LoggedRequest]) {
        let (storm, hangs) = (self.name, self.reason == "Issuing");
        let is_post = |call: &LoggedRequest| call.operation == Some(Operation::CreateAccessToken);
        let (first, lists) = calls.split_at(calls.iter().take_while(|call| is_post(call)).count());
        assert!((1..=AT_ONCE).contains(&first.len()), "{storm}: {calls:#?}");
        // The first that fails, after a second at most, is the last that is sent.
        let took = first[first.len() - 1].at.duration_since(first[0].at);
        assert!(hangs || took < SignedDuration::from_millis(1500), "{storm}: {calls:#?}");
        assert!(lists.iter().all(|call| call.operation == Some(Operation::ListAccessTokens)), "{storm}: {calls:#?}");
        let times: Vec<Timestamp> = first.last().into_iter().chain(lists).map(|call| call.at).collect();
        for (pair, pause) in times.windows(2).zip(&self.pauses) {
            let paused = pair[1].duration_since(pair[0]);
            assert!(paused >= seconds(*pause), "{storm}: {paused:#} where {pause} s are the least: {calls:#?}");
        }
        // A call that hangs has not failed yet; after any other, DataFast is asked again before the storm is over.
        assert_eq!(lists.len() > 1, !hangs, "{storm}: {calls:#?}");
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
        let polled = (seconds(9)..seconds(18)).contains(&interval);
        assert!(polled, "a list {interval:#} after another: {lists:#?}");
    }
}

/// A hundred resources on ten accounts, five of which DataFast does not serve for half a minute, each in another way.
#[tokio::test]
async fn a_storm_over_some_accounts_costs_few_calls_and_holds_up_no_other() {
    let storms = storms();
    // The first request of the storm is one for a token: a list would come only after it.
    let rarely = || Setup { spec: Some(json!({ "pollInterval": "60s" })), ..Setup::default() };
    let stormy = join_all(storms.iter().map(|_| World::with(rarely())));
    let calm = join_all((0..5).map(|_| World::new()));
    let (stormy, calm) = tokio::join!(stormy, calm);
    join_all(stormy.iter().chain(&calm).map(|w| w.account_says("Connected"))).await;

    let (begun, began) = (Instant::now(), Timestamp::now());
    for (storm, w) in storms.iter().zip(&stormy) {
        for fault in &storm.faults {
            w.set_fault(fault.clone());
        }
    }
    join_all(stormy.iter().chain(&calm).map(apply_all)).await;
    join_all(calm.iter().map(all_issued)).await;
    for (storm, w) in storms.iter().zip(&stormy) {
        for name in names() {
            assert_eq!(w.says(&name, storm.reason).await.status, "False", "{}", storm.name);
        }
    }
    assert!(begun.elapsed() < STORM, "only after {:?}", begun.elapsed());
    tokio::time::sleep_until((begun + STORM).into()).await;
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
/// failure, a second or two.
#[tokio::test]
async fn requests_that_fail_together_are_one_failure() {
    let w = World::with(Setup { spec: Some(json!({ "pollInterval": "60s" })), ..Setup::default() }).await;
    let hold = under_way_together(&w, Kind::Status { status: 503, body: FaultBody::Html }).await;
    let released = Timestamp::now();
    w.account.release(hold);
    let again = eventually("the account is asked again", WAIT, || async {
        let requests = w.requests();
        requests.into_iter().find(|request| request.at > released)
    })
    .await;
    assert_eq!(again.operation, Some(Operation::ListAccessTokens));
    let pause = again.at.duration_since(released);
    assert!(pause < seconds(4), "a first pause of {pause:#}");
    all_issued(&w).await;
    assert_eq!(w.posts(), (EACH + AT_ONCE) as u64);
}

/// One, then two, then four at once: how many were under way when each was sent.
#[tokio::test]
async fn after_a_storm_changes_resume_gradually() {
    const TAKES: SignedDuration = SignedDuration::from_secs(2);
    let plane = Plane::take().await;
    // What has waited long for its turn is not sent: with the usual horizon, that is no matter here.
    let _operator = start(&plane.cluster, None, &["--allow-plain-http", "--leader-elect=false"]).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    let hold = under_way_together(&w, Kind::RateLimited { retry_after: RetryAfter::Seconds(1) }).await;
    let ms = TAKES.as_millis().try_into().unwrap();
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Latency { ms }));
    w.account.release(hold);
    all_issued(&w).await;
    let requests = w.requests();
    let served: Vec<Timestamp> =
        of(&requests, Operation::CreateAccessToken).iter().filter(|p| p.status == Some(200)).map(|p| p.at).collect();
    assert_eq!(served.len(), EACH);
    assert_eq!(w.posts(), (EACH + AT_ONCE) as u64);
    let under_way = |at: &Timestamp| {
        served.iter().filter(|other| (SignedDuration::ZERO..TAKES).contains(&at.duration_since(**other))).count()
    };
    let at_once: Vec<usize> = served.iter().map(under_way).collect();
    assert_eq!(at_once[..3], [1, 1, 2], "at once: {at_once:?}");
    assert_eq!(at_once.iter().max(), Some(&AT_ONCE), "at once: {at_once:?}");
}

/// DataFast issues, and no answer comes, again and again, while lists and revocations work. Each try costs a token that
/// must be revoked: they become fewer as after any other failure.
#[tokio::test]
async fn answers_lost_again_and_again_are_asked_for_ever_more_slowly() {
    let w = World::new().await;
    w.account_says("Connected").await;
    w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Drop).after_effect());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.says("agent", "ApiUnavailable").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
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
    let issued = tokio::time::timeout(Duration::from_secs(40), w.issued("agent")).await;
    issued.expect("it goes on by itself: several lists after the pause have been good");
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
