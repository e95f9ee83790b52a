//! The client against the sandbox, and its parts alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod entries;
mod environment;
mod faults;
mod keys;
mod redaction;
mod requests;
mod website_keys;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafast_sandbox::{Account, AccountOptions, Options, Sandbox};

use super::envelope::Envelope;
use super::wire::Unreadable;
use super::{Client, Collection, Issued, Limits, NewToken, Observe, RawKey, Token, TokenId, Transport};

/// Writes down what the client tells.
#[derive(Default)]
struct Recorder(Mutex<Vec<(&'static str, String)>>);

impl Observe for Recorder {
    fn request(&self, operation: &'static str, code: &str, _took: Duration) {
        self.0.lock().unwrap().push((operation, code.to_owned()));
    }
}

impl Recorder {
    fn taken(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A sandbox with one account, and a client of it.
struct World {
    sandbox: Sandbox,
    account: Account,
    client: Client,
    recorder: Arc<Recorder>,
}

const TOKENS: Collection = Collection::AccessTokens;
const LIMITS: Limits = Limits { connect: Duration::from_secs(5), total: Duration::from_millis(1500), body: 1 << 20 };

impl Client {
    /// Another one with the same connections.
    fn of(&self, base_url: &str, credential: RawKey) -> Self {
        Self::new(&self.transport, base_url, credential, self.observer.clone()).unwrap()
    }
}

impl World {
    async fn new() -> Self {
        Self::with(AccountOptions::default()).await
    }

    async fn with(options: AccountOptions) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let account = sandbox.account(options);
        let recorder = Arc::new(Recorder::default());
        let client = client(&sandbox.base_url(), &account.credential(), &recorder);
        Self { sandbox, account, client, recorder }
    }
}

fn client(base_url: &str, credential: &str, recorder: &Arc<Recorder>) -> Client {
    let observer: Arc<dyn Observe> = recorder.clone();
    Client::new(&Arc::new(Transport::new(LIMITS)), base_url, key(credential), observer).unwrap()
}

fn list(body: &[u8], collection: &Collection) -> Result<Vec<Token>, Unreadable> {
    super::wire::list(Envelope::read(body), collection)
}

fn issued(body: &[u8], asked: &NewToken, rolled: Option<&TokenId>) -> Result<Issued, Unreadable> {
    super::wire::issued(Envelope::read(body), asked, rolled)
}

fn key(text: &str) -> RawKey {
    RawKey::parse(text.to_owned()).unwrap()
}

fn set(strings: &[&str]) -> BTreeSet<String> {
    strings.iter().map(ToString::to_string).collect()
}

fn new_token() -> NewToken {
    NewToken { name: "shop/reader".to_owned(), permissions: set(&["analytics:read"]), website_ids: set(&[]) }
}
