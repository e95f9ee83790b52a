//! Both kinds of resource, so that one scenario runs for each: what a test writes and reads is an access token, and in a
//! world of website keys it becomes one of those on the way. What a token may do is then in the key's name: so a change
//! of permissions is a change of name, which takes a new key as well.

use datafast_operator::api::{DataFastAccessToken, DataFastWebsiteKey};
use datafast_sandbox::{Fault, FaultId, ForeignKey, ForeignToken, LoggedRequest, Operation, TokenView};
use kube::{
    Resource,
    core::{ApiResource, DynamicObject},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::World;

/// The website of a world's keys.
pub(crate) const WEBSITE: &str = "65f1c0ffee0123456789abcd";

/// What a test's resources are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Subject {
    #[default]
    AccessToken,
    WebsiteKey,
}

impl Subject {
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::AccessToken => ApiResource::erase::<DataFastAccessToken>(&()),
            Self::WebsiteKey => ApiResource::erase::<DataFastWebsiteKey>(&()),
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::AccessToken => DataFastAccessToken::kind(&()).into_owned(),
            Self::WebsiteKey => DataFastWebsiteKey::kind(&()).into_owned(),
        }
    }

    /// A spec, or a part of one.
    pub(crate) fn spec(self, mut spec: Value) -> Value {
        if self == Self::WebsiteKey {
            let fields = spec.as_object_mut().unwrap();
            let name = fields.remove("tokenName");
            let permissions = fields.remove("permissions").map(|permissions| json!(in_name(&permissions)));
            fields.extend(name.or(permissions).map(|name| ("keyName".to_owned(), name)));
        }
        spec
    }

    /// A whole spec.
    pub(super) fn whole_spec(self, spec: Value) -> Value {
        let mut spec = self.spec(spec);
        if self == Self::WebsiteKey {
            spec["websiteId"] = json!(WEBSITE);
        }
        spec
    }

    pub(crate) fn read(self, object: DynamicObject) -> DataFastAccessToken {
        let mut object = serde_json::to_value(object).unwrap();
        if self == Self::WebsiteKey {
            object["kind"] = json!(DataFastAccessToken::kind(&()));
            let spec = object["spec"].as_object_mut().unwrap();
            spec.remove("websiteId");
            let name = spec.remove("keyName");
            spec.extend(name.map(|name| ("tokenName".to_owned(), name)));
            spec.insert("permissions".to_owned(), json!([]));
            let status = object.get_mut("status").and_then(Value::as_object_mut);
            if let Some(status) = status {
                rename_id(status);
                for list in ["retiring", "history"] {
                    let entries = status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
                    entries.filter_map(Value::as_object_mut).for_each(rename_id);
                }
            }
        }
        serde_json::from_value(object).unwrap()
    }

    /// What was read, as it is written.
    pub(crate) fn write(self, resource: &DataFastAccessToken) -> DynamicObject {
        let mut object = serde_json::to_value(resource).unwrap();
        object["kind"] = json!(self.name());
        object["spec"] = self.whole_spec(object["spec"].take());
        serde_json::from_value(object).unwrap()
    }

    /// What is asked of access tokens, asked of these.
    pub(super) fn operation(self, operation: Operation) -> Operation {
        let pair = PAIRS.iter().find(|(token, _)| self == Self::WebsiteKey && *token == operation);
        pair.map_or(operation, |(_, key)| *key)
    }

    fn read_request(self, request: LoggedRequest) -> LoggedRequest {
        let pair = PAIRS.iter().find(|(_, key)| self == Self::WebsiteKey && Some(*key) == request.operation);
        LoggedRequest { operation: pair.map(|(token, _)| *token).or(request.operation), ..request }
    }
}

const PAIRS: [(Operation, Operation); 3] = [
    (Operation::ListAccessTokens, Operation::ListWebsiteKeys),
    (Operation::CreateAccessToken, Operation::CreateWebsiteKey),
    (Operation::DeleteAccessToken, Operation::DeleteWebsiteKey),
];

fn rename_id(fields: &mut serde_json::Map<String, Value>) {
    let id = fields.remove("keyId");
    fields.extend(id.map(|id| ("tokenId".to_owned(), id)));
}

fn in_name(permissions: &Value) -> String {
    let permissions = permissions.as_array().unwrap().iter().filter_map(Value::as_str);
    permissions.collect::<Vec<_>>().join("+")
}

impl World {
    /// Sets a fault for the account.
    pub(crate) fn set_fault(&self, fault: Fault) -> FaultId {
        self.account.set_fault(Fault { operation: self.kind.operation(fault.operation), ..fault })
    }

    /// The requests with the account's keys, oldest first.
    pub(crate) fn requests(&self) -> Vec<LoggedRequest> {
        // Those that the other kind is about are not these.
        let is_asked = |request: &LoggedRequest| {
            self.kind == Subject::AccessToken || PAIRS.iter().all(|(token, _)| request.operation != Some(*token))
        };
        self.account.requests().into_iter().filter(is_asked).map(|request| self.kind.read_request(request)).collect()
    }

    /// How many requests of one operation came in.
    pub(crate) fn count(&self, operation: Operation) -> u64 {
        self.account.count(self.kind.operation(operation))
    }

    /// Every token or key that was ever at DataFast, oldest first.
    pub(crate) fn all_tokens(&self) -> Vec<TokenView> {
        match self.kind {
            Subject::AccessToken => self.account.tokens(),
            Subject::WebsiteKey => self.account.website_keys().into_iter().map(with_permissions).collect(),
        }
    }

    /// Those that work.
    pub(crate) fn live_tokens(&self) -> Vec<TokenView> {
        self.all_tokens().into_iter().filter(|token| token.live).collect()
    }

    /// Those that work and were created through the API.
    pub(crate) fn issued_tokens(&self) -> Vec<TokenView> {
        self.live_tokens().into_iter().filter(|token| token.created_by.is_some()).collect()
    }

    /// One of somebody else.
    pub(crate) fn add_token(&self, token: ForeignToken) -> String {
        match self.kind {
            Subject::AccessToken => self.account.add_token(token),
            Subject::WebsiteKey => {
                let permissions = token.permissions.map(|permissions| permissions.join("+"));
                let key = ForeignKey {
                    name: permissions.or(token.name),
                    created_by: token.created_by,
                    created_at: token.created_at,
                    last_used_at: token.last_used_at,
                    ..ForeignKey::default()
                };
                self.account.add_website_key_of(WEBSITE, key)
            }
        }
    }
}

fn with_permissions(key: TokenView) -> TokenView {
    let name = key.name.as_deref().and_then(|name| name.split(" [k8s:").next()).unwrap_or_default();
    TokenView { permissions: name.split('+').map(str::to_owned).collect(), ..key }
}
