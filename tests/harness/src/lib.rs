//! What the tests and the demo stand on: a real Kubernetes control plane ([`ControlPlane`]), the operator as a real
//! process ([`Operator`]), and a proxy that stops it between any two writes ([`Cutter`], [`Plan`]).
//!
//! Every process ends with the one that started it, however that one ends.
//!
//! ```no_run
//! # async fn example() -> datafast_harness::Result<()> {
//! use datafast_harness::{ControlPlane, Cutter, Operator, OperatorOptions, Plan, Side};
//!
//! let cluster = ControlPlane::shared().await?;
//! datafast_harness::install(&cluster).await?;
//! let plan = Plan::cut(3, Side::After);
//! let cutter = Cutter::to_cluster(&plan, &cluster).await?;
//! let kubeconfig = cluster.kubeconfig_operator(Some(cutter.url()))?;
//! let operator = Operator::start(OperatorOptions::new("target/debug/datafast-operator", kubeconfig))?;
//! println!("killed at {}", plan.reached().await);
//! operator.kill().await?;
//! # Ok(())
//! # }
//! ```

mod access;
mod binaries;
mod control_plane;
mod cutter;
mod error;
mod files;
mod helpers;
mod install;
mod lost;
mod operator;
mod plan;
mod process;
mod storage;

pub use control_plane::ControlPlane;
pub use cutter::Cutter;
pub use error::{Error, Result};
pub use helpers::{
    Outcome, WAIT, apply_yaml, condition, eventually, namespace, parse_yaml, plain_http, server_error, wait_condition,
    wait_gone,
};
pub use install::{OPERATOR_NAMESPACE, install, wait_established};
pub use operator::{Ended, Operator, OperatorOptions};
pub use plan::{At, Entry, Fault, Plan, Side, late_answers};
pub use process::free_port;
