//! The operator as a real process.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    error::{Context, Error, Result},
    helpers::{ANSWERED_WITHIN, WAIT, plain_http},
    install::OPERATOR_NAMESPACE,
    process::{Process, free_port, last_lines, wait_exit},
};

/// How to run the operator.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program: `env!("CARGO_BIN_EXE_datafast-operator")`.
    pub binary: PathBuf,
    /// Which API server, and as whom: see [`ControlPlane::kubeconfig_operator`](crate::ControlPlane::kubeconfig_operator).
    pub kubeconfig: PathBuf,
    /// The operator's own namespace: `--namespace`.
    pub namespace: String,
    /// Further arguments of `run`.
    pub args: Vec<String>,
    /// The environment, besides `KUBECONFIG`, `PATH`, `RUST_LOG` and `SSL_CERT_FILE`. Nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where its output goes: by default to a new file beside the kubeconfig.
    pub log_file: PathBuf,
}

impl OperatorOptions {
    /// The defaults: all flags as the operator has them, in `datafast-system`.
    pub fn new(binary: impl Into<PathBuf>, kubeconfig: impl Into<PathBuf>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let kubeconfig = kubeconfig.into();
        let name = format!("operator-{}.log", COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            binary: binary.into(),
            namespace: OPERATOR_NAMESPACE.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            log_file: kubeconfig.with_file_name(name),
            kubeconfig,
        }
    }

    /// With further arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }
}

/// How the operator ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// How long it took from the signal on.
    pub after: Duration,
}

/// A running operator. It is killed when this is dropped, and when the process that started it ends.
pub struct Operator {
    process: Mutex<Process>,
    url: String,
    log_file: PathBuf,
    http: reqwest::Client,
}

impl Operator {
    /// Starts it, and returns at once: see [`Operator::wait_ready`].
    ///
    /// # Errors
    ///
    /// Where the binary is not there or its log cannot be written.
    pub fn start(options: OperatorOptions) -> Result<Self> {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut environment = BTreeMap::from([
            ("KUBECONFIG".to_owned(), options.kubeconfig.display().to_string()),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ("RUST_LOG".to_owned(), "info,datafast_operator=debug".to_owned()),
        ]);
        // Each process would read the system's some hundred certificates first, and again for each account.
        let ca = options.kubeconfig.parent().map(|dir| dir.join("certificates/apiserver.crt"));
        if let Some(ca) = ca.filter(|ca| ca.exists()) {
            environment.insert("SSL_CERT_FILE".to_owned(), ca.display().to_string());
        }
        environment.extend(options.env);
        let environment: Vec<_> = environment.into_iter().collect();
        let fixed = ["run", "--listen", &listen, "--namespace", &options.namespace].map(str::to_owned);
        let args = fixed.into_iter().chain(options.args);
        let process = Process::start(&options.binary, args, Some(&environment), &options.log_file)?;
        let http = plain_http().timeout(ANSWERED_WITHIN).build()?;
        Ok(Self { process: Mutex::new(process), url: format!("http://{listen}"), log_file: options.log_file, http })
    }

    /// Where it serves `/metrics`, `/healthz` and `/readyz`: `http://127.0.0.1:…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.lock().pid()
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    ///
    /// Where it ends or does not get ready within [`WAIT`]: then with the end of its log.
    pub async fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        loop {
            self.lock().check_running()?;
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await;
            let last = match answer {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                Ok(answer) => format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()),
                Err(e) => e.to_string(),
            };
            if Instant::now() > deadline {
                let end = last_lines(&self.log_file, 30);
                let file = self.log_file.display();
                return Err(Error::new(format!(
                    "the operator is not ready after {WAIT:?}: /readyz says {last}. The end of {file}:\n{end}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    ///
    /// Where it does not answer 200.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.http.get(format!("{}/metrics", self.url)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// All that it has printed so far.
    pub fn logs(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log_file).unwrap_or_default()).into_owned()
    }

    /// The file with its output.
    pub fn log_file(&self) -> &Path {
        &self.log_file
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    ///
    /// Where the system does not tell.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.lock().try_wait()?.is_none())
    }

    /// SIGKILL: when this returns, the process is gone.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.lock().kill()
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Where it had ended before, or has not within [`WAIT`] (then it is killed): with the end of its log.
    pub async fn terminate(&self) -> Result<Ended> {
        let start = Instant::now();
        self.lock().check_running()?;
        self.lock().signal(Signal::TERM)?;
        if let Some(status) = self.wait_exit(WAIT).await? {
            return Ok(Ended { status, after: start.elapsed() });
        }
        self.lock().kill()?;
        let end = last_lines(&self.log_file, 30);
        Err(Error::new(format!("still running {WAIT:?} after SIGTERM. The end of its log:\n{end}")))
    }

    /// SIGSTOP: when this returns, the process stands still, with all its connections open, as one that the node gives no
    /// time to.
    ///
    /// # Errors
    ///
    /// Where it has ended.
    pub fn stop(&self) -> Result<()> {
        self.lock().stop()
    }

    /// SIGCONT: goes on after [`Operator::stop`].
    ///
    /// # Errors
    ///
    /// Where it has ended.
    pub fn cont(&self) -> Result<()> {
        self.lock().signal(Signal::CONT).context("SIGCONT")
    }

    /// Waits until it ends by itself; `None` if it has not by then.
    ///
    /// # Errors
    ///
    /// Where the system does not tell.
    pub async fn wait_exit(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        wait_exit(&self.process, timeout).await
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
