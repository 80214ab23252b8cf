//! No request gets a grant that a server did not make, for itself, now, as it is, once: an attack
//! is either not answered at all, or answered with the one refusal. [`table`] has the attacks by
//! name with the rule that stops each, [`mutations`] very many of them at random, and [`wire`] a
//! selection on a real connection.
//!
//! A [`Bench`] is an authorizer and one server that it has never heard of: that a stranger cannot
//! be that server is not for the authorizer to tell, since it is nats-server that lets nobody
//! publish in its name ([`wire`] shows it).

mod claims;
mod mutations;
mod table;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_callout::callout::{Outcome, Verdict};
use nats_callout::clock::{Clock, UnixSeconds};
use nats_callout::internals::{
    self, Attempt, Authentication, Authenticator, AuthnError, Authorizer, CalloutMessage,
    ConfigTargets, Credentials, DenyReason, Envelope, Mint, Placement, Responder,
};
use nats_callout::keys::{KeyKind, SigningKey, XKey, XPublicKey};
use nats_callout::policy::{Policy, PolicySet, Principal};
use nats_callout::store::{LoginRecord, TenantRecord, UserKind, UserRecord};
use serde_json::{Value, json};

const NOW: UnixSeconds = 1_800_000_000;

/// The header of every NATS JWT.
const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

#[derive(Debug)]
struct At(UnixSeconds);

impl Clock for At {
    fn now(&self) -> UnixSeconds {
        self.0
    }
}

/// Takes one user with one password, so that what is measured is the request and nothing else.
#[derive(Debug)]
struct Alice;

#[async_trait]
impl Authenticator for Alice {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let answer = match attempt.credentials {
            Credentials::Password { user, password }
                if user == "alice" && password.expose() == "secret" =>
            {
                let record = LoginRecord {
                    tenant: TenantRecord::new("42".parse().unwrap()),
                    user: UserRecord::new("alice", UserKind::Bb),
                };
                Authentication::Accepted(
                    Principal::new(Arc::new(record), "password", None, NOW).unwrap(),
                )
            }
            _ => Authentication::Refused(DenyReason::WrongPassword.into()),
        };
        Ok(answer)
    }
}

/// A message as it would come in.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    payload: Vec<u8>,
    header: Option<String>,
}

/// An authorizer, with a curve key or without, and a server that asks it.
pub(crate) struct Bench {
    authorizer: Arc<Authorizer>,
    pub(crate) server: SigningKey,
    server_xkey: nkeys::XKey,
    service_xkey: Option<nkeys::XKey>,
    caller: String,
}

impl Bench {
    fn plain() -> Self {
        Self::deciding(Arc::new(Alice), Arc::new(PolicySet::shipped().unwrap()))
    }

    fn sealed() -> Self {
        Self::sealed_by(&XKey::generate().unwrap().1)
    }

    /// One that holds this curve key.
    fn sealed_by(seed: &str) -> Self {
        let xkey = XKey::from_seed(seed).unwrap();
        Self::new(Some(xkey), Arc::new(Alice), Arc::new(PolicySet::shipped().unwrap()))
    }

    /// One that takes plain requests, and other users.
    pub(crate) fn deciding(authenticator: Arc<dyn Authenticator>, policy: Arc<dyn Policy>) -> Self {
        Self::new(None, authenticator, policy)
    }

    /// A server that asks another service than the bench's own authorizer.
    fn for_service(xkey: &XPublicKey) -> Self {
        let service_xkey = nkeys::XKey::from_public_key(xkey.as_str()).unwrap();
        Self { service_xkey: Some(service_xkey), ..Self::plain() }
    }

    fn new(
        xkey: Option<XKey>,
        authenticator: Arc<dyn Authenticator>,
        policy: Arc<dyn Policy>,
    ) -> Self {
        let service_xkey = xkey
            .as_ref()
            .map(|key| nkeys::XKey::from_public_key(key.public_key().as_str()).unwrap());
        let issuer = Arc::new(key(KeyKind::Account));
        let targets =
            ConfigTargets::new("AUTH", vec!["USERS".to_owned()], Default::default()).unwrap();
        let authorizer = Authorizer::new(
            Envelope::new(xkey.into_iter().collect()),
            Placement::Config(targets),
            policy,
            Mint::new(issuer.clone(), Duration::from_secs(900)),
            Responder { signer: issuer, issuer_account: None },
        )
        .with_authenticator(authenticator)
        .with_clock(Arc::new(At(NOW)));
        Self {
            authorizer: Arc::new(authorizer),
            server: key(KeyKind::Server),
            server_xkey: nkeys::XKey::new(),
            service_xkey,
            caller: key(KeyKind::Account).public_key().to_owned(),
        }
    }

    /// The claims of a request that is granted, about a connection of its own.
    fn claims(&self, connection: &str) -> Value {
        let xkey = self.service_xkey.as_ref().map(|_| self.server_xkey.public_key());
        json!({
            "aud": "nats-authorization-request",
            "exp": NOW + 2,
            "iat": NOW,
            "iss": self.server.public_key(),
            "jti": "KBXZQ5FHGD5LPBSCSMKNJDMBIE3WMMF2QPJ5W3PPQXS2KFCJYHFA",
            "sub": self.caller,
            "nats": {
                "server_id": {
                    "name": "nats-1", "host": "0.0.0.0", "id": self.server.public_key(),
                    "version": "2.15.1", "xkey": xkey.unwrap_or_default(),
                },
                "user_nkey": connection,
                "client_info": {
                    "host": "127.0.0.1", "id": 7, "user": "alice", "kind": "Client", "type": "nats",
                },
                "connect_opts": {
                    "user": "alice", "pass": "secret", "lang": "rust", "version": "1", "protocol": 1,
                },
                "type": "authorization_request",
                "version": 2,
            },
        })
    }

    /// [`Self::claims`] about a new connection.
    pub(crate) fn request(&self) -> Value {
        self.claims(key(KeyKind::User).public_key())
    }

    /// The token as the server itself would have sent it.
    pub(crate) fn send(&self, token: &str) -> Message {
        let payload = token.as_bytes();
        match &self.service_xkey {
            None => Message { payload: payload.to_vec(), header: None },
            Some(recipient) => Message {
                payload: self.server_xkey.seal(payload, recipient).unwrap(),
                header: Some(self.server_xkey.public_key()),
            },
        }
    }

    pub(crate) async fn decide(&self, message: &Message) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(60);
        let server_xkey = message.header.as_deref();
        let payload = &message.payload;
        self.authorizer
            .authorize(CalloutMessage { payload, server_xkey, deadline, max_reply: usize::MAX })
            .await
    }

    /// What the server reads in an answer.
    fn opened(&self, outcome: &Outcome) -> Value {
        let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
        let answer = match &self.service_xkey {
            None => internals::payload(reply).to_vec(),
            Some(sender) => self.server_xkey.open(internals::payload(reply), sender).unwrap(),
        };
        payload(std::str::from_utf8(&answer).unwrap())
    }

    /// A request with nothing wrong is granted: what else is refused was refused for its attack.
    async fn grants(&self) {
        let outcome = self.decide(&self.send(&sign(&self.request(), &self.server))).await;
        assert!(is_grant(&outcome), "{outcome:?}");
    }
}

fn is_grant(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Reply(reply) if matches!(reply.verdict, Verdict::Granted { .. }))
}

fn key(kind: KeyKind) -> SigningKey {
    SigningKey::generate(kind).unwrap().0
}

/// The three parts of a token as texts, signed by `key`, whatever they say.
fn signed(header: &str, payload: &str, key: &SigningKey) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(key.sign_now(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// These claims as a token of `key`, whoever they name as the issuer.
pub(crate) fn sign(claims: &Value, key: &SigningKey) -> String {
    signed(HEADER, &claims.to_string(), key)
}

/// The text form of a public key of any kind: 20 is a user, 13 a server (the bits of its letter).
fn nkey(letter: u8, raw: &[u8; 32]) -> String {
    let mut bytes = vec![letter << 3];
    bytes.extend(raw);
    bytes.extend(CRC.checksum(&bytes).to_le_bytes());
    data_encoding::BASE32_NOPAD.encode(&bytes)
}

/// What a token says, unverified.
pub(crate) fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
