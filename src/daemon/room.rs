//! How many connections a tenant has where servers do not count them: they know the limits of accounts,
//! and this tenant shares one, or has one that the servers' configuration makes. START with
//! [`Room::has_room`].
//!
//! The servers say who is in (a look). Who was let in since then counts as well, by this instance or by
//! another, which tells of it. Whoever comes while a tenant is full waits for a look that begins after
//! that; all who wait take the same one.

mod known;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Client, SubscribeError};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::known::{KNOWN_FOR, Known};
use crate::authn::DenyReason;
use crate::placement::{Arrival, Entrance};
use crate::policy::Form;
use crate::provision::connections::{Cluster, ClusterError, ConnectionId, Selection};
use crate::provision::revoke::Places;
use crate::store::{ProvisioningStore, StoreError, TenantId};

/// Where an instance tells the others whom it lets in ([`Entered`], JSON).
const SUBJECT: &str = "_CALLOUT.room";

/// How long a look may take. A server that hangs takes a second of the first.
const LOOK: Duration = Duration::from_millis(1_200);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// How often a tenant is seen to be full before somebody is refused: a server may not have noticed yet who has
/// gone.
const SEEN_FULL: usize = 3;

/// Of how many that were let in and are not listed yet a look asks whether they are there.
const ASKED_FOR: usize = 64;

/// Lets in as many of a tenant as its `max_connections` says, as long as the servers can be asked.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) cluster: Cluster,
    pub(super) store: Arc<dyn ProvisioningStore>,
    pub(super) places: Places,
    /// Whether servers count the connections of a tenant's own account.
    pub(super) own_is_counted: bool,
    pub(super) counts: Arc<Counts>,
    /// A connection in AUTH, and the name of this instance there.
    pub(super) others: Client,
    pub(super) instance: String,
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
}

/// By tenant; of those that have a limit, and have had a login lately.
#[derive(Debug, Default)]
pub(super) struct Counts {
    lately: Mutex<Lately>,
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
    /// One look at a time.
    look: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

impl Count {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// How many were let in while nobody could say how many there are.
    pub(super) fn uncounted(&self) -> u64 {
        self.uncounted.load(Relaxed)
    }

    fn of(&self, tenant: &TenantId) -> Arc<Count> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.swept.is_none_or(|swept| swept.elapsed() > KNOWN_FOR) {
            lately.swept = Some(Instant::now());
            // Whoever has it just now is not forgotten.
            let is_used = |count: &Arc<Count>| Arc::strong_count(count) > 1;
            lately.counts.retain(|_, count| is_used(count) || count.known().is_of_use());
        }
        Arc::clone(lately.counts.entry(tenant.clone()).or_default())
    }
}

/// What an instance tells of one whom it lets in.
#[derive(Serialize, Deserialize)]
struct Entered<'a> {
    instance: &'a str,
    tenant: &'a str,
    server: &'a str,
    cid: u64,
}

/// Hears whom other instances let in, until `stop`.
pub(super) async fn follow(
    counts: Arc<Counts>,
    others: &Client,
    instance: String,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, SubscribeError> {
    let mut told = others.subscribe(SUBJECT).await?;
    Ok(async move {
        while let Some(Some(message)) = stop.run_until_cancelled(told.next()).await {
            let Ok(entered) = serde_json::from_slice::<Entered<'_>>(&message.payload) else {
                tracing::warn!("what an instance says of whom it lets in cannot be read");
                continue;
            };
            if entered.instance != instance
                && let Ok(tenant) = entered.tenant.parse()
            {
                let server = entered.server.to_owned();
                counts.of(&tenant).known().enters(ConnectionId { server, cid: entered.cid });
            }
        }
    })
}

impl Room {
    async fn has_room(&self, tenant: &TenantId, most: u64, id: &ConnectionId) -> bool {
        let arrived = Instant::now();
        let count = self.counts.of(tenant);
        let _one_at_a_time = count.look.lock().await;
        let known = count.known().answer(most, arrived);
        let has_room = match known {
            Some(has_room) => Ok(has_room),
            None => self.look_again(tenant, most, &count).await,
        };
        match has_room {
            Ok(true) => self.let_in(tenant, id, &count).await,
            Ok(false) => {
                let connections = count.known().count();
                tracing::info!(%tenant, connections, max_connections = most, server = id.server,
                    cid = id.cid, "the tenant has as many connections as it may");
                false
            }
            Err(error) => {
                let has_room = count.known().guess(most);
                self.say_uncounted(tenant, id, has_room, &error);
                has_room && self.let_in(tenant, id, &count).await
            }
        }
    }

    /// Notes that somebody is let in, here and at the others: `true`.
    async fn let_in(&self, tenant: &TenantId, id: &ConnectionId, count: &Count) -> bool {
        count.known().enters(id.clone());
        let (instance, tenant) = (self.instance.as_str(), tenant.as_str());
        let entered = Entered { instance, tenant, server: &id.server, cid: id.cid };
        if let Ok(entered) = serde_json::to_vec(&entered) {
            // Before the answer, so that they know it before the client is in. Without a connection they learn
            // it by their next look.
            let _ = self.others.publish(SUBJECT, entered.into()).await;
            let _ = self.others.flush().await;
        }
        true
    }

    fn say_uncounted(&self, tenant: &TenantId, id: &ConnectionId, has_room: bool, error: &NoCount) {
        let (server, cid) = (&id.server, id.cid);
        if has_room {
            self.counts.uncounted.fetch_add(1, Relaxed);
            tracing::warn!(%tenant, server, cid, %error,
                "let somebody in without a count of the tenant's connections");
        } else {
            tracing::warn!(%tenant, server, cid, %error,
                "the tenant had as many connections as it may when they were counted last");
        }
    }

    /// Whether there is room, by the servers.
    async fn look_again(
        &self,
        tenant: &TenantId,
        most: u64,
        count: &Count,
    ) -> Result<bool, NoCount> {
        if count.known().asked_in_vain() {
            // Nobody waits behind the others for the next attempt.
            return Err(NoCount::InVain);
        }
        let mut seen_full = 0;
        loop {
            let begun = Instant::now();
            let look = tokio::time::timeout(LOOK, self.look(tenant, most, count)).await;
            match look.unwrap_or(Err(NoCount::Slow)) {
                Ok((listed, gone)) => count.known().learn(begun, listed, &gone),
                Err(error) => {
                    count.known().learn_nothing();
                    return Err(error);
                }
            }
            {
                let known = count.known();
                if known.count() < most {
                    return Ok(true);
                }
                // Those who were let in just now will be listed soon, or have gone.
                seen_full += usize::from(known.is_full(most));
            }
            if seen_full == SEEN_FULL {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
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
        let mut unlisted = count.known().unlisted(&listed);
        if u64::try_from(listed.len() + unlisted.len()).unwrap_or(u64::MAX) < most {
            return Ok((listed, Vec::new()));
        }
        unlisted.truncate(ASKED_FOR);
        let asked = unlisted.into_iter().map(|id| async {
            let is_there = self.cluster.is_there(&id).await;
            (!is_there).then_some(id)
        });
        let gone = join_all(asked).await.into_iter().flatten().collect();
        Ok((listed, gone))
    }
}

impl Entrance for Room {
    fn enters<'a>(&'a self, arrival: Arrival<'a>) -> BoxFuture<'a, Result<(), DenyReason>> {
        Box::pin(async move {
            let Some(most) = arrival.tenant.limits.connections else { return Ok(()) };
            if arrival.form == Form::Own && self.own_is_counted {
                return Ok(());
            }
            let server = arrival.server.to_string();
            let id = ConnectionId { server, cid: arrival.cid };
            match self.has_room(&arrival.tenant.id, most, &id).await {
                true => Ok(()),
                false => Err(DenyReason::Connections),
            }
        })
    }
}
