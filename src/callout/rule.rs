//! An application's own users: what it is asked, and what it answers.

mod decided;

use std::time::{Duration, Instant};

pub(super) use self::decided::{AsAuthorized, ByRule};
use crate::authn::{certificate, nkey};
use crate::clock::UnixSeconds;
use crate::keys::UserNkey;
use crate::policy::subject::Pattern;
use crate::policy::{ConnectionType, Grant, Responses};
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::{Credentials, Secret};

/// The shortest life of a grant: servers count seconds.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// What an application could not find out, for the log. The client gets no answer, and logs in again.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An application's own rule: who is it, and what may it do? A closure is one, and so is a type of the
/// application's with an `async fn`:
///
/// ```
/// use nats_callout::callout::{Answer, Authorize, BoxError, Permit, Request};
///
/// struct Keys(Vec<String>);
///
/// impl Authorize for Keys {
///     async fn authorize(&self, request: Request) -> Result<Answer, BoxError> {
///         Ok(match request.token() {
///             Some(token) if self.0.iter().any(|key| token.matches(key)) => {
///                 Permit::user("billing").publish("invoices.*").into()
///             }
///             _ => Answer::deny("no such key"),
///         })
///     }
/// }
/// ```
///
/// An error is a fault of the application's, such as a database that does not answer: there is no answer,
/// and the server lets the client go after its time-out of 2 s. A permit that cannot be granted is one, too: with
/// a subject that is not one, or an account of the system's. What takes longer than the request's deadline is
/// dropped, unless it blocks its thread: hash passwords with `tokio::task::spawn_blocking`.
pub trait Authorize: Send + Sync + 'static {
    /// Answers for one client.
    fn authorize(&self, request: Request) -> impl Future<Output = Result<Answer, BoxError>> + Send;
}

impl<F, Fut> Authorize for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, BoxError>> + Send,
{
    fn authorize(&self, request: Request) -> impl Future<Output = Result<Answer, BoxError>> + Send {
        self(request)
    }
}

/// What a client offers, and what its server knows of it. Shows no secret in `Debug`.
#[derive(Debug, Clone)]
pub struct Request {
    credentials: Credentials,
    client: ClientInfo,
    deadline: Instant,
}

impl Request {
    /// The user name and the password that the client sent; none where the password is empty. The name
    /// alone says nothing.
    #[must_use]
    pub fn password(&self) -> Option<(&str, &Secret)> {
        match &self.credentials {
            Credentials::Password { user, password } if !password.expose().is_empty() => {
                Some((user, password))
            }
            _ => None,
        }
    }

    /// The token that the client sent, or its password where it sent no user name. A user name may stand
    /// beside it, as [`Self::client`] has it.
    #[must_use]
    pub fn token(&self) -> Option<&Secret> {
        match &self.credentials {
            Credentials::Token { token, .. } => Some(token),
            _ => None,
        }
    }

    /// The nkey by which the client has signed this connection's nonce; none where the signature is not
    /// that key's.
    #[must_use]
    pub fn nkey(&self) -> Option<UserNkey> {
        match &self.credentials {
            Credentials::Nkey { nkey, signature, nonce } => {
                nkey::verified(nkey, signature, nonce).ok()
            }
            _ => None,
        }
    }

    /// The names in a client certificate that the server has verified: e-mail addresses, DNS names, URIs
    /// and the subject. None where the client offers anything else as well.
    #[must_use]
    pub fn certificate(&self) -> Vec<String> {
        match &self.credentials {
            Credentials::Certificate(tls) => {
                certificate::verified(tls).map(|(names, _)| names).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// What the server knows of the client: address, connection, and the user and name that it claims,
    /// which nobody has checked.
    #[must_use]
    pub fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// How it is connected; none if by something that is not known here.
    #[must_use]
    pub fn connection_type(&self) -> Option<ConnectionType> {
        ConnectionType::of(&self.client)
    }

    /// When an answer is of no use any more.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// An application's answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The client may connect.
    Permit(Permit),
    /// It may not, and why, for the log alone: every client is told the same.
    Deny(String),
}

impl Answer {
    /// A refusal, with its reason for the log. Write no secret there.
    pub fn deny(why: impl Into<String>) -> Self {
        Self::Deny(why.into())
    }
}

impl From<Permit> for Answer {
    fn from(permit: Permit) -> Self {
        Self::Permit(permit)
    }
}

/// What a client may do. What is not allowed is denied; a list without entries allows nothing.
///
/// A client that makes requests has to subscribe to its inbox: `_INBOX.>` where all of the account may
/// read each other's answers, else a prefix of its own, which the client is told of
/// (`custom_inbox_prefix`).
#[derive(Debug, Clone)]
pub struct Permit {
    user: String,
    account: Option<String>,
    publish: Vec<String>,
    subscribe: Vec<String>,
    deny_publish: Vec<String>,
    deny_subscribe: Vec<String>,
    responses: Option<Responses>,
    ttl: Option<Duration>,
    expires_at: Option<UnixSeconds>,
    dangerous: Vec<ConnectionType>,
}

impl Permit {
    /// A user who may do nothing yet; the name is for the log and for servers.
    #[must_use]
    pub fn user(name: impl Into<String>) -> Self {
        Self {
            user: name.into(),
            account: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            deny_publish: Vec::new(),
            deny_subscribe: Vec::new(),
            responses: None,
            ttl: None,
            expires_at: None,
            dangerous: Vec::new(),
        }
    }

    /// Places it in this account, not in the default one: a name in config mode, a public key (`A...`)
    /// in operator mode.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Lets it publish to a subject, which may have wildcards. Where a part of it comes from the client,
    /// check that part: a name such as `*` or `a.b` would allow more than meant.
    #[must_use]
    pub fn publish(mut self, subject: impl Into<String>) -> Self {
        self.publish.push(subject.into());
        self
    }

    /// Lets it subscribe to a subject, which may have wildcards.
    #[must_use]
    pub fn subscribe(mut self, subject: impl Into<String>) -> Self {
        self.subscribe.push(subject.into());
        self
    }

    /// Takes a subject out of those that it may publish to.
    #[must_use]
    pub fn deny_publish(mut self, subject: impl Into<String>) -> Self {
        self.deny_publish.push(subject.into());
        self
    }

    /// Takes a subject out of those that it may subscribe to.
    #[must_use]
    pub fn deny_subscribe(mut self, subject: impl Into<String>) -> Self {
        self.deny_subscribe.push(subject.into());
        self
    }

    /// Lets it answer the requests that it receives, on whatever subject they name for the answer.
    #[must_use]
    pub fn responses(mut self, responses: Responses) -> Self {
        self.responses = Some(responses);
        self
    }

    /// A life of the grant shorter than the service's.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// When the user ends, in seconds since 1970: no grant outlives it, and there is none from then on.
    #[must_use]
    pub fn expires_at(mut self, at: UnixSeconds) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Lets it connect as a leaf node too, which servers do not hold to these subjects in all respects.
    #[must_use]
    pub fn dangerous_leafnode(mut self) -> Self {
        self.dangerous.push(ConnectionType::Leafnode);
        self
    }

    /// Lets it connect by MQTT too. Whoever comes with the client id of another user of the account ends that
    /// one's session, and has what was kept for it.
    #[must_use]
    pub fn dangerous_mqtt(mut self) -> Self {
        self.dangerous.push(ConnectionType::Mqtt);
        self
    }

    fn grant(&self) -> Result<Grant, String> {
        let patterns = |subjects: &[String]| {
            let pattern = |subject: &String| {
                let parsed = subject.parse::<Pattern>();
                parsed
                    .map_err(|error| format!("lists `{subject}`, which is not a subject: {error}"))
            };
            subjects.iter().map(pattern).collect::<Result<Vec<_>, _>>()
        };
        if self.ttl.is_some_and(|ttl| ttl < SHORTEST) {
            return Err(format!("lives for less than {SHORTEST:?}"));
        }
        Ok(Grant {
            publish: patterns(&self.publish)?,
            subscribe: patterns(&self.subscribe)?,
            deny_publish: patterns(&self.deny_publish)?,
            deny_subscribe: patterns(&self.deny_subscribe)?,
            responses: self.responses,
            ttl: self.ttl,
            ..Grant::default()
        })
    }
}
