//! `/websites/{websiteId}/apikeys`.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Caller;
use super::answer::{Answer, refuse, succeed};
use crate::state::{AccountState, Token, wire_time};

#[derive(Deserialize)]
struct CreateBody {
    #[serde(default)]
    name: Option<String>,
}

/// The name that a create asks for, for the log.
pub(super) fn asked_name(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<CreateBody>(body).ok()?.name
}

/// `creator`: whose keys are shown; none: everybody's.
pub(super) fn list(account: &AccountState, website: &str, lag: Duration, creator: Option<&str>) -> Answer {
    succeed(account.listed(Some(website), lag, creator).map(|key| wire(key, lag)).collect())
}

pub(super) fn create(account: &mut AccountState, caller: &Caller, website: &str, body: &[u8]) -> Answer {
    let Ok(body) = serde_json::from_slice::<CreateBody>(body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let limit = account.limits.website_keys;
    if account.live(Some(website)).count() >= limit {
        return refuse(StatusCode::BAD_REQUEST, &format!("Website key limit reached ({limit} per website)"));
    }
    let key = Token::of_website(website, body.name, Some(caller.token_id.clone()));
    let answer = succeed(vec![with_key(&key)]).effected(&key.id, key.name.as_deref());
    account.tokens.push(key);
    answer
}

pub(super) fn roll(account: &mut AccountState, website: &str, id: &str) -> Answer {
    let Some(key) = key_of(account, website, id) else { return no_key() };
    key.roll();
    succeed(vec![with_key(key)]).effected(id, key.name.as_deref())
}

pub(super) fn delete(account: &mut AccountState, website: &str, id: &str) -> Answer {
    let Some(key) = key_of(account, website, id) else { return no_key() };
    key.delete();
    succeed(vec![json!({ "deleted": true })]).effected(id, key.name.as_deref())
}

/// Whoever created it: only of access tokens is it documented that nobody but the creator deletes them.
fn key_of<'a>(account: &'a mut AccountState, website: &str, id: &str) -> Option<&'a mut Token> {
    account.live_mut(id).filter(|key| key.website.as_deref() == Some(website))
}

fn no_key() -> Answer {
    refuse(StatusCode::NOT_FOUND, "Website key not found")
}

/// The key object with the raw key.
fn with_key(key: &Token) -> Value {
    let mut object = wire(key, Duration::ZERO);
    object["key"] = json!(key.key);
    object
}

/// The key object as it was `lag` ago; never with its raw key.
fn wire(key: &Token, lag: Duration) -> Value {
    json!({
        "_id": key.id,
        "name": key.name,
        "displayKey": key.display_key(lag),
        "websiteId": key.website,
        "lastUsedAt": key.last_used_at.map(wire_time),
        "createdAt": wire_time(key.created_at),
    })
}
