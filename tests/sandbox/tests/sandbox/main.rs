//! The sandbox keeps the documented rules, and makes the faults that it promises.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod control;
mod faults;
mod rate_window;
mod rules;
mod website_key_faults;
mod website_keys;

use std::time::Duration;

use datafast_sandbox::{Account, AccountOptions, Options, Sandbox};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// Two websites.
const SITE: &str = "65a1b2c3d4e5f60718293a01";
const OTHER_SITE: &str = "65a1b2c3d4e5f60718293a02";

/// After which a client does not wait any longer. Long enough for what happens to a request before it gets no answer.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// By which lists lag: long enough for a list right after a change.
const LAG: Duration = Duration::from_secs(2);

/// Until lists show what there was before this.
async fn lag_passes() {
    tokio::time::sleep(LAG + Duration::from_millis(10)).await;
}

/// A sandbox with one account, and a client that speaks with its credential.
struct World {
    sandbox: Sandbox,
    account: Account,
    http: reqwest::Client,
}

impl World {
    async fn new() -> Self {
        Self::with(AccountOptions::default()).await
    }

    async fn with(options: AccountOptions) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let account = sandbox.account(options);
        // No pool: a connection that a fault cut must not disturb the next request.
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { sandbox, account, http }
    }

    fn request(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.sandbox.base_url())).bearer_auth(key)
    }

    fn list(&self) -> RequestBuilder {
        self.request(Method::GET, "/access-tokens", &self.account.credential())
    }

    fn create(&self, body: &Value) -> RequestBuilder {
        self.create_as(&self.account.credential(), body)
    }

    fn create_as(&self, key: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, "/access-tokens", key).json(body)
    }

    fn delete(&self, id: &str) -> RequestBuilder {
        self.delete_as(&self.account.credential(), id)
    }

    fn delete_as(&self, key: &str, id: &str) -> RequestBuilder {
        self.request(Method::DELETE, &format!("/access-tokens/{id}"), key)
    }

    async fn listed(&self) -> Vec<Value> {
        all_data(self.list()).await
    }

    fn list_keys(&self, website: &str) -> RequestBuilder {
        self.list_keys_as(&self.account.credential(), website)
    }

    fn list_keys_as(&self, key: &str, website: &str) -> RequestBuilder {
        self.request(Method::GET, &format!("/websites/{website}/apikeys"), key)
    }

    fn create_key(&self, website: &str, body: &Value) -> RequestBuilder {
        self.create_key_as(&self.account.credential(), website, body)
    }

    fn create_key_as(&self, key: &str, website: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, &format!("/websites/{website}/apikeys"), key).json(body)
    }

    fn roll_key(&self, website: &str, id: &str) -> RequestBuilder {
        self.roll_key_as(&self.account.credential(), website, id)
    }

    fn roll_key_as(&self, key: &str, website: &str, id: &str) -> RequestBuilder {
        self.request(Method::PUT, &format!("/websites/{website}/apikeys/{id}"), key)
    }

    fn delete_key(&self, website: &str, id: &str) -> RequestBuilder {
        self.delete_key_as(&self.account.credential(), website, id)
    }

    fn delete_key_as(&self, key: &str, website: &str, id: &str) -> RequestBuilder {
        self.request(Method::DELETE, &format!("/websites/{website}/apikeys/{id}"), key)
    }

    async fn listed_keys(&self) -> Vec<Value> {
        all_data(self.list_keys(SITE)).await
    }

    /// Creates a key of the website; returns the object with its raw key.
    async fn created_key(&self) -> Value {
        data(self.create_key(SITE, &json!({ "name": "k" })).send().await.unwrap()).await
    }

    /// Creates a token that may read analytics; returns the object with its key.
    async fn created(&self) -> Value {
        data(self.create(&json!({ "name": "a", "permissions": ["analytics:read"] })).send().await.unwrap()).await
    }

    async fn status(&self, request: RequestBuilder) -> u16 {
        request.send().await.unwrap().status().as_u16()
    }
}

/// `data[0]` of a success.
async fn data(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    let mut body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], "success");
    body["data"][0].take()
}

async fn all_data(request: RequestBuilder) -> Vec<Value> {
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    body["data"].as_array().unwrap().clone()
}

/// Status and message of a documented failure.
async fn failure(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], "error");
    assert_eq!(body["error"]["code"], status);
    (status, body["error"]["message"].as_str().unwrap().to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
