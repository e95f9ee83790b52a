//! DataFast's Account API over HTTP, in memory, with faults on demand: for demo and tests, in no shipped image.
//!
//! The API lives under [`BASE_PATH`] and keeps the documented rules: permissions and scope, the limits of tokens
//! and of website keys, masked keys, who may delete what. Where asked to, it counts calls in a rate window as the live
//! API seems to ([`RateWindow`]). One process serves several accounts; the bearer key tells which one is meant.
//!
//! # In a Rust test
//!
//! ```
//! # async fn example() -> std::io::Result<()> {
//! use datafast_sandbox::{AccountOptions, Fault, Kind, Operation, Options, Sandbox};
//!
//! let sandbox = Sandbox::start(Options::default()).await?;
//! let account = sandbox.account(AccountOptions::default());
//! account.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Drop).after_effect().once());
//! // ... let the code under test talk to `sandbox.base_url()` with `account.credential()` ...
//! assert_eq!(account.live_tokens().len(), 1); // the account's own credential is a token too
//! # Ok(()) }
//! ```
//!
//! # The control endpoint
//!
//! The same over HTTP, without authentication, JSON in camelCase:
//!
//! | Call | Body | Does |
//! |---|---|---|
//! | `POST /control/accounts` | [`AccountOptions`] | makes an account: `{account, credential, tokenId}` |
//! | `GET /control/accounts` | | names of the accounts |
//! | `GET /control/accounts/{account}/tokens` | | every token ever, with raw key, creator and whether it lives ([`TokenView`]) |
//! | `POST /control/accounts/{account}/tokens` | [`ForeignToken`] | adds a token that nobody here made |
//! | `DELETE /control/accounts/{account}/tokens/{id}` | | deletes a token behind everybody's back |
//! | `POST /control/accounts/{account}/tokens/{id}/use` | `{at?}` | sets `lastUsedAt` |
//! | `POST /control/accounts/{account}/credential` | [`AccountOptions`] or `{}` | replaces the credential: the old one is revoked, its tokens stay |
//! | `DELETE /control/accounts/{account}/credential` | | revokes the credential |
//! | `POST /control/accounts/{account}/website-keys` | | a `df_` key, of the first website if the account tells of one: `{key}` |
//! | `GET /control/accounts/{account}/websites/{website}/keys` | | every key that the website ever had, as of tokens ([`TokenView`]) |
//! | `POST /control/accounts/{account}/websites/{website}/keys` | [`ForeignKey`] | adds a website key that nobody here made: `{id}` |
//! | `DELETE /control/accounts/{account}/websites/{website}/keys/{id}` | | deletes a website key behind everybody's back |
//! | `POST /control/accounts/{account}/websites/{website}/keys/{id}/use` | `{at?}` | sets `lastUsedAt` |
//! | `POST /control/accounts/{account}/websites/{website}/keys/{id}/roll` | | rolls a website key behind everybody's back: `{key}` |
//! | `GET /control/accounts/{account}/window` | | what is left of the rate window ([`WindowView`]); `null`: the account has none |
//! | `PUT /control/accounts/{account}/window` | [`RateWindow`] | gives the account a rate window that nothing was spent of |
//! | `DELETE /control/accounts/{account}/window` | | takes the rate window away |
//! | `POST /control/accounts/{account}/window/spend` | `{calls}` | makes so many calls as another client of the account |
//! | `POST /control/accounts/{account}/window/reset` | | ends the window that runs |
//! | `POST /control/faults` | [`Fault`] | sets a fault: `{id}` |
//! | `GET /control/faults`, `DELETE /control/faults` | | shows, clears all faults (held requests go on) |
//! | `DELETE /control/faults/{id}` | | clears one fault; a hold releases its requests |
//! | `POST /control/faults/{id}/release` | | the same, for a hold |
//! | `GET /control/requests?account=` | | the request log, oldest first ([`LoggedRequest`]) |
//! | `DELETE /control/requests` | | empties the log and the counts |
//! | `GET /control/counts?account=` | | requests per operation |
//!
//! An example: every create is answered 502 by an HTML page, though it took effect, three times:
//!
//! ```text
//! curl -d '{"operation": "create", "kind": "status", "status": 502, "body": {"type": "html"}, "moment": "after",
//!           "times": 3}' -H 'content-type: application/json' http://127.0.0.1:8089/control/faults
//! ```

mod account;
mod api;
mod connection;
mod control;
mod fault;
mod log;
mod permission;
mod rate_window;
mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use account::{Account, AccountOptions, ForeignKey, ForeignToken, TokenView, Website};
pub use fault::{Fault, FaultBody, FaultId, Kind, Moment, RetryAfter, Wire};
pub use log::{LoggedRequest, Operation};
pub use permission::PERMISSIONS;
pub use rate_window::{RateWindow, WindowView};

use connection::{CuttableListener, Cutter};
use state::{Limits, Shared};

/// Path in front of every call of the API, as at DataFast.
pub const BASE_PATH: &str = "/api/v1/admin";

/// How many tokens an account may hold, as documented.
pub const TOKEN_LIMIT: usize = 20;

/// How many keys a website may have, as documented.
pub const WEBSITE_KEY_LIMIT: usize = 10;

/// How a sandbox starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Tokens per account, its credential included, where the account does not say otherwise.
    pub token_limit: usize,
    /// Keys per website, where the account does not say otherwise.
    pub website_key_limit: usize,
    /// Calls in a time, where the account does not say otherwise; none: any number.
    pub rate_window: Option<RateWindow>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token_limit: TOKEN_LIMIT,
            website_key_limit: WEBSITE_KEY_LIMIT,
            rate_window: None,
        }
    }
}

/// A running sandbox. It stops listening when dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Binds and serves in the current tokio runtime.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let limits = Limits { tokens: options.token_limit, website_keys: options.website_key_limit };
        let shared = Arc::new(Shared::new(limits, options.rate_window));
        let app = Router::new()
            .nest("/control", control::router())
            .fallback(api::handle)
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Cutter>();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(CuttableListener::new(listener), app).await {
                tracing::error!(%error, "the sandbox stopped serving");
            }
        });
        Ok(Self { address, shared, server })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client takes as DataFast's base URL, without a slash at its end.
    pub fn base_url(&self) -> String {
        format!("http://{}{BASE_PATH}", self.address)
    }

    /// The root of the control endpoint, without a slash at its end.
    pub fn control_url(&self) -> String {
        format!("http://{}/control", self.address)
    }

    /// Makes an account with a credential.
    pub fn account(&self, options: AccountOptions) -> Account {
        Account::create(Arc::clone(&self.shared), options)
    }

    /// Every account's handle, oldest first.
    pub fn accounts(&self) -> Vec<Account> {
        Account::all(&self.shared)
    }

    /// Sets a fault, for every account or for the one it names.
    pub fn set_fault(&self, fault: Fault) -> FaultId {
        self.shared.lock().faults.add(fault)
    }

    /// Clears one fault. Requests held by it go on.
    pub fn clear_fault(&self, id: FaultId) {
        self.shared.lock().faults.clear(id);
    }

    /// Clears every fault. Held requests go on.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear_all();
    }

    /// Lets every request that a hold caught go on, and ends the hold.
    pub fn release(&self, id: FaultId) {
        self.clear_fault(id);
    }

    /// Waits until a request is caught by the hold `id`; returns at once where the hold is gone.
    pub async fn held(&self, id: FaultId) {
        let hold = self.shared.lock().faults.hold(id);
        if let Some(hold) = hold {
            hold.caught().await;
        }
    }

    /// Every request since the start or the last [`Sandbox::clear_requests`], oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.lock().log.entries(None)
    }

    /// Empties the request log and the counts.
    pub fn clear_requests(&self) {
        self.shared.lock().log.clear();
    }

    /// Waits until the server ends, which it does only on failure.
    pub async fn serve_until_failure(mut self) {
        // The task can only be cancelled by our own Drop, so its result says nothing more.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.lock().faults.clear_all();
    }
}
