//! The credential of the account resource: read from its Secret, and handed to the account.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use zeroize::Zeroizing;

use super::lenient::Lenient;
use super::{Context, Error, asked};
use crate::account::{Account, Setup};
use crate::api::DataFastAccount;
use crate::datafast::{Client, RawKey};
use crate::telemetry::OfAccount;

const READING: &str = "Reading the credential's Secret";

/// Whether the account belongs to the operator of other namespaces: neither its users nor its credential are here.
pub(super) async fn is_foreign(resource: &DataFastAccount, ctx: &Context) -> Result<bool, Error> {
    if ctx.settings.watch_namespaces.is_empty() {
        return Ok(false);
    }
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.settings.namespace);
    match asked(READING, secrets.get_opt(&resource.spec.credentials_secret_ref.name)).await {
        Err(error) if error.is_forbidden() => Ok(true),
        other => Ok(other?.is_none()),
    }
}

/// Reads the credential and hands it to the account. Returns whether it is another one than before.
pub(super) async fn connect(
    resource: &Lenient<DataFastAccount>,
    ctx: &Context,
    account: &Account,
) -> Result<bool, Error> {
    // What it allows may be less than can be read.
    if let Some(unreadable) = resource.unreadable() {
        let what = &unreadable.what;
        let why = format!("this version of the operator can't read {what}: upgrade the operator, or correct the field");
        account.disconnect(Setup::NoTransport(why));
        return Ok(false);
    }
    let base_url = resource.base_url();
    let reference = &resource.spec.credentials_secret_ref;
    let namespace = &ctx.settings.namespace;
    let (name, key) = (&reference.name, resource.credentials_key());
    if base_url.starts_with("http://") && !ctx.settings.allow_plain_http {
        let why = format!(
            "spec.baseUrl {base_url} would send the credential in clear text: use https://, or run the operator with --allow-plain-http"
        );
        account.disconnect(Setup::NoTransport(why));
        return Ok(false);
    }
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let secret = match asked(READING, secrets.get_opt(name)).await {
        // One that was read before goes on being used while the API server is in trouble.
        Err(error) if error.is_forbidden() || !account.is_connected() => {
            let why = format!("Secret {name:?} in namespace {namespace:?} can't be read: {}", error.words());
            account.disconnect(Setup::NoCredential(why));
            return Err(error);
        }
        other => other?,
    };
    let credential = match secret {
        None => Err(format!(
            "there is no Secret {name:?} in namespace {namespace:?}: create it with a DataFast token under {key:?}"
        )),
        Some(secret) => match secret.data.unwrap_or_default().remove(key) {
            None => Err(format!(
                "Secret {name:?} in namespace {namespace:?} has no entry {key:?}: put a DataFast token there"
            )),
            Some(entry) => RawKey::of_entry(&Zeroizing::new(entry.0))
                .map_err(|flaw| format!("entry {key:?} of Secret {name:?} in namespace {namespace:?} {flaw}")),
        },
    };
    let credential = match credential {
        Ok(credential) => credential,
        Err(why) => {
            account.disconnect(Setup::NoCredential(why));
            return Ok(false);
        }
    };
    let version = credential.fingerprint(base_url);
    let observer = Arc::new(OfAccount::new(ctx.metrics.clone(), account.name()));
    let new = || Client::new(&ctx.transport, base_url, credential, observer);
    match account.connect(new, version, base_url) {
        Ok(is_new) => Ok(is_new),
        Err(error) => {
            account.disconnect(Setup::NoTransport(error.to_string()));
            Ok(false)
        }
    }
}
