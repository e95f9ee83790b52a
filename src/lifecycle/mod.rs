//! The core: what is known about one resource, what to do next, and what every outcome means.
//!
//! Everything here is a pure function over plain data. The shell ([`crate::controller`]) observes, calls
//! [`decide::decide`], performs the one action that it names, and has [`local::Local::apply`] take note of what came of it.
//!
//! Invariant: no Kubernetes client, no HTTP, no clock, no randomness. Time and nonces are arguments. Nothing outside writes
//! a field of [`local::Local`].

pub mod adoptions;
pub mod allow;
mod context;
pub mod decide;
pub mod decision;
pub mod desired;
pub mod event;
pub mod facts;
pub mod failure;
pub mod history;
pub mod left_behind;
pub mod local;
pub mod marker;
pub mod news;
pub mod observed;
pub mod ownership;
pub mod queue;
pub mod record;
mod rules;
pub mod secret_state;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod throttle;
mod timing;
pub mod verdict;
pub mod windows;
