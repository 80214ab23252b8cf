//! The one thing that a login writes: the account of a tenant that has none yet. Many first logins
//! may come at once, and each commit waits for the disk, so whoever gets the writing connection
//! commits for all that wait.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::SqliteStore;
use super::fault::{refused, unavailable};
use crate::keys::AccountId;
use crate::store::sql::{Durability, Link as _, Statement, Subject, account_of, row};
use crate::store::{Result, TenantRecord, queries};

/// How long another program's lock is sat out: nearly as long as any login waits.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Between two attempts to get the lock.
const RETRY: Duration = Duration::from_millis(20);

/// Accounts kept in one transaction: other programs may not wait for its lock.
const AT_ONCE: usize = 256;

type Kept = Result<Option<AccountId>>;

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
        self.waiting.lock().extend(requests);
    }

    /// The next ones, without those whose logins have been given up.
    fn take(&self) -> Vec<Request> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|request| !request.answer.is_closed());
        let many = waiting.len().min(AT_ONCE);
        waiting.drain(..many).collect()
    }
}

impl SqliteStore {
    /// Keeps `candidate` for this incarnation of the tenant, unless another is kept already.
    pub(super) async fn keep_in_turn(&self, tenant: &TenantRecord, candidate: AccountId) -> Kept {
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
    async fn lead(&self, until: Instant) -> Result<()> {
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

    async fn keep_all(&self, batch: &[Request]) -> Result<Vec<Kept>> {
        let mut connection = self.writer(Durability::Lasting).await?;
        let mut transaction = self.begin(&mut connection).await?;
        let mut all = Vec::with_capacity(batch.len());
        for Request { tenant, incarnation, candidate, .. } in batch {
            let keep = Statement::new(queries::KEEP_ACCOUNT)
                .bind(&**tenant)
                .bind(candidate.as_str())
                .bind(&**incarnation);
            all.push(match transaction.change(&keep).await {
                Ok(_) => {
                    let found = transaction.rows(&account_of(tenant, incarnation)).await;
                    let found = found.map_err(|error| unavailable(&self.path, &error))?;
                    found.first().map(row::account).transpose()
                }
                Err(error) => {
                    let subject =
                        Subject { what: "account", key: candidate.as_str(), parent: tenant };
                    Err(refused(&self.path, &error, subject))
                }
            });
        }
        self.commit(transaction).await?;
        Ok(all)
    }
}
