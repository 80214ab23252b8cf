//! Provisioning: each method is one transaction that holds the file's lock from its beginning and
//! only for its own statements.

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteQueryResult};
use sqlx::{Connection as _, Transaction};

use super::fault::{Subject, refused, unavailable};
use super::{SqliteStore, row};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;
use crate::store::{
    NewTenant, NewToken, NewUser, PasswordHash, ProvisioningStore, Status, StoreError, TenantId,
    TenantRecord, TokenHash, TokenListing, UserRecord, queries,
};

/// The last second that the database can write down: the end of the year 9999. It would take a
/// later time for none at all.
const LAST_SECOND: UnixSeconds = 253_402_300_799;

/// Logins noted in one transaction.
const LOGINS_AT_ONCE: usize = 256;

fn writable(at: Option<UnixSeconds>, column: &str) -> Result<Option<UnixSeconds>, StoreError> {
    match at {
        Some(at) if !(0..=LAST_SECOND).contains(&at) => {
            Err(StoreError::Refused(format!("{column}: a time from 1970 to the end of 9999")))
        }
        at => Ok(at),
    }
}

fn amount(amount: Option<u64>, column: &str) -> Result<Option<i64>, StoreError> {
    amount
        .map(|amount| {
            i64::try_from(amount)
                .map_err(|_| StoreError::Refused(format!("{column}: at most {}", i64::MAX)))
        })
        .transpose()
}

fn subjects(list: &[String], column: &str) -> Result<String, StoreError> {
    serde_json::to_string(list).map_err(|error| StoreError::Refused(format!("{column}: {error}")))
}

async fn insert_user(
    connection: &mut SqliteConnection,
    user: &NewUser,
    lists: &(String, String),
) -> Result<SqliteQueryResult, sqlx::Error> {
    sqlx::query(queries::ADD_USER)
        .bind(user.tenant.as_str())
        .bind(&user.name)
        .bind(user.kind.as_str())
        .bind(user.password_hash.as_ref().map(PasswordHash::expose))
        .bind(&user.nkey)
        .bind(&lists.0)
        .bind(&lists.1)
        .bind(&user.policy)
        .execute(connection)
        .await
}

fn lists(user: &NewUser) -> Result<(String, String), StoreError> {
    Ok((subjects(&user.publish, "users.publish")?, subjects(&user.subscribe, "users.subscribe")?))
}

impl SqliteStore {
    /// The writing connection, whose commits outlast a loss of power: a tenant's data hangs on its
    /// account, and a password that was changed must not come back.
    pub(super) async fn writer(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.writer_with("PRAGMA synchronous = FULL").await
    }

    /// The writing connection, for what may be lost with the power: who is alive, who logged in.
    pub(super) async fn passing_writer(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.writer_with("PRAGMA synchronous = NORMAL").await
    }

    async fn writer_with(
        &self,
        pragma: &'static str,
    ) -> Result<PoolConnection<Sqlite>, StoreError> {
        let fault = |error: sqlx::Error| unavailable(&self.path, &error);
        let mut connection = self.writer.acquire().await.map_err(fault)?;
        sqlx::query(pragma).execute(&mut *connection).await.map_err(fault)?;
        Ok(connection)
    }

    pub(super) async fn begin<'c>(
        &self,
        connection: &'c mut PoolConnection<Sqlite>,
    ) -> Result<Transaction<'c, Sqlite>, StoreError> {
        connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|error| unavailable(&self.path, &error))
    }

    pub(super) async fn commit(
        &self,
        transaction: Transaction<'_, Sqlite>,
    ) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|error| unavailable(&self.path, &error))
    }

    /// Carries out a statement about one row that has to be there.
    async fn change_one(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        what: &'static str,
        key: &str,
    ) -> Result<(), StoreError> {
        let mut connection = self.writer().await?;
        let subject = Subject { what, key, parent: key };
        let done = query
            .execute(&mut *connection)
            .await
            .map_err(|error| refused(&self.path, &error, subject))?;
        match done.rows_affected() {
            0 => Err(StoreError::Missing { what, key: key.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Carries out a statement about a tenant's user, who has to be there.
    async fn change_user(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        tenant: &TenantId,
        user: &str,
    ) -> Result<(), StoreError> {
        let mut connection = self.writer().await?;
        let mut transaction = self.begin(&mut connection).await?;
        let subject = Subject { what: "user", key: user, parent: tenant.as_str() };
        let done = query
            .execute(&mut *transaction)
            .await
            .map_err(|error| refused(&self.path, &error, subject))?;
        if done.rows_affected() == 0 {
            return Err(self.missing(&mut transaction, tenant, user).await);
        }
        self.commit(transaction).await
    }

    /// Why a statement about a tenant's user found no row.
    async fn missing(
        &self,
        transaction: &mut SqliteConnection,
        tenant: &TenantId,
        user: &str,
    ) -> StoreError {
        let found: Result<Option<i64>, _> = sqlx::query_scalar(queries::TENANT_EXISTS)
            .bind(tenant.as_str())
            .fetch_optional(transaction)
            .await;
        match found {
            Ok(Some(_)) => StoreError::Missing { what: "user", key: user.into() },
            Ok(None) => StoreError::Missing { what: "tenant", key: tenant.to_string() },
            Err(error) => unavailable(&self.path, &error),
        }
    }
}

impl ProvisioningStore for SqliteStore {
    fn add_tenant<'a>(
        &'a self,
        tenant: &'a NewTenant,
        admin: &'a NewUser,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if admin.tenant != tenant.id {
                return Err(StoreError::Refused(
                    "users.tenant_id: the first user belongs to the new tenant".into(),
                ));
            }
            let id = tenant.id.as_str();
            let query = sqlx::query(queries::ADD_TENANT)
                .bind(id)
                .bind(&tenant.name)
                .bind(tenant.isolation.map(|isolation| isolation.as_str()))
                .bind(&tenant.policy)
                .bind(amount(Some(tenant.limits.memory), "tenants.js_memory")?)
                .bind(amount(Some(tenant.limits.storage), "tenants.js_storage")?)
                .bind(amount(tenant.limits.streams, "tenants.js_streams")?)
                .bind(amount(tenant.limits.consumers, "tenants.js_consumers")?)
                .bind(amount(tenant.limits.connections, "tenants.max_connections")?)
                .bind(writable(tenant.expires_at, "tenants.expires_at")?)
                .bind(tenant.answers);
            let lists = lists(admin)?;
            let mut connection = self.writer().await?;
            let mut transaction = self.begin(&mut connection).await?;
            query.execute(&mut *transaction).await.map_err(|error| {
                refused(&self.path, &error, Subject { what: "tenant", key: id, parent: id })
            })?;
            insert_user(&mut transaction, admin, &lists).await.map_err(|error| {
                refused(&self.path, &error, Subject { what: "user", key: &admin.name, parent: id })
            })?;
            self.commit(transaction).await
        })
    }

    fn add_user<'a>(&'a self, user: &'a NewUser) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let lists = lists(user)?;
            let mut connection = self.writer().await?;
            insert_user(&mut connection, user, &lists).await.map_err(|error| {
                let parent = user.tenant.as_str();
                refused(&self.path, &error, Subject { what: "user", key: &user.name, parent })
            })?;
            Ok(())
        })
    }

    fn set_password<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
        hash: &'a PasswordHash,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let query = sqlx::query(queries::SET_PASSWORD).bind(tenant.as_str()).bind(user);
        Box::pin(self.change_user(query.bind(hash.expose()), tenant, user))
    }

    fn set_tenant_status<'a>(
        &'a self,
        tenant: &'a TenantId,
        status: Status,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let query = sqlx::query(queries::SET_TENANT_STATUS).bind(tenant.as_str());
        Box::pin(self.change_one(query.bind(status.as_str()), "tenant", tenant.as_str()))
    }

    fn set_user_status<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
        status: Status,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let query = sqlx::query(queries::SET_USER_STATUS).bind(tenant.as_str()).bind(user);
        Box::pin(self.change_user(query.bind(status.as_str()), tenant, user))
    }

    fn remove_user<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let query = sqlx::query(queries::REMOVE_USER).bind(tenant.as_str()).bind(user);
        Box::pin(self.change_user(query, tenant, user))
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenListing>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(queries::TOKENS)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            rows.iter().map(row::token_listing).collect()
        })
    }

    fn remove_token_by_id<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change_one(sqlx::query(queries::REMOVE_TOKEN_BY_ID).bind(id), "token", id))
    }

    fn add_token<'a>(
        &'a self,
        tenant: &'a TenantId,
        token: &'a NewToken,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let user = token.user_name.as_str();
            let expires_at = writable(token.expires_at, "tokens.expires_at")?;
            let mut connection = self.writer().await?;
            let mut transaction = self.begin(&mut connection).await?;
            let key = token.label.as_deref().unwrap_or("without a label");
            let done = sqlx::query(queries::ADD_TOKEN)
                .bind(tenant.as_str())
                .bind(user)
                .bind(token.hash.to_hex())
                .bind(&token.label)
                .bind(expires_at)
                .execute(&mut *transaction)
                .await
                .map_err(|error| {
                    refused(&self.path, &error, Subject { what: "token", key, parent: user })
                })?;
            if done.rows_affected() == 0 {
                return Err(self.missing(&mut transaction, tenant, user).await);
            }
            self.commit(transaction).await
        })
    }

    fn revoke_token<'a>(&'a self, hash: &'a TokenHash) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut connection = self.writer().await?;
            let subject = Subject { what: "token", key: "", parent: "" };
            sqlx::query(queries::REMOVE_TOKEN)
                .bind(hash.to_hex())
                .execute(&mut *connection)
                .await
                .map_err(|error| refused(&self.path, &error, subject))?;
            Ok(())
        })
    }

    fn remove_tenant<'a>(&'a self, id: &'a TenantId) -> BoxFuture<'a, Result<(), StoreError>> {
        let query = sqlx::query(queries::REMOVE_TENANT).bind(id.as_str());
        Box::pin(self.change_one(query, "tenant", id.as_str()))
    }

    fn tenants(&self) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(queries::TENANTS)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            rows.iter().map(row::tenant).collect()
        })
    }

    fn answering(&self) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(queries::ANSWERING)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            rows.iter().map(row::tenant).collect()
        })
    }

    fn tenant<'a>(
        &'a self,
        id: &'a TenantId,
    ) -> BoxFuture<'a, Result<Option<TenantRecord>, StoreError>> {
        Box::pin(async move {
            let found = sqlx::query(queries::TENANT)
                .bind(id.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            found.as_ref().map(row::tenant).transpose()
        })
    }

    fn tenant_of_account<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<TenantRecord>, StoreError>> {
        Box::pin(async move {
            let found = sqlx::query(queries::TENANT_OF_ACCOUNT)
                .bind(account.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            found.as_ref().map(row::tenant).transpose()
        })
    }

    fn users<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<UserRecord>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(queries::USERS)
                .bind(tenant.as_str())
                .fetch_all(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            rows.iter().map(row::user).collect()
        })
    }

    fn record_logins<'a>(
        &'a self,
        logins: &'a [(String, UnixSeconds)],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for some in logins.chunks(LOGINS_AT_ONCE) {
                let mut connection = self.passing_writer().await?;
                let mut transaction = self.begin(&mut connection).await?;
                for (user, at) in some {
                    let Ok(at) = writable(Some(*at), "users.last_login_at") else { continue };
                    sqlx::query(queries::RECORD_LOGIN)
                        .bind(user)
                        .bind(at)
                        .execute(&mut *transaction)
                        .await
                        .map_err(|error| unavailable(&self.path, &error))?;
                }
                self.commit(transaction).await?;
            }
            Ok(())
        })
    }

    fn rehash<'a>(
        &'a self,
        user: &'a str,
        old: &'a PasswordHash,
        new: &'a PasswordHash,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let subject = Subject { what: "user", key: user, parent: user };
            let mut connection = self.writer().await?;
            let mut transaction = self.begin(&mut connection).await?;
            let replace = sqlx::query(queries::REHASH).bind(user);
            for query in [
                sqlx::query(queries::BEGIN_REHASH).bind(user),
                replace.bind(old.expose()).bind(new.expose()),
                sqlx::query(queries::END_REHASH).bind(user),
            ] {
                query
                    .execute(&mut *transaction)
                    .await
                    .map_err(|error| refused(&self.path, &error, subject))?;
            }
            self.commit(transaction).await
        })
    }
}
