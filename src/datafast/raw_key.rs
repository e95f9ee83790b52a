//! The one type for raw keys.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// A raw key or credential. Its memory is wiped on drop; `Debug` shows nothing of it, and it has neither `Display`,
/// `Serialize` nor `Clone`.
pub struct RawKey(SecretString);

/// A text that is no raw key. It says nothing of the text, which may be a key with a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 1 to 512 visible ASCII characters without white space")]
pub struct InvalidKey;

/// What stands between the two shown ends of a masked key.
const MASK: &str = "...";
const SHOWN_HEAD: usize = 7;
const SHOWN_TAIL: usize = 4;
/// A mask must hide at least as much as it shows.
const SHORTEST_MASKABLE: usize = 2 * (SHOWN_HEAD + SHOWN_TAIL);
/// What may stand for the hidden part. Only the first is documented, and only with that one a key can be compared.
const KNOWN_MASKS: [&str; 4] = [MASK, "…", "***", "•••"];
const LONGEST_MASK: usize = 48;
/// Letters and digits: somewhat more than are documented, and too few for a key.
const MOST_SHOWN: usize = 16;

/// Whether a text may be shown as a masked key: short, printable, and with most of the key hidden.
pub(super) fn is_mask(text: &str) -> bool {
    text.len() <= LONGEST_MASK
        && text.chars().all(|character| character.is_ascii_graphic() || matches!(character, '…' | '•'))
        && text.chars().filter(char::is_ascii_alphanumeric).count() <= MOST_SHOWN
        && KNOWN_MASKS.iter().any(|mask| text.contains(mask))
}

impl RawKey {
    pub(super) const LONGEST: usize = 512;

    /// Takes a key over: nothing is trimmed, and `text` is wiped.
    ///
    /// # Errors
    /// Where `text` cannot be a key: it could not stand in an HTTP header.
    pub fn parse(mut text: String) -> Result<Self, InvalidKey> {
        let fits = !text.is_empty() && text.len() <= Self::LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        // A copy of exact length: turning the String itself into a box may move it and leave its old memory unwiped.
        let key = fits.then(|| Self(SecretString::from(Box::<str>::from(text.as_str()))));
        text.zeroize();
        key.ok_or(InvalidKey)
    }

    /// The key itself: the one way out. Three callers may use it: the `Authorization` header of a request to DataFast,
    /// the rendering of the Secret that delivers the key, and the redaction of texts.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The masked key in DataFast's shape: the first 7 characters, `...`, the last 4. Of a key too short to hide
    /// anything that way, only `...`.
    pub fn mask(&self) -> String {
        let key = self.expose();
        if key.len() < SHORTEST_MASKABLE {
            return MASK.to_owned();
        }
        // Keys are ASCII, so every byte is a character.
        format!("{}{MASK}{}", &key[..SHOWN_HEAD], &key[key.len() - SHOWN_TAIL..])
    }

    /// Whether this may be the key that DataFast shows as `display_key`. None: `display_key` is not of the shape
    /// `head...tail` and tells nothing.
    pub fn fits(&self, display_key: &str) -> Option<bool> {
        let (head, tail) = display_key.split_once(MASK)?;
        if head.is_empty() || tail.is_empty() {
            return None;
        }
        let key = self.expose();
        // The ends must not overlap: a short key could fit twice over the same characters.
        Some(key.len() >= head.len() + tail.len() && key.starts_with(head) && key.ends_with(tail))
    }

    /// Lowercase hex of SHA-256 over `salt`, a zero byte and the key: tells keys apart without telling them.
    pub fn fingerprint(&self, salt: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(salt.as_bytes());
        hash.update([0]);
        hash.update(self.expose().as_bytes());
        data_encoding::HEXLOWER.encode(&hash.finalize())
    }
}

impl fmt::Debug for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawKey(..)")
    }
}
