//! Logins by nkey: the client signs the nonce that its server gave this one connection, and the
//! server hands nonce, nkey and signature on unread. The store says whose nkey it is.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::by_identity::ByIdentity;
use super::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Principal, Rejected,
};
use crate::clock::Clock;
use crate::keys::{self, UserNkey};
use crate::protocol::credentials::Credentials;
use crate::store::{CredentialStore, Identity};

/// The word for the log.
const METHOD: &str = "nkey";

/// As nats-server takes them (`server/auth.go`): base64url from most clients, standard base64 from
/// some; each with or without padding, and nothing else in it.
const ENCODINGS: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_PADDING),
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT_PADDING),
];
const LENIENT_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Verifies the signature over the server's nonce.
#[derive(Debug)]
pub(crate) struct NkeyAuthenticator(ByIdentity);

impl NkeyAuthenticator {
    /// Looks nkeys up in `store`.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn CredentialStore>, clock: Arc<dyn Clock>) -> Self {
        Self(ByIdentity { store, clock, method: METHOD, unknown })
    }

    /// The signature comes first: who does not hold the key learns nothing of whose it is, and
    /// costs no look-up.
    async fn authenticate_nkey(
        &self,
        nkey: &str,
        signature: &str,
        nonce: &str,
    ) -> Result<Principal, Rejected> {
        let nkey = verified(nkey, signature, nonce)?;
        self.0.authenticate(vec![Identity::Nkey(nkey)], None).await
    }
}

/// Nobody has the nkey.
fn unknown(identities: &[Identity]) -> Denied {
    let denied = Denied::from(DenyReason::UnknownNkey);
    match identities {
        [Identity::Nkey(nkey), ..] => denied.with_detail(nkey.as_str()),
        _ => denied,
    }
}

/// The nkey, if it has signed the nonce.
pub(crate) fn verified(nkey: &str, signature: &str, nonce: &str) -> Result<UserNkey, DenyReason> {
    let nkey = nkey.parse::<UserNkey>().map_err(|_| DenyReason::UnknownNkey)?;
    is_signed(&nkey, nonce, signature).then_some(nkey).ok_or(DenyReason::WrongSignature)
}

/// Whether the nkey signed the nonce. Without a nonce there is nothing that only this connection
/// could have signed.
fn is_signed(nkey: &UserNkey, nonce: &str, signature: &str) -> bool {
    let signature = ENCODINGS.iter().find_map(|encoding| encoding.decode(signature).ok());
    !nonce.is_empty()
        && signature.is_some_and(|signature| keys::verify(nkey.raw(), nonce.as_bytes(), &signature))
}

#[async_trait]
impl Authenticator for NkeyAuthenticator {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        match attempt.credentials {
            Credentials::Nkey { nkey, signature, nonce } => {
                Authentication::of(self.authenticate_nkey(nkey, signature, nonce).await)
            }
            _ => Ok(Authentication::NotMine),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::super::fakes::{FakeStore, NOW, SetClock, accepted, attempt, far, record, refused};
    use super::*;
    use crate::keys::{KeyKind, SigningKey};
    use crate::store::{LoginRecord, Status, StoreError};

    const NONCE: &str = "KmzFHcWAD5C_iEk";

    struct Case {
        store: Arc<FakeStore>,
        key: SigningKey,
        authenticator: NkeyAuthenticator,
    }

    fn case() -> Case {
        let store = Arc::new(FakeStore::default());
        let authenticator = NkeyAuthenticator::new(
            Arc::clone(&store) as Arc<dyn CredentialStore>,
            Arc::new(SetClock::default()),
        );
        Case { store, key: key(), authenticator }
    }

    fn key() -> SigningKey {
        SigningKey::generate(KeyKind::User).unwrap().0
    }

    impl Case {
        fn alice(&self) -> LoginRecord {
            let mut alice = record("alice", None);
            alice.user.nkey = Some(self.key.public_key().to_owned());
            alice
        }

        fn signature(&self) -> String {
            URL_SAFE_NO_PAD.encode(self.key.sign_now(NONCE.as_bytes()))
        }

        async fn send(
            &self,
            nkey: &str,
            signature: &str,
            nonce: &str,
        ) -> Result<Authentication, AuthnError> {
            let (nkey, signature, nonce) = (nkey.into(), signature.into(), nonce.into());
            let credentials = Credentials::Nkey { nkey, signature, nonce };
            self.authenticator.authenticate(attempt(&credentials, far())).await
        }

        async fn login(&self) -> Result<Authentication, AuthnError> {
            self.send(self.key.public_key(), &self.signature(), NONCE).await
        }
    }

    #[tokio::test]
    async fn a_known_nkey_is_its_user() {
        let case = case();
        let mut alice = case.alice();
        alice.user.expires_at = Some(NOW + 60);
        case.store.put(alice);
        let principal = accepted(case.login().await);
        assert_eq!(principal.record().user.name, "alice");
        assert_eq!((principal.method(), principal.expires_at()), ("nkey", Some(NOW + 60)));
        assert_eq!(case.store.reads(), (1, 0));
    }

    #[tokio::test]
    async fn every_encoding_that_clients_use_is_read() {
        let case = case();
        case.store.put(case.alice());
        // Both alphabets differ in it.
        let signature = (0_u32..)
            .map(|n| (n, case.key.sign_now(n.to_string().as_bytes())))
            .find(|(_, signature)| STANDARD.encode(signature) != URL_SAFE.encode(signature));
        let (nonce, signature) = signature.unwrap();
        for text in [
            URL_SAFE_NO_PAD.encode(signature),
            URL_SAFE.encode(signature),
            STANDARD.encode(signature),
            STANDARD_NO_PAD.encode(signature),
        ] {
            accepted(case.send(case.key.public_key(), &text, &nonce.to_string()).await);
        }
    }

    #[tokio::test]
    async fn what_the_key_has_not_signed_is_refused_without_a_look_up() {
        let case = case();
        case.store.put(case.alice());
        let (nkey, signature) = (case.key.public_key(), case.signature());
        let others = URL_SAFE_NO_PAD.encode(key().sign_now(NONCE.as_bytes()));
        let of_nothing = URL_SAFE_NO_PAD.encode(case.key.sign_now(b""));
        let raw = case.key.sign_now(NONCE.as_bytes());
        let cut = URL_SAFE_NO_PAD.encode(&raw[..63]);
        let long = URL_SAFE_NO_PAD.encode([&raw[..], &[0]].concat());
        for (what, signature, nonce) in [
            ("another nonce", signature.as_str(), "KmzFHcWAD5C_iEl"),
            ("a longer nonce", &signature, "KmzFHcWAD5C_iEk\n"),
            ("another key's signature", &others, NONCE),
            ("no signature", "", NONCE),
            ("no nonce", &of_nothing, ""),
            ("no nonce, another's signature", &signature, ""),
            ("cut", &cut, NONCE),
            ("long", &long, NONCE),
            ("zeros", &URL_SAFE_NO_PAD.encode([0; 64]), NONCE),
            ("a line break", &format!("{signature}\n"), NONCE),
            ("no base64", "*", NONCE),
        ] {
            let answer = case.send(nkey, signature, nonce).await;
            assert_eq!(refused(answer), DenyReason::WrongSignature, "{what}");
        }
        assert_eq!(case.store.reads(), (0, 0));
    }

    /// `s + L` for `s` verifies under RFC 8032 without its range check: a second signature without
    /// the key.
    #[tokio::test]
    async fn a_malleated_signature_is_refused() {
        const L: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let case = case();
        case.store.put(case.alice());
        let mut signature = case.key.sign_now(NONCE.as_bytes());
        let mut carry = 0_u16;
        for (byte, l) in signature[32..].iter_mut().zip(L) {
            carry += u16::from(*byte) + u16::from(l);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        assert_eq!(carry, 0);
        let text = URL_SAFE_NO_PAD.encode(signature);
        let answer = case.send(case.key.public_key(), &text, NONCE).await;
        assert_eq!(refused(answer), DenyReason::WrongSignature);
    }

    #[tokio::test]
    async fn what_is_no_user_nkey_is_refused() {
        let case = case();
        case.store.put(case.alice());
        let account = SigningKey::generate(KeyKind::Account).unwrap().0;
        let of_account = URL_SAFE_NO_PAD.encode(account.sign_now(NONCE.as_bytes()));
        let nkey = case.key.public_key();
        for (nkey, signature) in [
            (account.public_key().to_owned(), of_account),
            (nkey.to_lowercase(), case.signature()),
            (format!("{nkey} "), case.signature()),
            (nkey[..55].to_owned(), case.signature()),
            ("*".repeat(56), case.signature()),
            ("é".repeat(28), case.signature()),
        ] {
            let answer = case.send(&nkey, &signature, NONCE).await;
            assert_eq!(refused(answer), DenyReason::UnknownNkey, "{nkey}");
        }
        assert_eq!(case.store.reads(), (0, 0));
    }

    #[tokio::test]
    async fn every_refusal_reads_the_database() {
        let case = case();
        assert_eq!(refused(case.login().await), DenyReason::UnknownNkey);
        assert_eq!(case.store.reads(), (1, 1));
        let mut suspended = case.alice();
        suspended.user.status = Status::Suspended;
        case.store.put(suspended);
        assert_eq!(refused(case.login().await), DenyReason::UserSuspended);

        case.store.put_database(case.alice());
        accepted(case.login().await);
        case.store.outage.store(true, SeqCst);
        let answer = case.login().await;
        assert!(matches!(answer, Err(AuthnError::Store(StoreError::Unavailable(_)))));
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_signature(text in "[A-Za-z0-9_-]{0,90}=?") {
            let case = case();
            let nkey: UserNkey = case.key.public().unwrap();
            prop_assert!(!is_signed(&nkey, NONCE, &text));
        }
    }
}
