//! Access tokens as DataFast tells of them.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use super::RawKey;

/// The id of an access token: 1 to 64 letters, digits, `_` or `-`, so that it can stand in a URL's path as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

/// A text that is no [`TokenId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token id is 1 to 64 letters, digits, `_` or `-`")]
pub struct InvalidTokenId;

impl TokenId {
    const LONGEST: usize = 64;

    /// Reads an id.
    ///
    /// # Errors
    /// Where `text` is none.
    pub fn parse(text: &str) -> Result<Self, InvalidTokenId> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > Self::LONGEST || !text.bytes().all(fits) {
            return Err(InvalidTokenId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as DataFast spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An access token as a list shows it: never with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its name; tokens made elsewhere may have none.
    pub name: Option<String>,
    /// The masked key, such as `dft_ab1...xyz9`; empty where DataFast told none, or one that masks nothing.
    pub display_key: String,
    /// What it may do; `*` alone is everything.
    pub permissions: BTreeSet<String>,
    /// The websites it may touch; none: all.
    pub website_ids: BTreeSet<String>,
    /// When it was last used: a lower bound. None: never, as far as DataFast knows.
    pub last_used_at: Option<Timestamp>,
    /// Whether a list tells of its use at all: that it tells nothing is not to say that there was none.
    pub tells_use: bool,
    /// When it was created, by DataFast's clock.
    pub created_at: Option<Timestamp>,
}

impl Token {
    /// How it is called in messages: its masked key, or, where DataFast told none, its id.
    pub fn shown(&self) -> &str {
        if self.display_key.is_empty() { self.id.as_str() } else { &self.display_key }
    }
}

/// A token to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it may do. DataFast reads none as everything, so this must not be empty.
    pub permissions: BTreeSet<String>,
    /// The websites it may touch; none: all.
    pub website_ids: BTreeSet<String>,
}

/// A token that was created.
#[derive(Debug)]
pub struct Issued {
    /// What DataFast told of it; where the answer left out name or scope, what was asked for.
    pub token: Token,
    /// Its key. None: the answer held no usable one. The token exists all the same, and can be revoked by its id.
    pub key: Option<RawKey>,
}
