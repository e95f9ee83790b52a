//! Whatever the API server answers to what the operator asks of it for an account: it is said, tried again in measure, and
//! all goes on where the answer is another one. `docs/troubleshooting.md` has the table.

use axum::http::StatusCode;
use datafast_harness::{Asks, Cutter, Instead, Operator, Plan, condition, eventually};
use datafast_sandbox::AccountOptions;
use serde_json::json;

use crate::outcomes::{Told, all_pairs, event_is_missed, is_counted, is_documented, log_quotes, name_of, quotes};
use crate::world::{ARGS, Plane, Setup, Subject, WAIT, World, start};

const ASKED: [Asks; 5] = [
    Asks::ReadCredential,
    Asks::PatchAccount,
    Asks::WriteAccountStatus,
    Asks::PublishAccountEvent,
    Asks::ReadNamespace,
];

/// Waits until the account says it.
async fn account_quotes(w: &World, instead: Instead) -> String {
    let reason = eventually(&format!("{} quotes the answer", w.name), WAIT, || async {
        let ready = condition(&w.account_resource().await, "Ready");
        let is_told = ready.as_ref().is_some_and(|ready| is_quoted(&ready.message, instead));
        ready.clone().filter(|_| is_told).map(|ready| ready.reason).ok_or(ready)
    });
    format!("`{}`", reason.await)
}

/// Waits until the account says it, and with it the resource.
async fn account_and_resource_quote(w: &World, instead: Instead) -> String {
    let place = account_quotes(w, instead).await;
    eventually(&format!("the resource of {} says it too", w.name), WAIT, || async {
        let ready = condition(&w.resource("agent").await, "Ready");
        let is_told =
            ready.as_ref().is_some_and(|it| it.reason == "AccountNotReady" && is_quoted(&it.message, instead));
        if is_told { Ok(()) } else { Err(ready) }
    })
    .await;
    place
}

/// What is no object, or breaks off, has no words of its own.
fn is_quoted(message: &str, instead: Instead) -> bool {
    let has_no_words = matches!(instead, Instead::Nonsense | Instead::Broken);
    quotes(message, instead) || has_no_words && message.contains("can't be")
}

/// Waits until the resource has said it: the labels may be seen by a list soon after.
async fn resource_quotes(w: &World, instead: Instead) -> String {
    let reason = eventually(&format!("the resource of {} quotes the answer", w.name), WAIT, || async {
        let said = w.said("agent");
        said.iter()
            .find(|it| quotes(&it.message, instead))
            .map(|it| it.reason.clone())
            .ok_or_else(|| format!("{said:?}"))
    });
    format!("`{}`", reason.await)
}

async fn try_one(w: &World, operator: &Operator, plan: &Plan, asks: Asks, instead: Instead) -> Told {
    let named = match asks {
        Asks::ReadNamespace => w.namespace.clone(),
        _ => w.name.clone(),
    };
    plan.answer(&named, asks, instead);
    let selector = json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": w.namespace } } });
    w.set_credential(&w.account.credential()).await;
    w.set_account(json!({ "tokenLimit": 200, "allow": selector })).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let place = match asks {
        Asks::WriteAccountStatus => log_quotes(operator, &w.name, instead).await,
        Asks::PublishAccountEvent => event_is_missed(operator, plan, &named, instead).await,
        Asks::ReadNamespace => resource_quotes(w, instead).await,
        Asks::PatchAccount => account_quotes(w, instead).await,
        _ => account_and_resource_quote(w, instead).await,
    };
    Told { place, tries: plan.answer_truly(&named) }
}

#[tokio::test]
async fn whatever_is_answered_to_what_is_asked_for_an_account_is_said_and_costs_nothing() {
    let plane = Plane::take().await;
    let plan = Plan::count_only();
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let operator = &start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let account = AccountOptions { token_limit: Some(200), ..AccountOptions::default() };
    let w = &World::on(plane.cluster.clone(), Setup { account, ..Setup::default() }).await;
    // So the labels of namespaces that are made from now on are read when they are asked for.
    plan.lose_watches("/api/v1/namespaces", StatusCode::SERVICE_UNAVAILABLE);
    let plan = &plan;
    let told = all_pairs(ASKED, async |asks, instead| {
        let mut there = w.neighbour().await;
        there.name = name_of(asks, instead);
        let told = try_one(&there, operator, plan, asks, instead).await;
        assert!((1..=40).contains(&told.tries), "{asks:?}, {instead:?}: {} times", told.tries);
        there.account_says("Connected").await;
        there.issued("agent").await;
        told
    })
    .await;
    assert_eq!(w.about(Subject::AccessToken).posts(), 50, "one for each resource");
    is_counted(operator, &["DataFastAccount", "Event"]).await;
    is_documented(&ASKED, &told);
}
