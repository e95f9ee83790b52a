//! The sandbox keeps the documented rules, and makes the faults that it promises.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod control;
mod faults;
mod rules;

use datafast_sandbox::{Account, AccountOptions, Options, Sandbox};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

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
        let body: Value = self.list().send().await.unwrap().json().await.unwrap();
        body["data"].as_array().unwrap().clone()
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
