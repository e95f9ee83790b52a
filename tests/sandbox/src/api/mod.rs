//! The API: who calls, what the caller may do, and what faults a request meets. Which call it is, and what that does,
//! is in the modules.

mod access_tokens;
mod account;
mod answer;
mod call;
mod website_keys;
mod websites;

use std::future;
use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State as Extract};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use crate::connection::Cutter;
use crate::fault::{Kind, Moment, Plan};
use crate::log::{EntryId, LoggedRequest, Operation};
use crate::permission::Scope;
use crate::rate_window::Quota;
use crate::state::{AccountState, Shared, State, mask, now_in_milliseconds};

use answer::{Answer, refuse};
use call::Call;

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
    let call = Call::of(&incoming.method, &incoming.path);
    let Begun { entry, quota, plan } = begin(&mut shared.lock(), &incoming, &call);
    let reply = match &quota {
        Some(quota) if quota.is_exceeded() => Reply::Answer(answer::beyond_limit(quota)),
        _ => serve(&shared, &incoming, &call, entry, &plan).await,
    };
    match (reply, quota) {
        (Reply::Answer(response), Some(quota)) => Reply::Answer(answer::with_quota(response, &quota)),
        (reply, _) => reply,
    }
}

/// Serves a request that its account's rate window lets pass.
async fn serve(shared: &Shared, incoming: &Incoming, call: &Call, entry: EntryId, plan: &Plan) -> Reply {
    tokio::time::sleep(plan.latency).await;
    wait_for_holds(plan, Moment::Before).await;
    if let Some((Moment::Before, kind)) = &plan.instead {
        return replace(shared, entry, kind);
    }
    let answer = {
        let mut state = shared.lock();
        let answer = perform(&mut state, incoming, call, plan);
        state.log.amend(entry, |request| {
            request.effect = answer.effect;
            request.token_id = answer.token_id.clone().or(request.token_id.take());
            request.name = answer.name.clone().or(request.name.take());
        });
        answer
    };
    wait_for_holds(plan, Moment::After).await;
    if let Some((Moment::After, kind)) = &plan.instead {
        return replace(shared, entry, kind);
    }
    shared.lock().log.amend(entry, |request| request.status = Some(answer.status.as_u16()));
    Reply::Answer(answer.into_response(&plan.wire))
}

/// A request that is in the log and counted.
struct Begun {
    entry: EntryId,
    /// None: its account has no rate window, or its key is nobody's.
    quota: Option<Quota>,
    plan: Plan,
}

/// Spends a call of the account's rate window, writes the request into the log, and collects the faults that it meets.
fn begin(state: &mut State, incoming: &Incoming, call: &Call) -> Begun {
    let account = incoming.bearer.as_deref().and_then(|key| state.account_of(key)).map(|account| account.name.clone());
    let window = account.as_deref().and_then(|name| state.account_mut(name)?.window.as_mut());
    let quota = window.map(|window| window.take(now_in_milliseconds()));
    let refused = quota.as_ref().is_some_and(Quota::is_exceeded);
    let plan = if refused {
        Plan::default()
    } else {
        state.faults.meet(call.operation().unwrap_or(Operation::Any), account.as_deref(), call.website())
    };
    let entry = state.log.add(LoggedRequest {
        at: Timestamp::now(),
        account,
        operation: call.operation(),
        method: incoming.method.to_string(),
        path: incoming.path.clone(),
        status: refused.then_some(StatusCode::TOO_MANY_REQUESTS.as_u16()),
        effect: false,
        name: call.asked_name(&incoming.body),
        token_id: call.token_id().map(str::to_owned),
        bearer: incoming.bearer.as_deref().map(mask),
    });
    Begun { entry, quota, plan }
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

/// Who calls: a live access token or website key.
struct Caller {
    token_id: String,
    scope: Scope,
    /// The website whose key it is; none: it is an access token.
    website: Option<String>,
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
    let Some(caller) = authenticate(account, key) else {
        return refuse(StatusCode::UNAUTHORIZED, "Invalid or missing access token");
    };
    if let Some(refusal) = refusal(account, &caller, call) {
        return refusal;
    }
    let creator = plan.lists_own.then_some(&*caller.token_id);
    match call {
        Call::ListAccessTokens => access_tokens::list(account, plan.lag, creator),
        Call::CreateAccessToken => access_tokens::create(account, &caller, &incoming.body),
        Call::DeleteAccessToken { id } => access_tokens::delete(account, &caller, id),
        Call::ListWebsiteKeys { website } => website_keys::list(account, website, plan.lag, creator),
        Call::CreateWebsiteKey { website } => website_keys::create(account, &caller, website, &incoming.body),
        Call::RollWebsiteKey { website, id } => website_keys::roll(account, website, id),
        Call::DeleteWebsiteKey { website, id } => website_keys::delete(account, website, id),
        Call::GetAccount => account::get(account),
        Call::ListWebsites | Call::Unknown | Call::OtherMethod => websites::list(account, &caller),
    }
}

/// Finds the live token or website key that a key is of, and marks it as used.
fn authenticate(account: &mut AccountState, key: &str) -> Option<Caller> {
    let token = account.tokens.iter_mut().find(|token| token.key == key && token.is_live())?;
    token.last_used_at = Some(Timestamp::now());
    Some(Caller { token_id: token.id.clone(), scope: token.scope.clone(), website: token.website.clone() })
}

/// Why the caller may not make the call, or nothing.
fn refusal(account: &AccountState, caller: &Caller, call: &Call) -> Option<Answer> {
    let forbidden = |message: &str| Some(refuse(StatusCode::FORBIDDEN, message));
    if caller.website.is_some() && call.website().is_none() {
        return forbidden("Website keys cannot call this route");
    }
    if caller.website.is_none() && !caller.scope.allows(call.permission()) {
        return forbidden(&format!("This token lacks the permission {}", call.permission()));
    }
    let website = call.website()?;
    if !caller.scope.has_website(website) {
        return forbidden("This website is outside of the caller's scope");
    }
    if !account.has_website(website) {
        return Some(refuse(StatusCode::NOT_FOUND, "Website not found"));
    }
    None
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}
