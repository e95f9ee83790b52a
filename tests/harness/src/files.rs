//! The files of one control plane: its folder, keys, tokens, audit policy, kubeconfigs.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use data_encoding::BASE64;
use serde_json::json;

use crate::{
    binaries::target_dir,
    error::{Context, Error, Result},
};

/// How long the logs of an ended run are kept for whoever wants to know why a test failed.
const KEEP_LOGS: Duration = Duration::from_secs(3600);

/// Who may log in, by static token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Admin,
    ControllerManager,
    Operator,
}

impl Identity {
    const ALL: [Self; 3] = [Self::Admin, Self::ControllerManager, Self::Operator];

    /// Tokens may be known: the server listens on loopback, and holds nothing but the data of tests.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::Admin => "admin-token",
            Self::ControllerManager => "controller-manager-token",
            Self::Operator => "operator-token",
        }
    }

    fn user(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ControllerManager => "system:kube-controller-manager",
            Self::Operator => "system:serviceaccount:datafast-system:datafast-operator",
        }
    }

    /// The API server adds `system:authenticated` to each.
    fn groups(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::ControllerManager => "",
            Self::Operator => "system:serviceaccounts,system:serviceaccounts:datafast-system",
        }
    }
}

/// The token file of the API server: `token,user,uid,"group,group"`.
pub(crate) fn token_file() -> String {
    let line = |i: &Identity| format!("{},{},{},\"{}\"\n", i.token(), i.user(), i.user(), i.groups());
    Identity::ALL.iter().map(line).collect()
}

/// Bodies of all requests and answers, but for what is Secret, for what only makes noise, and for what the admin reads.
pub(crate) fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            // Tests look at everything, again and again.
            { "level": "None", "users": [Identity::Admin.user()], "verbs": ["get", "list", "watch"] },
            { "level": "Metadata", "resources": [
                { "group": "", "resources": ["secrets", "serviceaccounts/token", "events"] },
                { "group": "authentication.k8s.io" },
                { "group": "events.k8s.io" },
                { "group": "coordination.k8s.io", "resources": ["leases"] },
            ] },
            { "level": "RequestResponse" },
        ],
    })
    .to_string()
}

/// The rights of a tenant, as YAML documents.
pub(crate) fn tenant_role(user: &str) -> String {
    let api_group = "rbac.authorization.k8s.io";
    let api_version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({ "name": format!("tenant-{user}") });
    let role = json!({
        "apiVersion": api_version,
        "kind": "Role",
        "metadata": metadata,
        "rules": [
            { "apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["*"] },
            { "apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["*"] },
            { "apiGroups": ["datafa.st"], "resources": ["datafastaccesstokens", "datafastwebsitekeys"], "verbs": ["*"] },
        ],
    });
    let binding = json!({
        "apiVersion": api_version,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": { "apiGroup": api_group, "kind": "Role", "name": metadata["name"] },
        "subjects": [{ "apiGroup": api_group, "kind": "User", "name": user }],
    });
    format!("{role}\n---\n{binding}\n")
}

/// A key pair in PEM, private and public, with which the API server signs and checks the tokens of service accounts.
pub(crate) fn signing_key() -> Result<(String, String)> {
    let failed = |_| Error::new("no key could be made");
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
    let private = key.to_pkcs8v1().map_err(failed)?;
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).map_err(failed)?;
    Ok((pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A kubeconfig. JSON is YAML.
pub(crate) fn kubeconfig(server: &str, ca: Option<&[u8]>, identity: Identity) -> serde_json::Value {
    let mut cluster = json!({ "server": server });
    if let Some(ca) = ca {
        cluster["certificate-authority-data"] = BASE64.encode(ca).into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": identity.user(), "user": { "token": identity.token() } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": identity.user() } }],
        "current-context": "test",
    })
}

/// A folder for one control plane. A lock on a file in it tells that it is in use; it goes when the process ends.
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    pub(crate) fn create() -> Result<Self> {
        let runs = target_dir().join("harness");
        fs::create_dir_all(&runs).context(runs.display())?;
        sweep(&runs);
        let path = runs.join(format!("{}-{:06}", std::process::id(), rand::random_range(0..1_000_000)));
        fs::create_dir(&path).context(path.display())?;
        let lock = File::create(path.join(".lock")).context(path.display())?;
        lock.lock().context(path.display())?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, content).context(path.display())?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path.join("etcd"));
    }
}

/// Clears up after earlier runs: the data of all that have ended, and their logs after a while. Nothing here matters
/// enough to fail.
fn sweep(runs: &Path) {
    for run in fs::read_dir(runs).into_iter().flatten().flatten() {
        let Ok(lock) = File::open(run.path().join(".lock")) else { continue };
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))) {
            continue;
        }
        let _ = fs::remove_dir_all(run.path().join("etcd"));
        let age = lock.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEEP_LOGS) {
            let _ = fs::remove_dir_all(run.path());
        }
    }
}
