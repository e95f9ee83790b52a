//! The whole product on one machine: a real API server, DataFast's API in memory, the operator as a process, and the
//! sample manifests. `make demo` runs it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, builder::FalseyValueParser};
use datafast_harness::{
    ControlPlane, OPERATOR_NAMESPACE, Operator, OperatorOptions, WAIT, apply_yaml, condition, install, parse_yaml,
};
use datafast_sandbox::{Account, AccountOptions, Options, Sandbox};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// So that a token deleted at DataFast is noticed while one looks on. Nothing delays a request on loopback.
const HORIZON: &str = "20s";
const POLL_INTERVAL: &str = "10s";
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Kinds of resources, and their short names.
const KINDS: [(&str, &str); 3] =
    [("DataFastAccount", "dfa"), ("DataFastAccessToken", "dft"), ("DataFastWebsiteKey", "dfk")];
const LOG_LINES: usize = 40;
const INTERRUPTED: &str = "interrupted before every sample was Ready";

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The operator, a real Kubernetes API server and DataFast's API in memory, all on loopback, with sample manifests.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The operator's program
    #[arg(long, env = "DATAFAST_OPERATOR", default_value = "target/debug/datafast-operator", value_name = "FILE")]
    operator: PathBuf,
    /// The folder with the manifests to apply
    #[arg(long, default_value = "deploy/samples", value_name = "FOLDER")]
    samples: PathBuf,
    /// End as soon as every sample is Ready, or with an error where one does not get there
    #[arg(long, env = "DEMO_ONCE", value_parser = FalseyValueParser::new())]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = run(Arguments::parse()).await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is dropped when this returns, by whichever way, is ended: no process outlives the demo.
async fn run(arguments: Arguments) -> Result<()> {
    let demo = tokio::select! {
        demo = Demo::start(&arguments) => demo?,
        stopped = interrupted() => {
            stopped?;
            return if arguments.once { Err(INTERRUPTED.into()) } else { Ok(()) };
        }
    };
    let outcome = demo.show(arguments.once).await;
    match (outcome, demo.operator.is_running()?) {
        (Ok(()), true) => {
            let ended = demo.operator.terminate().await?;
            demo.say(format!("the operator ended after {:.1} s ({})", ended.after.as_secs_f64(), ended.status));
            Ok(())
        }
        (outcome, _) => {
            let logs = demo.operator.logs();
            let lines: Vec<_> = logs.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            let why = outcome.err().map_or_else(|| "the operator ended".to_owned(), |error| error.to_string());
            Err(format!("{why}. The end of {}:\n{end}", demo.operator.log_file().display()).into())
        }
    }
}

async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

struct Demo {
    // Dropped from top to bottom: the operator before what it talks to.
    operator: Operator,
    account: Account,
    sandbox: Sandbox,
    cluster: ControlPlane,
    client: Client,
    start: Instant,
}

impl Demo {
    async fn start(arguments: &Arguments) -> Result<Self> {
        let start = Instant::now();
        let say = |text: String| say(start, text);
        if !arguments.operator.is_file() {
            let file = arguments.operator.display();
            return Err(
                format!("the operator {file} is not there: build it with `cargo build`, or run `make demo`").into()
            );
        }
        say("starting etcd, kube-apiserver and kube-controller-manager".into());
        let cluster = ControlPlane::start().await?;
        say(format!("API server at {}", cluster.url()));
        install(&cluster).await?;
        say("installed the custom resources, the namespace datafast-system and the operator's role".into());

        let sandbox = Sandbox::start(Options::default()).await?;
        let account = sandbox.account(AccountOptions { name: Some("default".into()), ..AccountOptions::default() });
        say(format!("DataFast's API, in memory, at {}", sandbox.base_url()));

        let options = OperatorOptions::new(&arguments.operator, cluster.kubeconfig_operator(None)?).args([
            "--allow-plain-http",
            "--horizon",
            HORIZON,
            "--log-format",
            "text",
        ]);
        let operator = Operator::start(options)?;
        operator.wait_ready().await?;
        say(format!("operator at {} (/metrics), its log in {}", operator.url(), operator.log_file().display()));

        let client = cluster.admin().await?;
        let credentials = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "datafast-credentials" },
            "stringData": { "token": account.credential() },
        });
        apply_yaml(&client, "demo", OPERATOR_NAMESPACE, &credentials.to_string()).await?;
        let demo = Self { operator, account, sandbox, cluster, client, start };
        demo.apply_samples(&arguments.samples).await?;
        Ok(demo)
    }

    /// As `kubectl apply -f` would, but that the account leads to the sandbox.
    async fn apply_samples(&self, folder: &Path) -> Result<()> {
        let mut objects = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            objects.extend(parse_yaml(&std::fs::read_to_string(entry?.path())?)?);
        }
        let kind = |object: &DynamicObject| object.types.as_ref().map(|t| t.kind.clone()).unwrap_or_default();
        let rank = |kind: &str| ["Namespace", "DataFastAccount"].iter().position(|k| *k == kind).unwrap_or(2);
        objects.sort_by_key(|object| (rank(&kind(object)), object.name_any()));
        for mut object in objects {
            if kind(&object) == "DataFastAccount" {
                object.data["spec"]["baseUrl"] = self.sandbox.base_url().into();
                object.data["spec"]["pollInterval"] = POLL_INTERVAL.into();
            }
            apply_yaml(&self.client, "demo", "default", &serde_json::to_string(&object)?).await?;
            self.say(format!("applied {} {}", kind(&object), object.name_any()));
        }
        Ok(())
    }

    /// Tells what happens to the resources: until Ctrl-C, or until all are Ready where that is what was asked for.
    async fn show(&self, once: bool) -> Result<()> {
        let mut interrupted = std::pin::pin!(interrupted());
        let mut shown = BTreeMap::new();
        let mut all_ready = false;
        let deadline = Instant::now() + WAIT;
        loop {
            tokio::select! {
                stopped = &mut interrupted => {
                    stopped?;
                    return if once { Err(INTERRUPTED.into()) } else { Ok(()) };
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !self.operator.is_running()? {
                return Err("the operator ended by itself".into());
            }
            let seen = self.look().await?;
            for (name, row) in &seen {
                if shown.get(name) != Some(row) {
                    self.say(format!("{name:<30} {row}"));
                }
            }
            for name in shown.keys().filter(|name| !seen.contains_key(*name)) {
                self.say(format!("{name:<30} gone"));
            }
            shown = seen;
            if all_ready {
                continue;
            }
            all_ready = shown.values().all(|row| row.ready);
            match (all_ready, once) {
                (true, _) => self.summary().await?,
                (false, true) if Instant::now() > deadline => {
                    let late: Vec<_> =
                        shown.iter().filter(|(_, row)| !row.ready).map(|(name, _)| name.as_str()).collect();
                    return Err(format!("not Ready within {WAIT:?}: {}", late.join(", ")).into());
                }
                (false, _) => continue,
            }
            if once {
                return Ok(());
            }
            self.invite();
        }
    }

    async fn look(&self) -> Result<BTreeMap<String, Row>> {
        let mut rows = BTreeMap::new();
        for (kind, short) in KINDS {
            for object in self.list(kind).await? {
                let namespace = object.namespace().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                rows.insert(format!("{short} {namespace}{}", object.name_any()), Row::of(&object));
            }
        }
        Ok(rows)
    }

    async fn list(&self, kind: &str) -> Result<Vec<DynamicObject>> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("datafa.st", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// What was made: names and masked keys, never a raw one.
    async fn summary(&self) -> Result<()> {
        let namespaced = |plural| ["get", plural, "--all-namespaces"];
        let [tokens, keys] = ["datafastaccesstokens", "datafastwebsitekeys"].map(namespaced);
        for args in [["get", "datafastaccounts"].as_slice(), &tokens, &keys] {
            let output = self.cluster.kubectl(args).await?;
            print(format!("\n$ kubectl {}\n{}", args.join(" "), String::from_utf8_lossy(&output.stdout)));
        }
        print("\nThe Secrets, and the entries in them:\n");
        let (tokens, keys) = (self.list("DataFastAccessToken").await?, self.list("DataFastWebsiteKey").await?);
        for token in tokens.into_iter().chain(keys) {
            let (namespace, text) = (token.namespace().unwrap_or_default(), |field| status(&token, field));
            let name = text("secretName");
            let secret = Api::<Secret>::namespaced(self.client.clone(), &namespace).get(&name).await?;
            let entries: Vec<_> = secret.data.unwrap_or_default().into_keys().collect();
            print(format!("  {namespace}/{name:<20} {:<18} {}\n", text("displayKey"), entries.join(", ")));
        }
        print("\nAt DataFast (the sandbox):\n");
        for token in self.account.live_tokens() {
            let name = token.name.unwrap_or_default();
            print(format!("  {} {:<18} {name}: {}\n", token.id, token.display_key, token.permissions.join(" ")));
        }
        for key in self.account.live_website_keys() {
            let (name, website) = (key.name.unwrap_or_default(), key.website_id.unwrap_or_default());
            print(format!("  {} {:<18} {name}: website {website}\n", key.id, key.display_key));
        }
        Ok(())
    }

    /// What to do in a second terminal.
    fn invite(&self) {
        let kubeconfig = self.cluster.kubeconfig_admin();
        let path = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()).map_or_else(
            // The folder of a control plane is two below cargo's target folder.
            || self.cluster.dir().ancestors().nth(2).unwrap_or(Path::new("target")).join("control-plane"),
            PathBuf::from,
        );
        let tokens = format!("{}/accounts/default/tokens", self.sandbox.control_url());
        let (kubeconfig, path) = (kubeconfig.display(), path.display());
        print(format!(
            "
Look around in a second terminal; this one tells what happens.

  export KUBECONFIG={kubeconfig}
  export PATH={path}:$PATH

  kubectl get datafast --all-namespaces
  kubectl --namespace demo describe datafastaccesstoken ci

  # A new key, with the old one valid beside it for a day; and one at once, for the key has leaked.
  kubectl --namespace demo annotate datafastaccesstoken reporting-agent datafa.st/rotate=$(date +%s) --overwrite
  kubectl --namespace demo annotate datafastaccesstoken reporting-agent datafa.st/revoke-now=$(date +%s) --overwrite

  # Another value for the same website key: its old one ends at once.
  kubectl --namespace demo annotate datafastwebsitekey shop datafa.st/rotate=$(date +%s) --overwrite

  # Somebody deletes the Secret: it comes back, with a new key.
  kubectl --namespace demo delete secret ci-datafast

  # Somebody deletes the token at DataFast: noticed with the second list that lacks it, and issued anew.
  curl -X DELETE {tokens}/$(kubectl --namespace demo get datafastaccesstoken reporting-agent --output jsonpath={{.status.tokenId}})

  # The resource goes: its token is revoked, its Secret deleted.
  kubectl --namespace demo delete datafastaccesstoken visiting-analyst

  # All that the sandbox knows, raw keys included.
  curl {tokens}

Ctrl-C ends it all.

"
        ));
    }

    fn say(&self, text: impl Display) {
        say(self.start, text);
    }
}

/// A resource in one line.
#[derive(PartialEq, Eq)]
struct Row {
    ready: bool,
    text: String,
}

impl Row {
    fn of(object: &DynamicObject) -> Self {
        let Some(ready) = condition(object, "Ready") else {
            return Self { ready: false, text: "not reconciled yet".into() };
        };
        // A condition about an older spec says nothing about this one.
        let current = ready.observed_generation.is_none_or(|seen| Some(seen) == object.metadata.generation);
        let is_ready = ready.status == "True" && current;
        let mut text = format!("{:<6} {:<18}", ready.status, ready.reason);
        let detail = if is_ready { status(object, "displayKey") } else { ready.message };
        text = format!("{text} {detail}").trim_end().to_owned();
        if object.metadata.deletion_timestamp.is_some() {
            text += " (being deleted)";
        }
        Self { ready: is_ready, text }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn status(object: &DynamicObject, field: &str) -> String {
    object.data.pointer(&format!("/status/{field}")).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn say(start: Instant, text: impl Display) {
    print(format!("{:6.1} s  {text}\n", start.elapsed().as_secs_f64()));
}

/// Without the panic of `print!` where nobody reads on, as in `make demo | head`.
fn print(text: impl Display) {
    let mut stdout = std::io::stdout();
    let _ = write!(stdout, "{text}");
    let _ = stdout.flush();
}
