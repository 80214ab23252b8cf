//! The events of changes that wait to be published, and whose turn it is. What is written here may
//! be lost with the power: an event that comes back is known to the stream by its id.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::fault::unavailable;
use crate::store::{Outbox, OutboxEvent, StoreError, queries};

/// Takes the turn, unless another's lasts.
const LEASE: &str = "INSERT INTO leases (name, holder, until) \
     VALUES ('outbox', $1, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + $2) \
     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
     WHERE leases.holder = excluded.holder OR leases.until <= excluded.until - $2";

const PUBLISHED: &str = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))";

/// Events deleted in one transaction: other programs may not wait for its lock.
const DELETED_AT_ONCE: usize = 256;

fn event(row: &SqliteRow) -> Result<OutboxEvent, StoreError> {
    let column = |name: &str| {
        row.try_get::<String, _>(name).map_err(|error| corrupt(row, &error.to_string()))
    };
    Ok(OutboxEvent {
        id: column("id")?,
        kind: column("type")?,
        tenant: column("tenant_id")?,
        subject: column("subject")?,
        time: column("at")?,
        data: RawValue::from_string(column("data")?)
            .map_err(|error| corrupt(row, &format!("data: {error}")))?,
    })
}

fn corrupt(row: &SqliteRow, reason: &str) -> StoreError {
    let key = row.try_get("id").unwrap_or_default();
    StoreError::Corrupt { table: "outbox", key, reason: reason.to_owned() }
}

impl Outbox for SqliteStore {
    fn pending(&self, limit: u32) -> BoxFuture<'_, Result<Vec<OutboxEvent>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(queries::PENDING)
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            rows.iter().map(event).collect()
        })
    }

    fn backlog(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let count: i64 = sqlx::query_scalar(queries::BACKLOG)
                .fetch_one(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            Ok(u64::try_from(count).unwrap_or_default())
        })
    }

    fn published<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for some in ids.chunks(DELETED_AT_ONCE) {
                let mut connection = self.passing_writer().await?;
                sqlx::query(PUBLISHED)
                    .bind(serde_json::json!(some).to_string())
                    .execute(&mut *connection)
                    .await
                    .map_err(|error| unavailable(&self.path, &error))?;
            }
            Ok(())
        })
    }

    fn lease<'a>(
        &'a self,
        instance: &'a str,
        time: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            // Whoever has to wait does so without the file's lock.
            let holder: Option<String> = sqlx::query_scalar(queries::LEASE_HOLDER)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            if holder.is_some_and(|holder| holder != instance) {
                return Ok(false);
            }
            let mut connection = self.passing_writer().await?;
            let done = sqlx::query(LEASE)
                .bind(instance)
                .bind(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
                .execute(&mut *connection)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            Ok(done.rows_affected() > 0)
        })
    }

    fn release<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut connection = self.passing_writer().await?;
            sqlx::query(queries::RELEASE)
                .bind(instance)
                .execute(&mut *connection)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            Ok(())
        })
    }
}
