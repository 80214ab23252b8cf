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
pub(crate) mod token;
pub(crate) mod verified;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use strum::{EnumIter, EnumString, IntoStaticStr};

pub(crate) use self::by_row::ByRow;
use crate::clock::{Clock, UnixSeconds};
use crate::problem::Origin;
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::Credentials;
use crate::store::{CredentialStore, LoginRecord, Status, StoreError};

/// Why a login is refused. It goes to the log and the metrics alone: the client and the server
/// see one fixed text for all of them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, EnumIter, EnumString, IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum DenyReason {
    /// The client offered nothing.
    NoCredentials,
    /// No authenticator takes this kind of credential.
    UnsupportedCredentials,
    /// There is no such user.
    UnknownUser,
    /// The password is not the user's.
    WrongPassword,
    /// No password can be verified against the user's stored hash: a fault of the row, not the
    /// client's.
    UnusableHash,
    /// There is no such token, or it is not that user's.
    UnknownToken,
    /// The token has ended.
    TokenExpired,
    /// The JWT is no good: malformed, altered, for another audience, not yet valid, or without a
    /// claim that its issuer's rules ask for; or in the place of another user's password.
    InvalidToken,
    /// No issuer of the configuration has made this JWT.
    UnknownIssuer,
    /// The nkey is nobody's.
    UnknownNkey,
    /// The signature over the server's nonce is not the nkey's.
    WrongSignature,
    /// No name in the certificate is anybody's.
    UnknownCertificate,
    /// Names in the certificate are those of several users.
    AmbiguousCertificate,
    /// The user is suspended.
    UserSuspended,
    /// The user has ended.
    UserExpired,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant's licence has ended.
    TenantExpired,
    /// The policy refuses this user.
    Policy,
    /// The policy refuses this kind of connection.
    ConnectionType,
    /// The policy refuses this address.
    Address,
    /// The policy refuses this time.
    Time,
    /// No account may be given to this tenant.
    Placement,
    /// The grant is larger than a message to the server may be.
    TooLarge,
    /// The tenant has as many connections as it may.
    Connections,
    /// A custom authenticator's own reason.
    Refused,
}

impl DenyReason {
    /// The reason's code in logs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// Whether the credential is no good any more, while its user may have another.
    #[must_use]
    pub(crate) fn is_of_credential(self) -> bool {
        matches!(
            self,
            Self::WrongPassword | Self::UnknownToken | Self::UnknownNkey | Self::UnknownCertificate
        )
    }

    /// Whether a row or a policy is wrong rather than what the client offers.
    #[must_use]
    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::UnusableHash
                | Self::AmbiguousCertificate
                | Self::Policy
                | Self::Placement
                | Self::TooLarge
        )
    }
}

/// A refusal, for the log and for who asks why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// The reason.
    pub(crate) reason: DenyReason,
    /// Whom it is about, where a row was found.
    pub login: Option<Arc<LoginRecord>>,
    /// The line of a policy that decided.
    pub at: Option<Origin>,
    /// What exactly is wrong. It holds no secret.
    pub detail: Option<String>,
}

impl Denied {
    /// The reason's code, as logs, metrics and events have it, such as `wrong_password`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// The same, about the user of this row.
    #[must_use]
    pub(crate) fn of(mut self, login: &Arc<LoginRecord>) -> Self {
        self.login = Some(Arc::clone(login));
        self
    }

    /// The same, decided by this line of a policy.
    #[must_use]
    pub(crate) fn with_origin(mut self, at: Origin) -> Self {
        self.at = Some(at);
        self
    }

    /// The same, with what exactly is wrong.
    #[must_use]
    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl From<DenyReason> for Denied {
    fn from(reason: DenyReason) -> Self {
        Self { reason, login: None, at: None, detail: None }
    }
}

/// Why an attempt comes to no principal.
#[derive(Debug)]
pub(crate) enum Rejected {
    Denied(Denied),
    /// No fault of the client's.
    Fault(AuthnError),
}

impl<T: Into<Denied>> From<T> for Rejected {
    fn from(denied: T) -> Self {
        Self::Denied(denied.into())
    }
}

impl From<AuthnError> for Rejected {
    fn from(fault: AuthnError) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Rejected {
    fn from(fault: StoreError) -> Self {
        Self::Fault(fault.into())
    }
}

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

/// Who has been authenticated, active and not expired at the time of the check.
#[derive(Debug, Clone)]
pub struct Principal {
    record: Arc<LoginRecord>,
    method: &'static str,
    expires_at: Option<UnixSeconds>,
    name: Option<Box<str>>,
    claims: Arc<Claims>,
    extension: Option<Extension>,
    proof: Option<Arc<dyn Proof>>,
}

/// What a login has proved, without what it was proved by: who that is can be asked again later.
#[async_trait]
pub(crate) trait Proof: Debug + Send + Sync {
    /// Who it is by the rows as they are now; a refusal if the credential is no good any more, or its
    /// user may not log in.
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
    /// Too many wrong attempts on the account or from the source: this one may be right, and there
    /// was no place for it to wait in.
    #[error("too many passwords are being guessed")]
    Throttled,
    /// An issuer's keys are not known, or not those that a JWT names, and it does not answer.
    #[error("the keys of the issuer {issuer} cannot be fetched: {reason}")]
    Keys {
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
    vec![
        Arc::new(password),
        Arc::new(token::TokenAuthenticator::new(store(), clock())),
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
