//! For an application's own tests of its rules: a server's question without a server
//! ([`FakeServer`]), and a real nats-server that runs as long as the test ([`NatsServer`]).
//!
//! ```
//! use nats_callout::callout::{Answer, Permit, Request};
//! use nats_callout::testing::{Connect, FakeServer};
//!
//! # async fn rule(request: Request) -> Result<Answer, nats_callout::callout::BoxError> {
//! #     Ok(match request.token() {
//! #         Some(token) if token.matches("key-4711") => Permit::user("billing").publish("invoices.*").into(),
//! #         _ => Answer::deny("no such key"),
//! #     })
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FakeServer::new()?;
//! let callout = server.callout().authorize(rule)?;
//! let user = server.ask(&callout, Connect::token("key-4711")).await.granted();
//! assert!(user.may_publish("invoices.7") && !user.may_publish("payments.7"));
//! assert!(server.ask(&callout, Connect::token("key-0")).await.is_denied());
//! # Ok(())
//! # }
//! ```

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod connect;
mod server;

use std::fmt;
use std::time::{Duration, Instant};

pub use self::connect::Connect;
pub use self::server::{NatsServer, StartError};
use crate::authorize::{CalloutMessage, Fault, NoReply, Outcome, Reply, Verdict};
use crate::callout::{Callout, CalloutBuilder};
use crate::clock::{Clock as _, SystemClock, UnixSeconds};
use crate::keys::{AccountId, KeyError, KeyKind, SigningKey, XKey};
use crate::policy::Responses;
use crate::policy::subject::Pattern;
use crate::protocol::claims::{
    AuthorizationRequestBody, AuthorizationResponseBody, Permission, Permissions, ServerInfo,
    UserBody,
};
use crate::protocol::jwt::{Claims, JwtError, Parsed};

/// How long an answer may take, as on a server with its defaults.
const DEADLINE: Duration = Duration::from_millis(1_800);

/// How large an answer may be, as on a server with its defaults.
const MAX_PAYLOAD: usize = 1 << 20;

/// How long a request is good for, as on a server with its defaults.
const TIMEOUT: UnixSeconds = 2;

/// Asks as a nats-server in config mode does: its requests are signed, sealed and new each time, and it
/// reads answers as a server does. Observers are shown what comes of it, and the log.
pub struct FakeServer {
    identity: SigningKey,
    curve: nkeys::XKey,
    issuer: String,
    service: XKey,
    service_seeds: [String; 2],
}

/// What a client hears.
#[derive(Debug)]
pub enum Told {
    /// It may connect.
    Granted(User),
    /// It may not, and why, which it is not told.
    Denied(crate::authn::Denied),
    /// Nothing: its server lets it go once its time is over.
    Silence(Fault),
}

/// A user as its server has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// The account: its name in config mode, its public key in operator mode.
    pub account: String,
    /// When the server closes the connection.
    pub expires: UnixSeconds,
    /// Answers to requests that it receives.
    pub responses: Option<Responses>,
    permissions: Permissions,
}

impl FakeServer {
    /// A server, and the keys of a service for it.
    pub fn new() -> Result<Self, KeyError> {
        let (issuer, issuer_seed) = SigningKey::generate(KeyKind::Account)?;
        let (service, service_seed) = XKey::generate()?;
        Ok(Self {
            identity: SigningKey::generate(KeyKind::Server)?.0,
            curve: nkeys::XKey::new(),
            issuer: issuer.public_key().to_owned(),
            service,
            service_seeds: [issuer_seed.to_string(), service_seed.to_string()],
        })
    }

    /// A service with the keys that this server expects, for the accounts AUTH and USERS.
    pub fn callout(&self) -> CalloutBuilder {
        builder(&self.service_seeds)
    }

    /// Asks about one client.
    ///
    /// # Panics
    ///
    /// If the answer is none that a server would take.
    pub async fn ask(&self, callout: &Callout, connect: Connect) -> Told {
        let user = SigningKey::generate(KeyKind::User).expect("the system has random bytes").0;
        let request = self.request(connect, &user).expect("a request can be signed");
        let recipient = nkeys::XKey::from_public_key(self.service.public_key().as_str());
        let recipient = recipient.expect("a public curve key");
        let payload = self.curve.seal(request.as_bytes(), &recipient).expect("can be sealed");
        let message = CalloutMessage {
            payload: &payload,
            server_xkey: Some(&self.curve.public_key()),
            deadline: Instant::now() + DEADLINE,
            max_reply: MAX_PAYLOAD,
        };
        match callout.authorize(message).await {
            Outcome::NoReply(NoReply { fault, .. }) => Told::Silence(fault),
            Outcome::Reply(Reply { payload, verdict, .. }) => {
                let answer = self.curve.open(&payload, &recipient).expect("sealed for this server");
                let answer = String::from_utf8(answer).expect("a JWT is text");
                let answer = self.read(&answer, &user).expect("a server takes the answer");
                match (answer, verdict) {
                    (Some(user), _) => Told::Granted(user),
                    (None, Verdict::Denied { denied, .. }) => Told::Denied(denied),
                    (None, Verdict::Granted { .. }) => panic!("granted, and told that it is not"),
                }
            }
        }
    }

    fn request(&self, connect: Connect, user: &SigningKey) -> Result<String, JwtError> {
        let server = ServerInfo {
            name: "fake".to_owned(),
            host: "0.0.0.0".to_owned(),
            id: self.identity.public_key().to_owned(),
            version: "2.15.0".to_owned(),
            xkey: self.curve.public_key(),
            ..ServerInfo::default()
        };
        let (client_info, connect_opts, client_tls) = connect.into_parts();
        let now = SystemClock.now();
        let claims = Claims {
            audience: Some("nats-authorization-request".to_owned()),
            expires: Some(now + TIMEOUT),
            issued_at: now,
            name: None,
            not_before: None,
            subject: self.issuer.clone(),
            body: AuthorizationRequestBody {
                server,
                user_nkey: user.public_key().to_owned(),
                client_info,
                connect_opts,
                client_tls,
                ..AuthorizationRequestBody::default()
            },
        };
        claims.encode_now(&self.identity)
    }

    /// Reads an answer as `server/auth_callout.go` does; none if it is a refusal.
    fn read(&self, answer: &str, user: &SigningKey) -> Result<Option<User>, String> {
        let text = |error: JwtError| error.to_string();
        let (answer, _) = Parsed::<AuthorizationResponseBody>::parse(answer)
            .and_then(Parsed::verify::<AccountId>)
            .map_err(text)?;
        if answer.subject != user.public_key() {
            return Err("it is about another connection".to_owned());
        }
        if answer.audience.as_deref() != Some(self.identity.public_key()) {
            return Err("it is for another server".to_owned());
        }
        let Some(jwt) = answer.body.jwt else { return Ok(None) };
        let (claims, issuer) =
            Parsed::<UserBody>::parse(&jwt).and_then(Parsed::verify::<AccountId>).map_err(text)?;
        if issuer.as_str() != self.issuer {
            return Err("another issuer has signed the user".to_owned());
        }
        if claims.subject != user.public_key() {
            return Err("the user is another connection's".to_owned());
        }
        let account = claims.audience.ok_or("the user is in no account")?;
        let name = claims.name.unwrap_or_default();
        let expires = claims.expires.ok_or("the user never ends")?;
        let permissions = claims.body.permissions;
        let responses = permissions.responses.as_ref().map(|granted| Responses {
            max: u32::try_from(granted.max).unwrap_or(u32::MAX),
            expires: Duration::from_nanos(granted.ttl.unsigned_abs()),
        });
        Ok(Some(User { name, account, expires, responses, permissions }))
    }
}

impl Told {
    /// The user.
    ///
    /// # Panics
    ///
    /// If the client may not connect; with the reason.
    #[must_use]
    pub fn granted(self) -> User {
        match self {
            Self::Granted(user) => user,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Whether it is a refusal: not the silence of a fault.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

impl User {
    /// Whether it may publish to the subject.
    #[must_use]
    pub fn may_publish(&self, subject: &str) -> bool {
        may(&self.permissions.publish, subject)
    }

    /// Whether it may subscribe to the subject.
    #[must_use]
    pub fn may_subscribe(&self, subject: &str) -> bool {
        may(&self.permissions.subscribe, subject)
    }
}

/// As a server does: what is denied is not allowed, and a list without entries allows everything.
fn may(permission: &Permission, subject: &str) -> bool {
    let any = |subjects: &[String]| {
        let patterns = subjects.iter().filter_map(|it| it.parse::<Pattern>().ok());
        patterns.into_iter().any(|pattern| pattern.matches(subject))
    };
    let Permission { allow, deny } = permission;
    !any(deny) && (allow.is_empty() || any(allow))
}

/// The service of a server in config mode.
fn builder([issuer, xkey]: &[String; 2]) -> CalloutBuilder {
    let issuer =
        SigningKey::from_seed(issuer, KeyKind::Account).expect("a seed that was made here");
    let xkey = XKey::from_seed(xkey).expect("a seed that was made here");
    Callout::config_mode(issuer).xkey(xkey).account("USERS")
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
