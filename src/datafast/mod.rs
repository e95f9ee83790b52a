//! The client of DataFast's Account API: endpoints, wire types, errors, and the one type for raw keys.
//!
//! It sends what it is told, once, and says what came of it. When to call, and what to do after a failure, is decided
//! elsewhere; [`Error::effect`] tells what a failed request may have done.

mod client;
mod collection;
mod entry;
mod envelope;
mod error;
mod exchange;
mod lenient;
mod rate;
mod raw_key;
mod redact;
mod token;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{Client, Observe};
pub use collection::{Collection, OPERATIONS, Verb};
pub use entry::Flaw;
pub use error::{Effect, Error};
pub use rate::RateWindow;
pub use raw_key::{InvalidKey, RawKey};
pub(crate) use redact::redacted;
pub use token::{InvalidTokenId, Issued, NewToken, Token, TokenId};
pub use transport::{Limits, SetupError, Transport};
