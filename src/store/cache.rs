//! Records kept in memory in front of a store. It keeps what was found, never that something was
//! not, nor an error, nor a decision; many callers share one load; and no caller is given what was
//! read before a change that it could know of.
//!
//! Time here is a counter that every load and every invalidation moves on. A record stands for the
//! moment at which its load began: it is good as long as nothing that it depends on was invalidated
//! later, and it is new for a caller that came earlier.

mod epochs;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use self::epochs::{Epochs, Place};
use self::table::{Needed, Table};
use super::{
    Change, CredentialStore, Freshness, Identity, LoginRecord, Lookup, Result, TenantId,
    TenantRecord, TokenHash, TokenRecord,
};
use crate::keys::AccountId;

/// How much a [`Cached`] keeps, and for how long.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// How long a record is kept at most; zero keeps none. Invalidation does not wait for it: it
    /// is the bound for changes of which nobody told.
    pub ttl: Duration,
    /// How many records of each kind are kept at most.
    pub capacity: u64,
    /// How long records answer after the last [`Cached::confirm`]: whoever cannot read changes any
    /// more, or was stopped for a while, reads the store for every login. `None` for a cache that
    /// nobody confirms.
    pub confirmed_within: Option<Duration>,
    /// How old a record may be that answers while changes cannot be read ([`Cached::doubt`]), so that no
    /// change of it is known either. Zero: none does.
    pub stale_if_error: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            capacity: 100_000,
            confirmed_within: None,
            stale_if_error: Duration::ZERO,
        }
    }
}

/// What a [`Cached`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Answers out of memory.
    pub hits: u64,
    /// Questions that memory could not answer, or was not allowed to.
    pub misses: u64,
    /// Reads of the store; fewer than misses where callers shared one.
    pub loads: u64,
    /// Reads of the store that failed.
    pub failures: u64,
    /// Answers out of memory while changes could not be read.
    pub stale: u64,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    loads: AtomicU64,
    failures: AtomicU64,
    stale: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A [`CredentialStore`] that remembers what another one found.
pub struct Cached {
    inner: Arc<dyn CredentialStore>,
    epochs: Arc<Epochs>,
    counters: Arc<Counters>,
    users: Table<Box<str>, LoginRecord>,
    holders: Table<Identity, LoginRecord>,
    tenants: Table<TenantId, TenantRecord>,
    tokens: Table<TokenHash, TokenRecord>,
    confirmed_within: Option<Duration>,
    confirmed: Mutex<Option<Instant>>,
    stale_if_error: Duration,
    is_in_doubt: AtomicBool,
}

impl Cached {
    /// Puts a cache in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn CredentialStore>, options: &CacheOptions) -> Self {
        let epochs = Arc::new(Epochs::new());
        let counters = Arc::new(Counters::default());
        Self {
            inner,
            users: Table::new(options, &epochs, &counters, places_of),
            holders: Table::new(options, &epochs, &counters, places_of),
            tenants: Table::new(options, &epochs, &counters, |epochs, tenant: &TenantRecord| {
                [epochs.tenant(tenant.id.as_str()), epochs.tenant(tenant.id.as_str())]
            }),
            tokens: Table::new(options, &epochs, &counters, |epochs, token: &TokenRecord| {
                // The token's own place is the key's, which the table adds.
                [epochs.user(&token.user_name), epochs.user(&token.user_name)]
            }),
            epochs,
            counters,
            confirmed_within: options.confirmed_within,
            confirmed: Mutex::default(),
            stale_if_error: options.stale_if_error,
            is_in_doubt: AtomicBool::default(),
        }
    }

    /// Forgets what the change concerns. When this returns, no call that begins from now on is
    /// answered with anything that was read before it, not even by a load already under way.
    pub fn forget(&self, change: &Change) {
        self.epochs.invalidate(change);
    }

    /// Notes that every change which was committed before `asked` is forgotten.
    pub fn confirm(&self, asked: Instant) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = Some(asked).max(*confirmed);
        self.is_in_doubt.store(false, Ordering::Relaxed);
    }

    /// For how long before `asked` nobody had read what was committed.
    pub(crate) fn unconfirmed_for(&self, asked: Instant) -> Duration {
        let confirmed = *self.confirmed.lock();
        confirmed.map_or(Duration::ZERO, |at| asked.saturating_duration_since(at))
    }

    /// Notes that changes cannot be read. What is kept is forgotten, unless it may answer all the same;
    /// then it is to be forgotten when they can be read again.
    pub fn doubt(&self) {
        if self.stale_if_error.is_zero() {
            self.forget(&Change::Everything);
        } else {
            self.is_in_doubt.store(true, Ordering::Relaxed);
        }
    }

    /// Whether changes cannot be read, and what is kept may answer all the same.
    #[must_use]
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Relaxed)
    }

    /// Whether changes are read at the moment, so that what is kept may answer.
    pub(crate) fn is_confirmed(&self) -> bool {
        let Some(within) = self.confirmed_within else { return true };
        let confirmed = *self.confirmed.lock();
        confirmed.is_some_and(|asked| asked.elapsed() <= within)
    }

    /// How new an answer really has to be.
    fn needed(&self, freshness: Freshness) -> Needed {
        match freshness {
            Freshness::Cached if self.is_in_doubt() => Needed::Stale,
            Freshness::Cached if self.is_confirmed() => Needed::Cached,
            Freshness::Cached | Freshness::Fresh => Needed::Fresh,
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.counters.hits),
            misses: read(&self.counters.misses),
            loads: read(&self.counters.loads),
            failures: read(&self.counters.failures),
            stale: read(&self.counters.stale),
        }
    }

    /// How many records are held in memory, once what is due has been evicted.
    pub async fn held(&self) -> u64 {
        let logins = self.users.held().await + self.holders.held().await;
        logins + self.tenants.held().await + self.tokens.held().await
    }
}

/// What a login's record depends on.
fn places_of(epochs: &Epochs, login: &LoginRecord) -> [Place; 2] {
    [epochs.user(&login.user.name), epochs.tenant(login.tenant.id.as_str())]
}

#[async_trait]
impl CredentialStore for Cached {
    async fn user(&self, name: &str, freshness: Freshness) -> Lookup<LoginRecord> {
        let (place, needed) = (self.epochs.user(name), self.needed(freshness));
        self.users
            .find(name, place, needed, move || {
                let (store, name) = (self.inner.clone(), Box::<str>::from(name));
                Box::pin(async move { store.user(&name, Freshness::Fresh).await })
            })
            .await
    }

    async fn token(&self, hash: &TokenHash, freshness: Freshness) -> Lookup<TokenRecord> {
        let (place, needed) = (self.epochs.token(&hash.to_hex()), self.needed(freshness));
        self.tokens
            .find(hash, place, needed, move || {
                let (store, hash) = (self.inner.clone(), *hash);
                Box::pin(async move { store.token(&hash, Freshness::Fresh).await })
            })
            .await
    }

    async fn holder(&self, identity: &Identity, freshness: Freshness) -> Lookup<LoginRecord> {
        let (place, needed) = (self.epochs.identity(identity), self.needed(freshness));
        self.holders
            .find(identity, place, needed, move || {
                let (store, identity) = (self.inner.clone(), identity.clone());
                Box::pin(async move { store.holder(&identity, Freshness::Fresh).await })
            })
            .await
    }

    async fn tenant_of(&self, id: &TenantId, freshness: Freshness) -> Lookup<TenantRecord> {
        let (place, needed) = (self.epochs.tenant(id.as_str()), self.needed(freshness));
        self.tenants
            .find(id, place, needed, move || {
                let (store, id) = (self.inner.clone(), id.clone());
                Box::pin(async move { store.tenant_of(&id, Freshness::Fresh).await })
            })
            .await
    }

    async fn account_of(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>> {
        let account = self.inner.account_of(tenant, candidate).await?;
        // Records are asked for their account first: the ones kept of this tenant have none.
        self.forget(&Change::Tenant(tenant.id.to_string()));
        Ok(account)
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("inner", &self.inner).field("stats", &self.stats()).finish()
    }
}
