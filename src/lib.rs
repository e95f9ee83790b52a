//! x
pub mod api;
pub mod datafast;
