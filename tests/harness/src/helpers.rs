//! Small things that every test does.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{GroupVersionKind, Status},
    discovery::{Scope, pinned_kind},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::{Context, Error, Result};

/// How long anything is waited for. Only a test that fails meets this limit, so it is far beyond what the slowest machine
/// needs: what has a time to keep is asserted where that time is the promise.
pub const WAIT: Duration = Duration::from_secs(300);

/// What one request of a test may take.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// For an HTTP client of a server on this machine: without a proxy, and without the system's CA certificates, which take
/// longer to read than most tests' requests.
pub fn plain_http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// What a probe of [`eventually`] may return: an `Option`, or a `Result` whose error shows what was seen instead.
pub trait Outcome {
    /// What is waited for.
    type Value;
    /// What there may be instead.
    type Seen: Debug;
    /// The value, or what there is instead.
    ///
    /// # Errors
    ///
    /// What was seen, for the message of a wait in vain. It is made a text only there: most probes fail.
    fn outcome(self) -> std::result::Result<Self::Value, Self::Seen>;
}

impl<T> Outcome for Option<T> {
    type Value = T;
    type Seen = &'static str;
    fn outcome(self) -> std::result::Result<T, &'static str> {
        self.ok_or("nothing")
    }
}

impl<T, E: Debug> Outcome for std::result::Result<T, E> {
    type Value = T;
    type Seen = E;
    fn outcome(self) -> std::result::Result<T, E> {
        self
    }
}

/// Asks again every 50 ms until there is an answer; after a while less often, up to every second.
///
/// ```no_run
/// # async fn example(secrets: kube::Api<k8s_openapi::api::core::v1::Secret>) {
/// # use datafast_harness::{WAIT, eventually};
/// let secret = eventually("the Secret is there", WAIT, || async { secrets.get("a").await }).await;
/// # }
/// ```
///
/// # Panics
///
/// When `timeout` has passed: with `what` and what was seen last.
#[track_caller]
pub fn eventually<F, Fut>(
    what: &str,
    timeout: Duration,
    probe: F,
) -> impl Future<Output = <Fut::Output as Outcome>::Value> + use<F, Fut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output: Outcome>,
{
    poll(at_caller(what), timeout, probe)
}

/// A panic in a future does not know who made the future: the text says it.
#[track_caller]
fn at_caller(what: &str) -> String {
    format!("{what} (at {})", std::panic::Location::caller())
}

/// Between one probe and the next.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

async fn poll<F, Fut>(what: String, timeout: Duration, mut probe: F) -> <Fut::Output as Outcome>::Value
where
    F: FnMut() -> Fut,
    Fut: Future<Output: Outcome>,
{
    let start = Instant::now();
    let deadline = start + timeout;
    let mut last = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // One last try after the deadline, for what was slow to ask.
        match tokio::time::timeout(left.max(ANSWERED_WITHIN), probe()).await.map(Outcome::outcome) {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last = Some(seen),
            // What was seen before says more.
            Err(_) => {}
        }
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}. Seen last: {last:#?}");
        // Many long waits side by side must not keep the servers busy.
        tokio::time::sleep((start.elapsed() / 5).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
    }
}

/// A new namespace with a name that starts with `prefix`.
///
/// # Errors
///
/// Where the API server refuses it.
pub async fn namespace(client: &Client, prefix: &str) -> Result<String> {
    let name = format!("{prefix}-{:08x}", rand::random::<u32>());
    let object = Namespace {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
    Ok(name)
}

/// A condition of any object.
pub fn condition<K: Serialize>(object: &K, condition_type: &str) -> Option<Condition> {
    #[derive(Deserialize)]
    struct Lenient {
        #[serde(rename = "type")]
        type_: String,
    }
    let object = serde_json::to_value(object).ok()?;
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let is_it = |c: &&Value| Lenient::deserialize(*c).is_ok_and(|c| c.type_ == condition_type);
    let mut found = conditions.iter().find(is_it)?.clone();
    // Conditions of older APIs may lack what newer ones require.
    for (name, default) in [("reason", ""), ("message", ""), ("lastTransitionTime", "1970-01-01T00:00:00Z")] {
        if found.get(name).is_none_or(Value::is_null) {
            found[name] = default.into();
        }
    }
    serde_json::from_value(found).ok()
}

/// Waits until an object's condition has this status, and returns the object.
///
/// # Panics
///
/// When `timeout` has passed: with the object's status as it is.
#[track_caller]
pub fn wait_condition<K>(
    api: &Api<K>,
    name: &str,
    condition_type: &str,
    status: &str,
    timeout: Duration,
) -> impl Future<Output = K>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let what = at_caller(&format!("{name} has {condition_type}={status}"));
    poll(what, timeout, move || async move {
        let object = api.get(name).await.map_err(|e| e.to_string())?;
        if condition(&object, condition_type).is_some_and(|c| c.status == status) {
            return Ok(object);
        }
        let object = serde_json::to_value(&object).unwrap_or_default();
        Err(object.get("status").map_or_else(|| "no status".into(), Value::to_string))
    })
}

/// Waits until an object is gone.
///
/// # Panics
///
/// When `timeout` has passed: with the object as it is.
#[track_caller]
pub fn wait_gone<K>(api: &Api<K>, name: &str, timeout: Duration) -> impl Future<Output = ()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let what = at_caller(&format!("{name} is gone"));
    poll(what, timeout, move || async move {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(object)) => Err(format!("{object:?}")),
            Err(e) => Err(e.to_string()),
        }
    })
}

/// The objects of a text with one or more YAML documents. Empty ones are left out.
///
/// # Errors
///
/// Where it is not YAML, or no Kubernetes object.
pub fn parse_yaml(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents = serde_yaml::Deserializer::from_str(yaml).map(Value::deserialize);
    let documents = documents.filter(|document| !matches!(document, Ok(Value::Null)));
    documents.map(|document| Ok(serde_json::from_value(document?)?)).collect()
}

/// Server-side apply, by force, of one or more YAML documents, in their order. `namespace` is for the objects that are
/// namespaced and name none.
///
/// # Errors
///
/// Where one is no object of a kind that the API server knows, or it refuses one: with its kind and name.
pub async fn apply_yaml(
    client: &Client,
    field_manager: &str,
    namespace: &str,
    yaml: &str,
) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse_yaml(yaml)? {
        let types = object.types.clone().ok_or_else(|| Error::new("an object without apiVersion and kind"))?;
        let what = format!("{} {}", types.kind, object.name_any());
        let gvk = GroupVersionKind::try_from(&types).context(&what)?;
        let (resource, capabilities) = pinned_kind(client, &gvk).await.context(&what)?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
                Api::namespaced_with(client.clone(), &namespace, &resource)
            }
        };
        let params = PatchParams::apply(field_manager).force();
        applied.push(api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.context(&what)?);
    }
    Ok(applied)
}

/// What the API server said in refusing a request.
///
/// # Panics
///
/// When it did not refuse it, or gave no answer.
#[track_caller]
pub fn server_error<T: Debug>(result: kube::Result<T>) -> Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("a refusal by the API server was expected, not {other:?}"),
    }
}
