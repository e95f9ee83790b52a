//! Reading answers of every shape.

use std::time::Duration;

use jiff::Timestamp;

use crate::datafast::TokenId;
use crate::datafast::envelope::Envelope;
use crate::datafast::wire::{acknowledged, retry_after};

use super::{TOKENS, issued, list, new_token, set};

const TOKEN: &str = r#"{"_id":"65a1","name":"n","displayKey":"dft_ab1...xyz9","scope":"user","permissions":["goals:read"],
    "websiteIds":["w"],"lastUsedAt":"2026-01-02T03:04:05.678Z","createdAt":"2026-01-01T00:00:00.000Z","new":{"a":[1]}}"#;

fn success(data: &str) -> Vec<u8> {
    format!(r#"{{"data":{data},"status":"success","page":{{"next":null}}}}"#).into_bytes()
}

#[test]
fn a_list_is_read_with_all_its_fields() {
    let token = list(&success(&format!("[{TOKEN}]")), &TOKENS).unwrap().remove(0);
    assert_eq!(token.id.as_str(), "65a1");
    assert_eq!((token.name.as_deref(), token.display_key.as_str()), (Some("n"), "dft_ab1...xyz9"));
    assert_eq!((token.permissions, token.website_ids), (set(&["goals:read"]), set(&["w"])));
    assert_eq!(token.last_used_at, Some("2026-01-02T03:04:05.678Z".parse().unwrap()));
    assert_eq!(token.created_at, Some("2026-01-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn absent_and_null_fields_are_read_as_nothing() {
    for object in [r#"{"id":"65a1"}"#, r#"{"_id":"65a1","id":"65a1","name":null,"permissions":null,"lastUsedAt":null}"#]
    {
        let token = list(&success(&format!("[{object}]")), &TOKENS).unwrap().remove(0);
        assert_eq!(
            token.tells_use,
            object.contains("lastUsedAt"),
            "that there is no time is not to say that there was no use"
        );
        assert_eq!((token.name, token.display_key, token.last_used_at), (None, String::new(), None), "{object}");
        assert!(token.permissions.is_empty() && token.website_ids.is_empty());
    }
    assert_eq!(list(&success(TOKEN), &TOKENS).unwrap().len(), 1, "an object in place of an array");
    assert_eq!(list(&success("[]"), &TOKENS).unwrap().len(), 0);
}

#[test]
fn what_is_not_wholly_a_list_is_unreadable() {
    let odd = |fields: &str| success(&format!(r#"[{TOKEN},{{"_id":"65a2",{fields}}}]"#));
    for body in [
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"<!doctype html><title>Welcome</title>".to_vec(),
        br#"{"status":"success"}"#.to_vec(),
        br#"{"data":[]}"#.to_vec(),
        br#"{"status":"other","data":[]}"#.to_vec(),
        br#"{"status":"success","data":[{"_id":"65"#.to_vec(),
        success("null"),
        success("[null]"),
        success("[{}]"),
        success(r#"[{"_id":5}]"#),
        success(r#"[{"_id":"../account"}]"#),
        odd(r#""permissions":"all""#),
        odd(r#""lastUsedAt":"yesterday""#),
        odd(r#""lastUsedAt":1700000000"#),
        odd(r#""name":[]"#),
    ] {
        assert!(list(&body, &TOKENS).is_err(), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn a_created_token_keeps_its_key_whatever_else_is_odd() {
    let body = success(r#"[{"id":"65a1","key":"dft_k\u0065y","name":5,"permissions":{},"createdAt":"yesterday"}]"#);
    let created = issued(&body, &new_token(), None).unwrap();
    assert_eq!(created.key.unwrap().expose(), "dft_key");
    assert_eq!(created.token.name.as_deref(), Some("shop/reader"), "what was asked for stands in");
    assert_eq!((created.token.permissions, created.token.created_at), (set(&["analytics:read"]), None));
}

#[test]
fn a_created_token_without_a_usable_key_keeps_its_id() {
    for key in [
        "",
        r#","key":null"#,
        r#","key":"""#,
        r#","key":"two words""#,
        r#","key":7"#,
        r#","key":-7"#,
        r#","key":1.5"#,
        r#","key":true"#,
        r#","key":["dft_a"]"#,
        r#","key":{"raw":{"a":"dft_a"}}"#,
    ] {
        let created = issued(&success(&format!(r#"[{{"_id":"65a1"{key}}}]"#)), &new_token(), None).unwrap();
        assert!(created.key.is_none(), "{key}");
        assert_eq!(created.token.id.as_str(), "65a1");
    }
}

const RAW: &str = "dft_7c1e94b2f80a6d35e9b047c2d1863fa5b94e20c7d8136fab";

/// What is no masked key: the raw one, above all.
fn no_masks() -> Vec<String> {
    let texts =
        [RAW, "dft_7c1e94b2f80a6d35e9b047c2d1863...", "", "dft_7c1 8fab", r"dft_7c1\u0000...8fab", "dft_7c1xxx8fab"];
    let texts = texts.iter().map(|text| format!("\"{text}\""));
    texts.chain(["null", "5", "{}", "[\"dft_7c1...6fab\"]"].map(str::to_owned)).collect()
}

#[test]
fn a_masked_key_that_is_none_is_made_from_the_key() {
    for shown in no_masks().iter().map(String::as_str).chain([r#""dft_abc...wxyz""#]) {
        let body = success(&format!(r#"[{{"_id":"65a1","displayKey":{shown},"key":"{RAW}"}}]"#));
        for rolled in [None, Some(TokenId::parse("65a1").unwrap())] {
            let made = issued(&body, &new_token(), rolled.as_ref()).unwrap();
            assert_eq!(made.token.display_key, "dft_7c1...6fab", "{shown}");
        }
    }
    let body = success(&format!(r#"[{{"_id":"65a1","displayKey":"dft_7c1e...6fab","key":"{RAW}"}}]"#));
    assert_eq!(
        issued(&body, &new_token(), None).unwrap().token.display_key,
        "dft_7c1e...6fab",
        "DataFast's own is kept"
    );
}

#[test]
fn a_list_shows_no_key_that_is_not_masked() {
    for shown in no_masks() {
        let tokens = list(&success(&format!(r#"[{{"_id":"65a1","displayKey":{shown}}}]"#)), &TOKENS).unwrap();
        assert_eq!(tokens[0].display_key, "", "{shown}");
    }
    for shown in ["dft_ab1...xyz9", "df_ab12...xyz9", "dft_****xyz9", "dft_ab1…xyz9", "dft_••••xyz9", "..."] {
        let tokens = list(&success(&format!(r#"[{{"_id":"65a1","displayKey":"{shown}"}}]"#)), &TOKENS).unwrap();
        assert_eq!(tokens[0].display_key, shown);
    }
}

#[test]
fn a_create_without_an_id_or_with_several_tokens_is_unreadable_and_says_nothing_of_the_key() {
    for data in [
        r#"[{"key":"dft_secretsecret"}]"#,
        "[]",
        r#"[{"_id":"a","key":"dft_secretsecret"},{"_id":"b"}]"#,
        r#"["dft_secretsecret"]"#,
        r#""dft_secretsecret""#,
    ] {
        let error = issued(&success(data), &new_token(), None).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn errors_are_read_out_of_every_shape() {
    for (body, code, message) in [
        (r#"{"status":"error","error":{"code":403,"message":"no"}}"#, Some(403), "no"),
        (r#"{"status":"error","error":{"code":"403","message":"no"}}"#, Some(403), "no"),
        (r#"{"error":{"code":200,"message":"no"}}"#, None, "no"),
        (r#"{"error":{"code":99999}}"#, None, ""),
        (r#"{"message":"no"}"#, None, "no"),
        (r#"{"error":"no"}"#, None, "no"),
        (r#"{"error":[1]}"#, None, ""),
        ("[]", None, ""),
        ("<h1>no</h1>", None, ""),
        ("", None, ""),
    ] {
        let envelope = Envelope::read(body.as_bytes());
        assert_eq!((envelope.code(), envelope.message()), (code, message), "{body}");
    }
}

#[test]
fn an_error_beside_odd_data_is_still_read() {
    for data in ["null", "[null]", "7", r#""dft_secretsecret""#, r#"[{"key":{}},[1]]"#, r#"{"key":"dft_secretsecret"}"#]
    {
        let body = format!(r#"{{"status":"error","data":{data},"error":{{"code":429,"message":"slowly"}}}}"#);
        let envelope = Envelope::read(body.as_bytes());
        assert_eq!((envelope.code(), envelope.message()), (Some(429), "slowly"), "{data}");
    }
}

#[test]
fn a_refusal_is_datafasts_own_in_its_own_shape_only() {
    let own = |status: u16, body: &str| Envelope::read(body.as_bytes()).is_refusal(status);
    for body in [
        r#"{"status":"error","error":{"code":401,"message":"no"}}"#,
        r#"{"status":"error","error":{"code":"401","message":"no"},"new":[{"a":1}]}"#,
        r#"{"error":{"message":""},"status":"error"}"#,
    ] {
        assert!(own(401, body), "{body}");
    }
    for body in [
        r#"{"status":"error","error":{"code":403,"message":"no"}}"#,
        r#"{"status":"success","error":{"code":401,"message":"no"}}"#,
        r#"{"error":{"code":401,"message":"no"}}"#,
        r#"{"status":"error","error":{"code":401}}"#,
        r#"{"status":"error","error":"no"}"#,
        r#"{"status":"error","message":"no"}"#,
        r#"{"error":"no","limit":60,"remaining":0}"#,
        r#"["error",{"code":401,"message":"no"}]"#,
        "<h1>401 Authorization Required</h1>",
        r#"{"status":"error","error":{"code":401,"message":"no""#,
        "null",
        "",
    ] {
        assert!(!own(401, body), "{body}");
    }
}

#[test]
fn a_deletion_is_acknowledged_in_the_documented_shape_only() {
    let read = |body: &[u8]| acknowledged(Envelope::read(body));
    assert!(read(&success(r#"[{"message":"deleted"}]"#)).is_ok());
    assert!(read(b"<h1>Welcome</h1>").is_err());
    assert!(read(b"").is_err());
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for (value, seconds) in [
        ("0", Some(0)),
        (" 7 ", Some(7)),
        ("600", Some(600)),
        ("86400", Some(600)),
        ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60)),
        ("Fri, 02 Jan 2026 00:00:00 GMT", Some(600)),
        ("Wed, 31 Dec 2025 23:59:00 GMT", Some(0)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
    }
}
