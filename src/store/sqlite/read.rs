//! What a login reads.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteRow;

use super::fault::{damaged, unavailable};
use super::{SqliteStore, row};
use crate::keys::AccountId;
use crate::store::{
    CredentialStore, Freshness, LoginRecord, StoreError, TenantRecord, TokenHash, TokenRecord,
    queries,
};

/// More connections than this that all went bad are made anew by later reads.
const ATTEMPTS: u32 = 8;

impl SqliteStore {
    /// One row, through a connection that is closed if the file turns out to be damaged: SQLite
    /// goes on answering out of the pages that a connection has in memory when the file is mended.
    async fn row(
        &self,
        statement: &'static str,
        key: &str,
    ) -> Result<Option<SqliteRow>, StoreError> {
        let fault = |error: sqlx::Error| unavailable(&self.path, &error);
        for _ in 1..ATTEMPTS {
            let mut connection = self.readers.acquire().await.map_err(fault)?;
            let found = sqlx::query(statement).bind(key).fetch_optional(&mut *connection).await;
            match found {
                Err(error) if damaged(&error) => {
                    // It is given up, whether or not it can be closed in order.
                    let _ = connection.detach().close_hard().await;
                }
                found => return found.map_err(fault),
            }
        }
        let found = sqlx::query(statement).bind(key).fetch_optional(&self.readers).await;
        found.map_err(fault)
    }
}

impl CredentialStore for SqliteStore {
    fn user<'a>(
        &'a self,
        name: &'a str,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<LoginRecord>>, StoreError>> {
        Box::pin(async move {
            self.row(queries::LOGIN, name)
                .await?
                .map(|found| row::login(&found).map(Arc::new))
                .transpose()
        })
    }

    fn token<'a>(
        &'a self,
        hash: &'a TokenHash,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<TokenRecord>>, StoreError>> {
        Box::pin(async move {
            self.row(queries::TOKEN, &hash.to_hex())
                .await?
                .map(|found| row::token(&found).map(Arc::new))
                .transpose()
        })
    }

    fn account_of<'a>(
        &'a self,
        tenant: &'a TenantRecord,
        candidate: AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountId>, StoreError>> {
        Box::pin(async move {
            let (id, incarnation) = (tenant.id.as_str(), tenant.incarnation.as_str());
            match self.kept_account(id, incarnation, &self.readers).await? {
                Some(kept) => Ok(Some(kept)),
                None => self.keep_account(tenant, candidate).await,
            }
        })
    }
}
