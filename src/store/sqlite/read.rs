//! What a login reads, and the one thing it may write: the account of a new tenant.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Connection as _;

use super::fault::{Subject, refused, unavailable};
use super::{SqliteStore, row};
use crate::keys::AccountId;
use crate::store::{
    CredentialStore, Freshness, LoginRecord, StoreError, TenantId, TokenHash, TokenRecord, queries,
};

impl SqliteStore {
    async fn kept_account(
        &self,
        tenant: &TenantId,
        from: impl sqlx::SqliteExecutor<'_>,
    ) -> Result<Option<AccountId>, StoreError> {
        let account: Option<String> = sqlx::query_scalar(queries::ACCOUNT)
            .bind(tenant.as_str())
            .fetch_optional(from)
            .await
            .map_err(|error| unavailable(&self.path, &error))?;
        account
            .map(|text| {
                text.parse().map_err(|error: crate::keys::KeyError| StoreError::Corrupt {
                    table: "tenant_accounts",
                    key: tenant.to_string(),
                    reason: format!("account: {error}"),
                })
            })
            .transpose()
    }

    async fn keep_account(
        &self,
        tenant: &TenantId,
        candidate: AccountId,
    ) -> Result<Option<AccountId>, StoreError> {
        let subject = Subject { what: "account", key: candidate.as_str(), parent: tenant.as_str() };
        let fault = |error: &sqlx::Error| refused(&self.path, error, subject);
        let mut connection = self.writer.acquire().await.map_err(|error| fault(&error))?;
        let mut transaction =
            connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| fault(&error))?;
        sqlx::query(queries::KEEP_ACCOUNT)
            .bind(tenant.as_str())
            .bind(candidate.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(|error| fault(&error))?;
        let kept = self.kept_account(tenant, &mut *transaction).await?;
        transaction.commit().await.map_err(|error| fault(&error))?;
        Ok(kept)
    }
}

impl CredentialStore for SqliteStore {
    fn user<'a>(
        &'a self,
        name: &'a str,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<LoginRecord>>, StoreError>> {
        Box::pin(async move {
            sqlx::query(queries::LOGIN)
                .bind(name)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?
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
            sqlx::query(queries::TOKEN)
                .bind(hash.to_hex())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?
                .map(|found| row::token(&found).map(Arc::new))
                .transpose()
        })
    }

    fn account_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        candidate: AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountId>, StoreError>> {
        Box::pin(async move {
            match self.kept_account(tenant, &self.readers).await? {
                Some(kept) => Ok(Some(kept)),
                None => self.keep_account(tenant, candidate).await,
            }
        })
    }
}
