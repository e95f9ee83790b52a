//! The id of a website at DataFast.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The id of a website: 24 lower-case hex digits, as the API server checks before anything gets here. Only lower case
/// is taken because ids are compared as text, with what DataFast lists and with what an account allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WebsiteId(pub String);

impl WebsiteId {
    /// The 24 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebsiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for WebsiteId {
    fn from(id: &str) -> Self {
        WebsiteId(id.to_owned())
    }
}

impl JsonSchema for WebsiteId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WebsiteId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            // Longer than an id, so that a pasted URL gets the rule's message and not "too long".
            "maxLength": 256,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[0-9a-f]{24}$')",
                "message": "a website id is 24 lower-case hex digits, such as 65f1c0ffee0123456789abcd; \
                            DataFast lists them at GET /websites as _id",
            }],
        })
    }
}
