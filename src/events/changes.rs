//! Publishes the events of changes: reads the outbox, and deletes each event by its id once the
//! stream has acknowledged it. Killed at any point it loses none and, within the stream's duplicate
//! window, doubles none.
//!
//! One instance publishes at a time; where two overlap, the stream knows an event by its id. Events
//! that share a tenant or a user are published one after the other, so that they are in the stream in
//! the order in which the outbox has them; all others side by side.
//!
//! One bad event hurts its tenant alone: what the stream refuses is tried again later, with those of
//! its tenant behind it, and all others go on past it. A batch that could not be read in time is tried
//! again as a smaller one.
//!
//! Other programs may not wait for SQLite's lock: what the stream has is deleted once a second, and
//! known here until then.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::cloud_event::CloudEvent;
use super::held::HeldTenants;
use super::lease::{PublishLease, Waiting};
use super::publisher::{IN_FLIGHT, PATIENCE, PublishError, Publisher};
use super::queues::queues;
use crate::causes::BoxError;
use crate::store::{Outbox, OutboxEvent, StoreError};
use crate::streams::events::AUTH_EVENTS;

/// How often the outbox is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often the streams and their consumers are looked at: a reader hears nothing without them.
const LOOK: Duration = Duration::from_secs(60);

/// Events read at once, at most, and how much fewer after a read that failed: four of them, and one
/// alone is read.
const AT_ONCE: u32 = 4_096;
const FEWER: u32 = 8;

/// How often those that the stream has are deleted, unless they are this many.
const DELETE: Duration = Duration::from_secs(1);
const MANY: usize = AT_ONCE as usize / 2;

/// How often the outbox is counted while this instance publishes nothing.
const COUNT: Duration = Duration::from_secs(1);

/// No event is begun later than this after a batch was, so that its acknowledgement comes, or is
/// given up, within the turn.
const BATCH: Duration = Duration::from_secs(1);

/// After a failure, the first and the longest pause.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Publishes what is in the outbox.
#[derive(Debug)]
pub(crate) struct ChangeEvents {
    outbox: Arc<dyn Outbox>,
    publisher: Publisher,
    turn: PublishLease,
    /// How many events are read at once.
    at_once: u32,
    held: HeldTenants,
    /// In the stream, and still in the outbox.
    undeleted: HashSet<String>,
    deleted: Instant,
    counted: Option<Instant>,
    counts: Arc<ChangeCounts>,
}

/// What has become of the events of changes.
#[derive(Debug, Default)]
pub(crate) struct ChangeCounts {
    published: AtomicU64,
    pending: AtomicU64,
}

impl ChangeCounts {
    /// How many this instance has published.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// How many wait, as far as this instance has seen lately.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }
}

impl ChangeEvents {
    /// Publishes from `outbox` as this instance.
    #[must_use]
    pub(crate) fn new(outbox: Arc<dyn Outbox>, publisher: Publisher, instance: String) -> Self {
        Self {
            turn: PublishLease::new(Arc::clone(&outbox), instance),
            outbox,
            publisher,
            at_once: AT_ONCE,
            held: HeldTenants::default(),
            undeleted: HashSet::new(),
            deleted: Instant::now(),
            counted: None,
            counts: Arc::default(),
        }
    }

    /// What has become of events.
    pub(crate) fn counts(&self) -> Arc<ChangeCounts> {
        Arc::clone(&self.counts)
    }

    /// Publishes until `stop`. May be called again.
    pub(crate) async fn run(&mut self, stop: &CancellationToken) {
        let mut failures = 0_u32;
        let mut more = false;
        let mut looked = Instant::now();
        loop {
            let pause = match failures {
                0 if more => Duration::ZERO,
                0 => POLL,
                _ => RETRY.saturating_mul(1 << failures.min(5)).min(MAX_RETRY),
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            if !self.publisher.is_connected() {
                // Without the database there is nothing to count, and others say so.
                let _ = self.count_at_times().await;
                continue;
            }
            if looked.elapsed() >= LOOK {
                self.publisher.restore().await;
                looked = Instant::now();
            }
            // A stop lets what is on its way arrive, and be deleted.
            match self.batch(stop).await {
                Ok(any) => {
                    if failures > 0 {
                        tracing::info!("events of changes are published again");
                    }
                    (failures, more) = (0, any);
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::error!(
                            %error,
                            "events of changes cannot be published; they are kept, and tried again"
                        );
                    }
                    failures = failures.saturating_add(1);
                }
            }
        }
        if let Err(error) = self.delete().await {
            tracing::debug!(%error, "events that the stream has are left for another to delete");
        }
        if let Err(error) = self.turn.end().await {
            tracing::debug!(%error, "another instance has to wait for its turn to publish");
        }
    }

    /// Publishes the oldest events; whether there were any that it was this instance's turn for.
    async fn batch(&mut self, stop: &CancellationToken) -> Result<bool, BoxError> {
        if self.undeleted.len() >= MANY || self.deleted.elapsed() >= DELETE {
            self.delete().await?;
        }
        let without = self.held.tenants();
        let read = self.turn.waiting(self.at_once, &without, BATCH + PATIENCE).await;
        self.at_once = match &read {
            Ok(_) => self.at_once.saturating_mul(2).min(AT_ONCE),
            Err(_) => (self.at_once / FEWER).max(1),
        };
        let read = match read? {
            Waiting::Events(read) => read,
            Waiting::Nothing => Vec::new(),
            Waiting::ForAnother => {
                self.count_at_times().await?;
                return Ok(false);
            }
        };
        match read.is_empty() && without.is_empty() {
            true => self.counts.pending.store(0, Ordering::Relaxed),
            false => self.count_at_times().await?,
        }
        let waiting: Vec<OutboxEvent> =
            read.into_iter().filter(|event| !self.undeleted.contains(&event.id)).collect();
        if waiting.is_empty() {
            return Ok(false);
        }
        let end = Instant::now() + BATCH;
        let publisher = &self.publisher;
        let mut published = stream::iter(queues(waiting))
            .map(|events| one_by_one(publisher, events, end, stop))
            .buffer_unordered(IN_FLIGHT);
        let mut failure = None;
        while let Some((ids, failed)) = published.next().await {
            self.counts.published.fetch_add(ids.len() as u64, Ordering::Relaxed);
            self.undeleted.extend(ids);
            let Some((event, error)) = failed else { continue };
            if !error.is_of_the_event() || !self.held.hold(event, &error) {
                failure = Some(error);
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(true),
        }
    }

    async fn delete(&mut self) -> Result<(), StoreError> {
        if !self.undeleted.is_empty() {
            let ids: Vec<String> = self.undeleted.iter().cloned().collect();
            self.outbox.published(&ids).await?;
            self.undeleted.clear();
        }
        self.deleted = Instant::now();
        Ok(())
    }

    async fn count(&self) -> Result<(), StoreError> {
        let all = self.outbox.backlog().await?;
        let pending = all.saturating_sub(self.undeleted.len() as u64);
        self.counts.pending.store(pending, Ordering::Relaxed);
        Ok(())
    }

    /// Counting takes the longer the more there is.
    async fn count_at_times(&mut self) -> Result<(), StoreError> {
        if self.counted.is_none_or(|at| at.elapsed() >= COUNT) {
            self.counted = Some(Instant::now());
            self.count().await?;
        }
        Ok(())
    }
}

/// Publishes events in their order, up to the first that fails. Gives the ids of those that the
/// stream has, and the one that failed.
async fn one_by_one(
    publisher: &Publisher,
    events: VecDeque<OutboxEvent>,
    end: Instant,
    stop: &CancellationToken,
) -> (Vec<String>, Option<(CloudEvent, PublishError)>) {
    let mut ids = Vec::with_capacity(events.len());
    for event in events {
        if Instant::now() >= end || stop.is_cancelled() {
            break;
        }
        let event = CloudEvent::from(event);
        match publisher.publish(AUTH_EVENTS, &event).await {
            Ok(()) => ids.push(event.id),
            Err(error) => return (ids, Some((event, error))),
        }
    }
    (ids, None)
}
