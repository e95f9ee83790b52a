//! Logs: each thing that happened has one line, and whoever reads it knows to what it happened.

use std::{
    collections::BTreeMap,
    fmt, fs,
    time::{Duration, Instant},
};

use datafast_harness::{ControlPlane, Operator, eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, FaultBody, Kind, Operation};
use rstest::rstest;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::world::{
    ARGS, Plane, Setup,
    Subject::{self, AccessToken, WebsiteKey},
    WAIT, World, start_with,
};

/// A line's fields. A name that is there twice is refused: it depends on the reader which of them counts.
#[derive(Clone, Debug)]
pub(crate) struct Line(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.insert(name.clone(), value).is_some() {
                        return Err(serde::de::Error::custom(format!("{name:?} is there twice")));
                    }
                }
                Ok(Line(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Line {
    pub(crate) fn read(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    fn is(&self, message: &str) -> bool {
        self.text("message") == message
    }

    /// Whether it is for everybody, and not for whoever looks for a defect.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.text("level"), "INFO" | "WARN" | "ERROR")
    }
}

/// All that operators of a control plane have printed so far.
fn printed(cluster: &ControlPlane) -> Vec<Line> {
    let mut lines = Vec::new();
    for file in fs::read_dir(cluster.dir()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with("operator-") && name.ends_with(".log") && !name.contains("in-process") {
            let text = fs::read_to_string(&path).unwrap();
            // The last one may not be whole yet.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            lines.extend(whole.lines().map(Line::read));
        }
    }
    lines
}

/// What is told of a world's resources and account, in order.
fn told(w: &World) -> Vec<Line> {
    let is_own = |line: &Line| line.text("namespace") == w.namespace || line.text("account") == w.name;
    printed(&w.cluster).into_iter().filter(|line| line.is_told() && is_own(line)).collect()
}

/// What is told of one resource, but for what it says of itself.
fn deeds(w: &World, name: &str) -> Vec<Line> {
    let is_own = |line: &Line| line.text("namespace") == w.namespace && line.text("name") == name;
    told(w).into_iter().filter(|line| is_own(line) && !line.is("Ready has another reason")).collect()
}

const ISSUED: &str = "issued a token";
const ROLLED: &str = "rolled a token: it has another key";
const WRITTEN: &str = "the Secret holds a new key";
const REVOKED: &str = "revoked a token";
const RELEASED: &str = "released the finalizer: nothing of the resource is left";

#[rstest]
#[tokio::test]
async fn each_thing_that_happened_has_one_line(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let start = Instant::now();
    let w = World::of(kind).await;
    let spec = json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } });
    w.apply("agent", spec).await;
    let first = w.issued_alone("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.renewed("agent", &first).await;
    let second = w.issued_alone("agent").await;
    w.delete("agent").await;
    wait_gone(&w.objects(), "agent", WAIT).await;
    let lines = eventually("the end is told", WAIT, || async {
        let lines = deeds(&w, "agent");
        if lines.last().is_some_and(|line| line.is(RELEASED)) { Ok(lines) } else { Err(lines) }
    })
    .await;

    let (first_id, second_id) = (&*first.token.id, &*second.token.id);
    let happened: Vec<_> =
        lines.iter().map(|line| (line.text("message"), line.text("tokenId"), line.text("cause"))).collect();
    let expected = [
        (ISSUED, first_id, "New"),
        (WRITTEN, first_id, "New"),
        (ISSUED, second_id, "RotateRequested"),
        (WRITTEN, second_id, "RotateRequested"),
        (REVOKED, first_id, "Retired"),
        (REVOKED, second_id, "Deleted"),
        ("deleted the Secret", "", ""),
        (RELEASED, "", ""),
    ];
    assert_eq!(happened, expected, "{lines:#?}");
    // No longer than all of it. Some times are those of objects, which are whole seconds.
    let most = (start.elapsed() + Duration::from_secs(1)).as_millis();
    for line in &lines {
        let about = ["level", "kind", "namespace", "name", "account"].map(|field| line.text(field));
        assert_eq!(about, ["INFO", &*kind.name(), &w.namespace, "agent", &w.name], "{line:#?}");
        let has_duration = line.number("durationMs").is_some_and(|took| u128::from(took) <= most);
        assert_eq!(has_duration, !line.is("deleted the Secret"), "{line:#?}");
        let has_key = line.text("displayKey").contains("...");
        assert_eq!(has_key, line.is(ISSUED) || line.is(WRITTEN), "{line:#?}");
    }

    // It says the same of itself never twice in a row.
    let says = told(&w).into_iter().filter(|line| line.is("Ready has another reason") && line.text("name") == "agent");
    let says: Vec<_> = says.map(|line| (line.text("before").to_owned(), line.text("reason").to_owned())).collect();
    let is_chain = says.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].1 != pair[1].1);
    assert!(is_chain, "{says:?}");
    assert!(says.iter().any(|(_, reason)| reason == "Issued"), "{says:?}");
}

#[tokio::test]
async fn a_roll_and_a_restart_have_lines_of_their_own() {
    let w = World::of(WebsiteKey).await;
    w.run("Deployment", "web").await;
    let restart = json!([{ "kind": "Deployment", "name": "web" }]);
    w.apply("agent", json!({ "rotation": { "strategy": "Roll" }, "rolloutRestart": restart })).await;
    let first = w.issued_alone("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    let lines = eventually("the restart is told", WAIT, || async {
        let lines = deeds(&w, "agent");
        let restarts = lines.iter().filter(|line| line.text("workload") == "Deployment \"web\"").count();
        if restarts == 1 { Ok(lines) } else { Err(lines) }
    })
    .await;
    let happened: Vec<_> = lines.iter().map(|line| (line.text("message"), line.text("tokenId"))).collect();
    let id = &*first.token.id;
    let restarted = ("restarted a workload: its Secret has a new key", "");
    assert_eq!(happened, [(ISSUED, id), (WRITTEN, id), (ROLLED, id), (WRITTEN, id), restarted], "{lines:#?}");
}

/// Nobody can find what happened among lines that say that nothing did.
#[rstest]
#[tokio::test]
async fn where_nothing_happens_nothing_is_told(#[values(AccessToken, WebsiteKey)] kind: Subject) {
    let w = World::of(kind).await;
    w.apply("plain", json!({ "permissions": ["analytics:read"] })).await;
    w.apply("turning", json!({ "permissions": ["analytics:read"], "rotation": { "every": "24h" } })).await;
    w.create_secret("foreign", json!({}), json!({ "token": "not ours" })).await;
    w.apply("foreign", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("plain").await;
    w.issued("turning").await;
    w.says("foreign", "SecretConflict").await;
    w.polls(1).await;
    let before = told(&w).len();
    w.polls(3).await;
    let after = told(&w);
    assert_eq!(after.len(), before, "{:#?}", &after[before..]);
}

/// What fails is tried again and again; it is told when it begins to fail, and when it no longer does.
#[tokio::test]
async fn what_goes_on_failing_is_told_once() {
    let w = World::of(WebsiteKey).await;
    w.apply("agent", json!({})).await;
    w.issued("agent").await;
    let body = FaultBody::Error { code: None, message: "out of order".to_owned() };
    let status = Kind::Status { status: 503, body };
    let before = told(&w).len();
    let since = |lines: &[Line]| lines[before..].iter().map(|line| line.text("message").to_owned()).collect::<Vec<_>>();
    let failed = |operation| {
        w.account.requests().iter().filter(|it| it.operation == Some(operation) && it.status == Some(503)).count()
    };

    w.account.set_fault(Fault::new(Operation::ListWebsiteKeys, status.clone()));
    eventually("some lists of the website failed", WAIT, || async {
        let times = failed(Operation::ListWebsiteKeys);
        if times >= 3 { Ok(()) } else { Err(times) }
    })
    .await;
    w.account.clear_faults();
    w.account.set_fault(Fault::new(Operation::ListAccessTokens, status));
    eventually("some lists of the account failed", WAIT, || async {
        let times = failed(Operation::ListAccessTokens);
        if times >= 3 { Ok(()) } else { Err(times) }
    })
    .await;
    w.account.clear_faults();
    w.account_says("Connected").await;
    w.says("agent", "Issued").await;
    w.polls(1).await;

    let lines = told(&w);
    let times = |message: &str| since(&lines).iter().filter(|it| *it == message).count();
    assert_eq!(times("the list of a website's keys failed"), 1, "{lines:#?}");
    let of_account = |line: &&Line| line.text("kind") == "DataFastAccount" && line.is("Ready has another reason");
    let reasons: Vec<_> =
        lines[before..].iter().filter(of_account).map(|line| (line.text("level"), line.text("reason"))).collect();
    assert_eq!(reasons, [("WARN", "ApiUnavailable"), ("INFO", "Connected")], "{lines:#?}");
}

/// Starts an operator that logs at a level of choice.
async fn start_at(cluster: &ControlPlane, level: &str) -> Operator {
    start_with(cluster, None, &ARGS, &[("RUST_LOG", level)]).await
}

/// Whoever looks for a defect sees more, but neither keys nor the same span twice.
#[rstest]
#[tokio::test]
async fn at_every_level_a_look_has_one_span_and_no_key_is_told(
    // The latter is asked before all that is about targets.
    #[values("trace", "info,[reconcile]=trace")] level: &str,
) {
    let plane = Plane::take().await;
    let operator = start_at(&plane.cluster, level).await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } })).await;
    let first = w.issued("agent").await;
    w.annotate("agent", json!({ names::ROTATE: "1" })).await;
    w.renewed("agent", &first).await;
    w.issued_alone("agent").await;
    assert!(operator.terminate().await.unwrap().status.success());

    let text = operator.logs();
    for key in w.all_tokens().into_iter().map(|token| token.key) {
        assert!(!text.contains(&key["dft_".len()..]), "a key is in {}", operator.log_file().display());
    }
    assert!(!text.contains(&w.account.credential()["dft_".len()..]));
    let lines: Vec<_> = text.lines().map(Line::read).collect();
    assert!(lines.iter().any(|line| line.text("level") == "TRACE"), "it logs at that level");
    // Names of kube's own span.
    assert!(lines.iter().all(|line| !line.0.contains_key("object.ref")), "{}", operator.log_file().display());
    // It would show whole answers.
    assert!(lines.iter().all(|line| !line.text("target").starts_with("kube_client::client")), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.is(ISSUED) && line.text("name") == "agent").count(), 2);
}

#[tokio::test]
async fn without_a_level_of_choice_it_is_info() {
    let plane = Plane::take().await;
    let operator = start_at(&plane.cluster, "").await;
    let w = World::on(plane.cluster.clone(), Setup::default()).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    assert!(operator.terminate().await.unwrap().status.success());
    let lines: Vec<_> = operator.logs().lines().map(Line::read).collect();
    assert!(lines.iter().all(Line::is_told), "{lines:#?}");
    assert!(lines.iter().any(|line| line.is(ISSUED)), "{lines:#?}");
}
