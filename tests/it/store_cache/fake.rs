//! A table in memory whose reads can be held between the moment they read and the moment they tell.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nats_callout::keys::AccountId;
use nats_callout::store::{
    CredentialStore, Freshness, Identity, LoginRecord, StoreError, TenantId, TenantRecord,
    TokenHash, TokenRecord, UserKind, UserRecord,
};
use tokio::sync::{mpsc, oneshot};

fn login(name: &str, generation: i64) -> LoginRecord {
    LoginRecord {
        user: UserRecord { updated_at: generation, ..UserRecord::new(name, UserKind::Bb) },
        tenant: TenantRecord::new("42".parse().unwrap()),
    }
}

/// A load that has read the table and waits to be let go with what it read.
pub(super) struct Reading {
    pub(super) go: oneshot::Sender<()>,
}

/// A table in memory. With a gate, every read reports itself once it has read, and waits.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) users: Mutex<HashMap<String, i64>>,
    pub(super) tokens: Mutex<HashMap<TokenHash, String>>,
    pub(super) reads: AtomicU64,
    pub(super) fails: Mutex<bool>,
    gate: Option<mpsc::UnboundedSender<Reading>>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl Fake {
    pub(super) fn gated() -> (Arc<Self>, mpsc::UnboundedReceiver<Reading>) {
        let (gate, readings) = mpsc::unbounded_channel();
        (Arc::new(Self { gate: Some(gate), ..Self::default() }), readings)
    }

    pub(super) fn set(&self, name: &str, generation: i64) {
        self.users.lock().unwrap().insert(name.into(), generation);
    }

    async fn read<T>(
        &self,
        read: impl FnOnce() -> Option<T>,
    ) -> Result<Option<Arc<T>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let fails = *self.fails.lock().unwrap();
        let found = read();
        if let Some(gate) = &self.gate {
            let (go, let_go) = oneshot::channel();
            gate.send(Reading { go }).unwrap();
            let _ = let_go.await;
        }
        if fails {
            Err(StoreError::Unavailable("on purpose".into()))
        } else {
            Ok(found.map(Arc::new))
        }
    }
}

#[async_trait]
impl CredentialStore for Fake {
    async fn user(&self, name: &str, _: Freshness) -> Result<Option<Arc<LoginRecord>>, StoreError> {
        self.read(|| self.users.lock().unwrap().get(name).map(|n| login(name, *n))).await
    }

    async fn token(
        &self,
        hash: &TokenHash,
        _: Freshness,
    ) -> Result<Option<Arc<TokenRecord>>, StoreError> {
        self.read(|| {
            let user_name = self.tokens.lock().unwrap().get(hash).cloned()?;
            Some(TokenRecord { user_name, expires_at: None })
        })
        .await
    }

    async fn holder(
        &self,
        identity: &Identity,
        _: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, StoreError> {
        let name = identity.as_str();
        self.read(|| self.users.lock().unwrap().get(name).map(|n| login(name, *n))).await
    }

    async fn tenant_of(
        &self,
        id: &TenantId,
        _: Freshness,
    ) -> Result<Option<Arc<TenantRecord>>, StoreError> {
        self.read(|| Some(TenantRecord::new(id.clone()))).await
    }

    async fn account_of(
        &self,
        _: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>, StoreError> {
        Ok(Some(candidate))
    }
}
