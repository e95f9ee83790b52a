//! The sandbox as a program. Its library part documents the control endpoint.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use datafast_sandbox::{AccountOptions, Options, RateWindow, Sandbox, TOKEN_LIMIT, WEBSITE_KEY_LIMIT, Website};
use tracing_subscriber::EnvFilter;

/// The variable with the first account's credential, for where there is no file.
const CREDENTIAL_VARIABLE: &str = "DATAFAST_SANDBOX_CREDENTIAL";

/// DataFast's Account API in memory, with faults on demand, for demo and tests.
///
/// The API is served under /api/v1/admin, the control endpoint (accounts, tokens, website keys, rate windows, faults,
/// request log; no authentication) under /control. The first line of standard output tells the address. A first
/// account, named "default", is made where a credential is given; POST /control/accounts makes more.
#[derive(Parser)]
#[command(version, after_help = format!("Environment:\n  {CREDENTIAL_VARIABLE}  the first account's all-powerful dft_ token, where there is no --credential-file\n\nExample:\n  curl -X POST http://127.0.0.1:8089/control/accounts -H 'content-type: application/json' -d '{{}}'"))]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "DATAFAST_SANDBOX_LISTEN", default_value = "127.0.0.1:8089")]
    listen: SocketAddr,
    /// A file with the first account's all-powerful dft_ token.
    #[arg(long, env = "DATAFAST_SANDBOX_CREDENTIAL_FILE", value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Tokens per account, its credential included.
    #[arg(long, env = "DATAFAST_SANDBOX_TOKEN_LIMIT", default_value_t = TOKEN_LIMIT)]
    token_limit: usize,
    /// Keys per website.
    #[arg(long, env = "DATAFAST_SANDBOX_WEBSITE_KEY_LIMIT", default_value_t = WEBSITE_KEY_LIMIT)]
    website_key_limit: usize,
    /// Calls per account in a rate window; without it, any number.
    #[arg(long, env = "DATAFAST_SANDBOX_RATE_LIMIT", value_name = "CALLS")]
    rate_limit: Option<u32>,
    /// How many seconds a rate window is long.
    #[arg(long, env = "DATAFAST_SANDBOX_RATE_WINDOW", value_name = "SECONDS", default_value_t = RateWindow::default().seconds)]
    rate_window: u32,
    /// Listen on other addresses than loopback too, though everybody who reaches them can read every raw key.
    #[arg(long)]
    allow_remote: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<()> {
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        let message = format!("{} is not a loopback address; --allow-remote listens there anyway", arguments.listen);
        return Err(io::Error::other(message));
    }
    let credential = credential(&arguments)?;
    let seconds = arguments.rate_window;
    let options = Options {
        listen: arguments.listen,
        token_limit: arguments.token_limit,
        website_key_limit: arguments.website_key_limit,
        rate_window: arguments.rate_limit.map(|limit| RateWindow { limit, seconds, ..RateWindow::default() }),
    };
    let sandbox = Sandbox::start(options).await?;
    if let Some(credential) = credential {
        let options = AccountOptions {
            name: Some("default".to_owned()),
            credential: Some(credential),
            websites: demo_websites(),
            ..AccountOptions::default()
        };
        sandbox.account(options);
    }
    writeln!(io::stdout(), "listening on http://{}", sandbox.address())?;
    io::stdout().flush()?;
    sandbox.serve_until_failure().await;
    Ok(())
}

/// The first account's credential, if there is one.
fn credential(arguments: &Arguments) -> io::Result<Option<String>> {
    let text = match &arguments.credential_file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?,
        None => match std::env::var(CREDENTIAL_VARIABLE) {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    let credential = text.trim().to_owned();
    if !credential.starts_with("dft_") {
        return Err(io::Error::other("the credential does not start with dft_"));
    }
    Ok(Some(credential))
}

fn demo_websites() -> Vec<Website> {
    [("65a1b2c3d4e5f60718293a01", "shop.example.com"), ("65a1b2c3d4e5f60718293a02", "blog.example.com")]
        .map(|(id, domain)| Website { id: id.to_owned(), domain: domain.to_owned() })
        .into()
}
