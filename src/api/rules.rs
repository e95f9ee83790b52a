//! CEL rules that several fields share. Each message names the field, the rule and what to write instead, because it is
//! all that a person sees when `kubectl apply` says no.

use kube::core::{Message, Rule};

use super::{
    names::{MANAGED_BY, MARKER_START, PREFIX},
    shared::{AccountRef, SecretTemplate},
};

/// Go durations, as long as they can be had without overflow in Go (292 years) or here. Units in descending order, each
/// once.
const DURATION: &str = "^(0|([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,7}([.][0-9]{1,3})?m)?\
                        ([0-9]{1,9}([.][0-9]{1,3})?s)?([0-9]{1,12}ms)?)$";

/// What an entry of a Secret may be called, as the API server checks it when the Secret is written.
const DATA_KEY: &str = "^([-_a-zA-Z0-9]|[.][-_a-zA-Z0-9])[-._a-zA-Z0-9]*$";

/// `expression` is a duration. CEL's `&&` and `||` swallow the error of `duration()` beside a deciding operand.
fn is_duration(expression: &str) -> String {
    format!("{expression} != '' && {expression}.matches('{DURATION}')")
}

/// A duration of at least `minimum`; `example` shows how one is written.
pub(super) fn duration(field: &str, minimum: &str, example: &str) -> Rule {
    let is_duration = is_duration("self");
    Rule::new(format!("{is_duration} && duration(self) >= duration('{minimum}')")).message(Message::Message(format!(
        "{field} must be a duration of at least {minimum}, such as {example}; \
         units are h, m, s and ms (there are no days: 30 days are 720h)"
    )))
}

/// A duration from `minimum` to `maximum`.
pub(super) fn duration_between(field: &str, minimum: &str, maximum: &str, example: &str) -> Rule {
    let is_duration = is_duration("self");
    Rule::new(format!(
        "{is_duration} && duration(self) >= duration('{minimum}') && duration(self) <= duration('{maximum}')"
    ))
    .message(Message::Message(format!(
        "{field} must be a duration of {minimum} to {maximum}, such as {example}; units are h, m, s and ms"
    )))
}

/// In a struct, the duration `shorter` may not exceed `longer`, where `guard` holds. Each is a field's name and the CEL
/// expression for its value. What [`duration`] refuses passes here, so that a person reads one message per mistake.
pub(super) fn not_longer(guard: &str, shorter: (&str, &str), longer: (&str, &str), remedy: &str) -> Rule {
    let (short_is_duration, long_is_duration) = (is_duration(shorter.1), is_duration(longer.1));
    Rule::new(format!(
        "!({guard}) || !({short_is_duration}) || !({long_is_duration}) || duration({}) <= duration({})",
        shorter.1, longer.1
    ))
    .message(Message::Expression(format!(
        "'{} (' + {} + ') must not be longer than {} (' + {} + '): {remedy}'",
        shorter.0, shorter.1, longer.0, longer.1
    )))
}

/// The name of a Secret, or of anything else named by a DNS subdomain.
pub(super) fn object_name(field: &str) -> Rule {
    Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message(Message::Message(format!(
        "{field} must be a name as Kubernetes takes it: lower-case letters, digits, '-' and '.', \
         beginning and ending with a letter or digit"
    )))
}

/// The name of one entry of a Secret.
pub(super) fn data_key(field: &str) -> Rule {
    Rule::new(format!("self.matches('{DATA_KEY}')")).message(Message::Message(format!(
        "{field} must be a name that a Secret takes for an entry: letters, digits, '-', '_' and '.', \
         not '.' alone and not beginning with '..'"
    )))
}

/// The names of all entries in a map.
pub(super) fn data_keys(field: &str) -> Rule {
    each_key(
        &format!("k.size() <= 253 && k.matches('{DATA_KEY}')"),
        field,
        "is no name that a Secret takes for an entry: letters, digits, '-', '_' and '.', at most 253, \
         not '.' alone and not beginning with '..'",
    )
}

/// Names that the operator itself writes on the Secret.
pub(super) fn not_reserved(field: &str) -> Rule {
    each_key(
        &format!("!k.startsWith('{PREFIX}') && k != '{MANAGED_BY}'"),
        field,
        &format!("is reserved: the operator writes {PREFIX}... and {MANAGED_BY} itself; choose another name"),
    )
}

/// Names of labels and annotations.
pub(super) fn qualified_names(field: &str) -> Rule {
    each_key(
        "!format.qualifiedName().validate(k).hasValue()",
        field,
        "is no name that Kubernetes takes: letters, digits, '-', '_' and '.', at most 63, \
         with an optional prefix such as example.com/",
    )
}

/// Values of labels.
pub(super) fn label_values(field: &str) -> Rule {
    each_key(
        "!format.labelValue().validate(self[k]).hasValue()",
        field,
        "has a value that Kubernetes does not take in a label: letters, digits, '-', '_' and '.', \
         at most 63; free text belongs in an annotation",
    )
}

/// Names the first key that breaks `condition` (over `k`).
fn each_key(condition: &str, field: &str, complaint: &str) -> Rule {
    let complaint = complaint.replace('\'', "\\'");
    Rule::new(format!("self.all(k, {condition})"))
        .message(Message::Expression(format!("'{field}: ' + self.filter(k, !({condition}))[0] + ' {complaint}'")))
}

/// The entry of the raw key belongs to the raw key.
pub(super) fn key_is_not_in_data() -> Rule {
    let key = format!("(has(self.key) ? self.key : '{}')", SecretTemplate::DEFAULT_KEY);
    Rule::new(format!("!has(self.data) || !({key} in self.data)")).field_path(".data").message(Message::Expression(
        format!(
            "'secret.data must not have the entry ' + {key} + ': that one holds the raw key; \
             rename it, or set secret.key to another name'"
        ),
    ))
}

/// A list that says nothing could mean "none" and "all": nobody should have to guess at a limit.
pub(super) fn not_empty(field: &str, otherwise: &str) -> Rule {
    Rule::new("self.size() > 0").message(Message::Message(format!("{field} must not be empty: {otherwise}")))
}

/// A list is replaced as a whole by whoever applies it, and yet names nothing twice. Each item is compared with each: the
/// API server estimates what that may cost by the bounds of list and items.
pub(super) fn no_doubles(field: &str) -> Rule {
    Rule::new("self.all(x, self.exists_one(y, y == x))").message(Message::Expression(format!(
        "'{field} must not name ' + self.filter(x, !self.exists_one(y, y == x))[0] + ' twice: leave one of them out'"
    )))
}

/// What a template asks for beside the key stays in the operator's memory, for every resource. Lengths are in bytes, as the
/// limit of a Secret is.
pub(super) fn template_is_small() -> Rule {
    let bytes = |map: &str| {
        format!("(has(self.{map}) ? self.{map}.map(k, bytes(k).size() + bytes(self.{map}[k]).size()).sum() : 0)")
    };
    let all = ["labels", "annotations", "data"].map(bytes).join(" + ");
    let most = SecretTemplate::MOST_BYTES;
    Rule::new(format!("{all} <= {most}")).message(Message::Message(format!(
        "secret.labels, secret.annotations and secret.data may have 64 KiB ({most} bytes) together, names included: \
         shorten them, or put what does not need the key into a ConfigMap"
    )))
}

/// A name for people at DataFast.
pub(super) fn token_name(field: &str) -> Rule {
    Rule::new(format!(
        "self != '' && self == self.trim() && !self.matches('\\\\p{{Cc}}') && !self.contains('{MARKER_START}')"
    ))
    .message(Message::Message(format!(
        "{field} must have 1 to 58 characters, no control characters, no space at either end, \
         and must not contain {MARKER_START} (the operator's own marker begins so)"
    )))
}

/// Where an API is. A user or a query in it would show a secret to everybody who may read the resource.
pub(super) fn base_url(field: &str) -> Rule {
    Rule::new("self.matches('^https?://[^/?#@]+(/[^?#]*)?$') && isURL(self) && url(self).getHostname() != ''").message(
        Message::Message(format!(
            "{field} must be an http:// or https:// URL with a host and without user, query and fragment, \
             such as https://datafa.st/api/v1/admin; credentials belong in the Secret"
        )),
    )
}

/// A label selector that can be evaluated: the schema alone would take `In` without values.
pub(super) fn selector(field: &str) -> Rule {
    Rule::new(
        "!has(self.matchExpressions) || self.matchExpressions.all(e, \
         (e.operator in ['In', 'NotIn']) == (has(e.values) && e.values.size() > 0))",
    )
    .message(Message::Message(format!(
        "{field}.matchExpressions: In and NotIn need values, Exists and DoesNotExist take none"
    )))
}

/// The account of a token is where DataFast keeps it; it cannot move.
pub(super) fn account_is_immutable() -> Rule {
    let name = |of: &str| {
        let spec = format!("{of}.spec");
        format!(
            "(has({spec}.accountRef) && has({spec}.accountRef.name) ? {spec}.accountRef.name : '{}')",
            AccountRef::DEFAULT
        )
    };
    immutable("accountRef.name", &name("self"), &name("oldSelf"), "a key cannot move to another account")
}

/// Whoever reads the Secret would be left with one that nobody renews.
pub(super) fn secret_name_is_immutable() -> Rule {
    let name = |of: &str| {
        format!("(has({of}.spec.secret) && has({of}.spec.secret.name) ? {of}.spec.secret.name : {of}.metadata.name)")
    };
    immutable(
        "secret.name",
        &name("self"),
        &name("oldSelf"),
        "the old Secret would be left to its readers and never renewed",
    )
}

/// A key belongs to its website.
pub(super) fn website_is_immutable() -> Rule {
    immutable("websiteId", "self.spec.websiteId", "oldSelf.spec.websiteId", "a key cannot move to another website")
}

fn immutable(field: &str, new: &str, old: &str, why: &str) -> Rule {
    Rule::new(format!("{new} == {old}")).field_path(format!(".spec.{field}")).message(Message::Expression(format!(
        "'{field} cannot be changed from ' + {old} + ' to ' + {new} + \
         ': {why}; create another resource, then delete this one'"
    )))
}
