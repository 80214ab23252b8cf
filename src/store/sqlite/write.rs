//! Statements on the file: reads on the small pool, writes one transaction at a time, which holds
//! the file's lock from its beginning and only for its own statements.

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Connection as _, Transaction};

use super::SqliteStore;
use super::fault::{damaged, refused, unavailable};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;
use crate::store::sql::{
    Backend, Durability, Failure, IfNone, Link as _, Statement, Step, Subject, carry_out,
};
use crate::store::{Hindrance, News, Result, TenantRecord};

/// Notes a login, unless a later one is noted.
const RECORD_LOGIN: &str = "UPDATE users SET last_login_at = datetime($2, 'unixepoch') \
     WHERE name = $1 AND (last_login_at IS NULL OR last_login_at < datetime($2, 'unixepoch'))";

impl SqliteStore {
    /// The writing connection.
    pub(super) async fn writer(&self, durability: Durability) -> Result<PoolConnection<Sqlite>> {
        let fault = |error: sqlx::Error| unavailable(&self.path, &error);
        let pragma = match durability {
            Durability::Lasting => "PRAGMA synchronous = FULL",
            Durability::Passing => "PRAGMA synchronous = NORMAL",
        };
        loop {
            let mut connection = self.writer.acquire().await.map_err(fault)?;
            sqlx::query(pragma).execute(&mut *connection).await.map_err(fault)?;
            // SQLite ends a transaction by itself where the disk is full. To sqlx it goes on then, and no
            // other one can begin on that connection: it is given up.
            if !connection.is_in_transaction() {
                return Ok(connection);
            }
            let _ = connection.detach().close_hard().await;
        }
    }

    pub(super) async fn begin<'c>(
        &self,
        connection: &'c mut PoolConnection<Sqlite>,
    ) -> Result<Transaction<'c, Sqlite>> {
        connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|error| unavailable(&self.path, &error))
    }

    pub(super) async fn commit(&self, transaction: Transaction<'_, Sqlite>) -> Result<()> {
        transaction.commit().await.map_err(|error| unavailable(&self.path, &error))
    }
}

/// How often a read that met a damaged file is tried, each time on another connection.
const ATTEMPTS: u32 = 8;

#[async_trait]
impl Backend for SqliteStore {
    type Row = SqliteRow;

    async fn select(&self, statement: Statement<'_>) -> Result<Vec<SqliteRow>> {
        let fault = |error: sqlx::Error| unavailable(&self.path, &error);
        let mut attempts = 1;
        loop {
            let mut connection = self.readers.acquire().await.map_err(fault)?;
            match connection.rows(&statement).await {
                // SQLite goes on answering out of the pages that a connection has in memory
                // when the file is mended.
                Err(error) if damaged(&error) && attempts < ATTEMPTS => {
                    // It is given up, whether or not it can be closed in order.
                    let _ = connection.detach().close_hard().await;
                }
                found => return found.map_err(fault),
            }
            attempts += 1;
        }
    }

    async fn write(&self, steps: Vec<Step<'_>>, durability: Durability) -> Result<()> {
        let mut connection = self.writer(durability).await?;
        let mut transaction = self.begin(&mut connection).await?;
        carry_out(&mut *transaction, &steps).await.map_err(|failure| match failure {
            Failure::Missing(missing) => missing,
            Failure::Database(error, subject) => refused(&self.path, &error, subject),
        })?;
        self.commit(transaction).await
    }

    async fn keep_account(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>> {
        self.keep_in_turn(tenant, candidate).await
    }

    async fn note_logins(&self, logins: &[(&str, UnixSeconds)]) -> Result<()> {
        let steps = logins.iter().map(|(user, at)| Step {
            statement: Statement::new(RECORD_LOGIN).bind(*user).bind(*at),
            subject: Subject { what: "user", key: user, parent: user },
            if_none: IfNone::Fine,
        });
        self.write(steps.collect(), Durability::Passing).await
    }

    async fn news(&self) -> Result<News> {
        self.feed.news().await.map_err(|error| unavailable(&self.path, &error))
    }

    async fn wait_for_news(&self) {
        self.feed.wait().await
    }

    /// Nobody can tell who holds the file's lock.
    async fn hindrances(&self) -> Result<Vec<Hindrance>> {
        Ok(Vec::new())
    }

    async fn close(&self) {
        self.feed.close().await;
        self.writer.close().await;
        self.readers.close().await;
    }
}
