//! A store in memory whose cached rows can differ from those in its database, a clock that is set
//! by hand, and a record to start from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::authn::{Attempt, Authentication, AuthnError, DenyReason, Found, Principal};
use crate::clock::{Clock, UnixSeconds};
use crate::keys::AccountId;
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::Credentials;
use crate::store::{
    CredentialStore, Freshness, Identity, LoginRecord, PasswordHash, StoreError, TenantId,
    TenantRecord, TokenHash, TokenRecord, UserKind, UserRecord,
};

pub(super) const NOW: UnixSeconds = 1_800_000_000;

#[derive(Debug, Default)]
pub(super) struct Rows {
    users: HashMap<String, Arc<LoginRecord>>,
    tokens: HashMap<TokenHash, Arc<TokenRecord>>,
    tenants: HashMap<TenantId, Arc<TenantRecord>>,
}

#[derive(Debug, Default)]
pub(super) struct FakeStore {
    cached: Mutex<Rows>,
    database: Mutex<Rows>,
    pub(super) outage: AtomicBool,
    pub(super) cached_reads: AtomicUsize,
    pub(super) fresh_reads: AtomicUsize,
}

impl FakeStore {
    /// Puts a user into the cache and the database.
    pub(super) fn put(&self, record: LoginRecord) {
        self.put_cached(record.clone());
        self.put_database(record);
    }

    pub(super) fn put_cached(&self, record: LoginRecord) {
        insert(&self.cached, record);
    }

    pub(super) fn put_database(&self, record: LoginRecord) {
        insert(&self.database, record);
    }

    pub(super) fn remove_database(&self, user: &str) {
        self.database.lock().unwrap().users.remove(user);
    }

    pub(super) fn put_token(&self, hash: TokenHash, user: &str, expires_at: Option<UnixSeconds>) {
        self.put_token_cached(hash, user, expires_at);
        self.put_token_database(hash, user, expires_at);
    }

    pub(super) fn put_token_cached(
        &self,
        hash: TokenHash,
        user: &str,
        expires_at: Option<UnixSeconds>,
    ) {
        let record = Arc::new(TokenRecord { user_name: user.into(), expires_at });
        self.cached.lock().unwrap().tokens.insert(hash, record);
    }

    pub(super) fn put_token_database(
        &self,
        hash: TokenHash,
        user: &str,
        expires_at: Option<UnixSeconds>,
    ) {
        let record = Arc::new(TokenRecord { user_name: user.into(), expires_at });
        self.database.lock().unwrap().tokens.insert(hash, record);
    }

    pub(super) fn put_tenant(&self, tenant: TenantRecord) {
        self.put_tenant_cached(tenant.clone());
        let mut rows = self.database.lock().unwrap();
        rows.tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }

    pub(super) fn put_tenant_cached(&self, tenant: TenantRecord) {
        let mut rows = self.cached.lock().unwrap();
        rows.tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }

    pub(super) fn reads(&self) -> (usize, usize) {
        (self.cached_reads.load(SeqCst), self.fresh_reads.load(SeqCst))
    }

    fn read<T>(
        &self,
        freshness: Freshness,
        find: impl FnOnce(&Rows) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match freshness {
            Freshness::Cached => {
                self.cached_reads.fetch_add(1, SeqCst);
                Ok(find(&self.cached.lock().unwrap()))
            }
            Freshness::Fresh => {
                self.fresh_reads.fetch_add(1, SeqCst);
                if self.outage.load(SeqCst) {
                    return Err(StoreError::Unavailable("down".into()));
                }
                Ok(find(&self.database.lock().unwrap()))
            }
        }
    }
}

fn insert(rows: &Mutex<Rows>, record: LoginRecord) {
    rows.lock().unwrap().users.insert(record.user.name.clone(), Arc::new(record));
}

#[async_trait]
impl CredentialStore for FakeStore {
    async fn user(
        &self,
        name: &str,
        freshness: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, StoreError> {
        self.read(freshness, |rows| rows.users.get(name).cloned())
    }

    async fn token(
        &self,
        hash: &TokenHash,
        freshness: Freshness,
    ) -> Result<Option<Arc<TokenRecord>>, StoreError> {
        match self.read(freshness, |rows| rows.tokens.get(hash).cloned())? {
            // That there is none is read.
            None if self.outage.load(SeqCst) => Err(StoreError::Unavailable("down".into())),
            None => Ok(self.database.lock().unwrap().tokens.get(hash).cloned()),
            found => Ok(found),
        }
    }

    async fn holder(
        &self,
        identity: &Identity,
        freshness: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, StoreError> {
        let holds = |record: &Arc<LoginRecord>| {
            let held = match identity {
                Identity::Nkey(_) => &record.user.nkey,
                Identity::Certificate(_) => &record.user.certificate,
            };
            held.as_deref() == Some(identity.as_str())
        };
        let find = |rows: &Rows| rows.users.values().find(|record| holds(record)).cloned();
        self.read(freshness, find)
    }

    async fn tenant_of(
        &self,
        id: &TenantId,
        freshness: Freshness,
    ) -> Result<Option<Arc<TenantRecord>>, StoreError> {
        self.read(freshness, |rows| rows.tenants.get(id).cloned())
    }

    async fn account_of(
        &self,
        _tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>, StoreError> {
        Ok(Some(candidate))
    }
}

#[derive(Debug)]
pub(super) struct SetClock(pub(super) AtomicI64);

impl Default for SetClock {
    fn default() -> Self {
        Self(AtomicI64::new(NOW))
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixSeconds {
        self.0.load(SeqCst)
    }
}

pub(super) fn record(user: &str, hash: Option<PasswordHash>) -> LoginRecord {
    LoginRecord {
        user: UserRecord { password_hash: hash, ..UserRecord::new(user, UserKind::Bb) },
        tenant: TenantRecord::new("42".parse().unwrap()),
    }
}

/// An attempt of a client of which nothing else is known.
pub(super) fn attempt(credentials: &Credentials, deadline: Instant) -> Attempt<'_> {
    static CLIENT: LazyLock<ClientInfo> = LazyLock::new(ClientInfo::default);
    static FOUND: LazyLock<Found> = LazyLock::new(Found::default);
    Attempt { credentials, client: &CLIENT, deadline, found: &FOUND }
}

/// A time that no test reaches.
pub(super) fn far() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

pub(super) fn accepted(result: Result<Authentication, AuthnError>) -> Principal {
    match result {
        Ok(Authentication::Accepted(principal)) => principal,
        other => panic!("not accepted: {other:?}"),
    }
}

pub(super) fn refused(result: Result<Authentication, AuthnError>) -> DenyReason {
    match result {
        Ok(Authentication::Refused(denied)) => denied.reason,
        other => panic!("not refused: {other:?}"),
    }
}
