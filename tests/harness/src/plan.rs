//! At which write the operator is stopped, and what it wrote until then.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{Method, StatusCode, Uri};
use tokio::sync::watch;

use crate::instead::{Asks, Instead, Rule};
use crate::lost::{LateLists, Lost};

/// On which side of a request's effect a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request never gets to the server.
    Before,
    /// The server has answered in full, and nobody hears it.
    After,
}

/// Which request is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The k-th counted one, from 1.
    Nth(usize),
    /// The k-th counted one, from 1, that is no account's: accounts write when they have news, between any two of others.
    OfResources(usize),
    /// The k-th counted one, from 1, that is an account's.
    OfAccounts(usize),
    /// The first counted one whose path ends so: where a slow machine may have others come before it.
    Path(&'static str),
}

impl At {
    /// Whether it is the last of those that were counted.
    fn is_last(self, log: &[Entry]) -> bool {
        let Some(last) = log.last() else { return false };
        let is_nth = |at, of_account| {
            last.is_of_account() == of_account
                && at == log.iter().filter(|entry| entry.is_of_account() == of_account).count()
        };
        match self {
            Self::Nth(at) => at == log.len(),
            Self::OfResources(at) => is_nth(at, false),
            Self::OfAccounts(at) => is_nth(at, true),
            Self::Path(end) => last.path.ends_with(end),
        }
    }
}

/// What happens to one of the counted requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all goes through and is counted.
    None,
    /// The request is never answered, and from then on no other is forwarded or answered either.
    Cut {
        /// Which one.
        at: At,
        /// With or without its effect.
        side: Side,
    },
    /// The request is forwarded so much later; all others go through at once.
    Late {
        /// Which one.
        at: At,
        /// How much later.
        by: Duration,
    },
    /// The request is answered with this status instead; all others go through.
    Fail {
        /// Which one.
        at: At,
        /// With or without its effect.
        side: Side,
        /// The answer that the operator sees.
        status: StatusCode,
    },
}

/// A counted request: one that changes something, other than an event, a lease or a question about rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the [`Cutter`](crate::Cutter) that it came through.
    pub upstream: String,
    /// The HTTP method.
    pub method: Method,
    /// The path without the query.
    pub path: String,
    /// The query, empty without one.
    pub query: String,
    /// What the server answered; none where it was not asked or has not answered (yet).
    pub status: Option<StatusCode>,
}

impl Entry {
    /// Whether it is about an account resource.
    pub fn is_of_account(&self) -> bool {
        self.path.contains("/datafastaccounts/")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The plan that one or several [`Cutter`](crate::Cutter)s follow. They share its counter, so that "the third write" means
/// the third to either server. Clones are the same plan.
#[derive(Clone)]
pub struct Plan {
    state: Arc<Mutex<State>>,
    reached: Arc<watch::Sender<Option<String>>>,
    /// Changes when all connections are to be broken.
    broken: Arc<watch::Sender<u64>>,
    pub(crate) late_lists: LateLists,
}

struct State {
    fault: Fault,
    delay: Duration,
    /// On top of `delay`, for requests that are counted.
    delay_of_writes: Duration,
    held: bool,
    lost: Lost,
    instead: Vec<Rule>,
    log: Vec<Entry>,
    /// Tells requests of an earlier round, which may still be on their way, from those of this one.
    round: u64,
}

/// What the proxy does with one request.
pub(crate) enum Verdict {
    Forward,
    /// Forward, and tell the plan the status.
    Count(Ticket),
    /// Apply the fault to this one.
    Strike(Ticket, Fault),
    /// Never answer.
    Hold,
    /// Answer with this status.
    Refuse(StatusCode),
    /// Forward a watch as from a version of which the server knows nothing any more.
    ForwardTooLate,
}

/// The place of a counted request in the log.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    index: usize,
    round: u64,
}

impl Plan {
    /// A plan with this fault.
    pub fn new(fault: Fault) -> Self {
        let state = State {
            fault,
            delay: late_answers(),
            delay_of_writes: Duration::ZERO,
            held: false,
            lost: Lost::default(),
            instead: Vec::new(),
            log: Vec::new(),
            round: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            reached: Arc::new(watch::Sender::new(None)),
            broken: Arc::new(watch::Sender::new(0)),
            late_lists: LateLists::none(),
        }
    }

    /// Counts and lets all through.
    pub fn count_only() -> Self {
        Self::new(Fault::None)
    }

    /// Cuts at the k-th counted request, from 1.
    pub fn cut(at: usize, side: Side) -> Self {
        Self::new(Fault::Cut { at: At::Nth(at), side })
    }

    /// Answers the k-th counted request, from 1, with an error. Clients built on kube send a request again by themselves
    /// after 429, 503 and 504, unless `Config::default_retry` is off.
    pub fn fail(at: usize, side: Side, status: StatusCode) -> Self {
        Self::new(Fault::Fail { at: At::Nth(at), side, status })
    }

    /// Starts anew with this fault, an empty log and the count at nothing. After a cut, whoever was cut off must be dead
    /// by now: all connections are broken, so that nothing that it sent before its end slips through late.
    pub async fn reset(&self, fault: Fault) {
        let held = self.lock().held;
        if held {
            // What waits to be accepted is taken up meanwhile, and so belongs to the round that ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut state = self.lock();
        state.fault = fault;
        state.held = false;
        state.log.clear();
        state.round += 1;
        self.reached.send_replace(None);
        if held {
            self.broken.send_replace(state.round);
        }
    }

    /// From now on every request waits this long before it is forwarded.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// From now on the watches of this path are away: those that are open end, and new ones are answered with this status.
    /// Lists, and all else, go through.
    pub fn lose_watches(&self, path: &str, status: StatusCode) {
        self.lock().lost = Lost::Away(path.into(), status);
        self.broken.send_modify(|changes| *changes += 1);
    }

    /// Watches work again. What happened meanwhile is not told to the next one of that path: it has to list again.
    pub fn find_watches(&self) {
        self.lock().lost.find();
    }

    /// From now on lists of this path, and no watches, wait until [`Plan::answer_lists`].
    pub fn hold_lists(&self, path: &str) {
        self.late_lists.set(Some(path.into()));
    }

    /// Lists that wait are answered, and others at once.
    pub fn answer_lists(&self) {
        self.late_lists.set(None);
    }

    /// From now on what is asked for the resource of this name is answered so instead.
    pub fn answer(&self, name: &str, asks: Asks, instead: Instead) {
        self.lock().instead.push(Rule::new(name, asks, instead));
    }

    /// From now on what is asked for it gets through again. Returns how often it did not.
    pub fn answer_truly(&self, name: &str) -> usize {
        self.lock().instead.extract_if(.., |rule| rule.name == name).map(|rule| rule.times).sum()
    }

    /// How often it has not got through so far.
    pub fn times(&self, name: &str) -> usize {
        self.lock().instead.iter().filter(|rule| rule.name == name).map(|rule| rule.times).sum()
    }

    pub(crate) fn instead(&self, method: &Method, uri: &Uri, body: &[u8]) -> Option<(Instead, watch::Receiver<()>)> {
        self.lock().instead.iter_mut().find_map(|rule| rule.answer(method, uri, body))
    }

    /// From now on every counted request waits this much longer: what it writes shows late, and all else at once.
    pub fn delay_writes(&self, delay: Duration) {
        self.lock().delay_of_writes = delay;
    }

    /// Resolves when the fault has struck (with [`Side::After`]: when the server has answered), with the request:
    /// `PATCH /apis/…`.
    pub async fn reached(&self) -> String {
        let mut reached = self.reached.subscribe();
        match reached.wait_for(Option::is_some).await {
            Ok(description) => description.clone().unwrap_or_default(),
            // The sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether the fault has struck.
    pub fn is_reached(&self) -> bool {
        self.reached.borrow().is_some()
    }

    /// How many requests were counted.
    pub fn count(&self) -> usize {
        self.lock().log.len()
    }

    /// The counted requests in the order in which they came.
    pub fn log(&self) -> Vec<Entry> {
        self.lock().log.clone()
    }

    /// Resolves when a connection that is accepted now is to be broken.
    pub(crate) fn round_over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut broken = self.broken.subscribe();
        async move {
            if broken.changed().await.is_err() {
                // Nobody is left to say so.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn delay_of(&self, method: &Method, uri: &Uri) -> Duration {
        let state = self.lock();
        state.delay + if counts(method, uri) { state.delay_of_writes } else { Duration::ZERO }
    }

    pub(crate) fn judge(&self, upstream: &str, method: &Method, uri: &Uri) -> Verdict {
        let mut state = self.lock();
        if state.held {
            return Verdict::Hold;
        }
        if let Some(verdict) = state.lost.judge(uri) {
            return verdict;
        }
        if !counts(method, uri) {
            return Verdict::Forward;
        }
        let ticket = Ticket { index: state.log.len(), round: state.round };
        state.log.push(Entry {
            upstream: upstream.into(),
            method: method.clone(),
            path: uri.path().into(),
            query: uri.query().unwrap_or_default().into(),
            status: None,
        });
        match state.fault {
            Fault::Cut { at, .. } if at.is_last(&state.log) => {
                state.held = true;
                Verdict::Strike(ticket, state.fault)
            }
            Fault::Fail { at, .. } | Fault::Late { at, .. } if at.is_last(&state.log) => {
                Verdict::Strike(ticket, std::mem::replace(&mut state.fault, Fault::None))
            }
            _ => Verdict::Count(ticket),
        }
    }

    pub(crate) fn answered(&self, ticket: Ticket, status: StatusCode) {
        let mut state = self.lock();
        if state.round == ticket.round {
            state.log[ticket.index].status = Some(status);
        }
    }

    pub(crate) fn struck(&self, ticket: Ticket) {
        let state = self.lock();
        if state.round == ticket.round {
            self.reached.send_replace(Some(state.log[ticket.index].to_string()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How late every server answers that a [`Plan`] stands before: the variable `DATAFAST_TEST_ANSWERS_LATE_MS` has it in
/// milliseconds, to try a slow cluster. Zero without it.
///
/// # Panics
///
/// Where it is no number.
pub fn late_answers() -> Duration {
    let text = std::env::var("DATAFAST_TEST_ANSWERS_LATE_MS").unwrap_or_default();
    match (text.as_str(), text.parse()) {
        ("", _) => Duration::ZERO,
        (_, Ok(milliseconds)) => Duration::from_millis(milliseconds),
        (text, Err(error)) => panic!("DATAFAST_TEST_ANSWERS_LATE_MS={text:?}: {error}; it is a number of milliseconds"),
    }
}

/// Whether a request changes something that users see. Events and leases are written whenever time passes, so counting
/// them would give another number on every run.
fn counts(method: &Method, uri: &Uri) -> bool {
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let dry_run = uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("dryRun=")));
    let path = uri.path();
    let uncounted_group = ["events.k8s.io", "coordination.k8s.io", "authorization.k8s.io", "authentication.k8s.io"]
        .iter()
        .any(|group| path.strip_prefix("/apis/").is_some_and(|rest| rest.starts_with(group)));
    let core_event = path.starts_with("/api/v1/namespaces/") && path.split('/').nth(5) == Some("events");
    writes && !dry_run && !uncounted_group && !core_event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_writes_count() {
        let counted = |method: Method, uri: &'static str| counts(&method, &Uri::from_static(uri));
        assert!(counted(Method::POST, "/api/v1/namespaces/a/secrets"));
        assert!(counted(
            Method::PATCH,
            "/apis/datafa.st/v1alpha1/namespaces/a/datafastaccesstokens/b/status?force=true"
        ));
        assert!(counted(Method::DELETE, "/api/v1/admin/api-keys/0123"));
        assert!(counted(Method::PUT, "/api/v1/namespaces/events/secrets/events"));
        assert!(!counted(Method::GET, "/api/v1/namespaces/a/secrets"));
        assert!(!counted(Method::POST, "/api/v1/namespaces/a/secrets?fieldManager=x&dryRun=All"));
        assert!(!counted(Method::POST, "/api/v1/namespaces/a/events"));
        assert!(!counted(Method::PATCH, "/apis/events.k8s.io/v1/namespaces/a/events/b"));
        assert!(!counted(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"));
        assert!(!counted(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"));
        assert!(!counted(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews"));
    }
}
