//! Statements on the database: a read is tried again where the connection was broken before, a
//! transaction where it collided with another.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Executor as _;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, timeout_at};

use super::PostgresStore;
use super::fault::{is_broken, is_collision, refused, unavailable};
use super::pool::{Lent, Pool, RETRY, silent};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;
use crate::store::sql::{
    Backend, Durability, Failure, IfNone, Link as _, Statement, Step, Subject, account_of,
    carry_out, row,
};
use crate::store::{Hindrance, News, Result, StoreError, TenantRecord, queries};

/// Notes logins of many users, unless later ones are noted. The parameter is a JSON object of names
/// and times.
const RECORD_LOGINS: &str = "UPDATE users AS u SET last_login_at = datetime(l.value, 'unixepoch') \
     FROM (SELECT key, value::BIGINT FROM json_each_text($1::JSON)) AS l WHERE u.name = l.key \
     AND (u.last_login_at IS NULL OR u.last_login_at < datetime(l.value, 'unixepoch'))";

async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(silent()))
}

impl PostgresStore {
    async fn read(&self, statement: &Statement<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        let pool = &self.readers;
        let deadline = pool.deadline();
        loop {
            let mut lent = pool.lend(deadline).await?;
            match in_time(deadline, lent.rows(statement)).await {
                Ok(rows) => {
                    lent.give_back();
                    return Ok(rows);
                }
                Err(error) if is_broken(&error) => {
                    let is_new = lent.is_new();
                    drop(lent);
                    pool.forget();
                    if Instant::now() + RETRY >= deadline {
                        return Err(error);
                    }
                    if is_new {
                        tokio::time::sleep(RETRY).await;
                    }
                }
                Err(error) => {
                    lent.give_back();
                    return Err(error);
                }
            }
        }
    }

    /// A connection with an open transaction.
    async fn begin<'p>(
        &self,
        pool: &'p Pool,
        durability: Durability,
        deadline: Instant,
    ) -> Result<Lent<'p>, sqlx::Error> {
        let begin = match durability {
            Durability::Lasting => "BEGIN",
            Durability::Passing => "BEGIN; SET LOCAL synchronous_commit = off",
        };
        loop {
            let mut lent = pool.lend(deadline).await?;
            match in_time(deadline, lent.execute(sqlx::raw_sql(begin))).await {
                Ok(_) => return Ok(lent),
                Err(error) if is_broken(&error) && !lent.is_new() => pool.forget(),
                Err(error) => return Err(error),
            }
        }
    }

    async fn transaction<'q>(
        &self,
        steps: &[Step<'q>],
        durability: Durability,
        deadline: Instant,
    ) -> Result<(), Failure<'q>> {
        let whole = steps.first().map_or(NOTHING, |step| step.subject);
        let fault = |error| Failure::Database(error, whole);
        let mut lent = self.begin(&self.writers, durability, deadline).await.map_err(fault)?;
        let work = timeout_at(deadline, carry_out(&mut *lent, steps));
        match work.await.unwrap_or_else(|_| Err(fault(silent()))) {
            Ok(()) => {
                in_time(deadline, lent.execute("COMMIT")).await.map_err(fault)?;
                lent.give_back();
                Ok(())
            }
            Err(failure) => {
                let broken = matches!(&failure, Failure::Database(error, _) if is_broken(error));
                if !broken && in_time(deadline, lent.execute("ROLLBACK")).await.is_ok() {
                    lent.give_back();
                }
                Err(failure)
            }
        }
    }
}

const NOTHING: Subject<'_> = Subject { what: "row", key: "", parent: "" };

#[async_trait]
impl Backend for PostgresStore {
    type Row = PgRow;

    async fn select(&self, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        self.read(&statement).await.map_err(|error| unavailable(&self.place, &error))
    }

    async fn write(&self, steps: Vec<Step<'_>>, durability: Durability) -> Result<()> {
        let deadline = self.writers.deadline();
        loop {
            return match self.transaction(&steps, durability, deadline).await {
                Ok(()) => Ok(()),
                Err(Failure::Missing(missing)) => Err(missing),
                Err(Failure::Database(error, _))
                    if is_collision(&error) && Instant::now() < deadline =>
                {
                    continue;
                }
                Err(Failure::Database(error, subject)) => {
                    Err(refused(&self.place, &error, subject))
                }
            };
        }
    }

    async fn keep_account(
        &self,
        tenant: &TenantRecord,
        candidate: AccountId,
    ) -> Result<Option<AccountId>> {
        let (id, incarnation) = (tenant.id.as_str(), tenant.incarnation.as_str());
        let keep = Step {
            statement: Statement::new(queries::KEEP_ACCOUNT)
                .bind(id)
                .bind(candidate.as_str())
                .bind(incarnation),
            subject: Subject { what: "account", key: candidate.as_str(), parent: id },
            if_none: IfNone::Fine,
        };
        match self.write(vec![keep], Durability::Lasting).await {
            // It went away in between, and may have come back as another.
            Ok(()) | Err(StoreError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        let found = self.select(account_of(id, incarnation)).await?;
        found.first().map(row::account).transpose()
    }

    async fn note_logins(&self, logins: &[(&str, UnixSeconds)]) -> Result<()> {
        // Each user once, with the latest time: an UPDATE takes any one of several.
        let latest: BTreeMap<&str, UnixSeconds> = logins.iter().copied().collect();
        let latest = serde_json::to_string(&latest)
            .map_err(|error| StoreError::Refused(format!("users.name: {error}")))?;
        let step = Step {
            statement: Statement::new(RECORD_LOGINS).bind(&*latest),
            subject: NOTHING,
            if_none: IfNone::Fine,
        };
        self.write(vec![step], Durability::Passing).await
    }

    async fn news(&self) -> Result<News> {
        self.feed.news().await.map_err(|error| unavailable(&self.place, &error))
    }

    async fn wait_for_news(&self) {
        self.feed.wait().await
    }

    async fn hindrances(&self) -> Result<Vec<Hindrance>> {
        self.feed.hindrances().await.map_err(|error| unavailable(&self.place, &error))
    }

    async fn close(&self) {
        self.feed.close().await;
        self.writers.close().await;
        self.readers.close().await;
    }
}
