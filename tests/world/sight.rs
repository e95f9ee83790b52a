//! What users can see: conditions, Secrets, events; and who asked the API server for what.

use std::{
    fmt::{self, Debug},
    fs,
};

use datafast_harness::{condition, eventually};
use datafast_operator::api::{DataFastAccessToken, DataFastAccount, KeyResource};
use datafast_sandbox::TokenView;
use k8s_openapi::{
    api::{core::v1::Secret, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{WAIT, World};

/// What there is instead of what is waited for. It is made a text only where the wait was in vain.
pub(crate) struct Seen(Box<dyn Debug + Send>);

impl Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Seen> for String {
    fn from(seen: Seen) -> Self {
        format!("{seen:#?}")
    }
}

/// Anything.
fn seen(what: impl Debug + Send + 'static) -> Seen {
    Seen(Box::new(what))
}

/// A resource, its Secret, and the live token whose key is in it.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) resource: DataFastAccessToken,
    pub(crate) secret: Secret,
    pub(crate) token: TokenView,
}

impl Issued {
    /// The ids in `status.retiring`.
    pub(crate) fn retiring(&self) -> Vec<String> {
        let status = self.resource.status.clone().unwrap_or_default();
        status.retiring.into_iter().map(|retiring| retiring.token_id).collect()
    }
}

/// An entry of a Secret as text; empty where there is none.
pub(crate) fn text_in(secret: &Secret, entry: &str) -> String {
    let value = secret.data.as_ref().and_then(|data| data.get(entry));
    value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
}

/// The raw key in a resource's Secret.
pub(crate) fn key_in(secret: &Secret, resource: &DataFastAccessToken) -> String {
    text_in(secret, resource.secret_key())
}

impl World {
    /// Waits until a resource says that it has what its spec asks for, and it is true: the key in its Secret is that of
    /// the live token that its status names.
    #[track_caller]
    pub(crate) fn issued<'a>(&'a self, name: &'a str) -> impl Future<Output = Issued> + use<'a> {
        eventually(&format!("{name} is issued"), WAIT, move || self.look(name))
    }

    /// Waits until a resource is issued and the account has this one token only, beside what was not issued through the
    /// API.
    #[track_caller]
    pub(crate) fn issued_alone<'a>(&'a self, name: &'a str) -> impl Future<Output = Issued> + use<'a> {
        eventually(&format!("{name} is issued and has the only token"), WAIT, move || async move {
            let issued = self.look(name).await?;
            let live = self.issued_tokens();
            if live.len() == 1 { Ok(issued) } else { Err(seen(("live tokens", live))) }
        })
    }

    /// Waits until a resource is issued with another token than it had.
    #[track_caller]
    pub(crate) fn renewed<'a>(&'a self, name: &'a str, before: &'a Issued) -> impl Future<Output = Issued> + use<'a> {
        eventually(&format!("{name} has another token"), WAIT, move || async move {
            let issued = self.look(name).await?;
            if issued.token.id != before.token.id { Ok(issued) } else { Err(seen(issued.resource.status)) }
        })
    }

    /// What [`World::issued`] waits for, now.
    pub(crate) async fn look(&self, name: &str) -> Result<Issued, Seen> {
        let resource = self.find(name).await.map_err(seen)?.ok_or_else(|| seen("it is not there"))?;
        let ready = condition(&resource, "Ready").ok_or_else(|| seen("no condition Ready"))?;
        let status = resource.status.clone().unwrap_or_default();
        let current = ready.observed_generation == resource.metadata.generation
            && status.observed_generation == resource.metadata.generation;
        if !current || ready.status != "True" || ready.reason != "Issued" {
            return Err(seen((resource.metadata.generation, status)));
        }
        let secret = self.secrets().get(&resource.secret_name()).await.map_err(seen)?;
        let key = key_in(&secret, &resource);
        let token = self.live_tokens().into_iter().find(|token| token.key == key);
        let token = token.ok_or_else(|| seen("the Secret holds no live token's key"))?;
        if status.token_id.as_deref() != Some(&token.id) {
            return Err(seen(("the Secret holds the key of", token.id, status)));
        }
        Ok(Issued { resource, secret, token })
    }

    /// Waits until a resource is not ready, or still is, for this reason, in its present generation.
    #[track_caller]
    pub(crate) fn says<'a>(&'a self, name: &'a str, reason: &'a str) -> impl Future<Output = Condition> + use<'a> {
        self.says_one_of(name, &[reason])
    }

    /// As [`World::says`], with several reasons that are right.
    #[track_caller]
    pub(crate) fn says_one_of<'a>(
        &'a self,
        name: &'a str,
        reasons: &[&'a str],
    ) -> impl Future<Output = Condition> + use<'a> {
        let reasons = reasons.to_vec();
        eventually(&format!("{name} says {reasons:?}"), WAIT, move || {
            let reasons = reasons.clone();
            async move {
                let resource = self.find(name).await.map_err(seen)?.ok_or_else(|| seen("it is not there"))?;
                let ready = condition(&resource, "Ready").filter(|ready| {
                    ready.observed_generation == resource.metadata.generation && reasons.contains(&&*ready.reason)
                });
                ready.ok_or_else(|| seen(resource.status))
            }
        })
    }

    /// Waits until the account resource is ready, or is not, for this reason.
    #[track_caller]
    pub(crate) fn account_says<'a>(&'a self, reason: &'a str) -> impl Future<Output = Condition> + use<'a> {
        eventually(&format!("the account says {reason}"), WAIT, move || async move {
            let account = self.account_resource().await;
            let ready = condition(&account, "Ready").filter(|ready| ready.reason == reason);
            ready.ok_or_else(|| seen(account.status))
        })
    }

    pub(crate) async fn resource(&self, name: &str) -> DataFastAccessToken {
        self.find(name).await.unwrap().unwrap()
    }

    pub(crate) async fn account_resource(&self) -> DataFastAccount {
        self.accounts().get(&self.name).await.unwrap()
    }

    pub(crate) async fn secret(&self, name: &str) -> Secret {
        self.secrets().get(name).await.unwrap()
    }

    /// Waits for an event about a resource, and returns its text.
    #[track_caller]
    pub(crate) fn event<'a>(&'a self, name: &'a str, reason: &'a str) -> impl Future<Output = String> + use<'a> {
        eventually(&format!("an event {reason} about {name}"), WAIT, move || async move {
            let events = self.events(name).await;
            let found = events.iter().find(|event| event.reason.as_deref() == Some(reason));
            found.map(|event| event.note.clone().unwrap_or_default()).ok_or_else(|| reasons(&events))
        })
    }

    /// Every `Ready` that the operator has written for a resource, oldest first.
    pub(crate) fn said(&self, name: &str) -> Vec<Condition> {
        let about = json!({ "resource": self.kind.resource().plural, "subresource": "status", "name": name });
        let is_about = |entry: &Value| {
            let fields = about.as_object().unwrap();
            fields.iter().all(|(field, value)| entry["objectRef"].get(field) == Some(value))
        };
        let written =
            self.audited().into_iter().filter(|entry| is_about(entry) && entry["responseStatus"]["code"] == 200);
        written.filter_map(|entry| condition(&entry["requestObject"], "Ready")).collect()
    }

    /// The events about a resource.
    pub(crate) async fn events(&self, name: &str) -> Vec<Event> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await.unwrap();
        let is_about = |event: &Event| event.regarding.as_ref().is_some_and(|r| r.name.as_deref() == Some(name));
        events.into_iter().filter(is_about).collect()
    }

    /// The events about the account resource.
    pub(crate) async fn account_events(&self, reason: &str) -> Vec<Event> {
        // Where events about objects without a namespace are.
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let events = api.list(&ListParams::default()).await.unwrap();
        let is_about = |event: &Event| event.regarding.as_ref().is_some_and(|r| r.name.as_ref() == Some(&self.name));
        events.into_iter().filter(|event| is_about(event) && event.reason.as_deref() == Some(reason)).collect()
    }

    /// What the operator has asked the API server to change in this namespace, events aside: `create secrets`,
    /// `create secrets, dry run`, `patch datafastaccesstokens/status`.
    pub(crate) fn writes(&self) -> Vec<String> {
        let writes =
            self.operators_writes().filter(|entry| text(entry, "/objectRef/namespace") == Some(&*self.namespace));
        writes.map(|entry| in_words(&entry).replace("websitekeys", "accesstokens")).collect()
    }

    /// How often the operator has written to the account resource.
    pub(crate) fn account_writes(&self) -> usize {
        let is_about = |entry: &Value| {
            let about = (text(entry, "/objectRef/resource"), text(entry, "/objectRef/name"));
            about == (Some("datafastaccounts"), Some(&*self.name))
        };
        self.operators_writes().filter(is_about).count()
    }

    /// What the audit log has on requests of the operator that change something, events aside.
    fn operators_writes(&self) -> impl Iterator<Item = Value> + use<> {
        self.audited().into_iter().filter(|entry| {
            let is_operators = text(entry, "/user/username") == Some(OPERATOR);
            let is_read = ["get", "list", "watch"].map(Some).contains(&text(entry, "/verb"));
            is_operators && !is_read && text(entry, "/objectRef/resource") != Some("events")
        })
    }

    /// What the audit log has on this world.
    fn audited(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.cluster.audit_log()).unwrap();
        let lines = log.lines().filter(|line| line.contains(&self.namespace));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

const OPERATOR: &str = "system:serviceaccount:datafast-system:datafast-operator";

fn text<'a>(entry: &'a Value, pointer: &str) -> Option<&'a str> {
    entry.pointer(pointer).and_then(Value::as_str)
}

fn in_words(write: &Value) -> String {
    let text = |pointer| text(write, pointer).unwrap_or_default();
    let (verb, resource) = (text("/verb"), text("/objectRef/resource"));
    let subresource = Some(text("/objectRef/subresource")).filter(|name| !name.is_empty());
    let subresource = subresource.map(|name| format!("/{name}")).unwrap_or_default();
    let dry_run = if text("/requestURI").contains("dryRun=All") { ", dry run" } else { "" };
    format!("{verb} {resource}{subresource}{dry_run}")
}

fn reasons(events: &[Event]) -> String {
    let text = |event: &Event| format!("{} ({})", event.reason.as_deref().unwrap_or("?"), event.name_any());
    events.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Shows what the operators on a world's control plane said about it.
pub(super) fn print_logs(world: &World) {
    for file in fs::read_dir(world.cluster.dir()).into_iter().flatten().flatten() {
        let path = file.path();
        let is_operators = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("operator-"));
        if !is_operators || path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let log = fs::read(&path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&world.name)).collect();
        println!("--- {} about {}:", path.display(), world.name);
        lines[lines.len().saturating_sub(60)..].iter().for_each(|line| println!("{line}"));
    }
}
