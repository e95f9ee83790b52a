//! It does what is decided, and tells the core what came of it.

use super::*;

impl Simulator {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::AddFinalizer => {
                self.scene.has_finalizer = true;
                self.kubernetes(1);
                self.apply(Event::FinalizerAdded);
            }
            Action::Record { again, at, cause, keep, adopted, rolls } => {
                self.scene.adopted = adopted;
                let nonce = again.unwrap_or_else(|| nonce(self.next));
                self.next += 1;
                let requests = self.scene.desired.requests.clone();
                self.record(Attempt { nonce, at, cause, requests, rolls }, keep);
            }
            Action::Preflight => {
                self.kubernetes(1);
                self.apply(Event::DryRun(Ok(())));
            }
            Action::Send { nonce, cause, rolls, by } => {
                assert!(self.scene.now <= by, "sent at {}, to be sent by {by}", self.scene.now);
                self.send(nonce, cause, rolls);
            }
            Action::DropKey => self.apply(Event::KeyDropped),
            Action::Swap { record } => {
                self.write(record, true);
                self.swapped = Some(self.scene.now);
                self.apply(Event::SecretWritten);
            }
            Action::Rewrite { record, asked, adopts } => {
                self.scene.adopted.extend(adopts);
                self.write(record, false);
                self.apply(Event::SecretRewritten { asked, as_written: true });
            }
            Action::Prove { token_id } => {
                let key_sha256 = self.scene.secret().key.as_ref().unwrap().fingerprint(token_id.as_str());
                let live = self.remote.get(&token_id).map(live_key);
                let hidden = || self.takes_hidden_keys.then(|| key(random::number(&token_id)));
                let proven = live.or_else(hidden).is_some_and(|key| key_sha256 == key.fingerprint(token_id.as_str()));
                self.apply(Event::Tried { token_id, key_sha256, outcome: Ok(proven) });
            }
            Action::Revoke { token_id, cause } => self.revoke(token_id, cause),
            Action::Restart { at } => {
                self.restarted.push(at);
                self.apply(Event::Restarted { at });
            }
            Action::DeleteSecret => self.scene.secret = SecretView::Missing,
            Action::Release => {
                self.scene.has_finalizer = false;
                self.released = true;
            }
        }
    }

    pub(super) fn record(&mut self, attempt: Attempt, keep: Vec<Attempt>) {
        let start = self.scene.now;
        self.apply(Event::Recording { nonce: attempt.nonce.clone() });
        self.scene.has_finalizer = true;
        self.scene.log.0 = keep;
        self.scene.log.0.push(attempt.clone());
        self.kubernetes(2);
        let took = self.scene.now.duration_since(start);
        self.apply(Event::Recorded { attempt, took, horizon: self.scene.horizon });
        self.apply(Event::DryRun(Ok(())));
    }

    pub(super) fn send(&mut self, sent: Nonce, cause: Cause, rolls: Option<TokenId>) {
        let Desired { scope, requests, .. } = &self.scene.desired;
        let order = Order { nonce: sent.clone(), spec_hash: scope.hash(), requests: requests.clone(), rolls };
        self.apply(Event::Sending { nonce: sent.clone() });
        let n = (0..=u8::MAX).find(|n| nonce(*n) == sent).unwrap();
        let made = match &order.rolls {
            None => self.issue(n, cause),
            Some(token_id) => self.roll(n, cause, token_id.clone()),
        };
        let answer = match made {
            Ok(token_id) => {
                self.pending_key = Some(key(n));
                Answer::Issued { key_sha256: Some(key(n).fingerprint(token_id.as_str())), token_id }
            }
            Err(error) => Answer::Failed(error),
        };
        self.apply(Event::Sent { order, answer });
    }

    pub(super) fn issue(&mut self, n: u8, cause: Cause) -> Result<TokenId, Error> {
        self.causes.push(cause);
        let issued = Token { permissions: self.scene.desired.scope.permissions.clone(), ..token(n) };
        self.remote.insert(issued.id.clone(), issued.clone());
        if !self.datafast() {
            // Until a list is answered.
            self.scene.availability = Availability::Unavailable("no answer".into());
            return Err(Error::Unavailable { reason: "no answer".into(), effect: Effect::Unknown });
        }
        let now = self.scene.now;
        self.scene.snapshot.iter_mut().for_each(|s| s.issued(issued.clone(), now));
        self.scene.free = self.scene.free.map(|free| free - 1);
        Ok(issued.id)
    }

    pub(super) fn roll(&mut self, n: u8, cause: Cause, token_id: TokenId) -> Result<TokenId, Error> {
        self.rolls.push((token_id.clone(), cause));
        let now = self.scene.now;
        self.remote.get_mut(&token_id).ok_or(Error::NotFound)?.display_key = key(n).mask();
        self.scene.snapshot.iter_mut().for_each(|s| s.rolled(&token_id, &key(n).mask(), now));
        Ok(token_id)
    }

    pub(super) fn revoke(&mut self, token_id: TokenId, cause: RevokeCause) {
        let now = self.scene.now;
        let existed = self.remote.remove(&token_id).is_some();
        self.scene.free = self.scene.free.map(|free| free + i64::from(existed));
        if existed {
            self.revoked.insert(token_id.clone(), now);
            self.to_tell.push(Revocation { at: now, token_id: token_id.clone(), display_key: None, cause });
            self.scene.snapshot.iter_mut().for_each(|s| s.revoked(&token_id, now));
        }
        let outcome = if existed { Ok(()) } else { Err(Some(Error::NotFound)) };
        self.apply(Event::Revoked { token_id, cause, outcome });
    }

    /// The API server is asked to write, so many things at once.
    pub(super) fn kubernetes(&mut self, writes: usize) {
        self.writes += writes;
        self.pass(self.slowness.kubernetes);
    }

    /// DataFast is asked. Whether it answers in time.
    pub(super) fn datafast(&mut self) -> bool {
        let takes = self.slowness.datafast;
        self.pass(takes.min(LONGEST_REQUEST));
        takes <= LONGEST_REQUEST
    }

    /// Through text, as the API server stores it.
    pub(super) fn write(&mut self, record: SecretRecord, swap: bool) {
        self.kubernetes(1);
        let annotations = record.annotations().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let record = SecretRecord::read(&annotations.collect(), self.scene.now);
        let key = if swap { self.pending_key.clone() } else { self.scene.secret().key.clone() };
        let facts = SecretFacts { owner: SecretOwner::This, record, key, flaw: None, drift: Drift::default() };
        self.scene.secret = SecretView::Present(facts);
    }
}
