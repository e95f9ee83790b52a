//! The core: what is known about one resource, and what to do next.
//!
//! Everything here is a pure function over plain data. The shell ([`crate::controller`]) observes, calls
//! [`decide::decide`], performs the one action that it names, and asks again.
//!
//! Invariant: no Kubernetes client, no HTTP, no clock, no randomness. Time and nonces are arguments.

pub mod allow;
pub mod decide;
mod ending;
pub mod facts;
pub mod holding;
mod issuing;
pub mod local;
mod look;
pub mod marker;
pub mod observed;
pub mod queue;
pub mod record;
pub mod snapshot;
pub mod superseded;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod verdict;
