//! What the operator costs and how fast it is: the program of the image, a real API server, DataFast in memory. Every time
//! stands beside a floor that was measured in the same run. `make bench` runs it, alone on the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on may panic")]
#![allow(clippy::print_stdout, reason = "the table")]

#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use datafast_harness::{ControlPlane, Operator, condition, install};
use datafast_sandbox::AccountOptions;
use futures::{StreamExt, stream};
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
    let cluster = std::sync::Arc::new(ControlPlane::start().await.unwrap());
    install(&cluster).await.unwrap();
    // A cluster's replicas have no TLS to DataFast's stand-in, and else the defaults.
    let args = ["--allow-plain-http"];
    let mut leader = start(&cluster, None, &args).await;
    leads(&leader).await;
    let idle = Use::of(&leader);

    println!("Issuing, one resource after the other ({ISSUES} times)");
    let w = World::on(cluster.clone(), roomy()).await;
    w.account_says("Connected").await;
    let mut floor = Vec::new();
    let mut issued = Vec::new();
    for n in 0..ISSUES {
        floor.push(least(&w, n).await);
        issued.push(ready(&w, &format!("one-{n}")).await);
    }
    let floor = median(&mut floor);
    println!("  floor: the same four writes and one request, and nothing else  {}", ms(floor));
    println!(
        "  kubectl apply until Ready                                      {}  {:.1} times the floor",
        spread(&mut issued),
        ratio(median(&mut issued), floor)
    );

    println!("Take-over by a second replica (lease {LEASE:?}, {TAKE_OVERS} times)");
    println!("  floor: a lease read and written                                {}", ms(lease_floor(&w).await));
    for signal in ["SIGTERM", "SIGKILL", "SIGSTOP"] {
        let (mut leading, mut working) = (Vec::new(), Vec::new());
        for n in 0..TAKE_OVERS {
            let standby = start(&cluster, None, &args).await;
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
            ready(&w, &format!("after-{}-{n}", signal.to_lowercase())).await;
            working.push(began.elapsed());
            leader = standby;
        }
        println!(
            "  after {signal} another leads   {}  {:.2} of the lease at most",
            spread(&mut leading),
            ratio(*leading.iter().max().unwrap(), LEASE)
        );
        println!("  and has issued a key           {}", spread(&mut working));
    }

    println!("{} resources of {ACCOUNTS} accounts", ACCOUNTS * EACH);
    let worlds: Vec<World> = stream::iter(0..ACCOUNTS).then(|_| World::on(cluster.clone(), roomy())).collect().await;
    let before = Use::of(&leader);
    let began = Instant::now();
    stream::iter(worlds.iter().flat_map(|w| (0..EACH).map(move |n| (w, format!("agent-{n}")))))
        .for_each_concurrent(8, |(w, name)| async move {
            w.apply(&name, spec()).await;
        })
        .await;
    println!("  kubectl apply of all           {:.1} s", began.elapsed().as_secs_f64());
    for w in &worlds {
        until("all are issued", || async {
            let all = w.list().await.ok()?;
            let ready =
                all.iter().filter(|resource| condition(*resource, "Ready").is_some_and(|ready| ready.status == "True"));
            (ready.count() == EACH).then_some(())
        })
        .await;
    }
    println!("  until all are Ready            {:.1} s", began.elapsed().as_secs_f64());
    let busy = Use::of(&leader);
    println!(
        "  CPU of the operator            {:.1} ms each",
        (busy.cpu - before.cpu) * 1000.0 / (ACCOUNTS * EACH) as f64
    );
    let calls = || worlds.iter().map(|w| w.account.requests().len()).sum::<usize>();
    println!("  requests to DataFast           {:.2} each", calls() as f64 / (ACCOUNTS * EACH) as f64);
    tokio::time::sleep(REST).await;
    let (from, calls_before) = (Use::of(&leader), calls());
    tokio::time::sleep(REST).await;
    let rest = Use::of(&leader);
    println!("  at rest, CPU                   {:.1} millicores", (rest.cpu - from.cpu) * 1000.0 / REST.as_secs_f64());
    println!(
        "  at rest, requests to DataFast  {:.1} a minute for each account",
        (calls() - calls_before) as f64 / ACCOUNTS as f64
    );
    println!("Memory of a leader (resident)");
    println!("  without resources              {:.1} MiB", idle.memory);
    println!("  with {} resources            {:.1} MiB", ACCOUNTS * EACH + ISSUES, rest.memory);
    println!("  at its peak                    {:.1} MiB", rest.peak);
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
