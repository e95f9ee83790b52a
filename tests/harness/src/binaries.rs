//! Where the programs of the control plane are.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The programs of a control plane.
pub(crate) struct Binaries {
    pub(crate) etcd: PathBuf,
    pub(crate) apiserver: PathBuf,
    pub(crate) controller_manager: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl Binaries {
    /// Those of `KUBEBUILDER_ASSETS`, which may lack the controller manager, else what `make control-plane` built.
    pub(crate) fn find() -> Result<Self> {
        let built = target_dir().join("control-plane");
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|v| !v.is_empty()).map(PathBuf::from);
        Self::in_folders(assets.as_deref(), &built)
    }

    fn in_folders(assets: Option<&Path>, built: &Path) -> Result<Self> {
        let find = |name: &str, folders: &[&Path]| {
            let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| {
                let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
                Error::new(format!("no {name} in {}: run: make control-plane", folders.join(" nor ")))
            })
        };
        let main = assets.unwrap_or(built);
        Ok(Self {
            etcd: find("etcd", &[main])?,
            apiserver: find("kube-apiserver", &[main])?,
            controller_manager: match assets {
                Some(assets) => find("kube-controller-manager", &[assets, built])?,
                None => find("kube-controller-manager", &[built])?,
            },
            kubectl: find("kubectl", &[main])?,
        })
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// Cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty());
    workspace().join(named.unwrap_or_else(|| "target".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_says_what_to_run() {
        let error = Binaries::in_folders(None, Path::new("/nonexistent")).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("no etcd in /nonexistent: run: make control-plane"));
    }
}
