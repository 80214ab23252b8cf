//! Of the grants, a few a minute are looked after: whether their clients are really connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::Mutex;
use strum::{EnumCount as _, IntoEnumIterator as _};
use tokio::sync::mpsc;

use super::metrics::Metrics;
use crate::audit::Observer;
use crate::authorize::{Outcome, Verdict};
use crate::connections::{ConnectionId, Sighting};
use crate::servers::Cluster;

/// Between two grants that are looked after.
const EVERY: Duration = Duration::from_secs(10);

/// How long after its grant a connection is looked for.
const LATER: Duration = Duration::from_secs(1);

/// How many were found how.
type Counts = Arc<[AtomicU64; Sighting::COUNT]>;

/// Picks grants.
#[derive(Debug)]
pub(super) struct Picked {
    last: Mutex<Option<Instant>>,
    picked: mpsc::Sender<Pick>,
}

/// A grant that was picked.
#[derive(Debug)]
struct Pick {
    id: ConnectionId,
    user: String,
    tenant: String,
}

/// Looks after those that were picked.
#[derive(Debug)]
pub(super) struct Samples {
    picked: mpsc::Receiver<Pick>,
    cluster: Cluster,
    counts: Counts,
}

/// Who picks, and who looks.
pub(super) fn samples(cluster: Cluster) -> (Picked, Samples) {
    let (sender, picked) = mpsc::channel(1);
    let counts = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    (Picked { last: Mutex::default(), picked: sender }, Samples { picked, cluster, counts })
}

impl Observer for Picked {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        let Outcome::Reply(reply) = outcome else { return };
        let (Verdict::Granted { user, tenant, .. }, Some(asker)) = (&reply.verdict, reply.asker)
        else {
            return;
        };
        let mut last = self.last.lock();
        if last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        *last = Some(Instant::now());
        let id = ConnectionId { server: asker.server.to_string(), cid: reply.connection.id };
        let (user, tenant) = (user.clone(), tenant.clone());
        // One more than there is time for is left out.
        let _ = self.picked.try_send(Pick { id, user, tenant });
    }
}

impl Samples {
    /// Looks, until it is dropped. May be called again.
    pub(super) async fn run(&mut self) {
        while let Some(Pick { id, user, tenant }) = self.picked.recv().await {
            tokio::time::sleep(LATER).await;
            let sighting = self.cluster.sight(&id).await;
            if sighting == Sighting::Refused {
                let ConnectionId { server, cid } = &id;
                tracing::warn!(
                    user,
                    tenant,
                    server,
                    cid,
                    "granted, and its server shows it as refused"
                );
            }
            if let Some(count) = self.counts.get(sighting as usize) {
                count.fetch_add(1, Relaxed);
            }
        }
        // Nobody picks any more: the service stops.
        std::future::pending().await
    }

    pub(super) fn show(&self, metrics: &Metrics) {
        let counts = Arc::clone(&self.counts);
        metrics.show(move || {
            for (sighting, count) in Sighting::iter().zip(&*counts) {
                counter!("nats_callout_grants_sampled_total", "outcome" => sighting.name())
                    .absolute(count.load(Relaxed));
            }
        });
    }
}
