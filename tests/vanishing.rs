//! Tokens that the list lacks: deleted at DataFast, or out of sight of the account's credential. Their keys tell which.

use datafast_harness::{condition, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, FaultBody, Kind, LoggedRequest, Operation};
use jiff::SignedDuration;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Clocked, Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World,
};

async fn issued(w: &World, names: &[&str]) -> Vec<Issued> {
    let mut issued = Vec::new();
    for name in names {
        w.apply(name, json!({ "permissions": ["analytics:read"] })).await;
        issued.push(w.issued(name).await);
    }
    issued
}

/// Resources with tokens that are so old that every list must show them.
async fn settled(w: &Clocked, names: &[&str]) -> Vec<Issued> {
    let settled = issued(w, names).await;
    w.advance_horizon();
    settled
}

/// The calls that try a key.
fn probes(w: &World) -> Vec<LoggedRequest> {
    w.requests().into_iter().filter(is_probe).collect()
}

fn is_probe(request: &LoggedRequest) -> bool {
    let with_key = request.bearer.as_ref().is_some_and(|bearer| bearer.starts_with("df_"));
    request.operation == Some(Operation::GetAccount) || with_key
}

/// A credential with all rights that sees none of the former one's tokens. Returns its key.
fn successor(w: &World) -> String {
    w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::ListOwn));
    w.another_credential()
}

/// Waits until the account doubts its list, for this many tokens.
async fn doubts(w: &World, number: usize) {
    // What was issued just before a list may not be missed by it yet.
    let ready = eventually(&format!("the account lacks {number} tokens"), WAIT, || async {
        let ready = w.account_says("TokensVanished").await;
        if ready.message.contains(&format!("{number} tokens")) { Ok(ready) } else { Err(ready) }
    })
    .await;
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("former credential"), "{ready:?}");
    let stalled = condition(&w.account_resource().await, "Stalled").expect("a person must act");
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "TokensVanished"));
}

/// Waits until a resource says that its token works unseen, and asserts that nothing changed for whoever uses it.
async fn works_unseen(w: &World, before: &Issued) {
    let name = before.resource.name_any();
    let ready = eventually(&format!("{name} knows that its token is out of sight"), WAIT, || async {
        let ready = w.says(&name, "Issued").await;
        if ready.message.contains("can't see it") { Ok(ready) } else { Err(ready) }
    })
    .await;
    assert_eq!(ready.status, "True");
    assert!(ready.message.contains("give the account the credential back that issued it"), "{ready:?}");
    assert_eq!(w.secret(&name).await, before.secret);
}

#[rstest]
#[tokio::test]
async fn one_token_that_is_gone_is_replaced_and_the_account_has_no_doubts(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let before = settled(&w, &["one", "two", "three"]).await;
    let connected = w.account_says("Connected").await;
    w.account.delete_behind_back(&before[0].token.id);
    w.renewed("one", &before[0]).await;
    w.event("one", "TokenVanished").await;
    w.polls(1).await;
    assert_eq!(w.account_says("Connected").await.last_transition_time, connected.last_transition_time);
    assert_eq!(w.account_events("TokensVanished").await, []);
    let is_of_the_lost_key = |probe: &LoggedRequest| probe.bearer.as_ref() == Some(&before[0].token.display_key);
    assert!(probes(&w).len() <= 1 && probes(&w).iter().all(is_of_the_lost_key), "{:?}", probes(&w));
    for other in &before[1..] {
        assert_eq!(w.issued(&other.resource.name_any()).await.secret, other.secret);
    }
    assert_eq!((w.posts(), w.deletes()), (4, 0));
}

/// One list after another must lack it, whether one has ever shown it or not.
#[rstest]
#[tokio::test]
async fn a_list_that_lacks_a_token_once_replaces_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let (young, old) = (Clocked::of(kind).await, Clocked::of(kind).await);
    futures::join!(lacks_once(&young, 0), lacks_once(&old, 1));
}

async fn lacks_once(w: &Clocked, lists: usize) {
    let before = issued(w, &["agent"]).await;
    w.polls(lists).await;
    w.advance_horizon();
    let hour = Kind::ListLag { seconds: 3600.0 };
    w.set_fault(Fault::new(Operation::ListAccessTokens, hour).once());
    w.polls(2).await;
    w.look_at("agent").await;
    assert_eq!(w.issued("agent").await.token.id, before[0].token.id, "listed before: {lists}");
    assert_eq!((w.posts(), w.deletes()), (1, 0), "listed before: {lists}");
}

#[rstest]
#[tokio::test]
async fn several_tokens_that_are_gone_are_replaced_once_their_keys_have_been_tried(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    // Only an operator of all namespaces publishes events about accounts.
    let w = World::of(kind).await;
    let before = issued(&w, &["one", "two", "three", "other"]).await;
    w.horizon_passes().await;
    let (gone, other) = (&before[..3], &before[3]);
    let asked = w.requests().len();
    for before in gone {
        w.account.delete_behind_back(&before.token.id);
    }
    doubts(&w, 3).await;
    eventually("an event tells of it", WAIT, || async {
        let events = w.account_events("TokensVanished").await;
        if events.len() == 1 { Ok(()) } else { Err(events) }
    })
    .await;
    for before in gone {
        let name = before.resource.name_any();
        w.renewed(&name, before).await;
        w.event(&name, "TokenVanished").await;
    }
    let mut tried: Vec<_> = probes(&w).into_iter().map(|probe| (probe.bearer.unwrap(), probe.status)).collect();
    tried.sort();
    let mut keys: Vec<_> = gone.iter().map(|before| (before.token.display_key.clone(), Some(401))).collect();
    keys.sort();
    assert_eq!(tried, keys);
    let of_interest = |r: &LoggedRequest| r.operation != Some(Operation::ListAccessTokens) || is_probe(r);
    let first = w.requests().into_iter().skip(asked).find(of_interest).unwrap();
    assert!(is_probe(&first), "no token before a key was tried: {first:?}");

    assert_eq!(w.account_says("Connected").await.status, "True");
    assert!(condition(&w.account_resource().await, "Stalled").is_none_or(|stalled| stalled.status == "False"));
    assert_eq!(w.issued("other").await.secret, other.secret);
    w.polls(2).await;
    assert_eq!((w.posts(), w.deletes(), probes(&w).len()), (7, 0, 3));
}

#[rstest]
#[tokio::test]
async fn tokens_that_another_credential_cannot_see_are_not_replaced(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = Clocked::of(kind).await;
    let before = settled(&w, &["one", "two", "three"]).await;
    w.set_credential(&successor(&w)).await;
    doubts(&w, 3).await;
    for before in &before {
        works_unseen(&w, before).await;
    }
    w.annotate("one", json!({ names::ROTATE: "1" })).await;
    w.polls(2).await;
    doubts(&w, 3).await;
    for before in &before {
        works_unseen(&w, before).await;
    }
    assert_eq!((w.posts(), w.deletes(), probes(&w).len()), (3, 0, 3), "each key is tried once in ten minutes");

    w.set_credential(&w.account.credential()).await;
    assert_eq!(w.account_says("Connected").await.status, "True");
    let rotated = w.renewed("one", &before[0]).await;
    assert_eq!(rotated.retiring(), [&*before[0].token.id], "what was asked for meanwhile is done now");
    for before in &before[1..] {
        let name = before.resource.name_any();
        eventually(&format!("{name} has nothing to complain of"), WAIT, || async {
            let issued = w.issued(&name).await;
            let ready = condition(&issued.resource, "Ready").unwrap();
            if ready.message.contains("holds token") { Ok(()) } else { Err(ready) }
        })
        .await;
        assert_eq!(w.issued(&name).await.secret, before.secret);
    }
    assert_eq!((w.posts(), w.deletes()), (4, 0));
}

/// Only DataFast itself can say that it does not know a key.
#[tokio::test]
async fn a_gateway_that_answers_401_to_a_key_does_not_have_it_replaced() {
    let w = Clocked::new().await;
    let before = settled(&w, &["only"]).await;
    let page = Kind::Status { status: 401, body: FaultBody::Html };
    w.set_fault(Fault::new(Operation::GetAccount, page));
    w.set_credential(&successor(&w)).await;
    let ready = w.says("only", "ApiUnavailable").await;
    assert!(ready.status == "True" && ready.message.contains("401"), "{ready:?}");
    w.polls(2).await;
    assert_eq!(w.secret("only").await, before[0].secret);
    assert_eq!((w.posts(), w.deletes()), (1, 0));
    w.account.clear_faults();
    w.set_fault(Fault::new(Operation::ListAccessTokens, Kind::ListOwn));
    w.advance(SignedDuration::from_mins(11));
    w.list().await;
    works_unseen(&w, &before[0]).await;
}

/// What is too little for the account to tell is still found out for the resource.
#[rstest]
#[tokio::test]
async fn a_single_token_that_the_credential_cannot_see_is_not_replaced(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = Clocked::of(kind).await;
    let before = settled(&w, &["only"]).await;
    w.set_credential(&successor(&w)).await;
    works_unseen(&w, &before[0]).await;
    w.polls(1).await;
    works_unseen(&w, &before[0]).await;
    assert_eq!((w.posts(), w.deletes(), probes(&w).len()), (1, 0, 1));
}

/// Deletes a resource whose token is hidden: it waits, and says for what.
async fn is_held_up(w: &World, before: &Issued) {
    let name = before.resource.name_any();
    w.delete(&name).await;
    let ready = eventually(&format!("the deletion of {name} waits"), WAIT, || async {
        let ready = condition(&w.resource(&name).await, "Ready").unwrap();
        if ready.message.starts_with("Deletion waits for") { Ok(ready) } else { Err(ready) }
    })
    .await;
    for word in [&*before.token.id, "another credential created it"] {
        assert!(ready.message.contains(word), "{word:?} in {ready:?}");
    }
    is_live(w, before);
}

fn is_live(w: &World, issued: &Issued) {
    assert!(w.live_tokens().iter().any(|token| token.id == issued.token.id));
}

/// As above, but that the list which lacks the token is the first, and nothing is known of the key yet.
#[tokio::test]
async fn a_token_is_not_lost_when_its_resource_is_deleted_before_its_key_was_tried() {
    let w = Clocked::new().await;
    let before = issued(&w, &["deleted", "stays"]).await;
    // A list has shown them, and they are old enough for each to show them.
    w.polls(1).await;
    w.advance_horizon();
    w.set_credential(&successor(&w)).await;
    doubts(&w, 2).await;
    is_held_up(&w, &before[0]).await;
    w.polls(1).await;
    w.resource("deleted").await;
    is_live(&w, &before[0]);
}

#[tokio::test]
async fn a_deletion_waits_for_the_credential_that_can_revoke_a_hidden_token() {
    let w = Clocked::new().await;
    let before = settled(&w, &["deleted", "stays"]).await;
    w.set_credential(&successor(&w)).await;
    doubts(&w, 2).await;
    works_unseen(&w, &before[0]).await;
    is_held_up(&w, &before[0]).await;
    w.polls(2).await;
    is_live(&w, &before[0]);
    assert_eq!(w.deletes(), 1, "DataFast is not asked at each list");

    w.set_credential(&w.account.credential()).await;
    wait_gone(&w.objects(), "deleted", WAIT).await;
    assert_eq!(w.issued("stays").await.token.id, before[1].token.id);
    assert!(w.secrets().get_opt("deleted").await.unwrap().is_none());
    assert!(w.live_tokens().iter().all(|token| token.id != before[0].token.id));
}

#[tokio::test]
async fn a_deletion_ends_when_the_hidden_token_was_deleted_by_hand() {
    let w = Clocked::new().await;
    let before = settled(&w, &["deleted", "stays"]).await;
    w.set_credential(&successor(&w)).await;
    doubts(&w, 2).await;
    w.polls(1).await;
    works_unseen(&w, &before[1]).await;
    is_held_up(&w, &before[0]).await;

    // Ten minutes later the keys are tried again, and the deletion is.
    w.advance(SignedDuration::from_mins(11));
    w.list().await;
    eventually("DataFast is asked again", WAIT, || async { (w.deletes() == 2).then_some(()) }).await;
    is_live(&w, &before[0]);
    w.look_at("stays").await;
    works_unseen(&w, &before[1]).await;

    w.account.delete_behind_back(&before[0].token.id);
    w.advance(SignedDuration::from_mins(11));
    w.list().await;
    wait_gone(&w.objects(), "deleted", WAIT).await;
    assert!(w.secrets().get_opt("deleted").await.unwrap().is_none());
    works_unseen(&w, &before[1]).await;
    is_live(&w, &before[1]);
    assert_eq!(w.posts(), 2);
}
