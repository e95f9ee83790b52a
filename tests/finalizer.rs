//! The finalizer is what keeps a resource until its token is revoked: whoever takes it off, it comes back; where that is
//! too late, what the resource leaves behind is cleared away; and where it can't be taken off, that is said.

use datafast_harness::{Asks, Cutter, Instead, Plan, apply_yaml, condition, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Fault, FaultBody, Kind, Operation};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use rstest::rstest;
use serde_json::json;

use crate::world::{
    ARGS, Issued, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// As a GitOps tool does that replaces a resource by what is in its repository.
async fn strip(w: &World, name: &str) {
    let replaced = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    w.objects().patch(name, &PatchParams::default(), &replaced).await.unwrap();
}

async fn is_back(w: &World, name: &str) {
    eventually("the finalizer is back", WAIT, || async {
        let finalizers = w.resource(name).await.finalizers().to_vec();
        if finalizers == [names::FINALIZER_REVOKE] { Ok(()) } else { Err(finalizers) }
    })
    .await;
}

/// What an issued resource says beside that it has its token.
async fn bring_into(w: &World, state: &str) {
    let rotate = || w.annotate("agent", json!({ names::ROTATE: "1" }));
    match state {
        "Suspended" => drop(w.patch_spec("agent", json!({ "suspend": true })).await),
        "NotAllowed" => {
            let nobody = json!({ "namespaceSelector": { "matchLabels": { "nobody": "yes" } } });
            w.set_account(json!({ "allow": nobody })).await;
        }
        "SecretConflict" => {
            let others = json!({ names::OWNER: "DataFastAccessToken/other" });
            w.patch_secret("agent", json!({ "metadata": { "annotations": others } })).await;
        }
        "Rejected" => {
            let body = FaultBody::Error { code: None, message: "Your role may not create keys".into() };
            let refusal = Kind::Status { status: 403, body };
            w.set_fault(Fault::new(Operation::CreateAccessToken, refusal));
            rotate().await;
        }
        "WaitingForSlot" => rotate().await,
        _ => w.credentials().delete(&w.name, &DeleteParams::default()).await.map(drop).unwrap(),
    }
    w.says("agent", state).await;
}

#[rstest]
#[tokio::test]
async fn the_finalizer_comes_back_in_every_state(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
    #[values("Suspended", "NotAllowed", "SecretConflict", "Rejected", "WaitingForSlot", "AccountNotReady")] state: &str,
) {
    // There is a slot for the first token, and none for another.
    let (limit, others) = if kind == AccessToken { (2, 0) } else { (20, 9) };
    let account = AccountOptions { token_limit: Some(limit), ..AccountOptions::default() };
    let spec = Some(json!({ "tokenLimit": limit }));
    let is_full = state == "WaitingForSlot";
    let w = match is_full {
        true => World::with(Setup { kind, account, spec, others, ..Setup::default() }).await,
        false => World::of(kind).await,
    };
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    bring_into(&w, state).await;
    strip(&w, "agent").await;
    is_back(&w, "agent").await;
    let live: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
    assert_eq!(live, [&*before.token.id], "nothing else was done");

    w.delete("agent").await;
    if state == "AccountNotReady" {
        w.set_credential(&w.account.credential()).await;
    }
    wait_gone(&w.objects(), "agent", WAIT).await;
    assert_eq!(w.issued_tokens(), []);
}

/// The API server takes a deletion that was begun before the finalizer was put on: then the record is gone, too.
#[rstest]
#[tokio::test]
async fn what_is_gone_before_its_turn_is_not_issued(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    // So many requests are under way at once: for an account, and for one of its websites.
    let at_once: u32 = if kind == AccessToken { 4 } else { 2 };
    let w = World::of(kind).await;
    w.account_says("Connected").await;
    let hold = w.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).times(at_once));
    let spec = || json!({ "permissions": ["analytics:read"] });
    for n in 0..at_once {
        w.apply(&format!("before-{n}"), spec()).await;
    }
    eventually("all turns are taken", WAIT, || async { (w.posts() == u64::from(at_once)).then_some(()) }).await;
    w.apply("agent", spec()).await;
    eventually("it is recorded", WAIT, || async {
        w.resource("agent").await.annotations().contains_key(names::ATTEMPTS).then_some(())
    })
    .await;
    strip(&w, "agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    // What comes later in the watch is judged: so its deletion has been seen.
    w.apply("witness", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    w.says("witness", "Suspended").await;
    w.account.release(hold);
    for n in 0..at_once {
        w.issued(&format!("before-{n}")).await;
    }
    assert_eq!(w.posts(), u64::from(at_once), "nothing is issued for what is gone");
}

/// A world with an operator of its own, which can be halted.
async fn halted_world(plane: &Plane, kind: Subject) -> World {
    World::on(plane.cluster.clone(), Setup { kind, ..Setup::default() }).await
}

async fn rotated(w: &World, name: &str, spec: serde_json::Value) -> Issued {
    w.apply(name, spec).await;
    let first = w.issued(name).await;
    w.annotate(name, json!({ names::ROTATE: "1" })).await;
    w.renewed(name, &first).await
}

#[rstest]
#[tokio::test]
async fn what_was_deleted_without_its_finalizer_leaves_neither_token_nor_secret(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let (plane, plan) = (Plane::take().await, Plan::count_only());
    let cutter = Cutter::to_cluster(&plan, &plane.cluster).await.unwrap();
    let operator = start(&plane.cluster, Some(cutter.url()), &ARGS).await;
    let w = halted_world(&plane, kind).await;
    let spec = |policy| json!({ "permissions": ["analytics:read"], "deletionPolicy": policy });
    rotated(&w, "agent", spec("Revoke")).await;
    w.apply("kept", spec("Retain")).await;
    let kept = w.issued("kept").await;
    // Keys are listed for it.
    w.apply("other", spec("Revoke")).await;
    let other = w.issued("other").await;
    assert_eq!(w.issued_tokens().len(), 4);

    operator.stop().unwrap();
    for name in ["agent", "kept"] {
        strip(&w, name).await;
        w.delete(name).await;
        assert!(w.find(name).await.unwrap().is_none(), "nothing held it back");
    }
    plan.answer("agent", Asks::DeleteSecret, Instead::Refusal(503, "ServiceUnavailable"));
    operator.cont().unwrap();
    eventually("its tokens are revoked", WAIT, || async {
        let live: Vec<_> = w.issued_tokens().into_iter().map(|token| token.id).collect();
        if live == [&*kept.token.id, &*other.token.id] { Ok(()) } else { Err(live) }
    })
    .await;
    eventually("its Secret can't be deleted", WAIT, || async {
        let times = plan.times("agent");
        if times >= 2 { Ok(()) } else { Err(times) }
    })
    .await;
    assert!(w.secrets().get_opt("agent").await.unwrap().is_some());
    plan.answer_truly("agent");
    eventually("its Secret is gone", WAIT, || async {
        let secret = w.secrets().get_opt("agent").await.unwrap();
        if secret.is_none() { Ok(()) } else { Err(secret) }
    })
    .await;
    w.polls(1).await;
    assert_eq!(w.secret("kept").await.data, kept.secret.data, "what was to stay stays");
    assert_eq!(w.deletes(), 2);
    let unclaimed = eventually("the account tells of the one that stays", WAIT, || async {
        let unclaimed = w.account_resource().await.status.unwrap_or_default().unclaimed;
        if unclaimed.is_empty() { Err(unclaimed) } else { Ok(unclaimed) }
    })
    .await;
    assert_eq!(unclaimed.into_iter().map(|token| token.token_id).collect::<Vec<_>>(), [kept.token.id]);
}

/// As `kubectl replace --force` and Argo CD's `Replace` do: deleted, and created anew.
#[rstest]
#[tokio::test]
async fn a_resource_that_takes_the_place_of_one_without_finalizer_works_with_the_same_secret(
    #[values(AccessToken, WebsiteKey)] kind: Subject,
) {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = halted_world(&plane, kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let before = w.issued("agent").await;
    operator.stop().unwrap();
    strip(&w, "agent").await;
    w.delete("agent").await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    operator.cont().unwrap();
    let after = w.issued_alone("agent").await;
    assert_ne!(after.resource.uid(), before.resource.uid());
    w.polls(2).await;
    let after = w.issued_alone("agent").await;
    assert_eq!(
        (&after.token.id, &after.secret.data),
        (&before.token.id, &before.secret.data),
        "readers notice nothing"
    );
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

/// Forbids every update of resources that are being deleted, of their status too if asked.
async fn freeze_deleted(w: &World, with_status: bool) {
    let namespace = &w.namespace;
    let plural = w.kind.resource().plural;
    let status = if with_status { format!(", {plural}/status") } else { String::new() };
    let policy = format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: frozen-{namespace} }}
spec:
  matchConstraints:
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
    resourceRules:
      - {{ apiGroups: [datafa.st], apiVersions: [v1alpha1], operations: [UPDATE], resources: ["{plural}"{status}] }}
  validations:
    - {{ expression: "!has(oldObject.metadata.deletionTimestamp)", message: what goes is left as it is }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: frozen-{namespace} }}
spec: {{ policyName: frozen-{namespace}, validationActions: [Deny] }}
"#
    );
    apply_yaml(&w.client, "test", "", &policy).await.unwrap();
    // One that somebody else's finalizer holds tells when it is in force.
    w.apply("probe", json!({ "permissions": ["analytics:read"], "suspend": true })).await;
    let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/hold"] } }));
    w.objects().patch("probe", &PatchParams::default(), &hold).await.unwrap();
    w.delete("probe").await;
    eventually("the policy is in force", WAIT, || async {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let change = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
        w.objects().patch("probe", &params, &change).await.err()
    })
    .await;
}

async fn thaw(w: &World) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(w.client.clone());
    bindings.delete(&format!("frozen-{}", w.namespace), &DeleteParams::default()).await.unwrap();
    eventually("the policy is gone", WAIT, || async {
        let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        w.objects().patch("probe", &PatchParams::default(), &release).await
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn a_policy_that_keeps_the_finalizer_on_is_quoted(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    freeze_deleted(&w, false).await;
    w.delete("agent").await;
    let ready = w.says("agent", "Deleting").await;
    let words = "the finalizer can't be taken off: ";
    assert!(ready.message.contains(words) && ready.message.contains("what goes is left as it is"), "{ready:?}");
    let event = w.event("agent", "Deleting").await;
    assert!(event.contains("what goes is left as it is"), "{event}");
    assert_eq!(w.issued_tokens(), []);
    assert!(w.secrets().get_opt("agent").await.unwrap().is_none());
    assert!(condition(&w.resource("agent").await, "Reconciling").is_some(), "it is tried again");
    thaw(&w).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
}

#[tokio::test]
async fn where_not_even_status_may_be_written_it_is_logged_once() {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    freeze_deleted(&w, true).await;
    let tries = || w.writes().into_iter().filter(|write| write == "patch datafastaccesstokens").count();
    let before = tries();
    w.delete("agent").await;
    eventually("it is tried again and again", WAIT, || async { (tries() >= before + 4).then_some(()) }).await;
    let log = operator.logs();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("\"agent\""));
    let about = |words: &str| warnings.clone().filter(|line| line.contains(words)).count();
    assert_eq!((about("the finalizer can't be taken off"), about("the reconcile failed")), (1, 1), "{log}");
    thaw(&w).await;
    wait_gone(&w.objects(), "agent", WAIT).await;
}
