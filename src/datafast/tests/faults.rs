//! No usable answer: what is told, and what is not done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafast_sandbox::{Fault, FaultBody, Kind, Operation, RetryAfter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::datafast::{Effect, Error};

use super::{LIMITS, Recorder, TOKENS, World, client, new_token};

const CREATE: Operation = Operation::CreateAccessToken;
const LIST: Operation = Operation::ListAccessTokens;

fn is_unavailable(error: &Error, expected: Effect) -> bool {
    matches!(error, Error::Unavailable { effect, .. } if *effect == expected)
}

#[tokio::test]
async fn statuses_without_a_usable_answer_are_unavailable() {
    let world = World::new().await;
    for (status, body) in [
        (500, FaultBody::default()),
        (502, FaultBody::Html),
        (503, FaultBody::Empty),
        (408, FaultBody::default()),
        (302, FaultBody::Empty),
        (307, FaultBody::Html),
        (200, FaultBody::Html),
        (200, FaultBody::Empty),
        (200, FaultBody::OtherShape),
        (200, FaultBody::Truncated),
        (200, FaultBody::Error { code: Some(200), message: "?".into() }),
        (204, FaultBody::Empty),
    ] {
        world.account.set_fault(Fault::new(Operation::Any, Kind::Status { status, body: body.clone() }).times(2));
        let listed = world.client.list(&TOKENS).await.unwrap_err();
        let created = world.client.create(&TOKENS, &new_token()).await.unwrap_err();
        assert!(is_unavailable(&listed, Effect::Unknown), "{status} {body:?}: {listed}");
        assert!(is_unavailable(&created, Effect::Unknown), "{status} {body:?}: {created}");
    }
}

#[tokio::test]
async fn a_success_that_says_error_is_taken_by_its_code() {
    let world = World::new().await;
    for (code, expected) in [(401, "credential"), (404, "no such token"), (429, "rate"), (503, "not available")] {
        let body = FaultBody::Error { code: Some(code), message: "m".into() };
        world.account.set_fault(Fault::new(LIST, Kind::Status { status: 200, body }).once());
        let error = world.client.list(&TOKENS).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{code}: {error}");
    }
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let world = World::new().await;
    for (header, expected) in [
        (RetryAfter::None, None),
        (RetryAfter::Seconds(7), Some(7..=7)),
        (RetryAfter::Seconds(86_400), Some(600..=600)),
        (RetryAfter::DateIn(60), Some(58..=60)),
        (RetryAfter::DateIn(-60), Some(0..=0)),
        (RetryAfter::Text("later".into()), None),
    ] {
        world.account.set_fault(Fault::new(LIST, Kind::RateLimited { retry_after: header.clone() }).once());
        let error = world.client.list(&TOKENS).await.unwrap_err();
        let Error::RateLimited { retry_after } = error else { panic!("{error}") };
        match expected {
            None => assert_eq!(retry_after, None, "{header:?}"),
            Some(range) => assert!(range.contains(&retry_after.unwrap().as_secs()), "{header:?}: {retry_after:?}"),
        }
        assert_eq!(error.effect(), Effect::None);
    }
}

#[tokio::test]
async fn a_body_too_large_or_endless_is_given_up() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(LIST, Kind::Status { status: 200, body: FaultBody::Huge }).once());
    let error = world.client.list(&TOKENS).await.unwrap_err();
    assert!(is_unavailable(&error, Effect::Unknown) && error.to_string().contains("too large"), "{error}");

    world.account.set_fault(Fault::new(LIST, Kind::Status { status: 200, body: FaultBody::Endless }).once());
    let start = Instant::now();
    let error = world.client.list(&TOKENS).await.unwrap_err();
    assert!(is_unavailable(&error, Effect::Unknown), "{error}");
    assert!(start.elapsed() < LIMITS.total + Duration::from_secs(1));
    world.account.set_fault(Fault::new(LIST, Kind::Status { status: 403, body: FaultBody::Huge }).once());
    let error = world.client.list(&TOKENS).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { status: 403, .. }), "the status says enough: {error}");
    let codes: Vec<_> = world.recorder.taken().into_iter().map(|(_, code)| code).collect();
    assert_eq!(codes, ["error", "timeout", "403"]);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_effect_unknown_and_nothing_is_sent_twice() {
    let world = World::new().await;
    for moment_after in [false, true] {
        // An idle connection is there to be reused: the case in which HTTP clients like to try again.
        world.client.list(&TOKENS).await.unwrap();
        world.sandbox.clear_requests();
        let fault = Fault::new(CREATE, Kind::Drop);
        world.account.set_fault(if moment_after { fault.after_effect() } else { fault });
        let error = world.client.create(&TOKENS, &new_token()).await.unwrap_err();
        assert!(is_unavailable(&error, Effect::Unknown), "{error}");
        assert!(!error.to_string().contains("127.0.0.1"), "no URL: {error}");
        assert_eq!(world.account.count(CREATE), 1);
        assert_eq!(world.account.issued_tokens().len(), usize::from(moment_after));
        world.account.clear_faults();
    }
}

#[tokio::test]
async fn a_timeout_leaves_the_effect_unknown() {
    let world = World::new().await;
    world.account.set_fault(Fault::new(CREATE, Kind::Hang).after_effect());
    let error = world.client.create(&TOKENS, &new_token()).await.unwrap_err();
    assert!(is_unavailable(&error, Effect::Unknown), "{error}");
    assert_eq!(world.account.issued_tokens().len(), 1);
    assert_eq!(world.recorder.taken(), [("create_access_token", "timeout".to_owned())]);
}

#[tokio::test]
async fn without_a_connection_there_is_no_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let recorder = Arc::new(Recorder::default());
    let client = client(&format!("http://{address}"), "dft_a", &recorder);
    let error = client.create(&TOKENS, &new_token()).await.unwrap_err();
    assert!(is_unavailable(&error, Effect::None), "{error}");
    assert_eq!(recorder.taken(), [("create_access_token", "connect".to_owned())]);
}

/// The server answers one request per connection as if it would keep it, and closes the idle connection at once or upon
/// the next request.
#[tokio::test]
async fn a_request_on_a_connection_that_closes_is_never_written_twice() {
    for closes_upon_request in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (written, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                written.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).unwrap();
                let body = r#"{"status":"success","data":[{"_id":"65a1"}]}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                if closes_upon_request {
                    let length = stream.read(&mut buffer).await.unwrap();
                    written.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).unwrap();
                }
            }
        });
        let client = client(&format!("http://{address}"), "dft_a", &Arc::new(Recorder::default()));
        client.list(&TOKENS).await.unwrap();
        // Long enough to notice that the server closed; a request into a closing connection may fail either way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let result = client.create(&TOKENS, &new_token()).await;
        server.abort();
        let mut posts = 0;
        while let Ok(request) = seen.try_recv() {
            posts += usize::from(request.starts_with("POST"));
            assert!(request.contains(concat!("user-agent: datafast-operator/", env!("CARGO_PKG_VERSION"))));
            assert!(request.contains("authorization: Bearer dft_a"));
        }
        assert_eq!(posts, 1, "closes upon request: {closes_upon_request}");
        // Where the server had closed already, the request went over a new connection.
        assert_eq!(result.is_err(), closes_upon_request);
    }
}

#[tokio::test]
async fn accounts_share_connections_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, mut seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connection = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            connection += 1;
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                heads.send((connection, String::from_utf8_lossy(&buffer[..length]).into_owned())).unwrap();
                let body = r#"{"status":"success","data":[]}"#;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let url = format!("http://{address}");
    let one = client(&url, "dft_one", &Arc::new(Recorder::default()));
    let two = one.of(&format!("{url}/two"), super::key("dft_two"));
    for (client, path, bearer) in [(&one, "GET /access-tokens", "dft_one"), (&two, "GET /two/access-tokens", "dft_two")]
    {
        client.list(&TOKENS).await.unwrap();
        let (connection, head) = seen.recv().await.unwrap();
        assert_eq!(connection, 1, "one connection serves both");
        assert!(head.starts_with(path) && head.contains(&format!("authorization: Bearer {bearer}\r\n")), "{head}");
    }
}
