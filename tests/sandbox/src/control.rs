//! The control endpoint: what the crate's documentation lists, over HTTP.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::{Account, AccountOptions, ForeignKey, ForeignToken, TokenView};
use crate::fault::{Fault, FaultId};
use crate::log::LoggedRequest;
use crate::rate_window::{RateWindow, WindowView};
use crate::state::Shared;

type Control = State<Arc<Shared>>;
/// Account, website and id of a website key.
type Key = (String, String, String);
type Answer<T> = Result<Json<T>, (StatusCode, &'static str)>;

const NO_ACCOUNT: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such account\n");
const NO_TOKEN: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such live token\n");
const NO_KEY: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such live key of this website\n");
const NO_WINDOW: (StatusCode, &str) = (StatusCode::NOT_FOUND, "the account has no rate window\n");
const NO_FAULT: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such fault\n");

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/accounts", get(accounts).post(create_account))
        .route("/accounts/{account}/tokens", get(tokens).post(add_token))
        .route("/accounts/{account}/tokens/{id}", delete(delete_token))
        .route("/accounts/{account}/tokens/{id}/use", post(use_token))
        .route("/accounts/{account}/credential", post(replace_credential).delete(revoke_credential))
        .route("/accounts/{account}/website-keys", post(add_website_key))
        .route("/accounts/{account}/websites/{website}/keys", get(website_keys).post(add_website_key_of))
        .route("/accounts/{account}/websites/{website}/keys/{id}", delete(delete_website_key))
        .route("/accounts/{account}/websites/{website}/keys/{id}/use", post(use_website_key))
        .route("/accounts/{account}/websites/{website}/keys/{id}/roll", post(roll_website_key))
        .route("/accounts/{account}/window", get(window).put(set_window).delete(remove_window))
        .route("/accounts/{account}/window/spend", post(spend))
        .route("/accounts/{account}/window/reset", post(reset_window))
        .route("/faults", get(faults).post(set_fault).delete(clear_faults))
        .route("/faults/{id}", delete(clear_fault))
        .route("/faults/{id}/release", post(clear_fault))
        .route("/requests", get(requests).delete(clear_requests))
        .route("/counts", get(counts))
}

fn find(shared: &Arc<Shared>, name: &str) -> Result<Account, (StatusCode, &'static str)> {
    Account::named(shared, name).ok_or(NO_ACCOUNT)
}

async fn accounts(State(shared): Control) -> Json<Vec<String>> {
    Json(Account::all(&shared).iter().map(|account| account.name().to_owned()).collect())
}

async fn create_account(State(shared): Control, Json(options): Json<AccountOptions>) -> Json<Value> {
    Json(credential_of(&Account::create(shared, options)))
}

fn credential_of(account: &Account) -> Value {
    json!({ "account": account.name(), "credential": account.credential(), "tokenId": account.credential_id() })
}

async fn tokens(State(shared): Control, Path(account): Path<String>) -> Answer<Vec<TokenView>> {
    Ok(Json(find(&shared, &account)?.tokens()))
}

async fn add_token(
    State(shared): Control,
    Path(account): Path<String>,
    Json(token): Json<ForeignToken>,
) -> Answer<Value> {
    Ok(Json(json!({ "id": find(&shared, &account)?.add_token(token) })))
}

async fn delete_token(
    State(shared): Control,
    Path((account, id)): Path<(String, String)>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if find(&shared, &account)?.delete_behind_back(&id) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_TOKEN) }
}

#[derive(Default, Deserialize)]
struct Use {
    at: Option<Timestamp>,
}

fn used_at(body: Option<Json<Use>>) -> Timestamp {
    body.and_then(|Json(body)| body.at).unwrap_or_else(Timestamp::now)
}

async fn use_token(
    State(shared): Control,
    Path((account, id)): Path<(String, String)>,
    body: Option<Json<Use>>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if find(&shared, &account)?.use_token(&id, used_at(body)) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_TOKEN) }
}

async fn replace_credential(
    State(shared): Control,
    Path(account): Path<String>,
    options: Option<Json<AccountOptions>>,
) -> Answer<Value> {
    let account = find(&shared, &account)?;
    account.replace_credential(&options.map(|Json(options)| options).unwrap_or_default());
    Ok(Json(credential_of(&account)))
}

async fn revoke_credential(
    State(shared): Control,
    Path(account): Path<String>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    find(&shared, &account)?.revoke_credential();
    Ok(StatusCode::NO_CONTENT)
}

async fn add_website_key(State(shared): Control, Path(account): Path<String>) -> Answer<Value> {
    Ok(Json(json!({ "key": find(&shared, &account)?.add_website_key() })))
}

/// The account of a live key of the website.
fn find_key(shared: &Arc<Shared>, (account, website, id): &Key) -> Result<Account, (StatusCode, &'static str)> {
    let account = find(shared, account)?;
    let is_meant = |key: &TokenView| key.id == *id && key.website_id.as_ref() == Some(website);
    if account.live_website_keys().iter().any(is_meant) { Ok(account) } else { Err(NO_KEY) }
}

async fn website_keys(
    State(shared): Control,
    Path((account, website)): Path<(String, String)>,
) -> Answer<Vec<TokenView>> {
    let keys = find(&shared, &account)?.website_keys().into_iter();
    Ok(Json(keys.filter(|key| key.website_id.as_ref() == Some(&website)).collect()))
}

async fn add_website_key_of(
    State(shared): Control,
    Path((account, website)): Path<(String, String)>,
    Json(key): Json<ForeignKey>,
) -> Answer<Value> {
    Ok(Json(json!({ "id": find(&shared, &account)?.add_website_key_of(&website, key) })))
}

async fn delete_website_key(
    State(shared): Control,
    Path(key): Path<Key>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if find_key(&shared, &key)?.delete_behind_back(&key.2) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_KEY) }
}

async fn use_website_key(
    State(shared): Control,
    Path(key): Path<Key>,
    body: Option<Json<Use>>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if find_key(&shared, &key)?.use_token(&key.2, used_at(body)) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_KEY) }
}

async fn roll_website_key(State(shared): Control, Path(key): Path<Key>) -> Answer<Value> {
    let key = find_key(&shared, &key)?.roll_behind_back(&key.2).ok_or(NO_KEY)?;
    Ok(Json(json!({ "key": key })))
}

async fn window(State(shared): Control, Path(account): Path<String>) -> Answer<Option<WindowView>> {
    Ok(Json(find(&shared, &account)?.window()))
}

async fn set_window(
    State(shared): Control,
    Path(account): Path<String>,
    Json(window): Json<RateWindow>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    find(&shared, &account)?.set_window(Some(window));
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_window(
    State(shared): Control,
    Path(account): Path<String>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    find(&shared, &account)?.set_window(None);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Spend {
    calls: u32,
}

async fn spend(
    State(shared): Control,
    Path(account): Path<String>,
    Json(Spend { calls }): Json<Spend>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if find(&shared, &account)?.spend(calls) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_WINDOW) }
}

async fn reset_window(
    State(shared): Control,
    Path(account): Path<String>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if find(&shared, &account)?.reset_window() { Ok(StatusCode::NO_CONTENT) } else { Err(NO_WINDOW) }
}

async fn faults(State(shared): Control) -> Json<Vec<Value>> {
    let faults = shared.lock().faults.all();
    Json(faults.into_iter().map(|(id, fault)| json!({ "id": id, "fault": fault })).collect())
}

async fn set_fault(State(shared): Control, Json(fault): Json<Fault>) -> Json<Value> {
    Json(json!({ "id": shared.lock().faults.add(fault) }))
}

async fn clear_faults(State(shared): Control) -> StatusCode {
    shared.lock().faults.clear_all();
    StatusCode::NO_CONTENT
}

async fn clear_fault(State(shared): Control, Path(id): Path<u64>) -> Result<StatusCode, (StatusCode, &'static str)> {
    if shared.lock().faults.clear(FaultId(id)) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_FAULT) }
}

#[derive(Deserialize)]
struct Of {
    account: Option<String>,
}

async fn requests(State(shared): Control, Query(of): Query<Of>) -> Json<Vec<LoggedRequest>> {
    Json(shared.lock().log.entries(of.account.as_deref()))
}

async fn clear_requests(State(shared): Control) -> StatusCode {
    shared.lock().log.clear();
    StatusCode::NO_CONTENT
}

async fn counts(State(shared): Control, Query(of): Query<Of>) -> Json<Value> {
    Json(json!(shared.lock().log.counts(of.account.as_deref())))
}
