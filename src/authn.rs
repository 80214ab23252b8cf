//! Who is connecting: an [`Authenticator`] turns [`Credentials`] into a [`Principal`], or says why
//! not, or that this kind of credential is not its own.

mod by_identity;
mod by_row;
pub(crate) mod certificate;
#[cfg(test)]
mod fakes;
pub(crate) mod guessing;
pub(crate) mod hashing;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
pub(crate) mod lane;
pub(crate) mod nkey;
pub(crate) mod password;
pub(crate) mod random;
mod refusal;
pub(crate) mod token;
pub(crate) mod verified;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

pub(crate) use self::by_row::ByRow;
pub use self::refusal::{Denied, DenyReason};
pub(crate) use self::refusal::{Named, Rejected};
use crate::clock::{Clock, UnixSeconds};
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::Credentials;
use crate::store::{CredentialStore, LoginRecord, Status, StoreError, TenantId, UserKind};

/// What is decided by cached rows, unless it is a refusal: none rests on a cached row, so that `fresh`
/// decides then. Every authenticator that looks anybody up comes to its answer by this.
async fn confirmed(
    cached: impl Future<Output = Result<Principal, Rejected>>,
    fresh: impl Future<Output = Result<Principal, Rejected>>,
) -> Result<Principal, Rejected> {
    match cached.await {
        Err(Rejected::Denied(_)) => fresh.await,
        decided => decided,
    }
}

/// What the issuer of a verified JWT says of its user, as far as its rules hand it on: by claim, a
/// text, number or truth as one entry, a list as its entries.
pub type Claims = BTreeMap<String, Vec<String>>;

/// A claim as a policy sees it: a text, number or truth as one entry, a list of them as its
/// entries. What is deeper is left out.
pub(crate) fn entries(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => Some(values.iter().filter_map(scalar).collect()),
        value => scalar(value).map(|entry| vec![entry]),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Who has been authenticated, active and not expired at the time of the check.
#[derive(Debug, Clone)]
pub struct Principal {
    record: Arc<LoginRecord>,
    method: &'static str,
    expires_at: Option<UnixSeconds>,
    name: Option<Box<str>>,
    claims: Arc<Claims>,
    issuer: Option<Arc<IssuerOf>>,
    extension: Option<Extension>,
    proof: Option<Arc<dyn Proof>>,
}

/// The issuer of a JWT, as far as the words of a refusal need it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IssuerOf {
    /// Its table in the configuration.
    pub(crate) name: String,
    /// The claims that are handed to the policy.
    pub(crate) claims: Vec<String>,
}

/// What an issuer makes of a JWT's claims.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Those that the policy sees.
    pub(crate) claims: Claims,
    /// The tenant of all of its users, where the issuer has one.
    pub(crate) tenant: Option<TenantId>,
    /// What its users are who have no row; none where all have one.
    pub(crate) without_row: Option<WithoutRow>,
}

/// What a user without a row is by its issuer's rules.
#[derive(Debug)]
pub(crate) struct WithoutRow {
    pub(crate) kind: UserKind,
    /// Its policy, if one is named, or why the claims choose none.
    pub(crate) policy: Result<Option<String>, Denied>,
    /// What the claims say that chooses it, in words; empty where none does.
    pub(crate) by: String,
}

/// What a login has proved, without what it was proved by, unless that is a token about which its issuer has to
/// be asked: who that is can be asked again later.
#[async_trait]
pub(crate) trait Proof: Debug + Send + Sync {
    /// Who it is by the rows as they are now, and by the word of an issuer that has to be asked; a refusal if the
    /// credential is no good any more, or its user may not log in.
    async fn again(&self) -> Result<Principal, Rejected>;
}

/// What an authenticator hands to a policy of the same hand.
#[derive(Clone)]
struct Extension(Arc<dyn Any + Send + Sync>);

impl Debug for Extension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extension")
    }
}

impl Principal {
    /// Accepts the user of `record`, whose credential has been verified by `method` (a word for
    /// the log) and ends at `credential_expires_at`, unless the user, its tenant or the credential
    /// may not be used at `now`.
    pub fn new(
        record: Arc<LoginRecord>,
        method: &'static str,
        credential_expires_at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<Self, Denied> {
        let ended = |at: Option<UnixSeconds>| at.is_some_and(|at| at <= now);
        let (user, tenant) = (&record.user, &record.tenant);
        let reason = if tenant.status == Status::Suspended {
            DenyReason::TenantSuspended
        } else if user.status == Status::Suspended {
            DenyReason::UserSuspended
        } else if ended(tenant.expires_at) {
            DenyReason::TenantExpired
        } else if ended(user.expires_at) {
            DenyReason::UserExpired
        } else if ended(credential_expires_at) {
            DenyReason::TokenExpired
        } else {
            let expires_at = [tenant.expires_at, user.expires_at, credential_expires_at]
                .into_iter()
                .flatten()
                .min();
            return Ok(Self {
                record,
                method,
                expires_at,
                name: None,
                claims: Arc::default(),
                issuer: None,
                extension: None,
                proof: None,
            });
        };
        Err(Denied::from(reason).of(&record))
    }

    /// Notes what its issuer calls a user without a row: the login of such a user holds the tenant too.
    #[must_use]
    pub(crate) fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The user's own name: that of the row, or what its issuer calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.record.user.name)
    }

    /// Adds the claims of the JWT that was verified, for the policy.
    #[must_use]
    pub(crate) fn with_claims(mut self, claims: Claims) -> Self {
        self.claims = Arc::new(claims);
        self
    }

    /// Adds whose JWT it was.
    #[must_use]
    pub(crate) fn with_issuer(mut self, issuer: Arc<IssuerOf>) -> Self {
        self.issuer = Some(issuer);
        self
    }

    /// The issuer of the JWT that it was authenticated by, if it was by one.
    pub(crate) fn issuer(&self) -> Option<&IssuerOf> {
        self.issuer.as_deref()
    }

    /// Whether it has no row of its own: its issuer's rules have made its record.
    pub(crate) fn is_without_row(&self) -> bool {
        self.name.is_some()
    }

    /// Adds what was proved.
    #[must_use]
    pub(crate) fn with_proof(mut self, proof: Arc<dyn Proof>) -> Self {
        self.proof = Some(proof);
        self
    }

    /// What was proved, where that can be looked at again.
    pub(crate) fn proof(&self) -> Option<&Arc<dyn Proof>> {
        self.proof.as_ref()
    }

    /// The claims of the JWT that it was authenticated by; none otherwise.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Adds something of an authenticator's own, for a policy of the same hand.
    #[must_use]
    pub(crate) fn with_extension<T: Any + Send + Sync>(mut self, extension: Arc<T>) -> Self {
        self.extension = Some(Extension(extension));
        self
    }

    /// What the authenticator has added, if it is a `T`.
    #[must_use]
    pub(crate) fn extension<T: Any>(&self) -> Option<&T> {
        self.extension.as_ref()?.0.downcast_ref()
    }

    /// The user and its tenant.
    #[must_use]
    pub fn record(&self) -> &LoginRecord {
        &self.record
    }

    /// The same, to be kept.
    pub(crate) fn login(&self) -> &Arc<LoginRecord> {
        &self.record
    }

    /// How it was authenticated.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// When the first of user, tenant and credential ends: no grant outlives it.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        self.expires_at
    }
}

/// An authenticator's answer.
#[derive(Debug)]
pub enum Authentication {
    /// Not a credential of this authenticator's kind: ask the next one.
    NotMine,
    /// Perhaps its kind: the next one may accept it, and this is what comes of it if none does.
    Perhaps(Result<Denied, AuthnError>),
    /// Its kind, and refused.
    Refused(Denied),
    /// Its kind, and verified.
    Accepted(Principal),
}

impl Authentication {
    /// The answer to a credential of the authenticator's kind.
    fn of(decided: Result<Principal, Rejected>) -> Result<Self, AuthnError> {
        match decided {
            Ok(principal) => Ok(Self::Accepted(principal)),
            Err(Rejected::Denied(denied)) => Ok(Self::Refused(denied)),
            Err(Rejected::Fault(fault)) => Err(fault),
        }
    }
}

/// Authentication could not be carried out, which is no fault of the client's: no answer is sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthnError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More password hashing is waiting than can be done in time.
    #[error("password hashing is overloaded")]
    Overloaded,
    /// The stored hash takes longer than a decision may. Whoever has the right password is let in at his next
    /// attempt, once it has matched.
    #[error(
        "the password's hash takes longer than a login may wait: make a new one with \
         `nats-callout user passwd {tenant} {user}`"
    )]
    SlowHash {
        /// The id of the user's tenant.
        tenant: String,
        /// The user, unless its name is a secret.
        user: String,
    },
    /// Too many wrong attempts on the account or from the source: this one may be right, and there
    /// was no place for it to wait in.
    #[error("too many passwords are being guessed")]
    Throttled,
    /// Too many tokens that nobody has come from the source: this one may be right, and there was no place for
    /// it to wait in.
    #[error("too many tokens that nobody has come from this address")]
    UnknownTokens,
    /// An issuer's keys are not known, or not those that a JWT names, and it does not answer.
    #[error("the keys of the issuer {issuer} cannot be fetched: {reason}")]
    Keys {
        /// The issuer's name in the configuration.
        issuer: String,
        /// What went wrong.
        reason: Arc<str>,
    },
    /// An issuer says nothing, or nothing that can be read, of a token that it is asked about.
    #[error("the issuer {issuer} cannot be asked about a token: {reason}")]
    Introspection {
        /// The issuer's name in the configuration.
        issuer: String,
        /// What went wrong.
        reason: Arc<str>,
    },
    /// A custom authenticator's own failure.
    #[error("{0}")]
    Other(String),
}

/// One attempt to log in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What the client offers.
    pub credentials: &'a Credentials,
    /// What the server knows of the client.
    pub client: &'a ClientInfo,
    /// Work that cannot be done before is not begun.
    pub deadline: Instant,
    /// Whose row was looked at, for the log of a login that gets no answer.
    pub found: &'a Found,
}

/// Whose row an attempt is about, once one was found.
#[derive(Debug, Default)]
pub struct Found(Mutex<Option<Arc<LoginRecord>>>);

impl Found {
    /// Notes the row that was read last: one that was cached may be outdated.
    pub fn note(&self, login: &Arc<LoginRecord>) {
        *self.0.lock() = Some(Arc::clone(login));
    }

    /// That row.
    #[must_use]
    pub fn login(&self) -> Option<Arc<LoginRecord>> {
        self.0.lock().clone()
    }
}

/// The ways to log in of a tenant table: passwords, tokens, nkeys and certificates.
pub(crate) fn of_table(
    password: password::PasswordAuthenticator,
    store: &Arc<dyn CredentialStore>,
    clock: &Arc<dyn Clock>,
) -> Vec<Arc<dyn Authenticator>> {
    let (store, clock) = (|| Arc::clone(store), || Arc::clone(clock));
    let tokens = token::TokenAuthenticator::new(password.tokens());
    vec![
        Arc::new(password),
        Arc::new(tokens),
        Arc::new(nkey::NkeyAuthenticator::new(store(), clock())),
        Arc::new(certificate::CertificateAuthenticator::new(store(), clock())),
    ]
}

/// Verifies one kind of credential.
#[async_trait]
pub trait Authenticator: Debug + Send + Sync {
    /// Verifies what the client offers.
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError>;
}
