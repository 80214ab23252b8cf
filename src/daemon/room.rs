//! How many connections a tenant has where servers do not count them: they know the limits of accounts,
//! and this tenant shares one, or has one that the servers' configuration makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::authn::DenyReason;
use crate::placement::{Arrival, Entrance};
use crate::policy::Form;
use crate::provision::connections::{Cluster, ClusterError, ConnectionId, Selection};
use crate::provision::revoke::Places;
use crate::store::{ProvisioningStore, StoreError, TenantId};

/// How long it is good for what servers have said.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// From a grant until its connection is in the server's list, at most.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// Between two looks at what was under way.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a look may take.
const LOOK: Duration = Duration::from_millis(700);

/// Lets in as many of a tenant as its `max_connections` says, as long as the servers can be asked.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) cluster: Cluster,
    pub(super) store: Arc<dyn ProvisioningStore>,
    pub(super) places: Places,
    /// Whether servers count the connections of a tenant's own account.
    pub(super) own_is_counted: bool,
    pub(super) counts: Counts,
}

/// Why the connections cannot be counted.
#[derive(Debug, thiserror::Error)]
enum NoCount {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("servers or the database are slow")]
    Slow,
}

/// By tenant; of those that have a limit, and have had a login lately.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    counts: HashMap<TenantId, Arc<tokio::sync::Mutex<Count>>>,
    /// When those of long ago were forgotten.
    swept: Option<Instant>,
}

/// What one tenant has.
#[derive(Debug, Default)]
struct Count {
    /// When servers were asked.
    looked: Option<Instant>,
    /// What they listed.
    listed: BTreeSet<ConnectionId>,
    /// When they could not be asked.
    in_vain: Option<Instant>,
    /// Who was let in here lately.
    granted: BTreeMap<ConnectionId, Instant>,
}

impl Count {
    /// How many there are if all are there that were let in since this time.
    fn with_granted(&self, since: Option<Instant>) -> u64 {
        let granted = self.granted.iter().filter(|(_, at)| Some(**at) >= since);
        let unlisted = granted.filter(|(id, _)| !self.listed.contains(*id)).count();
        u64::try_from(self.listed.len() + unlisted).unwrap_or(u64::MAX)
    }

    fn grant(&mut self, id: ConnectionId) {
        self.granted.insert(id, Instant::now());
    }
}

impl Counts {
    fn of(&self, tenant: &TenantId) -> Arc<tokio::sync::Mutex<Count>> {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.swept.is_none_or(|swept| swept.elapsed() > KNOWN_FOR) {
            lately.swept = Some(Instant::now());
            // Whoever has it just now is not forgotten.
            lately.counts.retain(|_, count| {
                Arc::strong_count(count) > 1
                    || count.try_lock().is_ok_and(|count| {
                        count.looked.is_some_and(|looked| looked.elapsed() < KNOWN_FOR)
                    })
            });
        }
        Arc::clone(lately.counts.entry(tenant.clone()).or_default())
    }
}

impl Room {
    async fn has_room(&self, tenant: &TenantId, most: u64, id: ConnectionId) -> bool {
        let count = self.counts.of(tenant);
        // One look at a time.
        let mut count = count.lock().await;
        if count.in_vain.is_some_and(|at| at.elapsed() < KNOWN_FOR) {
            // Nobody waits behind the others for the next attempt.
            return true;
        }
        let known = count.looked.filter(|looked| looked.elapsed() < KNOWN_FOR);
        if known.is_some() && count.with_granted(known) < most {
            count.grant(id);
            return true;
        }
        loop {
            let begun = Instant::now();
            let look = tokio::time::timeout(LOOK, self.look(tenant)).await;
            let listed = match look.unwrap_or(Err(NoCount::Slow)) {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::warn!(%tenant, %error,
                        "let somebody in without a count of the tenant's connections");
                    count.in_vain = Some(Instant::now());
                    return true;
                }
            };
            (count.looked, count.listed) = (Some(begun), listed);
            // Whoever was let in before that and is not listed is gone.
            count.granted.retain(|_, at| at.elapsed() < UNDER_WAY);
            if count.with_granted(None) < most {
                count.grant(id);
                return true;
            }
            if u64::try_from(count.listed.len()).unwrap_or(u64::MAX) >= most {
                tracing::info!(%tenant, connections = count.listed.len(), max_connections = most,
                    server = id.server, cid = id.cid, "the tenant has as many connections as it may");
                return false;
            }
            // Those who were let in just now will be listed soon, or were and are gone.
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The tenant's connections, on all servers that answer.
    async fn look(&self, tenant: &TenantId) -> Result<BTreeSet<ConnectionId>, NoCount> {
        let users = self.store.users(tenant).await?;
        let names = users.iter().map(|user| user.name.as_str());
        let mut selection = Selection::default();
        self.places.select_tenant(tenant, names, Duration::ZERO, &mut selection);
        let found = self.cluster.find(&selection, Instant::now()).await?;
        Ok(found.ids.into_keys().collect())
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
            match self.has_room(&arrival.tenant.id, most, id).await {
                true => Ok(()),
                false => Err(DenyReason::Connections),
            }
        })
    }
}
