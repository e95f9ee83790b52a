//! Whatever the API server answers to any request that the operator makes for a resource: it is said, it is tried again in
//! measure, nothing is issued in vain, and all goes on where the answer is another one. `docs/troubleshooting.md` has the table.

use std::fmt::Write;

use datafast_harness::{Asks, BY_PLAN, Cutter, Instead, Operator, Plan, condition, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Operation};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::world::{ARGS, Plane, Setup, WAIT, World, start};

const ASKED: [Asks; 8] = [
    Asks::ReadSecret,
    Asks::TrySecret,
    Asks::WriteSecret,
    Asks::DeleteSecret,
    Asks::PatchResource,
    Asks::WriteStatus,
    Asks::RestartWorkload,
    Asks::PublishEvent,
];

pub(crate) const ANSWERS: [Instead; 10] = [
    Instead::Refusal(400, "BadRequest"),
    Instead::Refusal(403, "Forbidden"),
    Instead::Refusal(409, "Conflict"),
    Instead::Refusal(422, "Invalid"),
    Instead::Refusal(429, "TooManyRequests"),
    Instead::Refusal(500, "InternalError"),
    Instead::Refusal(503, "ServiceUnavailable"),
    Instead::Nonsense,
    Instead::Broken,
    Instead::Silence,
];

pub(crate) fn name_of(asks: Asks, instead: Instead) -> String {
    let answer = match instead {
        Instead::Refusal(code, _) => code.to_string(),
        other => format!("{other:?}").to_lowercase(),
    };
    format!("{asks:?}-{answer}").to_lowercase()
}

/// Where people read how it went.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) place: String,
    pub(crate) tries: usize,
}

/// Any of these is in words that quote the answer.
pub(crate) fn words_of(instead: Instead) -> &'static [&'static str] {
    match instead {
        Instead::Refusal(409, _) => &[BY_PLAN, "changed by somebody else", "read again"],
        Instead::Refusal(..) => &[BY_PLAN],
        Instead::Nonsense | Instead::Broken => &["tried again", "read again"],
        Instead::Silence => &["did not answer"],
    }
}

pub(crate) fn quotes(text: &str, instead: Instead) -> bool {
    words_of(instead).iter().any(|words| text.contains(words))
}

/// Waits until the log has a warning about this that quotes the answer.
pub(crate) async fn log_quotes(operator: &Operator, about: &str, instead: Instead) -> String {
    let words = match instead {
        // These have no words of their own.
        Instead::Nonsense => "deserializ",
        Instead::Broken => "Service",
        other => words_of(other).last().unwrap(),
    };
    let words = if instead == Instead::Refusal(409, "Conflict") { "" } else { words };
    eventually(&format!("the log quotes the answer about {about}"), WAIT, || async {
        let log = operator.logs();
        let mut warnings = log.lines().filter(|line| line.contains("WARN") && line.contains(about));
        warnings.any(|line| line.contains(words)).then(|| "the log".to_owned()).ok_or_else(|| about.to_owned())
    })
    .await
}

/// Waits until `Ready` quotes the answer, if it has words of its own.
async fn ready_quotes(w: &World, name: &str, instead: Instead) -> String {
    eventually(&format!("Ready of {name} quotes the answer"), WAIT, || async {
        let ready = condition(&w.resource(name).await, "Ready");
        let is_told = ready.as_ref().is_some_and(|ready| quotes(&ready.message, instead));
        ready.clone().filter(|_| is_told).map(|ready| ready.reason).ok_or(ready)
    })
    .await
}

/// Waits until an event about this was not published, and the log has that.
pub(crate) async fn event_is_missed(operator: &Operator, plan: &Plan, name: &str, instead: Instead) -> String {
    let is_tried = || async { (plan.times(name) > 0).then_some(()) };
    eventually(&format!("an event about {name} is tried"), WAIT, is_tried).await;
    // Each answer is told once, whatever the event was about.
    log_quotes(operator, "an event could not be published", instead).await
}

async fn deploy(w: &World, name: &str) {
    let labels = json!({ "app": name });
    let pod = json!({ "containers": [{ "name": "app", "image": "example.com/app" }] });
    let deployment = json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 0, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    });
    let api: Api<Deployment> = Api::namespaced(w.client.clone(), &w.namespace);
    api.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
}

async fn try_one(w: &World, operator: &Operator, plan: &Plan, asks: Asks, instead: Instead) -> Told {
    let name = &name_of(asks, instead);
    let mut spec = json!({ "permissions": ["analytics:read"] });
    match asks {
        Asks::DeleteSecret => {
            w.apply(name, spec).await;
            w.issued(name).await;
            plan.answer(name, asks, instead);
            w.delete(name).await;
        }
        Asks::RestartWorkload => {
            deploy(w, name).await;
            spec["rolloutRestart"] = json!([{ "kind": "Deployment", "name": name }]);
            w.apply(name, spec).await;
            w.issued(name).await;
            plan.answer(name, asks, instead);
            w.annotate(name, json!({ names::ROTATE: "1" })).await;
        }
        _ => {
            plan.answer(name, asks, instead);
            w.apply(name, spec).await;
        }
    }
    let place = match asks {
        Asks::WriteStatus => log_quotes(operator, name, instead).await,
        Asks::PublishEvent => event_is_missed(operator, plan, name, instead).await,
        // A conflict is none here: nobody else's change is in the way.
        Asks::RestartWorkload if instead != Instead::Broken => {
            let event = eventually("an event quotes the answer", WAIT, || async {
                let events = w.events(name).await.into_iter();
                let failed = events.filter(|event| event.reason.as_deref() == Some("RolloutRestartFailed"));
                let quotes = |note: &String| quotes(note, instead) || instead == Instead::Nonsense;
                failed.into_iter().find(|event| event.note.as_ref().is_some_and(quotes))
            });
            format!("the event `{}`", event.await.reason.unwrap())
        }
        _ => format!("`{}`", ready_quotes(w, name, instead).await),
    };
    Told { place, tries: plan.answer_truly(name) }
}

/// How often a key was asked for.
fn posts(w: &World, name: &str) -> usize {
    let start = format!("{}/{name} [", w.namespace);
    let creates = w.requests().into_iter().filter(|it| it.operation == Some(Operation::CreateAccessToken));
    creates.filter(|it| it.name.as_ref().is_some_and(|name| name.starts_with(&start))).count()
}

/// Once the answer is another one, all ends as it should.
async fn ends_well(w: &World, asks: Asks, name: &str) {
    match asks {
        Asks::DeleteSecret => wait_gone(&w.objects(), name, WAIT).await,
        _ => drop(w.issued(name).await),
    }
    // A key that could not be delivered for long is given up.
    let most = match asks {
        Asks::RestartWorkload | Asks::WriteSecret => 2,
        _ => 1,
    };
    assert!(posts(w, name) <= most, "{} requests for {name}", posts(w, name));
}

const HEAD: [&str; 11] = ["", "400", "403", "409", "422", "429", "500", "503", "no object", "broken off", "no answer"];

/// Whether the documentation has these outcomes.
pub(crate) fn is_documented(asked: &[Asks], told: &[Vec<Told>]) {
    let mut table = format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len())).replacen("|  |", "| |", 1);
    for (asks, told) in asked.iter().zip(told) {
        let what = match asks {
            Asks::ReadSecret => "read the Secret",
            Asks::TrySecret => "try the Secret (dry run)",
            Asks::WriteSecret => "write the Secret",
            Asks::DeleteSecret => "delete the Secret",
            Asks::PatchResource => "record an attempt",
            Asks::WriteStatus => "write status",
            Asks::RestartWorkload => "restart a workload",
            Asks::PublishEvent => "publish an event",
            Asks::ReadNamespace => "read the namespace's labels",
            Asks::ReadCredential => "read the credential",
            Asks::PatchAccount => "put on the account's finalizer",
            Asks::WriteAccountStatus => "write the account's status",
            Asks::PublishAccountEvent => "publish an event about the account",
        };
        let _ =
            writeln!(table, "| {what} | {} |", told.iter().map(|told| &*told.place).collect::<Vec<_>>().join(" | "));
    }
    let docs = include_str!("../docs/troubleshooting.md");
    assert!(docs.contains(&table), "docs/troubleshooting.md has another table than this:\n{table}");
}

/// What failed is counted, by what it was asked for and how it failed.
pub(crate) async fn is_counted(operator: &Operator, kinds: &[&str]) {
    let metrics = operator.metrics().await.unwrap();
    for kind in kinds {
        for reason in ["Refused", "Unreachable", "TimedOut"] {
            let sample = format!("datafast_reconcile_errors_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
            assert!(metrics.contains(&sample), "{sample} is missing in:\n{metrics}");
        }
    }
}

/// Side by side, as many as a slow machine bears; those that only wait for an answer that never comes are a burden to nobody.
pub(crate) async fn all_pairs<const N: usize>(
    asked: [Asks; N],
    try_one: impl AsyncFn(Asks, Instead) -> Told,
) -> Vec<Vec<Told>> {
    let (places, try_one) = (&Semaphore::new(10), &try_one);
    join_all(asked.map(async |asks| {
        join_all(ANSWERS.map(async |instead| {
            let _place = match instead {
                Instead::Silence => None,
                _ => Some(places.acquire().await.unwrap()),
            };
            try_one(asks, instead).await
        }))
        .await
    }))
    .await
}

#[tokio::test]
async fn whatever_is_answered_to_whichever_request_is_said_and_costs_nothing() {
    let plane = Plane::take().await;
    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let operator = &start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let account = AccountOptions { token_limit: Some(200), ..AccountOptions::default() };
    let spec = Some(json!({ "tokenLimit": 200 }));
    let w = World::on(plane.cluster.clone(), Setup { account, spec, ..Setup::default() }).await;
    w.account_says("Connected").await;
    let (w, plan) = (&w, &plan);
    let told = all_pairs(ASKED, async |asks, instead| {
        let told = try_one(w, operator, plan, asks, instead).await;
        ends_well(w, asks, &name_of(asks, instead)).await;
        assert!((1..=40).contains(&told.tries), "{asks:?}, {instead:?}: {} times", told.tries);
        told
    })
    .await;
    is_counted(operator, &["DataFastAccessToken", "Event"]).await;
    is_documented(&ASKED, &told);
}
