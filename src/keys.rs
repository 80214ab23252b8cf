//! The keys that a decision touches, checked when they are parsed: public keys of one kind each,
//! signing keys and curve keys that never show their seed.
//!
//! Text forms are NATS nkeys: base32 with a prefix for the kind and a CRC-16
//! (<https://github.com/nats-io/nkeys>). Signatures are Ed25519 (RFC 8032).

pub(crate) mod public;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

pub use self::public::{AccountId, UserNkey, XPublicKey};
pub(crate) use self::public::{OperatorId, ServerId, random_account_id, verify};

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// What is wrong with a key. Never holds key material.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("{0}")]
pub struct KeyError(String);

impl KeyError {
    fn malformed(expected: &str) -> Self {
        Self(format!(
            "not an nkey of the kind {expected} (wrong length, alphabet, prefix or checksum)"
        ))
    }

    fn wrong_kind(expected: &str, found: impl fmt::Display) -> Self {
        Self(format!("expected an nkey of the kind {expected}, found the kind {found}"))
    }

    /// A point of small order: anybody can make signatures that it verifies.
    fn weak(expected: &str) -> Self {
        Self(format!(
            "an nkey of the kind {expected} that anybody can sign for (a point of small order)"
        ))
    }
}

/// A signature could not be made; the text says why and holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SignError(pub String);

/// Something that signs: a key in memory, or a remote one (a KMS, an HSM).
///
/// ```
/// use nats_callout::keys::{KeyKind, Signer, SigningKey};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (key, _seed) = SigningKey::generate(KeyKind::Account)?;
/// assert_eq!(key.sign(b"what it signs").await?.len(), 64);
/// # Ok(())
/// # }
/// ```
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
        let malformed = || KeyError::malformed(kind.name());
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| malformed())?;
        if pair.key_pair_type() != kind.nkey() {
            let found = format!("{:?}", pair.key_pair_type());
            return Err(KeyError::wrong_kind(kind.name(), found));
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
            .map_err(|_| KeyError::malformed(kind.name()))?;
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
        let malformed = || KeyError::malformed(Self::KIND);
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
            .map_err(|_| KeyError::malformed(Self::KIND))?;
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
