//! An upgrade: what an earlier version has stored is left as it is where all is well, and brought to its end where that
//! version was killed on the way, as it would have done itself.

mod scenario;
mod stored;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use datafast_harness::{ControlPlane, apply_yaml, eventually, wait_established};
use datafast_operator::api::{DataFastAccessToken, DeletionPolicy, KeyResource};
use datafast_sandbox::Operation;
use futures::future::join_all;
use kube::{
    ResourceExt,
    api::{DynamicObject, ListParams, PostParams},
};
use serde_json::Value;

use crate::world::{ARGS, Plane, WAIT, World, start};
use stored::{Outcome, Stored, StoredResource, StoredWorld, definitions, release, releases};

/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Set by `make release-fixtures`: what is recorded becomes what the repository has of this version.
const KEEP: &str = "DATAFAST_KEEP_RECORDING";

#[tokio::test]
async fn what_this_version_stores_is_read_by_the_next_one() {
    let recording = Path::new(env!("CARGO_TARGET_TMPDIR")).join("releases").join(VERSION);
    let recorded = scenario::record().await;
    recorded.write(&recording);
    carries_on(&recording).await;
    if std::env::var_os(KEEP).is_some() {
        recorded.write(&release(VERSION));
    } else {
        let kept = Stored::read(&release(VERSION));
        let (new, old) = (recorded.names(), kept.names());
        let (added, gone): (Vec<_>, Vec<_>) = (new.difference(&old).collect(), old.difference(&new).collect());
        let what_to_do = "run `make release-fixtures`; where this version is released, raise it first";
        assert!(added.is_empty() && gone.is_empty(), "stored is now {added:#?}, and no longer {gone:#?}: {what_to_do}");
    }
}

#[tokio::test]
async fn what_every_release_has_stored_is_read_by_this_version() {
    join_all(releases().iter().map(|folder| carries_on(folder))).await;
}

/// An upgrade of a cluster with what is stored in this folder, and then the end of all of its resources.
async fn carries_on(folder: &Path) {
    println!("{}", folder.display());
    let plane = Plane::take().await;
    let stored = Stored::read(folder);
    install(&plane.cluster, &folder.join("crds")).await;
    let worlds = stored.restore(&plane.cluster).await;
    let is_own = folder.ends_with(VERSION);
    let worlds = worlds.into_iter().zip(&stored.worlds).map(|(w, stored)| Upgrade { w, stored, is_own });
    let worlds: Vec<_> = worlds.collect();
    let before = join_all(worlds.iter().map(|world| world.seen())).await;

    install(&plane.cluster, &Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")).await;
    join_all(worlds.iter().map(|world| world.would_be_taken_anew())).await;
    let _operator = start(&plane.cluster, None, &ARGS).await;
    join_all(worlds.iter().zip(&before).map(|(world, before)| world.comes_to_rest(before))).await;
    join_all(worlds.iter().map(|world| world.w.horizon_passes())).await;
    for (world, before) in worlds.iter().zip(&before) {
        world.comes_to_rest(before).await;
        world.has_changed_no_more_than(before).await;
    }
    join_all(worlds.iter().map(|world| world.ends())).await;
}

/// Applies CRDs, as an upgrade does.
async fn install(cluster: &ControlPlane, folder: &Path) {
    let client = cluster.admin().await.unwrap();
    for definition in apply_yaml(&client, "datafast-install", "", &definitions(folder)).await.unwrap() {
        wait_established(&client, &definition.name_any()).await;
    }
}

/// What every write changes.
const VERSIONED: [&str; 2] = ["resourceVersion", "managedFields"];

/// A world that another version has left, or another operator of this one.
struct Upgrade<'a> {
    w: World,
    stored: &'a StoredWorld,
    is_own: bool,
}

/// What is there of a resource.
#[derive(Debug, PartialEq)]
struct Seen {
    resource: Option<DynamicObject>,
    secret: Option<Value>,
}

/// What is there of a world.
struct SeenWorld {
    resources: BTreeMap<String, Seen>,
    /// Generation and annotations, which a restart changes.
    workloads: Vec<(i64, Value)>,
    /// Tokens that no resource has: of others, unclaimed, the credential.
    others: BTreeSet<String>,
    /// Requests for a key.
    asked: u64,
}

impl Upgrade<'_> {
    fn expected(&self, outcome: Outcome) -> impl Iterator<Item = &StoredResource> {
        self.stored.resources.iter().filter(move |resource| resource.outcome == outcome)
    }

    async fn seen(&self) -> SeenWorld {
        let mut resources = BTreeMap::new();
        for StoredResource { kind, name, .. } in &self.stored.resources {
            let w = self.w.about(*kind);
            let resource = w.objects().get_opt(name).await.unwrap();
            let secret_name = resource.as_ref().map(|resource| kind.read(resource.clone()).secret_name());
            let secret = w.secrets().get_opt(&secret_name.unwrap_or(name.clone())).await.unwrap();
            let secret = secret.map(|secret| serde_json::to_value(secret).unwrap());
            resources.insert(name.clone(), Seen { resource, secret });
        }
        let mut workloads = Vec::new();
        for workload in self.w.workloads("Deployment").list(&ListParams::default()).await.unwrap() {
            workloads.push(self.w.template("Deployment", &workload.name_any()).await);
        }
        let account = self.w.account_resource().await.status.unwrap_or_default();
        let unclaimed = account.unclaimed.into_iter().map(|token| token.token_id);
        let tokens = self.w.account.tokens().into_iter().chain(self.w.account.website_keys());
        let foreign = tokens.filter(|token| token.live && token.created_by.is_none()).map(|token| token.id);
        SeenWorld { resources, workloads, others: unclaimed.chain(foreign).collect(), asked: self.asked() }
    }

    /// What is seen of a resource, for comparison. Another version may say in other words how things stand, and say more;
    /// a Secret is not written for that.
    fn lines(&self, Seen { resource, secret }: &Seen) -> BTreeSet<String> {
        let mut resource = serde_json::to_value(resource).unwrap();
        if !self.is_own {
            let metadata = resource.pointer_mut("/metadata").and_then(Value::as_object_mut);
            metadata.into_iter().for_each(|fields| fields.retain(|name, _| !VERSIONED.contains(&&**name)));
            let conditions = resource.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
            let conditions = conditions.into_iter().flatten().filter_map(Value::as_object_mut);
            conditions.for_each(|condition| drop(condition.remove("message")));
        }
        let text = serde_json::to_string_pretty(&[&resource, &serde_json::to_value(secret).unwrap()]).unwrap();
        text.lines().map(|line| line.trim().trim_end_matches(',').to_owned()).collect()
    }

    fn asked(&self) -> u64 {
        let operations = [Operation::CreateAccessToken, Operation::CreateWebsiteKey, Operation::RollWebsiteKey];
        operations.map(|operation| self.w.account.count(operation)).iter().sum()
    }

    fn live(&self) -> BTreeSet<String> {
        let tokens = self.w.account.live_tokens().into_iter().chain(self.w.account.live_website_keys());
        tokens.map(|token| token.id).collect()
    }

    /// The tokens that a resource's status names.
    async fn tokens_of(&self, StoredResource { kind, name, .. }: &StoredResource) -> Vec<String> {
        let found = self.w.about(*kind).find(name).await.unwrap();
        let status = found.and_then(|resource: DataFastAccessToken| resource.status).unwrap_or_default();
        status.token_id.into_iter().chain(status.retiring.into_iter().map(|retiring| retiring.token_id)).collect()
    }

    /// What a version has taken, this one takes too: not only as what is there already and does not change.
    async fn would_be_taken_anew(&self) {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        for StoredResource { kind, name, .. } in &self.stored.resources {
            let w = self.w.about(*kind);
            let stored = w.objects().get(name).await.unwrap();
            let mut copy = DynamicObject::new("copy", &kind.resource());
            copy.data = stored.data;
            w.objects().create(&params, &copy).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// Waits until each resource has the key that it asks for or is gone, and no token is there that nothing names.
    async fn comes_to_rest(&self, before: &SeenWorld) {
        eventually(&format!("{} comes to rest", self.w.name), WAIT, || async {
            for resource in self.expected(Outcome::Issues) {
                let issued = self.w.about(resource.kind).look(&resource.name).await;
                let issued = issued.map_err(|seen| format!("{resource:?}: {seen:?}"))?;
                let secret = serde_json::to_value(&issued.secret).unwrap();
                if Some(secret) == before.resources[&resource.name].secret {
                    return Err(format!("{resource:?} has no other key yet"));
                }
            }
            let seen = self.seen().await;
            for resource in self.expected(Outcome::Goes) {
                let seen = &seen.resources[&resource.name];
                if *seen != (Seen { resource: None, secret: None }) {
                    return Err(format!("{seen:?}"));
                }
            }
            let mut named = before.others.clone();
            for resource in &self.stored.resources {
                named.extend(self.tokens_of(resource).await);
            }
            let live = self.live();
            let [leaked, lost] = [&live - &named, &named - &live];
            if leaked.is_empty() && lost.is_empty() { Ok(()) } else { Err(format!("leaked {leaked:?}, lost {lost:?}")) }
        })
        .await;
    }

    async fn has_changed_no_more_than(&self, before: &SeenWorld) {
        let after = self.seen().await;
        for resource in self.expected(Outcome::Stays) {
            let [after, before] = [&after, before].map(|seen| self.lines(&seen.resources[&resource.name]));
            let (new, gone): (Vec<_>, Vec<_>) =
                (after.difference(&before).collect(), before.difference(&after).collect());
            let is_same = gone.is_empty() && (new.is_empty() || !self.is_own);
            let what_to_do = if self.is_own { "; if that is meant, run `make release-fixtures`" } else { "" };
            assert!(is_same, "{resource:?}: there is {new:#?}, and no longer {gone:#?}{what_to_do}");
        }
        assert_eq!(after.workloads, before.workloads, "nothing is restarted");
        assert_eq!(after.others, before.others);
        let asked = u64::try_from(self.expected(Outcome::Issues).count()).unwrap();
        assert_eq!(after.asked - before.asked, asked, "requests for a key in {}", self.w.name);
    }

    /// Deletes all resources: their tokens go, and no others.
    async fn ends(&self) {
        let (mut own, live) = (BTreeSet::new(), self.live());
        for resource in self.stored.resources.iter().filter(|resource| resource.outcome != Outcome::Goes) {
            let w = self.w.about(resource.kind);
            if w.resource(&resource.name).await.spec.deletion_policy == DeletionPolicy::Revoke {
                own.extend(self.tokens_of(resource).await);
            }
            w.delete(&resource.name).await;
        }
        let rest: BTreeSet<String> = live.difference(&own).cloned().collect();
        eventually(&format!("{} ends", self.w.name), WAIT, || async {
            let resources = self.seen().await.resources;
            let remaining: Vec<_> = resources.values().filter_map(|seen| seen.resource.as_ref()).collect();
            if remaining.is_empty() { Ok(()) } else { Err(format!("{remaining:#?}")) }
        })
        .await;
        assert_eq!(self.live(), rest);
    }
}
