//! Publishes decisions and closed connections. Neither is kept in the database: they wait in a
//! bounded queue, which costs a login one attempt to send, and what it cannot hold is dropped and
//! counted. Where the configuration wants no grant without its event, [`AuditedGrants`] has each
//! published and acknowledged first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cloud_event::CloudEvent;
use super::publisher::{IN_FLIGHT, Publisher};
use crate::audit::{Kick, Late, Observer, Rejection};
use crate::authorize::{Connection, Gate, NotAudited, Outcome, Reply, Verdict};
use crate::clock::{Clock, UnixSeconds};
use crate::redact::shown;
use crate::store::{CredentialStore, Freshness, TenantId};
use crate::streams::events::AUTH_DECISIONS;

/// After a failure, the first and the longest pause.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// For how long a stop waits for what is left in the queue.
const FAREWELL: Duration = Duration::from_secs(1);

/// Between two attempts to publish a grant that waits for it.
const GRANT_RETRY: Duration = Duration::from_millis(50);

/// Stamps events with the time and an id of their own.
#[derive(Debug)]
struct Stamps {
    clock: Arc<dyn Clock>,
    /// Random: no other process has it.
    prefix: String,
    next: AtomicU64,
}

impl Stamps {
    fn next(&self) -> (String, UnixSeconds) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (format!("{}-{number}", self.prefix), self.clock.now())
    }
}

/// What is to be published.
#[derive(Debug)]
enum Record {
    Decision {
        id: String,
        at: UnixSeconds,
        verdict: Verdict,
        connection: Connection,
        took: Duration,
    },
    /// What was answered too late.
    Late { id: String, at: UnixSeconds, late: Late },
    /// What was granted and not taken by its server.
    NotTaken { id: String, at: UnixSeconds, rejection: Rejection },
    /// Closed after a change, or to be renewed.
    Closed { at: UnixSeconds, kick: Kick, is_renewal: bool },
}

/// The queue's entrance: an observer of outcomes and of kicks.
#[derive(Debug)]
pub struct DecisionLog {
    stamps: Arc<Stamps>,
    queue: mpsc::Sender<Record>,
    /// Grants that have been published already are not queued.
    grants: bool,
    dropped: Arc<AtomicU64>,
}

/// The queue's exit.
#[derive(Debug)]
pub struct DecisionEvents {
    queue: mpsc::Receiver<Record>,
    publisher: Publisher,
    /// Tells whose user a closed connection was.
    credentials: Arc<dyn CredentialStore>,
    dropped: Arc<AtomicU64>,
}

/// Admits a grant once its event is in the stream.
#[derive(Debug)]
pub struct AuditedGrants {
    stamps: Arc<Stamps>,
    publisher: Publisher,
    failing: Arc<AtomicBool>,
}

/// A queue of at most `capacity` decisions, which are published on `publisher`. `prefix` has to be
/// one that no other process has.
#[must_use]
pub fn queue(
    capacity: usize,
    publisher: Publisher,
    credentials: Arc<dyn CredentialStore>,
    clock: Arc<dyn Clock>,
    prefix: String,
) -> (DecisionLog, DecisionEvents) {
    let (sender, receiver) = mpsc::channel(capacity);
    let dropped = Arc::new(AtomicU64::new(0));
    let stamps = Arc::new(Stamps { clock, prefix, next: AtomicU64::new(0) });
    let log = DecisionLog { stamps, queue: sender, grants: true, dropped: Arc::clone(&dropped) };
    (log, DecisionEvents { queue: receiver, publisher, credentials, dropped })
}

impl DecisionLog {
    /// Leaves grants to a gate that has them published before they are given.
    #[must_use]
    pub fn with_gate(mut self, publisher: Publisher) -> (Self, AuditedGrants) {
        self.grants = false;
        let stamps = Arc::clone(&self.stamps);
        let gate = AuditedGrants { stamps, publisher, failing: Arc::default() };
        (self, gate)
    }

    /// How many decisions could not be kept.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    fn closed(&self, kick: &Kick, is_renewal: bool) {
        self.put(Record::Closed { at: self.stamps.clock.now(), kick: kick.clone(), is_renewal });
    }

    fn put(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            drop_some(&self.dropped, 1);
        }
    }
}

/// Decisions that are out of the queue and not in the stream: dropped, if nothing more becomes of them.
struct UnderWay {
    dropped: Arc<AtomicU64>,
    count: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        drop_some(&self.dropped, self.count as u64);
    }
}

fn drop_some(dropped: &AtomicU64, count: u64) {
    if count == 0 {
        return;
    }
    let before = dropped.fetch_add(count, Ordering::Relaxed);
    if before == 0 {
        tracing::warn!(
            "decisions are dropped that nobody is told of: see the metrics for how many"
        );
    }
}

impl Observer for DecisionLog {
    fn observe(&self, outcome: &Outcome, took: Duration) {
        let Outcome::Reply(reply) = outcome else { return };
        if matches!(reply.verdict, Verdict::Granted { .. }) && !self.grants {
            return;
        }
        self.put(decision(&self.stamps, reply, took));
    }

    fn late(&self, late: &Late) {
        let (id, at) = self.stamps.next();
        self.put(Record::Late { id, at, late: late.clone() });
    }

    fn rejected(&self, rejection: &Rejection) {
        let (id, at) = self.stamps.next();
        self.put(Record::NotTaken { id, at, rejection: rejection.clone() });
    }

    fn kicked(&self, kick: &Kick) {
        self.closed(kick, false);
    }

    fn renewed(&self, kick: &Kick) {
        self.closed(kick, true);
    }
}

fn decision(stamps: &Stamps, reply: &Reply, took: Duration) -> Record {
    let verdict = reply.verdict.clone();
    let connection = reply.connection.clone();
    let (id, at) = stamps.next();
    Record::Decision { id, at, verdict, connection, took }
}

impl AuditedGrants {
    /// Whether the last event of a grant could not be published, so that nobody is let in.
    #[must_use]
    pub(crate) fn failing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failing)
    }
}

#[async_trait]
impl Gate for AuditedGrants {
    async fn admit(&self, reply: &Reply, took: Duration) -> Result<(), NotAudited> {
        let event = event(decision(&self.stamps, reply, took), None)
            .map_err(|error| NotAudited(error.to_string()))?;
        // The caller gives up when it is too late.
        while let Err(error) = self.publisher.publish(AUTH_DECISIONS, &event).await {
            if !self.failing.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "grants wait for their events to be published");
            }
            tokio::time::sleep(GRANT_RETRY).await;
        }
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("grants are published again");
        }
        Ok(())
    }
}

impl DecisionEvents {
    /// Publishes until `stop`, and then for a moment what is left. May be called again until then:
    /// what waits in the queue is not lost.
    pub async fn run(&mut self, stop: &CancellationToken) {
        let mut failing = false;
        loop {
            let mut some = Vec::new();
            let received =
                stop.run_until_cancelled(self.queue.recv_many(&mut some, IN_FLIGHT)).await;
            match received {
                None | Some(0) => break,
                Some(_) => {}
            }
            // A panic loses these, which counts too.
            let mut under_way = UnderWay { dropped: Arc::clone(&self.dropped), count: some.len() };
            let events = self.events(some).await;
            under_way.count = events.len();
            let left = self.publish_all(events, stop, &mut failing).await;
            under_way.count = left.unwrap_or(0);
            if left.is_some() {
                break;
            }
        }
        self.queue.close();
        let mut rest = Vec::new();
        while let Ok(record) = self.queue.try_recv() {
            rest.push(record);
        }
        if rest.is_empty() {
            return;
        }
        let count = rest.len();
        let Ok(events) = tokio::time::timeout(FAREWELL, self.events(rest)).await else {
            return drop_some(&self.dropped, count as u64);
        };
        let count = events.len();
        let farewell = tokio::time::sleep(FAREWELL);
        let published = self
            .attempt(events)
            .take_until(farewell)
            .filter(|left| std::future::ready(left.is_none()))
            .count()
            .await;
        drop_some(&self.dropped, count.saturating_sub(published) as u64);
    }

    async fn events(&self, records: Vec<Record>) -> Vec<CloudEvent> {
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            let tenant = match &record {
                Record::Closed { kick, .. } => self.tenant_of(&kick.user).await,
                _ => None,
            };
            match event(record, tenant) {
                Ok(event) => events.push(event),
                Err(error) => {
                    tracing::error!(%error, "a decision is no JSON");
                    drop_some(&self.dropped, 1);
                }
            }
        }
        events
    }

    async fn tenant_of(&self, user: &str) -> Option<String> {
        match self.credentials.user(user, Freshness::Cached).await.ok()? {
            Some(record) => Some(record.tenant.id.to_string()),
            None => TenantId::of_login(user).map(|tenant| tenant.to_string()),
        }
    }

    /// Publishes until all are in the stream; at a stop, the number of those that are not.
    async fn publish_all(
        &self,
        mut events: Vec<CloudEvent>,
        stop: &CancellationToken,
        failing: &mut bool,
    ) -> Option<usize> {
        let mut pause = RETRY;
        loop {
            if self.publisher.is_connected() {
                events = self.attempt(events).filter_map(std::future::ready).collect().await;
            }
            match (events.is_empty(), *failing) {
                (true, true) => tracing::info!("decisions are published again"),
                (false, false) => tracing::warn!(
                    "decisions cannot be published; as many as the queue holds are kept"
                ),
                _ => {}
            }
            *failing = !events.is_empty();
            if events.is_empty() {
                return None;
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Some(events.len());
            }
            pause = pause.saturating_mul(2).min(MAX_RETRY);
        }
    }

    /// Publishes each once; gives back those that are not known to be in the stream.
    fn attempt(&self, events: Vec<CloudEvent>) -> impl Stream<Item = Option<CloudEvent>> {
        let publisher = self.publisher.clone();
        stream::iter(events)
            .map(move |event| {
                let publisher = publisher.clone();
                async move {
                    let error = publisher.publish(AUTH_DECISIONS, &event).await.err()?;
                    tracing::debug!(%error, "not published");
                    Some(event)
                }
            })
            .buffer_unordered(IN_FLIGHT)
    }
}

/// The event of a record. `tenant` is whose connection was closed.
fn event(record: Record, tenant: Option<String>) -> Result<CloudEvent, serde_json::Error> {
    match record {
        Record::Decision { id, at, verdict, connection, took } => {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let offers = connection.offers;
            let mut data = of(connection);
            more(&mut data, "took_us", json!(took_us));
            let (kind, subject, tenant) = match verdict {
                Verdict::Granted { user, tenant, method, ttl, rule } => {
                    let user = shown(&user).to_owned();
                    more(&mut data, "user", json!(user));
                    if let Some(rule) = rule {
                        more(&mut data, "policy", json!(rule.policy));
                    }
                    more(&mut data, "method", json!(method));
                    more(&mut data, "ttl", json!(ttl.as_secs()));
                    ("auth.decision.granted", Some(user), Some(tenant))
                }
                Verdict::Denied { denied, user } => {
                    let tenant = denied.tenant().map(str::to_owned);
                    more(&mut data, "reason", json!(denied.code()));
                    if let Some(detail) = &denied.detail {
                        more(&mut data, "detail", json!(detail));
                    }
                    if let Some(at) = &denied.at {
                        more(&mut data, "at", json!(at.to_string()));
                    }
                    more(&mut data, "method", json!(offers));
                    if let Some(user) = &user {
                        more(&mut data, "user", json!(user));
                    }
                    // An empty subject is none, nor are there control characters in one.
                    let subject = user.filter(|user| is_subject(user));
                    ("auth.decision.rejected", subject, tenant)
                }
            };
            finish(id, kind, at, subject, tenant, data)
        }
        Record::Late { id, at, late } => {
            let took_us = u64::try_from(late.took.as_micros()).unwrap_or(u64::MAX);
            let (decision, reason) = (late.decision(), late.why.code());
            let mut data = of(late.connection);
            let user = late.user.map(|user| shown(&user).to_owned());
            more(&mut data, "user", json!(user));
            more(&mut data, "decision", json!(decision));
            more(&mut data, "reason", json!(reason));
            more(&mut data, "took_us", json!(took_us));
            let subject = user.filter(|user| is_subject(user));
            finish(id, "auth.decision.late", at, subject, late.tenant, data)
        }
        Record::NotTaken { id, at, rejection } => {
            let reason = if rejection.is_limit() { "connections" } else { "answer" };
            let mut data = of(rejection.connection);
            let user = shown(&rejection.user).to_owned();
            more(&mut data, "user", json!(user));
            more(&mut data, "reason", json!(reason));
            more(&mut data, "detail", json!(rejection.reason));
            finish(id, "auth.decision.rejected", at, Some(user), Some(rejection.tenant), data)
        }
        Record::Closed { at, kick, is_renewal } => {
            let Kick { server, cid, account, user, host } = kick;
            let user = shown(&user).to_owned();
            let data = json!({ "server": server, "cid": cid, "account": account, "user": user, "host": host });
            // Whoever else closes the same connection publishes the same event.
            let (word, kind) = match is_renewal {
                true => ("renewal", "auth.connection.renewed"),
                false => ("kick", "auth.connection.kicked"),
            };
            let id = format!("{word}-{server}-{cid}");
            finish(id, kind, at, Some(user), tenant, data)
        }
    }
}

/// Which connection it is about.
fn of(connection: Connection) -> Map<String, Value> {
    let Connection { server, host, id, name, library, .. } = connection;
    let mut data = Map::new();
    more(&mut data, "server", json!(server));
    more(&mut data, "cid", json!(id));
    more(&mut data, "host", json!(host));
    if !name.is_empty() {
        more(&mut data, "name", json!(name));
    }
    if !library.is_empty() {
        more(&mut data, "library", json!(library));
    }
    data
}

fn more(data: &mut Map<String, Value>, key: &str, value: Value) {
    data.insert(key.to_owned(), value);
}

/// An empty subject is none, nor are there control characters in one.
fn is_subject(user: &str) -> bool {
    !user.is_empty() && !user.chars().any(char::is_control)
}

fn finish(
    id: String,
    kind: &str,
    at: UnixSeconds,
    subject: Option<String>,
    tenant: Option<String>,
    data: impl Into<Value>,
) -> Result<CloudEvent, serde_json::Error> {
    let time = Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
    let data = RawValue::from_string(data.into().to_string())?;
    Ok(CloudEvent { id, kind: kind.to_owned(), time, subject, tenant, data })
}
