//! Public keys, each of one kind, and what is verified by them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE32_NOPAD;
use nkeys::KeyPair;

use super::KeyError;

const ENCODED_LEN: usize = 56;

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name {
            raw: [u8; 32],
            text: [u8; ENCODED_LEN],
        }

        impl $name {
            /// The nkey's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.text).unwrap_or_default()
            }

            /// The 32 bytes of the public key itself.
            pub(crate) fn raw(&self) -> &[u8; 32] {
                &self.raw
            }
        }

        // Each is the other one's form: one of them tells keys apart.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.raw == other.raw
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.raw.hash(state);
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let raw = parse_public(text, $prefix, $kind)?;
                let text = text
                    .as_bytes()
                    .try_into()
                    .map_err(|_| KeyError::malformed($kind))?;
                Ok(Self { raw, text })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

public_key!(
    /// The identity of a nats-server (`N...`).
    ServerId, 'N', "server (N...)"
);
public_key!(
    /// The identity of an account, or one of its signing keys (`A...`).
    AccountId, 'A', "account (A...)"
);
public_key!(
    /// The key of one user or of one connection (`U...`).
    UserNkey, 'U', "user (U...)"
);
public_key!(
    /// The identity of an operator, or one of its signing keys (`O...`).
    OperatorId, 'O', "operator (O...)"
);
public_key!(
    /// A public curve key (`X...`).
    XPublicKey, 'X', "curve (X...)"
);

/// Whether `signature` over `message` was made by the key whose raw bytes are `public`.
#[must_use]
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// A fresh random account identity of which nobody keeps the private half.
#[must_use]
pub fn random_account_id() -> Option<AccountId> {
    KeyPair::new_account().public_key().parse().ok()
}

fn parse_public(text: &str, prefix: char, kind: &'static str) -> Result<[u8; 32], KeyError> {
    let malformed = || KeyError::malformed(kind);
    if text.len() != ENCODED_LEN {
        return Err(malformed());
    }
    let sound = match text.chars().next() {
        Some('X') => nkeys::XKey::from_public_key(text).is_ok(),
        _ => nkeys::from_public_key(text).is_ok(),
    };
    if !sound {
        return Err(malformed());
    }
    if !text.starts_with(prefix) {
        return Err(KeyError::wrong_kind(kind, text.get(..1).unwrap_or_default()));
    }
    let raw = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?;
    let raw = raw.get(1..33).and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
    if prefix != 'X' && has_small_order(&raw) {
        return Err(KeyError::weak(kind));
    }
    Ok(raw)
}

/// The points of edwards25519 whose order divides 8 (RFC 7748, section 7), by their y: every
/// encoding of each, the sign of x left out. RFC 8032 lets a verifier take them, and ours does.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut point = [middle; 32];
        point[0] = first;
        point[31] = last;
        point
    }
    [
        ends(0, 0, 0),
        ends(1, 0, 0),
        ends(0xec, 0xff, 0x7f),
        ends(0xed, 0xff, 0x7f),
        ends(0xee, 0xff, 0x7f),
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

fn has_small_order(key: &[u8; 32]) -> bool {
    let mut unsigned = *key;
    let [.., last] = &mut unsigned;
    *last &= 0x7f;
    SMALL_ORDER.contains(&unsigned)
}
