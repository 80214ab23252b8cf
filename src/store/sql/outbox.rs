//! The events of changes that wait to be published, and whose turn it is. What is written here may
//! be lost with the power: an event that comes back is known to the stream by its id.

use std::time::Duration;

use async_trait::async_trait;

use super::{Backend, Durability, IfNone, Statement, Step, Subject, row};
use crate::store::{Outbox, OutboxEvent, Result, StoreError, queries};

/// Events deleted in one transaction: other programs may not wait for SQLite's lock.
const DELETED_AT_ONCE: usize = 256;

fn step<'q>(statement: Statement<'q>, if_none: IfNone<'q>) -> Vec<Step<'q>> {
    let subject = Subject { what: "turn", key: "outbox", parent: "" };
    vec![Step { statement, subject, if_none }]
}

#[async_trait]
impl<B: Backend> Outbox for B {
    async fn pending(&self, limit: u32, without: &[String]) -> Result<Vec<OutboxEvent>> {
        let without = serde_json::json!(without).to_string();
        let statement = Statement::new(queries::PENDING).bind(i64::from(limit)).bind(&*without);
        self.select(statement).await?.iter().map(row::event).collect()
    }

    async fn backlog(&self) -> Result<u64> {
        let rows = self.select(Statement::new(queries::BACKLOG)).await?;
        rows.first().map_or(Ok(0), row::count)
    }

    async fn published(&self, ids: &[String]) -> Result<()> {
        for some in ids.chunks(DELETED_AT_ONCE) {
            let some = serde_json::json!(some).to_string();
            let statement = Statement::new(queries::PUBLISHED).bind(&*some);
            self.write(step(statement, IfNone::Fine), Durability::Passing).await?;
        }
        Ok(())
    }

    async fn lease(&self, instance: &str, time: Duration) -> Result<bool> {
        // Whoever has to wait does so without a lock.
        let holder = self.select(Statement::new(queries::LEASE_HOLDER)).await?;
        if let Some(holder) = holder.first()
            && row::holder(holder)? != instance
        {
            return Ok(false);
        }
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let statement = Statement::new(queries::LEASE).bind(instance).bind(time);
        match self.write(step(statement, IfNone::Missing), Durability::Passing).await {
            Ok(()) => Ok(true),
            // Another was faster.
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn release(&self, instance: &str) -> Result<()> {
        let statement = Statement::new(queries::RELEASE).bind(instance);
        self.write(step(statement, IfNone::Fine), Durability::Passing).await
    }
}
