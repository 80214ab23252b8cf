//! What a login reads.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Backend, Statement, row};
use crate::keys::AccountId;
use crate::store::{
    CredentialStore, Freshness, Identity, LoginRecord, Store, StoreError, TenantId, TenantRecord,
    TokenHash, TokenRecord, queries,
};

impl<B: Backend> CredentialStore for B {
    fn user<'a>(
        &'a self,
        name: &'a str,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<LoginRecord>>, StoreError>> {
        Box::pin(async move {
            let found = self.select(Statement::new(queries::LOGIN).bind(name)).await?;
            found.first().map(|found| row::login(found).map(Arc::new)).transpose()
        })
    }

    fn token<'a>(
        &'a self,
        hash: &'a TokenHash,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<TokenRecord>>, StoreError>> {
        Box::pin(async move {
            let hash = hash.to_hex();
            let found = self.select(Statement::new(queries::TOKEN).bind(&*hash)).await?;
            found.first().map(|found| row::token(found).map(Arc::new)).transpose()
        })
    }

    fn holder<'a>(
        &'a self,
        identity: &'a Identity,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<LoginRecord>>, StoreError>> {
        let query = match identity {
            Identity::Nkey(_) => queries::LOGIN_BY_NKEY,
            Identity::Certificate(_) => queries::LOGIN_BY_CERTIFICATE,
        };
        Box::pin(async move {
            let found = self.select(Statement::new(query).bind(identity.as_str())).await?;
            found.first().map(|found| row::login(found).map(Arc::new)).transpose()
        })
    }

    fn tenant_of<'a>(
        &'a self,
        id: &'a TenantId,
        _freshness: Freshness,
    ) -> BoxFuture<'a, Result<Option<Arc<TenantRecord>>, StoreError>> {
        Box::pin(async move {
            let found = self.select(Statement::new(queries::TENANT).bind(id.as_str())).await?;
            found.first().map(|found| row::tenant(found).map(Arc::new)).transpose()
        })
    }

    fn account_of<'a>(
        &'a self,
        tenant: &'a TenantRecord,
        candidate: AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountId>, StoreError>> {
        Box::pin(async move {
            let found = self.select(account_of(tenant.id.as_str(), &tenant.incarnation)).await?;
            match found.first() {
                Some(found) => row::account(found).map(Some),
                None => self.keep_account(tenant, candidate).await,
            }
        })
    }
}

impl<B: Backend> Store for B {
    fn ping(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(async move {
            let found = self.select(Statement::new(queries::PING)).await?;
            let version = found.first().and_then(row::version);
            version.ok_or_else(|| StoreError::Unavailable("no schema".to_owned()))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Backend::close(self)
    }
}

/// The account that is kept for this incarnation of the tenant.
pub(in crate::store) fn account_of<'q>(tenant: &'q str, incarnation: &'q str) -> Statement<'q> {
    Statement::new(queries::ACCOUNT).bind(tenant).bind(incarnation)
}
