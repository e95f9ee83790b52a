//! Quotes of what others say.

use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::datafast::redact::quote;
use crate::datafast::redacted;

use super::key;

const KEY: &str = "dft_7c1e94b2f80a6d35e9b047c2d1863fa5b94e20c7d8136fab";

#[test]
fn quotes_hold_no_keys_no_control_characters_and_no_novels() {
    for (text, quoted) in [
        ("plain", "plain"),
        ("a\u{1b}[31m\nb\0", "a[31mb"),
        ("bad dft_12345678 and df_abcdefgh.", "bad dft_[redacted] and df_[redacted]."),
        ("bad dft_1234\u{0}5678", "bad dft_[redacted]"),
        ("twice dft_dft_12345678", "twice dft_[redacted]"),
        ("mask dft_ab1...xyz9", "mask dft_ab1...xyz9"),
        ("dft_ is a prefix, df_x no key", "dft_ is a prefix, df_x no key"),
        ("ü dft_ßdft_123456789", "ü dft_ßdft_[redacted]"),
    ] {
        assert_eq!(quote(text, &[]), quoted);
    }
    let long = quote(&format!("{}dft_1234567890", "ä".repeat(193)), &[]);
    assert_eq!(long.chars().count(), 200);
    assert!(!long.contains('1'));
}

#[test]
fn a_key_at_the_end_of_a_long_quote_is_not_cut_but_taken_out() {
    let odd = key("credential-of-no-known-shape");
    for length in 170..200 {
        let text = format!("{} credential-of-no-known-shape {KEY}", "ä".repeat(length));
        let quoted = quote(&text, &[&odd]);
        assert!(!quoted.contains("cred") && !quoted.contains('7'), "{quoted}");
    }
}

/// Whether any part of the key is left, be it in base64 of whatever alignment.
fn shows_key(text: &str, key: &str) -> bool {
    let parts = key.as_bytes().windows(9);
    let encoded = |part: &[u8]| [1, 2, 3].map(|from| BASE64.encode(&part[from..from + 6]));
    parts.into_iter().any(|part| {
        let plain = std::str::from_utf8(part).unwrap();
        text.contains(plain) || encoded(part).iter().any(|encoded| text.contains(encoded.as_str()))
    })
}

/// As an admission webhook writes it that quotes all of what it refuses.
fn refusal(key: &str) -> String {
    let encode = |text: String| BASE64.encode(text.as_bytes());
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "agent", "annotations": { "datafa.st/token-id": "65f1c0ffee0123456789abcd" } },
        "data": {
            "token": encode(key.to_owned()),
            "env": encode(format!("T={key}")),
            "b.env": encode(format!("DATAFAST_TOKEN={key}\nDATAFAST_API_BASE=https://datafa.st/api/v1/admin\n")),
            "config.json": encode(format!("{{\"headers\":{{\"authorization\":\"Bearer {key}\"}}}}")),
            "url": encode(format!("https://:{key}@datafa.st/mcp")),
        },
        "stringData": { "token": key, "env": format!("T={key}") },
        "type": "Opaque",
    });
    format!("admission webhook \"deny.example.com\" denied the request: refused {secret}; again {secret:?}")
}

#[test]
fn a_refusal_that_quotes_the_whole_secret_shows_no_key() {
    for text in [KEY, "df_4be19c07a52d8f63c1b79e04d8a2", "imported-key-of-another-shape"] {
        let refusal = refusal(text);
        assert!(shows_key(&refusal, text));
        let said = redacted(&refusal, &[&key(text)]);
        assert!(!shows_key(&said, text), "{said}");
        for word in ["admission webhook \"deny.example.com\" denied", "agent", "65f1c0ffee0123456789abcd", "Opaque"] {
            assert!(said.contains(word), "{word} is gone: {said}");
        }
    }
}

#[test]
fn a_key_that_nobody_named_is_recognized_in_every_spelling() {
    let whole = BASE64.encode(refusal(KEY).as_bytes());
    let mut spellings = vec![KEY.to_owned(), refusal(KEY), whole.clone(), format!("{whole}.")];
    for before in ["", "a", "ab", "abc", "T=", "export X=\""] {
        for after in ["", "\n", "\"", "\n\n"] {
            let text = format!("{before}{KEY}{after}");
            spellings.push(BASE64.encode(text.as_bytes()));
            spellings.push(BASE64URL_NOPAD.encode(text.as_bytes()));
            spellings.push(BASE64.encode(BASE64.encode(text.as_bytes()).as_bytes()));
            // Cut off somewhere.
            spellings.push(BASE64.encode(text.as_bytes())[..40].to_owned());
        }
    }
    for text in spellings {
        let said = redacted(&format!("no: word{text}, so"), &[]);
        assert!(!shows_key(&said, KEY), "{text} became {said}");
        assert!(said.starts_with("no: ") && said.ends_with(", so"), "{said}");
    }
}

#[test]
fn what_is_no_key_is_left_as_it_is() {
    for text in [
        "secrets \"agent\" is forbidden: exceeded quota: none, requested: count/secrets=1, used: count/secrets=0, limited: count/secrets=0",
        "Internal error occurred: failed calling webhook \"a.b\": Post \"https://hook.team-security.svc:443/validate?timeout=10s\": dial tcp 10.0.0.1:443: connect: connection refused",
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "mask dft_ab1...xyz9, and ZGFzIGlzdCBrZWluIFNjaGzDvHNzZWw=",
    ] {
        assert_eq!(redacted(text, &[&key(KEY)]), text);
    }
}
