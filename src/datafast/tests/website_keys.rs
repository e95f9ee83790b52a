//! Website keys: what works, what DataFast refuses, and answers of every shape.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafast_sandbox::{AccountOptions, Fault, FaultBody, Kind, Operation, Website, Wire};

use crate::datafast::wire::new_token as body;
use crate::datafast::{Collection, Effect, Error, NewToken, Token, TokenId};

use super::{Recorder, World, client, issued, key, list, set};

const WEBSITE: &str = "65f1c0ffee0123456789abcd";
const OTHER: &str = "65f1c0ffee0123456789abce";

fn keys() -> Collection {
    Collection::WebsiteKeys(WEBSITE.into())
}

/// What the operator asks for: a key has no permissions to choose, and one website.
fn new_key() -> NewToken {
    NewToken { name: "shop/tracker".to_owned(), permissions: BTreeSet::new(), website_ids: set(&[WEBSITE]) }
}

fn success(data: &str) -> Vec<u8> {
    format!(r#"{{"data":{data},"status":"success"}}"#).into_bytes()
}

#[tokio::test]
async fn a_key_is_created_listed_rolled_and_deleted() {
    let world = World::new().await;
    let created = world.client.create(&keys(), &new_key()).await.unwrap();
    let first = created.key.unwrap();
    assert!(first.expose().starts_with("df_") && first.fits(&created.token.display_key) == Some(true));
    assert_eq!((&created.token.permissions, &created.token.website_ids), (&set(&[]), &set(&[WEBSITE])));

    let listed = world.client.list(&keys()).await.unwrap();
    let told = Token { tells_use: true, ..created.token.clone() };
    assert_eq!(listed, [told], "as it was told when it was created, but that only a list tells of its use");
    assert_eq!(listed[0].name.as_deref(), Some("shop/tracker"));
    assert_eq!(world.client.list(&Collection::WebsiteKeys(OTHER.into())).await.unwrap(), []);

    let id = created.token.id;
    let rolled = world.client.roll(&keys(), &id, &new_key()).await.unwrap();
    let second = rolled.key.unwrap();
    assert_eq!(rolled.token.id, id);
    assert_ne!(first.expose(), second.expose());
    let listed = world.client.list(&keys()).await.unwrap();
    assert_eq!(listed, [Token { tells_use: true, ..rolled.token }]);
    assert_eq!((second.fits(&listed[0].display_key), first.fits(&listed[0].display_key)), (Some(true), Some(false)));
    assert_eq!(world.client.probe(&keys(), &first).await, Ok(false), "its old key ended at once");
    assert_eq!(world.client.probe(&keys(), &second).await, Ok(true));

    world.client.delete(&keys(), &id).await.unwrap();
    assert_eq!(world.client.list(&keys()).await.unwrap(), []);
    assert_eq!(world.client.probe(&keys(), &second).await, Ok(false));
    assert_eq!(world.client.delete(&keys(), &id).await, Err(Error::NotFound));
    assert_eq!(world.client.roll(&keys(), &id, &new_key()).await.unwrap_err(), Error::NotFound);
    let told: Vec<_> = world.recorder.taken();
    let told: Vec<_> = told.iter().map(|(operation, code)| (*operation, code.as_str())).collect();
    assert_eq!(
        told,
        [
            ("create_website_key", "200"),
            ("list_website_keys", "200"),
            ("list_website_keys", "200"),
            ("roll_website_key", "200"),
            ("list_website_keys", "200"),
            ("probe_website_key", "401"),
            ("probe_website_key", "200"),
            ("delete_website_key", "200"),
            ("list_website_keys", "200"),
            ("probe_website_key", "401"),
            ("delete_website_key", "404"),
            ("roll_website_key", "404"),
        ]
    );
}

#[tokio::test]
async fn requests_carry_the_documented_methods_paths_and_bodies() {
    let world = World::new().await;
    let id = TokenId::parse("65a1").unwrap();
    let slashed =
        client(&format!("{}/", world.sandbox.base_url()), &world.account.credential(), &Arc::new(Recorder::default()));
    let _ = slashed.list(&keys()).await;
    let _ = slashed.create(&keys(), &new_key()).await;
    let _ = slashed.roll(&keys(), &id, &new_key()).await;
    let _ = slashed.delete(&keys(), &id).await;
    let path = format!("/api/v1/admin/websites/{WEBSITE}/apikeys");
    let sent: Vec<_> = world.account.requests().into_iter().map(|request| (request.method, request.path)).collect();
    let expected = [("GET", path.clone()), ("POST", path.clone()), ("PUT", format!("{path}/65a1"))];
    let expected = expected.into_iter().chain([("DELETE", format!("{path}/65a1"))]);
    assert_eq!(sent, expected.map(|(method, path)| (method.to_owned(), path)).collect::<Vec<_>>());
    assert_eq!(body(&keys(), &new_key()), br#"{"name":"shop/tracker"}"#, "there is nothing else to choose");
}

#[tokio::test]
async fn refusals_had_no_effect_and_are_told_apart() {
    let websites = vec![Website { id: WEBSITE.into(), domain: "shop.test".into() }];
    let world = World::with(AccountOptions { website_key_limit: Some(1), websites, ..AccountOptions::default() }).await;
    let id = world.client.create(&keys(), &new_key()).await.unwrap().token.id;
    let full = world.client.create(&keys(), &new_key()).await.unwrap_err();
    assert!(matches!(&full, Error::Full { message } if message.contains("limit")), "{full}");
    let no_website = Collection::WebsiteKeys(OTHER.into());
    let unknown = [
        world.client.list(&no_website).await.unwrap_err(),
        world.client.create(&no_website, &new_key()).await.unwrap_err(),
        world.client.roll(&no_website, &id, &new_key()).await.unwrap_err(),
        world.client.delete(&no_website, &id).await.unwrap_err(),
    ];
    assert!(unknown.iter().all(|error| *error == Error::NotFound), "{unknown:?}");
    let message = "key limit reached".to_owned();
    let limited = Kind::Status { status: 400, body: FaultBody::Error { code: None, message } };
    world.account.set_fault(Fault::new(Operation::RollWebsiteKey, limited).once());
    let rejected = world.client.roll(&keys(), &id, &new_key()).await.unwrap_err();
    assert!(matches!(rejected, Error::Rejected { status: 400, .. }), "a roll needs no slot: {rejected}");
    for error in unknown.into_iter().chain([full, rejected]) {
        assert_eq!(error.effect(), Effect::None, "{error}");
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_roll_leaves_the_effect_unknown_and_it_is_not_sent_twice() {
    for after in [false, true] {
        let world = World::new().await;
        let created = world.client.create(&keys(), &new_key()).await.unwrap();
        let fault = Fault::new(Operation::RollWebsiteKey, Kind::Drop);
        world.account.set_fault(if after { fault.after_effect() } else { fault });
        let error = world.client.roll(&keys(), &created.token.id, &new_key()).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        assert_eq!(world.account.count(Operation::RollWebsiteKey), 1);
        assert_eq!(world.client.probe(&keys(), &created.key.unwrap()).await, Ok(!after));
    }
}

#[tokio::test]
async fn other_spellings_of_an_answer_are_understood() {
    let world = World::new().await;
    for wire in [Wire::IdSpelling, Wire::WithoutTimes, Wire::DataObject, Wire::WithoutKey] {
        for operation in [Operation::CreateWebsiteKey, Operation::RollWebsiteKey] {
            world.account.set_fault(Fault::new(operation, Kind::Wire { wire }).once());
            let created = world.client.create(&keys(), &new_key()).await.unwrap();
            let rolled = world.client.roll(&keys(), &created.token.id, &new_key()).await.unwrap();
            let is_without = |met| wire == Wire::WithoutKey && operation == met;
            assert_eq!(created.key.is_none(), is_without(Operation::CreateWebsiteKey), "{wire:?}");
            assert_eq!(rolled.key.is_none(), is_without(Operation::RollWebsiteKey), "{wire:?}");
            assert_eq!(created.token.id, rolled.token.id, "{wire:?}, {operation:?}");
            world.client.delete(&keys(), &rolled.token.id).await.unwrap();
        }
        world.account.clear_faults();
    }
}

#[tokio::test]
async fn a_probe_of_a_key_proves_nothing_by_what_is_not_datafasts_own_answer() {
    let world = World::new().await;
    let held = world.client.create(&keys(), &new_key()).await.unwrap().key.unwrap();
    for (status, body) in [
        (200, FaultBody::Html),
        (200, FaultBody::Empty),
        (401, FaultBody::Html),
        (401, FaultBody::OtherShape),
        (403, FaultBody::Html),
        (404, FaultBody::default()),
        (429, FaultBody::default()),
        (500, FaultBody::default()),
    ] {
        let fault = Fault::new(Operation::ListWebsiteKeys, Kind::Status { status, body: body.clone() });
        world.account.set_fault(fault.once());
        assert!(world.client.probe(&keys(), &held).await.is_err(), "{status} {body:?}");
    }
    let anothers = key(&world.account.add_website_key());
    let answer = world.client.probe(&keys(), &anothers).await;
    assert!(answer != Ok(false), "a live key of another website is not dead: {answer:?}");
}

/// A key as it is listed, and an answer to a roll, with what is documented and more.
const KEY: &str = r#"{"_id":"65a1","name":"n","displayKey":"df_ab12...xyz9","websiteId":"65f1c0ffee0123456789abcd",
    "lastUsedAt":"2026-01-02T03:04:05.678Z","createdAt":"2026-01-01T00:00:00.000Z","new":{"a":[1]}"#;

#[test]
fn a_listed_key_has_no_permissions_and_its_website() {
    for more in ["", r#","permissions":["*"]"#, r#","websiteIds":[]"#, r#","permissions":null,"scope":"website""#] {
        let listed = list(&success(&format!("[{KEY}{more}}}]")), &keys()).unwrap().remove(0);
        assert_eq!((listed.permissions, listed.website_ids), (set(&[]), set(&[WEBSITE])), "{more}");
        assert_eq!((listed.id.as_str(), listed.display_key.as_str()), ("65a1", "df_ab12...xyz9"));
        assert!(listed.last_used_at.is_some() && listed.created_at.is_some());
    }
}

#[test]
fn a_roll_answers_about_the_key_that_was_rolled() {
    let rolled = TokenId::parse("65a1").unwrap();
    let read = |data: &str| issued(&success(data), &new_key(), Some(&rolled));
    for data in [
        &format!(r#"[{KEY},"key":"df_new"}}]"#),
        &format!(r#"{KEY},"key":"df_new"}}"#),
        r#"[{"id":"65a1","key":"df_new"}]"#,
        r#"[{"key":"df_new"}]"#,
        r#"[{"_id":5,"key":"df_new"}]"#,
    ] {
        let answer = read(data).unwrap();
        assert_eq!(answer.token.id, rolled, "{data}");
        assert_eq!(answer.key.unwrap().expose(), "df_new", "{data}");
        assert_eq!((answer.token.permissions, answer.token.website_ids), (set(&[]), set(&[WEBSITE])), "{data}");
    }
    for data in [
        r#"[{"_id":"65a2","key":"df_secretsecret"}]"#,
        r#"[{"_id":"65a1","key":"df_secretsecret"},{"_id":"65a2"}]"#,
        "[]",
        r#""df_secretsecret""#,
    ] {
        let error = read(data).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    for key in ["", r#","key":null"#, r#","key":"""#, r#","key":{"raw":"df_a"}"#] {
        let answer = read(&format!("[{KEY}{key}}}]")).unwrap();
        assert!(answer.key.is_none(), "{key}");
        assert_eq!((answer.token.id, answer.token.display_key.as_str()), (rolled.clone(), "df_ab12...xyz9"));
    }
}

#[test]
fn the_mask_of_a_rolled_key_is_made_up_where_the_answer_lacks_it() {
    let rolled = TokenId::parse("65a1").unwrap();
    let key = "df_ab12cdefghijklmnopqrstuvwxyz9";
    let answer = issued(&success(&format!(r#"[{{"key":"{key}"}}]"#)), &new_key(), Some(&rolled)).unwrap();
    assert_eq!(answer.key.unwrap().fits(&answer.token.display_key), Some(true));
}
