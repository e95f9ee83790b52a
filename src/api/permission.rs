//! The permissions that DataFast knows.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! permissions {
    ($($variant:ident = $text:literal, $doc:literal;)+) => {
        /// What a token may do at DataFast: one of its 18 permissions, or everything.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $doc] #[serde(rename = $text)] $variant,)+
        }

        impl Permission {
            /// Every permission, [`Permission::Everything`] last.
            pub const ALL: &[Permission] = &[$(Permission::$variant,)+];

            /// As DataFast writes it, such as `analytics:read`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Permission::$variant => $text,)+ }
            }
        }
    };
}

permissions! {
    AnalyticsRead = "analytics:read", "Read visitors, page views, revenue and the account's own record.";
    GoalsRead = "goals:read", "Read goals.";
    GoalsWrite = "goals:write", "Write goals.";
    PaymentsRead = "payments:read", "Read payments.";
    PaymentsWrite = "payments:write", "Write payments.";
    IdentifyWrite = "identify:write", "Say who a visitor is.";
    WebsitesRead = "websites:read", "List websites.";
    WebsitesWrite = "websites:write", "Write websites.";
    SettingsRead = "settings:read", "Read settings.";
    SettingsWrite = "settings:write", "Write settings.";
    FunnelsRead = "funnels:read", "Read funnels.";
    FunnelsWrite = "funnels:write", "Write funnels.";
    AlertsRead = "alerts:read", "Read alerts.";
    AlertsWrite = "alerts:write", "Write alerts.";
    TeamRead = "team:read", "Read who is on the team.";
    TeamWrite = "team:write", "Change who is on the team.";
    ApiKeysRead = "api-keys:read", "List access tokens and website keys.";
    ApiKeysWrite = "api-keys:write", "Issue and revoke access tokens and website keys.";
    Everything = "*", "All of the above, and what DataFast adds later.";
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the permissions that DataFast documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DataFast has no permission {0:?}")]
pub struct UnknownPermission(pub String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|permission| permission.as_str() == text);
        known.copied().ok_or_else(|| UnknownPermission(text.to_owned()))
    }
}

/// Written by hand: a derived schema would split the enum into one branch per documented variant, which Kubernetes
/// refuses.
impl JsonSchema for Permission {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Permission".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::ALL.iter().map(|p| p.as_str()).collect::<Vec<_>>() })
    }
}
