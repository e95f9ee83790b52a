//! Keys as people put them into Secrets.

use data_encoding::BASE64;

use crate::datafast::{Flaw, RawKey};

const KEY: &str = "dft_0123456789abcdef0123456789abcdef0123456789abcdef";

fn utf_16(text: &str, mark: bool, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let text = if mark { format!("\u{feff}{text}") } else { text.to_owned() };
    text.encode_utf16().flat_map(bytes).collect()
}

#[test]
fn what_is_around_a_key_and_can_be_no_part_of_it_is_taken_off() {
    for entry in [
        KEY.to_owned(),
        format!("{KEY}\n"),
        format!("{KEY}\r\n"),
        format!("  {KEY}\t"),
        format!("\n\n{KEY}\n\n"),
        format!("\u{feff}{KEY}"),
        format!("\u{feff}{KEY}\r\n"),
        format!("\u{a0}{KEY}\u{2028}"),
    ] {
        assert_eq!(RawKey::of_entry(entry.as_bytes()).unwrap().expose(), KEY, "{entry:?}");
    }
}

#[test]
fn all_else_is_refused_by_what_it_is() {
    let base64 = BASE64.encode(KEY.as_bytes());
    let twice = BASE64.encode(base64.as_bytes());
    let website = "df_0123456789abcdef0123456789abcdef";
    for (entry, flaw) in [
        (String::new().into_bytes(), Flaw::Empty),
        (b" \r\n\t".to_vec(), Flaw::Empty),
        ("\u{feff}".as_bytes().to_vec(), Flaw::Empty),
        (utf_16(KEY, true, u16::to_le_bytes), Flaw::Utf16),
        (utf_16(KEY, true, u16::to_be_bytes), Flaw::Utf16),
        (utf_16(&format!("{KEY}\r\n"), false, u16::to_le_bytes), Flaw::Utf16),
        (utf_16(KEY, false, u16::to_be_bytes), Flaw::Utf16),
        (vec![0xc3, 0x28, 0xa0], Flaw::Binary),
        (format!("\"{KEY}\"").into(), Flaw::Quoted),
        (format!("'{KEY}'\n").into(), Flaw::Quoted),
        (format!("“{KEY}”").into(), Flaw::Quoted),
        (format!("{KEY}\"").into(), Flaw::Quoted),
        (base64.clone().into(), Flaw::Base64),
        (format!("{base64}\n").into(), Flaw::Base64),
        (base64.trim_end_matches('=').into(), Flaw::Base64),
        (format!("{}\n{}\n", &base64[..40], &base64[40..]).into(), Flaw::Base64),
        (twice.into(), Flaw::Base64),
        (BASE64.encode(format!("{KEY}\n").as_bytes()).into(), Flaw::Base64),
        (BASE64.encode(format!("\"{KEY}\"").as_bytes()).into(), Flaw::Base64),
        (BASE64.encode(website.as_bytes()).into(), Flaw::Base64),
        (format!("TOKEN={KEY}").into(), Flaw::EnvLine),
        (format!("TOKEN = {KEY}\r\n").into(), Flaw::EnvLine),
        (format!("export DATAFAST_TOKEN=\"{KEY}\"").into(), Flaw::EnvLine),
        (format!("# DataFast\nDATAFAST_TOKEN='{KEY}'\nDEBUG=1\n").into(), Flaw::EnvLine),
        (format!("token: {KEY}").into(), Flaw::EnvLine),
        (format!("Bearer {KEY}").into(), Flaw::More),
        (format!("{KEY}\n{KEY}\n").into(), Flaw::More),
        (format!("{{\"token\":\"{KEY}\"}}").into(), Flaw::More),
        (format!("x{KEY}").into(), Flaw::More),
        (b"two words".to_vec(), Flaw::More),
        ("a".repeat(513).into(), Flaw::TooLong),
        (format!("{KEY}\0").into(), Flaw::OddCharacters),
        ("dft_ключ".into(), Flaw::OddCharacters),
        (format!("{KEY}\u{200b}").into(), Flaw::OddCharacters),
    ] {
        let text = String::from_utf8_lossy(&entry).into_owned();
        let found = RawKey::of_entry(&entry).unwrap_err();
        assert_eq!(found, flaw, "{text:?}");
        assert!(!format!("{found} {found:?}").contains("0123"), "{found}");
    }
}

#[test]
fn a_flaw_says_how_to_mend_it() {
    for (flaw, words) in [
        (Flaw::Missing, "holds no key"),
        (Flaw::Empty, "is empty: put the token there"),
        (Flaw::Utf16, "holds UTF-16 text: save it as plain ASCII"),
        (Flaw::Quoted, "is in quotes: put the token there without them"),
        (Flaw::Base64, "is base64 of a token: put the token itself into stringData"),
        (Flaw::EnvLine, "holds a line NAME=token of a .env file: put the token alone there"),
    ] {
        assert_eq!(flaw.to_string(), words);
    }
}

#[test]
fn no_key_of_datafasts_shape_is_taken_for_something_else() {
    for key in [KEY, "df_0123456789abcdef", "dft_ab-cd_ef", "dft_nobody", "dft_a=b", "dft_dft_a", "odd-credential"] {
        assert_eq!(RawKey::of_entry(key.as_bytes()).unwrap().expose(), key);
    }
}
