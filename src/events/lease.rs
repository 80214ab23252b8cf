//! The turn to publish what is in the outbox, which one instance has at a time. Whoever does not have
//! it reads one row to see that something waits, however much that is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::{Outbox, OutboxEvent, StoreError};

/// How long a turn lasts: if its instance dies, another takes over then.
const TURN: Duration = Duration::from_secs(6);

/// An instance that wants to publish.
#[derive(Debug)]
pub(super) struct PublishLease {
    outbox: Arc<dyn Outbox>,
    /// Whose turn it is, by name.
    instance: String,
    until: Option<Instant>,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Nothing.
    Nothing,
    /// Something, for another instance.
    ForAnother,
    /// These, the oldest first, for this instance.
    Events(Vec<OutboxEvent>),
}

impl PublishLease {
    /// No turn yet.
    pub(super) fn new(outbox: Arc<dyn Outbox>, instance: String) -> Self {
        Self { outbox, instance, until: None }
    }

    /// The oldest events, at most `limit` of them and none of the tenants `without`, for whoever has
    /// at least `time` left to publish them.
    pub(super) async fn waiting(
        &mut self,
        limit: u32,
        without: &[String],
        time: Duration,
    ) -> Result<Waiting, StoreError> {
        let needed = Instant::now() + time;
        if self.until.is_none_or(|until| until < needed) {
            // A turn is a row to write, so nobody takes one for nothing.
            if self.outbox.pending(1, without).await?.is_empty() {
                return Ok(Waiting::Nothing);
            }
            let asked = Instant::now();
            let granted = self.outbox.lease(&self.instance, TURN).await?;
            self.until = granted.then(|| asked + TURN);
            if !granted {
                return Ok(Waiting::ForAnother);
            }
        }
        let events = self.outbox.pending(limit, without).await?;
        Ok(if events.is_empty() { Waiting::Nothing } else { Waiting::Events(events) })
    }

    /// Lets another have its turn at once.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        match self.until.take() {
            Some(_) => self.outbox.release(&self.instance).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use serde_json::value::RawValue;

    use super::*;

    /// A backlog, and what is done with it.
    #[derive(Debug, Default)]
    struct Table {
        backlog: usize,
        holder: Mutex<Option<String>>,
        reads: Mutex<Vec<u32>>,
        leases: Mutex<u32>,
    }

    #[async_trait]
    impl Outbox for Table {
        async fn pending(&self, limit: u32, _: &[String]) -> Result<Vec<OutboxEvent>, StoreError> {
            self.reads.lock().unwrap().push(limit);
            let event = |n: usize| OutboxEvent {
                id: n.to_string(),
                kind: "auth.user.updated".to_owned(),
                tenant: "one".to_owned(),
                subject: "alice".to_owned(),
                time: "2026-04-05T17:31:00.000Z".to_owned(),
                data: RawValue::from_string("{}".to_owned()).unwrap(),
            };
            Ok((0..self.backlog.min(limit as usize)).map(event).collect())
        }

        async fn backlog(&self) -> Result<u64, StoreError> {
            Ok(self.backlog as u64)
        }

        async fn published(&self, _: &[String]) -> Result<(), StoreError> {
            Ok(())
        }

        async fn lease(&self, instance: &str, _: Duration) -> Result<bool, StoreError> {
            *self.leases.lock().unwrap() += 1;
            let mut holder = self.holder.lock().unwrap();
            let granted = holder.get_or_insert_with(|| instance.to_owned()) == instance;
            Ok(granted)
        }

        async fn release(&self, instance: &str) -> Result<(), StoreError> {
            self.holder.lock().unwrap().take_if(|holder| holder == instance);
            Ok(())
        }
    }

    const TIME: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn who_does_not_have_the_turn_reads_one_row() {
        let table = Arc::new(Table { backlog: 10_000, ..Table::default() });
        let outbox: Arc<dyn Outbox> = table.clone();
        let mut first = PublishLease::new(outbox.clone(), "first".to_owned());
        let mut second = PublishLease::new(outbox, "second".to_owned());
        let seen = first.waiting(4_096, &[], TIME).await.unwrap();
        assert!(matches!(seen, Waiting::Events(events) if events.len() == 4_096));
        table.reads.lock().unwrap().clear();
        for _ in 0..3 {
            let seen = second.waiting(4_096, &[], TIME).await.unwrap();
            assert!(matches!(seen, Waiting::ForAnother), "{seen:?}");
        }
        assert_eq!(*table.reads.lock().unwrap(), [1, 1, 1]);
        second.end().await.unwrap();
        assert_eq!(table.holder.lock().unwrap().as_deref(), Some("first"));
        first.end().await.unwrap();
        let seen = second.waiting(4_096, &[], TIME).await.unwrap();
        assert!(matches!(seen, Waiting::Events(events) if events.len() == 4_096));
    }

    #[tokio::test]
    async fn a_turn_is_asked_for_when_something_waits_and_kept_while_it_lasts() {
        let idle = Arc::new(Table::default());
        let mut turn = PublishLease::new(idle.clone(), "one".to_owned());
        assert!(matches!(turn.waiting(8, &[], TIME).await.unwrap(), Waiting::Nothing));
        assert_eq!(*idle.leases.lock().unwrap(), 0);

        let busy = Arc::new(Table { backlog: 3, ..Table::default() });
        let mut turn = PublishLease::new(busy.clone(), "one".to_owned());
        for _ in 0..3 {
            assert!(matches!(turn.waiting(8, &[], TIME).await.unwrap(), Waiting::Events(_)));
        }
        assert_eq!(*busy.leases.lock().unwrap(), 1);
        // Too little of it is left for what takes as long as a turn.
        assert!(matches!(turn.waiting(8, &[], TURN).await.unwrap(), Waiting::Events(_)));
        assert_eq!(*busy.leases.lock().unwrap(), 2);
    }
}
