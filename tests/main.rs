//! The operator as a process, a real API server, and DataFast's API in memory: what users can rely on, one file per
//! topic, one test per promise.
//!
//! Most of a test's time is waiting (accounts are listed every ten seconds), so run more of them at once than there are
//! cores: `cargo test --test e2e -- --test-threads=16`. Most share one control plane and one operator, and have a
//! namespace and an account of their own; see [`world::World`]. `make control-plane` builds the former's programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod account_outcomes;
mod accounts;
mod adoption;
mod allow;
mod capacity;
mod contested;
mod copies;
mod crash;
mod deletion;
mod endings;
mod expiry;
mod faults;
mod finalizer;
mod gitops;
mod history;
mod issuing;
mod key_loss;
mod late_writes;
mod leader;
mod logs;
mod lost_answers;
mod manifests;
mod neighbours;
mod outage;
mod outcomes;
mod policy;
mod queue;
mod quiet;
mod races;
mod record;
mod refusal;
mod replicas;
mod restarts;
mod rotation;
mod rotation_clock;
mod scope;
mod secrecy;
mod share;
mod shutdown;
mod slow;
mod storms;
mod telemetry;
mod tenants;
mod traces;
mod unused;
mod upgrade;
mod vanishing;
mod watches;
mod webhooks;
mod website_keys;
mod windows;
mod world;
