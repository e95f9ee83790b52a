//! The website keys of an account, as tests hold them.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Account, TokenView, view};
use crate::state::{Token, random_id};

/// A website key that nobody made through the API: a person's, say, or an integration's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForeignKey {
    /// Its name.
    pub name: Option<String>,
    /// The token that counts as its creator; none: nobody.
    pub created_by: Option<String>,
    /// None: now.
    pub created_at: Option<Timestamp>,
    /// None: never used.
    pub last_used_at: Option<Timestamp>,
    /// Whether lists leave it out, as they do the keys of the mobile app and of WooCommerce. It counts all the same.
    pub hidden: bool,
}

impl Account {
    /// Every key that the account's websites ever had, oldest first, hidden ones included.
    pub fn website_keys(&self) -> Vec<TokenView> {
        self.read(|account| {
            account.tokens.iter().filter(|token| token.website.is_some()).map(|key| view(account, key)).collect()
        })
    }

    /// The website keys that work, oldest first, hidden ones included.
    pub fn live_website_keys(&self) -> Vec<TokenView> {
        self.website_keys().into_iter().filter(|key| key.live).collect()
    }

    /// The live website keys that were created through the API.
    pub fn issued_website_keys(&self) -> Vec<TokenView> {
        self.live_website_keys().into_iter().filter(|key| key.created_by.is_some()).collect()
    }

    /// Adds a website key behind the API's back, over the limit where need be. Returns its id.
    pub fn add_website_key_of(&self, website: &str, key: ForeignKey) -> String {
        let mut made = Token::of_website(website, key.name, key.created_by);
        made.created_at = key.created_at.unwrap_or(made.created_at);
        made.last_used_at = key.last_used_at;
        made.hidden = key.hidden;
        self.add(made)
    }

    /// Makes a raw `df_` key, of the account's first website if it tells of one.
    pub fn add_website_key(&self) -> String {
        let first = self.read(|account| account.websites.first().map(|website| website.id.clone()));
        let id = self.add_website_key_of(&first.unwrap_or_else(random_id), ForeignKey::default());
        self.website_keys().into_iter().find(|key| key.id == id).map(|key| key.key).unwrap_or_default()
    }

    /// Rolls a website key behind everybody's back. Returns the new raw key; none: there is no such live website key.
    pub fn roll_behind_back(&self, id: &str) -> Option<String> {
        self.change(|account| {
            let key = account.live_mut(id).filter(|token| token.website.is_some())?;
            key.roll();
            Some(key.key.clone())
        })
    }
}
