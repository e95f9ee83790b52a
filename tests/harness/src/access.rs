//! Ways into the control plane: clients, kubeconfigs, kubectl.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::io::AsyncWriteExt;

use crate::{
    ControlPlane, apply_yaml,
    error::{Context, Result},
    files::{Identity, kubeconfig, tenant_role},
};

/// Clients and kubeconfigs. A client belongs to the tokio runtime in which it is made: make one per test.
impl ControlPlane {
    /// A client that may do everything. It belongs to the tokio runtime in which it is made, as every client does.
    ///
    /// # Errors
    ///
    /// Where no client can be made.
    pub async fn admin(&self) -> Result<Client> {
        self.client(Identity::Admin, |_| ()).await
    }

    /// A client with the operator's own identity: it may do what `deploy/install.yaml` allows.
    ///
    /// # Errors
    ///
    /// Where no client can be made.
    pub async fn operator_client(&self) -> Result<Client> {
        self.client(Identity::Operator, |_| ()).await
    }

    /// A client for any user. The API server adds `system:authenticated` to the groups.
    ///
    /// # Errors
    ///
    /// Where no client can be made.
    pub async fn impersonate(&self, user: &str, groups: &[&str]) -> Result<Client> {
        self.client(Identity::Admin, |config| {
            config.auth_info.impersonate = Some(user.into());
            config.auth_info.impersonate_groups = Some(groups.iter().map(ToString::to_string).collect());
        })
        .await
    }

    /// A client for a tenant: a user who may do everything with the Secrets, workloads and DataFast resources of this
    /// namespace, but not write the status of the latter.
    ///
    /// # Errors
    ///
    /// Where the namespace is not there.
    pub async fn tenant(&self, user: &str, namespace: &str) -> Result<Client> {
        apply_yaml(&self.admin().await?, "datafast-harness", namespace, &tenant_role(user)).await?;
        self.impersonate(user, &[]).await
    }

    /// A kubeconfig file for the admin.
    pub fn kubeconfig_admin(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// A kubeconfig file with the operator's identity, for another server where one is given, such as a
    /// [`Cutter`](crate::Cutter).
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn kubeconfig_operator(&self, server_override: Option<&str>) -> Result<PathBuf> {
        let server = server_override.map_or_else(|| self.url(), str::to_owned);
        let port = server.rsplit(':').next().unwrap_or_default().trim_end_matches('/').to_owned();
        self.write_kubeconfig(&format!("operator-{port}"), &server, Identity::Operator)
    }

    /// Runs kubectl as the admin. Whether it succeeded is in the output's status.
    ///
    /// # Errors
    ///
    /// Where kubectl cannot be run at all.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.kubectl_with_input(args, "").await
    }

    /// As [`ControlPlane::kubectl`], with a text for its standard input (`apply -f -`).
    ///
    /// # Errors
    ///
    /// Where kubectl cannot be run at all.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = tokio::process::Command::new(&self.binaries.kubectl)
            .args(args)
            .env("KUBECONFIG", self.kubeconfig_admin())
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that does not read its input may be gone by now: its output tells.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await.context("kubectl")
    }

    async fn client(&self, identity: Identity, adjust: impl FnOnce(&mut Config)) -> Result<Client> {
        let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig(&self.url(), Some(&self.ca()?), identity))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        adjust(&mut config);
        Ok(Client::try_from(config)?)
    }

    pub(crate) fn write_kubeconfig(&self, name: &str, server: &str, identity: Identity) -> Result<PathBuf> {
        let ca = if server.starts_with("https:") { Some(self.ca()?) } else { None };
        let content = serde_json::to_string_pretty(&kubeconfig(server, ca.as_deref(), identity))?;
        self.dir.write(&format!("{name}.kubeconfig"), &content)
    }
}
