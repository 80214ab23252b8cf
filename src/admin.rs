//! What people do to a deployment, apart from how they ask for it: each operation takes a typed
//! request and gives a typed result. It prints nothing and knows no command line; the program's
//! commands are one of its callers.
//!
//! The order of the steps of an operation is security (a suspended user's row is committed before
//! its connections are closed, or it would be back by a cached one), and stands here alone.

/// Errors that nobody tells apart from each other become one variant of another.
macro_rules! box_errors {
    ($into:ident::$variant:ident: $($error:ty),*) => {
        $(impl From<$error> for $into {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        })*
    };
}

pub(crate) mod ceiling;
pub(crate) mod decision;
pub mod doctor;
pub(crate) mod endpoint;
#[cfg(test)]
mod fakes;
pub(crate) mod instances;
pub mod keys;
mod name;
mod password;
mod purge;
mod running;
pub(crate) mod temporary;
pub(crate) mod tenants;
mod tokens;
mod users;
mod when;

use std::sync::Arc;

pub use self::name::{CertificateName, InvalidName, Name};
pub use self::password::{Password, PasswordError};
use self::running::{MakeSteps, OverNats, Steps};
pub use self::tenants::{NewTenantRequest, Removed, TenantAdded};
pub use self::tokens::{NewTokenRequest, TokenAdded};
pub use self::users::{NewUserRequest, Role, UserAdded, UserChange};
pub use self::when::When;
use crate::accounts::account::IssueError;
use crate::accounts::resolver::ResolverError;
use crate::authn::random::NoRandomness;
use crate::causes::BoxError;
use crate::clock::{Clock, SystemClock, UnixSeconds};
use crate::config::Config;
use crate::deployment::LoginError;
use crate::keyfile::KeyFileError;
use crate::servers::ClusterError;
use crate::store::{Store, StoreError, TenantId};

/// A deployment to work on: its configuration, its tenant table, and who hears remarks.
#[derive(Clone)]
pub struct Admin {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    remarks: Arc<dyn Fn(&str) + Send + Sync>,
    running: MakeSteps,
}

impl Admin {
    /// `store` is the tenant table of `config`, which [`crate::store::open`] opens.
    pub fn new(config: Config, store: Arc<dyn Store>) -> Self {
        Self {
            config: Arc::new(config),
            store,
            clock: Arc::new(SystemClock),
            remarks: Arc::new(|remark| match remark.strip_prefix("warning: ") {
                Some(warning) => tracing::warn!("{warning}"),
                None => tracing::info!("{remark}"),
            }),
            running: Arc::new(OverNats::of),
        }
    }

    /// Has what an operation remarks on its way told to `remarks` rather than to the log: what it
    /// waits for, and what it could not do though it goes on. Each is one line without its end.
    #[must_use]
    pub fn with_remarks(self, remarks: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { remarks: Arc::new(remarks), ..self }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The tenant table.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn remark(&self, remark: &str) {
        (self.remarks)(remark);
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// Waits until what is committed counts on every running instance.
    pub(crate) async fn settle(&self) {
        self.running().settle().await;
    }

    fn running(&self) -> Box<dyn Steps> {
        (self.running)(self)
    }

    /// When something ends that is added now.
    fn ends(&self, when: Option<When>) -> Result<Option<UnixSeconds>> {
        when.map(|when| when.at(self.now()))
            .transpose()
            .map_err(|why| AdminError::Expiry(why).into())
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("config", &self.config.file).finish_non_exhaustive()
    }
}

/// What an operation comes to.
type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was not carried out. What had been changed by then is said in the text.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) AdminError);

impl Error {
    /// What the tenant table has against it: that something is not there, or is there already, or that the
    /// database does not answer. None where it is something else.
    #[must_use]
    pub fn store(&self) -> Option<&StoreError> {
        match &self.0 {
            AdminError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl<T> From<T> for Error
where
    AdminError: From<T>,
{
    fn from(error: T) -> Self {
        Self(error.into())
    }
}

/// What [`Error`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// No tenant can have an account of its own: nothing was changed.
    #[error("the mode `config` has no accounts of tenants' own")]
    NoOwnAccounts,
    /// What is asked for is so anyway: nothing was changed.
    #[error("tenants in a shared account are answered without it")]
    AnsweredAnyway,
    /// The end is not a time to come: nothing was changed.
    #[error("{0}")]
    Expiry(String),
    /// JetStream would not admit the limits: nothing was changed.
    #[error("{0}")]
    Ceiling(String),
    /// The tenant table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was removed.
    #[error("nothing was removed: the JetStream data can be deleted only through NATS")]
    NothingRemoved(#[source] Box<Error>),
    /// The streams of a tenant are not all deleted.
    #[error("tenant {tenant} is suspended, but not removed; run the command again")]
    NotRemoved {
        /// The tenant.
        tenant: TenantId,
        /// Why.
        source: Box<Error>,
    },
    /// Something of the deployment, such as a key file, a login or a server, as the text says.
    #[error(transparent)]
    Deployment(BoxError),
}

impl AdminError {
    /// A server was asked, and did not answer in time.
    fn silent() -> Self {
        Self::Deployment("NATS does not answer".into())
    }
}

box_errors!(
    AdminError::Deployment: KeyFileError, LoginError, ClusterError, IssueError, ResolverError,
    NoRandomness
);

#[cfg(test)]
mod tests;
