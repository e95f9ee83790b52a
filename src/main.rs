//! The operator's command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};
use datafast_operator::api::{crds, names, schemas};
use datafast_operator::clock::SystemClock;
use datafast_operator::controller::{self, Settings};
use datafast_operator::leader::{Candidate, Leadership};
use datafast_operator::telemetry::{self, Health, LogFormat, Metrics, millis};
use kube::{Api, Client, Config};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Manages the access tokens of DataFast as Kubernetes resources.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the cluster that it is in, or else that of the current kube context.
    Run(Box<Run>),
    /// Print the custom resource definitions.
    Crds {
        /// Write one file for each of them into this directory instead.
        #[arg(long, value_name = "DIR")]
        output_dir: Option<PathBuf>,
        /// Write them as JSON schemas into this directory, for editors and kubeconform.
        #[arg(long, value_name = "DIR")]
        schema_dir: Option<PathBuf>,
    },
}

/// Every flag can also be given as the environment variable named with it.
#[derive(Args)]
struct Run {
    /// Its own namespace, with the credentials of accounts and the lease. Default: POD_NAMESPACE, else the service
    /// account's, else datafast-system.
    #[arg(long, env = "DATAFAST_NAMESPACE")]
    namespace: Option<String>,

    /// Namespaces to watch, comma-separated. Default: all.
    #[arg(long, env = "DATAFAST_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,

    /// Where to serve /metrics, /healthz and /readyz. `[::]:8080`: by IPv6, and by IPv4 too.
    #[arg(long, env = "DATAFAST_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Resources of a kind that are reconciled at once.
    #[arg(long, env = "DATAFAST_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,

    /// Whether to take part in the election of a leader, by the Lease datafast-operator. Without it, see to it that no
    /// second replica runs.
    #[arg(long, env = "DATAFAST_LEADER_ELECT", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          value_parser = BoolishValueParser::new(),
          require_equals = true, default_missing_value = "true")]
    leader_elect: bool,

    /// How long the lease lasts for others, in whole seconds, at least 3s. The leader ends itself when it could not
    /// renew it for two thirds of that.
    #[arg(long, env = "DATAFAST_LEASE_DURATION", default_value = "15s", value_parser = lease_duration)]
    lease_duration: Duration,

    /// How long a request for a token that got no answer may still take effect. Deletions after a crash wait that long.
    #[arg(long, env = "DATAFAST_HORIZON", default_value = "2m", value_parser = positive_duration)]
    horizon: Duration,

    /// Let accounts have an http:// base URL: the credential then travels in clear text.
    #[arg(long, env = "DATAFAST_ALLOW_PLAIN_HTTP", value_parser = BoolishValueParser::new())]
    allow_plain_http: bool,

    /// Format of log lines. Default: text on a terminal, else json. RUST_LOG sets the level.
    #[arg(long, env = "DATAFAST_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// Nothing here is sensibly longer, and no clock overflows by it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn positive_duration(text: &str) -> Result<Duration, String> {
    // The parser panics on numbers that no clock can hold.
    if text.len() > 16 {
        return Err("too long for a duration such as 90s, 2m or 1h30m".into());
    }
    let duration: kube::core::Duration =
        text.parse().map_err(|error| format!("{error}; write it like 90s, 2m or 1h30m"))?;
    match (duration.is_negative(), Duration::from(duration)) {
        (false, duration) if duration > LONGEST => Err("must be at most 24h".into()),
        (false, duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than zero, such as 90s, 2m or 1h30m".into()),
    }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        duration if duration < Duration::from_secs(3) || duration.subsec_nanos() != 0 => {
            Err("must be whole seconds, at least 3s: a Lease counts seconds, and renewing takes some".into())
        }
        duration => Ok(duration),
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Crds { output_dir, schema_dir } => write_crds(output_dir, schema_dir),
        Command::Run(run) => start(*run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("datafast-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn write_crds(output_dir: Option<PathBuf>, schema_dir: Option<PathBuf>) -> Outcome {
    if output_dir.is_none() && schema_dir.is_none() {
        let documents: Vec<String> = crds().into_iter().map(|(_, yaml)| yaml).collect();
        std::io::stdout().write_all(documents.join("---\n").as_bytes())?;
    }
    let definitions = output_dir.into_iter().flat_map(|dir| crds().into_iter().map(move |it| (dir.join(it.0), it.1)));
    let schemas = schema_dir.into_iter().flat_map(|dir| schemas().into_iter().map(move |it| (dir.join(it.0), it.1)));
    for (path, text) in definitions.chain(schemas) {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

fn start(run: Run) -> Outcome {
    let undumped = forbid_core_dumps();
    let traces = telemetry::start(run.log_format.unwrap_or_else(LogFormat::fitting));
    if let Err(error) = undumped {
        tracing::warn!(%error, "core dumps could not be turned off: one would hold keys");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(operate(run));
    // A look-up of a name that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    traces.finish(Duration::from_secs(1));
    outcome
}

/// A core dump would hold whatever is in memory, keys among it. For good: the hard limit goes as well.
fn forbid_core_dumps() -> std::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(setrlimit(Resource::Core, none)?)
}

async fn operate(run: Run) -> Outcome {
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::default());
    telemetry::serve(run.listen, metrics.clone(), health.clone())
        .await
        .map_err(|error| format!("--listen {}: {error}", run.listen))?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;

    let mut config = Config::infer().await?;
    // Its retries answer a 409 to the echo of one's own success; here each failed reconcile is tried again as a whole.
    config.default_retry = false;
    let client = Client::try_from(config.clone())?;
    let settings = settings(&run);
    if run.horizon < Duration::from_secs(60) {
        tracing::warn!(
            horizonMs = millis(run.horizon),
            "a request may take 30 s: with such a short horizon a late answer can leave a token"
        );
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = settings.namespace, "datafast-operator starts");

    let (leadership, holding) = if run.leader_elect {
        let api = Api::namespaced(client.clone(), &settings.namespace);
        let mut candidate = Candidate::new(api, settings.instance.clone(), run.lease_duration);
        // A replica that waits for the lease does what it is there for.
        health.set_ready(true);
        let start = Instant::now();
        tracing::info!(identity = settings.instance, "waits for the lease");
        let Some(leadership) = candidate.acquire(&stop).await else { return Ok(()) };
        health.set_ready(false);
        tracing::info!(identity = settings.instance, durationMs = millis(start.elapsed()), "acquired the lease");
        (leadership.clone(), Some((candidate, leadership)))
    } else {
        (Leadership::alone(), None)
    };
    metrics.leads(true);
    let release = CancellationToken::new();
    let holding = match holding {
        Some((candidate, leadership)) => {
            Some(hold(config, &settings.namespace, candidate, leadership, release.clone())?)
        }
        None => None,
    };
    let outcome = controller::run(client, settings, metrics, health, leadership, stop).await;
    // Only now is nothing left to do for which the lease is needed.
    release.cancel();
    if let Some(holding) = holding {
        let _ = tokio::time::timeout(Duration::from_secs(2), holding).await;
    }
    outcome?;
    tracing::info!("shut down cleanly");
    Ok(())
}

/// Renews the lease on a thread and a connection of its own: however much there is to do, it does not keep the leader from
/// that. What is returned ends with it.
fn hold(
    config: Config,
    namespace: &str,
    candidate: Candidate,
    leadership: Leadership,
    release: CancellationToken,
) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let namespace = namespace.to_owned();
    let renew = async move {
        match Client::try_from(config) {
            Ok(client) => candidate.by(Api::namespaced(client, &namespace)).hold(leadership, release).await,
            // Without it the process ends when the lease does.
            Err(error) => tracing::error!(%error, "the lease can't be renewed"),
        }
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("lease".to_owned()).spawn(move || runtime.block_on(renew))?;
    Ok(end)
}

fn settings(run: &Run) -> Settings {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mounted = || {
        let text = std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok()?;
        Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
    };
    let namespace = run.namespace.clone().filter(|namespace| !namespace.is_empty());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let process = variable("POD_NAME").or_else(|| variable("HOSTNAME")).or_else(host);
    let mut watch_namespaces = run.watch_namespaces.clone();
    watch_namespaces.iter_mut().for_each(|namespace| *namespace = namespace.trim().to_owned());
    watch_namespaces.retain(|namespace| !namespace.is_empty());
    watch_namespaces.sort();
    watch_namespaces.dedup();
    Settings {
        namespace: namespace
            .or_else(|| variable("POD_NAMESPACE"))
            .or_else(mounted)
            .unwrap_or_else(|| "datafast-system".to_owned()),
        watch_namespaces,
        concurrency: run.concurrency,
        horizon: run.horizon,
        allow_plain_http: run.allow_plain_http,
        clock: Arc::new(SystemClock::default()),
        instance: format!("{}_{:08x}", process.unwrap_or_else(|| names::MANAGER.to_owned()), rand::random::<u32>()),
    }
}

fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down: finishes what is under way");
        stop.cancel();
    });
    Ok(())
}
