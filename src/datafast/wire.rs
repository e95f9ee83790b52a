//! DataFast's JSON, and what else may come in its place.
//!
//! Unknown fields are ignored, and absent ones are read as null. What has no documented shape is an error, never an
//! empty answer: a list that only looks empty would make every token look deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::envelope::{Envelope, Object, Status};
use super::{Collection, Issued, NewToken, RawKey, Token, TokenId};

/// An answer that cannot be read, and why; never with a piece of it, which may be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

const NOT_JSON: Unreadable = Unreadable("the answer is not JSON of the documented shape");
const NO_ID: Unreadable = Unreadable("the answer has a token without a usable id");

/// The longest wait that a `Retry-After` can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The body of a create.
pub(super) fn new_token(collection: &Collection, token: &NewToken) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        name: &'a str,
        #[serde(flatten)]
        scope: Option<Scope<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Scope<'a> {
        permissions: &'a BTreeSet<String>,
        website_ids: &'a BTreeSet<String>,
    }
    let scope = match collection {
        Collection::AccessTokens => Some(Scope { permissions: &token.permissions, website_ids: &token.website_ids }),
        // What a website key may do is not for its creator to choose.
        Collection::WebsiteKeys(_) => None,
    };
    // Strings and sets of strings always serialize.
    serde_json::to_vec(&Body { name: &token.name, scope }).unwrap_or_default()
}

/// Reads a list. One token that cannot be read makes the whole list unreadable: without that token it would look
/// deleted, and be issued again.
pub(super) fn list(body: Envelope, collection: &Collection) -> Result<Vec<Token>, Unreadable> {
    let mut tokens: Vec<Token> = success(body)?.into_iter().map(listed).collect::<Result<_, _>>()?;
    if let Collection::WebsiteKeys(website) = collection {
        for token in &mut tokens {
            (token.permissions, token.website_ids) = (BTreeSet::new(), BTreeSet::from([website.clone()]));
        }
    }
    Ok(tokens)
}

/// Reads the answer to a create, or to a roll of the token `rolled`. All but the id may be missing or odd: what matters
/// is not to lose the key, nor the id by which a token without a key can be revoked.
pub(super) fn issued(body: Envelope, asked: &NewToken, rolled: Option<&TokenId>) -> Result<Issued, Unreadable> {
    let mut data = success(body)?;
    let (Some(object), true) = (data.pop(), data.is_empty()) else {
        return Err(Unreadable("the answer is not one token"));
    };
    let Object { key, display_key, rest } = object;
    let id = match (id(&rest), rolled) {
        (Ok(id), Some(rolled)) if id != *rolled => return Err(Unreadable("the answer is about another token")),
        (id, rolled) => id.or(rolled.cloned().ok_or(NO_ID))?,
    };
    // One that does not fit the key would have it taken for lost.
    let display_key = display_key.filter(|shown| key.as_ref().is_none_or(|key| key.fits(shown) != Some(false)));
    let token = Token {
        id,
        name: field(&rest, "name").ok().flatten().or_else(|| Some(asked.name.clone())),
        display_key: display_key.or_else(|| key.as_ref().map(RawKey::mask)).unwrap_or_default(),
        permissions: field(&rest, "permissions").ok().flatten().unwrap_or_else(|| asked.permissions.clone()),
        website_ids: field(&rest, "websiteIds").ok().flatten().unwrap_or_else(|| asked.website_ids.clone()),
        last_used_at: field(&rest, "lastUsedAt").ok().flatten(),
        // Only a list does.
        tells_use: false,
        created_at: field(&rest, "createdAt").ok().flatten(),
    };
    Ok(Issued { token, key })
}

/// Reads an answer whose data does not matter.
pub(super) fn acknowledged(body: Envelope) -> Result<(), Unreadable> {
    success(body).map(drop)
}

/// Reads a `Retry-After`: seconds, or an HTTP date, which in the past means now. None: nonsense.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = DateTimeParser::new().parse_timestamp(value).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

fn success(body: Envelope) -> Result<Vec<Object>, Unreadable> {
    let is_success = body.status == Some(Status::Success);
    body.data.filter(|_| is_success).ok_or(NOT_JSON)
}

fn listed(object: Object) -> Result<Token, Unreadable> {
    let fields = &object.rest;
    Ok(Token {
        id: id(fields)?,
        name: field(fields, "name")?,
        display_key: object.display_key.unwrap_or_default(),
        permissions: field(fields, "permissions")?.unwrap_or_default(),
        website_ids: field(fields, "websiteIds")?.unwrap_or_default(),
        // A time that cannot be read must not pass for "never used", upon which a token may be revoked.
        last_used_at: field(fields, "lastUsedAt")?,
        tells_use: fields.contains_key("lastUsedAt"),
        created_at: field(fields, "createdAt")?,
    })
}

fn id(fields: &Map<String, Value>) -> Result<TokenId, Unreadable> {
    let id = ["_id", "id"].iter().find_map(|name| fields.get(*name)?.as_str());
    id.and_then(|id| TokenId::parse(id).ok()).ok_or(NO_ID)
}

/// A field; none where it is absent or null.
fn field<T: DeserializeOwned>(fields: &Map<String, Value>, name: &str) -> Result<Option<T>, Unreadable> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value.clone())
            .map(Some)
            .map_err(|_| Unreadable("the answer has a token with a field of another shape")),
    }
}
