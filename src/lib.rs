//! The DataFast operator: access tokens of DataFast as Kubernetes resources.
//!
//! [`issue`] decides, [`controller`] does. See `docs/architecture.md` for the map.

pub mod account;
pub mod api;
mod causes;
pub mod clock;
pub mod controller;
pub mod datafast;
pub mod leader;
pub mod lifecycle;
mod lock;
pub mod telemetry;
mod version;
