//! `rolloutRestart`: workloads that read the Secret only when they start are restarted after each new key.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

use super::perform::Work;
use super::{Error, pauses, words};
use crate::api::{RolloutTarget, names};
use crate::lifecycle::event::Event;

/// What else is to be done for the resource does not wait for longer. It is less than [`super::ANSWER_LIMIT`], past which all
/// workloads would be tried again because of one.
const LIMIT: Duration = Duration::from_secs(130);
/// After the first, with pauses of 3 seconds in all.
const TRIES: usize = 5;

/// What became of one workload.
enum Outcome {
    Restarted,
    /// It was restarted for this key, but its pods stay until somebody does this.
    Ineffective(&'static str),
    /// It has been restarted for this key.
    Done,
    /// Why not: for people. The rest goes on without it.
    Refused(String),
}

impl Work<'_> {
    /// Restarts all targets, each of them once however often this is done for the same key.
    pub(super) async fn restart(&mut self, at: Timestamp) -> Result<(), Error> {
        let targets = self.resource.terms().rollout_restart;
        let outcomes = join_all(targets.iter().map(async |target| {
            let outcome = tokio::time::timeout(LIMIT, self.restart_one(target, at)).await;
            outcome.unwrap_or_else(|_| Ok(Outcome::Refused("the API server did not answer in time".into())))
        }))
        .await;
        for (target, outcome) in targets.iter().zip(outcomes) {
            let workload = format!("{:?} {:?}", target.kind, target.name);
            match outcome? {
                Outcome::Done => {}
                Outcome::Ineffective(until) => {
                    tracing::warn!(workload, until, "a workload keeps its pods: its Secret has a new key");
                    let note = format!("{workload} keeps its pods, and they keep the old key, until {until}");
                    self.warn("RolloutRestartIneffective", &note);
                }
                Outcome::Restarted => {
                    tracing::info!(workload, "restarted a workload: its Secret has a new key");
                    let note = format!("{workload} was restarted for the new key in its Secret");
                    self.tell("RolloutRestarted", &note);
                }
                Outcome::Refused(why) => {
                    tracing::warn!(workload, why, "a workload could not be restarted");
                    let note = format!("{workload} could not be restarted, and may go on with the old key: {why}");
                    self.warn("RolloutRestartFailed", &note);
                }
            }
        }
        self.apply(Event::Restarted { at });
        Ok(())
    }

    /// Tries it some times: a restart that is missed is not made good for later.
    async fn restart_one(&self, target: &RolloutTarget, at: Timestamp) -> Result<Outcome, Error> {
        for pause in pauses().take(TRIES) {
            match self.try_restart(target, at).await {
                Err(kube::Error::Api(refusal)) if is_passing(&refusal) => tokio::time::sleep(pause).await,
                outcome => return refused(outcome),
            }
        }
        refused(self.try_restart(target, at).await)
    }

    async fn try_restart(&self, target: &RolloutTarget, at: Timestamp) -> kube::Result<Outcome> {
        let kind = GroupVersionKind::gvk("apps", "v1", &format!("{:?}", target.kind));
        let namespace = self.resource.namespace();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.ctx.client.clone(), namespace, &ApiResource::from_gvk(&kind));
        let workload = api.get(&target.name).await?;
        // Whatever else it has been restarted for, be it later: only this value tells that it was for this key.
        let at = at.to_string();
        let pointer = format!("/spec/template/metadata/annotations/{}", names::RESTARTED_AT.replace('/', "~1"));
        if workload.data.pointer(&pointer).and_then(Value::as_str) == Some(&at) {
            return Ok(Outcome::Done);
        }
        let annotations = json!({ names::RESTARTED_AT: at });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        let patched = api.patch(&target.name, &params, &Patch::Merge(patch)).await?;
        Ok(kept_until(&patched.data["spec"]).map_or(Outcome::Restarted, Outcome::Ineffective))
    }
}

/// Until when a workload of this spec keeps its pods though its template has changed.
fn kept_until(spec: &Value) -> Option<&'static str> {
    match (&spec["paused"], &spec["updateStrategy"]["type"]) {
        (Value::Bool(true), _) => Some("it is resumed (spec.paused is true)"),
        (_, Value::String(strategy)) if strategy == "OnDelete" => {
            Some("somebody deletes them (spec.updateStrategy is OnDelete)")
        }
        _ => None,
    }
}

/// Busy, or a webhook that does not answer.
fn is_passing(refusal: &kube::core::Status) -> bool {
    refusal.code == 429 || refusal.code >= 500
}

/// What the API server says no to is no reason to hold back anything; where it can't be reached, it is tried again.
fn refused(outcome: kube::Result<Outcome>) -> Result<Outcome, Error> {
    match outcome {
        Err(error @ kube::Error::Api(_)) => Ok(Outcome::Refused(words(&error))),
        other => Ok(other?),
    }
}
