//! What requests are sent with: one set of connections and of CA certificates for all accounts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{redirect, retry};
use sha2::{Digest, Sha256};

use super::exchange::reason;
use crate::lock::lock;

/// How long an idle connection is kept: shorter than servers and proxies commonly keep theirs, so that a request
/// seldom meets a connection that the other side is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Of all accounts.
const MOST_IDLE: usize = 16;
/// How often the CA certificates are looked at, beside after each connection that failed.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// What names CA certificates: a file, and directories.
const CA_FILE: &str = "SSL_CERT_FILE";
const CA_DIRECTORIES: &str = "SSL_CERT_DIR";

/// Bounds of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands, TLS and proxy included.
    pub connect: Duration,
    /// Until the answer is read, connecting included. How long a lost request may still take effect is reckoned from
    /// this.
    pub total: Duration,
    /// The largest body that is read, in bytes.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30), body: 1 << 20 }
    }
}

/// Why a client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The base URL cannot be used.
    #[error("the base URL {0}")]
    BaseUrl(&'static str),
    /// TLS cannot be set up: where there are no CA certificates, say.
    #[error("HTTP cannot be set up: {0}")]
    Transport(String),
}

/// The connections that all clients share.
///
/// They go through the proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name, and trust the system's CA
/// certificates or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Where these change, new ones take their places: a
/// certificate that is renewed needs no restart, and one that is withdrawn is trusted for a minute at most.
#[derive(Debug)]
pub struct Transport {
    limits: Limits,
    check_every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None before the first client.
    http: Option<reqwest::Client>,
    /// Tells one set of CA certificates from the next.
    trusted: Option<[u8; 32]>,
    /// None: they are to be looked at.
    checked: Option<Instant>,
}

impl Default for Transport {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Transport {
    /// Connections with these bounds. Nothing is set up before the first client.
    pub fn new(limits: Limits) -> Self {
        Self { limits, check_every: CHECK_EVERY, state: Mutex::default() }
    }

    /// As [`Transport::new`], but looking for other CA certificates this often.
    #[cfg(test)]
    pub(super) fn checking_every(limits: Limits, check_every: Duration) -> Self {
        Self { check_every, ..Self::new(limits) }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Sets it up, if that has not been done.
    pub(super) fn set_up(&self) -> Result<reqwest::Client, SetupError> {
        let mut state = lock(&self.state);
        if let Some(http) = &state.http {
            return Ok(http.clone());
        }
        let trusted = ca_certificates();
        let http = build(&self.limits)?;
        *state = State { http: Some(http.clone()), trusted, checked: Some(Instant::now()) };
        Ok(http)
    }

    /// The connections for the next request.
    pub(super) async fn current(self: &Arc<Self>) -> Result<reqwest::Client, SetupError> {
        if self.is_due() {
            let this = self.clone();
            // It reads files, and parses them.
            let _ = tokio::task::spawn_blocking(move || this.renew()).await;
        }
        self.set_up()
    }

    /// A connection failed: its certificate may be one that is trusted by now.
    pub(super) fn failed(&self) {
        lock(&self.state).checked = None;
    }

    fn is_due(&self) -> bool {
        let mut state = lock(&self.state);
        let is_due = state.checked.is_none_or(|checked| checked.elapsed() >= self.check_every);
        if is_due {
            // Others go on meanwhile.
            state.checked = Some(Instant::now());
        }
        is_due && state.http.is_some()
    }

    fn renew(&self) {
        let Some(now) = ca_certificates().filter(|now| lock(&self.state).trusted != Some(*now)) else { return };
        let built = build(&self.limits);
        let mut state = lock(&self.state);
        state.trusted = Some(now);
        match built {
            Ok(http) => {
                state.http = Some(http);
                tracing::info!("the CA certificates have changed, and are read again");
            }
            Err(error) => {
                tracing::warn!(%error, "the CA certificates have changed, and can't be used: the former ones count")
            }
        }
    }
}

fn build(limits: &Limits) -> Result<reqwest::Client, SetupError> {
    reqwest::Client::builder()
        .user_agent(concat!("datafast-operator/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .timeout(limits.total)
        // The credential must not travel to another host, nor a POST turn into a GET.
        .redirect(redirect::Policy::none())
        // There is no idempotency key: a create sent twice is two tokens. What remains below this is hyper's own
        // second try of a request of which not one byte was written, because its idle connection was closed.
        .retry(retry::never())
        .referer(false)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MOST_IDLE)
        .build()
        .map_err(|error| SetupError::Transport(reason(error)))
}

/// A hash of what the environment names. None where it names nothing, or what cannot be read: a volume that is just being
/// replaced. By content, because a volume's files are links to others, of whatever age.
fn ca_certificates() -> Option<[u8; 32]> {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    let (file, directories) = (named(CA_FILE), named(CA_DIRECTORIES));
    hash_of(file.as_deref(), directories.as_deref())
}

fn hash_of(file: Option<&OsStr>, directories: Option<&OsStr>) -> Option<[u8; 32]> {
    if file.is_none() && directories.is_none() {
        return None;
    }
    let mut hash = Sha256::new();
    if let Some(file) = file {
        hash.update(std::fs::read(file).ok()?);
    }
    for directory in directories.iter().flat_map(std::env::split_paths) {
        for path in files_of(&directory) {
            // What is there beside certificates need not be readable.
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(std::fs::read(path).unwrap_or_default());
        }
    }
    Some(hash.finalize().into())
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}
