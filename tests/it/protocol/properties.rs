//! What must hold for every token: claims survive, any change is noticed, nothing panics.

use nats_callout::internals::{
    AccountBody, AuthorizationRequestBody, AuthorizationResponseBody, Body, Claims, IssuerKey,
    OperatorBody, OperatorId, Parsed, Permissions, ServerId, UserBody,
};
use nats_callout::keys::{AccountId, KeyKind};
use proptest::prelude::*;

use super::samples;

fn survives<B: Body + PartialEq, K: IssuerKey>(claims: &Claims<B>, kind: KeyKind) {
    let key = samples::key(kind);
    let token = claims.encode_now(&key).expect("encodes");
    assert_eq!(token, claims.encode_now(&key).expect("encodes"), "deterministic");
    let (read, issuer): (Claims<B>, K) =
        Parsed::parse(&token).expect("parses").verify().expect("verifies");
    assert_eq!(&read, claims);
    assert_eq!(issuer.raw_key().as_slice(), key.public_raw());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn operators_survive(claims in samples::operators()) {
        survives::<OperatorBody, OperatorId>(&claims, KeyKind::Operator);
    }

    #[test]
    fn accounts_survive(claims in samples::accounts()) {
        survives::<AccountBody, OperatorId>(&claims, KeyKind::Operator);
    }

    #[test]
    fn users_survive(claims in samples::users()) {
        survives::<UserBody, AccountId>(&claims, KeyKind::Account);
    }

    #[test]
    fn requests_survive(claims in samples::requests()) {
        survives::<AuthorizationRequestBody, ServerId>(&claims, KeyKind::Server);
    }

    #[test]
    fn responses_survive(claims in samples::responses()) {
        survives::<AuthorizationResponseBody, AccountId>(&claims, KeyKind::Account);
    }

    #[test]
    fn no_string_panics(text in any::<String>(), dots in "[A-Za-z0-9_.-]{0,200}") {
        for token in [&text, &dots] {
            prop_assert!(Parsed::<UserBody>::parse(token).is_err());
            prop_assert!(Parsed::<AuthorizationRequestBody>::parse(token).is_err());
        }
    }

    #[test]
    fn no_payload_panics(payload in any::<Vec<u8>>(), json in "[\\[\\]{}\":,0-9a-z]{0,60}") {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        for payload in [payload, json.into_bytes()] {
            let token = format!(
                "{}.{}.AAAA",
                base64.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#),
                base64.encode(payload),
            );
            prop_assert!(Parsed::<UserBody>::parse(&token).is_err());
        }
    }
}

/// Every position and, of the last one, every character: the bits of a signature's last character
/// that carry nothing must not give a second form of the same token.
#[test]
fn any_changed_byte_is_refused() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let key = samples::key(KeyKind::Account);
    let claims = Claims {
        audience: Some("USERS".to_owned()),
        expires: Some(4_102_444_800),
        subject: samples::user_nkey().to_string(),
        body: UserBody::new(Permissions::default()),
        issued_at: 1_700_000_000,
        name: None,
        not_before: None,
    };
    let token = claims.encode_now(&key).expect("encodes");
    let verifies = |token: &str| {
        Parsed::<UserBody>::parse(token).is_ok_and(|parsed| parsed.verify::<AccountId>().is_ok())
    };
    assert!(verifies(&token));
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        let original = changed[at];
        let index = ALPHABET.iter().position(|&c| c == original).unwrap_or(0);
        let near = [1, 2, 16, 32].map(|bit| ALPHABET[index ^ bit]);
        let others: Vec<u8> = if at + 1 == token.len() {
            ALPHABET.to_vec()
        } else {
            near.into_iter().chain(*b".= +/\0").collect()
        };
        for other in others.into_iter().filter(|&other| other != original) {
            changed[at] = other;
            let changed = std::str::from_utf8(&changed).expect("ascii");
            assert!(
                !verifies(changed),
                "byte {at}: {:?} for {:?}",
                other as char,
                original as char
            );
        }
        let mut shorter = token.clone();
        shorter.remove(at);
        assert!(!verifies(&shorter), "without byte {at}");
    }
}
