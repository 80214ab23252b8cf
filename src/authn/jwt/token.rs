//! A JWT as text ([RFC 7515](https://www.rfc-editor.org/rfc/rfc7515), compact form): taken apart,
//! and verified with a key of its issuer. Only what is needed to choose the key is looked at before
//! the signature is known to be right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::authn::{Denied, DenyReason};
use crate::causes::quoted;
use crate::redact::shortened;

/// The longest JWT that is looked at. A connection's whole CONNECT line is at most 4 KiB unless
/// nats-server's `max_control_line` says otherwise.
const MAX_BYTES: usize = 8 * 1024;

/// What a `typ` may be: a JWT, or an OAuth access token (RFC 9068). Everything else is made for
/// another purpose.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Why a JWT is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("longer than {MAX_BYTES} bytes; have its issuer write fewer claims into it")]
    TooLong,
    #[error(
        "malformed: header and payload have to be JSON objects, and `alg`, `kid` and `typ` texts"
    )]
    Malformed,
    #[error("`alg`, which is {0}, is none of the issuer's `algorithms`")]
    Algorithm(String),
    #[error("`typ` says that it was made for another purpose")]
    Type,
    #[error("`{0}` says that it was made for another purpose")]
    Purpose(&'static str),
    #[error("`crit` demands what is not known here")]
    Critical,
    #[error("no key of the issuer fits `kid` and `alg`; compare them with its key set")]
    NoKey,
    #[error("more keys of the issuer fit than are tried, and `kid` does not tell which")]
    Ambiguous,
    #[error("the signature is not by a key of the issuer, or cut short")]
    Signature,
    #[error("its `iss` is another issuer")]
    OtherIssuer,
    #[error("its `audience_claim` (`aud`) is missing, or names none of the issuer's `audience`")]
    Audience,
    #[error("`exp` is missing or no number")]
    NoEnd,
    #[error(
        "`{0}` is after the year 9999; have the issuer write seconds (RFC 7519, section 2), and no milliseconds"
    )]
    NoSeconds(&'static str),
    #[error("`nbf` or `iat` is no number, or in the future; compare the clocks (`leeway`)")]
    NotYet,
    #[error("`exp` is in the past; have the issuer make another")]
    Expired,
    #[error(
        "the claim that names the user (`user_claim`) is missing, no name of a user, or not verified"
    )]
    NoUser,
    #[error("the claim that names the tenant (`tenant_claim`) is missing, or no tenant's id")]
    NoTenant,
    #[error("the claim `{0}` can be read in two ways, which lead to different values")]
    ClaimTwice(String),
    #[error(
        "the user name beside it is another than its own (the issuer's `user_name` may be `any`, which lets \
         any stand there)"
    )]
    OtherUser,
    #[error("no value of its `policy_claim` has a policy, and `policy` names none")]
    NoPolicy,
}

impl From<Flaw> for Denied {
    fn from(flaw: Flaw) -> Self {
        let reason = match flaw {
            Flaw::Expired => DenyReason::TokenExpired,
            _ => DenyReason::InvalidToken,
        };
        Self::from(reason).with_detail(flaw.to_string())
    }
}

/// Whether a text is a JWT by its looks: three parts, the first of which is a JSON object that
/// names an algorithm.
pub(crate) fn is_jwt(text: &str) -> bool {
    let Some([header, rest @ ..]) = split(text) else { return false };
    rest.iter().all(|part| is_base64url(part))
        && object(header).is_some_and(|header| header.get("alg").is_some_and(Value::is_string))
}

/// What is said of [`is_nearly_jwt`].
pub(crate) const NEARLY_JWT: &str = "it begins as a JWT does and is none; give it whole, with an `alg`, and nothing before or behind it";

/// Whether a text was meant as a JWT and is none: it is not whole, or in quotes, or there is something before or
/// behind it. Five parts are an encrypted token (RFC 7516), which only its issuer can read.
pub(crate) fn is_nearly_jwt(text: &str) -> bool {
    let text = text.trim_end();
    let is_encrypted = text.split('.').count() == 5 && text.split('.').all(is_base64url);
    let parts = text.split(|c: char| !c.is_ascii() || !is_base64url_byte(c as u8));
    !is_encrypted && !is_jwt(text) && parts.into_iter().any(begins_json)
}

/// Whether it is the beginning of a JSON object in base64url, as no random text is but one in many millions.
fn begins_json(part: &str) -> bool {
    let whole = (part.len() / 4 * 4).min(16);
    let is_printable = |decoded: Vec<u8>| decoded.iter().all(|it| (b' '..=b'~').contains(it));
    part.starts_with("eyJ")
        && whole >= 12
        && part.get(..whole).is_some_and(|it| URL_SAFE_NO_PAD.decode(it).is_ok_and(is_printable))
}

fn is_base64url(part: &str) -> bool {
    part.bytes().all(is_base64url_byte)
}

fn is_base64url_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn split(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('.');
    let split = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(split)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

/// A JWT that anybody may have made.
pub(super) struct Unverified<'a> {
    header: Header,
    has_critical: bool,
    claims: Map<String, Value>,
    message: &'a str,
    signature: &'a str,
}

/// The claims of a JWT whose signature is its issuer's.
#[derive(Debug)]
pub(super) struct Verified(Map<String, Value>);

impl Verified {
    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Flaw> {
        if text.len() > MAX_BYTES {
            return Err(Flaw::TooLong);
        }
        let [header, payload, _] = split(text).ok_or(Flaw::Malformed)?;
        let (message, signature) = text.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let header = object(header).ok_or(Flaw::Malformed)?;
        let claims = object(payload).ok_or(Flaw::Malformed)?;
        // Even an empty or malformed `crit` is a demand.
        let has_critical = header.contains_key("crit");
        let header = serde_json::from_value(Value::Object(header)).map_err(|_| Flaw::Malformed)?;
        Ok(Self { header, has_critical, claims, message, signature })
    }

    /// Who claims to have made it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Which key it claims to be signed with.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Its algorithm, if it is one of those that its issuer may use and the header demands nothing
    /// that is not done here.
    pub(super) fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, Flaw> {
        let algorithm = self.header.alg.parse().ok().filter(|it| allowed.contains(it));
        let other = || Flaw::Algorithm(quoted(shortened(&self.header.alg)));
        let algorithm = algorithm.ok_or_else(other)?;
        self.check_header()?;
        Ok(algorithm)
    }

    /// Checks that its header demands nothing that is not done here, and is that of a token which logs somebody in.
    pub(super) fn check_header(&self) -> Result<(), Flaw> {
        if self.has_critical {
            return Err(Flaw::Critical);
        }
        let typ = self.header.typ.as_deref().unwrap_or("jwt").to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        if TYPES.contains(&typ) { Ok(()) } else { Err(Flaw::Type) }
    }

    /// What it says, which anybody may have written.
    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Its claims, if one of these keys has signed it.
    pub(super) fn verify<'k>(
        self,
        keys: impl IntoIterator<Item = &'k DecodingKey>,
        algorithm: Algorithm,
    ) -> Result<Verified, Flaw> {
        let is_signed = self.is_signed_by(keys, algorithm);
        if is_signed { Ok(Verified(self.claims)) } else { Err(Flaw::Signature) }
    }

    pub(super) fn is_signed_by<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k DecodingKey>,
        algorithm: Algorithm,
    ) -> bool {
        let message = self.message.as_bytes();
        let signed = |key: &DecodingKey| {
            jsonwebtoken::crypto::verify(self.signature, message, key, algorithm).unwrap_or(false)
        };
        keys.into_iter().any(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: &str, payload: &str) -> String {
        let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
        format!("{}.{}.c2ln", encode(header), encode(payload))
    }

    #[test]
    fn what_was_meant_as_a_jwt() {
        let jwt = text(r#"{"alg":"RS256"}"#, r#"{"sub":"alice"}"#);
        for whole in [jwt.as_str(), "hunter2", "eyJ", "eyJhbG", "eyJust.a.name", ""] {
            assert!(!is_nearly_jwt(whole), "{whole}");
        }
        assert!(!is_nearly_jwt(&format!("{jwt}\n")));
        assert!(!is_nearly_jwt("eyJhbGciOiJkaXIifQ..aXY.dGV4dA.dGFn"), "it is encrypted");
        for nearly in [
            "\"JWT\"",
            "'JWT'",
            "<JWT>",
            "token=JWT",
            "Bearer JWT",
            "Bearer:JWT",
            "{\"token\":\"JWT\"}",
            "JWT,",
            "JWT;",
            "JWT.more",
            " JWT",
            "JWT JWT",
        ] {
            assert!(is_nearly_jwt(&nearly.replace("JWT", &jwt)), "{nearly}");
        }
        let (two, _) = jwt.rsplit_once('.').unwrap();
        for nearly in [two, &jwt[1..], &jwt.replace('.', "%2E"), &jwt[..20]] {
            assert!(is_nearly_jwt(nearly), "{nearly}");
        }
    }

    #[test]
    fn what_looks_like_a_jwt() {
        assert!(is_jwt(&text(r#"{"alg":"RS256"}"#, "{}")));
        assert!(is_jwt(&text(r#"{"alg":"none"}"#, "{}").replace("c2ln", "")));
        assert!(is_jwt(&text(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#, "not json")));
        let jwt = text(r#"{"alg":"RS256"}"#, "{}");
        for other in [
            "",
            "hunter2",
            "nct_0000000000000000000000000000000019Bvis",
            "a.b.c",
            "eyJ.eyJ.eyJ",
            &format!("{jwt}.x"),
            &format!("{jwt}="),
            &format!(" {jwt}"),
            &text(r#"{"typ":"JWT"}"#, "{}"),
            &text(r#"{"alg":5}"#, "{}"),
            &text(r#"["alg"]"#, "{}"),
        ] {
            assert!(!is_jwt(other), "{other}");
        }
    }

    #[test]
    fn headers_that_are_refused() {
        let other = |alg: &str| Flaw::Algorithm(format!("`{alg}`"));
        let of = |header: &str| {
            let text = text(header, r#"{"iss":"me"}"#);
            Unverified::parse(&text).and_then(|it| it.algorithm(&[Algorithm::RS256]))
        };
        assert_eq!(of(r#"{"alg":"RS256"}"#), Ok(Algorithm::RS256));
        for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
            let header = format!(r#"{{"alg":"RS256","typ":"{typ}","jku":"http://x","x5c":[1]}}"#);
            assert_eq!(of(&header), Ok(Algorithm::RS256), "{typ}");
        }
        for (header, flaw) in [
            (r#"{"alg":"none"}"#, other("none")),
            (r#"{"alg":"None"}"#, other("None")),
            (r#"{"alg":"HS256"}"#, other("HS256")),
            (r#"{"alg":"RS512"}"#, other("RS512")),
            (r#"{"alg":"ed25519-nkey","typ":"JWT"}"#, other("ed25519-nkey")),
            (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, Flaw::Critical),
            (r#"{"alg":"RS256","crit":null}"#, Flaw::Critical),
            (r#"{"alg":"RS256","typ":"logout+jwt"}"#, Flaw::Type),
            (r#"{"alg":"RS256","typ":"dpop+jwt"}"#, Flaw::Type),
            (r#"{"alg":"RS256","kid":7}"#, Flaw::Malformed),
            (r#"{"alg":["RS256"]}"#, Flaw::Malformed),
        ] {
            assert_eq!(of(header), Err(flaw), "{header}");
        }
    }

    #[test]
    fn a_long_one_is_not_decoded() {
        let long = text(r#"{"alg":"RS256"}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_BYTES)));
        assert!(is_jwt(&long));
        assert_eq!(Unverified::parse(&long).err(), Some(Flaw::TooLong));
        assert_eq!(Unverified::parse("a.b").err(), Some(Flaw::Malformed));
        let list = text(r#"{"alg":"RS256"}"#, "[]");
        assert_eq!(Unverified::parse(&list).err(), Some(Flaw::Malformed));
    }
}
