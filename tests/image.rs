//! The image's root file system: the operator sees nothing else, and does all its work. `make image-test` builds it and
//! runs this.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

#[allow(dead_code, unused_imports, reason = "the other tests use all of it")]
mod world;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use datafast_harness::{Operator, OperatorOptions};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use world::{HORIZON_ARG, Plane, Setup, World, sandbox};

/// Known by the root file system's `/etc/hosts` alone.
const HOST: &str = "datafast.test";

/// DataFast behind TLS: its base URL, and the certificate.
async fn datafast() -> (String, String) {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let base_url = sandbox().base_url();
    let (address, path) = base_url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (address, base_url) = (address.to_owned(), format!("https://{HOST}:{port}/{path}"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut onward = TcpStream::connect(address).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (base_url, made.cert.pem())
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

async fn start(root: &Path, kubeconfig: &Path) -> Operator {
    let enter = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image/enter");
    let options = OperatorOptions::new(enter, kubeconfig)
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
    let (base_url, certificate) = datafast().await;
    let operator = start(&root, &kubeconfig).await;
    let setup = Setup { spec: Some(json!({ "baseUrl": base_url })), ..Setup::default() };
    let w = World::on(plane.cluster.clone(), setup).await;
    let refused = w.account_says("ApiUnavailable").await;
    assert!(refused.message.contains("UnknownIssuer"), "nobody trusts it unasked: {}", refused.message);
    operator.terminate().await.unwrap();

    let bundle = root.join("etc/ssl/certs/ca-certificates.crt");
    fs::write(&bundle, format!("{}\n{certificate}", fs::read_to_string(&bundle).unwrap())).unwrap();
    let operator = start(&root, &kubeconfig).await;
    w.apply("agent", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("agent").await;
    w.account_says("Connected").await;
    operator.terminate().await.unwrap();
}
