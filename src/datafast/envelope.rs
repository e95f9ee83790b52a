//! The body of an answer, read once: each key in it goes straight into a [`RawKey`], and never into memory that nothing
//! wipes.

use serde::de::{IgnoredAny, MapAccess, SeqAccess};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::RawKey;
use super::lenient::{Lenient, Read};
use super::raw_key::is_mask;

/// What a body says, whatever its shape.
#[derive(Default)]
pub(super) struct Envelope {
    pub(super) status: Option<Status>,
    /// `data`: an array, or one object in its place. None: there is none, or something else.
    pub(super) data: Option<Vec<Object>>,
    error: Fault,
    message: Option<Zeroizing<String>>,
    /// Neither JSON nor empty, as what a proxy sends in place of an answer.
    pub(super) is_page: bool,
}

/// The `status` of DataFast's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    Error,
}

/// `error`: an object in DataFast's own words, a text in those of others, and of its own rate limit.
#[derive(Default)]
struct Fault {
    is_object: bool,
    code: Option<u16>,
    message: Option<Zeroizing<String>>,
}

/// An object of `data`.
#[derive(Default)]
pub(super) struct Object {
    pub(super) key: Option<RawKey>,
    /// The masked key, where it is one.
    pub(super) display_key: Option<String>,
    pub(super) rest: Map<String, Value>,
}

/// What is kept of an object beside its key: what is unknown may be another spelling of that.
const FIELDS: [&str; 7] = ["_id", "id", "name", "permissions", "websiteIds", "lastUsedAt", "createdAt"];

impl Envelope {
    /// Reads a body of any shape.
    pub(super) fn read(body: &[u8]) -> Self {
        // The text of a JSON error may quote the answer, and with it a key.
        match serde_json::from_slice::<Read<Self>>(body) {
            Ok(Read(envelope)) => envelope,
            Err(_) => Self { is_page: !body.trim_ascii().is_empty(), ..Self::default() },
        }
    }

    /// `error.code`, where it is an HTTP error status.
    pub(super) fn code(&self) -> Option<u16> {
        self.error.code.filter(|code| (400..600).contains(code))
    }

    /// The message of an error, as it came; empty where there is none.
    pub(super) fn message(&self) -> &str {
        let flat = self.error.message.as_ref().filter(|_| !self.error.is_object);
        let own = self.error.message.as_ref().filter(|_| self.error.is_object);
        own.or(self.message.as_ref()).or(flat).map_or("", |message| message)
    }

    /// Whether this is a success in DataFast's own shape.
    pub(super) fn is_success(&self) -> bool {
        self.status == Some(Status::Success) && self.data.is_some()
    }

    /// Whether this is a refusal with this HTTP status in DataFast's own shape.
    pub(super) fn is_refusal(&self, status: u16) -> bool {
        let Fault { is_object, code, message } = &self.error;
        self.status == Some(Status::Error) && *is_object && message.is_some() && code.is_none_or(|code| code == status)
    }
}

impl<'de> Lenient<'de> for Envelope {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut envelope = Self::default();
        while let Some(name) = object.next_key::<String>()? {
            match name.as_str() {
                "status" => envelope.status = object.next_value::<Read<_>>()?.0,
                "data" => envelope.data = object.next_value::<Read<_>>()?.0,
                "error" => envelope.error = object.next_value::<Read<_>>()?.0,
                "message" => envelope.message = object.next_value::<Read<_>>()?.0,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(envelope)
    }
}

impl Lenient<'_> for Option<Status> {
    fn text(text: &str) -> Self {
        match text {
            "success" => Some(Status::Success),
            "error" => Some(Status::Error),
            _ => None,
        }
    }
}

impl<'de> Lenient<'de> for Fault {
    fn text(text: &str) -> Self {
        Self { message: Lenient::text(text), ..Self::default() }
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut fault = Self { is_object: true, ..Self::default() };
        while let Some(name) = object.next_key::<String>()? {
            match name.as_str() {
                "code" => fault.code = object.next_value::<Read<_>>()?.0,
                "message" => fault.message = object.next_value::<Read<_>>()?.0,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fault)
    }
}

impl Lenient<'_> for Option<u16> {
    fn text(text: &str) -> Self {
        text.parse().ok()
    }

    fn number(number: u64) -> Self {
        number.try_into().ok()
    }
}

/// A message may quote a key.
impl Lenient<'_> for Option<Zeroizing<String>> {
    fn text(text: &str) -> Self {
        Some(Zeroizing::new(text.to_owned()))
    }
}

impl<'de> Lenient<'de> for Option<Vec<Object>> {
    fn array<A: SeqAccess<'de>>(mut array: A) -> Result<Self, A::Error> {
        let mut objects = Some(Vec::new());
        while let Some(Read(object)) = array.next_element::<Read<Option<Object>>>()? {
            objects = objects.zip(object).map(|(mut objects, object)| {
                objects.push(object);
                objects
            });
        }
        Ok(objects)
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        Ok(Option::<Object>::object(object)?.map(|object| vec![object]))
    }
}

impl<'de> Lenient<'de> for Option<Object> {
    fn object<A: MapAccess<'de>>(mut fields: A) -> Result<Self, A::Error> {
        let mut object = Object::default();
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "key" => object.key = fields.next_value::<Read<_>>()?.0,
                "displayKey" => object.display_key = fields.next_value::<Read<Mask>>()?.0.0,
                known if FIELDS.contains(&known) => drop(object.rest.insert(name, fields.next_value()?)),
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(object))
    }
}

/// A key, or none where there is something else in its place.
impl Lenient<'_> for Option<RawKey> {
    fn text(text: &str) -> Self {
        RawKey::parse(text.to_owned()).ok()
    }
}

/// A masked key, or none where it masks nothing.
#[derive(Default)]
struct Mask(Option<String>);

impl Lenient<'_> for Mask {
    fn text(text: &str) -> Self {
        Self(is_mask(text).then(|| text.to_owned()))
    }
}
