//! What the databases share: the statements with their parameters, rows, and the traits of
//! [`crate::store`] on top of them. A database brings a [`Backend`]: how a statement is read, how a
//! transaction is written, and how others' changes are told.

mod coordinate;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod outbox;
mod read;
pub(super) mod row;
mod write;

use std::fmt::Debug;

use async_trait::async_trait;

pub(super) use self::read::account_of;
pub(super) use self::row::Columns;
use super::{Hindrance, News, Result, StoreError, TenantRecord, queries};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;

/// A database behind the traits of [`crate::store`].
#[async_trait]
pub(super) trait Backend: Debug + Send + Sync {
    /// Its rows.
    type Row: Columns;

    /// What a statement finds.
    async fn select(&self, statement: Statement<'_>) -> Result<Vec<Self::Row>>;

    /// Carries out all of the steps or none.
    async fn write(&self, steps: Vec<Step<'_>>, durability: Durability) -> Result<()>;

    /// Keeps `candidate` for this incarnation of the tenant, unless another is kept already, and
    /// gives what is kept.
    async fn keep_account(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>>;

    /// Notes logins, whose times the database can write down.
    async fn note_logins(&self, logins: &[(&str, UnixSeconds)]) -> Result<()>;

    /// [`Coordination::news`](super::Coordination::news).
    async fn news(&self) -> Result<News>;

    /// [`Coordination::wait_for_news`](super::Coordination::wait_for_news).
    async fn wait_for_news(&self);

    /// [`Coordination::hindrances`](super::Coordination::hindrances).
    async fn hindrances(&self) -> Result<Vec<Hindrance>>;

    /// [`Store::close`](super::Store::close).
    async fn close(&self);
}

/// What a commit has to outlast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A loss of power: a tenant's data hangs on its account, and a password that was changed must
    /// not come back.
    Lasting,
    /// It may be lost with the power: who is alive, who logged in.
    Passing,
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'q> {
    Text(Option<&'q str>),
    Integer(Option<i64>),
    Truth(bool),
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'q> From<Option<&'q str>> for Value<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

/// A statement with its parameters.
#[derive(Debug, Clone)]
pub(super) struct Statement<'q> {
    pub(super) sql: &'static str,
    pub(super) values: Vec<Value<'q>>,
}

impl<'q> Statement<'q> {
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql, values: Vec::new() }
    }

    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// The thing that a write concerns, for the errors that name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'q> {
    pub(super) what: &'static str,
    pub(super) key: &'q str,
    /// The tenant or user that the write refers to.
    pub(super) parent: &'q str,
}

/// One statement of a transaction that writes.
#[derive(Debug, Clone)]
pub(super) struct Step<'q> {
    pub(super) statement: Statement<'q>,
    pub(super) subject: Subject<'q>,
    pub(super) if_none: IfNone<'q>,
}

/// What it means that a step found no row.
#[derive(Debug, Clone, Copy)]
pub(super) enum IfNone<'q> {
    /// Nothing.
    Fine,
    /// Its subject does not exist.
    Missing,
    /// The tenant has no such user, or does not exist itself.
    NoUser { tenant: &'q str, user: &'q str },
}

/// Why a step was not carried out.
#[derive(Debug)]
pub(super) enum Failure<'q> {
    /// The database refused it or failed.
    Database(sqlx::Error, Subject<'q>),
    /// What it is about does not exist.
    Missing(StoreError),
}

/// A connection of one of the databases.
#[async_trait]
pub(super) trait Link: Send {
    /// Its rows.
    type Row: Columns;

    /// What a statement finds.
    async fn rows(&mut self, statement: &Statement<'_>) -> Result<Vec<Self::Row>, sqlx::Error>;

    /// How many rows a statement has changed.
    async fn change(&mut self, statement: &Statement<'_>) -> Result<u64, sqlx::Error>;
}

/// Implements [`Link`] for a connection of sqlx.
macro_rules! link {
    ($connection:ty, $row:ty, $database:ty) => {
        #[async_trait]
        impl $crate::store::sql::Link for $connection {
            type Row = $row;

            async fn rows(
                &mut self,
                statement: &$crate::store::sql::Statement<'_>,
            ) -> Result<Vec<$row>, sqlx::Error> {
                query::<$database>(statement).fetch_all(self).await
            }

            async fn change(
                &mut self,
                statement: &$crate::store::sql::Statement<'_>,
            ) -> Result<u64, sqlx::Error> {
                Ok(query::<$database>(statement).execute(self).await?.rows_affected())
            }
        }
    };
}

#[cfg(feature = "sqlite")]
link!(sqlx::sqlite::SqliteConnection, sqlx::sqlite::SqliteRow, sqlx::Sqlite);
#[cfg(feature = "postgres")]
link!(sqlx::postgres::PgConnection, sqlx::postgres::PgRow, sqlx::Postgres);

fn query<'q, DB: sqlx::Database>(
    statement: &Statement<'q>,
) -> sqlx::query::Query<'q, DB, DB::Arguments>
where
    Option<&'q str>: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    Option<i64>: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    bool: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
{
    statement.values.iter().fold(sqlx::query(statement.sql), |query, value| match *value {
        Value::Text(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
        Value::Truth(truth) => query.bind(truth),
    })
}

/// Carries out the steps, up to the first that is not.
pub(super) async fn carry_out<'q>(
    link: &mut impl Link,
    steps: &[Step<'q>],
) -> Result<(), Failure<'q>> {
    for step in steps {
        let subject = step.subject;
        let changed = link
            .change(&step.statement)
            .await
            .map_err(|error| Failure::Database(error, subject))?;
        if changed > 0 {
            continue;
        }
        return Err(Failure::Missing(match step.if_none {
            IfNone::Fine => continue,
            IfNone::Missing => {
                StoreError::Missing { what: subject.what, key: subject.key.to_owned() }
            }
            IfNone::NoUser { tenant, user } => {
                let exists = Statement::new(queries::TENANT_EXISTS).bind(tenant);
                let found = link.rows(&exists).await;
                let found = found.map_err(|error| Failure::Database(error, subject))?;
                match found.is_empty() {
                    true => StoreError::Missing { what: "tenant", key: tenant.to_owned() },
                    false => StoreError::Missing { what: "user", key: user.to_owned() },
                }
            }
        }));
    }
    Ok(())
}
