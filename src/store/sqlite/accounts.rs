//! The one thing that a login writes: the account of a tenant that has none yet. Many first logins
//! may come at once, and each commit waits for the disk, so whoever gets the writing connection
//! commits for all that wait.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::SqliteStore;
use super::fault::{Subject, refused, unavailable};
use crate::keys::AccountId;
use crate::store::{StoreError, TenantRecord, queries};

/// How long another program's lock is sat out: nearly as long as any login waits.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Between two attempts to get the lock.
const RETRY: Duration = Duration::from_millis(20);

/// Accounts kept in one transaction: other programs may not wait for its lock.
const AT_ONCE: usize = 256;

type Kept = Result<Option<AccountId>, StoreError>;

#[derive(Debug)]
struct Request {
    tenant: String,
    incarnation: String,
    candidate: AccountId,
    answer: oneshot::Sender<Kept>,
}

/// The first logins that wait for their accounts.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    waiting: Mutex<Vec<Request>>,
    leader: tokio::sync::Mutex<()>,
}

impl Keeping {
    fn push(&self, requests: impl IntoIterator<Item = Request>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(requests);
    }

    /// The next ones, without those whose logins have been given up.
    fn take(&self) -> Vec<Request> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|request| !request.answer.is_closed());
        let many = waiting.len().min(AT_ONCE);
        waiting.drain(..many).collect()
    }
}

impl SqliteStore {
    /// The account that is kept for this incarnation of the tenant.
    pub(super) async fn kept_account(
        &self,
        tenant: &str,
        incarnation: &str,
        from: impl sqlx::SqliteExecutor<'_>,
    ) -> Kept {
        let account: Option<String> = sqlx::query_scalar(queries::ACCOUNT)
            .bind(tenant)
            .bind(incarnation)
            .fetch_optional(from)
            .await
            .map_err(|error| unavailable(&self.path, &error))?;
        account
            .map(|text| {
                text.parse().map_err(|error: crate::keys::KeyError| StoreError::Corrupt {
                    table: "tenant_accounts",
                    key: tenant.to_owned(),
                    reason: format!("account: {error}"),
                })
            })
            .transpose()
    }

    /// Keeps `candidate` for this incarnation of the tenant, unless another is kept already.
    pub(super) async fn keep_account(&self, tenant: &TenantRecord, candidate: AccountId) -> Kept {
        let until = Instant::now() + PATIENCE;
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.keeping.push([Request {
                tenant: tenant.id.to_string(),
                incarnation: tenant.incarnation.clone(),
                candidate,
                answer,
            }]);
            let kept = loop {
                tokio::select! {
                    biased;
                    kept = &mut answered => break kept,
                    _leading = self.keeping.leader.lock() => self.lead(until).await?,
                }
            };
            // A leader that was given up in the middle has answered nobody.
            if let Ok(kept) = kept {
                return kept;
            }
        }
    }

    /// Commits for those that wait. While the database is locked they go on waiting, the leader's
    /// own login until `until`.
    async fn lead(&self, until: Instant) -> Result<(), StoreError> {
        let batch = self.keeping.take();
        if batch.is_empty() {
            return Ok(());
        }
        match self.keep_all(&batch).await {
            Ok(kept) => {
                for (request, kept) in batch.into_iter().zip(kept) {
                    // Whoever asked may have given up.
                    let _ = request.answer.send(kept);
                }
                Ok(())
            }
            Err(error) if Instant::now() >= until => {
                self.keeping.push(batch);
                Err(error)
            }
            Err(_) => {
                self.keeping.push(batch);
                tokio::time::sleep(RETRY).await;
                Ok(())
            }
        }
    }

    async fn keep_all(&self, batch: &[Request]) -> Result<Vec<Kept>, StoreError> {
        let mut connection = self.writer().await?;
        let mut transaction = self.begin(&mut connection).await?;
        let mut all = Vec::with_capacity(batch.len());
        for Request { tenant, incarnation, candidate, .. } in batch {
            let subject = Subject { what: "account", key: candidate.as_str(), parent: tenant };
            let written = sqlx::query(queries::KEEP_ACCOUNT)
                .bind(tenant)
                .bind(candidate.as_str())
                .bind(incarnation)
                .execute(&mut *transaction)
                .await;
            all.push(match written {
                Ok(_) => self.kept_account(tenant, incarnation, &mut *transaction).await,
                Err(error) => Err(refused(&self.path, &error, subject)),
            });
        }
        self.commit(transaction).await?;
        Ok(all)
    }
}
