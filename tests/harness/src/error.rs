//! One error type: a text for the person who reads a failed test.

use std::fmt;

/// What went wrong, in words, with the last lines of the log of the process at fault where there is one.
pub struct Error(String);

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `unwrap` shows Debug: the lines of a log must stay lines there.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

macro_rules! from {
    ($($source:ty => $what:literal),* $(,)?) => {$(
        impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Self(format!(concat!($what, ": {}"), source))
            }
        }
    )*};
}

from! {
    std::io::Error => "I/O",
    kube::Error => "Kubernetes API",
    kube::config::KubeconfigError => "kubeconfig",
    serde_yaml::Error => "YAML",
    serde_json::Error => "JSON",
    reqwest::Error => "HTTP",
}

/// Names the thing that failed: an `io::Error` alone does not say which file it was about.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error(format!("{what}: {e}")))
    }
}
