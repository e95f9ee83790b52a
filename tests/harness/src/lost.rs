//! Watches that are away for a while, and lists that are late.

use std::sync::Arc;

use axum::http::{StatusCode, Uri};
use tokio::sync::watch;

use crate::plan::Verdict;

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// The path whose lists are not answered for now.
#[derive(Clone, Debug)]
pub(crate) struct LateLists(Arc<watch::Sender<Option<String>>>);

impl LateLists {
    pub(crate) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn set(&self, path: Option<String>) {
        self.0.send_replace(path);
    }

    /// Resolves when a request is not, or no longer, such a list.
    pub(crate) async fn passed(&self, uri: &Uri) {
        let mut late = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = late.wait_for(|path| path.as_deref() != Some(uri.path()) || is_watch(uri)).await;
    }
}

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
        let is_watch = is_watch(uri);
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
