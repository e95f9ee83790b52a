//! Whatever the API server answers to any request that the operator makes for a resource: it is said, it is tried again in
//! measure, nothing is issued in vain, and all goes on where the answer is another one. `docs/troubleshooting.md` has the table.

use std::fmt::Write;

use datafast_harness::{Asks, BY_PLAN, Cutter, Instead, Plan, condition, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Operation};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use serde_json::json;

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

const ANSWERS: [Instead; 9] = [
    Instead::Refusal(400, "BadRequest"),
    Instead::Refusal(403, "Forbidden"),
    Instead::Refusal(409, "Conflict"),
    Instead::Refusal(422, "Invalid"),
    Instead::Refusal(429, "TooManyRequests"),
    Instead::Refusal(500, "InternalError"),
    Instead::Refusal(503, "ServiceUnavailable"),
    Instead::Nonsense,
    Instead::Broken,
];

fn name_of(asks: Asks, instead: Instead) -> String {
    let answer = match instead {
        Instead::Refusal(code, _) => code.to_string(),
        other => format!("{other:?}").to_lowercase(),
    };
    format!("{asks:?}-{answer}").to_lowercase()
}

/// Where people read how it went.
#[derive(Debug)]
struct Told {
    place: String,
    tries: usize,
}

/// Waits until `Ready` quotes the answer, if it has words of its own.
async fn ready_quotes(w: &World, name: &str, instead: Instead) -> String {
    let words = match instead {
        Instead::Refusal(409, _) => "changed by somebody else",
        Instead::Refusal(..) => BY_PLAN,
        Instead::Nonsense | Instead::Broken => "tried again",
    };
    eventually(&format!("Ready of {name} quotes the answer"), WAIT, || async {
        let ready = condition(&w.resource(name).await, "Ready");
        let quotes =
            |message: &str| message.contains(words) || message.contains(BY_PLAN) || message.contains("read again");
        let is_told = ready.as_ref().is_some_and(|ready| quotes(&ready.message));
        ready.clone().filter(|_| is_told).map(|ready| ready.reason).ok_or(ready)
    })
    .await
}

/// Waits until it was tried so often.
async fn tried(plan: &Plan, name: &str, times: usize) {
    let is_tried = || async { if plan.times(name) >= times { Ok(()) } else { Err(plan.times(name)) } };
    eventually(&format!("{name} is tried {times} times"), WAIT, is_tried).await;
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

async fn try_one(w: &World, plan: &Plan, asks: Asks, instead: Instead) -> Told {
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
        Asks::WriteStatus | Asks::PublishEvent => {
            eventually("the Secret is there", WAIT, || async { w.secrets().get_opt(name).await.unwrap() }).await;
            tried(plan, name, 1).await;
            "the log".to_owned()
        }
        // A conflict is none here: nobody else's change is in the way.
        Asks::RestartWorkload if instead != Instead::Broken => {
            let event = eventually("an event quotes the answer", WAIT, || async {
                let events = w.events(name).await.into_iter();
                let failed = events.filter(|event| event.reason.as_deref() == Some("RolloutRestartFailed"));
                let quotes = |note: &String| note.contains(BY_PLAN) || instead == Instead::Nonsense;
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

/// As in the documentation.
fn table(told: &[Vec<Told>]) -> String {
    let head =
        ["| |", " 400 |", " 403 |", " 409 |", " 422 |", " 429 |", " 500 |", " 503 |", " no object |", " broken off |"];
    let mut table = head.concat() + "\n|" + &"---|".repeat(head.len()) + "\n";
    for (asks, told) in ASKED.iter().zip(told) {
        let what = match asks {
            Asks::ReadSecret => "read the Secret",
            Asks::TrySecret => "try the Secret (dry run)",
            Asks::WriteSecret => "write the Secret",
            Asks::DeleteSecret => "delete the Secret",
            Asks::PatchResource => "record an attempt",
            Asks::WriteStatus => "write status",
            Asks::RestartWorkload => "restart a workload",
            Asks::PublishEvent => "publish an event",
        };
        let _ =
            writeln!(table, "| {what} | {} |", told.iter().map(|told| &*told.place).collect::<Vec<_>>().join(" | "));
    }
    table
}

#[tokio::test]
async fn whatever_is_answered_to_whichever_request_is_said_and_costs_nothing() {
    let plane = Plane::take().await;
    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let _operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let account = AccountOptions { token_limit: Some(200), ..AccountOptions::default() };
    let spec = Some(json!({ "tokenLimit": 200 }));
    let w = World::on(plane.cluster.clone(), Setup { account, spec, ..Setup::default() }).await;
    w.account_says("Connected").await;
    let (w, plan) = (&w, &plan);
    let told = join_all(ASKED.map(async |asks| {
        join_all(ANSWERS.map(async |instead| {
            let told = try_one(w, plan, asks, instead).await;
            ends_well(w, asks, &name_of(asks, instead)).await;
            assert!((1..=40).contains(&told.tries), "{asks:?}, {instead:?}: {} times", told.tries);
            told
        }))
        .await
    }))
    .await;
    let table = table(&told);
    let docs = include_str!("../docs/troubleshooting.md");
    assert!(docs.contains(&table), "docs/troubleshooting.md has another table than this:\n{table}");
}
