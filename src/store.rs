//! Where tenants, users and tokens are kept: the read side that a login needs
//! ([`CredentialStore`]), and a whole table ([`Store`]).
//!
//! The schema is a contract with other programs, which write rows with plain SQL; the database
//! itself refuses what is not legal.

pub(crate) mod cache;
pub(crate) mod memory;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrations;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod open;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod options;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
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
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

pub use self::memory::MemoryStore;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use self::open::{OpenError, StoreOptions, open};
pub(crate) use self::record::{HashListing, NewToken};
pub use self::record::{
    InvalidTenantId, Isolation, Limits, LoginRecord, NewTenant, NewUser, PasswordHash, Status,
    TenantId, TenantRecord, TokenHash, TokenListing, TokenRecord, UserKind, UserRecord,
};
use crate::clock::UnixSeconds;
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
    async fn user(
        &self,
        name: &str,
        freshness: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, StoreError>;

    /// The token with this hash.
    async fn token(
        &self,
        hash: &TokenHash,
        freshness: Freshness,
    ) -> Result<Option<Arc<TokenRecord>>, StoreError>;

    /// The user whose row holds this identity, together with its tenant. A store without such
    /// rows finds none.
    async fn holder(
        &self,
        identity: &Identity,
        freshness: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, StoreError> {
        let _ = (identity, freshness);
        Ok(None)
    }

    /// The tenant with this id, for a user that has no row. A store for users alone finds none.
    async fn tenant_of(
        &self,
        id: &TenantId,
        freshness: Freshness,
    ) -> Result<Option<Arc<TenantRecord>>, StoreError> {
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
    ) -> Result<Option<AccountId>, StoreError>;
}

/// Of rows those that can be read. One that cannot is named in the log, and hurts its owner alone.
pub(crate) fn readable<T>(rows: Vec<Result<T, StoreError>>) -> Vec<T> {
    rows.into_iter()
        .filter_map(|row| row.inspect_err(|error| tracing::error!("{error}")).ok())
        .collect()
}

/// A row, or none where it cannot be read, which is named in the log.
pub(crate) fn if_readable<T>(row: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match row {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!("{error}");
            Ok(None)
        }
        row => row,
    }
}

#[doc(hidden)]
/// Writes tenants, users and tokens, and lists them.
#[async_trait]
pub trait ProvisioningStore: Debug + Send + Sync {
    /// Adds a tenant together with its first user, both or neither.
    async fn add_tenant(&self, tenant: &NewTenant, admin: &NewUser) -> Result<(), StoreError>;

    /// Adds a user to an existing tenant.
    async fn add_user(&self, user: &NewUser) -> Result<(), StoreError>;

    /// Replaces the password hash of a tenant's user.
    async fn set_password(
        &self,
        tenant: &TenantId,
        user: &str,
        hash: &PasswordHash,
    ) -> Result<(), StoreError>;

    /// Suspends or resumes a tenant.
    async fn set_tenant_status(&self, tenant: &TenantId, status: Status) -> Result<(), StoreError>;

    /// Suspends or resumes a tenant's user.
    async fn set_user_status(
        &self,
        tenant: &TenantId,
        user: &str,
        status: Status,
    ) -> Result<(), StoreError>;

    /// Removes a tenant's user with its tokens.
    async fn remove_user(&self, tenant: &TenantId, user: &str) -> Result<(), StoreError>;

    /// All tokens, by tenant, user and time: never the token, nor its hash.
    async fn tokens(&self) -> Result<Vec<TokenListing>, StoreError>;

    /// Removes a token by its public id, which is unique over all of them.
    async fn remove_token_by_id(&self, id: &str) -> Result<(), StoreError>;

    /// Adds a token to a tenant's user.
    async fn add_token(&self, tenant: &TenantId, token: &NewToken) -> Result<(), StoreError>;

    /// Removes a token, by its hash. One that is gone already is no error.
    async fn revoke_token(&self, hash: &TokenHash) -> Result<(), StoreError>;

    /// Removes a tenant with its users and their tokens.
    async fn remove_tenant(&self, id: &TenantId) -> Result<(), StoreError>;

    /// All tenants, by id. A row that cannot be read is an error of its own ([`readable`]).
    async fn tenants(&self) -> Result<Vec<Result<TenantRecord, StoreError>>, StoreError>;

    /// The tenants with `answers` that have an account of their own, by id; those whose row can be read.
    async fn answering(&self) -> Result<Vec<TenantRecord>, StoreError>;

    /// The tenants that have an account, by id; those whose row can be read.
    async fn with_account(&self) -> Result<Vec<TenantRecord>, StoreError>;

    /// One tenant.
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError>;

    /// The tenant that holds this account, if any: what a server's look-up asks.
    async fn tenant_of_account(
        &self,
        account: &AccountId,
    ) -> Result<Option<TenantRecord>, StoreError>;

    /// The users of a tenant, by name.
    async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRecord>, StoreError>;

    /// The password hashes of the users after this one, by name: some thousand at a time, none at the
    /// end.
    async fn password_hashes(&self, after: &str) -> Result<Vec<HashListing>, StoreError>;

    /// Notes when users last logged in. Users that are gone are passed over.
    async fn record_logins(&self, logins: &[(String, UnixSeconds)]) -> Result<(), StoreError>;

    /// The rows from before a rule that they do not keep: how many texts in them, and the first few.
    async fn misfits(&self) -> Result<(u64, Vec<Misfit>), StoreError>;

    /// Replaces an outdated hash by a new one of the same password, unless it changed meanwhile.
    /// No event: nothing is new to anyone.
    async fn rehash(
        &self,
        user: &str,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError>;
}

#[doc(hidden)]
/// A text that a rule of today would refuse. Its row was there before the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// The column.
    pub column: String,
}

#[doc(hidden)]
/// A session of another program in the database that hinders others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// Its role.
    pub role: String,
    /// The database's number for it.
    pub session: i64,
    /// How many sessions wait for its locks.
    pub blocks: u64,
    /// How many notices a second it sends, if these are far more than changes make.
    pub notices: u64,
}

#[doc(hidden)]
/// A committed change that a cache has to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A tenant, and with it all its users, by id.
    Tenant(String),
    /// A user, by login name.
    User(String),
    /// A token, by its hash in hex.
    Token(String),
    /// Anything: what changed is not known.
    Everything,
}

#[doc(hidden)]
/// What a committed change means for connections that are alive and for what servers hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The change's number.
    pub seq: i64,
    /// What was changed.
    pub on: EffectOn,
    /// Operator mode: the account of the tenant at that time.
    pub account: Option<AccountId>,
    /// Which connections it closes.
    pub closes: Closes,
    /// Whether servers have to learn new limits of the account.
    pub pushes: bool,
    /// How long ago that was, by the database's own clock.
    pub age: Duration,
}

#[doc(hidden)]
/// What an [`Effect`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectOn {
    /// A tenant, by id: all its users.
    Tenant(TenantId),
    /// A user, by login name.
    User(String),
    /// The effect's account belongs to nobody any more.
    Account,
}

#[doc(hidden)]
/// Which connections that are alive a change closes, of those it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    /// None.
    Nothing,
    /// Those whose grant may outlive this time.
    GrantsBeyond(UnixSeconds),
    /// All of them.
    Everything,
}

#[doc(hidden)]
/// What was committed since the last question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct News {
    /// What caches have to forget.
    pub changes: Vec<Change>,
    /// What it means for connections and servers. Not known where `changes` is
    /// [`Change::Everything`].
    pub effects: Vec<Effect>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl News {
    /// It is not known what was committed.
    fn everything() -> Self {
        Self { changes: vec![Change::Everything], effects: Vec::new() }
    }
}

#[doc(hidden)]
/// What the instances of the service tell each other through the database.
#[async_trait]
pub trait Coordination: Debug + Send + Sync {
    /// Everything committed since the last call, by whomever. Cheap when there is nothing.
    async fn news(&self) -> Result<News, StoreError>;

    /// The effects of all changes that are still noted, oldest first.
    async fn effects(&self) -> Result<Vec<Effect>, StoreError>;

    /// The accounts that tenants had and that belong to nobody any more.
    async fn removed_accounts(&self) -> Result<Vec<AccountId>, StoreError>;

    /// Notes that this instance is alive, by the database's clock: those of hosts differ.
    async fn heartbeat(&self, instance: &str) -> Result<(), StoreError>;

    /// Removes this instance's heartbeat: it stops.
    async fn depart(&self, instance: &str) -> Result<(), StoreError>;

    /// Returns when there may be news: at the latest after a time well below a second, and as soon
    /// as the database says so where it can.
    async fn wait_for_news(&self);

    /// The sessions of other programs that hold others up now. A database that knows none finds none.
    async fn hindrances(&self) -> Result<Vec<Hindrance>, StoreError>;

    /// The instances whose heartbeat is at most so many seconds old.
    async fn instances(&self, seconds: u32) -> Result<Vec<String>, StoreError>;
}

/// In the place of an event's data that are too large, or unreadable.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) const OMITTED: &str = r#"{"omitted":true}"#;

#[doc(hidden)]
/// A change of a tenant or a user that is to be published.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// The event's own id, random.
    pub id: String,
    /// Its type, `auth.user.created` say, which is also the subject it is published to.
    pub kind: String,
    /// The tenant's id.
    pub tenant: String,
    /// What it is about: the tenant's id, or the user's name.
    pub subject: String,
    /// When it was committed, by the database's clock (RFC 3339).
    pub time: String,
    /// What has changed, as JSON. Never a secret.
    pub data: Box<RawValue>,
}

#[doc(hidden)]
/// The events of changes, noted in the transactions that made them. Whoever publishes one deletes
/// it by its id once the stream has it: never by a watermark, since commits overtake each other.
#[async_trait]
pub trait Outbox: Debug + Send + Sync {
    /// The oldest events, in the order in which they were noted, at most `limit` and as many as fit
    /// into memory without harm, but those of the tenants `without`. Reads alone.
    async fn pending(&self, limit: u32, without: &[String])
    -> Result<Vec<OutboxEvent>, StoreError>;

    /// How many events wait.
    async fn backlog(&self) -> Result<u64, StoreError>;

    /// Deletes events that the stream has. Those that are gone already are no error.
    async fn published(&self, ids: &[String]) -> Result<(), StoreError>;

    /// Whether this instance is the one that publishes for `time` from now on, by the database's
    /// clock. It is refused while another's time lasts.
    async fn lease(&self, instance: &str, time: Duration) -> Result<bool, StoreError>;

    /// Ends this instance's time, if it has it.
    async fn release(&self, instance: &str) -> Result<(), StoreError>;
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
    async fn ping(&self) -> Result<i64, StoreError>;

    /// Lets running statements end and closes the connections.
    async fn close(&self);
}
