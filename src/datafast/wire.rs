//! DataFast's JSON, and what else may come in its place.
//!
//! Unknown fields are ignored, and absent ones are read as null. What has no documented shape is an error, never an
//! empty answer: a list that only looks empty would make every token look deleted.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::error::quote;
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
pub(super) fn list(body: &[u8], collection: &Collection) -> Result<Vec<Token>, Unreadable> {
    let mut tokens: Vec<Token> =
        success(body)?.into_iter().map(|object| listed(&object.rest)).collect::<Result<_, _>>()?;
    if let Collection::WebsiteKeys(website) = collection {
        for token in &mut tokens {
            (token.permissions, token.website_ids) = (BTreeSet::new(), BTreeSet::from([website.clone()]));
        }
    }
    Ok(tokens)
}

/// Reads the answer to a create, or to a roll of the token `rolled`. All but the id may be missing or odd: what matters
/// is not to lose the key, nor the id by which a token without a key can be revoked.
pub(super) fn issued(body: &[u8], asked: &NewToken, rolled: Option<&TokenId>) -> Result<Issued, Unreadable> {
    let mut data = success(body)?;
    let (Some(object), true) = (data.pop(), data.is_empty()) else {
        return Err(Unreadable("the answer is not one token"));
    };
    let Object { key, rest } = object;
    let id = match (id(&rest), rolled) {
        (Ok(id), Some(rolled)) if id != *rolled => return Err(Unreadable("the answer is about another token")),
        (id, rolled) => id.or(rolled.cloned().ok_or(NO_ID))?,
    };
    let display_key = field(&rest, "displayKey").ok().flatten();
    let token = Token {
        id,
        name: field(&rest, "name").ok().flatten().or_else(|| Some(asked.name.clone())),
        display_key: display_key.or_else(|| key.as_ref().map(RawKey::mask)).unwrap_or_default(),
        permissions: field(&rest, "permissions").ok().flatten().unwrap_or_else(|| asked.permissions.clone()),
        website_ids: field(&rest, "websiteIds").ok().flatten().unwrap_or_else(|| asked.website_ids.clone()),
        last_used_at: field(&rest, "lastUsedAt").ok().flatten(),
        created_at: field(&rest, "createdAt").ok().flatten(),
    };
    Ok(Issued { token, key })
}

/// Reads an answer whose data does not matter.
pub(super) fn acknowledged(body: &[u8]) -> Result<(), Unreadable> {
    success(body).map(drop)
}

/// An error as a body tells it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// `error.code`, where it is an HTTP error status.
    pub(super) code: Option<u16>,
    /// The message, quoted; empty where there is none.
    pub(super) message: String,
}

/// Reads an error out of a body of any shape.
pub(super) fn failure(body: &[u8]) -> Failure {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Failure::default() };
    let error = &body["error"];
    let code = error["code"].as_u64().or_else(|| error["code"].as_str()?.parse().ok());
    let message = [&error["message"], &body["message"], error].into_iter().find_map(Value::as_str);
    Failure {
        code: code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code)),
        message: message.map(quote).unwrap_or_default(),
    }
}

/// Whether a body is DataFast's own, by its `status`. None: it is not.
pub(super) fn status(body: &[u8]) -> Option<Status> {
    #[derive(Deserialize)]
    struct Body {
        status: Status,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| body.status)
}

/// The `status` of DataFast's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Success,
    Error,
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

fn success(body: &[u8]) -> Result<Vec<Object>, Unreadable> {
    #[derive(Deserialize)]
    struct Body {
        status: Status,
        data: OneOrMany,
    }
    match serde_json::from_slice(body) {
        Ok(Body { status: Status::Success, data }) => Ok(data.0),
        // The text of a JSON error may quote the answer, and with it a key.
        _ => Err(NOT_JSON),
    }
}

fn listed(fields: &Map<String, Value>) -> Result<Token, Unreadable> {
    Ok(Token {
        id: id(fields)?,
        name: field(fields, "name")?,
        display_key: field(fields, "displayKey")?.unwrap_or_default(),
        permissions: field(fields, "permissions")?.unwrap_or_default(),
        website_ids: field(fields, "websiteIds")?.unwrap_or_default(),
        // A time that cannot be read must not pass for "never used", upon which a token may be revoked.
        last_used_at: field(fields, "lastUsedAt")?,
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

/// `data`: an array, or one object in its place.
struct OneOrMany(Vec<Object>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Objects;
        impl<'de> Visitor<'de> for Objects {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
                let mut objects = Vec::new();
                while let Some(object) = seq.next_element()? {
                    objects.push(object);
                }
                Ok(OneOrMany(objects))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany, A::Error> {
                Fields.visit_map(map).map(|object| OneOrMany(vec![object]))
            }
        }
        // No untagged enum: serde would read the key into a buffer of its own, which nothing wipes.
        deserializer.deserialize_any(Objects)
    }
}

/// An object of `data`: its key goes straight into a [`RawKey`], everything else is plain JSON.
struct Object {
    key: Option<RawKey>,
    rest: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object { key: None, rest: Map::new() };
        while let Some(name) = map.next_key::<String>()? {
            if name == "key" {
                object.key = map.next_value::<Key>()?.0;
            } else {
                object.rest.insert(name, map.next_value()?);
            }
        }
        Ok(object)
    }
}

/// A key, or none where there is something else in its place.
struct Key(Option<RawKey>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(RawKey::parse(text.to_owned()).ok()))
            }

            fn visit_unit<E>(self) -> Result<Key, E> {
                Ok(Key(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Key, E> {
                Ok(Key(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Key, E> {
                Ok(Key(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Key, E> {
                Ok(Key(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Key, E> {
                Ok(Key(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Key, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Key(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Key, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Key(None))
            }
        }
        deserializer.deserialize_any(Text)
    }
}
