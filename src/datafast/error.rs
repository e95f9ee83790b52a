//! What can go wrong at DataFast, by what the caller does about it.

use std::time::Duration;

/// A call that failed. No text in it holds a key or a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// DataFast does not know the credential (401): stop calling until there is another.
    #[error("DataFast rejects the credential: {message}")]
    CredentialsRejected {
        /// DataFast's message, quoted.
        message: String,
    },
    /// DataFast refuses this request (400, 403, 422 and other 4xx): the same request would be refused again.
    #[error("DataFast refuses the request ({status}): {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// DataFast's message, quoted.
        message: String,
    },
    /// The account holds as many tokens as it may (a 400 that speaks of a limit): wait for a slot. The message is all
    /// that tells it from [`Error::Rejected`], so have a list confirm it.
    #[error("the account is full: {message}")]
    Full {
        /// DataFast's message, quoted.
        message: String,
    },
    /// No such token, or this credential did not create it (404). A later list tells which.
    #[error("DataFast knows no such token, or this credential did not create it")]
    NotFound,
    /// Too many requests (429): pause all calls of the account.
    #[error("DataFast limits the rate of requests")]
    RateLimited {
        /// How long DataFast asks to wait, 10 minutes at most. None: it did not say; back off.
        retry_after: Option<Duration>,
    },
    /// No usable answer (5xx, 408, a redirect, an unreadable or too large body, a broken connection, a timeout): back
    /// off, and look what came of it where [`Error::effect`] does not know.
    #[error("DataFast is not available: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// What the request may have done.
        effect: Effect,
    },
}

/// What a failed request may have done at DataFast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it was refused, or never sent.
    None,
    /// It may have taken effect, or still take effect.
    Unknown,
}

impl Error {
    /// What the failed request may have done at DataFast.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Unavailable { effect, .. } => *effect,
            Self::CredentialsRejected { .. }
            | Self::Rejected { .. }
            | Self::Full { .. }
            | Self::NotFound
            | Self::RateLimited { .. } => Effect::None,
        }
    }

    /// An answer that says too little to know what the request did.
    pub(super) fn unreadable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), effect: Effect::Unknown }
    }
}
