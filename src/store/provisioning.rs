//! Writes of a whole table, and its lists: what operations on a deployment need.

use std::fmt::Debug;

use async_trait::async_trait;

use super::{
    HashListing, LoginListing, NewTenant, NewToken, NewUser, PasswordHash, Result, Status,
    TenantId, TenantRecord, TokenHash, TokenListing, UserRecord,
};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;

/// Writes tenants, users and tokens, and lists them.
#[async_trait]
pub trait ProvisioningStore: Debug + Send + Sync {
    /// Adds a tenant together with its first user, both or neither.
    async fn add_tenant(&self, tenant: &NewTenant, admin: &NewUser) -> Result<()>;

    /// Adds a user to an existing tenant.
    async fn add_user(&self, user: &NewUser) -> Result<()>;

    /// Replaces the password hash of a tenant's user.
    async fn set_password(&self, tenant: &TenantId, user: &str, hash: &PasswordHash) -> Result<()>;

    /// Suspends or resumes a tenant.
    async fn set_tenant_status(&self, tenant: &TenantId, status: Status) -> Result<()>;

    /// Suspends or resumes a tenant's user.
    async fn set_user_status(&self, tenant: &TenantId, user: &str, status: Status) -> Result<()>;

    /// Removes a tenant's user with its tokens.
    async fn remove_user(&self, tenant: &TenantId, user: &str) -> Result<()>;

    /// All tokens, by tenant, user and time: never the token, nor its hash.
    async fn tokens(&self) -> Result<Vec<TokenListing>>;

    /// Removes a token by its public id, which is unique over all of them.
    async fn remove_token_by_id(&self, id: &str) -> Result<()>;

    /// Adds a token to a tenant's user.
    async fn add_token(&self, tenant: &TenantId, token: &NewToken) -> Result<()>;

    /// Removes a token, by its hash. One that is gone already is no error.
    async fn revoke_token(&self, hash: &TokenHash) -> Result<()>;

    /// Removes a tenant with its users and their tokens.
    async fn remove_tenant(&self, id: &TenantId) -> Result<()>;

    /// All tenants, by id. A row that cannot be read is an error of its own.
    async fn tenants(&self) -> Result<Vec<Result<TenantRecord>>>;

    /// The tenants with `answers` that have an account of their own, by id; those whose row can be read.
    async fn answering(&self) -> Result<Vec<TenantRecord>>;

    /// The tenants that have an account, by id; those whose row can be read.
    async fn with_account(&self) -> Result<Vec<TenantRecord>>;

    /// One tenant.
    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>>;

    /// The tenant that holds this account, if any: what a server's look-up asks.
    async fn tenant_of_account(&self, account: &AccountId) -> Result<Option<TenantRecord>>;

    /// The users of a tenant, by name.
    async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRecord>>;

    /// The password hashes of the users after this one, by name: some thousand at a time, none at the
    /// end.
    async fn password_hashes(&self, after: &str) -> Result<Vec<HashListing>>;

    /// What the users after this one log in with beside passwords and tokens, and their own policies, by name: some
    /// thousand at a time, none at the end.
    async fn logins(&self, after: &str) -> Result<Vec<LoginListing>>;

    /// Notes when users last logged in. Users that are gone are passed over.
    async fn record_logins(&self, logins: &[(String, UnixSeconds)]) -> Result<()>;

    /// The rows from before a rule that they do not keep: how many texts in them, and the first few.
    async fn misfits(&self) -> Result<(u64, Vec<Misfit>)>;

    /// Replaces an outdated hash by a new one of the same password, unless it changed meanwhile.
    /// No event: nothing is new to anyone.
    async fn rehash(&self, user: &str, old: &PasswordHash, new: &PasswordHash) -> Result<()>;
}

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
