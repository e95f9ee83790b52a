//! The control endpoint: what the crate's documentation lists, over HTTP.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::{Account, AccountOptions, ForeignToken, TokenView};
use crate::fault::{Fault, FaultId};
use crate::log::LoggedRequest;
use crate::state::Shared;

type Control = State<Arc<Shared>>;
type Answer<T> = Result<Json<T>, (StatusCode, &'static str)>;

const NO_ACCOUNT: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such account\n");
const NO_TOKEN: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such live token\n");
const NO_FAULT: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such fault\n");

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/accounts", get(accounts).post(create_account))
        .route("/accounts/{account}/tokens", get(tokens).post(add_token))
        .route("/accounts/{account}/tokens/{id}", delete(delete_token))
        .route("/accounts/{account}/tokens/{id}/use", post(use_token))
        .route("/accounts/{account}/credential", post(replace_credential).delete(revoke_credential))
        .route("/accounts/{account}/website-keys", post(add_website_key))
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

async fn use_token(
    State(shared): Control,
    Path((account, id)): Path<(String, String)>,
    body: Option<Json<Use>>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    let at = body.and_then(|Json(body)| body.at).unwrap_or_else(Timestamp::now);
    if find(&shared, &account)?.use_token(&id, at) { Ok(StatusCode::NO_CONTENT) } else { Err(NO_TOKEN) }
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
