//! Faults on demand: what they are, and which of them a request meets.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::log::Operation;

/// Names a fault that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// A fault, and the requests that meet it.
///
/// Several faults can meet in one request. Delays, holds, lags, short lists and wire variants all apply. Of the faults that
/// take the place of the answer only the first one set applies and is counted, so that a queue of them is met one
/// request after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The calls that meet it.
    #[serde(default)]
    pub operation: Operation,
    /// The account it is for; none: all, and requests with unknown keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The website whose keys the call is about; none: all, and calls about no website's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// Let this many matching requests pass first.
    #[serde(default)]
    pub skip: u32,
    /// How many requests meet it; none: all until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Whether it strikes before or after the request took effect. Latency, lists and wire variants do not care.
    #[serde(default)]
    pub moment: Moment,
    /// What happens.
    #[serde(flatten)]
    pub kind: Kind,
}

impl Fault {
    /// A fault before the effect, in all accounts, until cleared.
    pub fn new(operation: Operation, kind: Kind) -> Self {
        Self { operation, account: None, website: None, skip: 0, times: None, moment: Moment::Before, kind }
    }

    /// Only for calls about the keys of this website.
    pub fn of_website(self, id: impl Into<String>) -> Self {
        Self { website: Some(id.into()), ..self }
    }

    /// Only for the next request that it fits.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only for the next `times` requests that it fits.
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets `skip` fitting requests pass first.
    pub fn after_passing(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Strikes after the request took effect.
    pub fn after_effect(self) -> Self {
        Self { moment: Moment::After, ..self }
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// The request has no effect (a hold: not yet).
    #[default]
    Before,
    /// The request took effect, and the client does not learn so.
    After,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Kind {
    /// Waits before anything else; the effect comes even if the client has given up by then.
    Latency {
        /// Milliseconds.
        ms: u64,
    },
    /// Answers 429.
    RateLimited {
        /// What the answer says of when to come back.
        #[serde(default)]
        retry_after: RetryAfter,
    },
    /// Answers with a status and a body of choice.
    Status {
        /// HTTP status.
        status: u16,
        /// The body.
        #[serde(default)]
        body: FaultBody,
    },
    /// Closes the connection without a byte of an answer.
    Drop,
    /// Never answers.
    Hang,
    /// Waits until the fault is released or cleared. The effect of a request held before it comes then, even if the
    /// client has given up meanwhile.
    Hold,
    /// Lists show which tokens or website keys existed some seconds ago, and the `displayKey` that they had then.
    /// `lastUsedAt` does not lag.
    ListLag {
        /// Seconds.
        seconds: f64,
    },
    /// Lists show only what the caller created, and not the caller itself. The documentation says that nobody else's
    /// tokens can be deleted, and leaves open whether they are listed: without this fault, they are.
    ListOwn,
    /// Answers in another spelling.
    Wire {
        /// Which one.
        wire: Wire,
    },
}

/// The `Retry-After` header of a 429.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAfter {
    /// No header.
    #[default]
    None,
    /// So many seconds.
    Seconds(u64),
    /// An HTTP date so many seconds from now; negative: in the past.
    DateIn(i64),
    /// This text, as it is.
    Text(String),
}

/// The body of a [`Kind::Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FaultBody {
    /// DataFast's error shape.
    Error {
        /// `error.code`; none: the status.
        #[serde(default)]
        code: Option<u16>,
        /// `error.message`.
        message: String,
    },
    /// A page, as a proxy in between would send.
    Html,
    /// Nothing.
    Empty,
    /// JSON of another shape.
    OtherShape,
    /// JSON that breaks off, with a complete HTTP answer around it.
    Truncated,
    /// Drips until the client gives up.
    Endless,
    /// 3 MiB of JSON.
    Huge,
    /// This text as `application/json`.
    Text {
        /// The text.
        text: String,
    },
}

impl Default for FaultBody {
    fn default() -> Self {
        Self::Error { code: None, message: "Something went wrong".to_owned() }
    }
}

/// Answers that say the same in another spelling, or less. What is said of a create goes for a roll too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wire {
    /// Create answers with `id` for `_id`.
    IdSpelling,
    /// Create answers without `lastUsedAt` and `createdAt`.
    WithoutTimes,
    /// Create answers without `key`.
    WithoutKey,
    /// `data` is an object where it would be an array of one.
    DataObject,
    /// `displayKey` masks nothing: it is the raw key where there is one, and looks like one in lists.
    Unmasked,
}

/// A request caught by a hold waits here.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    released: Arc<watch::Sender<bool>>,
    caught: Arc<watch::Sender<u32>>,
}

impl Hold {
    fn new() -> Self {
        Self { released: Arc::new(watch::Sender::new(false)), caught: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) async fn wait(&self) {
        self.caught.send_modify(|caught| *caught += 1);
        // The sender lives as long as this hold, so the wait cannot fail.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }

    pub(crate) async fn caught(&self) {
        let _ = self.caught.subscribe().wait_for(|caught| *caught > 0).await;
    }

    fn release(&self) {
        self.released.send_replace(true);
    }
}

/// What one request meets.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    pub(crate) holds: Vec<(Moment, Hold)>,
    /// Takes the place of the answer.
    pub(crate) instead: Option<(Moment, Kind)>,
    pub(crate) lag: Duration,
    pub(crate) lists_own: bool,
    pub(crate) wire: Vec<Wire>,
}

#[derive(Debug)]
struct Armed {
    id: FaultId,
    fault: Fault,
    hold: Hold,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    next: u64,
    armed: Vec<Armed>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.armed.push(Armed { id, fault, hold: Hold::new() });
        id
    }

    pub(crate) fn all(&self) -> Vec<(FaultId, Fault)> {
        self.armed.iter().map(|armed| (armed.id, armed.fault.clone())).collect()
    }

    pub(crate) fn hold(&self, id: FaultId) -> Option<Hold> {
        self.armed.iter().find(|armed| armed.id == id).map(|armed| armed.hold.clone())
    }

    /// Whether there was such a fault.
    pub(crate) fn clear(&mut self, id: FaultId) -> bool {
        let before = self.armed.len();
        self.retain(|armed| armed.id != id);
        self.armed.len() != before
    }

    pub(crate) fn clear_account(&mut self, account: &str) {
        self.retain(|armed| armed.fault.account.as_deref() != Some(account));
    }

    pub(crate) fn clear_all(&mut self) {
        self.retain(|_| false);
    }

    fn retain(&mut self, keep: impl Fn(&Armed) -> bool) {
        self.armed.retain(|armed| {
            let kept = keep(armed);
            if !kept {
                armed.hold.release();
            }
            kept
        });
    }

    /// Collects what a request meets, and counts it.
    pub(crate) fn meet(&mut self, operation: Operation, account: Option<&str>, website: Option<&str>) -> Plan {
        let mut plan = Plan::default();
        for armed in &mut self.armed {
            let fault = &mut armed.fault;
            let fits = (fault.operation == Operation::Any || fault.operation == operation)
                && (fault.account.is_none() || fault.account.as_deref() == account)
                && (fault.website.is_none() || fault.website.as_deref() == website);
            if !fits || fault.times == Some(0) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            match &fault.kind {
                Kind::Latency { ms } => plan.latency += Duration::from_millis(*ms),
                Kind::Hold => plan.holds.push((fault.moment, armed.hold.clone())),
                Kind::ListLag { seconds } => {
                    plan.lag = plan.lag.max(Duration::try_from_secs_f64(*seconds).unwrap_or_default());
                }
                Kind::ListOwn => plan.lists_own = true,
                Kind::Wire { wire } => plan.wire.push(*wire),
                Kind::RateLimited { .. } | Kind::Status { .. } | Kind::Drop | Kind::Hang => {
                    if plan.instead.is_some() {
                        continue;
                    }
                    plan.instead = Some((fault.moment, fault.kind.clone()));
                }
            }
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
        }
        // A used-up hold stays until it is released: it still has requests to let go.
        self.armed.retain(|armed| armed.fault.times != Some(0) || armed.fault.kind == Kind::Hold);
        plan
    }
}
