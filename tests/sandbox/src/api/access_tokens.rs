//! `/access-tokens`.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Caller;
use super::answer::{Answer, refuse, succeed};
use crate::permission::Scope;
use crate::state::{AccountState, Token, mask, wire_time};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateBody {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    permissions: Option<Vec<String>>,
    #[serde(default)]
    website_ids: Option<Vec<String>>,
}

/// The name that a create asks for, for the log.
pub(super) fn asked_name(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<CreateBody>(body).ok()?.name
}

/// `creator`: whose tokens are shown; none: all.
pub(super) fn list(account: &AccountState, lag: Duration, creator: Option<&str>) -> Answer {
    succeed(account.listed(None, lag, creator).map(wire).collect())
}

pub(super) fn create(account: &mut AccountState, caller: &Caller, body: &[u8]) -> Answer {
    let body: CreateBody = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "Invalid request body"),
    };
    let scope = Scope {
        permissions: body.permissions.unwrap_or_else(|| vec!["*".to_owned()]),
        website_ids: body.website_ids.unwrap_or_default(),
    };
    if let Some(fault) = scope.fault() {
        return refuse(StatusCode::BAD_REQUEST, &fault);
    }
    if !caller.scope.covers(&scope) {
        return refuse(StatusCode::FORBIDDEN, "A token cannot exceed the permissions and websites of its creator");
    }
    if account.live(None).count() >= account.limits.tokens {
        let message = format!("Access token limit reached ({} per account)", account.limits.tokens);
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    let token = Token::new(body.name, scope, Some(caller.token_id.clone()));
    let mut data = wire(&token);
    data["key"] = json!(token.key);
    let answer = succeed(vec![data]).effected(&token.id, token.name.as_deref());
    account.tokens.push(token);
    answer
}

pub(super) fn delete(account: &mut AccountState, caller: &Caller, id: &str) -> Answer {
    match account.live_mut(id) {
        Some(token) if token.website.is_none() && token.created_by.as_ref() == Some(&caller.token_id) => {
            token.delete();
            succeed(vec![json!({ "message": "Access token deleted" })]).effected(id, token.name.as_deref())
        }
        _ => refuse(StatusCode::NOT_FOUND, "Access token not found"),
    }
}

/// The token object; never with its raw key.
fn wire(token: &Token) -> Value {
    json!({
        "_id": token.id,
        "name": token.name,
        "displayKey": mask(&token.key),
        "scope": "user",
        "permissions": token.scope.permissions,
        "websiteIds": token.scope.website_ids,
        "lastUsedAt": token.last_used_at.map(wire_time),
        "createdAt": wire_time(token.created_at),
    })
}
