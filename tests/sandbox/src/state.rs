//! Everything the sandbox knows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::distr::{Alphanumeric, SampleString};

use crate::account::Website;
use crate::fault::Faults;
use crate::log::Log;
use crate::permission::Scope;

/// The state, behind one lock that is never held across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(token_limit: usize) -> Self {
        let state = State { token_limit, accounts: Vec::new(), faults: Faults::default(), log: Log::default() };
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panicked test must not take its neighbours along.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) token_limit: usize,
    pub(crate) accounts: Vec<AccountState>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
}

impl State {
    pub(crate) fn account(&self, name: &str) -> Option<&AccountState> {
        self.accounts.iter().find(|account| account.name == name)
    }

    pub(crate) fn account_mut(&mut self, name: &str) -> Option<&mut AccountState> {
        self.accounts.iter_mut().find(|account| account.name == name)
    }

    /// The account that ever had this key, revoked or not.
    pub(crate) fn account_of(&self, key: &str) -> Option<&AccountState> {
        self.accounts.iter().find(|account| {
            account.tokens.iter().any(|token| token.key == key) || account.website_keys.iter().any(|held| held == key)
        })
    }
}

#[derive(Debug)]
pub(crate) struct AccountState {
    pub(crate) name: String,
    pub(crate) token_limit: usize,
    pub(crate) websites: Vec<Website>,
    /// Every token ever, oldest first.
    pub(crate) tokens: Vec<Token>,
    /// Raw `df_` keys.
    pub(crate) website_keys: Vec<String>,
    /// The id of the token that is the account's credential now.
    pub(crate) credential: String,
}

impl AccountState {
    pub(crate) fn live(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(|token| token.is_live())
    }

    /// The tokens that existed `lag` ago.
    pub(crate) fn listed(&self, lag: Duration) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| {
            token.created.elapsed() >= lag && token.deleted.is_none_or(|deleted| deleted.elapsed() < lag)
        })
    }

    pub(crate) fn live_mut(&mut self, id: &str) -> Option<&mut Token> {
        self.tokens.iter_mut().find(|token| token.id == id && token.is_live())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) key: String,
    pub(crate) scope: Scope,
    pub(crate) last_used_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    /// The id of the token that created it; none: made behind the API's back.
    pub(crate) created_by: Option<String>,
    pub(crate) created: Instant,
    pub(crate) deleted: Option<Instant>,
}

impl Token {
    pub(crate) fn new(name: Option<String>, scope: Scope, created_by: Option<String>) -> Self {
        Self {
            id: random_id(),
            name,
            key: random_key("dft_"),
            scope,
            last_used_at: None,
            created_at: Timestamp::now(),
            created_by,
            created: Instant::now(),
            deleted: None,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.deleted.is_none()
    }

    pub(crate) fn delete(&mut self) {
        self.deleted.get_or_insert_with(Instant::now);
    }
}

/// 24 hex digits, the first 8 of them the time in seconds, as an ObjectId has it.
pub(crate) fn random_id() -> String {
    format!("{:08x}{:016x}", Timestamp::now().as_second(), rand::random::<u64>())
}

pub(crate) fn random_key(prefix: &str) -> String {
    format!("{prefix}{}", Alphanumeric.sample_string(&mut rand::rng(), 40))
}

/// The first 7 characters, `...`, the last 4. Keys too short to hide anything show nothing.
pub(crate) fn mask(key: &str) -> String {
    match (key.get(..7), key.len().checked_sub(4).and_then(|start| key.get(start..))) {
        (Some(head), Some(tail)) if key.len() >= 16 => format!("{head}...{tail}"),
        _ => "...".to_owned(),
    }
}

/// RFC 3339 with milliseconds and `Z`, as DataFast writes it.
pub(crate) fn wire_time(at: Timestamp) -> String {
    format!("{at:.3}")
}
