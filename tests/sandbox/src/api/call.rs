//! Which call a request is.

use axum::http::Method;

use super::{access_tokens, website_keys};
use crate::BASE_PATH;
use crate::log::Operation;

/// The call that a request makes.
pub(super) enum Call {
    ListAccessTokens,
    CreateAccessToken,
    DeleteAccessToken {
        id: String,
    },
    GetAccount,
    ListWebsites,
    ListWebsiteKeys {
        website: String,
    },
    CreateWebsiteKey {
        website: String,
    },
    RollWebsiteKey {
        website: String,
        id: String,
    },
    DeleteWebsiteKey {
        website: String,
        id: String,
    },
    /// No such path.
    Unknown,
    /// The path takes other methods.
    OtherMethod,
}

impl Call {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let Some(path) = path.strip_prefix(BASE_PATH) else { return Self::Unknown };
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match (method.as_str(), segments.as_slice()) {
            ("GET", ["access-tokens"]) => Self::ListAccessTokens,
            ("POST", ["access-tokens"]) => Self::CreateAccessToken,
            ("DELETE", ["access-tokens", id]) => Self::DeleteAccessToken { id: (*id).to_owned() },
            ("GET", ["account"]) => Self::GetAccount,
            ("GET", ["websites"]) => Self::ListWebsites,
            ("GET", ["websites", website, "apikeys"]) => Self::ListWebsiteKeys { website: (*website).to_owned() },
            ("POST", ["websites", website, "apikeys"]) => Self::CreateWebsiteKey { website: (*website).to_owned() },
            ("PUT", ["websites", website, "apikeys", id]) => {
                Self::RollWebsiteKey { website: (*website).to_owned(), id: (*id).to_owned() }
            }
            ("DELETE", ["websites", website, "apikeys", id]) => {
                Self::DeleteWebsiteKey { website: (*website).to_owned(), id: (*id).to_owned() }
            }
            (
                _,
                ["access-tokens"]
                | ["access-tokens", _]
                | ["account"]
                | ["websites"]
                | ["websites", _, "apikeys"]
                | ["websites", _, "apikeys", _],
            ) => Self::OtherMethod,
            _ => Self::Unknown,
        }
    }

    pub(super) fn operation(&self) -> Option<Operation> {
        match self {
            Self::ListAccessTokens => Some(Operation::ListAccessTokens),
            Self::CreateAccessToken => Some(Operation::CreateAccessToken),
            Self::DeleteAccessToken { .. } => Some(Operation::DeleteAccessToken),
            Self::GetAccount => Some(Operation::GetAccount),
            Self::ListWebsites => Some(Operation::ListWebsites),
            Self::ListWebsiteKeys { .. } => Some(Operation::ListWebsiteKeys),
            Self::CreateWebsiteKey { .. } => Some(Operation::CreateWebsiteKey),
            Self::RollWebsiteKey { .. } => Some(Operation::RollWebsiteKey),
            Self::DeleteWebsiteKey { .. } => Some(Operation::DeleteWebsiteKey),
            Self::Unknown | Self::OtherMethod => None,
        }
    }

    /// The website whose keys it is about.
    pub(super) fn website(&self) -> Option<&str> {
        match self {
            Self::ListWebsiteKeys { website }
            | Self::CreateWebsiteKey { website }
            | Self::RollWebsiteKey { website, .. }
            | Self::DeleteWebsiteKey { website, .. } => Some(website),
            _ => None,
        }
    }

    /// The token or website key that it is about.
    pub(super) fn token_id(&self) -> Option<&str> {
        match self {
            Self::DeleteAccessToken { id } | Self::RollWebsiteKey { id, .. } | Self::DeleteWebsiteKey { id, .. } => {
                Some(id)
            }
            _ => None,
        }
    }

    /// The name that it asks for.
    pub(super) fn asked_name(&self, body: &[u8]) -> Option<String> {
        match self {
            Self::CreateAccessToken => access_tokens::asked_name(body),
            Self::CreateWebsiteKey { .. } => website_keys::asked_name(body),
            _ => None,
        }
    }

    /// The permission that an access token needs for it.
    pub(super) fn permission(&self) -> &'static str {
        match self {
            Self::ListAccessTokens | Self::ListWebsiteKeys { .. } => "api-keys:read",
            Self::CreateAccessToken
            | Self::DeleteAccessToken { .. }
            | Self::CreateWebsiteKey { .. }
            | Self::RollWebsiteKey { .. }
            | Self::DeleteWebsiteKey { .. } => "api-keys:write",
            Self::GetAccount => "analytics:read",
            Self::ListWebsites | Self::Unknown | Self::OtherMethod => "websites:read",
        }
    }
}
