//! What the environment sets: CA certificates and proxies. A process cannot safely change its own environment, so each
//! test runs [`child`] in a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{LIMITS, Recorder, TOKENS, client, key};
use crate::datafast::{Client, Transport};

const BASE_URL: &str = "DATAFAST_TEST_BASE_URL";
const NEXT_URL: &str = "DATAFAST_TEST_NEXT_URL";
const NEXT_CERTIFICATE: &str = "DATAFAST_TEST_NEXT_CERTIFICATE";
const FORMER_CERTIFICATE: &str = "DATAFAST_TEST_FORMER_CERTIFICATE";
const CHILD: &str = "datafast::tests::environment::child";
/// A name that no resolver knows: only a proxy can lead there.
const UNRESOLVABLE: &str = "datafast.invalid";
const VARIABLES: [&str; 10] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What the other tests run in a process of its own: one list at the base URL that the environment names.
#[tokio::test]
async fn child() {
    let Ok(base_url) = std::env::var(BASE_URL) else { return };
    let client = client(&base_url, "dft_a", &Arc::new(Recorder::default()));
    let tokens = client.list(&TOKENS).await.unwrap();
    assert!(tokens.is_empty());
    let Ok(next_url) = std::env::var(NEXT_URL) else { return };
    renews(client, &base_url, &next_url).await;
}

/// The certificates at `SSL_CERT_FILE` become those of another server, as a volume of Kubernetes does it.
async fn renews(former: Client, base_url: &str, next_url: &str) {
    let next = former.of(next_url, key("dft_b"));
    assert!(next.list(&TOKENS).await.is_err(), "it is not trusted yet");
    let file = std::env::var("SSL_CERT_FILE").unwrap();
    let renewed = format!("{file}.next");
    std::fs::copy(std::env::var(NEXT_CERTIFICATE).unwrap(), &renewed).unwrap();
    std::fs::rename(renewed, file).unwrap();
    assert!(next.list(&TOKENS).await.is_ok(), "a connection that failed has the certificates read again");
    assert!(former.list(&TOKENS).await.is_err(), "what is no longer there is no longer trusted");
    // And without a failure, after a while.
    let patient = Arc::new(Transport::checking_every(LIMITS, Duration::ZERO));
    let observer = Arc::new(Recorder::default());
    let next = Client::new(&patient, next_url, key("dft_a"), observer.clone()).unwrap();
    let former = Client::new(&patient, base_url, key("dft_a"), observer).unwrap();
    assert!(next.list(&TOKENS).await.is_ok());
    std::fs::copy(std::env::var(FORMER_CERTIFICATE).unwrap(), std::env::var("SSL_CERT_FILE").unwrap()).unwrap();
    assert!(former.list(&TOKENS).await.is_ok());
    // Of what cannot be used nothing is taken over.
    std::fs::write(std::env::var("SSL_CERT_FILE").unwrap(), "no certificate").unwrap();
    assert!(former.list(&TOKENS).await.is_ok());
}

/// Whether a list at `base_url` succeeds in a process with these variables.
async fn lists(base_url: &str, variables: &[(&str, &str)]) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD]).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.env(BASE_URL, base_url).envs(variables.iter().copied());
    command.status().await.unwrap().success()
}

/// An HTTPS server that answers every request with an empty list, and the file with its certificate.
struct Tls {
    address: SocketAddr,
    certificate: PathBuf,
}

impl Tls {
    fn trusted(&self) -> &str {
        self.certificate.to_str().unwrap()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
    }
}

async fn tls() -> Tls {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), UNRESOLVABLE.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let name = format!("datafast-ca-{}-{}.pem", std::process::id(), address.port());
    let certificate = std::env::temp_dir().join(name);
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            read_head(&mut stream).await;
            let body = r#"{"status":"success","data":[]}"#;
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Tls { address, certificate }
}

/// A proxy that leads every `CONNECT` to `target`, and how many it led.
async fn proxy(target: SocketAddr) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let led = Arc::new(AtomicUsize::new(0));
    let counter = led.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_head(&mut stream).await;
            if !head.starts_with("CONNECT ") {
                continue;
            }
            assert!(!head.contains("dft_a"), "the credential is for DataFast, not for the proxy");
            counter.fetch_add(1, Ordering::SeqCst);
            let mut onward = TcpStream::connect(target).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut onward).await;
        }
    });
    (url, led)
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn ssl_cert_file_names_the_certificates_to_trust() {
    let server = tls().await;
    let url = format!("https://localhost:{}", server.address.port());
    assert!(!lists(&url, &[]).await, "nobody trusts a self-signed certificate unasked");
    assert!(lists(&url, &[("SSL_CERT_FILE", server.trusted())]).await);
}

#[tokio::test]
async fn certificates_that_are_renewed_are_trusted_without_a_restart() {
    let (former, next) = (tls().await, tls().await);
    let url = |server: &Tls| format!("https://localhost:{}", server.address.port());
    let file = former.certificate.with_extension("mounted.pem");
    std::fs::copy(&former.certificate, &file).unwrap();
    let variables = [
        ("SSL_CERT_FILE", file.to_str().unwrap()),
        (NEXT_URL, &url(&next)),
        (NEXT_CERTIFICATE, next.trusted()),
        (FORMER_CERTIFICATE, former.trusted()),
    ];
    let is_renewed = lists(&url(&former), &variables).await;
    std::fs::remove_file(file).unwrap();
    assert!(is_renewed);
}

#[tokio::test]
async fn https_proxy_leads_to_datafast_and_no_proxy_past_it() {
    let server = tls().await;
    let (proxy, led) = proxy(server.address).await;
    let trusted = ("SSL_CERT_FILE", server.trusted());
    let url = format!("https://{UNRESOLVABLE}");
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        assert!(lists(&url, &[trusted, (variable, &proxy)]).await, "{variable}");
    }
    assert_eq!(led.load(Ordering::SeqCst), 3);
    assert!(!lists(&url, &[trusted, ("HTTPS_PROXY", &proxy), ("NO_PROXY", UNRESOLVABLE)]).await);
    let local = format!("https://localhost:{}", server.address.port());
    assert!(lists(&local, &[trusted, ("HTTPS_PROXY", &proxy), ("NO_PROXY", "localhost")]).await);
    assert_eq!(led.load(Ordering::SeqCst), 3);
}
