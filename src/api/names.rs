//! Names that this operator reads and writes on other people's objects. They are part of its contract: manifests,
//! dashboards and backups depend on them.

/// Prefix of every label and annotation of ours; users may not set names below it on the Secret.
pub const PREFIX: &str = "datafa.st/";
/// Field manager of every write, and the value of [`MANAGED_BY`] on our Secrets.
pub const MANAGER: &str = "datafast-operator";
/// Label that selects our Secrets, with [`MANAGER`] as its value.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Finalizer of tokens and website keys: what was issued is revoked before the resource goes.
pub const FINALIZER_REVOKE: &str = "datafa.st/revoke";
/// Finalizer of accounts: a resource still refers to the account.
pub const FINALIZER_IN_USE: &str = "datafa.st/in-use";

/// On a resource, by users: any new value asks for one rotation, with overlap.
pub const ROTATE: &str = "datafa.st/rotate";
/// On a resource, by users: any new value asks for a new token and for the old one to be revoked at once.
pub const REVOKE_NOW: &str = "datafa.st/revoke-now";
/// On a resource, by users: `"true"` lets it go without asking DataFast.
pub const ABANDON: &str = "datafa.st/abandon";
/// On a resource, by the operator: the log of attempts, written before each request that issues.
pub const ATTEMPTS: &str = "datafa.st/attempts";

/// On a Secret: `<Kind>/<name>` of the resource that it belongs to.
pub const OWNER: &str = "datafa.st/owner";
/// On a Secret: `<namespace>/<uid>` of that resource, so that a copy elsewhere is told from the original. Older Secrets
/// lack it.
pub const OWNER_UID: &str = "datafa.st/owner-uid";
/// On a Secret: the attempt whose key it holds.
pub const ATTEMPT: &str = "datafa.st/attempt";
/// On a Secret: DataFast's id of the token whose key it holds. Users write it to have an existing key taken over.
pub const TOKEN_ID: &str = "datafa.st/token-id";
/// On a Secret: when that token was issued.
pub const ISSUED_AT: &str = "datafa.st/issued-at";
/// On a Secret: attempts whose keys it held before and that are not yet known to be gone.
pub const PREVIOUS: &str = "datafa.st/previous";
/// On a Secret: the value of [`ROTATE`] or [`REVOKE_NOW`] that was answered last. What of each its key answers is in
/// annotations of the same names as on the resource.
pub const REQUEST: &str = "datafa.st/request";
/// On a workload's pod template, as `kubectl rollout restart` sets it.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// On a Secret: hash of the scope and name that its token was issued with.
pub const SPEC_HASH: &str = "datafa.st/spec-hash";
/// On a Secret: salted hash of the key that the operator wrote.
pub const KEY_SHA256: &str = "datafa.st/key-sha256";

/// How the marker begins that the operator appends to a token's name at DataFast. Users' names may not contain it.
pub const MARKER_START: &str = "[k8s:";

/// Condition type: the resource does what its spec asks for.
pub const READY: &str = "Ready";
/// Condition type: work is under way (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// Condition type: a person must act (kstatus).
pub const STALLED: &str = "Stalled";
