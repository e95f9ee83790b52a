//! What an account allows: judged before any call, so that a tenant's mistake stops at the account's border.

use std::collections::BTreeSet;

use super::record::Scope;

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
    /// How many resources of a namespace may have a token.
    pub most_per_namespace: Option<usize>,
}

/// Where a resource stands among those that ask the same account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the account is for other namespaces than the resource's.
    pub is_outside: bool,
    /// How many resources of the namespace were there before it.
    pub earlier: usize,
}

impl Allow {
    /// Which rule forbids it, for people; none: it is allowed.
    pub fn forbids(&self, scope: &Scope, standing: Standing) -> Option<String> {
        if standing.is_outside {
            return Some("it is not for this namespace (allow.namespaceSelector)".into());
        }
        let beyond: Vec<&str> = scope.permissions.iter().map(String::as_str).filter(|p| !self.permits(p)).collect();
        if !beyond.is_empty() {
            let what = if self.permissions.is_some() { "allow.permissions" } else { "allow.permissions, by default" };
            return Some(format!("it does not allow {} ({what})", beyond.join(", ")));
        }
        self.forbids_websites(scope).or_else(|| {
            let most = self.most_per_namespace.filter(|most| standing.earlier >= *most)?;
            Some(format!("a namespace may have {most} tokens, and others were first (allow.maxTokensPerNamespace)"))
        })
    }

    fn permits(&self, permission: &str) -> bool {
        match &self.permissions {
            Some(allowed) => allowed.contains(EVERYTHING) || allowed.contains(permission),
            None => !NEVER_BY_DEFAULT.contains(&permission),
        }
    }

    fn forbids_websites(&self, scope: &Scope) -> Option<String> {
        let allowed = self.website_ids.as_ref()?;
        if scope.website_ids.is_empty() {
            return Some("a token must name its websites, and without any it is for all (allow.websiteIds)".into());
        }
        let beyond: Vec<&str> = scope.website_ids.difference(allowed).map(String::as_str).collect();
        (!beyond.is_empty()).then(|| format!("it does not allow website {} (allow.websiteIds)", beyond.join(", ")))
    }
}
