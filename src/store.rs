//! Where tenants, users and tokens are kept: the read side that a login needs
//! ([`CredentialStore`]), and a whole table ([`Store`]).
//!
//! The schema is a contract with other programs, which write rows with plain SQL; the database
//! itself refuses what is not legal.

pub(crate) mod cache;
pub(crate) mod changes;
pub(crate) mod memory;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrations;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod open;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod options;
pub(crate) mod outbox;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod provisioning;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod queries;
pub(crate) mod record;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

#[cfg(any(test, feature = "fuzzing"))]
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use self::sql::fuzzing::read_row;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use self::changes::{Change, Closes, Coordination, Effect, EffectOn, Hindrance, News};
pub use self::memory::MemoryStore;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use self::open::{OpenError, StoreOptions, open};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use self::outbox::OMITTED;
pub(crate) use self::outbox::{Outbox, OutboxEvent};
pub(crate) use self::provisioning::{Misfit, ProvisioningStore};
pub(crate) use self::record::{HashListing, LoginListing, NewTenant, NewToken, NewUser};
pub use self::record::{
    InvalidTenantId, Isolation, Limits, LoginRecord, PasswordHash, Status, TenantId, TenantRecord,
    TokenHash, TokenListing, TokenRecord, UserKind, UserRecord,
};
use crate::keys::{AccountId, UserNkey};

/// Why a store could not answer. Never means "not found", which is `Ok(None)`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached or did not answer in time.
    #[error("the database did not answer: {0}")]
    Unavailable(String),
    /// A row holds what its schema should have refused.
    #[error("corrupt row in {table}, key {key}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The database refused a write; the text is its own, which names the column and the rule.
    #[error("{0}")]
    Refused(String),
    /// What the write refers to does not exist.
    #[error("no such {what}: {key}")]
    Missing {
        /// `tenant`, `user` or `token`.
        what: &'static str,
        /// The key that was asked for.
        key: String,
    },
    /// What the write would create exists already.
    #[error("{what} {key} exists already")]
    Exists {
        /// `tenant`, `user` or `token`.
        what: &'static str,
        /// The key that is taken.
        key: String,
    },
}

/// What a store answers.
pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A row, if there is one.
pub(crate) type Lookup<T> = Result<Option<Arc<T>>>;

/// How new an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A cached row will do.
    Cached,
    /// Read the database now: a refusal is never based on a cached row.
    Fresh,
}

/// What names a user without being secret: its row holds it, and the login proves it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Identity {
    /// A public user nkey.
    Nkey(UserNkey),
    /// A name that a certificate certifies.
    Certificate(Box<str>),
}

impl Identity {
    /// The text in the user's row.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Nkey(nkey) => nkey.as_str(),
            Self::Certificate(name) => name,
        }
    }
}

/// Finds what a login needs to know.
///
/// ```
/// use nats_callout::store::{CredentialStore, Freshness, MemoryStore, TenantRecord, UserKind, UserRecord};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::default();
/// let tenant = TenantRecord::new("42".parse()?);
/// store.put_tenant(tenant.clone());
/// store.put_user(&tenant.id, UserRecord::new("alice", UserKind::Bb))?;
/// let alice = store.user("alice", Freshness::Fresh).await?.ok_or("she is there")?;
/// assert_eq!(alice.tenant.id, tenant.id);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait CredentialStore: Debug + Send + Sync {
    /// The user with this login name, together with its tenant.
    async fn user(&self, name: &str, freshness: Freshness) -> Lookup<LoginRecord>;

    /// The token with this hash. That there is none has always been read: no such answer is kept.
    async fn token(&self, hash: &TokenHash, freshness: Freshness) -> Lookup<TokenRecord>;

    /// The user whose row holds this identity, together with its tenant. A store without such
    /// rows finds none.
    async fn holder(&self, identity: &Identity, freshness: Freshness) -> Lookup<LoginRecord> {
        let _ = (identity, freshness);
        Ok(None)
    }

    /// The tenant with this id, for a user that has no row. A store for users alone finds none.
    async fn tenant_of(&self, id: &TenantId, freshness: Freshness) -> Lookup<TenantRecord> {
        let _ = (id, freshness);
        Ok(None)
    }

    /// The account of this incarnation of the tenant: the one that is kept already, else
    /// `candidate`, which is then kept for good. `None` when that incarnation no longer exists,
    /// though another tenant may have its id by now.
    async fn account_of(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>>;
}

/// Of rows those that can be read. One that cannot is named in the log, and hurts its owner alone.
pub(crate) fn readable<T>(rows: Vec<Result<T>>) -> Vec<T> {
    rows.into_iter()
        .filter_map(|row| row.inspect_err(|error| tracing::error!("{error}")).ok())
        .collect()
}

/// A row, or none where it cannot be read, which is named in the log.
pub(crate) fn if_readable<T>(row: Result<Option<T>>) -> Result<Option<T>> {
    match row {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!("{error}");
            Ok(None)
        }
        row => row,
    }
}

/// A whole tenant table: everything that the service needs, and its end. [`open`] opens one; what the service
/// and commands do with it is theirs.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")]
/// # async fn ping() -> Result<(), Box<dyn std::error::Error>> {
/// use nats_callout::store::{Store, StoreOptions, open};
///
/// let store = open("sqlite://tenants.db", &StoreOptions::default()).await?;
/// store.ping().await?;
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Store: CredentialStore + ProvisioningStore + Coordination + Outbox {
    /// Whether the database answers and has its tables: the version of its schema.
    async fn ping(&self) -> Result<i64>;

    /// Lets running statements end and closes the connections.
    async fn close(&self);
}
