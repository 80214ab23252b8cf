//! What a login reads.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Backend, Statement, row};
use crate::keys::AccountId;
use crate::store::{
    CredentialStore, Freshness, Identity, LoginRecord, Lookup, Result, Store, StoreError, TenantId,
    TenantRecord, TokenHash, TokenRecord, queries,
};

#[async_trait]
impl<B: Backend> CredentialStore for B {
    async fn user(&self, name: &str, _freshness: Freshness) -> Lookup<LoginRecord> {
        let found = self.select(Statement::new(queries::LOGIN).bind(name)).await?;
        found.first().map(|found| row::login(found).map(Arc::new)).transpose()
    }

    async fn token(&self, hash: &TokenHash, _freshness: Freshness) -> Lookup<TokenRecord> {
        let hash = hash.to_hex();
        let found = self.select(Statement::new(queries::TOKEN).bind(&*hash)).await?;
        found.first().map(|found| row::token(found).map(Arc::new)).transpose()
    }

    async fn holder(&self, identity: &Identity, _freshness: Freshness) -> Lookup<LoginRecord> {
        let query = match identity {
            Identity::Nkey(_) => queries::LOGIN_BY_NKEY,
            Identity::Certificate(_) => queries::LOGIN_BY_CERTIFICATE,
        };
        let found = self.select(Statement::new(query).bind(identity.as_str())).await?;
        found.first().map(|found| row::login(found).map(Arc::new)).transpose()
    }

    async fn tenant_of(&self, id: &TenantId, _freshness: Freshness) -> Lookup<TenantRecord> {
        let found = self.select(Statement::new(queries::TENANT).bind(id.as_str())).await?;
        found.first().map(|found| row::tenant(found).map(Arc::new)).transpose()
    }

    async fn account_of(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>> {
        let found = self.select(account_of(tenant.id.as_str(), &tenant.incarnation)).await?;
        match found.first() {
            Some(found) => row::account(found).map(Some),
            None => self.keep_account(tenant, candidate).await,
        }
    }
}

#[async_trait]
impl<B: Backend> Store for B {
    async fn ping(&self) -> Result<i64> {
        let found = self.select(Statement::new(queries::PING)).await?;
        let version = found.first().and_then(row::version);
        version.ok_or_else(|| StoreError::Unavailable("no schema".to_owned()))
    }

    async fn close(&self) {
        Backend::close(self).await
    }
}

/// The account that is kept for this incarnation of the tenant.
pub(in crate::store) fn account_of<'q>(tenant: &'q str, incarnation: &'q str) -> Statement<'q> {
    Statement::new(queries::ACCOUNT).bind(tenant).bind(incarnation)
}
