//! Into etcd, past the API server: as an earlier one left it there.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{
    ControlPlane,
    error::{Context, Result},
    helpers::{ANSWERED_WITHIN, plain_http},
};

impl ControlPlane {
    /// Stores an object under its key below `/registry/`, such as `secrets/default/web`: with whatever uid, status and
    /// deletion it has, and unseen by validation and admission. It replaces what is there.
    ///
    /// # Errors
    ///
    /// Where etcd does not take it.
    pub async fn store(&self, key: &str, object: &Value) -> Result<()> {
        let body = json!({
            "key": BASE64.encode(format!("/registry/{key}").as_bytes()),
            "value": BASE64.encode(object.to_string().as_bytes()),
        });
        let http = plain_http().timeout(ANSWERED_WITHIN).build()?;
        let url = format!("http://127.0.0.1:{}/v3/kv/put", self.etcd_port);
        http.post(url).json(&body).send().await?.error_for_status().context(key)?;
        Ok(())
    }
}
