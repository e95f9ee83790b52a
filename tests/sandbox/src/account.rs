//! An account as tests hold it.

mod rate_window;
mod website_keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, FaultId};
use crate::log::{LoggedRequest, Operation};
use crate::permission::Scope;
use crate::rate_window::{RateWindow, Spending};
use crate::state::{AccountState, Limits, Shared, State, Token, mask};

pub use website_keys::ForeignKey;

/// How an account is made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccountOptions {
    /// Its name in the control endpoint; none: `account-<n>`.
    pub name: Option<String>,
    /// The raw credential; none: a random one.
    pub credential: Option<String>,
    /// What the credential may do; none: `*`.
    pub permissions: Option<Vec<String>>,
    /// The websites that the credential may touch; empty: all.
    pub website_ids: Vec<String>,
    /// What `GET /websites` shows, and whose keys there are; empty: it shows none, and every 24 hex digits are a
    /// website that can have keys.
    pub websites: Vec<Website>,
    /// Tokens per account, the credential included; none: as the sandbox has it.
    pub token_limit: Option<usize>,
    /// Keys per website; none: as the sandbox has it.
    pub website_key_limit: Option<usize>,
    /// Calls in a time; none: as the sandbox has it.
    pub rate_window: Option<RateWindow>,
}

/// A website of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Website {
    /// 24 hex digits.
    #[serde(rename = "_id", alias = "id")]
    pub id: String,
    /// Its domain.
    pub domain: String,
}

/// A token that nobody made through the API: a person's, say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForeignToken {
    /// Its name.
    pub name: Option<String>,
    /// What it may do; none: `*`.
    pub permissions: Option<Vec<String>>,
    /// The websites it may touch; empty: all.
    pub website_ids: Vec<String>,
    /// The token that counts as its creator, and may delete it; none: nobody.
    pub created_by: Option<String>,
    /// None: now.
    pub created_at: Option<Timestamp>,
    /// None: never used.
    pub last_used_at: Option<Timestamp>,
}

/// An access token or a website key, with all that the sandbox knows of it, the raw key included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// 24 hex digits.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// The raw key; of a website key that was rolled, the newest.
    pub key: String,
    /// The masked key.
    pub display_key: String,
    /// What it may do. Website keys have none.
    pub permissions: Vec<String>,
    /// Empty: all websites.
    pub website_ids: Vec<String>,
    /// The website whose key it is; none: it is an access token.
    pub website_id: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
    /// The token that created it through the API; none: nobody did.
    pub created_by: Option<String>,
    /// Whether it still works.
    pub live: bool,
    /// Whether it is the account's own credential.
    pub credential: bool,
}

/// An account of a sandbox. Cheap to clone; usable from any thread.
#[derive(Debug, Clone)]
pub struct Account {
    shared: Arc<Shared>,
    name: String,
}

impl Account {
    pub(crate) fn create(shared: Arc<Shared>, options: AccountOptions) -> Self {
        let mut state = shared.lock();
        let name = options.name.clone().unwrap_or_else(|| format!("account-{}", state.accounts.len() + 1));
        let credential = credential(&options);
        let limits = Limits {
            tokens: options.token_limit.unwrap_or(state.limits.tokens),
            website_keys: options.website_key_limit.unwrap_or(state.limits.website_keys),
        };
        let window = options.rate_window.or(state.rate_window).map(Spending::new);
        // A second account of that name takes the place of the first: it starts afresh.
        state.accounts.retain(|account| account.name != name);
        state.accounts.push(AccountState {
            name: name.clone(),
            limits,
            window,
            websites: options.websites,
            credential: credential.id.clone(),
            tokens: vec![credential],
        });
        drop(state);
        Self { shared, name }
    }

    pub(crate) fn all(shared: &Arc<Shared>) -> Vec<Self> {
        let names: Vec<_> = shared.lock().accounts.iter().map(|account| account.name.clone()).collect();
        names.into_iter().map(|name| Self { shared: Arc::clone(shared), name }).collect()
    }

    pub(crate) fn named(shared: &Arc<Shared>, name: &str) -> Option<Self> {
        shared.lock().account(name).map(|account| Self { shared: Arc::clone(shared), name: account.name.clone() })
    }

    fn read<T: Default>(&self, read: impl FnOnce(&AccountState) -> T) -> T {
        self.shared.lock().account(&self.name).map(read).unwrap_or_default()
    }

    fn change<T: Default>(&self, change: impl FnOnce(&mut AccountState) -> T) -> T {
        self.shared.lock().account_mut(&self.name).map(change).unwrap_or_default()
    }

    /// Its name in the control endpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The raw credential, also where it was revoked.
    pub fn credential(&self) -> String {
        self.read(|account| {
            account.tokens.iter().find(|token| token.id == account.credential).map(|token| token.key.clone())
        })
        .unwrap_or_default()
    }

    /// The id of the token that is the credential.
    pub fn credential_id(&self) -> String {
        self.read(|account| account.credential.clone())
    }

    /// Every access token that the account ever had, oldest first, the credential included.
    pub fn tokens(&self) -> Vec<TokenView> {
        self.read(|account| {
            account.tokens.iter().filter(|token| token.website.is_none()).map(|token| view(account, token)).collect()
        })
    }

    /// The access tokens that work, oldest first, the credential included.
    pub fn live_tokens(&self) -> Vec<TokenView> {
        self.tokens().into_iter().filter(|token| token.live).collect()
    }

    /// The live access tokens that were created through the API.
    pub fn issued_tokens(&self) -> Vec<TokenView> {
        self.live_tokens().into_iter().filter(|token| token.created_by.is_some()).collect()
    }

    /// Adds an access token behind the API's back, over the limit where need be. Returns its id.
    pub fn add_token(&self, token: ForeignToken) -> String {
        let scope = scope(token.permissions, token.website_ids);
        let mut made = Token::new(token.name, scope, token.created_by);
        made.created_at = token.created_at.unwrap_or(made.created_at);
        made.last_used_at = token.last_used_at;
        self.add(made)
    }

    /// Puts back what an account had, in place of all that this one has: what [`Account::tokens`] and
    /// [`Account::website_keys`] told then, ids, keys and credential included. Hidden keys come back as others, and what
    /// rolled keys were before is forgotten.
    pub fn restore(&self, tokens: &[TokenView]) {
        self.change(|account| {
            let credential = tokens.iter().find(|token| token.credential).map(|token| token.id.clone());
            account.credential = credential.unwrap_or_default();
            account.tokens = tokens.iter().map(token_of).collect();
        });
    }

    fn add(&self, token: Token) -> String {
        let id = token.id.clone();
        self.change(|account| account.tokens.push(token));
        id
    }

    /// Deletes a token or website key behind everybody's back. False: there is no such live one.
    pub fn delete_behind_back(&self, id: &str) -> bool {
        self.change(|account| account.live_mut(id).map(Token::delete).is_some())
    }

    /// Sets the `lastUsedAt` of a live token or website key. False: there is no such live one.
    pub fn use_token(&self, id: &str, at: Timestamp) -> bool {
        self.change(|account| account.live_mut(id).map(|token| token.last_used_at = Some(at)).is_some())
    }

    /// Revokes the credential: 401 from now on.
    pub fn revoke_credential(&self) -> bool {
        self.delete_behind_back(&self.credential_id())
    }

    /// Revokes the credential and returns a new one, of the scope that `options` tells. The tokens that the old one
    /// created stay, and can no longer be deleted through the API.
    pub fn replace_credential(&self, options: &AccountOptions) -> String {
        self.revoke_credential();
        self.change(|account| {
            let credential = credential(options);
            let key = credential.key.clone();
            account.credential.clone_from(&credential.id);
            account.tokens.push(credential);
            key
        })
    }

    /// Sets a fault for this account alone.
    pub fn set_fault(&self, fault: Fault) -> FaultId {
        self.shared.lock().faults.add(Fault { account: Some(self.name.clone()), ..fault })
    }

    /// Clears the faults that are for this account alone. Requests held by them go on.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear_account(&self.name);
    }

    /// Lets every request that a hold caught go on, and ends the hold.
    pub fn release(&self, id: FaultId) {
        self.shared.lock().faults.clear(id);
    }

    /// Waits until a request is caught by the hold `id`; returns at once where the hold is gone.
    pub async fn held(&self, id: FaultId) {
        let hold = self.shared.lock().faults.hold(id);
        if let Some(hold) = hold {
            hold.caught().await;
        }
    }

    /// The requests with this account's keys, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.lock().log.entries(Some(&self.name))
    }

    /// How many requests of one operation came in.
    pub fn count(&self, operation: Operation) -> u64 {
        self.counts().get(&operation).copied().unwrap_or_default()
    }

    /// How many requests of each operation came in.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        let state: &State = &self.shared.lock();
        state.log.counts(Some(&self.name))
    }
}

fn scope(permissions: Option<Vec<String>>, website_ids: Vec<String>) -> Scope {
    Scope { permissions: permissions.unwrap_or_else(|| vec!["*".to_owned()]), website_ids }
}

fn credential(options: &AccountOptions) -> Token {
    let scope = scope(options.permissions.clone(), options.website_ids.clone());
    let mut token = Token::new(Some("operator credential".to_owned()), scope, None);
    if let Some(key) = &options.credential {
        token.key.clone_from(key);
    }
    token
}

fn token_of(view: &TokenView) -> Token {
    let scope = Scope { permissions: view.permissions.clone(), website_ids: view.website_ids.clone() };
    let mut token = Token::new(view.name.clone(), scope, view.created_by.clone());
    token.id.clone_from(&view.id);
    token.key.clone_from(&view.key);
    token.website.clone_from(&view.website_id);
    token.last_used_at = view.last_used_at;
    token.created_at = view.created_at;
    if !view.live {
        token.delete();
    }
    token
}

fn view(account: &AccountState, token: &Token) -> TokenView {
    TokenView {
        id: token.id.clone(),
        name: token.name.clone(),
        display_key: mask(&token.key),
        key: token.key.clone(),
        permissions: token.scope.permissions.clone(),
        website_ids: token.scope.website_ids.clone(),
        website_id: token.website.clone(),
        created_at: token.created_at,
        last_used_at: token.last_used_at,
        created_by: token.created_by.clone(),
        live: token.is_live(),
        credential: token.id == account.credential,
    }
}
