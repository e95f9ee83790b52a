//! A resource gets its token, and its Secret the key.

use std::collections::BTreeSet;

use datafast_harness::{condition, eventually};
use datafast_operator::api::names;
use datafast_sandbox::Operation;
use jiff::Timestamp;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, sandbox, text_in,
};

const WEBSITE: &str = "65f1c0ffee0123456789abcd";

/// The last part of a token's name, if it is a marker: cluster, owner and nonce.
fn marker(name: &str) -> Option<(&str, &str, &str)> {
    let (_, marker) = name.rsplit_once(" [k8s:")?;
    let (cluster, rest) = marker.strip_suffix(']')?.split_once('/')?;
    let (owner, nonce) = rest.split_once('.')?;
    let is_code = |code: &str, length| {
        code.len() == length && code.chars().all(|c| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(c))
    };
    (is_code(cluster, 8) && is_code(owner, 8) && is_code(nonce, 10)).then_some((cluster, owner, nonce))
}

#[tokio::test]
async fn a_token_has_just_the_scope_that_was_asked_for_and_a_marker() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["goals:read", "analytics:read"], "websiteIds": [WEBSITE] })).await;
    w.apply("named", json!({ "permissions": ["analytics:read"], "tokenName": "Reports of the week" })).await;
    let token = w.issued("agent").await.token;
    let permissions: BTreeSet<_> = token.permissions.iter().map(String::as_str).collect();
    assert_eq!(permissions, ["analytics:read", "goals:read"].into());
    assert_eq!(token.website_ids, [WEBSITE]);
    assert_eq!(token.created_by, Some(w.account.credential_id()));

    let name = token.name.unwrap();
    assert!(name.starts_with(&format!("{}/agent [k8s:", w.namespace)), "{name}");
    let (cluster, owner, nonce) = marker(&name).unwrap();
    let named = w.issued("named").await.token;
    assert_eq!(named.website_ids, [""; 0]);
    let name = named.name.unwrap();
    assert!(name.starts_with("Reports of the week [k8s:"), "{name}");
    let (same_cluster, other_owner, other_nonce) = marker(&name).unwrap();
    assert_eq!(cluster, same_cluster);
    assert_ne!((owner, nonce), (other_owner, other_nonce));
}

#[tokio::test]
async fn the_longest_of_names_has_a_token_and_its_events() {
    let w = World::new().await;
    let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    w.apply(&name, json!({ "permissions": ["analytics:read"] })).await;
    w.issued(&name).await;
    let event = eventually("its event", WAIT, || async { w.events(&name).await.into_iter().next() }).await;
    assert_eq!((event.reason.as_deref(), event.type_.as_deref()), (Some("Issued"), Some("Normal")));
}

#[rstest]
#[tokio::test]
async fn status_tells_all_about_the_token(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let before = Timestamp::now();
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued("agent").await;
    let (resource, token) = (&issued.resource, &issued.token);
    let status = resource.status.clone().unwrap();
    assert_eq!(status.observed_generation, resource.metadata.generation);
    assert_eq!(status.token_id.as_ref(), Some(&token.id));
    assert_eq!(status.display_key.as_ref(), Some(&token.display_key));
    assert_eq!(status.token_name, token.name);
    assert_eq!(status.created_at.unwrap().0.as_second(), token.created_at.as_second());
    assert_eq!(status.last_used_at, None);
    assert_eq!(status.secret_name.as_deref(), Some("agent"));
    let issued_at = status.issued_at.unwrap().0;
    assert!(issued_at.as_second() >= before.as_second() && issued_at <= Timestamp::now(), "{issued_at}");
    assert_eq!((status.next_rotation_at, status.expires_at, status.retiring.len()), (None, None, 0));

    for condition in &status.conditions {
        assert_eq!(condition.observed_generation, resource.metadata.generation, "{condition:?}");
        assert_eq!(
            condition.status == "True",
            condition.type_ == "Ready",
            "kstatus takes this for settled: {condition:?}"
        );
    }
    assert!(resource.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER_REVOKE));
    let (_, _, nonce) = marker(token.name.as_ref().unwrap()).unwrap();
    assert!(resource.annotations()[names::ATTEMPTS].contains(nonce));
    w.event("agent", "Issued").await;
}

#[rstest]
#[tokio::test]
async fn the_secret_says_whose_key_it_holds(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued("agent").await;
    let (secret, token) = (&issued.secret, &issued.token);
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.data.as_ref().unwrap().len(), 1);
    assert_eq!(text_in(secret, "token"), token.key);
    assert_eq!(secret.labels()[names::MANAGED_BY], names::MANAGER);
    let annotations = secret.annotations();
    assert_eq!(annotations[names::OWNER], format!("{}/agent", w.kind.name()));
    assert_eq!(annotations[names::TOKEN_ID], token.id);
    let (_, _, nonce) = marker(token.name.as_ref().unwrap()).unwrap();
    assert_eq!(annotations[names::ATTEMPT], nonce);
    for name in [names::ISSUED_AT, names::SPEC_HASH, names::KEY_SHA256] {
        assert!(!annotations[name].is_empty(), "{name}");
    }
    assert!(!annotations.contains_key(names::PREVIOUS));
    // The garbage collector would take restored Secrets away before their owners are back.
    assert_eq!(secret.owner_references(), []);
}

#[rstest]
#[tokio::test]
async fn the_secret_has_what_its_template_asks_for(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let secret = json!({
        "name": "credentials",
        "key": "KEY",
        "labels": { "team": "growth" },
        "annotations": { "example.com/contact": "us" },
        "data": {
            ".env": "T=$(TOKEN)\nI=$(TOKEN_ID)\nD=$(DISPLAY_KEY)\nU=$(BASE_URL)\n",
            "twice": "$(TOKEN)$(TOKEN)",
            "literal": "$$(TOKEN) $(OTHER) $TOKEN 100%",
        },
    });
    w.apply("agent", json!({ "permissions": ["analytics:read"], "secret": secret })).await;
    let issued = w.issued("agent").await;
    let (secret, token) = (&issued.secret, &issued.token);
    assert_eq!(secret.name_any(), "credentials");
    assert_eq!(issued.resource.status.unwrap().secret_name.as_deref(), Some("credentials"));
    assert_eq!(text_in(secret, "KEY"), token.key);
    let url = sandbox().base_url();
    let lines = format!("T={}\nI={}\nD={}\nU={url}\n", token.key, token.id, token.display_key);
    assert_eq!(text_in(secret, ".env"), lines);
    assert_eq!(text_in(secret, "twice"), token.key.repeat(2));
    assert_eq!(text_in(secret, "literal"), "$(TOKEN) $(OTHER) $TOKEN 100%");
    assert_eq!(secret.data.as_ref().unwrap().len(), 4);
    assert_eq!(secret.labels()["team"], "growth");
    assert_eq!(secret.annotations()["example.com/contact"], "us");
}

#[rstest]
#[tokio::test]
async fn kubectl_shows_what_people_look_for(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    let show = async |args: &[&str]| {
        let output = w.cluster.kubectl(args).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = text.lines().map(words).collect();
        (lines[0].join(" "), lines[1].clone())
    };
    let (plural, its_own) = match kind {
        AccessToken => ("dft", "TOKEN ID"),
        WebsiteKey => ("dfk", "KEY ID WEBSITE"),
    };
    let (header, line) = show(&["get", plural, "-n", &w.namespace]).await;
    assert_eq!(header, "NAME READY REASON KEY SECRET LAST USED AGE");
    assert_eq!(line[..5], ["agent", "True", "Issued", &token.display_key, "agent"]);
    let (header, line) = show(&["get", plural, "-n", &w.namespace, "-o", "wide"]).await;
    assert_eq!(header, format!("NAME READY REASON KEY SECRET LAST USED AGE {its_own} ACCOUNT NEXT ROTATION"));
    assert!(line.contains(&token.id) && line.contains(&w.name), "{line:?}");

    let managed = i32::from(kind == AccessToken);
    eventually("the account counts the token", WAIT, || async {
        let tokens = w.account_resource().await.status.unwrap_or_default().tokens;
        if tokens.as_ref().is_some_and(|t| t.managed == managed) { Ok(()) } else { Err(tokens) }
    })
    .await;
    let (header, line) = show(&["get", "dfa", &w.name]).await;
    assert_eq!(header, "NAME READY REASON TOKENS UNCLAIMED AGE");
    // The credential is a token, too.
    assert_eq!(line[..5], [&*w.name, "True", "Connected", &*format!("{}/20", 1 + managed), "0"]);
    assert!(condition(&w.account_resource().await, "Ready").is_some_and(|c| c.observed_generation == Some(1)));
}

#[rstest]
#[tokio::test]
async fn a_token_costs_one_post_three_writes_and_a_dry_run(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let spec = Some(json!({ "pollInterval": "1h" }));
    let w = World::with(Setup { spec, ..Setup { kind, ..Setup::default() } }).await;
    w.account_says("Connected").await;
    // A website is listed once there is somebody to list it for.
    w.apply("first", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("first", "Suspended").await;
    eventually("the first list", WAIT, || async {
        if w.count(Operation::ListAccessTokens) > 0 { Ok(()) } else { Err(()) }
    })
    .await;
    // The audit log tells of a write after its answer.
    eventually("what the first one cost is told", WAIT, || async {
        let writes = w.writes();
        if writes == ["update datafastaccesstokens/status"] { Ok(()) } else { Err(writes) }
    })
    .await;
    let (before, written) = (w.requests().len(), w.writes().len());
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    // Whatever else it were to cost would be seen by the time that another one is there.
    let other = w.neighbour().await;
    other.apply("other", json!({ "permissions": ["analytics:read"] })).await;
    other.issued("other").await;

    let operations: Vec<_> = w.requests()[before..].iter().map(|request| request.operation).collect();
    assert_eq!(operations, [Some(Operation::CreateAccessToken); 2]);
    let mut writes = w.writes().split_off(written);
    writes.iter_mut().for_each(|write| *write = write.split_once(' ').unwrap().1.to_owned());
    writes.sort();
    let expected =
        ["datafastaccesstokens", "datafastaccesstokens/status", "secrets", "secrets, dry run"].map(str::to_owned);
    assert_eq!(writes, expected);
}

#[tokio::test]
async fn one_list_per_poll_serves_all_resources_of_an_account() {
    let w = World::new().await;
    let start = Timestamp::now();
    let names: Vec<_> = (1..=8).map(|n| format!("agent-{n}")).collect();
    for name in &names {
        w.apply(name, json!({ "permissions": ["analytics:read"] })).await;
    }
    for name in &names {
        w.issued(name).await;
    }
    w.polls(2).await;
    let counts = w.account.counts();
    let seconds = Timestamp::now().duration_since(start).as_secs();
    assert!(
        counts[&Operation::ListAccessTokens] <= u64::try_from(seconds).unwrap() / 10 + 2,
        "{counts:?}, {seconds} s"
    );
    assert_eq!(counts[&Operation::CreateAccessToken], 8);
}

#[tokio::test]
async fn a_long_name_is_cut_and_keeps_its_marker() {
    let w = World::new().await;
    let name = "a".repeat(253);
    w.apply(&name, json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued(&name).await;
    let token_name = issued.token.name.unwrap();
    assert_eq!(token_name.chars().count(), 58 + 35, "{token_name}");
    assert!(token_name.starts_with(&format!("{}/aaaa", w.namespace)) && marker(&token_name).is_some(), "{token_name}");
    assert_eq!(issued.secret.name_any(), name);
}
