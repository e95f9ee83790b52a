//! Tenants can edit every annotation on their own resources and Secrets. That gives them no power over a token of
//! another.

use datafast_harness::{ControlPlane, eventually, server_error, wait_gone};
use datafast_operator::api::{DataFastAccount, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Map, Value, json};

use crate::world::{
    Issued,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World,
};

/// Two tenants of one account, each with a token; the second one is up to no good.
struct Attack {
    victim: World,
    before: Issued,
    attacker: World,
    own: Issued,
    client: Client,
}

impl Attack {
    async fn prepare(kind: Subject) -> Self {
        let victim = World::of(kind).await;
        let attacker = victim.neighbour().await;
        victim.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        attacker.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
        let (before, own) = (victim.issued("agent").await, attacker.issued("agent").await);
        let client = tenant(&victim.cluster, &attacker.namespace).await;
        Self { victim, before, attacker, own, client }
    }

    /// The victim's nonce, as its token's name tells anybody who sees DataFast's interface.
    fn nonce(&self) -> &str {
        let name = self.before.token.name.as_deref().unwrap();
        name.rsplit_once('.').unwrap().1.trim_end_matches(']')
    }

    async fn edit_resource(&self, patch: Value) {
        let (namespace, resource) = (&self.attacker.namespace, self.attacker.kind.resource());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        api.patch("agent", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn edit_secret(&self, patch: Value) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.attacker.namespace);
        api.patch("agent", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// When all has taken effect that can, the victim has what it had; and so it is when the attacker's resource is deleted, which takes
    /// along all that it can call its own.
    async fn fails(self) {
        self.attacker.horizon_passes().await;
        self.victim_is_untouched().await;
        self.attacker.delete("agent").await;
        wait_gone(&self.attacker.objects(), "agent", WAIT).await;
        self.attacker.polls(1).await;
        self.victim_is_untouched().await;
        let live: Vec<_> = self.victim.issued_tokens().into_iter().map(|token| token.id).collect();
        assert_eq!(live, [self.before.token.id], "the attacker's own is gone");
    }

    async fn victim_is_untouched(&self) {
        let after = self.victim.issued("agent").await;
        assert_eq!(after.token.id, self.before.token.id);
        assert_eq!(after.secret, self.before.secret);
        assert_eq!(after.resource.annotations(), self.before.resource.annotations());
        let status = |issued: &Issued| issued.resource.status.clone().unwrap();
        assert_eq!(status(&after), status(&self.before));
    }
}

async fn tenant(cluster: &ControlPlane, namespace: &str) -> Client {
    let client = cluster.tenant("mallory", namespace).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let anything = ListParams::default();
    eventually("RBAC has seen the role", WAIT, || secrets.list(&anything)).await;
    client
}

#[rstest]
#[tokio::test]
async fn a_copied_nonce_in_the_log_is_worth_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let attack = Attack::prepare(kind).await;
    let log = &attack.own.resource.annotations()[names::ATTEMPTS];
    let mut log: Value = serde_json::from_str(log).unwrap();
    let mut stolen = log[0].clone();
    stolen["nonce"] = attack.nonce().into();
    log.as_array_mut().unwrap().push(stolen);
    attack.edit_resource(json!({ "metadata": { "annotations": { names::ATTEMPTS: log.to_string() } } })).await;
    attack.fails().await;
}

#[rstest]
#[tokio::test]
async fn a_copied_nonce_in_the_secret_is_worth_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let attack = Attack::prepare(kind).await;
    let (nonce, id) = (attack.nonce(), &attack.before.token.id);
    let long_ago = Timestamp::now() - SignedDuration::from_hours(20);
    let previous = format!("{nonce}@{long_ago},{id}@{long_ago}");
    let annotations = json!({ names::ATTEMPT: nonce, names::PREVIOUS: previous });
    attack.edit_secret(json!({ "metadata": { "annotations": annotations } })).await;
    attack.fails().await;
}

#[rstest]
#[tokio::test]
async fn a_copied_token_id_in_the_secret_is_worth_nothing(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let attack = Attack::prepare(kind).await;
    let annotations = json!({ names::TOKEN_ID: attack.before.token.id, names::KEY_SHA256: null });
    attack.edit_secret(json!({ "metadata": { "annotations": annotations } })).await;
    attack.fails().await;
}

/// All of the victim's record, and a key that fits what DataFast shows of the right one.
#[rstest]
#[tokio::test]
async fn a_copy_of_the_whole_record_with_a_made_up_key_is_worth_nothing(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let attack = Attack::prepare(kind).await;
    let key = &attack.before.token.key;
    let forged = format!("{}{}{}", &key[..7], "x".repeat(33), &key[key.len() - 4..]);
    let mut annotations = attack.before.secret.annotations().clone();
    annotations.remove(names::KEY_SHA256);
    let patch = json!({ "metadata": { "annotations": annotations }, "stringData": { "token": forged } });
    attack.edit_secret(patch).await;
    let log = attack.before.resource.annotations()[names::ATTEMPTS].clone();
    attack.edit_resource(json!({ "metadata": { "annotations": { names::ATTEMPTS: log } } })).await;
    attack.fails().await;
}

/// The Secret is made to look like one to import.
#[rstest]
#[tokio::test]
async fn an_import_of_anothers_token_is_refused(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let attack = Attack::prepare(kind).await;
    let own = attack.own.secret.annotations().keys().filter(|name| name.starts_with(names::PREFIX));
    let mut annotations: Map<_, _> = own.map(|name| (name.clone(), Value::Null)).collect();
    annotations.insert(names::TOKEN_ID.to_owned(), attack.before.token.id.clone().into());
    let metadata = json!({ "annotations": annotations, "labels": { names::MANAGED_BY: null } });
    attack.edit_secret(json!({ "metadata": metadata, "stringData": { "token": attack.before.token.key } })).await;
    attack.fails().await;
}

#[rstest]
#[tokio::test]
async fn a_tenant_cannot_write_what_counts_as_proof(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let issued = w.issued("agent").await;
    let client = tenant(&w.cluster, &w.namespace).await;
    let tokens: Api<DynamicObject> = Api::namespaced_with(client.clone(), &w.namespace, &w.kind.resource());
    let patch = Patch::Merge(json!({ "status": { "displayKey": "65f1c0ffee0123456789abcd" } }));
    assert_eq!(server_error(tokens.patch_status("agent", &PatchParams::default(), &patch).await).code, 403);
    // Through the resource itself it is ignored.
    tokens.patch("agent", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(w.issued("agent").await.resource.status, issued.resource.status);
    let accounts: Api<DataFastAccount> = Api::all(client);
    assert_eq!(server_error(accounts.get(&w.name).await).code, 403);
}

/// Nonsense in what tenants can write is as if it were not there.
#[rstest]
#[tokio::test]
async fn nonsense_in_the_record_hurts_nobody(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let attack = Attack::prepare(kind).await;
    for nonsense in ["", "[", "[1, null, {}]", "{\"nonce\": 1}", &"[".repeat(100_000)] {
        attack.edit_resource(json!({ "metadata": { "annotations": { names::ATTEMPTS: nonsense } } })).await;
    }
    let annotations = json!({
        names::ATTEMPT: "../../etc/passwd",
        names::TOKEN_ID: "a/../b?c",
        names::ISSUED_AT: "+999999-13-45",
        names::PREVIOUS: ",,,@,x@y",
    });
    attack.edit_secret(json!({ "metadata": { "annotations": annotations } })).await;
    attack.attacker.issued("agent").await;
    attack.fails().await;
}
