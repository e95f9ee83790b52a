//! The resources as users write them: types, schema and the rules that the API server checks. Group `datafa.st`,
//! version `v1alpha1`.
//!
//! Invariant: nothing here decides or does anything. Accessors on the kinds apply defaults, so that no other code knows
//! one; the schema has no default in any spec, because a GitOps tool would show it as a difference for ever.
//!
//! Invariant: what the API server accepts by this version's CRDs, these types can read. What a later version's let in is read
//! without it, and flagged: `controller/lenient.rs`.

mod account;
mod crds;
mod cron;
mod key_resource;
pub mod names;
mod permission;
mod rules;
mod schemas;
mod shared;
#[cfg(test)]
mod tests;
mod token;
mod website_id;
mod website_key;
mod windows;

pub use account::{
    Allow, CredentialsSecretRef, DataFastAccount, DataFastAccountSpec, DataFastAccountStatus, RateWindow, TokenCounts,
    UnclaimedToken,
};
pub use crds::{crds, definitions};
pub use key_resource::{KeyResource, KeyStatus, TOKEN_NAME_MAX, Terms};
pub use permission::{Permission, UnknownPermission};
pub use schemas::schemas;
pub use shared::{
    AccountRef, DeletionPolicy, HistoryEntry, Retiring, RolloutKind, RolloutTarget, Rotation, SecretTemplate,
    UnusedAction, WhenFull, WhenUnused,
};
pub use token::{DataFastAccessToken, DataFastAccessTokenSpec};
pub use website_id::WebsiteId;
pub use website_key::{DataFastWebsiteKey, DataFastWebsiteKeySpec, DataFastWebsiteKeyStatus, KeyRotation, Strategy};
pub use windows::RotationWindow;
