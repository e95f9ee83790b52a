//! The API: which call a request is, who calls, and what faults it meets. What a call does is in the modules.

mod access_tokens;
mod account;
mod answer;
mod websites;

use std::future;
use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State as Extract};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use crate::BASE_PATH;
use crate::connection::Cutter;
use crate::fault::{Kind, Moment, Plan};
use crate::log::{EntryId, LoggedRequest, Operation};
use crate::permission::Scope;
use crate::state::{AccountState, Shared, State, mask};

use answer::{Answer, refuse};

const BODY_LIMIT: usize = 1 << 20;

/// A request, read to its end.
struct Incoming {
    method: Method,
    path: String,
    bearer: Option<String>,
    body: Bytes,
}

/// What becomes of a request.
enum Reply {
    Answer(Response),
    Cut,
    Hang,
}

pub(crate) async fn handle(
    Extract(shared): Extract<Arc<Shared>>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let path = parts.uri.path().to_owned();
    let incoming = Incoming { method: parts.method, path, bearer: bearer(&parts.headers), body };
    // A task of its own: the effect of a slow request comes even if the client has hung up, as at a real server.
    match tokio::spawn(process(shared, incoming)).await {
        Ok(Reply::Answer(response)) => response,
        Ok(Reply::Cut) => {
            cutter.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Ok(Reply::Hang) => future::pending().await,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn process(shared: Arc<Shared>, incoming: Incoming) -> Reply {
    let call = Call::of(&incoming);
    let (entry, plan) = begin(&mut shared.lock(), &incoming, &call);
    tokio::time::sleep(plan.latency).await;
    wait_for_holds(&plan, Moment::Before).await;
    if let Some((Moment::Before, kind)) = &plan.instead {
        return replace(&shared, entry, kind);
    }
    let answer = {
        let mut state = shared.lock();
        let answer = perform(&mut state, &incoming, &call, &plan);
        state.log.amend(entry, |request| {
            request.effect = answer.effect;
            request.token_id = answer.token_id.clone().or(request.token_id.take());
            request.name = answer.name.clone().or(request.name.take());
        });
        answer
    };
    wait_for_holds(&plan, Moment::After).await;
    if let Some((Moment::After, kind)) = &plan.instead {
        return replace(&shared, entry, kind);
    }
    shared.lock().log.amend(entry, |request| request.status = Some(answer.status.as_u16()));
    Reply::Answer(answer.into_response(&plan.wire))
}

/// Writes the request into the log, and collects the faults that it meets.
fn begin(state: &mut State, incoming: &Incoming, call: &Call) -> (EntryId, Plan) {
    let account = incoming.bearer.as_deref().and_then(|key| state.account_of(key)).map(|account| account.name.clone());
    let plan = state.faults.meet(call.operation().unwrap_or(Operation::Any), account.as_deref());
    let entry = state.log.add(LoggedRequest {
        at: Timestamp::now(),
        account,
        operation: call.operation(),
        method: incoming.method.to_string(),
        path: incoming.path.clone(),
        status: None,
        effect: false,
        name: access_tokens::asked_name(call, &incoming.body),
        token_id: call.token_id(),
        bearer: incoming.bearer.as_deref().map(mask),
    });
    (entry, plan)
}

async fn wait_for_holds(plan: &Plan, moment: Moment) {
    for (at, hold) in &plan.holds {
        if *at == moment {
            hold.wait().await;
        }
    }
}

/// Does what a fault says in place of the answer.
fn replace(shared: &Shared, entry: EntryId, kind: &Kind) -> Reply {
    let response = match kind {
        Kind::RateLimited { retry_after } => answer::rate_limited(retry_after),
        Kind::Status { status, body } => answer::faulty(*status, body),
        Kind::Drop => return Reply::Cut,
        _ => return Reply::Hang,
    };
    shared.lock().log.amend(entry, |request| request.status = Some(response.status().as_u16()));
    Reply::Answer(response)
}

/// The call that a request makes.
enum Call {
    ListAccessTokens,
    CreateAccessToken,
    DeleteAccessToken(String),
    GetAccount,
    ListWebsites,
    /// No such path.
    Unknown,
    /// The path takes other methods.
    OtherMethod,
}

impl Call {
    fn of(incoming: &Incoming) -> Self {
        let Some(path) = incoming.path.strip_prefix(BASE_PATH) else { return Self::Unknown };
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match (incoming.method.as_str(), segments.as_slice()) {
            ("GET", ["access-tokens"]) => Self::ListAccessTokens,
            ("POST", ["access-tokens"]) => Self::CreateAccessToken,
            ("DELETE", ["access-tokens", id]) => Self::DeleteAccessToken((*id).to_owned()),
            ("GET", ["account"]) => Self::GetAccount,
            ("GET", ["websites"]) => Self::ListWebsites,
            (_, ["access-tokens"] | ["access-tokens", _] | ["account"] | ["websites"]) => Self::OtherMethod,
            _ => Self::Unknown,
        }
    }

    fn operation(&self) -> Option<Operation> {
        match self {
            Self::ListAccessTokens => Some(Operation::ListAccessTokens),
            Self::CreateAccessToken => Some(Operation::CreateAccessToken),
            Self::DeleteAccessToken(_) => Some(Operation::DeleteAccessToken),
            Self::GetAccount => Some(Operation::GetAccount),
            Self::ListWebsites => Some(Operation::ListWebsites),
            Self::Unknown | Self::OtherMethod => None,
        }
    }

    fn token_id(&self) -> Option<String> {
        match self {
            Self::DeleteAccessToken(id) => Some(id.clone()),
            _ => None,
        }
    }

    /// The permission that the caller needs.
    fn permission(&self) -> &'static str {
        match self {
            Self::ListAccessTokens => "api-keys:read",
            Self::CreateAccessToken | Self::DeleteAccessToken(_) => "api-keys:write",
            Self::GetAccount => "analytics:read",
            _ => "websites:read",
        }
    }
}

/// Who calls: a live token.
struct Caller {
    token_id: String,
    scope: Scope,
}

fn perform(state: &mut State, incoming: &Incoming, call: &Call, plan: &Plan) -> Answer {
    match call {
        Call::Unknown => return refuse(StatusCode::NOT_FOUND, "Not found"),
        Call::OtherMethod => return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        _ => {}
    }
    let name = incoming.bearer.as_deref().and_then(|key| state.account_of(key)).map(|account| account.name.clone());
    let (Some(key), Some(account)) = (incoming.bearer.as_deref(), name.and_then(|name| state.account_mut(&name)))
    else {
        return refuse(StatusCode::UNAUTHORIZED, "Invalid or missing access token");
    };
    let caller = match authenticate(account, key) {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    if !caller.scope.allows(call.permission()) {
        return refuse(StatusCode::FORBIDDEN, &format!("This token lacks the permission {}", call.permission()));
    }
    match call {
        Call::ListAccessTokens => access_tokens::list(account, plan.lag, plan.lists_own.then_some(&*caller.token_id)),
        Call::CreateAccessToken => access_tokens::create(account, &caller, &incoming.body),
        Call::DeleteAccessToken(id) => access_tokens::delete(account, &caller, id),
        Call::GetAccount => account::get(account),
        _ => websites::list(account, &caller),
    }
}

/// Finds the live token of a key, and marks it as used.
fn authenticate(account: &mut AccountState, key: &str) -> Result<Caller, Answer> {
    if account.website_keys.iter().any(|held| held == key) {
        return Err(refuse(StatusCode::FORBIDDEN, "Website keys cannot call this route"));
    }
    let Some(token) = account.tokens.iter_mut().find(|token| token.key == key && token.is_live()) else {
        return Err(refuse(StatusCode::UNAUTHORIZED, "Invalid or missing access token"));
    };
    token.last_used_at = Some(Timestamp::now());
    Ok(Caller { token_id: token.id.clone(), scope: token.scope.clone() })
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}
