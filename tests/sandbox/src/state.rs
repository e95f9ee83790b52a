//! Everything the sandbox knows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::distr::{Alphanumeric, SampleString};

use crate::account::Website;
use crate::fault::Faults;
use crate::log::Log;
use crate::permission::Scope;
use crate::rate_window::{RateWindow, Spending};

/// The state, behind one lock that is never held across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(limits: Limits, rate_window: Option<RateWindow>) -> Self {
        let state = State { limits, rate_window, accounts: Vec::new(), faults: Faults::default(), log: Log::default() };
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panicked test must not take its neighbours along.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens per account, the credential included.
    pub(crate) tokens: usize,
    /// Keys per website, hidden ones included.
    pub(crate) website_keys: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Of accounts that do not say otherwise.
    pub(crate) limits: Limits,
    /// Of accounts that do not say otherwise; none: any number of calls.
    pub(crate) rate_window: Option<RateWindow>,
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

    /// The account that ever had this key, revoked or rolled away or not.
    pub(crate) fn account_of(&self, key: &str) -> Option<&AccountState> {
        self.accounts.iter().find(|account| account.tokens.iter().any(|token| token.ever_had(key)))
    }
}

#[derive(Debug)]
pub(crate) struct AccountState {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    /// None: any number of calls, and no header says otherwise.
    pub(crate) window: Option<Spending>,
    pub(crate) websites: Vec<Website>,
    /// Every access token and every website key ever, oldest first.
    pub(crate) tokens: Vec<Token>,
    /// The id of the token that is the account's credential now.
    pub(crate) credential: String,
}

impl AccountState {
    /// Whether it is a website of the account. One that tells of none has every website that there could be.
    pub(crate) fn has_website(&self, id: &str) -> bool {
        if self.websites.is_empty() {
            return id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        }
        self.websites.iter().any(|website| website.id == id)
    }

    /// What works of a website's keys; of no website: of the access tokens.
    pub(crate) fn live(&self, website: Option<&str>) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| token.website.as_deref() == website && token.is_live())
    }

    /// What existed `lag` ago of a website's keys; of no website: of the access tokens. `creator`: whose are shown;
    /// none: everybody's.
    pub(crate) fn listed(
        &self,
        website: Option<&str>,
        lag: Duration,
        creator: Option<&str>,
    ) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| {
            token.website.as_deref() == website
                && !token.hidden
                && (creator.is_none() || token.created_by.as_deref() == creator)
                && token.created.elapsed() >= lag
                && token.deleted.is_none_or(|deleted| deleted.elapsed() < lag)
        })
    }

    /// The access token or website key of that id, if it works.
    pub(crate) fn live_mut(&mut self, id: &str) -> Option<&mut Token> {
        self.tokens.iter_mut().find(|token| token.id == id && token.is_live())
    }
}

/// An access token, or a website key.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) key: String,
    /// The keys that it had before it was rolled, and when they ended, oldest first.
    former_keys: Vec<(String, Instant)>,
    /// A website key's has no permissions, for it has no choice of them.
    pub(crate) scope: Scope,
    /// The website whose key it is; none: it is an access token.
    pub(crate) website: Option<String>,
    /// Whether lists leave it out.
    pub(crate) hidden: bool,
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
            key: random_key(ACCESS_TOKEN),
            former_keys: Vec::new(),
            scope,
            website: None,
            hidden: false,
            last_used_at: None,
            created_at: Timestamp::now(),
            created_by,
            created: Instant::now(),
            deleted: None,
        }
    }

    pub(crate) fn of_website(website: &str, name: Option<String>, created_by: Option<String>) -> Self {
        let scope = Scope { permissions: Vec::new(), website_ids: vec![website.to_owned()] };
        Self { key: random_key(WEBSITE_KEY), website: Some(website.to_owned()), ..Self::new(name, scope, created_by) }
    }

    /// Takes a new key; the old one ends.
    pub(crate) fn roll(&mut self) {
        let former = std::mem::replace(&mut self.key, random_key(WEBSITE_KEY));
        self.former_keys.push((former, Instant::now()));
    }

    /// The masked form of the key that it had `lag` ago.
    pub(crate) fn display_key(&self, lag: Duration) -> String {
        let former = self.former_keys.iter().find(|(_, ended)| ended.elapsed() < lag);
        mask(former.map_or(&self.key, |(key, _)| key))
    }

    fn ever_had(&self, key: &str) -> bool {
        self.key == key || self.former_keys.iter().any(|(former, _)| former == key)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.deleted.is_none()
    }

    pub(crate) fn delete(&mut self) {
        self.deleted.get_or_insert_with(Instant::now);
    }
}

/// What an access token's key starts with.
const ACCESS_TOKEN: &str = "dft_";

/// What a website key starts with.
const WEBSITE_KEY: &str = "df_";

/// 24 hex digits, the first 8 of them the time in seconds, as an ObjectId has it.
pub(crate) fn random_id() -> String {
    format!("{:08x}{:016x}", Timestamp::now().as_second(), rand::random::<u64>())
}

fn random_key(prefix: &str) -> String {
    format!("{prefix}{}", Alphanumeric.sample_string(&mut rand::rng(), 40))
}

/// The first 7 characters, `...`, the last 4. Keys too short to hide anything show nothing.
pub(crate) fn mask(key: &str) -> String {
    match (key.get(..7), key.len().checked_sub(4).and_then(|start| key.get(start..))) {
        (Some(head), Some(tail)) if key.len() >= 16 => format!("{head}...{tail}"),
        _ => "...".to_owned(),
    }
}

/// Since the epoch, as answers tell the end of a rate window.
pub(crate) fn now_in_milliseconds() -> i64 {
    Timestamp::now().as_millisecond()
}

/// RFC 3339 with milliseconds and `Z`, as DataFast writes it.
pub(crate) fn wire_time(at: Timestamp) -> String {
    format!("{at:.3}")
}
