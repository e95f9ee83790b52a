//! What the harness starts ends with it, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use datafast_harness::{ControlPlane, WAIT, eventually};

/// Set in the process that [`a_killed_test_leaves_nothing_running`] starts and kills.
const VICTIM: &str = "DATAFAST_HARNESS_VICTIM";

fn runs(pid: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // A zombie only waits for somebody to ask how it ended.
    !stat.contains(") Z ")
}

/// Does nothing by itself: this is the program that the test below kills.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let cluster = ControlPlane::shared().await.unwrap();
    let pids: Vec<String> = cluster.pids().iter().map(ToString::to_string).collect();
    println!("\npids {}", pids.join(" "));
    tokio::time::sleep(WAIT).await;
}

#[tokio::test]
async fn a_killed_test_leaves_nothing_running() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("pids ")).expect("the victim starts");
    let pids: Vec<&str> = line.split(' ').skip(1).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(pid)));

    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("all processes are gone", WAIT, || async {
        let left: Vec<&&str> = pids.iter().filter(|pid| runs(pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_control_plane_is_gone_at_once() {
    let start = Instant::now();
    let cluster = ControlPlane::start().await.unwrap();
    println!("control plane ready after {:?}", start.elapsed());
    let pids: Vec<String> = cluster.pids().iter().map(ToString::to_string).collect();
    let data = cluster.dir().join("etcd");
    assert!(data.is_dir());
    drop(cluster);
    assert!(pids.iter().all(|pid| !Path::new("/proc").join(pid).exists()));
    assert!(!data.exists());
}
