//! Whoever is slow is not given more to do: the API server and DataFast, each with answers that take up to two minutes, in
//! virtual time.

use jiff::SignedDuration;

use crate::lifecycle::event::Event;
use crate::lifecycle::local::Preflight;
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::{Simulator, Slowness};

/// Milliseconds that an answer takes.
const ANSWERS: [i64; 6] = [100, 1_000, 10_000, 29_000, 60_000, 120_000];
/// A request to DataFast is waited for no longer.
const LONGEST_REQUEST: i64 = 30_000;

fn slow(kubernetes: i64, datafast: i64) -> Slowness {
    let [kubernetes, datafast] = [kubernetes, datafast].map(SignedDuration::from_millis);
    Slowness { kubernetes, datafast }
}

/// A new resource, for so many hours, beside an account that is listed every minute.
fn issue(slowness: Slowness, hours: i64) -> Simulator {
    let mut this = Simulator::new(Scene::new().change(|s| s.snapshot = None));
    this.slowness = slowness;
    this.list();
    go_on(&mut this, hours);
    this
}

fn go_on(this: &mut Simulator, hours: i64) {
    let end = this.steady + SignedDuration::from_hours(hours);
    while this.steady < end {
        if let Some(decision) = this.step() {
            this.wait(&decision);
        }
    }
}

fn reason(this: &mut Simulator) -> Reason {
    this.run().expect("it comes to rest").verdict.reason
}

#[test]
fn each_token_is_issued_once_however_slow_the_answers_are() {
    for kubernetes in ANSWERS {
        for datafast in ANSWERS {
            let mut this = issue(slow(kubernetes, datafast), 4);
            let (posts, writes) = (this.causes.len(), this.writes);
            println!("API server {kubernetes} ms, DataFast {datafast} ms: {posts} requests, {writes} writes");
            if datafast > LONGEST_REQUEST {
                assert_eq!((posts, reason(&mut this)), (0, Reason::ApiUnavailable), "its list has never been answered");
                assert_eq!(writes, 0, "but for its conditions");
                continue;
            }
            assert_eq!((posts, reason(&mut this)), (1, Reason::Issued), "{kubernetes} ms, {datafast} ms");
            assert!(this.has_live_key() && this.remote.len() == 1);
            // A record and its dry run, the Secret, status: and where all of it takes two minutes, the record again.
            let most = if kubernetes > 75_000 { 6 } else { 4 };
            assert!(writes <= most, "{kubernetes} ms, {datafast} ms: {writes} writes");
        }
    }
}

/// A dry run that hangs in a webhook is as bad as a record that does.
#[test]
fn an_api_server_slower_than_any_horizon_is_asked_ever_less_often() {
    let mut this = issue(slow(1_000_000, 100), 24);
    assert_eq!(this.causes, [], "nothing could be sent safely");
    assert!(this.writes <= 80, "{} writes in a day", this.writes);
    let decision = this.run().expect("it comes to rest");
    assert_eq!(decision.verdict.reason, Reason::Issuing);
    assert!(decision.verdict.message.contains("The API server took 16m 40s"), "{}", decision.verdict.message);
    this.slowness = slow(100, 100);
    let before = this.writes;
    go_on(&mut this, 2);
    assert_eq!((this.causes.len(), reason(&mut this)), (1, Reason::Issued), "it is well again");
    assert!(this.writes - before <= 5, "{} writes since", this.writes - before);
}

#[test]
fn a_datafast_that_stops_answering_gets_one_request_for_a_token() {
    for kubernetes in ANSWERS {
        let mut this = issue(slow(kubernetes, 100), 0);
        this.slowness = slow(kubernetes, 120_000);
        go_on(&mut this, 6);
        assert_eq!((this.causes.len(), reason(&mut this)), (1, Reason::ApiUnavailable));
        assert!(this.writes <= 8, "{kubernetes} ms: {} writes", this.writes);
        this.slowness = slow(kubernetes, 100);
        go_on(&mut this, 6);
        assert_eq!((this.causes.len(), reason(&mut this)), (2, Reason::Issued), "the first one's answer was lost");
        assert!(this.has_live_key() && this.remote.len() == 1, "and its token revoked");
        assert!(this.writes <= 16, "{kubernetes} ms: {} writes", this.writes);
    }
}

/// The dry run is part of what an attempt waits for.
#[test]
fn a_refused_secret_costs_no_record_however_slow_the_refusal_is() {
    let mut scene = Scene::recorded(Preflight::Refused(refused(now())));
    scene.now = later(10);
    let (attempt, took) = (scene.log.0[0].clone(), SignedDuration::from_mins(10));
    scene.happens(Event::Recorded { attempt, took, horizon: HORIZON });
    assert_eq!(scene.action(), crate::lifecycle::decision::Action::Preflight);
}
