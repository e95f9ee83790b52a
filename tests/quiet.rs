//! Where nothing changes, nothing is written.

use datafast_harness::eventually;
use datafast_operator::api::names;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::json;

use crate::world::{
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World,
};

/// All that has been written in the world.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    versions: Vec<String>,
    writes: Vec<String>,
    of_account: usize,
}

pub(crate) async fn written(w: &World) -> Written {
    Written { versions: versions(w).await, writes: w.writes(), of_account: w.account_writes() }
}

/// Waits until nothing more is written: what a poll brings is written after its answer, and logged after that.
pub(crate) async fn settled(w: &World, poll: impl AsyncFn()) -> Written {
    eventually("nothing more is written", WAIT, || async {
        let before = written(w).await;
        poll().await;
        let after = written(w).await;
        if after == before { Ok(after) } else { Err(after) }
    })
    .await
}

/// The resource versions of all that the operator writes to but the account, which tests write to as well.
async fn versions(w: &World) -> Vec<String> {
    let (resources, secrets) = (w.list().await.unwrap(), w.secrets().list(&Default::default()).await.unwrap());
    let of_secrets = secrets.iter().filter_map(ResourceExt::resource_version);
    resources.iter().filter_map(ResourceExt::resource_version).chain(of_secrets).collect()
}

#[rstest]
#[tokio::test]
async fn what_has_settled_is_not_written_again(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("plain", json!({ "permissions": ["analytics:read"] })).await;
    let secret = json!({ "labels": { "a": "b" }, "data": { "env": "$(TOKEN) $$(TOKEN)" } });
    w.apply("rendered", json!({ "permissions": ["goals:read", "analytics:read"], "secret": secret })).await;
    w.apply("retiring", json!({ "permissions": ["analytics:read"] })).await;
    let rotation = json!({ "every": "24h", "overlap": "1h", "maxOverlap": "2h" });
    w.apply("in-use", json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
    w.create_secret("foreign", json!({}), json!({ "token": "not ours" })).await;
    w.apply("foreign", json!({ "permissions": ["analytics:read"] })).await;
    for name in ["plain", "rendered", "retiring"] {
        w.issued(name).await;
    }
    w.apply("retiring", json!({ "permissions": ["goals:read"] })).await;
    w.issued("retiring").await;
    let old = w.issued("in-use").await;
    w.annotate("in-use", json!({ names::ROTATE: "1" })).await;
    w.renewed("in-use", &old).await;
    let use_old_token = || {
        let later = Timestamp::now() + SignedDuration::from_secs(1);
        assert!(w.account.use_token(&old.token.id, later));
    };
    use_old_token();
    w.event("in-use", "OldTokenStillInUse").await;
    w.says("foreign", "SecretConflict").await;
    let before = settled(&w, async || w.polls(1).await).await;
    let posts = w.posts();
    use_old_token();
    w.polls(4).await;
    assert_eq!(written(&w).await, before);
    assert_eq!((w.posts(), w.deletes()), (posts, 0));
}

#[rstest]
#[tokio::test]
async fn the_first_use_shows_at_the_next_poll_and_later_ones_now_and_then(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let token = w.issued("agent").await.token;
    w.polls(1).await;
    let first = Timestamp::now() - SignedDuration::from_mins(2);
    w.account.use_token(&token.id, first);
    eventually("the first use shows", WAIT, || async {
        let status = w.resource("agent").await.status.unwrap();
        let shown = status.last_used_at.map(|time| time.0.as_second());
        if shown == Some(first.as_second()) { Ok(()) } else { Err(shown) }
    })
    .await;
    let before = settled(&w, async || w.polls(1).await).await;
    w.account.use_token(&token.id, Timestamp::now());
    w.polls(3).await;
    assert_eq!(written(&w).await, before, "not written within five minutes");
}
