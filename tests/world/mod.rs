//! The world of a test: a namespace, an account at DataFast, and an operator that manages it.

mod clocked;
mod operator;
mod sight;
mod subject;
mod tls;
mod workload;

use std::sync::Arc;

pub(crate) use datafast_harness::WAIT;
use datafast_harness::{ControlPlane, eventually, namespace};
use datafast_operator::api::{DataFastAccessToken, DataFastAccount};
use datafast_sandbox::{Account, AccountOptions, Fault, ForeignToken, LoggedRequest, Operation};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{DynamicObject, NamespaceResourceScope},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) use clocked::Clocked;
pub(crate) use operator::{
    ARGS, HORIZON, HORIZON_ARG, Plane, binary, late_proxy, launch, sandbox, shared, shared_get, shared_get_as,
    shared_operator, start, start_with,
};
pub(crate) use sight::{Issued, key_in, text_in};
pub(crate) use subject::{Subject, WEBSITE};
pub(crate) use tls::datafast_by_tls;
pub(crate) use workload::workload;

/// Where the operator's credentials are.
pub(crate) const SYSTEM: &str = datafast_harness::OPERATOR_NAMESPACE;

/// A namespace, and an account that its resources belong to.
pub(crate) struct World {
    pub(crate) cluster: Arc<ControlPlane>,
    /// May do everything.
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// At DataFast.
    pub(crate) account: Account,
    /// The `DataFastAccount`, and the Secret with its credential.
    pub(crate) name: String,
    /// What its resources are.
    pub(crate) kind: Subject,
    pub(crate) in_use: Arc<InUse>,
}

/// An account resource, for as long as there is a world with it.
pub(crate) struct InUse {
    cluster: Arc<ControlPlane>,
    name: String,
}

impl InUse {
    pub(crate) fn new(cluster: &Arc<ControlPlane>, name: &str) -> Arc<Self> {
        Arc::new(Self { cluster: cluster.clone(), name: name.to_owned() })
    }
}

/// An operator that went on polling the accounts of all tests that have ended would have ever more to do.
impl Drop for InUse {
    fn drop(&mut self) {
        operator::stop_polling(self.cluster.clone(), self.name.clone());
    }
}

/// How a world is made.
#[derive(Default)]
pub(crate) struct Setup {
    /// What its resources are.
    pub(crate) kind: Subject,
    /// At DataFast.
    pub(crate) account: AccountOptions,
    /// Fields of the `DataFastAccount`, in place of the usual ones.
    pub(crate) spec: Option<Value>,
    /// What the Secret has for a credential; none: what it should have.
    pub(crate) credential: Option<&'static str>,
    /// A token of this scope is there from the beginning, made by hand.
    pub(crate) by_hand: Option<&'static [&'static str]>,
    /// So many tokens of others are there from the beginning; the operator's credential comes on top.
    pub(crate) others: usize,
    /// Met from the first call on.
    pub(crate) fault: Option<Fault>,
}

impl World {
    /// A world that the shared operator manages.
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// As [`World::new`], with resources of a kind.
    pub(crate) async fn of(kind: Subject) -> Self {
        Self::with(Setup { kind, ..Setup::default() }).await
    }

    /// As [`World::new`], but not quite as usual.
    pub(crate) async fn with(setup: Setup) -> Self {
        Self::on(shared().await, setup).await
    }

    /// As [`World::new`], with a fault that the operator's first call meets already.
    pub(crate) async fn faulty(fault: Fault) -> Self {
        Self::with(Setup { fault: Some(fault), ..Setup::default() }).await
    }

    /// A world on a control plane of choice.
    pub(crate) async fn on(cluster: Arc<ControlPlane>, setup: Setup) -> Self {
        let client = cluster.admin().await.unwrap();
        let namespace = namespace(&client, "e2e").await.unwrap();
        let account = sandbox().account(AccountOptions { name: Some(namespace.clone()), ..setup.account });
        let in_use = InUse::new(&cluster, &namespace);
        let world = Self { cluster, client, name: namespace.clone(), namespace, account, kind: setup.kind, in_use };
        setup.fault.map(|fault| world.set_fault(fault));
        setup.by_hand.map(|permissions| world.made_by_hand(permissions));
        (0..setup.others).for_each(|_| drop(world.add_token(ForeignToken::default())));
        world.set_credential(setup.credential.unwrap_or(&world.account.credential())).await;
        world.set_account(setup.spec.unwrap_or(json!({}))).await;
        world
    }

    /// The same namespace and account, with resources of a kind.
    pub(crate) fn about(&self, kind: Subject) -> Self {
        let (cluster, client) = (self.cluster.clone(), self.client.clone());
        let (namespace, account, name) = (self.namespace.clone(), self.account.clone(), self.name.clone());
        Self { cluster, client, namespace, account, name, kind, in_use: self.in_use.clone() }
    }

    /// Another namespace with the same account.
    pub(crate) async fn neighbour(&self) -> Self {
        let namespace = namespace(&self.client, "e2e").await.unwrap();
        let mut there = self.about(self.kind);
        there.namespace = namespace;
        there
    }

    /// A namespace of another cluster, with an account resource there that leads to the same account at DataFast.
    pub(crate) async fn on_cluster(&self, cluster: Arc<ControlPlane>) -> Self {
        let client = cluster.admin().await.unwrap();
        let namespace = namespace(&client, "e2e").await.unwrap();
        let (account, name, kind) = (self.account.clone(), self.name.clone(), self.kind);
        let in_use = InUse::new(&cluster, &name);
        let there = Self { cluster, client, namespace, account, name, kind, in_use };
        there.set_credential(&self.account.credential()).await;
        let spec = serde_json::to_value(self.account_resource().await.spec).unwrap();
        there.set_account(spec).await;
        there
    }

    /// The resources, as they are.
    pub(crate) fn objects(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &self.kind.resource())
    }

    /// A resource, if it is there.
    pub(crate) async fn find(&self, name: &str) -> kube::Result<Option<DataFastAccessToken>> {
        Ok(self.objects().get_opt(name).await?.map(|object| self.kind.read(object)))
    }

    /// All resources.
    pub(crate) async fn list(&self) -> kube::Result<Vec<DataFastAccessToken>> {
        let objects = self.objects().list(&ListParams::default()).await?;
        Ok(objects.into_iter().map(|object| self.kind.read(object)).collect())
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        self.api()
    }

    pub(crate) fn accounts(&self) -> Api<DataFastAccount> {
        Api::all(self.client.clone())
    }

    pub(crate) fn credentials(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes the `DataFastAccount`: the sandbox's address, a short poll interval, website keys allowed where nothing else
    /// is said of them, and these fields.
    pub(crate) async fn set_account(&self, spec: Value) -> DataFastAccount {
        let mut whole = json!({
            "credentialsSecretRef": { "name": self.name },
            "baseUrl": sandbox().base_url(),
            "pollInterval": "10s",
            "allow": {},
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        whole["allow"].as_object_mut().unwrap().entry("websiteKeys").or_insert(json!(true));
        let manifest = json!({
            "apiVersion": "datafa.st/v1alpha1",
            "kind": "DataFastAccount",
            "metadata": { "name": self.name },
            "spec": whole,
        });
        apply(&self.accounts(), &self.name, &manifest).await
    }

    /// Writes the Secret with the credential.
    pub(crate) async fn set_credential(&self, credential: &str) {
        self.write_credential(&self.credentials(), credential).await;
    }

    /// Writes it among these Secrets: those of the namespace that the operator takes for its own.
    async fn write_credential(&self, secrets: &Api<Secret>, credential: &str) {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": self.name },
            "stringData": { "token": credential },
        });
        apply(secrets, &self.name, &secret).await;
    }

    /// Writes a resource as a user would: with this spec, and the world's account.
    pub(crate) async fn apply(&self, name: &str, spec: Value) -> DataFastAccessToken {
        self.kind.read(apply(&self.objects(), name, &self.manifest(name, spec)).await)
    }

    /// A manifest with the world's account.
    pub(crate) fn manifest(&self, name: &str, spec: Value) -> Value {
        let mut spec = self.kind.whole_spec(spec);
        spec["accountRef"] = json!({ "name": self.name });
        json!({
            "apiVersion": "datafa.st/v1alpha1",
            "kind": self.kind.name(),
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": spec,
        })
    }

    /// Deletes a resource, without waiting.
    pub(crate) async fn delete(&self, name: &str) {
        self.objects().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Deletes a Secret.
    pub(crate) async fn delete_secret(&self, name: &str) {
        self.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Merges annotations into those of a resource; null takes one away.
    pub(crate) async fn annotate(&self, name: &str, annotations: Value) {
        let patch = json!({ "metadata": { "annotations": annotations } });
        self.objects().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Merges something into the spec of a resource.
    pub(crate) async fn patch_spec(&self, name: &str, spec: Value) -> DataFastAccessToken {
        let patch = Patch::Merge(json!({ "spec": self.kind.spec(spec) }));
        self.kind.read(self.objects().patch(name, &PatchParams::default(), &patch).await.unwrap())
    }

    /// Has the operator look at a resource as it is now, and waits until it has nothing left to do about it. What is
    /// changed for that is an annotation of the Secret.
    pub(crate) async fn look_at(&self, name: &str) -> DataFastAccessToken {
        let look = json!({ "secret": { "annotations": { "example.com/look": unique() } } });
        let generation = self.patch_spec(name, look).await.metadata.generation;
        eventually(&format!("{name} is looked at"), WAIT, || async {
            let resource = self.resource(name).await;
            let seen = resource.status.as_ref().and_then(|status| status.observed_generation);
            if seen >= generation { Ok(resource) } else { Err(resource.status) }
        })
        .await
    }

    /// Merges something into a Secret.
    pub(crate) async fn patch_secret(&self, name: &str, patch: Value) {
        self.secrets().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Creates a Secret of somebody else, and returns it as it is stored.
    pub(crate) async fn create_secret(&self, name: &str, annotations: Value, data: Value) -> Secret {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "annotations": annotations },
            "stringData": data,
        });
        let secret = serde_json::from_value(secret).unwrap();
        self.secrets().create(&PostParams::default(), &secret).await.unwrap()
    }

    /// A token that somebody made by hand, and that the account's credential may delete. Returns its id and its key.
    pub(crate) fn made_by_hand(&self, permissions: &[&str]) -> (String, String) {
        let id = self.add_token(ForeignToken {
            name: Some("made by hand".to_owned()),
            permissions: Some(permissions.iter().map(ToString::to_string).collect()),
            created_by: Some(self.account.credential_id()),
            ..ForeignToken::default()
        });
        let key = self.all_tokens().into_iter().find(|token| token.id == id).unwrap().key;
        (id, key)
    }

    /// Another credential of the account, with all rights, that somebody made by hand.
    pub(crate) fn another_credential(&self) -> String {
        let id = self.account.add_token(ForeignToken::default());
        self.account.tokens().into_iter().find(|token| token.id == id).unwrap().key
    }

    /// How many tokens the operator asked for.
    pub(crate) fn posts(&self) -> u64 {
        self.count(Operation::CreateAccessToken)
    }

    /// How many tokens the operator asked to delete.
    pub(crate) fn deletes(&self) -> u64 {
        self.count(Operation::DeleteAccessToken)
    }

    /// The requests that issue or revoke, in their order.
    pub(crate) fn changes(&self) -> Vec<LoggedRequest> {
        let is_change = |r: &LoggedRequest| {
            matches!(r.operation, Some(Operation::CreateAccessToken | Operation::DeleteAccessToken))
        };
        self.requests().into_iter().filter(is_change).collect()
    }

    /// Waits until so many lists that begin after now have been answered. Whatever the operator makes of the last but
    /// one, it has had a whole poll interval to do.
    pub(crate) async fn polls(&self, number: usize) {
        self.polls_since(Timestamp::now(), number).await;
    }

    /// Waits for a list that begins more than the horizon after now: all that has been asked for shows in it or never will.
    pub(crate) async fn horizon_passes(&self) {
        self.polls_since(Timestamp::now() + HORIZON, 1).await;
    }

    /// Waits until so many lists that begin after `start` have been answered.
    async fn polls_since(&self, start: Timestamp, number: usize) {
        eventually(&format!("{number} lists"), WAIT, || async {
            let requests = self.account.requests();
            let answered = |operation| {
                let lists = requests.iter().filter(|r| r.operation == Some(operation) && r.at > start);
                lists.filter(|list| list.status.is_some()).count()
            };
            // A website without resources is not listed.
            let keys = Operation::ListWebsiteKeys;
            let is_listed = self.kind == Subject::WebsiteKey && !self.list().await.unwrap().is_empty();
            let of_keys = if is_listed { answered(keys) } else { number };
            let answered = answered(Operation::ListAccessTokens).min(of_keys);
            if answered >= number { Ok(()) } else { Err(answered) }
        })
        .await;
    }
}

/// Whatever went wrong must not go on in the world of a test that has ended; and what the operator said tells why.
impl Drop for World {
    fn drop(&mut self) {
        self.account.clear_faults();
        if std::thread::panicking() {
            sight::print_logs(self);
        }
    }
}

/// A value that was not there before.
pub(crate) fn unique() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Server-side apply, as a user.
pub(crate) async fn apply<K>(api: &Api<K>, name: &str, manifest: &Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    api.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(manifest)).await.unwrap()
}
