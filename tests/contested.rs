//! Others write to the Secret too: what they add is theirs, and who undoes what the operator writes is answered ever more
//! slowly.

use std::collections::BTreeSet;

use datafast_harness::eventually;
use datafast_operator::api::names;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::{
    Clocked,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, text_in, unique,
};

/// Changes a Secret whenever it is not as it left it, until it is dropped.
struct Tool(JoinHandle<()>);

impl Tool {
    fn start(secrets: Api<Secret>, patch: Value, is_mine: fn(&Secret) -> bool) -> Self {
        let params = PatchParams { field_manager: Some("fighter".into()), ..PatchParams::default() };
        Self(tokio::spawn(async move {
            loop {
                if !is_mine(&secrets.get("agent").await.unwrap()) {
                    secrets.patch("agent", &params, &Patch::Merge(&patch)).await.unwrap();
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }))
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often the operator has written the Secret.
fn rewrites(w: &World) -> usize {
    w.writes().iter().filter(|write| *write == "update secrets").count()
}

/// Waits until it has been written so often.
async fn is_rewritten(w: &World, times: usize) {
    eventually(&format!("it is written {times} times"), WAIT, || async {
        let rewrites = rewrites(w);
        if rewrites == times { Ok(()) } else { Err(rewrites) }
    })
    .await;
}

fn is_labelled(secret: &Secret) -> bool {
    secret.labels().get(names::MANAGED_BY).is_some_and(|manager| manager == "fighter")
}

fn has_its_entry(secret: &Secret) -> bool {
    text_in(secret, "env") == "mine"
}

#[rstest]
#[case(AccessToken, json!({ "metadata": { "labels": { names::MANAGED_BY: "fighter" } } }), is_labelled, "managed-by")]
#[case(WebsiteKey, json!({ "metadata": { "labels": { names::MANAGED_BY: "fighter" } } }), is_labelled, "managed-by")]
#[case(AccessToken, json!({ "stringData": { "env": "mine" } }), has_its_entry, "entry \"env\"")]
#[tokio::test]
async fn a_tool_that_changes_the_secret_each_time_is_answered_ever_more_slowly(
    #[case] kind: Subject,
    #[case] patch: Value,
    #[case] is_mine: fn(&Secret) -> bool,
    #[case] what: &str,
) {
    let w = Clocked::of(kind).await;
    let spec = json!({ "permissions": ["analytics:read"], "secret": { "data": { "env": "T=$(TOKEN)" } } });
    w.apply("agent", spec).await;
    let before = w.issued("agent").await;
    let written = w.writes().len();
    w.stop_clock();
    let tool = Tool::start(w.secrets(), patch, is_mine);
    let mut times = 1;
    is_rewritten(&w, times).await;
    for minutes in [1, 2, 4] {
        let ready = w.says("agent", "SecretContested").await;
        assert_eq!(ready.status, "True", "its key works");
        assert!(ready.message.contains("\"fighter\"") && ready.message.contains(what), "{}", ready.message);
        assert!(!ready.message.contains(&before.token.key), "no value is told");
        w.event("agent", "SecretContested").await;
        // Whatever the tool does, and however often it is looked at.
        w.advance(SignedDuration::from_secs(60 * minutes - 1));
        for _ in 0..5 {
            w.annotate("agent", json!({ "example.com/look": unique() })).await;
        }
        w.list().await;
        assert_eq!(rewrites(&w), times);

        w.advance(SignedDuration::from_secs(1));
        w.annotate("agent", json!({ "example.com/look": unique() })).await;
        times += 1;
        is_rewritten(&w, times).await;
    }
    w.says("agent", "SecretContested").await;
    // So ten minutes have passed.
    w.advance(SignedDuration::from_mins(3));
    w.annotate("agent", json!({ "example.com/look": unique() })).await;
    w.list().await;
    assert_eq!(rewrites(&w), times);
    let writes = w.writes().split_off(written);
    assert!(writes.len() <= 20, "{writes:#?}");
    assert_eq!((w.posts(), w.deletes()), (1, 0));

    drop(tool);
    w.advance(SignedDuration::from_mins(5));
    w.annotate("agent", json!({ "example.com/look": unique() })).await;
    let after = w.issued("agent").await;
    assert_eq!(after.token.id, before.token.id);
    assert_eq!(after.secret.labels(), before.secret.labels());
    assert_eq!(after.secret.data, before.secret.data);
}

fn entries(secret: &Secret) -> BTreeSet<&str> {
    secret.data.iter().flatten().map(|(name, _)| name.as_str()).collect()
}

#[rstest]
#[tokio::test]
async fn what_others_add_to_a_secret_is_theirs(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    let spec = |data: Value| json!({ "permissions": ["analytics:read"], "secret": { "data": data } });
    w.apply("agent", spec(json!({ "env": "T=$(TOKEN)", "id": "$(TOKEN_ID)" }))).await;
    let before = w.issued("agent").await;
    let others = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "agent", "labels": { "example.com/a": "b" }, "annotations": { "example.com/c": "d" } },
        "data": { "config.yaml": "YTogYgo=" },
    });
    w.secrets().patch("agent", &PatchParams::apply("helper"), &Patch::Apply(&others)).await.unwrap();
    w.patch_secret("agent", json!({ "stringData": { "by-hand": "yes" } })).await;
    let added = w.secret("agent").await;
    w.polls(2).await;
    assert_eq!(w.secret("agent").await, added, "it is no reason to write");
    assert_eq!(rewrites(&w), 0);

    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let rotated = w.renewed("agent", &before).await.secret;
    assert_eq!(entries(&rotated), ["by-hand", "config.yaml", "env", "id", "token"].into());
    assert_eq!(text_in(&rotated, "config.yaml"), "a: b\n");
    assert_eq!((&*rotated.labels()["example.com/a"], &*rotated.annotations()["example.com/c"]), ("b", "d"));
    w.secrets().patch("agent", &PatchParams::apply("helper"), &Patch::Apply(&others)).await.expect("no conflict");

    w.apply("agent", spec(json!({ "id": "$(TOKEN_ID)" }))).await;
    let after = w.issued("agent").await.secret;
    assert_eq!(
        entries(&after),
        ["by-hand", "config.yaml", "id", "token"].into(),
        "what is not asked for any more goes"
    );
    assert_eq!(w.posts(), 2);
}
