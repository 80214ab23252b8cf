//! An issuer's public keys: a JWK set ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)), of which
//! those are kept that can verify what the issuer may use. A key serves the algorithms that both its
//! kind and its own `alg` allow; shared secrets in a public set are never one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// So many keys are tried at most where none is named.
pub(crate) const TRIED: usize = 8;

/// Shorter RSA keys are refused (RFC 7518, section 3.3).
const MIN_RSA_BITS: usize = 2_048;

const OF_RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why a set is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it is no JWK set: a JSON object with the list `keys`")]
    Malformed,
    #[error("none of its {0} keys can verify what [issuers] `algorithms` allows")]
    Unusable(usize),
}

/// What a file is that is no set, and what makes it one.
pub(super) fn instead_of_set(text: &[u8]) -> &'static str {
    const PEM: &[u8] = b"-----BEGIN ";
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(jwk)) if jwk.contains_key("kty") => {
            "but a single JWK: put it into {\"keys\": [...]}"
        }
        Ok(Value::Array(_)) => "but a list: write it as {\"keys\": [...]}",
        Ok(_) => {
            "but JSON without the list `keys`: write {\"keys\": [...]}, with a JWK for each key"
        }
        Err(_) if text.trim_ascii().is_empty() => {
            "but empty: write {\"keys\": [...]} into it, with a JWK for each key"
        }
        Err(_) if text.windows(PEM.len()).any(|it| it == PEM) => {
            "but a key or certificate in PEM: make a JWK of the public key, and put that into {\"keys\": [...]}"
        }
        Err(_) => "and no JSON: write {\"keys\": [...]}, with a JWK for each key",
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The members that are read; others, such as `x5u` and `x5c`, are not.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A public key, and what it may verify.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl Key {
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// What there is of an issuer's keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many are usable.
    pub(crate) keys: usize,
    /// Algorithms with more keys without an id than are tried, so that no JWT is verified with one of these.
    pub(crate) crowded: Vec<Algorithm>,
}

/// All usable keys of an issuer, at least one.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Arc<Key>>);

/// Which keys a JWT may be verified with.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// One of these, at least one.
    Keys(Vec<Arc<Key>>),
    /// None is known by that id, or none fits where there is no id: the issuer may have a new one.
    Unknown,
    /// The one of that id does not serve the algorithm.
    Unfit,
    /// More than are tried.
    TooMany,
}

impl KeySet {
    /// Reads a set, and keeps what serves one of the algorithms.
    pub(super) fn parse(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let set: Set = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        let count = set.keys.len();
        // One that cannot be read is passed over: issuers add new kinds beside the known ones.
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .filter_map(|value| serde_json::from_value::<Jwk>(value).ok()?.into_key(allowed))
            .map(Arc::new)
            .collect();
        if keys.is_empty() { Err(KeySetError::Unusable(count)) } else { Ok(Self(keys)) }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn ids(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(|key| key.id.as_deref())
    }

    /// What somebody who looks at it has to know.
    pub(super) fn found(&self) -> Found {
        let nameless = || self.0.iter().filter(|key| key.id.is_none());
        let serving = |it: &Algorithm| nameless().filter(|key| key.algorithms.contains(it)).count();
        let mut crowded: Vec<Algorithm> = Vec::new();
        for algorithm in nameless().flat_map(|key| &key.algorithms) {
            if !crowded.contains(algorithm) && serving(algorithm) > TRIED {
                crowded.push(*algorithm);
            }
        }
        Found { keys: self.len(), crowded }
    }

    /// The keys of this id that serve the algorithm; where none has it, those that have no id; without an id, all
    /// that serve it.
    pub(super) fn choose(&self, id: Option<&str>, algorithm: Algorithm) -> Choice {
        let is_known = id.is_some() && self.0.iter().any(|key| key.id.as_deref() == id);
        let fits = |key: &&Arc<Key>| {
            let may = match id {
                None => true,
                Some(_) if is_known => key.id.as_deref() == id,
                Some(_) => key.id.is_none(),
            };
            may && key.algorithms.contains(&algorithm)
        };
        let fitting: Vec<Arc<Key>> = self.0.iter().filter(fits).cloned().collect();
        match fitting.len() {
            0 if is_known => Choice::Unfit,
            0 => Choice::Unknown,
            1..=TRIED => Choice::Keys(fitting),
            _ => Choice::TooMany,
        }
    }
}

impl Jwk {
    fn into_key(self, allowed: &[Algorithm]) -> Option<Key> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig")
            || self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let (decoding, mut algorithms) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (self.rsa()?, OF_RSA.to_vec()),
            ("EC", Some("P-256")) => (self.curve(32)?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (self.curve(48)?, vec![Algorithm::ES384]),
            ("OKP", Some("Ed25519")) => {
                (DecodingKey::from_ed_der(&exactly(32, self.x.as_deref())?), vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        let own = self.alg.as_deref();
        // RFC 9864's name for the same.
        let own = own.map(|name| if name == "Ed25519" { "EdDSA" } else { name });
        algorithms.retain(|it| {
            allowed.contains(it) && own.is_none_or(|own| own.parse().ok() == Some(*it))
        });
        (!algorithms.is_empty()).then_some(Key { id: self.kid, algorithms, decoding })
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let (modulus, exponent) = (decode(self.n.as_deref())?, decode(self.e.as_deref())?);
        let modulus = unpadded(&modulus);
        let first = modulus.first()?;
        let bits = modulus.len() * 8 - usize::try_from(first.leading_zeros()).ok()?;
        (bits >= MIN_RSA_BITS)
            .then(|| DecodingKey::from_rsa_raw_components(modulus, unpadded(&exponent)))
    }

    fn curve(&self, size: usize) -> Option<DecodingKey> {
        let mut point = vec![0x04];
        point.extend(exactly(size, self.x.as_deref())?);
        point.extend(exactly(size, self.y.as_deref())?);
        Some(DecodingKey::from_ec_der(&point))
    }
}

/// Some issuers write a leading zero byte, which the library does not take.
fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn decode(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok()
}

fn exactly(size: usize, text: Option<&str>) -> Option<Vec<u8>> {
    decode(text).filter(|bytes| bytes.len() == size)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: [Algorithm; 5] =
        [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

    fn parse(keys: &Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &ALL)
    }

    fn bytes(count: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0x81; count])
    }

    fn rsa(id: &str) -> Value {
        json!({ "kty": "RSA", "kid": id, "n": bytes(256), "e": "AQAB" })
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    #[test]
    fn keys_that_are_of_no_use() {
        for key in [
            json!({ "kty": "oct", "k": bytes(64), "alg": "HS256" }),
            json!({ "kty": "oct", "k": bytes(64), "alg": "RS256" }),
            json!({ "kty": "RSA", "n": bytes(255), "e": "AQAB" }),
            json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([vec![0], vec![0x7f; 256]].concat()),
                    "e": "AQAB" }),
            json!({ "kty": "RSA", "e": "AQAB" }),
            with(rsa("a"), "use", json!("enc")),
            with(rsa("a"), "key_ops", json!(["encrypt"])),
            with(rsa("a"), "alg", json!("RSA-OAEP")),
            with(rsa("a"), "alg", json!("RS512")),
            with(rsa("a"), "alg", json!("HS256")),
            json!({ "kty": "EC", "crv": "P-256", "x": bytes(32), "y": bytes(31) }),
            json!({ "kty": "EC", "crv": "P-521", "x": bytes(66), "y": bytes(66) }),
            json!({ "kty": "OKP", "crv": "X25519", "x": bytes(32) }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": bytes(33) }),
            json!("RSA"),
        ] {
            assert_eq!(parse(&json!([key])).err(), Some(KeySetError::Unusable(1)), "{key}");
            assert_eq!(parse(&json!([key, rsa("b")])).unwrap().len(), 1, "{key}");
        }
        for text in ["", "[]", "{}", "{\"keys\":5}", "<html>"] {
            let read = KeySet::parse(text.as_bytes(), &ALL);
            assert_eq!(read.err(), Some(KeySetError::Malformed), "{text}");
        }
        assert_eq!(parse(&json!([])).err(), Some(KeySetError::Unusable(0)));
    }

    #[test]
    fn what_a_file_is_that_is_no_set() {
        let jwk = rsa("a").to_string();
        for (text, what) in [
            ("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n", "in PEM: make a JWK"),
            (&*jwk, "but a single JWK: put it into {\"keys\": [...]}"),
            ("[]", "but a list"),
            (" \n", "but empty"),
            ("{\"keys\":5}", "without the list `keys`"),
            ("<html>", "and no JSON"),
        ] {
            assert!(instead_of_set(text.as_bytes()).contains(what), "{text}");
        }
    }

    #[test]
    fn the_id_chooses_among_those_that_fit() {
        let set = parse(&json!([
            with(rsa("a"), "alg", json!("RS256")),
            with(rsa("b"), "use", json!("sig")),
            json!({ "kty": "EC", "crv": "P-256", "x": bytes(32), "y": bytes(32), "kid": "c" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": bytes(32), "alg": "Ed25519" }),
        ]))
        .unwrap();
        let choose = |id, algorithm| chosen(&set, id, algorithm);
        assert_eq!(choose(Some("a"), Algorithm::RS256), "a");
        assert_eq!(choose(Some("a"), Algorithm::PS256), "unfit", "its own alg");
        assert_eq!(choose(Some("b"), Algorithm::PS256), "b");
        assert_eq!(choose(Some("a"), Algorithm::ES256), "unfit", "its kind");
        assert_eq!(choose(Some("x"), Algorithm::RS256), "unknown");
        assert_eq!(choose(None, Algorithm::RS256), "a b");
        assert_eq!(choose(None, Algorithm::ES256), "c");
        assert_eq!(choose(None, Algorithm::EdDSA), "(none)");
        assert_eq!(choose(None, Algorithm::RS512), "unknown", "not allowed");
        let twice = parse(&json!([rsa("a"), rsa("a")])).unwrap();
        assert_eq!(chosen(&twice, Some("a"), Algorithm::RS256), "a a");
    }

    fn chosen(set: &KeySet, id: Option<&str>, algorithm: Algorithm) -> String {
        let ids = |keys: Vec<Arc<Key>>| {
            let id = |key: &Arc<Key>| key.id.clone().unwrap_or_else(|| "(none)".to_owned());
            keys.iter().map(id).collect::<Vec<_>>().join(" ")
        };
        match set.choose(id, algorithm) {
            Choice::Keys(keys) => ids(keys),
            Choice::Unknown => "unknown".to_owned(),
            Choice::Unfit => "unfit".to_owned(),
            Choice::TooMany => "too many".to_owned(),
        }
    }

    #[test]
    fn keys_without_an_id_are_tried_and_few_of_them() {
        let nameless = json!({ "kty": "RSA", "n": bytes(256), "e": "AQAB" });
        let set = parse(&json!([nameless, nameless, rsa("a")])).unwrap();
        let choose = |id| chosen(&set, id, Algorithm::RS256);
        assert_eq!(choose(Some("a")), "a");
        assert_eq!(choose(Some("x")), "(none) (none)");
        assert_eq!(choose(None), "(none) (none) a");
        let many = parse(&json!(vec![nameless; TRIED + 1])).unwrap();
        assert_eq!(chosen(&many, Some("x"), Algorithm::RS256), "too many");
        assert_eq!(chosen(&many, None, Algorithm::RS256), "too many");
        let found = Found { keys: TRIED + 1, crowded: vec![Algorithm::RS256, Algorithm::PS256] };
        assert_eq!(many.found(), found);
        assert_eq!(set.found(), Found { keys: 3, crowded: Vec::new() });
        let named: Vec<_> = (0..=TRIED).map(|n| rsa(&n.to_string())).collect();
        assert_eq!(parse(&json!(named)).unwrap().found().crowded, [], "a JWT names one of them");
    }

    #[derive(Deserialize)]
    struct Vector {
        id: String,
        keys: usize,
        jws: String,
        valid: bool,
        comment: String,
    }

    #[derive(Deserialize)]
    struct Vectors {
        keys: Vec<Vec<Value>>,
        vectors: Vec<Vector>,
    }

    /// Wycheproof's signatures, with keys that are read and chosen here.
    #[test]
    fn wycheproofs_signatures_are_verified_by_the_keys_that_fit() {
        // By an RSA key of a make that can be factored (ROCA), which nothing here looks for.
        const TAKEN: &str = "jwk-7";
        // The key's `alg` is another than the token's; characters that are no base64url.
        const STRICTER: [&str; 6] =
            ["jws-346", "jws-347", "jws-350", "jws-351", "jws-372", "jws-373"];
        let text = include_str!("../../../tests/vectors/wycheproof/jws.json");
        let file: Vectors = serde_json::from_str(text).unwrap();
        let public: Vec<Algorithm> = [&OF_RSA[..], &ALL[2..]].concat();
        let taken = |vector: &Vector| {
            let set = json!({ "keys": file.keys[vector.keys] }).to_string();
            let Ok(set) = KeySet::parse(set.as_bytes(), &public) else { return false };
            let Ok(header) = jsonwebtoken::decode_header(&vector.jws) else { return false };
            let Choice::Keys(keys) = set.choose(header.kid.as_deref(), header.alg) else {
                return false;
            };
            let (message, signature) = vector.jws.rsplit_once('.').unwrap();
            let is_text = message.split('.').all(|part| URL_SAFE_NO_PAD.decode(part).is_ok());
            let signed = |key: &Arc<Key>| {
                let (message, key) = (message.as_bytes(), key.decoding());
                jsonwebtoken::crypto::verify(signature, message, key, header.alg).unwrap_or(false)
            };
            is_text && keys.iter().any(signed)
        };
        let is_public = |vector: &Vector| {
            let header = jsonwebtoken::decode_header(&vector.jws);
            header.is_ok_and(|header| public.contains(&header.alg))
        };
        let mut wrong = Vec::new();
        let mut valid = 0;
        for vector in &file.vectors {
            let id = vector.id.as_str();
            let is_sound = is_public(vector) && vector.valid && !STRICTER.contains(&id);
            let expected = is_sound || id == TAKEN;
            let taken = taken(vector);
            valid += usize::from(taken);
            if taken != expected {
                wrong.push(format!("{} {} {taken}", vector.id, vector.comment));
            }
        }
        assert_eq!(wrong, [""; 0]);
        assert!(valid > 20, "{valid} of {}", file.vectors.len());
    }
}
