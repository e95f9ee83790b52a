//! The handling of the operator's process, tried on a shell script in its place.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

use std::{
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::PathBuf,
    time::Duration,
};

use datafast_harness::{Operator, OperatorOptions, WAIT, eventually};

/// A program in a folder of its own.
fn program(name: &str, script: &str) -> OperatorOptions {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("operator");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    OperatorOptions::new(path, folder.join("kubeconfig"))
}

fn ticks(operator: &Operator) -> usize {
    operator.logs().lines().filter(|line| *line == "tick").count()
}

#[tokio::test]
async fn it_gets_its_arguments_and_a_clean_environment() {
    let options = program("arguments", "echo \"args: $*\"; env; echo problem >&2; exec sleep 600")
        .args(["--horizon", "1s"])
        .env("POD_NAME", "pod-1");
    let kubeconfig = format!("KUBECONFIG={}", options.kubeconfig.display());
    let operator = Operator::start(options).unwrap();
    eventually("all is printed", WAIT, || async { operator.logs().contains("problem").then_some(()) }).await;
    let logs = operator.logs();
    let listen = operator.url().strip_prefix("http://").unwrap();
    assert!(
        logs.contains(&format!("args: run --listen {listen} --namespace datafast-system --horizon 1s\n")),
        "{logs}"
    );
    assert!(logs.contains("POD_NAME=pod-1") && logs.contains(&kubeconfig), "{logs}");
    assert!(!logs.contains("CARGO"), "{logs}");
}

#[tokio::test]
async fn sigterm_reaches_the_program_itself() {
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let operator = Operator::start(program("terminate", script)).unwrap();
    eventually("it is up", WAIT, || async { operator.logs().contains("up").then_some(()) }).await;
    assert!(operator.is_running().unwrap());
    let ended = operator.terminate().await.unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert!(operator.logs().ends_with("bye\n"));
    assert!(!operator.is_running().unwrap());
    assert!(operator.terminate().await.is_err(), "there is nothing to end any more");
}

#[tokio::test]
async fn it_can_be_frozen_and_killed() {
    let operator = Operator::start(program("freeze", "while :; do echo tick; sleep 0.02; done")).unwrap();
    eventually("it ticks", WAIT, || async { operator.logs().contains("tick").then_some(()) }).await;
    operator.stop().unwrap();
    let frozen = ticks(&operator);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ticks(&operator), frozen);
    operator.cont().unwrap();
    eventually("it ticks again", WAIT, || async { (ticks(&operator) > frozen).then_some(()) }).await;
    operator.stop().unwrap();
    assert_eq!(operator.kill().await.unwrap().signal(), Some(9));
    assert!(!operator.is_running().unwrap());
}

#[tokio::test]
async fn a_failed_start_shows_the_log() {
    let operator = Operator::start(program("fails", "echo no such flag >&2; exit 2")).unwrap();
    let error = operator.wait_ready().await.unwrap_err().to_string();
    assert!(error.contains("exit status: 2") && error.contains("no such flag"), "{error}");
    assert_eq!(operator.wait_exit(WAIT).await.unwrap().unwrap().code(), Some(2));
}
