//! Why a login comes to nothing: it is refused, for a reason that the log and the metrics are told, or it is
//! a fault of nobody's who connects.

use std::sync::Arc;

use strum::{EnumIter, EnumString, IntoStaticStr};

use super::AuthnError;
use crate::problem::Origin;
use crate::store::{LoginRecord, StoreError, TenantId};

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

/// Whom a token names that is its issuer's for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its user.
    pub(crate) user: String,
    /// The user's tenant, if the issuer says so.
    pub(crate) tenant: Option<TenantId>,
}

/// A refusal, for the log and for who asks why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// The reason.
    pub(crate) reason: DenyReason,
    /// Whom it is about, where a row was found.
    pub login: Option<Arc<LoginRecord>>,
    /// Whom it is about by the word of an issuer, where none was.
    pub(crate) named: Option<Box<Named>>,
    /// The line of a policy that decided.
    pub at: Option<Origin>,
    /// What exactly is wrong. It holds no secret.
    pub detail: Option<String>,
}

impl Denied {
    /// The tenant has so many connections, and may have no more than `most`.
    #[cfg(feature = "daemon")]
    pub(crate) fn full(connections: u64, most: u64) -> Self {
        Self::from(DenyReason::Connections).with_detail(format!(
            "the tenant has as many connections as it may: {connections}, with max_connections = {most}"
        ))
    }

    /// What may be done takes so many bytes, and a message to the server at most `most`.
    pub(crate) fn too_large(bytes: &str, most: usize) -> Self {
        Self::from(DenyReason::TooLarge).with_detail(format!(
            "the grant takes {bytes} bytes, and a message to nats-server at most {most} (max_payload): shorten \
             the user's lists or its policy, or raise max_payload"
        ))
    }

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

    /// The same, about whom an issuer names, where no row was found.
    #[must_use]
    pub(crate) fn of_named(mut self, named: Named) -> Self {
        self.named = Some(Box::new(named));
        self
    }

    /// The same, of what another authenticator refuses, too.
    #[must_use]
    pub(crate) fn and_refused(mut self, other: &Self) -> Self {
        let detail = self.detail.take().unwrap_or_default();
        self.login = self.login.or_else(|| other.login.clone());
        self.with_detail(format!("{detail}; as a password it is refused, too: {}", other.code()))
    }

    /// The id of the tenant that it is about, if that is known.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        let of_row = self.login.as_ref().map(|login| &login.tenant.id);
        of_row.or_else(|| self.named.as_ref()?.tenant.as_ref()).map(TenantId::as_str)
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
        Self { reason, login: None, named: None, at: None, detail: None }
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
