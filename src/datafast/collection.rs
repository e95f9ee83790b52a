//! Where tokens and keys live at DataFast.

/// What one list shows, and what shares slots. A collection's members are tokens here, whatever DataFast calls them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// The account's access tokens.
    #[default]
    AccessTokens,
    /// The keys of a website, by its id: 24 lower-case hex digits.
    WebsiteKeys(String),
}

/// What is asked of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What is there.
    List,
    /// A new token.
    Create,
    /// Another key for a token.
    Roll,
    /// That a token goes.
    Delete,
    /// Whether a key is a live token's.
    Probe,
}

/// What calls wait for their turns with, by [`Collection::operation`].
pub const OPERATIONS: [&str; 8] = [
    "create_access_token",
    "roll_access_token",
    "delete_access_token",
    "get_account",
    "create_website_key",
    "roll_website_key",
    "delete_website_key",
    "probe_website_key",
];

impl Collection {
    /// How many keys DataFast lets a website have, as documented.
    pub const KEYS_PER_WEBSITE: i64 = 10;

    /// Under the base URL.
    pub(super) fn path(&self) -> String {
        match self {
            Self::AccessTokens => "/access-tokens".to_owned(),
            Self::WebsiteKeys(website) => format!("/websites/{website}/apikeys"),
        }
    }

    /// What every live key of the collection is recognized at, be it with a refusal.
    pub(super) fn probe_path(&self) -> String {
        match self {
            Self::AccessTokens => "/account".to_owned(),
            Self::WebsiteKeys(_) => self.path(),
        }
    }

    /// The operation's name in metrics.
    pub(super) fn operation(&self, verb: Verb) -> &'static str {
        match (self, verb) {
            (Self::AccessTokens, Verb::List) => "list_access_tokens",
            (Self::AccessTokens, Verb::Create) => "create_access_token",
            (Self::AccessTokens, Verb::Roll) => "roll_access_token",
            (Self::AccessTokens, Verb::Delete) => "delete_access_token",
            (Self::AccessTokens, Verb::Probe) => "get_account",
            (Self::WebsiteKeys(_), Verb::List) => "list_website_keys",
            (Self::WebsiteKeys(_), Verb::Create) => "create_website_key",
            (Self::WebsiteKeys(_), Verb::Roll) => "roll_website_key",
            (Self::WebsiteKeys(_), Verb::Delete) => "delete_website_key",
            (Self::WebsiteKeys(_), Verb::Probe) => "probe_website_key",
        }
    }
}
