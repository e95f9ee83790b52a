//! A key as people put it into a Secret.
//!
//! What surrounds it and can be no part of it is taken off. All else is refused, by what it is: a guess that is wrong would
//! be sent to DataFast, and written back.

use std::fmt;

use zeroize::Zeroizing;

use super::RawKey;

/// Why an entry holds no key: what it is instead, and how to mend it. It says nothing of the text itself, which may be a key
/// with a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// There is no such entry.
    Missing,
    /// Nothing, or white space alone.
    Empty,
    /// UTF-16, as Windows' tools write text.
    Utf16,
    /// No text at all.
    Binary,
    /// In quotes.
    Quoted,
    /// The base64 of a key.
    Base64,
    /// A line of a `.env` file.
    EnvLine,
    /// A key among other words, lines or characters.
    More,
    /// Longer than any key.
    TooLong,
    /// Characters that no key has.
    OddCharacters,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "holds no key",
            Self::Empty => "is empty: put the token there",
            Self::Utf16 => "holds UTF-16 text: save it as plain ASCII",
            Self::Binary => "holds no text: put the token there as plain ASCII",
            Self::Quoted => "is in quotes: put the token there without them",
            Self::Base64 => "is base64 of a token: put the token itself into stringData",
            Self::EnvLine => "holds a line NAME=token of a .env file: put the token alone there",
            Self::More => "holds more than a token: put the token alone there",
            Self::TooLong => "is longer than any token: put the token alone there",
            Self::OddCharacters => "holds characters that no token has: put it there as plain ASCII",
        })
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';
const QUOTES: [char; 8] = ['"', '\'', '`', '“', '”', '„', '‘', '’'];
const KEY_PREFIXES: [&str; 2] = ["dft_", "df_"];
/// How often people encode what is encoded already.
const MOST_ENCODED: usize = 3;

impl RawKey {
    /// Reads an entry of a Secret: the key, with or without white space and a byte order mark around it.
    ///
    /// # Errors
    /// Where it holds anything else.
    pub fn of_entry(entry: &[u8]) -> Result<Self, Flaw> {
        if is_utf_16(entry) {
            return Err(Flaw::Utf16);
        }
        let text = std::str::from_utf8(entry).map_err(|_| Flaw::Binary)?;
        let key = trimmed(text);
        match flaw(key) {
            Some(flaw) => Err(flaw),
            None => Self::parse(key.to_owned()).map_err(|_| Flaw::OddCharacters),
        }
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == BYTE_ORDER_MARK)
}

/// With its mark, or by the zeros of its ASCII.
fn is_utf_16(bytes: &[u8]) -> bool {
    let zeros = |first: usize| bytes.len() >= 4 && bytes.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || zeros(0) || zeros(1)
}

fn flaw(text: &str) -> Option<Flaw> {
    if text.is_empty() {
        Some(Flaw::Empty)
    } else if is_encoded_key(text) {
        Some(Flaw::Base64)
    } else if text.lines().any(is_assignment) {
        Some(Flaw::EnvLine)
    } else if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
        Some(Flaw::Quoted)
    } else if text.contains(char::is_whitespace) || !starts_with_prefix(text) && text.contains(KEY_PREFIXES[0]) {
        Some(Flaw::More)
    } else if text.len() > RawKey::LONGEST {
        Some(Flaw::TooLong)
    } else {
        None
    }
}

/// `NAME=value`, `export NAME="value"`, and the same with a colon, as YAML has it.
fn is_assignment(line: &str) -> bool {
    let line = trimmed(line);
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let Some((name, value)) = line.split_once('=').or_else(|| line.split_once(": ")) else { return false };
    let name = name.trim_end().trim_matches(QUOTES);
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    !name.is_empty() && name.chars().all(is_name) && !starts_with_prefix(name) && !trimmed(value).is_empty()
}

fn starts_with_prefix(text: &str) -> bool {
    KEY_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

/// Base64 of a key, perhaps more than once, perhaps in lines.
fn is_encoded_key(text: &str) -> bool {
    let mut text = Zeroizing::new(text.to_owned());
    for _ in 0..MOST_ENCODED {
        // Of its final size: a String that grows frees its old memory unwiped.
        let mut joined = Zeroizing::new(String::with_capacity(text.len()));
        joined.extend(text.split_whitespace());
        let Some(decoded) = decoded(joined.trim_end_matches('=')) else { return false };
        let Ok(inner) = std::str::from_utf8(&decoded) else { return false };
        let inner = trimmed(inner);
        if starts_with_prefix(inner.trim_start_matches(QUOTES)) {
            return true;
        }
        text = Zeroizing::new(inner.to_owned());
    }
    false
}

fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let encodings = [&data_encoding::BASE64_NOPAD, &data_encoding::BASE64URL_NOPAD];
    encodings.into_iter().find_map(|encoding| encoding.decode(text.as_bytes()).ok()).map(Zeroizing::new)
}
