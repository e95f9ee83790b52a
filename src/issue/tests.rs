//! The core, tried without a cluster: one scene of a resource, its Secret and its account, and what is decided about it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod account;
mod adoption;
mod convergence;
mod deletion;
mod drift;
mod facts;
mod held;
mod issuing;
mod pieces;
mod properties;
mod random;
mod records;
mod retiring;
mod scenes;
mod simulator;
mod tenants;
