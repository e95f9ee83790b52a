//! Whose token is it? The marker at the end of a token's name at DataFast, so that a list alone can tell.

use std::fmt;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};

use crate::api::names::MARKER_START;

/// Characters of a token's name that are the user's; the marker takes 35 more.
pub const TOKEN_NAME_LENGTH: usize = 58;
const ID_LENGTH: usize = 8;
const NONCE_LENGTH: usize = 10;
/// Crockford's base32: no I, L, O or U, so that nobody misreads a nonce in DataFast's interface.
const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn is_base32(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| ALPHABET.as_bytes().contains(&b))
}

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str(ALPHABET);
    #[expect(clippy::expect_used, reason = "the alphabet is a constant of 32 distinct characters: it is always valid")]
    specification.encoding().expect("a valid alphabet")
});

macro_rules! code {
    ($(#[$doc:meta])* $name:ident, $length:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads one; `None` for anything but the right number of Crockford base32 characters.
            pub fn parse(text: &str) -> Option<Self> {
                is_base32(text, $length).then(|| Self(text.to_owned()))
            }
            /// The characters.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

code!(
    /// The cluster: a hash of the uid of the namespace `kube-system`.
    ClusterId, ID_LENGTH
);
code!(
    /// The resource: a hash of its uid. Nobody can choose a resource's uid, so nobody can forge being its owner.
    OwnerId, ID_LENGTH
);
code!(
    /// One attempt at issuing.
    Nonce, NONCE_LENGTH
);

fn hashed(uid: &str) -> String {
    let mut code = BASE32.encode(&Sha256::digest(uid.as_bytes()));
    code.truncate(ID_LENGTH);
    code
}

impl ClusterId {
    /// Of a cluster, by the uid of its namespace `kube-system`.
    pub fn of(kube_system_uid: &str) -> Self {
        Self(hashed(kube_system_uid))
    }
}

impl OwnerId {
    /// Of a resource, by its uid.
    pub fn of(uid: &str) -> Self {
        Self(hashed(uid))
    }

    /// A number that is another for each resource, and always the same: spreads what resources would do at one time.
    pub fn spread(&self) -> u16 {
        self.0.bytes().fold(0, |n: u16, byte| n.wrapping_mul(31).wrapping_add(byte.into()))
    }
}

impl Nonce {
    /// From random bytes of a CSPRNG: 50 bits of them are used.
    pub fn from_random(random: [u8; 7]) -> Self {
        let mut code = BASE32.encode(&random);
        code.truncate(NONCE_LENGTH);
        Self(code)
    }
}

/// What tells whose a token is, and of which attempt: `[k8s:<cluster>/<owner>.<nonce>]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marker {
    /// The cluster that caused the token.
    pub cluster: ClusterId,
    /// The resource that caused it.
    pub owner: OwnerId,
    /// The attempt that caused it.
    pub nonce: Nonce,
}

impl Marker {
    /// The name that a token gets at DataFast: the user's part, cut to 58 characters, and the marker.
    pub fn name(&self, token_name: &str) -> String {
        let user: String = token_name.chars().take(TOKEN_NAME_LENGTH).collect();
        format!("{user} {self}")
    }

    /// Reads the marker off the end of a token's name; `None` where there is none of ours.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, marker) = name.rsplit_once(MARKER_START)?;
        let (cluster, rest) = marker.strip_suffix(']')?.split_once('/')?;
        let (owner, nonce) = rest.split_once('.')?;
        Some(Self { cluster: ClusterId::parse(cluster)?, owner: OwnerId::parse(owner)?, nonce: Nonce::parse(nonce)? })
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARKER_START}{}/{}.{}]", self.cluster, self.owner, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            cluster: ClusterId::of("a"),
            owner: OwnerId::of("b"),
            nonce: Nonce::from_random([1, 2, 3, 4, 5, 6, 7]),
        }
    }

    #[test]
    fn a_name_holds_at_most_93_characters_and_its_marker_reads_back() {
        for name in ["a", "team/agent", &"ü".repeat(80), "sly [k8s:00000000/00000000.0000000000]"] {
            let full = marker().name(name);
            assert!(full.chars().count() <= 93, "{full}");
            assert_eq!(Marker::of_name(&full), Some(marker()));
        }
    }

    #[test]
    fn what_is_not_quite_a_marker_is_none() {
        for name in [
            "",
            "agent",
            "x [k8s:]",
            "x [k8s:00000000/00000000]",
            "x [k8s:00000000/00000000.0000000000",
            "x [k8s:00000000/00000000.0000000000] ",
            "x [k8s:0000000/00000000.0000000000]",
            "x [k8s:00000000/00000000.000000000I]",
            "x [k8s:00000000/00000000.000000000a]",
        ] {
            assert_eq!(Marker::of_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn uids_are_hashed_to_eight_characters() {
        assert_eq!(OwnerId::of("6a8f4c1e-9d1c-4a55-8f0e-0d9b7c1f2e3d").as_str().len(), 8);
        assert_ne!(OwnerId::of("a"), OwnerId::of("b"));
    }
}
