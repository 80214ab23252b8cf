//! How many connections a tenant has where servers do not count them: they know the limits of accounts,
//! and this tenant shares one, or has one that the servers' configuration makes. START with
//! [`Room::has_room`].
//!
//! The servers say who is in (a look). Who was let in since then counts as well, by this instance or by
//! another: each says so before it lets somebody in, and waits until it hears its own words, after those of
//! others that came first. Whoever comes while a tenant is full waits for a look that begins after
//! that; all who wait take the same one. While nobody can say who is in, as many come in as there was room
//! for; the others wait for a look while there is time, and then have no answer.

mod known;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::{Client, SubscribeError, Subscriber};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use metrics::counter;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedMutexGuard};

use self::known::{KNOWN_FOR, Known};
use super::metrics::Metrics;
use crate::authn::Denied;
use crate::connections::{ConnectionId, Selection};
use crate::placement::{Arrival, Entrance, Objection};
use crate::revoke::Places;
use crate::servers::{Cluster, ClusterError};
use crate::store::{Isolation, ProvisioningStore, StoreError, TenantId};

/// Where an instance tells all whom it is about to let in, itself included ([`Entered`], JSON). Whose word
/// comes first has the place.
const SUBJECT: &str = "_CALLOUT.room";

/// How long a server has to say who is there. One that is healthy takes milliseconds, and whoever waits has less
/// than two seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// From when on a look that lasts is one in vain.
const SLOW: Duration = Duration::from_millis(1_200);

/// How long a look may last: longer than a login, since servers may begin to hang while it goes on.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Of how many that were let in and are not listed yet a look asks whether they are there.
const ASKED_FOR: usize = 64;

/// How many of a tenant wait while there is no answer: others need the service too.
const WAITING: usize = 64;

/// How long an instance waits for its own words.
const ECHO: Duration = Duration::from_millis(500);

/// What it takes to answer once it is known.
const ANSWER: Duration = Duration::from_millis(50);

/// Lets in as many of a tenant as its `max_connections` says.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) cluster: Cluster,
    pub(super) store: Arc<dyn ProvisioningStore>,
    pub(super) places: Places,
    /// Whether servers count the connections of a tenant's own account.
    pub(super) own_is_counted: bool,
    pub(super) counts: Arc<Counts>,
    /// A connection in AUTH.
    pub(super) others: Client,
}

/// Why the connections cannot be counted.
#[derive(Debug, thiserror::Error)]
enum NoCount {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("servers or the database do not answer in time")]
    Slow,
    #[error("there was no answer a moment ago")]
    InVain,
    #[error("servers were not asked often enough in time, or do not list yet who was let in last")]
    Unsure,
}

/// By tenant; of those that have a limit, and have had a login lately.
#[derive(Debug, Default)]
pub(super) struct Counts {
    lately: Mutex<Lately>,
    /// How many were let in while nobody could say how many there are.
    uncounted: AtomicU64,
}

#[derive(Debug, Default)]
struct Lately {
    counts: HashMap<TenantId, Arc<Count>>,
    /// When those of long ago were forgotten.
    swept: Option<Instant>,
}

/// What one tenant has.
#[derive(Debug, Default)]
struct Count {
    /// One look at a time, and when the last one ended.
    look: Arc<tokio::sync::Mutex<Option<Instant>>>,
    known: Mutex<Known>,
    /// Each time that something is heard.
    heard: Notify,
}

impl Count {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}

impl Counts {
    pub(super) fn show(self: &Arc<Self>, metrics: &Metrics) {
        let this = Arc::clone(self);
        metrics.show(move || {
            let uncounted = this.uncounted.load(Relaxed);
            counter!("nats_callout_connections_uncounted_total").absolute(uncounted);
        });
    }

    fn of(&self, tenant: &TenantId) -> Arc<Count> {
        let mut lately = self.lately.lock();
        if lately.swept.is_none_or(|swept| swept.elapsed() > KNOWN_FOR) {
            lately.swept = Some(Instant::now());
            // Whoever has it just now is not forgotten.
            let is_used = |count: &Arc<Count>| Arc::strong_count(count) > 1;
            lately.counts.retain(|_, count| is_used(count) || count.known().is_of_use());
        }
        Arc::clone(lately.counts.entry(tenant.clone()).or_default())
    }
}

/// What an instance tells of one whom it is about to let in.
#[derive(Serialize, Deserialize)]
struct Entered<'a> {
    tenant: &'a str,
    server: &'a str,
    cid: u64,
    /// That it is not let in after all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
}

/// Hears whom instances let in, this one too.
pub(super) struct Hearing {
    counts: Arc<Counts>,
    told: Subscriber,
}

impl Hearing {
    /// Subscribes on a connection in AUTH.
    pub(super) async fn subscribe(
        counts: Arc<Counts>,
        others: &Client,
    ) -> Result<Self, SubscribeError> {
        Ok(Self { counts, told: others.subscribe(SUBJECT).await? })
    }

    /// Does so for as long as there is the connection.
    pub(super) async fn run(&mut self) {
        while let Some(message) = self.told.next().await {
            let Ok(entered) = serde_json::from_slice::<Entered<'_>>(&message.payload) else {
                tracing::warn!("what an instance says of whom it lets in cannot be read");
                continue;
            };
            let Ok(tenant) = entered.tenant.parse() else { continue };
            let id = ConnectionId { server: entered.server.to_owned(), cid: entered.cid };
            let count = self.counts.of(&tenant);
            match entered.left {
                false => count.known().hears(id),
                true => count.known().leaves(&id),
            }
            count.heard.notify_waiters();
        }
    }
}

impl Room {
    async fn admit(
        &self,
        tenant: &TenantId,
        most: u64,
        id: &ConnectionId,
        until: Instant,
    ) -> Result<(), Objection> {
        let count = self.counts.of(tenant);
        let arrived = Instant::now();
        let admitted = loop {
            match self.takes_a_place(tenant, most, id, (arrived, until), &count).await {
                Ok(true) if !self.keeps_its_place(tenant, most, id, until, &count).await => {}
                taken => break taken,
            }
        };
        match admitted {
            Ok(true) => Ok(()),
            Ok(false) => {
                let connections = count.known().count();
                Err(Objection::Refusal(Denied::full(connections, most)))
            }
            Err(error) => Err(Objection::Uncounted(error.to_string())),
        }
    }

    /// Whether nobody else has been heard of first, where there was one place left. Without a connection to
    /// tell others they learn it by their next look.
    async fn keeps_its_place(
        &self,
        tenant: &TenantId,
        most: u64,
        id: &ConnectionId,
        until: Instant,
        count: &Count,
    ) -> bool {
        let heard = async {
            self.tell(tenant, id, false).await;
            loop {
                let notified = count.heard.notified();
                if count.known().has_heard_of(id) {
                    break;
                }
                notified.await;
            }
        };
        let end = until.min(Instant::now() + ECHO);
        let is_heard = tokio::time::timeout_at(end.into(), heard).await.is_ok();
        if is_heard && !count.known().is_within(id, most) {
            count.known().leaves(id);
            self.tell(tenant, id, true).await;
            return false;
        }
        true
    }

    async fn tell(&self, tenant: &TenantId, id: &ConnectionId, left: bool) {
        let entered = Entered { tenant: tenant.as_str(), server: &id.server, cid: id.cid, left };
        if let Ok(entered) = serde_json::to_vec(&entered) {
            let _ = self.others.publish(SUBJECT, entered.into()).await;
            let _ = self.others.flush().await;
        }
    }

    /// Whether there is a place, which is then taken. Looks again and again while nobody can say it.
    async fn takes_a_place(
        &self,
        tenant: &TenantId,
        most: u64,
        id: &ConnectionId,
        (arrived, until): (Instant, Instant),
        count: &Arc<Count>,
    ) -> Result<bool, NoCount> {
        let is_crowded = Arc::strong_count(count) > WAITING;
        let mut error = NoCount::InVain;
        let has_place = || {
            let mut known = count.known();
            let has_room = known.answer(most, arrived)?;
            if has_room {
                known.enters(id.clone());
            }
            Some(has_room)
        };
        loop {
            if let Some(has_room) = has_place() {
                return Ok(has_room);
            }
            let in_vain = count.known().asked_in_vain();
            if in_vain && self.enters_uncounted(tenant, most, id, count, &error) {
                return Ok(true);
            }
            if in_vain && is_crowded || Instant::now() >= until {
                return Err(error);
            }
            error = NoCount::Slow;
            let turn = Arc::clone(&count.look).lock_owned();
            let Ok(turn) = tokio::time::timeout_at(until.into(), turn).await else { continue };
            if let Some(has_room) = has_place() {
                return Ok(has_room);
            }
            let look = self.clone().looks(tenant.clone(), most, Arc::clone(count), turn);
            let learnt = tokio::time::timeout_at(until.into(), tokio::spawn(look)).await;
            match learnt {
                Ok(Ok(Ok(()))) => error = NoCount::Unsure,
                Ok(Ok(Err(failed))) => error = failed,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Looks, and goes on when whoever asked has no more time: what it learns is of use to the next.
    async fn looks(
        self,
        tenant: TenantId,
        most: u64,
        count: Arc<Count>,
        mut turn: OwnedMutexGuard<Option<Instant>>,
    ) -> Result<(), NoCount> {
        if let Some(ended) = *turn {
            tokio::time::sleep_until((ended + PAUSE).into()).await;
        }
        let begun = Instant::now();
        let look = tokio::time::timeout(LOOK, self.look(&tenant, most, &count));
        tokio::pin!(look);
        let look = match tokio::time::timeout(SLOW, &mut look).await {
            Ok(look) => look,
            Err(_) => {
                count.known().learn_nothing();
                look.await
            }
        };
        let look = look.unwrap_or(Err(NoCount::Slow));
        *turn = Some(Instant::now());
        let mut known = count.known();
        let learnt = look.map(|(listed, gone)| known.learn(begun, listed, &gone));
        if learnt.is_err() {
            known.learn_nothing();
        }
        learnt
    }

    /// Whether one more may come in while nobody can say how many there are, which is then told.
    fn enters_uncounted(
        &self,
        tenant: &TenantId,
        most: u64,
        id: &ConnectionId,
        count: &Count,
        error: &NoCount,
    ) -> bool {
        let mut known = count.known();
        let may_enter = known.guess(most);
        if may_enter {
            known.enters(id.clone());
            self.counts.uncounted.fetch_add(1, Relaxed);
            tracing::warn!(%tenant, server = id.server, cid = id.cid, %error,
                "let somebody in without a count of the tenant's connections");
        }
        may_enter
    }

    /// The tenant's connections on all servers that answer, and which of those that were let in have gone.
    async fn look(
        &self,
        tenant: &TenantId,
        most: u64,
        count: &Count,
    ) -> Result<(BTreeSet<ConnectionId>, Vec<ConnectionId>), NoCount> {
        let users = self.store.users(tenant).await?;
        let names = users.iter().map(|user| user.name.as_str());
        let mut selection = Selection::default();
        self.places.select_tenant(tenant, names, Duration::ZERO, &mut selection);
        let found = self.cluster.find(&selection, Instant::now()).await?;
        let listed: BTreeSet<_> = found.ids.into_keys().collect();
        let unlisted = count.known().unlisted(&listed);
        if u64::try_from(listed.len() + unlisted.len()).unwrap_or(u64::MAX) < most {
            return Ok((listed, Vec::new()));
        }
        // Whoever is on a server that hangs will come to another one.
        let (mut gone, mut unlisted): (Vec<_>, Vec<_>) =
            unlisted.into_iter().partition(|id| found.silent.contains(&id.server));
        unlisted.truncate(ASKED_FOR);
        let asked = unlisted.into_iter().map(|id| async {
            let is_there = self.cluster.is_there(&id).await;
            (!is_there).then_some(id)
        });
        gone.extend(join_all(asked).await.into_iter().flatten());
        Ok((listed, gone))
    }
}

#[async_trait]
impl Entrance for Room {
    async fn enters(&self, arrival: Arrival<'_>) -> Result<(), Objection> {
        let Some(most) = arrival.tenant.limits.connections else { return Ok(()) };
        if arrival.isolation == Isolation::Account && self.own_is_counted {
            return Ok(());
        }
        let id = ConnectionId { server: arrival.server.to_string(), cid: arrival.cid };
        let until = arrival.deadline.checked_sub(ANSWER).unwrap_or(arrival.deadline);
        self.admit(&arrival.tenant.id, most, &id, until).await
    }
}
