//! Requests about one object that are answered by the plan instead of the server, for as long as a test wants that.

use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::watch;

use crate::OPERATOR_NAMESPACE;

/// What the operator asks of the API server for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asks {
    /// Its Secret.
    ReadSecret,
    /// Whether its Secret could be written.
    TrySecret,
    /// To write its Secret.
    WriteSecret,
    /// To delete its Secret.
    DeleteSecret,
    /// To change its annotations or finalizers.
    PatchResource,
    /// To write its status.
    WriteStatus,
    /// To restart a workload of its name.
    RestartWorkload,
    /// To publish an event about it.
    PublishEvent,
    /// The labels of the namespace of this name.
    ReadNamespace,
    /// The credential of the account of this name.
    ReadCredential,
    /// To change that account's finalizers.
    PatchAccount,
    /// To write that account's status.
    WriteAccountStatus,
    /// To publish an event about that account.
    PublishAccountEvent,
}

impl Asks {
    fn is(self, method: &Method, uri: &Uri) -> bool {
        let parts: Vec<_> = uri.path().split('/').collect();
        let is_about = |collection| parts.contains(&collection);
        let is_dry = uri.query().is_some_and(|query| query.contains("dryRun="));
        let is_status = parts.last() == Some(&"status");
        let is_of_account = is_about("datafastaccounts");
        let writes = *method == Method::POST || *method == Method::PUT;
        match self {
            Self::ReadSecret => is_about("secrets") && *method == Method::GET,
            Self::TrySecret => is_about("secrets") && writes && is_dry,
            Self::WriteSecret => is_about("secrets") && writes && !is_dry,
            Self::DeleteSecret => is_about("secrets") && *method == Method::DELETE,
            Self::PatchResource => is_about("datafa.st") && *method == Method::PATCH && !is_status,
            Self::WriteStatus => is_about("datafa.st") && is_status,
            Self::RestartWorkload => is_about("deployments") && *method == Method::PATCH,
            Self::PublishEvent => is_about("events") && *method != Method::GET,
            Self::ReadNamespace => parts.len() == 5 && is_about("namespaces") && *method == Method::GET,
            Self::ReadCredential => is_about("secrets") && is_about(OPERATOR_NAMESPACE) && *method == Method::GET,
            Self::PatchAccount => is_of_account && *method == Method::PATCH && !is_status,
            Self::WriteAccountStatus => is_of_account && is_status,
            // Where those about objects without a namespace are.
            Self::PublishAccountEvent => is_about("events") && is_about("default") && *method != Method::GET,
        }
    }
}

/// What it gets for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instead {
    /// No, with this code and reason.
    Refusal(u16, &'static str),
    /// Something that is no object.
    Nonsense,
    /// Half an answer.
    Broken,
    /// Nothing, until the plan has it answered truly: then that connection breaks.
    Silence,
}

/// In the words of every refusal.
pub const BY_PLAN: &str = "answered by the plan";

impl Instead {
    /// `over` is closed when it is to be answered truly.
    pub(crate) async fn response(self, mut over: watch::Receiver<()>) -> Response {
        let json = [("content-type", "application/json")];
        match self {
            Self::Refusal(code, reason) => {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                    "reason": reason, "message": BY_PLAN,
                });
                let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (code, json, status.to_string()).into_response()
            }
            Self::Nonsense => (json, "<html>").into_response(),
            Self::Silence | Self::Broken => {
                if self == Self::Silence {
                    let _ = over.changed().await;
                }
                let half = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other(BY_PLAN))]);
                (json, Body::from_stream(half)).into_response()
            }
        }
    }
}

/// What is answered so, and how often it was.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) asks: Asks,
    pub(crate) instead: Instead,
    pub(crate) times: usize,
    over: watch::Sender<()>,
}

impl Rule {
    pub(crate) fn new(name: &str, asks: Asks, instead: Instead) -> Self {
        Self { name: name.into(), asks, instead, times: 0, over: watch::Sender::new(()) }
    }

    /// The answer to a request that this is about, and what is closed when the rule is no more.
    pub(crate) fn answer(&mut self, method: &Method, uri: &Uri, body: &[u8]) -> Option<(Instead, watch::Receiver<()>)> {
        let quoted = format!("\"{}\"", self.name);
        let is_named = uri.path().split('/').any(|part| part == self.name)
            || body.windows(quoted.len()).any(|part| part == quoted.as_bytes());
        (is_named && self.asks.is(method, uri)).then(|| {
            self.times += 1;
            (self.instead, self.over.subscribe())
        })
    }
}
