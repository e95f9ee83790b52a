//! Compares what the operator may do with what it did in the last test runs, both ways: what is granted and never used is
//! too much, and what is used without a grant of ours would be missing where somebody else's does not help.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use datafast_harness::parse_yaml;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

/// The user of the operator's ServiceAccount.
const OPERATOR: &str = "system:serviceaccount:datafast-system:datafast-operator";

/// Grants that no test can be seen to use, and why they are there.
const UNSEEN: [(&str, &str); 1] =
    [("update datafast*/finalizers.datafa.st", "an admission plugin asks for it that is not on in tests")];

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Whether the operator has just the rights that it uses, by the audit logs of the last test runs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder with the runs of control planes
    #[arg(long, default_value = "target/harness", value_name = "FOLDER")]
    runs: PathBuf,
    /// What is installed
    #[arg(long, default_value = "deploy/install.yaml", value_name = "FILE")]
    install: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            let _ = write!(std::io::stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rights: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    let granted = granted(&arguments.install)?;
    // What an operator did that was granted other rights says nothing of these.
    let since = fs::metadata(&arguments.install)?.modified()?;
    let mut seen = Seen::default();
    let runs = fs::read_dir(&arguments.runs).map_err(|error| format!("{}: {error}", arguments.runs.display()))?;
    for run in runs {
        let log = run?.path().join("audit.log");
        if fs::metadata(&log).and_then(|log| log.modified()).is_ok_and(|at| at > since) {
            seen.read(&log)?;
        }
    }
    if seen.0.is_empty() {
        let (runs, install) = (arguments.runs.display(), arguments.install.display());
        return Err(format!("no audit log below {runs} that is newer than {install}: run `make test`").into());
    }
    let is_unseen = |right: &&String| UNSEEN.iter().any(|(pattern, _)| fits(pattern, right));
    let unused: Vec<_> = granted.iter().filter(|right| !seen.0.contains(*right)).collect();
    let too_much: Vec<_> = unused.iter().filter(|right| !is_unseen(right)).collect();
    let missing: Vec<_> = seen.0.difference(&granted).collect();
    if !too_much.is_empty() || !missing.is_empty() {
        return Err(format!("granted and not used: {too_much:#?}\nused and not granted: {missing:#?}").into());
    }
    let used = granted.len() - unused.len();
    let reasons: Vec<_> = UNSEEN.iter().map(|(pattern, why)| format!("{pattern}: {why}")).collect();
    Ok(format!("rights: {used} of {} that are granted are used; not seen: {}\n", granted.len(), reasons.join("; ")))
}

/// `*` in a pattern is one or more letters.
fn fits(pattern: &str, right: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == right,
        Some((head, tail)) => right.strip_prefix(head).is_some_and(|rest| rest.ends_with(tail)),
    }
}

/// `<verb> <resource>[/<subresource>][.<group>]`.
fn right(verb: &str, resource: &str, group: &str) -> String {
    if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}.{group}") }
}

fn granted(install: &Path) -> Result<BTreeSet<String>> {
    let mut rights = BTreeSet::new();
    for object in parse_yaml(&fs::read_to_string(install)?)? {
        let is_role = object.types.as_ref().is_some_and(|types| ["ClusterRole", "Role"].contains(&&*types.kind));
        if !is_role || object.metadata.name.as_deref() != Some("datafast-operator") {
            continue;
        }
        let rules: Vec<PolicyRule> = serde_json::from_value(object.data["rules"].clone())?;
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    rights.extend(rule.verbs.iter().map(|verb| right(verb, resource, group)));
                }
            }
        }
    }
    Ok(rights)
}

/// What the operator asked for and was allowed. What it is refused for want of a right fails a test.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn read(&mut self, log: &Path) -> Result<()> {
        for line in BufReader::new(File::open(log)?).lines() {
            let line = line?;
            // The last line of a run that was killed may be cut off.
            if let Some(entry) = serde_json::from_str::<Value>(&line).ok().filter(|_| line.contains(OPERATOR)) {
                self.note(&entry);
            }
        }
        Ok(())
    }

    fn note(&mut self, entry: &Value) {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (resource, group) = (text("/objectRef/resource"), text("/objectRef/apiGroup"));
        // What everybody may do is not ours to grant.
        if text("/user/username") != OPERATOR || resource.is_empty() || group == "authorization.k8s.io" {
            return;
        }
        let resource = match text("/objectRef/subresource") {
            "" => resource.to_owned(),
            subresource => format!("{resource}/{subresource}"),
        };
        let right = right(text("/verb"), &resource, group);
        if text("/annotations/authorization.k8s.io~1decision") == "allow" {
            self.0.insert(right);
        }
    }
}
