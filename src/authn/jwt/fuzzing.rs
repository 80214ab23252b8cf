//! What the fuzz targets do with key sets and JWTs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::claims::check_audience;
use super::fetch::check_url;
use super::keeper::NotVerified;
use super::keys::{Choice, KeySet};
use super::origin::DiscoveryDocument;
use super::token::Unverified;
use super::*;
use crate::clock::UnixSeconds;
use crate::store::{TenantId, UserKind};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const PUBLIC: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS384, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

/// Text that no key has signed, as long as an Ed25519 or ES256 signature.
const SIGNATURE: [u8; 64] = [0x5a; 64];

/// Reads what an issuer may answer: a key set, or a discovery document.
pub(crate) fn read_keys(json: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<DiscoveryDocument>(json)
        && check_url(&document.jwks_uri, false).is_ok()
    {
        // What an address may begin with (URL Standard, 4.4).
        let uri = document.jwks_uri.trim_start_matches(|c| c <= ' ').to_ascii_lowercase();
        assert!(uri.starts_with("http"), "keys come over https, or from this machine");
    }
    let Ok(set) = KeySet::parse(json, &PUBLIC) else { return };
    let signature = URL_SAFE_NO_PAD.encode(SIGNATURE);
    for id in set.ids().chain([None]) {
        for algorithm in PUBLIC {
            let Choice::Keys(keys) = set.choose(id, algorithm) else { continue };
            assert!(!keys.is_empty(), "there is one");
            for key in keys {
                let key = key.decoding();
                let taken = jsonwebtoken::crypto::verify(&signature, b"message", key, algorithm);
                assert!(!taken.unwrap_or(false), "nobody has signed it");
            }
        }
        for shared in [Algorithm::HS256, Algorithm::RS512] {
            assert!(!matches!(set.choose(id, shared), Choice::Keys(_)), "it is not allowed");
        }
    }
}

/// Reads a JWT of anybody's making.
pub(crate) fn read_token(text: &str) {
    let Ok(token) = Unverified::parse(text) else { return };
    let verified = issuer(settings()).verify(token).now_or_never();
    assert!(matches!(verified, Some(Err(NotVerified::Flaw(_)))), "nobody has signed it");
}

/// Reads a JWT with this header and these claims, which the issuer signs whatever they are.
pub(crate) fn read_signed(header: &str, claims: &str, now: UnixSeconds) {
    let [header, payload] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    let Ok(signature) = signature else { return };
    let text = format!("{message}.{signature}");
    let by_policy = IssuerSettings {
        tenant: Some(TenantOf::Claim("tenant".to_owned())),
        users: Users::Policy { kind: UserKind::Bb, policy: None, by_claim: None },
        ..settings()
    };
    for issuer in [settings(), by_policy].map(issuer) {
        let Ok(token) = Unverified::parse(&text) else { return };
        assert!(is_jwt(&text), "what is read as a JWT is told to be one");
        let Some(Ok(verified)) = issuer.verify(token).now_or_never() else { return };
        let Ok(identified) = issuer.identify(&verified, None, now) else { continue };
        assert!(identified.expires_at.is_some_and(|end| end > now));
        assert!(!identified.user.is_empty() && !identified.user.contains(char::is_control));
        assert_eq!(identified.tenant.is_some(), issuer.settings().tenant.is_some());
        assert!(check_audience(verified.claims(), "aud", &issuer.settings().audience).is_ok());
        if let Some(tenant) = identified.tenant {
            assert_eq!(TenantId::of_login(&tenant.login(&identified.user)), Some(tenant));
        }
    }
}

fn issuer(settings: IssuerSettings) -> Issuer {
    Issuer::with_secret(settings, DecodingKey::from_secret(SECRET))
}

/// An issuer with a shared secret, whose users have rows.
pub(super) fn settings() -> IssuerSettings {
    IssuerSettings {
        name: "license".to_owned(),
        issuer: "https://license.example.com".to_owned(),
        keys: KeyLocation::Secret(Vec::new()),
        introspection: None,
        audience: vec!["nats".to_owned()],
        audience_claim: "aud".to_owned(),
        algorithms: vec![Algorithm::HS256],
        leeway: Duration::from_secs(30),
        user_claim: "sub".to_owned(),
        any_name: false,
        claims: vec!["roles".to_owned(), "missing".to_owned(), "deep.list".to_owned()],
        split: Vec::new(),
        drops_unusable: false,
        tenant: None,
        users: Users::Table,
    }
}
