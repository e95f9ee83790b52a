//! What an account allows: judged before any call, so that a tenant's mistake stops at the account's border.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::record::Scope;
use crate::api::DeletionPolicy;

/// Permissions that no token gets where an account does not say what it allows: with them a token could make others, or
/// let people in.
const NEVER_BY_DEFAULT: [&str; 4] = ["*", "api-keys:read", "api-keys:write", "team:write"];
const EVERYTHING: &str = "*";

/// The limits that an account sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// The most a token may have; none: everything but [`NEVER_BY_DEFAULT`].
    pub permissions: Option<BTreeSet<String>>,
    /// The websites that a token must choose from; none: it may be for all.
    pub website_ids: Option<BTreeSet<String>>,
    /// Whether there may be website keys: each of them is as good as all keys of its website.
    pub website_keys: bool,
    /// How many resources of a namespace may have an access token.
    pub max_tokens_per_namespace: Option<usize>,
    /// How many resources of a namespace may have a website key.
    pub max_keys_per_namespace: Option<usize>,
    /// What may become of token and Secret when the resource goes; none: either.
    pub deletion_policies: Option<BTreeSet<DeletionPolicy>>,
}

/// What a resource asks of its account.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What its token may do.
    pub scope: &'a Scope,
    /// A website key, and no access token.
    pub is_website_key: bool,
    /// Token and Secret are to stay when it goes.
    pub retain: bool,
}

/// A rule of the account that forbids what a resource asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// Which one and why, for people.
    pub why: String,
    /// What the resource's owner can do about it, as the beginning of a sentence.
    pub remedy: &'static str,
}

impl Forbidden {
    fn new(remedy: &'static str, why: impl Into<String>) -> Self {
        Self { why: why.into(), remedy }
    }

    /// What the resource's owner reads. The chart's `allowpolicy.yaml` says the same when the resource is applied.
    pub fn message(&self, account: &str) -> String {
        let Self { why, remedy } = self;
        format!("DataFastAccount {account:?} forbids it: {why}. {remedy}, or have the account's owner allow it")
    }
}

/// Where a resource stands among those that ask the same account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why the account is not for the resource's namespace; none: it is.
    pub outside: Option<Outside>,
    /// How many resources of its namespace and kind come before it: [`Rank`].
    pub ahead: usize,
}

/// Why an account is not for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Its labels are others.
    NotSelected,
    /// Its labels can't be read, with what the API server said: what can't be told is not allowed.
    Unreadable(String),
}

/// What a resource has of its namespace's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A token, by its status; or this process has begun to get it one.
    Taken,
    /// An attempt or a token, by annotations. These are the tenant's to write, so they put nobody before one whose place
    /// is [`Place::Taken`].
    Recorded,
    /// Nothing.
    Nothing,
}

/// The order in which the resources of a namespace have its share: less comes first. Who has a token or an attempt comes
/// before who has none, or else a resource that is seen late would make one token too many. Of resources that were created
/// in one second, always the same one comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// What it has.
    pub place: Place,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its uid.
    pub uid: String,
}

impl Outside {
    fn forbids(&self) -> Forbidden {
        match self {
            Self::NotSelected => {
                let why = "it is not for this namespace (allow.namespaceSelector)";
                Forbidden::new("Create it with another spec.accountRef.name", why)
            }
            Self::Unreadable(words) => {
                let why = format!(
                    "it is for some namespaces only (allow.namespaceSelector), and whether this is one can't be told: {words}"
                );
                Forbidden::new("Give the operator the right to get namespaces", why)
            }
        }
    }
}

impl Allow {
    /// Which rule forbids it, for people; none: it is allowed.
    pub fn forbids(&self, asked: Asked<'_>, standing: &Standing) -> Option<Forbidden> {
        if let Some(outside) = &standing.outside {
            return Some(outside.forbids());
        }
        if asked.is_website_key && !self.website_keys {
            let why = "it hands out no website keys, for each of them can list, roll and delete all keys of its website (allow.websiteKeys is not true)";
            return Some(Forbidden::new("Create a DataFastAccessToken instead", why));
        }
        self.forbids_permissions(asked.scope)
            .or_else(|| self.forbids_websites(asked))
            .or_else(|| self.forbids_deletion_policy(asked.retain))
            .or_else(|| {
                let most = self.most(asked.is_website_key).filter(|most| standing.ahead >= *most)?;
                let (what, rule) = share(asked.is_website_key);
                let s = if most == 1 { "" } else { "s" };
                let why = format!("a namespace may have {most} {what}{s}, and others come first ({rule})");
                Some(Forbidden::new("Delete one of them", why))
            })
    }

    /// How many resources of a namespace may have what this one asks for; none: any number.
    pub fn most(&self, is_website_key: bool) -> Option<usize> {
        if is_website_key { self.max_keys_per_namespace } else { self.max_tokens_per_namespace }
    }

    /// Whether token and Secret may stay when the resource goes.
    pub fn lets_retain(&self) -> bool {
        self.deletion_policies.as_ref().is_none_or(|allowed| allowed.contains(&DeletionPolicy::Retain))
    }

    fn forbids_permissions(&self, scope: &Scope) -> Option<Forbidden> {
        let beyond: Vec<&str> = scope.permissions.iter().map(String::as_str).filter(|p| !self.permits(p)).collect();
        let rule = if self.permissions.is_some() { "allow.permissions" } else { "allow.permissions, by default" };
        let why = || format!("it does not allow {} ({rule})", beyond.join(", "));
        (!beyond.is_empty()).then(|| Forbidden::new("Ask for less", why()))
    }

    fn permits(&self, permission: &str) -> bool {
        match &self.permissions {
            Some(allowed) => allowed.contains(EVERYTHING) || allowed.contains(permission),
            None => !NEVER_BY_DEFAULT.contains(&permission),
        }
    }

    fn forbids_websites(&self, asked: Asked<'_>) -> Option<Forbidden> {
        let allowed = self.website_ids.as_ref()?;
        let websites = &asked.scope.website_ids;
        if websites.is_empty() {
            let why = "a token must name its websites, and without any it is for all (allow.websiteIds)";
            return Some(Forbidden::new("Name them in spec.websiteIds", why));
        }
        let remedy = if asked.is_website_key { "Create it with another spec.websiteId" } else { "Ask for less" };
        let beyond: Vec<&str> = websites.difference(allowed).map(String::as_str).collect();
        let why = || format!("it does not allow website {} (allow.websiteIds)", beyond.join(", "));
        (!beyond.is_empty()).then(|| Forbidden::new(remedy, why()))
    }

    fn forbids_deletion_policy(&self, retain: bool) -> Option<Forbidden> {
        let allowed = self.deletion_policies.as_ref()?;
        let (policy, remedy, all_the_same) = match retain {
            true => (DeletionPolicy::Retain, "Set it to Revoke", ", and at deletion the token is revoked all the same"),
            false => (DeletionPolicy::Revoke, "Set it to Retain", ""),
        };
        let why = || format!("it does not allow deletionPolicy {policy:?} (allow.deletionPolicies){all_the_same}");
        (!allowed.contains(&policy)).then(|| Forbidden::new(remedy, why()))
    }
}

/// What the limit of a namespace is about, and its rule.
pub(super) fn share(is_website_key: bool) -> (&'static str, &'static str) {
    if is_website_key { ("website key", "allow.maxKeysPerNamespace") } else { ("token", "allow.maxTokensPerNamespace") }
}
