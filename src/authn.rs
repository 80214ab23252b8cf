//! Who is connecting: an [`Authenticator`] turns [`Credentials`] into a [`Principal`], or says why
//! not, or that this kind of credential is not its own.

#[cfg(test)]
mod fakes;
pub mod hashing;
pub mod lane;
pub mod password;
pub mod random;
pub mod token;
pub mod verified;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;

use crate::clock::UnixSeconds;
use crate::credentials::Credentials;
use crate::store::{LoginRecord, Status, StoreError};

/// Why a login is refused. It goes to the log and the metrics alone: the client and the server
/// see one fixed text for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// There is no such token, or it is not that user's.
    UnknownToken,
    /// The token has ended.
    TokenExpired,
    /// The user is suspended.
    UserSuspended,
    /// The user has ended.
    UserExpired,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant's licence has ended.
    TenantExpired,
    /// The policy refuses this user or this connection.
    Policy,
    /// No account may be given to this tenant.
    Placement,
    /// A custom authenticator's own reason.
    Refused,
}

impl DenyReason {
    /// All of them, in their order.
    pub const ALL: [Self; 13] = [
        Self::NoCredentials,
        Self::UnsupportedCredentials,
        Self::UnknownUser,
        Self::WrongPassword,
        Self::UnknownToken,
        Self::TokenExpired,
        Self::UserSuspended,
        Self::UserExpired,
        Self::TenantSuspended,
        Self::TenantExpired,
        Self::Policy,
        Self::Placement,
        Self::Refused,
    ];

    /// The reason's code in logs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::UnsupportedCredentials => "unsupported_credentials",
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::UnknownToken => "unknown_token",
            Self::TokenExpired => "token_expired",
            Self::UserSuspended => "user_suspended",
            Self::UserExpired => "user_expired",
            Self::TenantSuspended => "tenant_suspended",
            Self::TenantExpired => "tenant_expired",
            Self::Policy => "policy",
            Self::Placement => "placement",
            Self::Refused => "refused",
        }
    }
}

/// Who has been authenticated, active and not expired at the time of the check.
#[derive(Debug, Clone)]
pub struct Principal {
    record: Arc<LoginRecord>,
    method: &'static str,
    expires_at: Option<UnixSeconds>,
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
    ) -> Result<Self, DenyReason> {
        let ended = |at: Option<UnixSeconds>| at.is_some_and(|at| at <= now);
        let (user, tenant) = (&record.user, &record.tenant);
        if tenant.status == Status::Suspended {
            Err(DenyReason::TenantSuspended)
        } else if user.status == Status::Suspended {
            Err(DenyReason::UserSuspended)
        } else if ended(tenant.expires_at) {
            Err(DenyReason::TenantExpired)
        } else if ended(user.expires_at) {
            Err(DenyReason::UserExpired)
        } else if ended(credential_expires_at) {
            Err(DenyReason::TokenExpired)
        } else {
            let expires_at = [tenant.expires_at, user.expires_at, credential_expires_at]
                .into_iter()
                .flatten()
                .min();
            Ok(Self { record, method, expires_at })
        }
    }

    /// The user and its tenant.
    #[must_use]
    pub fn record(&self) -> &LoginRecord {
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
    Refused(DenyReason),
    /// Its kind, and verified.
    Accepted(Principal),
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
    /// A custom authenticator's own failure.
    #[error("{0}")]
    Other(String),
}

/// Verifies one kind of credential.
pub trait Authenticator: Debug + Send + Sync {
    /// Verifies the credentials. Work that cannot be done before `deadline` is not begun.
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Authentication, AuthnError>>;
}
