//! Processes that never outlive us, and ports for them.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::OpenOptions,
    io::Write,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::error::{Context, Error, Result};

/// A shell forks a watcher and then becomes the program, so that pid and exit status are the program's own. The watcher
/// reads a pipe of which only we hold the other end: the end of file, which comes however we end, kills the program. A
/// line on it means that we saw the program end and that its pid may already be another's.
const LEASH: &str = r#"exec 3<&0 </dev/null; { read -r _ <&3 || kill -9 $$; } >/dev/null 2>&1 & exec "$@" 3<&-"#;

/// A running program on a leash, with its output in a file.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    leash: Option<ChildStdin>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program with its standard output and error appended to `log`. `environment: None` inherits ours.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
        environment: Option<&[(String, String)]>,
        log: &Path,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !program.is_file() {
            return Err(Error::new(format!("{} is not there", program.display())));
        }
        let output = OpenOptions::new().create(true).append(true).open(log).context(log.display())?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(LEASH).arg("sh").arg(program).args(args);
        if let Some(environment) = environment {
            command.env_clear().envs(environment.iter().cloned());
        }
        // A group of its own: Ctrl-C at a terminal reaches us only, and we end the rest.
        command.process_group(0).stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn().context(program.display())?;
        let leash = child.stdin.take();
        Ok(Self { name, log: log.to_owned(), child, leash, ended: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context(&self.name)?;
            if self.ended.is_some() {
                self.dismiss_watcher();
            }
        }
        Ok(self.ended)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.try_wait()?.is_some() {
            return Err(Error::new(format!("{} has ended already", self.name)));
        }
        kill_process(Pid::from_child(&self.child), signal).context(&self.name)
    }

    /// SIGSTOP, and waits until the process stands still: the signal alone may leave its threads some time.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), WaitIdOptions::STOPPED).context(&self.name)?;
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone: a moment, as nothing can refuse that signal.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.child.kill().context(&self.name)?;
        let status = self.child.wait().context(&self.name)?;
        self.ended = Some(status);
        self.dismiss_watcher();
        Ok(status)
    }

    /// An error that tells how the process ended, if it has.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Error::new(format!(
                "{} ended ({status}). The end of {}:\n{}",
                self.name,
                self.log.display(),
                last_lines(&self.log, 30)
            ))),
        }
    }

    fn dismiss_watcher(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            // Where the watcher is gone already, there is nobody to dismiss.
            let _ = leash.write_all(b"\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Polls until the process has ended; `None` if it has not by then. The lock is not held while it waits.
pub(crate) async fn wait_exit(process: &Mutex<Process>, timeout: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    loop {
        let status = process.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The last lines of a text file; empty where it cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A loopback port that nobody listens on. It lies below the range from which the system takes the ports of outgoing
/// connections, so that it stays free while a server on it restarts; and it is given out only once per process.
///
/// # Panics
///
/// When no free port is found.
pub fn free_port() -> u16 {
    static GIVEN_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given_out = GIVEN_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let given_out = given_out.get_or_insert_with(HashSet::new);
    for _ in 0..1000 {
        let port = rand::random_range(10_000..32_000);
        if !given_out.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given_out.insert(port);
            return port;
        }
    }
    panic!("no free port between 10000 and 32000 on 127.0.0.1");
}
