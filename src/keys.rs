//! The keys that a decision touches, checked when they are parsed: public keys of one kind each,
//! signing keys and curve keys that never show their seed.
//!
//! Text forms are NATS nkeys: base32 with a prefix for the kind and a CRC-16
//! (<https://github.com/nats-io/nkeys>). Signatures are Ed25519 (RFC 8032).

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::BASE32_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// What is wrong with a key. Never holds key material.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// The text is no nkey: its length, alphabet, prefix or checksum is off.
    #[error("not an nkey of the kind {expected} (wrong length, alphabet, prefix or checksum)")]
    Malformed {
        /// The kind that was asked for.
        expected: &'static str,
    },
    /// The text is a sound nkey of another kind.
    #[error("expected an nkey of the kind {expected}, found the kind {found}")]
    WrongKind {
        /// The kind that was asked for.
        expected: &'static str,
        /// The kind that was found.
        found: String,
    },
    /// The key is a point of small order: anybody can make signatures that it verifies.
    #[error("an nkey of the kind {expected} that anybody can sign for (a point of small order)")]
    Weak {
        /// The kind that was asked for.
        expected: &'static str,
    },
}

/// A signature could not be made; the text says why and holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SignError(pub String);

const ENCODED_LEN: usize = 56;

fn parse_public(text: &str, prefix: char, kind: &'static str) -> Result<[u8; 32], KeyError> {
    let malformed = KeyError::Malformed { expected: kind };
    if text.len() != ENCODED_LEN {
        return Err(malformed);
    }
    let sound = match text.chars().next() {
        Some('X') => nkeys::XKey::from_public_key(text).is_ok(),
        _ => nkeys::from_public_key(text).is_ok(),
    };
    if !sound {
        return Err(malformed);
    }
    if !text.starts_with(prefix) {
        return Err(KeyError::WrongKind { expected: kind, found: text.chars().take(1).collect() });
    }
    let raw = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| malformed.clone())?;
    let raw = raw.get(1..33).and_then(|bytes| bytes.try_into().ok()).ok_or(malformed)?;
    if prefix != 'X' && has_small_order(&raw) {
        return Err(KeyError::Weak { expected: kind });
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

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
            #[must_use]
            pub fn raw(&self) -> &[u8; 32] {
                &self.raw
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let raw = parse_public(text, $prefix, $kind)?;
                let text = text
                    .as_bytes()
                    .try_into()
                    .map_err(|_| KeyError::Malformed { expected: $kind })?;
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

/// Something that signs: a key in memory, or a remote one (a KMS, an HSM).
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public nkey whose signatures these are.
    fn public_key(&self) -> &str;

    /// Signs the message.
    async fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;
}

/// What kind of entity a signing key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `SO...`
    Operator,
    /// `SA...`
    Account,
    /// `SU...`
    User,
    /// `SN...`
    Server,
}

impl KeyKind {
    fn nkey(self) -> KeyPairType {
        match self {
            Self::Operator => KeyPairType::Operator,
            Self::Account => KeyPairType::Account,
            Self::User => KeyPairType::User,
            Self::Server => KeyPairType::Server,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator seed (SO...)",
            Self::Account => "account seed (SA...)",
            Self::User => "user seed (SU...)",
            Self::Server => "server seed (SN...)",
        }
    }
}

/// A private Ed25519 key in memory.
pub struct SigningKey {
    public: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Parses a seed and refuses one of another kind.
    pub fn from_seed(seed: &str, kind: KeyKind) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { expected: kind.name() };
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| malformed())?;
        if pair.key_pair_type() != kind.nkey() {
            return Err(KeyError::WrongKind {
                expected: kind.name(),
                found: format!("{:?}", pair.key_pair_type()),
            });
        }
        let (_, raw) = nkeys::decode_seed(seed.trim()).map_err(|_| malformed())?;
        let raw = Zeroizing::new(raw);
        Ok(Self {
            public: pair.public_key(),
            pair: Ed25519KeyPair::from_seed_unchecked(raw.as_slice()).map_err(|_| malformed())?,
        })
    }

    /// Makes a new random key and returns it with its seed, to be written to a file.
    pub fn generate(kind: KeyKind) -> Result<(Self, Zeroizing<String>), KeyError> {
        let seed = KeyPair::new(kind.nkey())
            .seed()
            .map(Zeroizing::new)
            .map_err(|_| KeyError::Malformed { expected: kind.name() })?;
        Ok((Self::from_seed(&seed, kind)?, seed))
    }

    /// The public nkey.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// The public nkey as a checked value of the asked kind.
    pub fn public<K: FromStr<Err = KeyError>>(&self) -> Result<K, KeyError> {
        self.public.parse()
    }

    /// Signs the message at once.
    #[must_use]
    pub fn sign_now(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        let made = self.pair.sign(message);
        for (to, from) in signature.iter_mut().zip(made.as_ref()) {
            *to = *from;
        }
        signature
    }

    /// The 32 raw bytes of the public key.
    #[must_use]
    pub fn public_raw(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

#[async_trait]
impl Signer for SigningKey {
    fn public_key(&self) -> &str {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(self.sign_now(message))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// A private curve key (`SX...`), which opens and seals what travels on the wire.
pub struct XKey {
    public: XPublicKey,
    secret: crypto_box::SecretKey,
}

impl XKey {
    const KIND: &'static str = "curve seed (SX...)";

    /// Parses a curve seed.
    pub fn from_seed(seed: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { expected: Self::KIND };
        let seed = seed.trim();
        let public = nkeys::XKey::from_seed(seed).map_err(|_| malformed())?.public_key();
        let (_, raw) = nkeys::decode_seed(seed).map_err(|_| malformed())?;
        let raw = Zeroizing::new(raw);
        Ok(Self { public: public.parse()?, secret: crypto_box::SecretKey::from_bytes(*raw) })
    }

    /// Makes a new random key and returns it with its seed.
    pub fn generate() -> Result<(Self, Zeroizing<String>), KeyError> {
        let seed = nkeys::XKey::new()
            .seed()
            .map(Zeroizing::new)
            .map_err(|_| KeyError::Malformed { expected: Self::KIND })?;
        Ok((Self::from_seed(&seed)?, seed))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &XPublicKey {
        &self.public
    }

    /// The key shared with `peer`: one X25519, to be kept.
    pub(crate) fn shared_with(&self, peer: &XPublicKey) -> crypto_box::SalsaBox {
        crypto_box::SalsaBox::new(&crypto_box::PublicKey::from(*peer.raw()), &self.secret)
    }
}

impl fmt::Debug for XKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XKey({})", self.public)
    }
}
