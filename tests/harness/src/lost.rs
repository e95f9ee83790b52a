//! Watches that are away for a while.

use axum::http::{StatusCode, Uri};

use crate::plan::Verdict;

/// The watches of one path that are away.
#[derive(Clone, Debug, Default)]
pub(crate) enum Lost {
    /// None.
    #[default]
    No,
    /// They are answered with this status.
    Away(String, StatusCode),
    /// The next one is too late to be resumed, and so begins anew with a list.
    TooLate(String),
}

impl Lost {
    /// They work again.
    pub(crate) fn find(&mut self) {
        if let Self::Away(path, _) = std::mem::take(self) {
            *self = Self::TooLate(path);
        }
    }

    /// What is done with a request, where it is such a watch.
    pub(crate) fn judge(&mut self, uri: &Uri) -> Option<Verdict> {
        let is_watch = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        match self {
            Self::Away(path, status) if is_watch && uri.path() == path => Some(Verdict::Refuse(*status)),
            Self::TooLate(path) if is_watch && uri.path() == path => {
                *self = Self::No;
                Some(Verdict::ForwardTooLate)
            }
            _ => None,
        }
    }
}
