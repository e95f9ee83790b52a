//! etcd, kube-apiserver and kube-controller-manager as child processes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::{
    binaries::Binaries,
    error::{Context, Error, Result},
    files::{Identity, RunDir, audit_policy, signing_key, token_file},
    helpers::{ANSWERED_WITHIN, WAIT},
    process::{Process, free_port},
};

/// A control plane of its own on loopback, with RBAC, admission and quota as in a cluster, but no nodes. It ends when
/// this value is dropped, and when the process that started it ends, for whatever reason.
pub struct ControlPlane {
    // Dropped from top to bottom: the programs before the folder that they write to.
    controller_manager: Mutex<Option<Process>>,
    apiserver: Mutex<Option<Process>>,
    etcd: Mutex<Process>,
    pub(crate) binaries: Binaries,
    pub(crate) etcd_port: u16,
    peer_port: u16,
    port: u16,
    pub(crate) dir: RunDir,
    pub(crate) installed: OnceCell<()>,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready and its controllers work.
    ///
    /// # Errors
    ///
    /// Where a binary is missing or a process ends instead of getting ready: then with the end of its log.
    pub async fn start() -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::start_once().await {
                // Between finding a free port and listening on it, somebody else may take it.
                Err(e) if tries < 3 && e.to_string().contains("address already in use") => continue,
                result => return result,
            }
        }
    }

    /// The one control plane of this process, started by whoever asks first. It ends with the process.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::start`].
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: OnceCell<Arc<ControlPlane>> = OnceCell::const_new();
        SHARED.get_or_try_init(|| async { Self::start().await.map(Arc::new) }).await.cloned()
    }

    async fn start_once() -> Result<Self> {
        let binaries = Binaries::find()?;
        let dir = RunDir::create()?;
        dir.write("tokens.csv", &token_file())?;
        dir.write("audit-policy.yaml", &audit_policy())?;
        let (private, public) = signing_key()?;
        dir.write("service-account.key", &private)?;
        dir.write("service-account.pub", &public)?;

        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let etcd = spawn_etcd(&binaries, &dir, etcd_port, peer_port)?;
        let control_plane = Self {
            controller_manager: Mutex::new(None),
            apiserver: Mutex::new(None),
            etcd: Mutex::new(etcd),
            binaries,
            etcd_port,
            peer_port,
            port,
            dir,
            installed: OnceCell::new(),
        };
        control_plane.start_apiserver().await?;
        control_plane.write_kubeconfig("admin", &control_plane.url(), Identity::Admin)?;
        control_plane.start_controller_manager().await?;
        Ok(control_plane)
    }

    /// Where the API server listens: `https://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificates in PEM by which the API server is trusted.
    ///
    /// # Errors
    ///
    /// Where the API server has not written them.
    pub fn ca(&self) -> Result<Vec<u8>> {
        let path = self.dir.join("certificates/apiserver.crt");
        std::fs::read(&path).context(path.display())
    }

    /// The folder with the logs and kubeconfigs of this control plane.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The audit log, one JSON object a line: bodies of all requests and answers, except those of Secrets, events, leases
    /// and tokens of service accounts, for which there is only who did what. What the admin reads is not in it. It is
    /// written before the answer is sent.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// The process ids of etcd, the API server and the controller manager, as far as they run.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![lock(&self.etcd).pid()];
        pids.extend(lock(&self.apiserver).as_ref().map(Process::pid));
        pids.extend(lock(&self.controller_manager).as_ref().map(Process::pid));
        pids
    }

    /// Ends the API server abruptly, as a crash would. Its data stays.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    pub fn stop_apiserver(&self) -> Result<()> {
        match lock(&self.apiserver).take() {
            Some(mut process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Starts the API server, on the same port and data, unless it runs; waits until it is ready.
    ///
    /// # Errors
    ///
    /// Where it ends instead: then with the end of its log.
    pub async fn start_apiserver(&self) -> Result<()> {
        {
            let mut apiserver = lock(&self.apiserver);
            if apiserver.is_none() {
                *apiserver = Some(self.spawn_apiserver()?);
            }
        }
        self.wait_until("kube-apiserver is ready", || self.is_ready()).await
    }

    /// Both: after this, open connections are broken and all data is there.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::start_apiserver`].
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.stop_apiserver()?;
        self.start_apiserver().await
    }

    /// Has etcd stand still for so long, as on a disk that hangs. What it was asked meanwhile, it does afterwards.
    ///
    /// # Errors
    ///
    /// Where it has ended.
    pub async fn stall_etcd(&self, time: Duration) -> Result<()> {
        lock(&self.etcd).stop()?;
        tokio::time::sleep(time).await;
        lock(&self.etcd).signal(Signal::CONT).context("SIGCONT")
    }

    /// Keeps all that is stored, for [`ControlPlane::restore`]. The API server is away for a moment.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::start_apiserver`].
    pub async fn save(&self) -> Result<()> {
        self.swap_data("etcd", "saved").await
    }

    /// Puts all that is stored back to what was saved, as an administrator does after a disaster.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::start_apiserver`].
    pub async fn restore(&self) -> Result<()> {
        self.swap_data("saved", "etcd").await?;
        // What it has seen is no longer there.
        drop(lock(&self.controller_manager).take());
        self.start_controller_manager().await
    }

    /// With nothing at work, the data of one folder becomes those of the other.
    async fn swap_data(&self, from: &str, to: &str) -> Result<()> {
        self.stop_apiserver()?;
        lock(&self.etcd).kill()?;
        let (from, to) = (self.dir.join(from), self.dir.join(to));
        if to.exists() {
            std::fs::remove_dir_all(&to).context(to.display())?;
        }
        let copied = std::process::Command::new("cp").arg("-a").args([&from, &to]).status().context("cp")?;
        if !copied.success() {
            return Err(Error::new(format!("{} could not be copied", from.display())));
        }
        *lock(&self.etcd) = spawn_etcd(&self.binaries, &self.dir, self.etcd_port, self.peer_port)?;
        self.start_apiserver().await
    }

    fn spawn_apiserver(&self) -> Result<Process> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let args = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".into(),
            format!("--cert-dir={}", file("certificates")),
            format!("--service-account-key-file={}", file("service-account.pub")),
            format!("--service-account-signing-key-file={}", file("service-account.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--disable-admission-plugins=ServiceAccount".into(),
            // The Service "kubernetes" cannot point to a loopback address, and nobody asks it.
            "--endpoint-reconciler-type=none".into(),
            format!("--audit-policy-file={}", file("audit-policy.yaml")),
            format!("--audit-log-path={}", self.audit_log().display()),
            "--audit-log-mode=blocking-strict".into(),
            "--audit-log-maxsize=100000".into(),
            "--profiling=false".into(),
        ];
        let log = self.dir.join("kube-apiserver.log");
        Process::start(&self.binaries.apiserver, args, Some(&rarely_collected()), &log)
    }

    async fn start_controller_manager(&self) -> Result<()> {
        let config = self.write_kubeconfig("controller-manager", &self.url(), Identity::ControllerManager)?;
        let controllers = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                           deployment-controller,replicaset-controller,resourcequota-controller";
        let args = [
            format!("--kubeconfig={}", config.display()),
            format!("--controllers={controllers}"),
            "--use-service-account-credentials".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            // Many tests at once create and delete namespaces; the default of 20 a second is for a shared server.
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
        ];
        let log = self.dir.join("kube-controller-manager.log");
        let process = Process::start(&self.binaries.controller_manager, args, Some(&rarely_collected()), &log)?;
        *lock(&self.controller_manager) = Some(process);
        // It has no readiness endpoint of its own: this object shows that its controllers run.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await?, "default");
        let accounts = &accounts;
        self.wait_until("kube-controller-manager works", || async move {
            accounts.get_opt("default").await.is_ok_and(|found| found.is_some())
        })
        .await
    }

    async fn is_ready(&self) -> bool {
        let answer = async {
            let response = self.http_client()?.get(format!("{}/readyz", self.url())).send().await?;
            Ok::<_, Error>(response.status().is_success())
        };
        answer.await.unwrap_or(false)
    }

    fn http_client(&self) -> Result<reqwest::Client> {
        let certificates = reqwest::Certificate::from_pem_bundle(&self.ca()?)?;
        let client = reqwest::Client::builder().tls_certs_only(certificates).no_proxy();
        Ok(client.timeout(ANSWERED_WITHIN).build()?)
    }

    async fn wait_until<F: Future<Output = bool>>(&self, what: &str, mut done: impl FnMut() -> F) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        loop {
            lock(&self.etcd).check_running()?;
            lock(&self.apiserver).as_mut().map_or(Ok(()), Process::check_running)?;
            lock(&self.controller_manager).as_mut().map_or(Ok(()), Process::check_running)?;
            if done().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let logs = self.dir.path().display();
                return Err(Error::new(format!("waited {WAIT:?} until {what}; the logs are in {logs}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn spawn_etcd(binaries: &Binaries, dir: &RunDir, port: u16, peer_port: u16) -> Result<Process> {
    let args = [
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{port}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peer_port}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ];
    Process::start(&binaries.etcd, args, Some(&rarely_collected()), &dir.join("etcd.log"))
}

/// Memory is there, and time is short: a Go program collects garbage once its heap is five times what is in use.
fn rarely_collected() -> [(String, String); 1] {
    [("GOGC".to_owned(), "400".to_owned())]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
