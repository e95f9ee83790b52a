//! What a token may do, as documented.

/// Every permission there is. `*` alone stands for all of them.
pub const PERMISSIONS: [&str; 18] = [
    "analytics:read",
    "goals:read",
    "goals:write",
    "payments:read",
    "payments:write",
    "identify:write",
    "websites:read",
    "websites:write",
    "settings:read",
    "settings:write",
    "funnels:read",
    "funnels:write",
    "alerts:read",
    "alerts:write",
    "team:read",
    "team:write",
    "api-keys:read",
    "api-keys:write",
];

const ALL: &str = "*";

/// What a token may do, and on which websites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Strings of [`PERMISSIONS`], or `*` alone.
    pub(crate) permissions: Vec<String>,
    /// Empty: all websites.
    pub(crate) website_ids: Vec<String>,
}

impl Scope {
    /// Says what is wrong with the permissions, or nothing.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.permissions.is_empty() {
            return Some("Invalid permissions: at least one is required".to_owned());
        }
        if self.permissions.len() > 1 && self.permissions.iter().any(|permission| permission == ALL) {
            return Some("Invalid permissions: \"*\" cannot be combined with others".to_owned());
        }
        self.permissions
            .iter()
            .find(|permission| *permission != ALL && !PERMISSIONS.contains(&permission.as_str()))
            .map(|permission| format!("Invalid permissions: {permission}"))
    }

    pub(crate) fn allows(&self, permission: &str) -> bool {
        self.permissions.iter().any(|held| held == ALL || held == permission)
    }

    pub(crate) fn has_website(&self, id: &str) -> bool {
        self.website_ids.is_empty() || self.website_ids.iter().any(|held| held == id)
    }

    /// Whether `other` stays within this scope, in permissions and in websites.
    pub(crate) fn covers(&self, other: &Scope) -> bool {
        let permissions = other.permissions.iter().all(|asked| self.allows(asked));
        let websites = self.website_ids.is_empty()
            || (!other.website_ids.is_empty() && other.website_ids.iter().all(|id| self.website_ids.contains(id)));
        permissions && websites
    }
}
