//! What a login reads.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::fault::unavailable;
use super::{SqliteStore, row};
use crate::keys::AccountId;
use crate::store::{
    CredentialStore, Freshness, LoginRecord, StoreError, TenantRecord, TokenHash, TokenRecord,
    queries,
};

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
