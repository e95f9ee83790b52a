//! What works, and what DataFast refuses.

use std::sync::Arc;

use datafast_sandbox::{AccountOptions, Fault, FaultBody, Kind, Operation, Wire};

use crate::datafast::{Client, Effect, Error, SetupError, Token, TokenId};

use super::{Recorder, TOKENS, World, client, key, new_token, set};

#[tokio::test]
async fn a_token_is_created_listed_and_deleted() {
    let world = World::new().await;
    let issued = world.client.create(&TOKENS, &new_token()).await.unwrap();
    let held = &world.account.issued_tokens()[0];
    let key = issued.key.unwrap();
    assert_eq!((issued.token.id.as_str(), key.expose()), (held.id.as_str(), held.key.as_str()));
    assert_eq!(key.fits(&issued.token.display_key), Some(true));

    let listed = world.client.list(&TOKENS).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1], Token { tells_use: true, ..issued.token.clone() }, "only a list tells of its use");
    assert_eq!(listed[1].permissions, set(&["analytics:read"]));

    world.client.delete(&TOKENS, &issued.token.id).await.unwrap();
    assert!(world.account.issued_tokens().is_empty());
    assert_eq!(world.client.delete(&TOKENS, &issued.token.id).await, Err(Error::NotFound));
    let told: Vec<_> = world.recorder.taken();
    assert_eq!(
        told,
        [
            ("create_access_token", "200".to_owned()),
            ("list_access_tokens", "200".to_owned()),
            ("delete_access_token", "200".to_owned()),
            ("delete_access_token", "404".to_owned()),
        ]
    );
}

#[tokio::test]
async fn other_spellings_of_an_answer_are_understood() {
    let world = World::new().await;
    for wire in [Wire::IdSpelling, Wire::WithoutTimes, Wire::DataObject, Wire::WithoutKey] {
        world.account.set_fault(Fault::new(Operation::CreateAccessToken, Kind::Wire { wire }).once());
        let issued = world.client.create(&TOKENS, &new_token()).await.unwrap();
        assert_eq!(issued.key.is_none(), wire == Wire::WithoutKey, "{wire:?}");
        world.client.delete(&TOKENS, &issued.token.id).await.unwrap();
    }
}

#[tokio::test]
async fn refusals_had_no_effect_and_are_told_apart() {
    let world = World::with(AccountOptions { token_limit: Some(2), ..AccountOptions::default() }).await;
    let invalid = crate::datafast::NewToken { permissions: set(&["nonsense"]), ..new_token() };
    let rejected = world.client.create(&TOKENS, &invalid).await.unwrap_err();
    assert!(matches!(&rejected, Error::Rejected { status: 400, message } if message.contains("nonsense")));

    let id = world.client.create(&TOKENS, &new_token()).await.unwrap().token.id;
    let full = world.client.create(&TOKENS, &new_token()).await.unwrap_err();
    assert!(matches!(&full, Error::Full { message } if message.contains("limit")));

    world.client.delete(&TOKENS, &id).await.unwrap();
    let gone = world.client.delete(&TOKENS, &id).await.unwrap_err();
    world.account.revoke_credential();
    let unknown = world.client.list(&TOKENS).await.unwrap_err();
    assert!(matches!(unknown, Error::CredentialsRejected { .. }));
    for error in [rejected, full, gone, unknown] {
        assert_eq!(error.effect(), Effect::None, "{error}");
    }
}

#[tokio::test]
async fn a_scope_beyond_the_credential_is_rejected() {
    let permissions = Some(vec!["api-keys:write".to_owned()]);
    let world = World::with(AccountOptions { permissions, ..AccountOptions::default() }).await;
    let error = world.client.create(&TOKENS, &new_token()).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { status: 403, .. }), "{error}");
}

#[tokio::test]
async fn a_limit_is_a_full_account_only_on_create() {
    let world = World::new().await;
    let body = FaultBody::Error { code: None, message: "MAXIMUM reached".to_owned() };
    world.account.set_fault(Fault::new(Operation::Any, Kind::Status { status: 400, body }));
    assert!(matches!(world.client.create(&TOKENS, &new_token()).await, Err(Error::Full { .. })));
    assert!(matches!(world.client.list(&TOKENS).await, Err(Error::Rejected { status: 400, .. })));
}

#[tokio::test]
async fn errors_quote_no_keys() {
    let world = World::with(AccountOptions { credential: Some("odd-credential".into()), ..Default::default() }).await;
    let message = "odd-credential and dft_abcdefgh are\n wrong".to_owned();
    let body = FaultBody::Error { code: None, message };
    world.account.set_fault(Fault::new(Operation::Any, Kind::Status { status: 422, body }));
    let error = world.client.list(&TOKENS).await.unwrap_err();
    assert_eq!(error.to_string(), "DataFast refuses the request (422): [redacted] and dft_[redacted] are wrong");
    assert!(!format!("{:?}", world.client).contains("odd"));
}

#[tokio::test]
async fn a_probe_tells_whether_a_key_works() {
    let world = World::new().await;
    let mut asked = new_token();
    let able = world.client.create(&TOKENS, &asked).await.unwrap();
    asked.permissions = set(&["goals:read"]);
    let unable = world.client.create(&TOKENS, &asked).await.unwrap().key.unwrap();
    let (id, able) = (able.token.id, able.key.unwrap());
    assert_eq!(world.client.probe(&TOKENS, &able).await, Ok(true));
    assert_eq!(world.client.probe(&TOKENS, &unable).await, Ok(true), "403 is an answer to a known key");
    world.client.delete(&TOKENS, &id).await.unwrap();
    assert_eq!(world.client.probe(&TOKENS, &able).await, Ok(false));
    assert_eq!(world.client.probe(&TOKENS, &key("dft_of_nobody")).await, Ok(false));
}

#[tokio::test]
async fn a_probe_proves_nothing_by_other_answers() {
    let world = World::new().await;
    for (status, body) in [
        (200, FaultBody::Html),
        (200, FaultBody::Empty),
        (200, FaultBody::OtherShape),
        (200, FaultBody::Text { text: r#"{"status":"success"}"#.into() }),
        (401, FaultBody::Html),
        (401, FaultBody::Empty),
        (401, FaultBody::OtherShape),
        (401, FaultBody::Truncated),
        (401, FaultBody::Huge),
        (401, FaultBody::Text { text: r#"{"error":"Unauthorized"}"#.into() }),
        (401, FaultBody::Text { text: r#"{"message":"Unauthorized"}"#.into() }),
        (401, FaultBody::Text { text: r#"{"status":"error","message":"Unauthorized"}"#.into() }),
        (401, FaultBody::Error { code: Some(407), message: "Proxy authentication required".into() }),
        (403, FaultBody::Html),
        (403, FaultBody::Text { text: r#"{"status":"error","message":"Forbidden"}"#.into() }),
        (404, FaultBody::default()),
        (404, FaultBody::Html),
        (400, FaultBody::default()),
        (429, FaultBody::default()),
        (500, FaultBody::default()),
    ] {
        world.account.set_fault(Fault::new(Operation::GetAccount, Kind::Status { status, body: body.clone() }).once());
        let result = world.client.probe(&TOKENS, &key(&world.account.credential())).await;
        assert!(result.is_err(), "{status} {body:?}");
    }
    assert!(world.recorder.taken().iter().all(|(operation, _)| *operation == "get_account"));
}

/// A gateway that lets nobody through says nothing of the credential, nor of what it was asked for.
#[tokio::test]
async fn a_page_in_place_of_a_refusal_is_no_refusal() {
    let world = World::new().await;
    let id = world.client.create(&TOKENS, &new_token()).await.unwrap().token.id;
    for (status, body) in [
        (400, FaultBody::Html),
        (401, FaultBody::Html),
        (401, FaultBody::Empty),
        (401, FaultBody::OtherShape),
        (403, FaultBody::Html),
        (404, FaultBody::Html),
        (407, FaultBody::Html),
    ] {
        world.account.set_fault(Fault::new(Operation::Any, Kind::Status { status, body }).times(3));
        for error in [
            world.client.list(&TOKENS).await.unwrap_err(),
            world.client.create(&TOKENS, &new_token()).await.unwrap_err(),
            world.client.delete(&TOKENS, &id).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Unavailable { effect: Effect::Unknown, .. }), "{status}: {error}");
            assert!(error.to_string().contains(&status.to_string()) && error.to_string().contains("proxy"), "{error}");
        }
    }
    // DataFast's own come in other shapes too, but never as a page.
    for (status, body) in [(403, FaultBody::Empty), (404, FaultBody::OtherShape), (404, FaultBody::Empty)] {
        world.account.set_fault(Fault::new(Operation::Any, Kind::Status { status, body }).once());
        let error = world.client.delete(&TOKENS, &id).await.unwrap_err();
        assert!(matches!(error, Error::Rejected { status: 403, .. } | Error::NotFound), "{status}: {error}");
    }
    let flat = FaultBody::Text { text: r#"{"error":"Too many","limit":60,"remaining":0,"reset":1}"#.into() };
    for body in [flat, FaultBody::Html, FaultBody::Empty] {
        world.account.set_fault(Fault::new(Operation::Any, Kind::Status { status: 429, body }).once());
        assert_eq!(world.client.list(&TOKENS).await, Err(Error::RateLimited { retry_after: None }));
    }
}

#[tokio::test]
async fn requests_carry_the_documented_headers_and_paths() {
    let world = World::new().await;
    let recorder = Arc::new(Recorder::default());
    let slashed = client(&format!("{}/", world.sandbox.base_url()), &world.account.credential(), &recorder);
    slashed.list(&TOKENS).await.unwrap();
    let _ = slashed.delete(&TOKENS, &TokenId::parse("65a1").unwrap()).await;
    let paths: Vec<_> = world.account.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/api/v1/admin/access-tokens", "/api/v1/admin/access-tokens/65a1"]);
}

#[test]
fn a_base_url_is_a_host_and_a_path() {
    let attempt = |url| Client::new(&Arc::default(), url, key("dft_a"), Arc::new(Recorder::default()));
    for url in
        ["", "datafa.st", "ftp://datafa.st", "https://u:p@datafa.st", "https://datafa.st?a", "https://datafa.st#a"]
    {
        assert!(matches!(attempt(url), Err(SetupError::BaseUrl(_))), "{url}");
    }
    assert!(attempt("https://datafa.st/api/v1/admin").is_ok());
}
