//! Keys and ids.

use crate::datafast::{InvalidKey, RawKey, TokenId};

use super::key;

const KEY: &str = "dft_ab1cdefghijklmnopqrstuvwxyz9";

#[test]
fn a_key_is_visible_ascii_of_bounded_length() {
    for text in ["", " ", "dft_a b", "dft_a\n", "\u{7f}", "dft_ä", &"a".repeat(513)] {
        assert_eq!(RawKey::parse(text.to_owned()).unwrap_err(), InvalidKey, "{text:?}");
    }
    assert_eq!(key(&"a".repeat(512)).expose().len(), 512);
    assert_eq!(key(KEY).expose(), KEY);
}

#[test]
fn nothing_but_expose_shows_a_key() {
    assert_eq!(format!("{:?}", key(KEY)), "RawKey(..)");
    assert!(!RawKey::parse("dft_flawed key".to_owned()).unwrap_err().to_string().contains("flawed"));
}

#[test]
fn a_mask_shows_two_ends_of_a_long_key_and_nothing_of_a_short_one() {
    assert_eq!(key(KEY).mask(), "dft_ab1...xyz9");
    assert_eq!(key("dft_ab1cdefghijxyz9").mask(), "...");
    assert_eq!(key("x").mask(), "...");
}

#[test]
fn a_key_fits_the_masks_of_itself_only() {
    for (mask, fits) in [
        ("dft_ab1...xyz9", Some(true)),
        ("dft_ab12...xyz9", Some(false)),
        ("dft_ab1...xyz8", Some(false)),
        ("dft_...9", Some(true)),
        ("...xyz9", None),
        ("dft_ab1...", None),
        ("dft_ab1", None),
        ("", None),
    ] {
        assert_eq!(key(KEY).fits(mask), fits, "{mask}");
    }
    assert_eq!(key("abc").fits("ab...bc"), Some(false), "the ends overlap");
}

#[test]
fn a_fingerprint_depends_on_key_and_salt() {
    // printf 'id\0k' | sha256sum
    assert_eq!(key("k").fingerprint("id"), "a1549d4369a6db74c4ef07041180c6e060211acbda254e5e630f6f00d72109bf");
    assert_ne!(key("k").fingerprint("id"), key("k").fingerprint("other"));
    assert_ne!(key("dk").fingerprint("i"), key("k").fingerprint("id"));
}

#[test]
fn a_token_id_can_stand_in_a_path() {
    for text in ["65a1b2c3d4e5f60718293a01", "a", "A-_9", &"a".repeat(64)] {
        assert_eq!(TokenId::parse(text).unwrap().as_str(), text);
    }
    for text in ["", "..", "a/b", "a?b", "a%2f", "ä", &"a".repeat(65)] {
        assert!(TokenId::parse(text).is_err(), "{text}");
    }
}
