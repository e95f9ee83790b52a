//! The account resource: its credential, its slots, and what its resources hear of them.

use std::fs;

use data_encoding::BASE64;
use datafast_harness::{condition, eventually};
use datafast_operator::api::TokenCounts;
use datafast_sandbox::{AccountOptions, Fault, FaultBody, ForeignToken, Kind, Operation};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{ARGS, Plane, Setup, WAIT, World, datafast_by_tls, start, start_with};

fn permissions() -> Value {
    json!({ "permissions": ["analytics:read"] })
}

async fn wait_counts(w: &World, expected: [i32; 5]) {
    eventually(&format!("the account counts {expected:?}"), WAIT, || async {
        let counts: Option<TokenCounts> = w.account_resource().await.status.unwrap_or_default().tokens;
        let is_right = counts.as_ref().is_some_and(|c| {
            [c.total, c.managed, c.retiring, c.unclaimed, c.foreign] == expected
                && c.usage == format!("{}/{}", c.total, c.limit)
        });
        if is_right { Ok(()) } else { Err(counts) }
    })
    .await;
}

#[tokio::test]
async fn a_resource_waits_for_its_account() {
    let mut w = World::new().await.neighbour().await;
    // Nobody has heard of that account yet.
    w.name = w.namespace.clone();
    w.apply("agent", permissions()).await;
    let ready = w.says("agent", "AccountNotFound").await;
    assert!(ready.status == "False" && ready.message.contains(&w.name), "{ready:?}");
    w.set_credential(&w.account.credential()).await;
    w.set_account(json!({})).await;
    w.issued_alone("agent").await;
    assert_eq!(w.posts(), 1);
}

#[tokio::test]
async fn a_shorter_poll_interval_takes_effect_at_once() {
    let w = World::with(Setup { spec: Some(json!({ "pollInterval": "1h" })), ..Setup::default() }).await;
    w.account_says("Connected").await;
    w.set_account(json!({ "pollInterval": "10s" })).await;
    w.polls(2).await;
}

#[tokio::test]
async fn a_missing_credential_is_named_and_found_when_it_comes() {
    let w = World::new().await;
    w.account_says("Connected").await;
    w.credentials().delete(&w.name, &DeleteParams::default()).await.unwrap();
    let ready = w.account_says("CredentialsNotFound").await;
    assert!(ready.status == "False" && ready.message.contains(&w.name), "{ready:?}");
    w.apply("agent", permissions()).await;
    assert_eq!(w.says("agent", "AccountNotReady").await.status, "False");
    assert_eq!(w.posts(), 0);
    w.set_credential(&w.account.credential()).await;
    w.issued_alone("agent").await;
}

#[tokio::test]
async fn a_missing_entry_is_a_missing_credential() {
    let w = World::new().await;
    w.set_account(json!({ "credentialsSecretRef": { "name": w.name, "key": "other" } })).await;
    let ready = w.account_says("CredentialsNotFound").await;
    assert!(ready.message.contains("other"), "{ready:?}");
    w.set_account(json!({})).await;
    w.account_says("Connected").await;
}

async fn is_no_credential(credential: &'static str, reason: &str) {
    let w = World::with(Setup { credential: Some(credential), ..Setup::default() }).await;
    assert_eq!(w.account_says(reason).await.status, "False");
    w.apply("agent", permissions()).await;
    assert_eq!(w.says("agent", "AccountNotReady").await.status, "False");
    assert_eq!(w.posts(), 0);
    w.set_credential(&w.account.credential()).await;
    w.issued_alone("agent").await;
}

#[tokio::test]
async fn an_empty_credential_is_none() {
    is_no_credential("", "CredentialsNotFound").await;
}

#[tokio::test]
async fn what_cannot_be_a_credential_is_never_sent() {
    is_no_credential("two words", "CredentialsNotFound").await;
}

/// As people make Secrets.
#[tokio::test]
async fn white_space_around_a_credential_is_no_part_of_it() {
    let around = [("", "\n"), ("", "\r\n"), ("\u{feff}", "\r\n"), (" ", "\t")];
    futures::future::join_all(around.map(|(before, after)| async move {
        let w = World::with(Setup { credential: Some("dft_nobody"), ..Setup::default() }).await;
        w.set_credential(&format!("{before}{}{after}", w.account.credential())).await;
        w.account_says("Connected").await;
    }))
    .await;
}

#[tokio::test]
async fn a_credential_that_is_no_token_alone_is_never_sent_and_named_by_what_it_is() {
    let w = World::new().await;
    let token = w.account.credential();
    w.account_says("Connected").await;
    for (entry, words) in [
        (format!("'{token}'").into_bytes(), "is in quotes"),
        (format!("TOKEN={token}\n").into_bytes(), "holds a line NAME=token of a .env file"),
        (BASE64.encode(token.as_bytes()).into_bytes(), "is base64 of a token: put the token itself into stringData"),
        (format!("Bearer {token}").into_bytes(), "holds more than a token"),
        (utf_16(&token), "holds UTF-16 text: save it as plain ASCII"),
        (Vec::new(), "is empty: put the token there"),
    ] {
        let patch = json!({ "data": { "token": BASE64.encode(&entry) } });
        w.credentials().patch(&w.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        let ready = eventually(words, WAIT, || async {
            let ready = w.account_says("CredentialsNotFound").await;
            if ready.message.contains(words) { Ok(ready) } else { Err(ready) }
        })
        .await;
        assert!(ready.message.contains(&w.name) && ready.message.contains("\"token\""), "{ready:?}");
        assert!(!ready.message.contains(&token), "{ready:?}");
    }
    let mask = w.live_tokens()[0].display_key.clone();
    assert!(w.requests().iter().all(|request| request.bearer.as_ref() == Some(&mask)), "nothing else was sent");
    w.set_credential(&token).await;
    w.account_says("Connected").await;
}

/// As PowerShell writes a file.
fn utf_16(text: &str) -> Vec<u8> {
    let marked = format!("\u{feff}{text}\r\n");
    marked.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// What stands in between may ask for a password of its own: that says nothing of the credential.
#[tokio::test]
async fn a_gateway_that_lets_nobody_through_rejects_no_credential() {
    let w = World::new().await;
    w.apply("agent", permissions()).await;
    w.issued("agent").await;
    w.set_fault(Fault::new(Operation::Any, Kind::Status { status: 401, body: FaultBody::Html }));
    let ready = w.account_says("ApiUnavailable").await;
    assert!(ready.message.contains("401") && ready.message.contains("proxy"), "{ready:?}");
    assert!(condition(&w.account_resource().await, "Stalled").is_none_or(|stalled| stalled.status == "False"));
    w.account.clear_faults();
    w.account_says("Connected").await;
    w.issued_alone("agent").await;
}

#[tokio::test]
async fn a_credential_that_datafast_does_not_know_is_rejected() {
    is_no_credential("dft_nobody", "CredentialsRejected").await;
}

#[tokio::test]
async fn a_website_key_is_no_credential() {
    let w = World::new().await;
    let key = w.account.add_website_key();
    w.set_credential(&key).await;
    let ready = w.account_says("CredentialsRejected").await;
    assert!(ready.message.contains("Website keys cannot call this route"), "it quotes DataFast: {ready:?}");
}

#[tokio::test]
async fn a_credential_that_may_not_list_is_rejected_with_the_reason() {
    let permissions = Some(vec!["api-keys:write".to_owned(), "analytics:read".to_owned()]);
    let account = AccountOptions { permissions, ..AccountOptions::default() };
    let w = World::with(Setup { account, ..Setup::default() }).await;
    let ready = w.account_says("CredentialsRejected").await;
    assert!(ready.message.contains("api-keys:read"), "it quotes DataFast: {ready:?}");
}

#[tokio::test]
async fn a_revoked_credential_stops_all_calls_and_takes_no_readiness() {
    let w = World::new().await;
    w.apply("agent", permissions()).await;
    let before = w.issued("agent").await;
    w.account.revoke_credential();
    w.account_says("CredentialsRejected").await;
    assert_eq!(w.says("agent", "AccountNotReady").await.status, "True", "the token still works");
    w.apply("new", permissions()).await;
    assert_eq!(w.says("new", "AccountNotReady").await.status, "False");
    assert_eq!(w.posts(), 1);

    // What the former credential made can't be deleted with the new one, but it goes on.
    let credential = w.account.replace_credential(&AccountOptions::default());
    w.set_credential(&credential).await;
    w.account_says("Connected").await;
    assert_eq!(w.issued("agent").await.token.id, before.token.id);
    w.issued("new").await;
    assert_eq!(w.posts(), 2);
}

#[tokio::test]
async fn a_changed_credential_takes_effect_without_a_restart() {
    let w = World::new().await;
    w.apply("agent", permissions()).await;
    w.issued("agent").await;
    let (_, key) = w.made_by_hand(&["*"]);
    w.set_credential(&key).await;
    let mask = w.live_tokens().into_iter().find(|token| token.key == key).unwrap().display_key;
    eventually("the new credential is used", WAIT, || async {
        w.requests().last().filter(|request| request.bearer.as_ref() == Some(&mask)).map(drop)
    })
    .await;
    w.apply("other", permissions()).await;
    let token = w.issued("other").await.token;
    assert_ne!(token.created_by, Some(w.account.credential_id()));
}

#[tokio::test]
async fn plain_http_is_refused_unless_it_is_allowed() {
    let plane = Plane::take().await;
    let _operator = start(&plane.cluster, None, &["--leader-elect=false"]).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", permissions()).await;
    let ready = w.says("agent", "AccountNotReady").await;
    assert_eq!(ready.status, "False");
    eventually("the account says why", WAIT, || async {
        let ready = condition(&w.account_resource().await, "Ready");
        ready.filter(|ready| ready.status == "False" && ready.message.contains("--allow-plain-http"))
    })
    .await;
    assert_eq!(w.requests(), [], "the credential never left");
}

#[tokio::test]
async fn a_full_account_is_waited_for_without_asking_for_more() {
    let account = AccountOptions { token_limit: Some(2), ..AccountOptions::default() };
    let w = World::with(Setup { account, spec: Some(json!({ "tokenLimit": 2 })), ..Setup::default() }).await;
    w.apply("first", permissions()).await;
    w.issued("first").await;
    wait_counts(&w, [2, 1, 0, 0, 1]).await;
    w.apply("second", permissions()).await;
    assert_eq!(w.says("second", "WaitingForSlot").await.status, "False");
    w.event("second", "WaitingForSlot").await;
    w.polls(2).await;
    assert_eq!(w.posts(), 1);
    assert_eq!(w.account_resource().await.status.unwrap().waiting, Some(1));
    w.delete("first").await;
    w.issued_alone("second").await;
    assert_eq!(w.posts(), 2);
}

#[tokio::test]
async fn a_limit_that_only_datafast_knows_is_a_full_account_too() {
    let account = AccountOptions { token_limit: Some(1), ..AccountOptions::default() };
    let w = World::with(Setup { account, ..Setup::default() }).await;
    w.apply("agent", permissions()).await;
    assert_eq!(w.says("agent", "WaitingForSlot").await.status, "False");
    let posts = w.posts();
    w.polls(2).await;
    assert!(w.posts() <= posts + 3, "{} more requests while the account is full", w.posts() - posts);
    assert_eq!(w.issued_tokens(), []);
}

#[tokio::test]
async fn the_account_counts_whose_its_tokens_are() {
    let w = World::new().await;
    w.account_says("Connected").await;
    wait_counts(&w, [1, 0, 0, 0, 1]).await;
    w.add_token(ForeignToken::default());
    w.add_token(ForeignToken {
        name: Some("of another cluster [k8s:00000000/00000000.0000000000]".into()),
        ..ForeignToken::default()
    });
    w.apply("agent", permissions()).await;
    w.issued("agent").await;
    wait_counts(&w, [4, 1, 0, 0, 3]).await;
    w.apply("agent", json!({ "permissions": ["goals:read"] })).await;
    wait_counts(&w, [5, 1, 1, 0, 3]).await;
    assert_eq!(w.deletes(), 0, "nothing of others is touched");
}

#[tokio::test]
async fn two_account_resources_may_lead_to_one_account() {
    let w = World::new().await;
    let mut other = w.neighbour().await;
    other.name = other.namespace.clone();
    other.set_credential(&w.account.credential()).await;
    other.set_account(json!({})).await;
    w.apply("one", permissions()).await;
    other.apply("two", permissions()).await;
    let one = w.issued("one").await;
    let two = other.issued("two").await;
    // Each lists the other's token, and knows that a Secret of this cluster holds its key.
    wait_counts(&w, [3, 2, 0, 0, 1]).await;
    wait_counts(&other, [3, 2, 0, 0, 1]).await;
    w.horizon_passes().await;
    assert_eq!(w.issued("one").await.secret, one.secret);
    assert_eq!(other.issued("two").await.secret, two.secret);
    assert_eq!((w.posts(), w.deletes()), (2, 0));
    assert_eq!(w.account_resource().await.status.unwrap().unclaimed, []);
}

/// As where a mounted bundle is renewed.
#[tokio::test]
async fn a_ca_bundle_that_is_replaced_is_used_without_a_restart() {
    let plane = Plane::take().await;
    let bundle = plane.cluster.dir().join("bundle.pem");
    let ((former, its_certificate), (next, next_certificate)) =
        (datafast_by_tls(&["localhost"]).await, datafast_by_tls(&["localhost"]).await);
    fs::write(&bundle, its_certificate).unwrap();
    let trusted = [("SSL_CERT_FILE", bundle.to_str().unwrap())];
    let _operator = start_with(&plane.cluster, None, &ARGS, &trusted).await;
    let spec = Some(json!({ "baseUrl": former }));
    let w = World::on(plane.cluster.clone(), Setup { spec, ..Setup::default() }).await;
    w.account_says("Connected").await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    w.set_account(json!({ "baseUrl": next })).await;
    let ready = w.account_says("ApiUnavailable").await;
    assert!(ready.message.contains("invalid peer certificate"), "{ready:?}");
    fs::write(&bundle, next_certificate).unwrap();
    w.account_says("Connected").await;
    assert_eq!(w.issued("agent").await.token.id, before.token.id);
}
