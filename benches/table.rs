//! What the operator costs and how fast it is: the program of the image, a real API server, DataFast in memory. Every time
//! stands beside a floor that was measured in the same run. `make bench` runs it, alone on the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on may panic")]
#![allow(clippy::print_stdout, reason = "the table")]

#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
#[path = "../tests/world/mod.rs"]
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use datafast_harness::{ControlPlane, Operator, condition, install};
use datafast_operator::api::DataFastAccessToken;
use datafast_sandbox::AccountOptions;
use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use procfs::process::Process;
use rand::RngExt;
use serde_json::json;
use world::{SYSTEM, Setup, World, start, unique};

/// The default of `--lease-duration`.
const LEASE: Duration = Duration::from_secs(15);
/// The sandbox has no TLS; all else is as it is by default.
const ARGS: [&str; 1] = ["--allow-plain-http"];
const TAKE_OVERS: usize = 5;
const ISSUES: usize = 20;
/// As many accounts, with as many resources each.
const ACCOUNTS: usize = 20;
const EACH: usize = 50;
const REST: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let cluster = Arc::new(ControlPlane::start().await.unwrap());
    install(&cluster).await.unwrap();
    let leader = start(&cluster, None, &ARGS).await;
    leads(&leader).await;
    let idle = Use::of(&leader);
    let w = World::on(cluster.clone(), roomy()).await;
    w.account_says("Connected").await;

    issue_one_by_one(&w).await;
    let leader = take_over(&w, leader).await;
    let many = issue_many(&cluster, &leader).await;
    println!("Memory of a leader (resident)");
    println!("  without resources              {:.1} MiB", idle.memory);
    println!("  with {} resources            {:.1} MiB", ACCOUNTS * EACH, many.memory);
    println!("  at its peak                    {:.1} MiB", many.peak);
}

async fn issue_one_by_one(w: &World) {
    println!("Issuing, one resource after the other ({ISSUES} times)");
    let (mut floor, mut issued) = (Vec::new(), Vec::new());
    for n in 0..ISSUES {
        floor.push(least(w, n).await);
        issued.push(ready(w, &format!("one-{n}")).await);
    }
    let times = ratio(median(&mut issued), median(&mut floor));
    println!("  floor: its writes and its request alone   {}", spread(&mut floor));
    println!("  kubectl apply until Ready                 {}  {times:.1} times the floor", spread(&mut issued));
}

/// Has leaders end in all the ways there are. Returns the last.
async fn take_over(w: &World, mut leader: Operator) -> Operator {
    println!("Take-over by a second replica (lease {LEASE:?}, {TAKE_OVERS} times)");
    println!("  floor: a lease read and written     {}", ms(lease_floor(w).await));
    for signal in ["SIGTERM", "SIGKILL", "SIGSTOP"] {
        let (mut leading, mut working) = (Vec::new(), Vec::new());
        for n in 0..TAKE_OVERS {
            let standby = start(&w.cluster, None, &ARGS).await;
            // A leader dies at any time between two renewals, which come every fifth of a lease.
            tokio::time::sleep(LEASE.mul_f64(rand::rng().random_range(0.2..0.4))).await;
            let began = Instant::now();
            let end = async {
                match signal {
                    "SIGTERM" => drop(leader.terminate().await.unwrap()),
                    "SIGKILL" => drop(leader.kill().await.unwrap()),
                    _ => leader.stop().unwrap(),
                }
            };
            let (took, ()) = tokio::join!(leads(&standby), end);
            leading.push(took);
            ready(w, &format!("after-{}-{n}", signal.to_lowercase())).await;
            working.push(began.elapsed());
            leader = standby;
        }
        let of_lease = ratio(*leading.iter().max().unwrap(), LEASE);
        println!("  after {signal} another leads         {}  {of_lease:.2} of the lease at most", spread(&mut leading));
        println!("  and has issued a key                {}", spread(&mut working));
    }
    leader
}

/// What the operator uses with many resources, at rest.
async fn issue_many(cluster: &Arc<ControlPlane>, leader: &Operator) -> Use {
    println!("{} resources of {ACCOUNTS} accounts, at once", ACCOUNTS * EACH);
    let worlds: Vec<World> = stream::iter(0..ACCOUNTS).then(|_| World::on(cluster.clone(), roomy())).collect().await;
    let calls = || worlds.iter().map(|w| w.account.requests().len()).sum::<usize>();
    let (before, began) = (Use::of(leader), Instant::now());
    stream::iter(worlds.iter().flat_map(|w| (0..EACH).map(move |n| (w, format!("agent-{n}")))))
        .for_each_concurrent(8, |(w, name)| async move { drop(w.apply(&name, spec()).await) })
        .await;
    println!("  floor: kubectl apply of all    {:.1} s", began.elapsed().as_secs_f64());
    join_all(worlds.iter().map(all_are_ready)).await;
    println!("  until all are Ready            {:.1} s", began.elapsed().as_secs_f64());
    let each = (ACCOUNTS * EACH) as f64;
    println!("  CPU of the operator            {:.1} ms each", (Use::of(leader).cpu - before.cpu) * 1000.0 / each);
    println!("  requests to DataFast           {:.2} each", calls() as f64 / each);

    // What it has begun comes to rest.
    tokio::time::sleep(REST).await;
    let (before, calls_before) = (Use::of(leader), calls());
    tokio::time::sleep(REST).await;
    let (rest, minutes) = (Use::of(leader), REST.as_secs_f64() / 60.0);
    println!(
        "  at rest, CPU                   {:.1} millicores",
        (rest.cpu - before.cpu) * 1000.0 / REST.as_secs_f64()
    );
    let a_minute = (calls() - calls_before) as f64 / ACCOUNTS as f64 / minutes;
    println!("  at rest, requests to DataFast  {a_minute:.1} a minute for each account");
    rest
}

async fn all_are_ready(w: &World) {
    until("all are issued", || async {
        let is_ready =
            |resource: &DataFastAccessToken| condition(resource, "Ready").is_some_and(|ready| ready.status == "True");
        (w.list().await.ok()?.iter().filter(|resource| is_ready(resource)).count() == EACH).then_some(())
    })
    .await;
}

fn spec() -> serde_json::Value {
    json!({ "permissions": ["analytics:read"] })
}

/// An account without limits, asked as often as one that nobody hurries.
fn roomy() -> Setup {
    let account = AccountOptions { token_limit: Some(10_000), ..AccountOptions::default() };
    Setup { account, spec: Some(json!({ "tokenLimit": 1000, "pollInterval": "60s" })), ..Setup::default() }
}

/// From `kubectl apply` until the resource is ready.
async fn ready(w: &World, name: &str) -> Duration {
    let began = Instant::now();
    w.apply(name, spec()).await;
    until("the resource is ready", || async { w.look(name).await.ok() }).await;
    began.elapsed()
}

/// What cannot be left out, one after the other and by nobody else: the resource and its record are written, a token is
/// asked for, its key goes into the Secret, and status says so.
async fn least(w: &World, n: usize) -> Duration {
    let secrets: Api<Secret> = w.credentials();
    let name = format!("floor-{n}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let merge = |patch| Patch::Merge(patch);
    let began = Instant::now();
    let secret = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let note = |text: &str| json!({ "metadata": { "annotations": { "example.com/note": text } } });
    secrets.patch(&name, &PatchParams::default(), &merge(note("record"))).await.unwrap();
    let body = json!({ "name": name, "permissions": ["analytics:read"] });
    let request =
        client.post(format!("{}/access-tokens", world::sandbox().base_url())).bearer_auth(w.account.credential());
    let answer = request.json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    secrets
        .patch(&name, &PatchParams::default(), &merge(json!({ "stringData": { "token": unique() } })))
        .await
        .unwrap();
    secrets.patch(&name, &PatchParams::default(), &merge(note("status"))).await.unwrap();
    began.elapsed()
}

async fn lease_floor(w: &World) -> Duration {
    let leases: Api<Lease> = Api::namespaced(w.client.clone(), SYSTEM);
    let lease = leases.list(&ListParams::default()).await.unwrap().items.remove(0);
    let mut copy = Lease { spec: lease.spec, ..Lease::default() };
    copy.metadata.name = Some("floor".to_owned());
    let mut copy = leases.create(&PostParams::default(), &copy).await.unwrap();
    let mut times = Vec::new();
    for n in 0..ISSUES {
        let began = Instant::now();
        leases.get("floor").await.unwrap();
        copy.spec.as_mut().unwrap().lease_transitions = Some(n.try_into().unwrap());
        copy = leases.replace("floor", &PostParams::default(), &copy).await.unwrap();
        times.push(began.elapsed());
    }
    median(&mut times)
}

/// How long it takes until a replica leads.
async fn leads(operator: &Operator) -> Duration {
    let began = Instant::now();
    until("a replica leads", || async {
        let metrics = operator.metrics().await.ok()?;
        metrics.lines().any(|line| line == "datafast_leader 1").then_some(())
    })
    .await;
    began.elapsed()
}

/// As `eventually`, and closer to the moment.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a process has used.
struct Use {
    /// MiB.
    memory: f64,
    /// MiB.
    peak: f64,
    /// Seconds.
    cpu: f64,
}

impl Use {
    fn of(operator: &Operator) -> Self {
        let process = Process::new(operator.pid().try_into().unwrap()).unwrap();
        let (status, stat) = (process.status().unwrap(), process.stat().unwrap());
        let mib = |kib: Option<u64>| kib.unwrap() as f64 / 1024.0;
        let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Self { memory: mib(status.vmrss), peak: mib(status.vmhwm), cpu }
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn spread(times: &mut [Duration]) -> String {
    let median = median(times);
    format!("{} ({} to {})", ms(median), ms(times[0]), ms(times[times.len() - 1]))
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

fn ratio(time: Duration, floor: Duration) -> f64 {
    time.as_secs_f64() / floor.as_secs_f64()
}
