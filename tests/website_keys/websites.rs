//! Each website has lists and troubles of its own, and accounts say whether there are keys at all.

use super::*;

async fn apply_elsewhere(w: &World, name: &str) {
    let mut manifest = w.manifest(name, json!({}));
    manifest["spec"]["websiteId"] = json!(OTHER_WEBSITE);
    apply(&w.objects(), name, &manifest).await;
}

fn lists_of(w: &World, website: &str) -> usize {
    times_of_lists(w, website).len()
}

fn times_of_lists(w: &World, website: &str) -> Vec<Timestamp> {
    let path = format!("/websites/{website}/apikeys");
    let is_it = |r: &LoggedRequest| r.method == "GET" && r.path.ends_with(&path);
    w.account.requests().into_iter().filter(is_it).map(|list| list.at).collect()
}

#[tokio::test]
async fn each_website_in_use_is_listed_once_per_poll_and_others_never() {
    let w = world().await;
    w.account_says("Connected").await;
    w.account.add_website_key_of(OTHER_WEBSITE, ForeignKey::default());
    for name in ["a", "b", "c"] {
        w.apply(name, json!({})).await;
        w.issued(name).await;
    }
    let tokens = || w.account.count(Operation::ListAccessTokens);
    let before = (tokens(), lists_of(&w, WEBSITE));
    w.polls(3).await;
    let (of_tokens, of_keys) = (tokens() - before.0, lists_of(&w, WEBSITE) - before.1);
    assert!((3..=4).contains(&of_tokens) && (3..=4).contains(&of_keys), "{of_tokens} and {of_keys} lists");
    assert_eq!(lists_of(&w, OTHER_WEBSITE), 0);

    apply_elsewhere(&w, "elsewhere").await;
    w.issued("elsewhere").await;
    assert!(lists_of(&w, OTHER_WEBSITE) > 0);
    w.delete("elsewhere").await;
    wait_gone(&w.objects(), "elsewhere", WAIT).await;
    w.polls(1).await;
    let listed = lists_of(&w, OTHER_WEBSITE);
    w.polls(2).await;
    assert_eq!(lists_of(&w, OTHER_WEBSITE), listed, "nobody asks for it any more");
}

#[tokio::test]
async fn what_is_wrong_with_one_website_is_no_matter_of_others() {
    let w = world().await;
    w.apply("agent", json!({})).await;
    let before = w.issued("agent").await;
    let broken = Kind::Status { status: 503, body: FaultBody::Html };
    let fault = w.account.set_fault(Fault::new(Operation::Any, broken).of_website(OTHER_WEBSITE));
    apply_elsewhere(&w, "elsewhere").await;
    assert_eq!(w.says("elsewhere", "ApiUnavailable").await.status, "False");
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.renewed("agent", &before).await;
    let tokens = w.about(Subject::AccessToken);
    tokens.apply("token", json!({ "permissions": ["analytics:read"] })).await;
    tokens.issued("token").await;
    w.account_says("Connected").await;
    w.account.release(fault);
    w.issued("elsewhere").await;
}

#[tokio::test]
async fn a_website_that_datafast_does_not_know_is_told_and_lets_go_when_asked() {
    let setup = AccountOptions {
        websites: vec![Website { id: OTHER_WEBSITE.into(), domain: "example.com".into() }],
        ..Default::default()
    };
    let w = World::with(Setup { kind: Subject::WebsiteKey, account: setup, ..Setup::default() }).await;
    w.apply("agent", json!({})).await;
    let ready = w.says("agent", "Rejected").await;
    assert!(ready.message.contains("website"), "{}", ready.message);
    assert_eq!(w.posts(), 0);
    let lists = eventually("it is asked for four times", WAIT, || async {
        let lists = times_of_lists(&w, WEBSITE);
        if lists.len() >= 4 { Ok(lists) } else { Err(lists) }
    })
    .await;
    let pauses: Vec<_> = lists.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    let grow = pauses.iter().zip([1, 2, 4]).all(|(pause, least)| *pause >= SignedDuration::from_secs(least));
    assert!(grow, "it is asked for ever less often: {pauses:?}");
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
}

/// A world whose account allows this.
async fn allowing(allow: Value) -> World {
    let spec = Some(json!({ "allow": allow }));
    World::with(Setup { kind: Subject::WebsiteKey, spec, ..Setup::default() }).await
}

#[tokio::test]
async fn an_account_hands_out_no_website_keys_unless_it_says_so() {
    let w = allowing(json!({ "websiteKeys": false })).await;
    w.apply("agent", json!({})).await;
    let ready = w.says("agent", "NotAllowed").await;
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("allow.websiteKeys"), "{}", ready.message);
    assert!(ready.message.contains("DataFastAccessToken instead"), "what to do: {}", ready.message);
    let stalled = condition(&w.resource("agent").await, "Stalled").expect("a person must act");
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "NotAllowed"));
    let tokens = w.about(Subject::AccessToken);
    tokens.polls(1).await;
    assert_eq!((lists_of(&w, WEBSITE), w.posts()), (0, 0), "what is not allowed is not asked of DataFast");
    tokens.apply("token", json!({ "permissions": ["analytics:read"] })).await;
    tokens.issued("token").await;

    w.set_account(json!({ "allow": { "websiteKeys": true } })).await;
    let before = w.issued("agent").await;
    w.set_account(json!({ "allow": { "websiteKeys": false } })).await;
    w.says("agent", "NotAllowed").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.look_at("agent").await;
    assert_eq!(w.secret("agent").await, before.secret, "what was issued before stays");
    assert_eq!((w.posts(), w.deletes(), w.issued_tokens().len()), (1, 0, 1));
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

#[tokio::test]
async fn a_key_beyond_the_share_of_its_namespace_costs_no_list() {
    let w = allowing(json!({ "maxKeysPerNamespace": 1 })).await;
    w.apply("agent", json!({})).await;
    w.issued("agent").await;
    apply_elsewhere(&w, "elsewhere").await;
    let ready = w.says("elsewhere", "NotAllowed").await;
    assert!(ready.message.contains("1 website key,") && ready.message.contains("allow.maxKeysPerNamespace"));
    w.polls(2).await;
    assert_eq!(lists_of(&w, OTHER_WEBSITE), 0);
    w.delete("agent").await;
    w.issued("elsewhere").await;
    assert_eq!(w.posts(), 2);
}

#[tokio::test]
async fn an_account_allows_websites_and_limits_only_its_tokens() {
    let allow = json!({ "websiteIds": [WEBSITE], "maxTokensPerNamespace": 1 });
    let w = allowing(allow).await;
    for name in ["a", "b"] {
        w.apply(name, json!({})).await;
        w.issued(name).await;
    }
    apply_elsewhere(&w, "elsewhere").await;
    let ready = w.says("elsewhere", "NotAllowed").await;
    assert!(ready.message.contains("allow.websiteIds") && ready.message.contains(OTHER_WEBSITE), "{}", ready.message);
    w.polls(1).await;
    assert_eq!(lists_of(&w, OTHER_WEBSITE), 0, "what is not allowed is not asked of DataFast");
    let tokens = w.about(Subject::AccessToken);
    tokens.apply("token", json!({ "permissions": ["analytics:read"], "websiteIds": [WEBSITE] })).await;
    tokens.issued("token").await;
}

#[tokio::test]
async fn a_token_and_a_key_of_one_name_keep_out_of_each_others_secret() {
    let w = world().await;
    let tokens = w.about(Subject::AccessToken);
    tokens.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = tokens.issued("agent").await;
    w.apply("agent", json!({})).await;
    let ready = w.says("agent", "SecretConflict").await;
    assert!(ready.message.contains("DataFastAccessToken/agent"), "{}", ready.message);
    assert_eq!((w.posts(), w.issued_tokens()), (0, vec![]));
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(tokens.issued("agent").await.token.id, token.token.id);

    let mut manifest = w.manifest("agent", json!({ "secret": { "name": "of-the-key" } }));
    manifest["metadata"]["name"] = json!("agent");
    apply(&w.objects(), "agent", &manifest).await;
    w.issued("agent").await;
    tokens.delete("agent").await;
    wait_gone(&tokens.objects(), "agent", WAIT).await;
    w.polls(1).await;
    w.issued("agent").await;
}

#[tokio::test]
async fn an_unclaimed_key_is_reported() {
    let w = world().await;
    w.apply("agent", json!({})).await;
    w.apply("stays", json!({})).await;
    let (left, _) = (w.issued("agent").await, w.issued("stays").await);
    w.annotate("agent", json!({ names::ABANDON: "true" })).await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    eventually("the account tells of it", WAIT, || async {
        let status = w.account_resource().await.status.unwrap_or_default();
        let is_told = status.unclaimed.iter().any(|key| key.token_id == left.token.id);
        if is_told && status.tokens.as_ref().is_some_and(|tokens| tokens.unclaimed == 1) { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_website_never_changes() {
    let w = world().await;
    w.apply("agent", json!({})).await;
    let patch = Patch::Merge(json!({ "spec": { "websiteId": OTHER_WEBSITE } }));
    let refused = w.objects().patch("agent", &PatchParams::default(), &patch).await;
    let refusal = server_error(refused);
    assert!(refusal.message.contains("websiteId cannot be changed from"), "{}", refusal.message);
    w.issued("agent").await;
}
