//! A tenant table in memory, for an application that knows its users when it starts, and for tests.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::{
    CredentialStore, Freshness, Identity, LoginRecord, Lookup, Result, StoreError, TenantId,
    TenantRecord, TokenHash, TokenRecord, UserRecord,
};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;

/// Tenants, their users and tokens in memory. Each change counts for the next login.
///
/// ```
/// use nats_callout::callout::hash_password;
/// use nats_callout::store::{MemoryStore, TenantRecord, UserKind, UserRecord};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::default();
/// let hash = hash_password("correct-horse-battery-staple")?;
/// let shop = UserRecord { password_hash: Some(hash), ..UserRecord::new("shop", UserKind::Bb) };
/// store.put_tenant(TenantRecord::new("acme".parse()?));
/// store.put_user(&"acme".parse()?, shop)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore(RwLock<Rows>);

#[derive(Debug, Default)]
struct Rows {
    tenants: HashMap<TenantId, Arc<TenantRecord>>,
    users: HashMap<String, (TenantId, UserRecord)>,
    tokens: HashMap<TokenHash, Arc<TokenRecord>>,
}

impl Rows {
    fn login(&self, name: &str) -> Option<Arc<LoginRecord>> {
        let (tenant, user) = self.users.get(name)?;
        let tenant = TenantRecord::clone(self.tenants.get(tenant)?);
        Some(Arc::new(LoginRecord { tenant, user: user.clone() }))
    }

    fn holder(&self, identity: &Identity) -> Option<Arc<LoginRecord>> {
        let holds = |user: &UserRecord| match identity {
            Identity::Nkey(_) => user.nkey.as_deref() == Some(identity.as_str()),
            Identity::Certificate(_) => user.certificate.as_deref() == Some(identity.as_str()),
        };
        let (name, _) = self.users.iter().find(|(_, (_, user))| holds(user))?;
        self.login(name)
    }
}

impl MemoryStore {
    /// Adds a tenant, or replaces the one with its id.
    pub fn put_tenant(&self, tenant: TenantRecord) {
        self.0.write().tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }

    /// Removes a tenant with its users and their tokens.
    pub fn remove_tenant(&self, id: &TenantId) {
        let mut rows = self.0.write();
        rows.tenants.remove(id);
        rows.users.retain(|_, (tenant, _)| tenant != id);
        let Rows { users, tokens, .. } = &mut *rows;
        tokens.retain(|_, token| users.contains_key(&token.user_name));
    }

    /// Adds a user of a tenant, or replaces its own with this name. No two users have one name, one
    /// nkey or one certificate.
    pub fn put_user(&self, tenant: &TenantId, user: UserRecord) -> Result<()> {
        let mut rows = self.0.write();
        if !rows.tenants.contains_key(tenant) {
            return Err(StoreError::Missing { what: "tenant", key: tenant.to_string() });
        }
        if rows.users.get(&user.name).is_some_and(|(owner, _)| owner != tenant) {
            return Err(StoreError::Exists { what: "user", key: user.name });
        }
        let identities = [(&user.nkey, "nkey"), (&user.certificate, "certificate")];
        for (identity, what) in identities {
            let Some(key) = identity else { continue };
            let mut others = rows.users.values().filter(|(_, other)| other.name != user.name);
            if others.any(|(_, it)| [&it.nkey, &it.certificate].contains(&identity)) {
                return Err(StoreError::Exists { what, key: key.clone() });
            }
        }
        rows.users.insert(user.name.clone(), (tenant.clone(), user));
        Ok(())
    }

    /// Removes a user with its tokens.
    pub fn remove_user(&self, name: &str) {
        let mut rows = self.0.write();
        rows.users.remove(name);
        rows.tokens.retain(|_, token| token.user_name != name);
    }

    /// Adds a token of a user, or changes when its own ends.
    pub fn put_token(
        &self,
        user: &str,
        hash: TokenHash,
        expires_at: Option<UnixSeconds>,
    ) -> Result<()> {
        let mut rows = self.0.write();
        if !rows.users.contains_key(user) {
            return Err(StoreError::Missing { what: "user", key: user.to_owned() });
        }
        if rows.tokens.get(&hash).is_some_and(|token| token.user_name != user) {
            return Err(StoreError::Exists { what: "token", key: "of another user".to_owned() });
        }
        let token = TokenRecord { user_name: user.to_owned(), expires_at };
        rows.tokens.insert(hash, Arc::new(token));
        Ok(())
    }

    /// Removes a token.
    pub fn remove_token(&self, hash: &TokenHash) {
        self.0.write().tokens.remove(hash);
    }
}

#[async_trait]
impl CredentialStore for MemoryStore {
    async fn user(&self, name: &str, _freshness: Freshness) -> Lookup<LoginRecord> {
        Ok(self.0.read().login(name))
    }

    async fn token(&self, hash: &TokenHash, _freshness: Freshness) -> Lookup<TokenRecord> {
        Ok(self.0.read().tokens.get(hash).cloned())
    }

    async fn holder(&self, identity: &Identity, _freshness: Freshness) -> Lookup<LoginRecord> {
        Ok(self.0.read().holder(identity))
    }

    async fn tenant_of(&self, id: &TenantId, _freshness: Freshness) -> Lookup<TenantRecord> {
        Ok(self.0.read().tenants.get(id).cloned())
    }

    async fn account_of(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>> {
        let mut rows = self.0.write();
        let kept =
            rows.tenants.get_mut(&tenant.id).filter(|it| it.incarnation == tenant.incarnation);
        Ok(kept.map(|tenant| *Arc::make_mut(tenant).account.get_or_insert(candidate)))
    }
}
