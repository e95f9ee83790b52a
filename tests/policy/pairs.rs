//! The policy and the operator judge accounts and resources that are drawn at random, always the same ones: both say the same.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Instant};

use datafast_operator::api::{DataFastAccessToken, DataFastAccount, DataFastWebsiteKey, KeyResource, Permission};
use datafast_operator::controller::forbids;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use proptest::{collection::vec, option, prelude::*, sample, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

use super::{CROWD, Place, SITES, kind_of, read, refusal, resource, set_account, token};
use crate::world::{Subject, unique};

const ACCOUNTS: usize = 60;
const RESOURCES_OF_EACH: usize = 12;

fn some_of(all: Vec<&'static str>, sizes: RangeInclusive<usize>) -> impl Strategy<Value = Value> {
    sample::subsequence(all, sizes).prop_map(|some| json!(some))
}

/// In the order in which the operator names them.
fn permissions() -> Vec<&'static str> {
    let all: BTreeSet<_> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
    all.into_iter().filter(|permission| *permission != "*").collect()
}

fn some_selector() -> impl Strategy<Value = Value> {
    let values = vec!["growth", "sales", ""];
    let labels = prop_oneof![
        Just(json!({})),
        Just(json!({ "team": "growth" })),
        Just(json!({ "team": "sales" })),
        Just(json!({ "team": "growth", "env": "prod" })),
    ];
    let expression = (
        sample::select(vec!["team", "env", "kubernetes.io/metadata.name"]),
        sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]),
        some_of(values, 1..=2),
    );
    let expression = expression.prop_map(|(key, operator, values)| match operator {
        "In" | "NotIn" => json!({ "key": key, "operator": operator, "values": values }),
        _ => json!({ "key": key, "operator": operator }),
    });
    let expressions = vec(expression, 0..=2);
    (option::of(labels), option::of(expressions)).prop_map(|(labels, expressions)| {
        present([("matchLabels", labels), ("matchExpressions", expressions.map(Value::from))])
    })
}

/// Those fields that have a value.
fn present<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn some_allow() -> impl Strategy<Value = Value> {
    let permissions = prop_oneof![1 => Just(json!(["*"])), 5 => some_of(permissions(), 10..=16)];
    let fields = (
        option::weighted(0.3, some_selector()),
        option::weighted(0.6, permissions),
        option::weighted(0.4, some_of(SITES.to_vec(), 2..=4)),
        option::weighted(0.7, any::<bool>().prop_map(Value::from)),
        option::weighted(0.4, some_of(vec!["Retain", "Revoke"], 1..=2)),
    );
    let allow = fields.prop_map(|(selector, permissions, websites, keys, policies)| {
        present([
            ("namespaceSelector", selector),
            ("permissions", permissions),
            ("websiteIds", websites),
            ("websiteKeys", keys),
            ("deletionPolicies", policies),
        ])
    });
    prop_oneof![1 => Just(json!(null)), 9 => allow]
}

/// A kind and a spec.
fn some_resource() -> impl Strategy<Value = (Subject, Value)> {
    let policy = || option::weighted(0.5, sample::select(vec![json!("Revoke"), json!("Retain")]));
    let permissions = prop_oneof![1 => Just(json!(["*"])), 7 => some_of(permissions(), 1..=3)];
    let token = (permissions, option::weighted(0.7, some_of(SITES.to_vec(), 0..=2)), policy());
    let token = token.prop_map(|(permissions, websites, policy)| {
        let fields = [("permissions", Some(permissions)), ("websiteIds", websites), ("deletionPolicy", policy)];
        (Subject::AccessToken, present(fields))
    });
    let key = (sample::select(SITES.to_vec()), policy()).prop_map(|(website, policy)| {
        (Subject::WebsiteKey, present([("websiteId", Some(json!(website))), ("deletionPolicy", policy)]))
    });
    prop_oneof![3 => token, 1 => key]
}

/// What the operator would say, with the same words.
fn verdict(account: &DataFastAccount, manifest: &Value, namespace: &Namespace) -> Option<String> {
    let resource: Box<dyn KeyResource> = match kind_of(manifest) {
        Subject::AccessToken => Box::new(read::<DataFastAccessToken>(manifest)),
        Subject::WebsiteKey => Box::new(read::<DataFastWebsiteKey>(manifest)),
    };
    Some(forbids(account, &*resource, Some(namespace.labels()))?.message(&account.name_any()))
}

#[tokio::test]
async fn policy_and_operator_say_the_same_of_every_account_and_resource() {
    let labels = [
        json!({}),
        json!({ "team": "growth" }),
        json!({ "team": "sales", "env": "prod" }),
        json!({ "team": "growth", "env": "prod" }),
        json!({ "team": "" }),
    ];
    let _crowd = CROWD.lock().await;
    let mut places = Vec::new();
    for labels in labels {
        places.push(Place::labelled(labels).await);
    }
    let mut runner = TestRunner::deterministic();
    let mut pairs = Vec::new();
    let client = &places[0].client;
    let (prefix, unlike) = (unique(), json!({ "permissions": ["analytics:read"] }));
    for n in 0..ACCOUNTS {
        let allow = some_allow().new_tree(&mut runner).unwrap().current();
        let account = set_account(client, &format!("{prefix}-{n}"), &allow).await;
        for _ in 0..RESOURCES_OF_EACH {
            let drawn = (some_resource(), 0..places.len()).new_tree(&mut runner).unwrap().current();
            let ((kind, spec), place) = drawn;
            pairs.push((account.clone(), resource(kind, &account.name_any(), "agent", spec), &places[place]));
        }
    }
    set_account(client, &prefix, &unlike).await;
    places[0].is_refused(&token(&prefix, "probe", json!({ "permissions": ["*"] }))).await;

    let began = Instant::now();
    let judged = stream::iter(&pairs).map(|(account, manifest, place)| async move {
        let said = refusal(place.create(manifest, true).await);
        (said, verdict(account, manifest, &place.namespace), manifest, account)
    });
    let judged: Vec<_> = judged.buffer_unordered(16).collect().await;
    let refused: Vec<_> = judged.iter().filter_map(|(said, ..)| said.as_deref()).collect();
    println!(
        "policy and operator compared: {} pairs, {} refused, in {:?}",
        judged.len(),
        refused.len(),
        began.elapsed()
    );
    for (policy, operator, manifest, account) in &judged {
        assert_eq!(policy, operator, "{manifest} of {:?}", account.spec.allow);
    }
    assert!(judged.len() >= 500 && refused.len() * 10 >= judged.len() * 3 && refused.len() * 10 <= judged.len() * 8);
    for words in [
        "(allow.namespaceSelector)",
        "(allow.websiteKeys is not true)",
        "(allow.permissions)",
        "(allow.permissions, by default)",
        "a token must name its websites",
        "Create it with another spec.websiteId",
        "(allow.websiteIds). Ask for less",
        "deletionPolicy Retain",
        "deletionPolicy Revoke",
    ] {
        assert!(refused.iter().any(|said| said.contains(words)), "no refusal says {words:?}");
    }
}
