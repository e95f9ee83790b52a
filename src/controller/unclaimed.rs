//! Tokens that this cluster caused and that no resource's record names: reported, never revoked on a guess.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::Store;

use super::Context;
use super::observe::status_record;
use crate::api::names;
use crate::lifecycle::marker::{Nonce, OwnerId};
use crate::lifecycle::record::{Log, SecretRecord};
use crate::lifecycle::snapshot::{Listed, Snapshot};
use crate::lock::lock;

/// An account's tokens, by whose they are.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    /// Named by a resource's status.
    pub(super) managed: usize,
    /// Named by a resource's status as on the way out.
    pub(super) retiring: usize,
    /// Marked by this cluster, and nobody's.
    pub(super) unclaimed: Vec<&'a Listed>,
    /// All others.
    pub(super) foreign: usize,
}

/// What was read last, and until when it serves, by the steady clock.
#[derive(Default)]
pub(crate) struct LastClaims(Mutex<Option<(Duration, Arc<Claims>)>>);

/// Reading takes at most this part of the time, however many accounts ask: what was read serves for so many times as long
/// as that took.
const SERVES: u32 = 20;

/// What all resources' records name, whatever their account: two account resources may lead to one DataFast account.
pub(crate) struct Claims {
    /// When they were read.
    at: Timestamp,
    ids: BTreeMap<String, bool>,
    attempts: BTreeSet<(OwnerId, Nonce)>,
}

impl Claims {
    /// As of now, or a little sooner: with many resources, reading them for each account would take all the time there is.
    pub(super) async fn recent(ctx: &Arc<Context>) -> Arc<Self> {
        let steady = ctx.settings.clock.steady();
        if let Some((until, claims)) = &*lock(&ctx.claims.0)
            && steady < *until
        {
            return claims.clone();
        }
        let reader = ctx.clone();
        // Not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            (Arc::new(Self::read(&reader, reader.now())), start.elapsed())
        });
        let (claims, took) = match read.await {
            Ok(read) => read,
            Err(_) => (Arc::new(Self::read(ctx, ctx.now())), Duration::ZERO),
        };
        *lock(&ctx.claims.0) = Some((steady + took * SERVES, claims.clone()));
        claims
    }

    fn read(ctx: &Context, now: Timestamp) -> Self {
        let mut claims = Self { at: now, ids: BTreeMap::new(), attempts: BTreeSet::new() };
        let mut owners = BTreeMap::new();
        for resource in ctx.resources() {
            let status = status_record(&*resource);
            claims.ids.extend(status.retiring.iter().map(|id| (id.to_string(), true)));
            claims.ids.extend(status.token_id.iter().map(|id| (id.to_string(), false)));
            let owner = resource.owner_id();
            let log = Log::read(resource.annotations(), now);
            claims.attempts.extend(log.0.into_iter().map(|attempt| (owner.clone(), attempt.nonce)));
            let memory = ctx.memories.known(resource.uid());
            let in_hand =
                memory.and_then(|memory| lock(&memory).local().pending().map(|pending| pending.nonce.clone()));
            claims.attempts.extend(in_hand.map(|nonce| (owner.clone(), nonce)));
            owners.insert((resource.namespace().to_owned(), resource.owner()), owner);
        }
        for secret in ctx.secrets.iter().flat_map(Store::state) {
            let Some(named) = secret.annotations().get(names::OWNER) else { continue };
            let Some(owner) = owners.get(&(secret.namespace().unwrap_or_default(), named.clone())) else { continue };
            let record = SecretRecord::read(secret.annotations(), now);
            let previous = record.previous.iter().filter_map(|previous| Nonce::parse(&previous.token));
            claims.attempts.extend(record.attempt.into_iter().chain(previous).map(|nonce| (owner.clone(), nonce)));
        }
        claims
    }

    /// Counts the tokens of a list.
    pub(super) fn tally<'a>(&self, ctx: &Context, snapshot: &'a Snapshot) -> Tally<'a> {
        let mut tally = Tally::default();
        // With a part of the cluster out of sight, a token that nobody seems to claim may be somebody's.
        let sees_all = ctx.settings.watch_namespaces.is_empty();
        for listed in snapshot.tokens() {
            let marker = listed.marker.as_ref().filter(|marker| marker.cluster == ctx.cluster);
            let claimed = marker.is_some_and(|m| self.attempts.contains(&(m.owner.clone(), m.nonce.clone())));
            match self.ids.get(listed.token.id.as_str()) {
                Some(true) => tally.retiring += 1,
                Some(false) => tally.managed += 1,
                None if claimed => tally.managed += 1,
                None if marker.is_some() && sees_all && !self.may_lack(ctx, listed) => tally.unclaimed.push(listed),
                None => tally.foreign += 1,
            }
        }
        tally
    }

    /// What is recorded of a token that had just been issued may not have reached our watches when they were read.
    fn may_lack(&self, ctx: &Context, listed: &Listed) -> bool {
        listed.token.created_at.is_some_and(|created| self.at.duration_since(created) < ctx.horizon())
    }
}
