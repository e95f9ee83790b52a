//! What status says after that.

use super::*;

/// As much of a status as its history is told from.
fn shown(status: &StatusRecord, history: &[HistoryEntry]) -> KeyStatus {
    let retiring = |id: &TokenId| Retiring { token_id: id.to_string(), ..Retiring::default() };
    KeyStatus {
        token_id: status.token_id.as_ref().map(ToString::to_string),
        issued_at: status.issued_at.map(Time),
        retiring: status.retiring.iter().map(retiring).collect(),
        history: history.to_vec(),
        ..KeyStatus::default()
    }
}

impl Simulator {
    pub(super) fn mirror(&mut self, ready: bool) -> bool {
        let scene = &self.scene;
        let (status, history) = scene.observe(|seen| {
            let facts = facts(&scene.desired, seen, scene.now);
            let before = scene.status.clone();
            let before_use = before.last_used_at;
            let (token_id, attempt, marked) = match &facts.token {
                Mirror::Is(listed) => {
                    let marked = listed.marker.as_ref().map(|marker| marker.owner.clone());
                    (Some(listed.token.id.clone()), seen.attempt_of(listed).cloned(), marked)
                }
                Mirror::Keep => (before.token_id, before.attempt, before.marked),
                Mirror::Nothing => (None, None, None),
            };
            let whole_seconds = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap();
            let retiring = facts.retiring.as_ref().map(|all| {
                let until = all.iter().filter_map(|r| Some((r.listed.token.id.clone(), whole_seconds(r.until?))));
                (all.iter().map(|r| r.listed.token.id.clone()).collect(), until.collect())
            });
            let kept = || (scene.status.retiring.clone(), scene.status.revoke_after.clone());
            let (retiring, revoke_after) = retiring.unwrap_or_else(kept);
            let status = StatusRecord {
                token_id,
                attempt,
                marked,
                retiring,
                revoke_after,
                ready,
                issued_at: facts.issued_at.map(whole_seconds),
                rotate_request: facts.rotate_request.clone(),
                waiting_since: None,
                unused_since: facts.unused_since.map(whole_seconds),
                last_used_at: match &facts.token {
                    Mirror::Is(listed) => listed.token.last_used_at.map(whole_seconds),
                    Mirror::Keep => before_use,
                    Mirror::Nothing => None,
                },
            };
            let (before, after) = (shown(&scene.status, &self.history), shown(&status, &[]));
            let history = history(&before, &after, &facts, &self.to_tell, scene.now);
            (status, history)
        });
        let changed = status != self.scene.status;
        self.scene.status = status;
        if changed {
            self.history = history;
            self.to_tell.retain(|revocation| !revocation.is_told(&self.history));
            self.kubernetes(1);
        }
        changed
    }
}
