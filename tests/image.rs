//! The image's root file system: the operator sees nothing else, and does all its work. `make image-test` builds it and
//! runs this.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

#[allow(dead_code, unused_imports, reason = "the other tests use all of it")]
mod world;

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use datafast_harness::{Operator, OperatorOptions};
use serde_json::json;
use tokio::net::UdpSocket;

use world::{HORIZON_ARG, Plane, Setup, World, datafast_by_tls};

/// Known by the root file system's `/etc/hosts` alone.
const HOST: &str = "datafast.test";
/// Known by the name server alone.
const NAMED: &str = "named.test";
/// The search domain for which the name server has no answer.
const BAD_SEARCH: &str = "broken.test";
/// Where nobody else has a name server.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 53);

/// Knows [`NAMED`], and all that ends in `.cluster.test`; answers SERVFAIL for what ends in [`BAD_SEARCH`], and that there is
/// no such name else.
async fn name_server() {
    let socket = UdpSocket::bind((NAME_SERVER, 53))
        .await
        .expect("port 53 of a loopback address; run it as root, or with sysctl net.ipv4.ip_unprivileged_port_start=53");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let _ = socket.send_to(&name_answer(&query[..length]), from).await;
        }
    });
}

/// The header with its counts, the question as it came, and an address for a question of type A.
fn name_answer(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let labels = query[HEADER..].iter().take_while(|byte| **byte != 0).count();
    let question = &query[HEADER..HEADER + labels + 5];
    let mut name = String::new();
    let mut rest = &question[..labels];
    while let Some((length, after)) = rest.split_first() {
        let (label, after) = after.split_at(usize::from(*length));
        name = [name, String::from_utf8_lossy(label).into_owned(), ".".to_owned()].concat();
        rest = after;
    }
    let name = name.trim_end_matches('.');
    let is_known = name == NAMED || name.ends_with(".cluster.test");
    let code = match (name.ends_with(BAD_SEARCH), is_known) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 3,
    };
    let is_address = is_known && question[labels + 1..] == [0, 1, 0, 1];
    let counts = [0, 1, 0, u8::from(is_address), 0, 0, 0, 0];
    let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];
    let address = if is_address { &address[..] } else { &[] };
    [&query[..2], &[0x81, 0x80 | code], &counts, question, address].concat()
}

/// How the container resolves names.
fn resolve_by(root: &Path, search: &str, ndots: u8) {
    let conf = format!("nameserver {NAME_SERVER}\nsearch {search}\noptions ndots:{ndots}\n");
    fs::write(root.join("etc/resolv.conf"), conf).unwrap();
}

/// Has the image trust a certificate.
fn trust(root: &Path, certificate: &str) {
    let bundle = root.join("etc/ssl/certs/ca-certificates.crt");
    fs::write(&bundle, format!("{}\n{certificate}", fs::read_to_string(&bundle).unwrap())).unwrap();
}

/// A copy of the image's root file system, with what a container runtime puts into it.
fn rootfs(folder: &Path, kubeconfig: &Path) -> PathBuf {
    let built = std::env::var("DATAFAST_IMAGE_ROOTFS").expect("DATAFAST_IMAGE_ROOTFS; run: make image-test");
    let root = folder.join("rootfs");
    assert!(Command::new("cp").arg("-a").args([built.as_ref(), root.as_path()]).status().unwrap().success());
    fs::write(root.join("etc/hosts"), format!("127.0.0.1 {HOST}\n")).unwrap();
    let inside = root.join("kubeconfig");
    fs::copy(kubeconfig, &inside).unwrap();
    // For the image's user.
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o644)).unwrap();
    root
}

async fn start(root: &Path) -> Operator {
    let enter = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image/enter");
    // Beside that kubeconfig are no certificates that the harness would have it trust instead.
    let options = OperatorOptions::new(enter, root.join("kubeconfig"))
        .args(["--leader-elect=false", "--horizon", HORIZON_ARG])
        .env("ROOTFS", root.display().to_string())
        .env("KUBECONFIG", "/kubeconfig");
    let operator = Operator::start(options).unwrap();
    operator.wait_ready().await.unwrap();
    operator
}

#[tokio::test]
async fn the_image_reaches_datafast_by_its_own_certificates() {
    let plane = Plane::take().await;
    let kubeconfig = plane.cluster.kubeconfig_operator(None).unwrap();
    let root = rootfs(plane.cluster.dir(), &kubeconfig);
    let (base_url, certificate) = datafast_by_tls(&[HOST, NAMED]).await;
    let operator = start(&root).await;
    let setup = Setup { spec: Some(json!({ "baseUrl": base_url })), ..Setup::default() };
    let w = World::on(plane.cluster.clone(), setup).await;
    let refused = w.account_says("ApiUnavailable").await;
    assert!(refused.message.contains("UnknownIssuer"), "nobody trusts it unasked: {}", refused.message);
    operator.terminate().await.unwrap();

    trust(&root, &certificate);
    let operator = start(&root).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    w.account_says("Connected").await;
    operator.terminate().await.unwrap();
}

/// The C library of the image ends its search at the first domain that does not answer well.
#[tokio::test]
async fn a_search_domain_that_does_not_answer_is_passed_over_with_ndots_1_or_a_dot_at_the_end() {
    name_server().await;
    let plane = Plane::take().await;
    let kubeconfig = plane.cluster.kubeconfig_operator(None).unwrap();
    let root = rootfs(plane.cluster.dir(), &kubeconfig);
    let (base_url, certificate) = datafast_by_tls(&[HOST, NAMED]).await;
    trust(&root, &certificate);
    resolve_by(&root, BAD_SEARCH, 5);
    let operator = start(&root).await;
    let of = |name: &str| json!({ "baseUrl": base_url.replace(HOST, name) });
    let w = World::on(plane.cluster.clone(), Setup { spec: Some(of(NAMED)), ..Setup::default() }).await;
    let refused = w.account_says("ApiUnavailable").await;
    // It asks again for longer than a connection is waited for.
    let is_told = ["failed to lookup address information", "client error (Connect): operation timed out"];
    assert!(is_told.iter().any(|words| refused.message.contains(words)), "{}", refused.message);
    w.set_account(of(&format!("{NAMED}."))).await;
    w.account_says("Connected").await;

    w.set_account(of(NAMED)).await;
    w.account_says("ApiUnavailable").await;
    resolve_by(&root, BAD_SEARCH, 1);
    w.account_says("Connected").await;

    // With that, a name with a dot is not looked for in the search domains any more.
    resolve_by(&root, "cluster.test", 1);
    w.set_account(of("proxy.tools")).await;
    let refused = w.account_says("ApiUnavailable").await;
    assert!(refused.message.contains("failed to lookup address information"), "{}", refused.message);
    operator.terminate().await.unwrap();
}
