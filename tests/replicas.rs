//! Two replicas under load, and what happens to them, to the API server and to etcd: nothing is leaked, nothing is lost,
//! and only what was in hand when a process died is issued again. `make bench` tells how long a take-over takes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use datafast_harness::{Operator, OperatorOptions, eventually};
use datafast_operator::api::names;
use datafast_sandbox::{Fault, Kind, Operation};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rstest::rstest;
use serde_json::json;

use crate::{
    shutdown::{ends_in_time, is_asked_to_end},
    world::{HORIZON_ARG, Plane, Setup, Subject, WAIT, World, binary, late_proxy, text_in},
};

/// Long enough for a leader to keep it where nothing troubles it, and short enough for several take-overs.
const LEASE: Duration = Duration::from_secs(20);
const ARGS: [&str; 5] = ["--allow-plain-http", "--horizon", HORIZON_ARG, "--lease-duration", "20s"];
/// As a process that lost its lease ends.
const LEASE_LOST: i32 = 70;
/// Between two changes that users make.
const PACE: Duration = Duration::from_millis(150);
/// So that some requests are always under way.
const LATENCY_MS: u64 = 300;
/// Resources of a kind.
const AT_MOST: usize = 5;
/// Requests for keys that an account has under way at most.
const AT_ONCE: usize = 4;

/// Two operators. One that ends is started again, as the kubelet would.
struct Replicas {
    plane: Plane,
    both: [Mutex<Arc<Operator>>; 2],
    /// How many ended otherwise than in order, so that what they had in hand was lost.
    crashes: AtomicUsize,
}

impl Replicas {
    async fn start(plane: Plane) -> Self {
        let both = [replica(&plane).await, replica(&plane).await].map(|operator| Mutex::new(Arc::new(operator)));
        Self { plane, both, crashes: AtomicUsize::new(0) }
    }

    async fn keep_alive(&self) -> ! {
        loop {
            for (slot, operator) in self.both.iter().zip(self.running()) {
                if let Some(status) = operator.wait_exit(Duration::ZERO).await.unwrap() {
                    self.crashes.fetch_add(usize::from(!status.success()), Ordering::Relaxed);
                    let replica = replica(&self.plane).await;
                    *lock(slot) = Arc::new(replica);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn running(&self) -> [Arc<Operator>; 2] {
        [0, 1].map(|n| lock(&self.both[n]).clone())
    }

    /// Waits until one leads that is not this process.
    async fn leader_after(&self, pid: Option<u32>) -> Arc<Operator> {
        eventually("another one leads", WAIT, || async {
            for operator in self.running() {
                let metrics = if Some(operator.pid()) == pid { None } else { operator.metrics().await.ok() };
                if metrics.is_some_and(|metrics| metrics.lines().any(|line| line == "datafast_leader 1")) {
                    return Some(operator);
                }
            }
            None
        })
        .await
    }

    async fn leader(&self) -> Arc<Operator> {
        self.leader_after(None).await
    }
}

fn lock(slot: &Mutex<Arc<Operator>>) -> MutexGuard<'_, Arc<Operator>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn replica(plane: &Plane) -> Operator {
    let late = late_proxy(&plane.cluster).await;
    let kubeconfig = plane.cluster.kubeconfig_operator(late.as_deref()).unwrap();
    Operator::start(OperatorOptions::new(binary(), kubeconfig).args(ARGS)).unwrap()
}

/// What users do to their resources until `over`. While the API server is away, it goes wrong.
async fn load(worlds: &[World; 2], over: &AtomicBool) {
    let seed = rand::random();
    println!("load of seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut resources: [Vec<String>; 2] = Default::default();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let which = n % 2;
        let change = change(&worlds[which], &mut resources[which], n, &mut random);
        // An API server that is away may keep its callers waiting.
        let _ = tokio::time::timeout(Duration::from_secs(5), change).await;
        tokio::time::sleep(PACE).await;
    }
}

async fn change(w: &World, resources: &mut Vec<String>, n: usize, random: &mut StdRng) -> kube::Result<()> {
    if resources.len() < AT_MOST {
        let name = format!("r{n}");
        // It may be there even where no answer comes.
        resources.push(name.clone());
        let spec = json!({ "permissions": ["analytics:read"], "rotation": { "overlap": "0s" } });
        let manifest = Patch::Apply(w.manifest(&name, spec));
        w.objects().patch(&name, &PatchParams::apply("user"), &manifest).await?;
        return Ok(());
    }
    let which = random.random_range(..resources.len());
    let name = &resources[which];
    let merge = async |patch| w.objects().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    match random.random_range(0..7) {
        0..3 => {
            merge(json!({ "metadata": { "annotations": { names::ROTATE: format!("{n}") } } })).await?;
        }
        3..5 => {
            let permissions = [["goals:read"], ["analytics:read"], ["payments:read"]];
            merge(json!({ "spec": w.kind.spec(json!({ "permissions": permissions.choose(random) })) })).await?;
        }
        _ => {
            match w.objects().delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
                other => drop(other?),
            }
            resources.swap_remove(which);
        }
    }
    Ok(())
}

/// What happens under load.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// SIGKILL, again and again.
    LeadersDie,
    /// SIGSTOP for longer than the lease lasts, then SIGCONT.
    LeaderFreezes,
    /// SIGTERM while requests for keys are under way.
    LeadersAreAskedToEnd,
    ApiServerRestarts,
    /// For longer than the lease lasts.
    ApiServerIsAway,
    /// It answers after a second or so, and then not at all for longer than the lease lasts.
    EtcdIsSlow,
}
use Trouble::*;

impl Trouble {
    async fn happen(self, replicas: &Replicas, tokens: &World) {
        let cluster = &replicas.plane.cluster;
        match self {
            LeadersDie => {
                for _ in 0..3 {
                    let leader = replicas.leader().await;
                    works(tokens).await;
                    leader.kill().await.unwrap();
                    replicas.leader_after(Some(leader.pid())).await;
                }
            }
            LeaderFreezes => {
                let leader = replicas.leader().await;
                leader.stop().unwrap();
                replicas.leader_after(Some(leader.pid())).await;
                tokio::time::sleep(LEASE).await;
                leader.cont().unwrap();
                let ended = leader.wait_exit(WAIT).await.unwrap().expect("one that has lost its lease ends");
                assert_eq!(ended.code(), Some(LEASE_LOST));
            }
            LeadersAreAskedToEnd => {
                for _ in 0..3 {
                    let leader = replicas.leader().await;
                    let hold = tokens.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Hold).once());
                    tokio::time::timeout(WAIT, tokens.account.held(hold)).await.expect("a request for a token");
                    let answer = async {
                        is_asked_to_end(&leader).await;
                        tokens.account.release(hold);
                    };
                    let (ended, ()) = tokio::join!(leader.terminate(), answer);
                    ends_in_time(&ended.unwrap());
                    replicas.leader_after(Some(leader.pid())).await;
                }
            }
            ApiServerRestarts => {
                for _ in 0..2 {
                    cluster.restart_apiserver().await.unwrap();
                    replicas.leader().await;
                }
            }
            ApiServerIsAway => {
                cluster.stop_apiserver().unwrap();
                tokio::time::sleep(LEASE * 2).await;
                cluster.start_apiserver().await.unwrap();
            }
            EtcdIsSlow => {
                for _ in 0..20 {
                    cluster.stall_etcd(Duration::from_millis(800)).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                cluster.stall_etcd(LEASE * 2).await.unwrap();
            }
        }
    }
}

/// Waits until keys are asked for again.
async fn works(w: &World) {
    let posts = w.posts();
    eventually("there is load", WAIT, || async { (w.posts() > posts + 5).then_some(()) }).await;
}

#[rstest]
#[tokio::test]
async fn under_load_nothing_is_leaked_or_lost(
    #[values(LeadersDie, LeaderFreezes, LeadersAreAskedToEnd, ApiServerRestarts, ApiServerIsAway, EtcdIsSlow)]
    trouble: Trouble,
) {
    let plane = Plane::take().await;
    let tokens = World::on(plane.cluster.clone(), Setup::default()).await;
    for operation in [Operation::CreateAccessToken, Operation::CreateWebsiteKey] {
        tokens.account.set_fault(Fault::new(operation, Kind::Latency { ms: LATENCY_MS }));
    }
    let worlds = [tokens.about(Subject::WebsiteKey), tokens];
    let replicas = Replicas::start(plane).await;
    tokio::select! {
        () = goes_on(&worlds, &replicas, trouble) => {}
        never = replicas.keep_alive() => never,
    }
}

async fn goes_on(worlds: &[World; 2], replicas: &Replicas, trouble: Trouble) {
    let names = ["quiet-key", "quiet-token"];
    let mut quiet = Vec::new();
    for (w, name) in worlds.iter().zip(names) {
        w.apply(name, json!({ "permissions": ["analytics:read"] })).await;
        quiet.push(w.issued(name).await);
    }

    let over = AtomicBool::new(false);
    let under_load = async {
        works(&worlds[1]).await;
        trouble.happen(replicas, &worlds[1]).await;
        replicas.leader().await;
        works(&worlds[1]).await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(worlds, &over), under_load);
    nothing_is_leaked_or_lost(worlds).await;
    worlds[1].horizon_passes().await;
    nothing_is_leaked_or_lost(worlds).await;

    for ((w, name), before) in worlds.iter().zip(names).zip(quiet) {
        assert_eq!(w.issued(name).await.secret, before.secret, "nobody touched it");
    }
    let crashes = replicas.crashes.load(Ordering::Relaxed);
    let events = Api::<Event>::namespaced(worlds[0].client.clone(), &worlds[0].namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    let is_lost = |event: &&Event| event.reason.as_deref() == Some("LostAttemptRevoked");
    let lost = events.iter().filter(is_lost).count();
    println!("{crashes} crashes, {lost} keys issued in vain");
    assert!(lost <= crashes * worlds.len() * AT_ONCE, "{crashes} crashes, {lost} keys issued in vain");
}

/// Every resource has a Secret with a live key of its own, and there are no other keys and no other Secrets.
async fn nothing_is_leaked_or_lost(worlds: &[World; 2]) {
    eventually("every resource has its key, and nobody else has one", WAIT, || async {
        let (mut keys, mut live) = (Vec::new(), Vec::new());
        for w in worlds {
            let resources = w.list().await.map_err(|e| e.to_string())?;
            for resource in resources {
                keys.push(w.look(&resource.name_any()).await?.token.key);
            }
            live.extend(w.issued_tokens().into_iter().map(|token| token.key));
        }
        let ours = ListParams::default().labels(&format!("{}={}", names::MANAGED_BY, names::MANAGER));
        let secrets = worlds[0].secrets().list(&ours).await.map_err(|e| e.to_string())?;
        let mut held: Vec<_> = secrets.iter().map(|secret| text_in(secret, "token")).collect();
        for all in [&mut keys, &mut live, &mut held] {
            all.sort();
        }
        if keys == live && keys == held {
            Ok(())
        } else {
            Err(format!("asked for: {keys:?}, live: {live:?}, in Secrets: {held:?}"))
        }
    })
    .await;
}
