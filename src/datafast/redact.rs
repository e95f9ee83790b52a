//! Texts of others, made fit for logs, conditions and events: no key is left in them, in whatever spelling a Secret has
//! it.

use std::ops::Range;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::RawKey;

/// The longest quote from an answer, in characters.
const LONGEST_QUOTE: usize = 200;
/// So many characters after its prefix make a text a key.
const SHORTEST_KEY_BODY: usize = 8;
const KEY_PREFIXES: [&str; 2] = ["dft_", "df_"];
const REDACTED: &str = "[redacted]";
/// Less is too short for the base64 of a key.
const SHORTEST_RUN: usize = 14;
/// Base64 of base64: whoever quotes a whole Secret in base64.
const DEEPEST: usize = 2;

/// Makes a text from an answer fit for logs and conditions: without control characters and keys, and short.
pub(super) fn quote(text: &str, known: &[&RawKey]) -> String {
    // Control characters go first, lest one inside a key hide it.
    let printable: String = text.trim().chars().filter(|character| !character.is_control()).collect();
    // Before it is cut: half a key would not be recognized.
    let redacted = redacted(&printable, known);
    if redacted.chars().count() <= LONGEST_QUOTE {
        return redacted;
    }
    redacted.chars().take(LONGEST_QUOTE - 1).chain(['…']).collect()
}

/// `text` without keys: those that are known, and whatever looks like one; plain, or within base64, as Secrets have their
/// entries. An entry that has more than a key is base64 in which the key's own base64 does not occur, so all that could be
/// base64 is decoded.
pub(crate) fn redacted(text: &str, known: &[&RawKey]) -> String {
    let mut plain = text.to_owned();
    for key in known {
        let encoded = Zeroizing::new(BASE64.encode(key.expose().as_bytes()));
        plain = plain.replace(key.expose(), REDACTED).replace(encoded.as_str(), REDACTED);
    }
    let plain = redact_keys(&plain);
    let mut redacted = String::with_capacity(plain.len());
    let mut done = 0;
    for run in runs(plain.as_bytes()) {
        if hides_key(&plain.as_bytes()[run.clone()], known, DEEPEST) {
            redacted.extend([&plain[done..run.start], REDACTED]);
            done = plain.len() - plain[run.end..].trim_start_matches('=').len();
        }
    }
    redacted.push_str(&plain[done..]);
    redacted
}

fn redact_keys(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, prefix)) = next_prefix(rest) {
        let (before, from) = rest.split_at(at);
        let body = &from[prefix.len()..];
        let length = body.bytes().take_while(|byte| is_key_body(*byte)).count();
        redacted.push_str(before);
        redacted.push_str(prefix);
        redacted.push_str(if length >= SHORTEST_KEY_BODY { REDACTED } else { &body[..length] });
        rest = &body[length..];
    }
    redacted.push_str(rest);
    redacted
}

fn next_prefix(text: &str) -> Option<(usize, &'static str)> {
    KEY_PREFIXES.iter().filter_map(|prefix| text.find(prefix).map(|at| (at, *prefix))).min()
}

fn is_key_body(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// What could be base64, of either alphabet, without its padding.
fn runs(text: &[u8]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for end in 0..=text.len() {
        if text.get(end).is_some_and(|byte| sextet(*byte).is_some()) {
            continue;
        }
        if end - start >= SHORTEST_RUN {
            runs.push(start..end);
        }
        start = end + 1;
    }
    runs
}

/// Whether base64 hides a key. Where it begins is not known: a word may stand before it, without anything between.
fn hides_key(run: &[u8], known: &[&RawKey], depth: usize) -> bool {
    (0..4).any(|skipped| {
        let decoded = decoded(&run[skipped..]);
        let holds = |text: &[u8]| decoded.windows(text.len()).any(|window| window == text);
        let is_key = |at: usize, prefix: &str| {
            let body = decoded.get(at..).and_then(|from| from.strip_prefix(prefix.as_bytes())).unwrap_or_default();
            body.iter().take_while(|byte| is_key_body(**byte)).count() >= SHORTEST_KEY_BODY
        };
        known.iter().any(|key| holds(key.expose().as_bytes()))
            || (0..decoded.len()).any(|at| KEY_PREFIXES.iter().any(|prefix| is_key(at, prefix)))
            || depth > 1 && runs(&decoded).into_iter().any(|run| hides_key(&decoded[run], known, depth - 1))
    })
}

fn decoded(run: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(run.len()));
    let (mut bits, mut count) = (0_u32, 0);
    for sextet in run.iter().filter_map(|byte| sextet(*byte)) {
        (bits, count) = (bits << 6 | u32::from(sextet), count + 6);
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    decoded
}

/// What a letter of base64 stands for.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}
