//! What the account resource's status says: whether the account can be used, and what is in its slots.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};

use super::account::AccountContext;
use super::lenient::Lenient;
use super::resource::Managed;
use super::status::{self, Say, conditions};
use super::unclaimed::Claims;
use super::{Context, Error};
use crate::account::{Report, Setup, Trouble};
use crate::api::{DataFastAccount, DataFastAccountStatus, RateWindow, TokenCounts, UnclaimedToken};
use crate::lifecycle::facts::last_used;
use crate::lifecycle::snapshot::Listed;
use crate::lifecycle::windows::Windows;

/// Users named in a message.
const MOST_NAMED: usize = 5;
const MOST_UNCLAIMED: usize = 20;

/// Writes the status where it differs, and publishes what is new in it. `failed` is what failed of the account's own
/// requests.
pub(super) async fn write(
    resource: &Lenient<DataFastAccount>,
    cx: &AccountContext,
    report: &Report,
    users: &[Arc<dyn Managed>],
    failed: Option<&Error>,
) -> Result<(), Error> {
    let ctx = &cx.ctx;
    let before = resource.status.clone().unwrap_or_default();
    let mut verdict = verdict(report);
    if resource.metadata.deletion_timestamp.is_some() {
        verdict.message = format!("Deletion waits {}. {}", awaited(cx, users, failed), verdict.message);
    } else if let Some(error) = failed.filter(|_| verdict.ready) {
        verdict.message = format!("{}. {error}. It is tried again at least every minute", verdict.message);
    }
    if let Some(flaw) = Windows::parse(&resource.spec.rotation_windows).flaw() {
        verdict.message = format!(
            "{}. spec.rotationWindows{flaw}. Until then no resource's rotation begins by time, by datafa.st/rotate or by a change of scope",
            verdict.message
        );
    }
    ctx.metrics.account_ready(&resource.name_any(), verdict.ready);
    // Before the first list there is nothing to report.
    if report.snapshot.is_none() && report.setup == Setup::Ready && report.trouble.is_none() {
        return Ok(());
    }
    let claims = match &report.snapshot {
        Some(_) => Some(Claims::recent(ctx).await),
        None => None,
    };
    let mut new = status_of(resource, ctx, report, &verdict, claims.as_deref());
    if let Some(counts) = &mut new.tokens {
        counts.unused = count(users.iter().filter(|user| status::is_unused(&***user)).count());
    }
    if new == before || !resource.has_readable_status() {
        return Ok(());
    }
    // It changes with every answer: it is written with other changes, never for itself.
    new.rate = report.rate.map(|(limit, remaining, resets_at)| RateWindow {
        limit: i32::try_from(limit).ok(),
        remaining: i32::try_from(remaining).ok(),
        reset_at: Some(status::time(resets_at)),
    });
    let is_new = |token: &&UnclaimedToken| before.unclaimed.iter().all(|old| old.token_id != token.token_id);
    let appeared: Vec<UnclaimedToken> = new.unclaimed.iter().filter(is_new).cloned().collect();
    let mut written = resource.clone();
    written.status = Some(new);
    let api: Api<Lenient<DataFastAccount>> = Api::all(ctx.client.clone());
    if let Some(written) = status::write(&api, written, "the account").await? {
        cx.written.wrote(written);
        publish(resource, ctx, verdict, status::ready_reason(&before.conditions), &appeared);
    }
    Ok(())
}

/// What a deletion waits for.
fn awaited(cx: &AccountContext, users: &[Arc<dyn Managed>], failed: Option<&Error>) -> String {
    match (users, Vec::from_iter(cx.unseen()).as_slice(), failed) {
        ([], [], Some(error)) => format!("for its finalizer to be taken off: {}", error.words()),
        ([], [], None) => "for a last list".to_owned(),
        ([], unseen, _) => {
            let unseen = unseen.join(", ");
            format!("until it is known whether resources in {unseen} use the account: they can't be read there")
        }
        (users, ..) => format!("for the resources that use the account: {}", named(users)),
    }
}

fn status_of(
    resource: &DataFastAccount,
    ctx: &Context,
    report: &Report,
    verdict: &Verdict,
    claims: Option<&Claims>,
) -> DataFastAccountStatus {
    let now = ctx.now();
    let before = resource.status.clone().unwrap_or_default();
    let say = Say {
        ready: verdict.ready,
        reconciling: !verdict.ready && !verdict.stalled,
        stalled: verdict.stalled,
        reason: verdict.reason,
        message: &verdict.message,
        generation: resource.metadata.generation,
        now,
    };
    let mut new = DataFastAccountStatus {
        observed_generation: resource.metadata.generation,
        conditions: conditions(&before.conditions, &say),
        waiting: Some(count(report.waiting)),
        ..before.clone()
    };
    let (Some(snapshot), Some(claims)) = (&report.snapshot, claims) else { return new };
    let mut tally = claims.tally(ctx, snapshot);
    let keys = report.keys.iter().flat_map(|keys| claims.tally(ctx, keys).unclaimed);
    tally.unclaimed.extend(keys);
    let limit = resource.token_limit();
    let counts = TokenCounts {
        limit,
        total: count(snapshot.total()),
        usage: format!("{}/{limit}", snapshot.total()),
        managed: count(tally.managed),
        retiring: count(tally.retiring),
        unclaimed: count(tally.unclaimed.len()),
        foreign: count(tally.foreign),
        unused: before.tokens.as_ref().map_or(0, |tokens| tokens.unused),
    };
    ctx.metrics.tokens(&resource.name_any(), &counts);
    new.tokens = Some(counts);
    new.unclaimed = tally.unclaimed.iter().take(MOST_UNCLAIMED).map(|t| unclaimed_token(t, &before, now)).collect();
    new
}

/// Logs and events about what is new in the status.
fn publish(
    resource: &DataFastAccount,
    ctx: &Context,
    verdict: Verdict,
    before: Option<&str>,
    appeared: &[UnclaimedToken],
) {
    let about = resource.object_ref(&());
    for token in appeared {
        let (id, display_key) = (&token.token_id, &token.display_key);
        tracing::warn!(tokenId = id, displayKey = display_key, "an unclaimed token appeared");
        ctx.events.warning(&about, "UnclaimedToken", unclaimed_note(token));
    }
    let Verdict { ready, reason, message, .. } = verdict;
    if before == Some(reason) {
        return;
    }
    let detail = &message;
    if ready {
        tracing::info!(ready, reason, before, detail, "Ready has another reason");
        ctx.events.normal(&about, reason, message);
    } else {
        tracing::warn!(ready, reason, before, detail, "Ready has another reason");
        ctx.events.warning(&about, reason, message);
    }
}

fn unclaimed_note(token: &UnclaimedToken) -> String {
    format!(
        "Token {} ({}, {:?}) was issued by this cluster, and no resource names it: revoke it at DataFast if nobody needs it",
        token.token_id,
        token.display_key.as_deref().unwrap_or("its key is not shown"),
        token.token_name.as_deref().unwrap_or_default()
    )
}

/// What is reported of an account.
struct Verdict {
    ready: bool,
    stalled: bool,
    reason: &'static str,
    message: String,
}

fn verdict(report: &Report) -> Verdict {
    let until = |at: &Timestamp| format!("tried again at {at:.0}");
    let stalled = |reason, message| Verdict { ready: false, stalled: true, reason, message };
    let retried = |reason, message| Verdict { ready: false, stalled: false, reason, message };
    match (&report.setup, &report.trouble) {
        (Setup::NoCredential(why), _) => stalled("CredentialsNotFound", capital(why)),
        (Setup::NoTransport(why), _) => stalled("ApiUnavailable", capital(why)),
        (_, Some((Trouble::CredentialsRejected(message), _))) => stalled(
            "CredentialsRejected",
            format!("DataFast rejects the credential ({message}): put a valid token into its Secret"),
        ),
        (_, Some((Trouble::RateLimited, at))) => {
            retried("RateLimited", format!("DataFast limits the rate of calls: {}", until(at)))
        }
        (_, Some((Trouble::Unavailable(why) | Trouble::Refused(why), at))) => {
            retried("ApiUnavailable", format!("DataFast can't be used ({why}): {}", until(at)))
        }
        (_, None) => match report.missing {
            Some(missing) => stalled(
                "TokensVanished",
                format!(
                    "DataFast's list lacks {missing} tokens that it showed to resources: most likely this credential can't see what another one created. Nothing is issued in their place unless DataFast refuses their keys too. Give the account the former credential back, or delete those tokens at DataFast"
                ),
            ),
            None => Verdict {
                ready: true,
                stalled: false,
                reason: "Connected",
                message: "DataFast takes the credential".to_owned(),
            },
        },
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn named(users: &[Arc<dyn Managed>]) -> String {
    let mut names: Vec<String> = users.iter().map(ToString::to_string).collect();
    names.sort();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn unclaimed_token(listed: &Listed, before: &DataFastAccountStatus, now: Timestamp) -> UnclaimedToken {
    let token = &listed.token;
    let id = token.id.to_string();
    let shown = before.unclaimed.iter().find(|old| old.token_id == id).and_then(|old| old.last_used_at.as_ref());
    UnclaimedToken {
        token_name: token.name.clone(),
        display_key: status::shown_key(token),
        created_at: token.created_at.map(status::time),
        last_used_at: last_used(shown.map(|time| time.0), token.last_used_at, None, now).map(status::time),
        token_id: id,
    }
}
