//! The client of DataFast's Account API: endpoints, wire types, errors, and the one type for raw keys.
//!
//! It sends what it is told, once, and says what came of it. When to call, and what to do after a failure, is decided
//! elsewhere; [`Error::effect`] tells what a failed request may have done.

mod client;
mod collection;
mod error;
mod exchange;
mod raw_key;
mod token;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{Client, Limits, Observe, SetupError};
pub use collection::Collection;
pub use error::{Effect, Error};
pub use raw_key::{InvalidKey, RawKey};
pub use token::{InvalidTokenId, Issued, NewToken, Token, TokenId};
