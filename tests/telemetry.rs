//! Probes and metrics.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use datafast_harness::{condition, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::ForeignToken;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use crate::world::{ARGS, Plane, SYSTEM, Setup, WAIT, World, apply, binary, shared_get, shared_get_as, start};

/// Every sample: name and labels as they are printed, and its value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The sum of all samples of a name whose labels have all of these.
fn sum(samples: &BTreeMap<String, f64>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |sample: &str| {
        let rest = sample.strip_prefix(name).unwrap_or("-");
        (rest.is_empty() || rest.starts_with('{'))
            && labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
    };
    samples.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
}

/// Where cargo builds, and `make` what it needs.
fn workspace_target() -> PathBuf {
    let program = binary();
    program.ancestors().nth(2).unwrap().to_owned()
}

async fn metrics() -> (String, BTreeMap<String, f64>) {
    let (status, text) = shared_get("/metrics").await;
    assert_eq!(status, 200);
    let parsed = samples(&text);
    (text, parsed)
}

#[tokio::test]
async fn probes_answer() {
    World::new().await;
    for path in ["/healthz", "/readyz"] {
        let (status, text) = shared_get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
    }
    assert_eq!(shared_get("/nothing").await.0, 404);
}

#[tokio::test]
async fn metrics_count_what_is_done() {
    let w = World::new().await;
    w.account_says("Connected").await;
    let (_, before) = metrics().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    w.issued("agent").await;
    w.apply("agent", json!({ "permissions": ["goals:read"], "rotation": { "overlap": "0s" } })).await;
    w.issued_alone("agent").await;
    w.polls(1).await;
    let account = [("account", &*w.name)];
    eventually("the account's tokens are counted", WAIT, || async {
        let (text, now) = metrics().await;
        let managed = sum(&now, "datafast_tokens", &[account[0], ("state", "managed")]);
        if managed == 1.0 { Ok(()) } else { Err(text) }
    })
    .await;
    let (text, now) = metrics().await;
    let more = |name: &str, labels: &[(&str, &str)]| sum(&now, name, labels) - sum(&before, name, labels);
    assert_eq!(sum(&now, "datafast_account_ready", &account), 1.0, "{text}");
    assert_eq!(sum(&now, "datafast_leader", &[]), 1.0, "{text}");
    for (name, labels) in [
        ("datafast_tokens_issued_total", &[("kind", "DataFastAccessToken"), ("cause", "New")][..]),
        ("datafast_tokens_issued_total", &[("kind", "DataFastAccessToken"), ("cause", "ScopeChanged")]),
        ("datafast_tokens_revoked_total", &[("kind", "DataFastAccessToken"), ("cause", "Retired")]),
        ("datafast_api_requests_total", &[("operation", "list_access_tokens"), ("code", "200")]),
        ("datafast_api_request_duration_seconds_count", &[("operation", "delete_access_token")]),
        ("datafast_reconcile_duration_seconds_count", &[("kind", "DataFastAccessToken")]),
    ] {
        assert!(more(name, labels) >= 1.0, "{name} {labels:?} in\n{text}");
    }
    assert!(more("datafast_api_requests_total", &[("operation", "create_access_token"), ("code", "200")]) >= 2.0);
    for name in ["datafast_reconcile_errors_total", "datafast_tokens", "datafast_leader"] {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} in\n{text}");
    }

    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    let (_, after) = metrics().await;
    let deleted = [("cause", "Deleted")];
    let revoked = "datafast_tokens_revoked_total";
    assert!(sum(&after, revoked, &deleted) > sum(&before, revoked, &deleted));
}

#[tokio::test]
async fn what_resources_say_is_counted() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "every": "720h" } })).await;
    w.apply("refused", json!({ "permissions": ["api-keys:write"] })).await;
    let issued = w.issued("agent").await;
    w.says("refused", "NotAllowed").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.renewed("agent", &issued).await;
    w.account.use_token(&issued.token.id, Timestamp::now() + SignedDuration::from_secs(5));
    let nowhere = json!({ "permissions": ["analytics:read"], "accountRef": { "name": w.namespace.clone() + "-not" } });
    let mut manifest = w.manifest("nowhere", json!({ "permissions": ["analytics:read"] }));
    manifest["spec"] = nowhere;
    apply(&w.objects(), "nowhere", &manifest).await;
    w.says("nowhere", "AccountNotFound").await;
    eventually("the metrics tell of all of them", WAIT, || async {
        let (text, now) = metrics().await;
        let account = ("account", &*w.name);
        let said = |reason, ready| sum(&now, "datafast_resources", &[account, ("reason", reason), ("ready", ready)]);
        let counts = (said("Issued", "true"), said("NotAllowed", "false"));
        let in_use = sum(&now, "datafast_old_tokens_in_use", &[account]);
        let next = sum(&now, "datafast_next_rotation_timestamp_seconds", &[account]);
        let is_there = counts == (1.0, 1.0) && in_use == 1.0 && next > issued_after(684) && next < issued_after(721);
        let of_nobody = sum(&now, "datafast_resources", &[("account", ""), ("reason", "AccountNotFound")]);
        if is_there && of_nobody >= 1.0 { Ok(()) } else { Err(text) }
    })
    .await;
    let (text, _) = metrics().await;
    assert!(!text.contains(&format!("{}-not", w.namespace)), "tenants can think of many accounts");
}

/// In seconds since 1970, some minutes before so many hours from now.
fn issued_after(hours: i64) -> f64 {
    (Timestamp::now() + SignedDuration::from_hours(hours) - SignedDuration::from_mins(10)).as_second() as f64
}

/// Whoever does not ask for OpenMetrics gets the older format, in which a counter has the name of its samples.
#[tokio::test]
async fn both_formats_describe_every_metric() {
    World::new().await.account_says("Connected").await;
    let (text, samples) = metrics().await;
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    for sample in samples.keys() {
        let name = sample.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        for about in ["HELP", "TYPE"] {
            assert!(text.contains(&format!("# {about} {family} ")), "# {about} of {name} in\n{text}");
        }
    }
    for name in ["datafast_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes"] {
        assert!(sum(&samples, name, &[]) > 0.0, "{name} in\n{text}");
    }
    let openmetrics = shared_get_as("/metrics", "application/openmetrics-text; version=1.0.0").await;
    let is_complete = openmetrics.contains("# TYPE datafast_api_requests counter") && openmetrics.ends_with("# EOF\n");
    assert!(is_complete, "{openmetrics}");
}

/// The scrape as Prometheus' own tool judges it. `make tools` gets that.
#[tokio::test]
async fn promtool_finds_nothing_to_complain_of() {
    World::new().await.account_says("Connected").await;
    let (text, _) = metrics().await;
    let program = workspace_target().join("tools/chart/promtool");
    let mut promtool = Command::new(&program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: run `make tools`", program.display()));
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&said));
}

/// Tenants can make as many names as they like; no monitoring can bear as many labels.
#[tokio::test]
async fn no_label_is_the_name_of_a_namespaced_object() {
    let w = World::new().await;
    let other = w.neighbour().await;
    other.apply("agent-with-a-telling-name", json!({ "permissions": ["analytics:read"] })).await;
    other.issued("agent-with-a-telling-name").await;
    let (text, _) = metrics().await;
    assert!(!text.contains("agent-with-a-telling-name") && !text.contains(&other.namespace), "{text}");
}

#[tokio::test]
async fn an_account_that_is_gone_leaves_the_metrics() {
    let w = World::new().await;
    w.account_says("Connected").await;
    let name = format!("account=\"{}\"", w.name);
    eventually("it is in the metrics", WAIT, || async { metrics().await.0.contains(&name).then_some(()) }).await;
    w.accounts().delete(&w.name, &Default::default()).await.unwrap();
    wait_gone(&w.accounts(), &w.name, WAIT).await;
    eventually("it is in them no more", WAIT, || async { (!metrics().await.0.contains(&name)).then_some(()) }).await;
}

/// Nobody can tell whose these are but the marker, and that only where it is this cluster's.
#[tokio::test]
async fn an_unclaimed_token_is_reported_once_and_left_alone() {
    let w = World::new().await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    let name = w.issued("agent").await.token.name.unwrap();
    let (cluster, _) = name.split_once("[k8s:").unwrap().1.split_once('/').unwrap();
    let token = |cluster: &str| {
        let name = Some(format!("of old [k8s:{cluster}/00000000.0000000000]"));
        w.add_token(ForeignToken { name, created_by: Some(w.account.credential_id()), ..Default::default() })
    };
    let (unclaimed, foreign) = (token(cluster), token("00000000"));
    let events = eventually("an event about the account", WAIT, || async {
        let events = w.account_events("UnclaimedToken").await;
        (!events.is_empty()).then_some(events)
    })
    .await;
    let note = events[0].note.clone().unwrap();
    assert!(note.contains(&unclaimed) && note.contains("of old") && !note.contains(&foreign), "{note}");
    let account = [("account", &*w.name)];
    eventually("it is in the metrics", WAIT, || async {
        let (text, now) = metrics().await;
        let of = |state| sum(&now, "datafast_tokens", &[account[0], ("state", state)]);
        if (of("unclaimed"), of("managed"), of("foreign")) == (1.0, 1.0, 2.0) { Ok(()) } else { Err(text) }
    })
    .await;
    let listed = w.account_resource().await.status.unwrap().unclaimed;
    assert_eq!(listed.iter().map(|token| &token.token_id).collect::<Vec<_>>(), [&unclaimed]);

    w.polls(2).await;
    let events = w.account_events("UnclaimedToken").await;
    assert_eq!((events.len(), events[0].series.as_ref().map(|series| series.count)), (1, None));
    let live = w.live_tokens();
    assert!([&unclaimed, &foreign].iter().all(|id| live.iter().any(|token| token.id == **id)));
    assert_eq!((w.posts(), w.deletes()), (1, 0));
}

#[tokio::test]
async fn an_operator_with_all_defaults_takes_the_lease_and_works() {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &["--allow-plain-http"]).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued_alone("agent").await;
    let leases: Api<Lease> = Api::namespaced(w.client.clone(), SYSTEM);
    let spec = leases.get("datafast-operator").await.unwrap().spec.unwrap();
    assert!(spec.holder_identity.is_some_and(|holder| !holder.is_empty()));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert!(operator.terminate().await.unwrap().status.success());

    // What it held is let go at the end, so that the next one need not wait.
    let _next = start(&plane.cluster, None, &ARGS).await;
    let spec = leases.get("datafast-operator").await.unwrap().spec.unwrap();
    assert!(spec.holder_identity.is_none_or(|holder| holder.is_empty()));
    w.apply("other", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("other").await;
    assert!(condition(&w.resource("agent").await, "Ready").is_some_and(|ready| ready.status == "True"));
}
