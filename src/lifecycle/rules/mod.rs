//! The rules, one file for each subject. [`super::decide::RULES`] says in which order they apply.

pub(super) mod attempt;
pub(super) mod delivery;
pub(super) mod ending;
pub(super) mod finalizer;
pub(super) mod issuing;
mod rewriting;
pub(super) mod secret;
pub(super) mod standing;
pub(super) mod superseded;
mod swap;
pub(super) mod unused;
