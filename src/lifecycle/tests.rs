//! The core, tried without a cluster: one scene of a resource, its Secret and its account, and what is decided about it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod account;
mod adoption;
mod allow;
mod contest;
mod convergence;
mod copies;
mod deletion;
mod drift;
mod expiry;
mod facts;
mod finalizer;
mod hidden;
mod histories;
mod history;
mod issuing;
mod left_behind;
mod overlap;
mod pending;
mod pieces;
mod properties;
mod queue;
mod random;
mod records;
mod requests;
mod restarting;
mod retiring;
mod rolling;
mod room;
mod rotating;
mod scenes;
mod simulator;
mod slow;
mod tenants;
mod unused;
