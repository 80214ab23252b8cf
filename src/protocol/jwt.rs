//! The NATS JWT codec: three base64url parts, algorithm `ed25519-nkey`, version 2 claims (ADR-14).
//!
//! A token's claims come out only together with the proof that its issuer signed them:
//! [`Parsed::verify`] consumes the parsed token.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest::{SHA512_256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::BASE32_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::keys::{self, KeyError, KeyKind, SignError, Signer};

/// `{"typ":"JWT","alg":"ed25519-nkey"}` in base64url, as the Go library writes it.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ";

/// No NATS JWT is anywhere near this long; what is longer is not parsed.
pub(crate) const MAX_TOKEN_BYTES: usize = 1024 * 1024;

/// Why a token is no good.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Longer than a token may be.
    #[error("token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three base64url parts.
    #[error("token is not three base64url parts")]
    Shape,
    /// The header names another type or algorithm.
    #[error("token header is not that of an ed25519-nkey JWT")]
    Header,
    /// The claims are no JSON of the expected shape.
    #[error("token claims are malformed: {0}")]
    Claims(#[source] serde_json::Error),
    /// The claims are of another type or version.
    #[error("expected a version 2 token of the type {expected}")]
    Type {
        /// The type that was asked for.
        expected: &'static str,
    },
    /// The issuer is no key of the expected kind.
    #[error("token issuer: {0}")]
    Issuer(#[source] KeyError),
    /// The issuer did not sign this.
    #[error("token signature does not match its issuer")]
    Signature,
    /// The signer failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// The type-specific half of a NATS JWT, its `nats` claim.
pub trait Body: Serialize + DeserializeOwned + fmt::Debug {
    /// The value of `nats.type`.
    const TYPE: &'static str;
}

/// A NATS JWT's claims: the registered ones of RFC 7519 and the `nats` body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims<B> {
    /// `aud`
    pub audience: Option<String>,
    /// `exp`
    pub expires: Option<UnixSeconds>,
    /// `iat`
    pub issued_at: UnixSeconds,
    /// `name`
    pub name: Option<String>,
    /// `nbf`: read, never written, since a skewed clock would refuse.
    pub not_before: Option<UnixSeconds>,
    /// `sub`
    pub subject: String,
    /// `nats`
    pub body: B,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a, B> {
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    aud: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<UnixSeconds>,
    #[serde(default, borrow)]
    jti: Cow<'a, str>,
    #[serde(default)]
    iat: UnixSeconds,
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing)]
    nbf: Option<UnixSeconds>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    nats: B,
}

#[derive(Deserialize)]
struct TypeTag {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    version: u32,
}

#[derive(Deserialize)]
struct TypeOnly {
    nats: TypeTag,
}

/// What a body is wrapped in: `type` and `version` follow its own fields.
#[derive(Serialize)]
struct Typed<'a, B> {
    #[serde(flatten)]
    body: &'a B,
    #[serde(rename = "type")]
    kind: &'static str,
    version: u32,
}

impl<B: Body> Claims<B> {
    /// Of whom what is claimed; without an end.
    pub(crate) fn new(subject: impl ToString, name: &str, issued_at: UnixSeconds, body: B) -> Self {
        Self {
            audience: None,
            expires: None,
            issued_at,
            name: Some(name.to_owned()),
            not_before: None,
            subject: subject.to_string(),
            body,
        }
    }

    /// Signs the claims as `signer`. The same claims and key always give the same token, so that
    /// a server can tell a repeated account JWT from a changed one.
    pub async fn encode(&self, signer: &dyn Signer) -> Result<String, JwtError> {
        let unsigned = self.unsigned(signer.public_key())?;
        let signature = signer.sign(unsigned.as_bytes()).await?;
        Ok(finish(unsigned, &signature))
    }

    /// [`Self::encode`] with a key in memory.
    pub fn encode_now(&self, key: &keys::SigningKey) -> Result<String, JwtError> {
        let unsigned = self.unsigned(key.public_key())?;
        let signature = key.sign_now(unsigned.as_bytes());
        Ok(finish(unsigned, &signature))
    }

    fn unsigned(&self, issuer: &str) -> Result<String, JwtError> {
        let body =
            serde_json::value::to_raw_value(&Typed { body: &self.body, kind: B::TYPE, version: 2 })
                .map_err(JwtError::Claims)?;
        let mut wire = Wire {
            aud: self.audience.as_deref().map(Cow::Borrowed),
            exp: self.expires,
            jti: Cow::Borrowed(""),
            iat: self.issued_at,
            iss: Cow::Borrowed(issuer),
            name: self.name.as_deref().map(Cow::Borrowed),
            nbf: None,
            sub: Cow::Borrowed(&self.subject),
            nats: &*body,
        };
        let draft = serde_json::to_vec(&wire).map_err(JwtError::Claims)?;
        wire.jti = Cow::Owned(BASE32_NOPAD.encode(digest(&SHA512_256, &draft).as_ref()));
        let payload = serde_json::to_vec(&wire).map_err(JwtError::Claims)?;

        let mut token = String::with_capacity(HEADER.len() + payload.len() * 4 / 3 + 96);
        token.push_str(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
        Ok(token)
    }
}

fn finish(mut token: String, signature: &keys::Signature) -> String {
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// A token whose parts are sound and whose signature nobody has looked at yet. Its text may hold
/// secrets that its claims do not show: neither does `Debug`.
pub struct Parsed<'a, B> {
    signed: &'a str,
    signature: Vec<u8>,
    issuer: String,
    claims: Claims<B>,
}

impl<B: fmt::Debug> fmt::Debug for Parsed<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed")
            .field("issuer", &self.issuer)
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl<'a, B: Body> Parsed<'a, B> {
    /// Splits and reads a token.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Shape)?;
        check_header(header)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| JwtError::Shape)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Shape)?;
        let tag: TypeOnly = serde_json::from_slice(&payload).map_err(JwtError::Claims)?;
        if tag.nats.kind != B::TYPE || tag.nats.version != 2 {
            return Err(JwtError::Type { expected: B::TYPE });
        }
        let wire: Wire<'_, B> = serde_json::from_slice(&payload).map_err(JwtError::Claims)?;
        let some =
            |text: Option<Cow<'_, str>>| text.filter(|text| !text.is_empty()).map(Cow::into_owned);
        Ok(Self {
            signed,
            signature,
            issuer: wire.iss.into_owned(),
            claims: Claims {
                audience: some(wire.aud),
                expires: wire.exp.filter(|&exp| exp != 0),
                issued_at: wire.iat,
                name: some(wire.name),
                not_before: wire.nbf.filter(|&nbf| nbf != 0),
                subject: wire.sub.into_owned(),
                body: wire.nats,
            },
        })
    }

    /// Checks that the issuer is a key of the kind `K` and signed the token, and only then gives
    /// out its claims, with the issuer. Whether that issuer may say so is the caller's question.
    pub fn verify<K: IssuerKey>(self) -> Result<(Claims<B>, K), JwtError> {
        let issuer: K = self.issuer.parse().map_err(JwtError::Issuer)?;
        if keys::verify(issuer.raw_key(), self.signed.as_bytes(), &self.signature) {
            Ok((self.claims, issuer))
        } else {
            Err(JwtError::Signature)
        }
    }
}

fn check_header(header: &str) -> Result<(), JwtError> {
    #[derive(Deserialize)]
    struct Header {
        typ: String,
        alg: String,
        /// Extensions that a reader must understand, or refuse the token (RFC 7515, 4.1.11).
        crit: Option<serde::de::IgnoredAny>,
    }
    if header == HEADER {
        return Ok(());
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtError::Shape)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| JwtError::Header)?;
    let known = header.typ.eq_ignore_ascii_case("jwt") && header.alg == "ed25519-nkey";
    if known && header.crit.is_none() { Ok(()) } else { Err(JwtError::Header) }
}

/// A public key that can have issued a token.
pub trait IssuerKey: std::str::FromStr<Err = KeyError> {
    /// The kind of its seeds.
    const KIND: KeyKind;

    /// The 32 bytes of the public key.
    fn raw_key(&self) -> &[u8; 32];
}

macro_rules! issuer_key {
    ($key:ident, $kind:ident) => {
        impl IssuerKey for keys::$key {
            const KIND: KeyKind = KeyKind::$kind;

            fn raw_key(&self) -> &[u8; 32] {
                self.raw()
            }
        }
    };
}

issuer_key!(ServerId, Server);
issuer_key!(AccountId, Account);
issuer_key!(OperatorId, Operator);
