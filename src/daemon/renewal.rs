//! When connections may be renewed, and what is shown of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use tokio::time::Instant;

use super::Result;
use super::base::Base;
use super::connect::Nats;
use super::http::Observed;
use super::metrics::size;
use super::parts::{Part, Parts};
use crate::audit::Observer;
use crate::authorize::Authorizer;
use crate::keys::ServerId;
use crate::peers::Peers;
use crate::renewal::adoption::Adopter;
use crate::renewal::{Admits, Renewals, Renewer};
use crate::servers::Departures;
use crate::service::Turns;
use crate::store::cache::Cached;

/// So many logins may be under way, and half of those that may be at all, or whoever is broken off waits.
const AT_EASE: usize = 64;

/// A connection may be closed before its grant is shown, which takes as long as there is a doubt that it was
/// in time, half a minute at most: it is forgotten once more then.
const SHOWN_BY: Duration = Duration::from_secs(35);

/// So many of those are kept.
const MOST: usize = 100_000;

/// This instance, as one who is broken off finds it.
struct Fitness {
    observed: Arc<Observed>,
    cache: Arc<Cached>,
    turns: Turns,
    max_in_flight: usize,
}

#[async_trait]
impl Admits for Fitness {
    async fn could_admit(&self) -> bool {
        let load = self.turns.stats();
        self.cache.is_confirmed()
            && load.waiting == 0
            && load.in_flight <= AT_EASE.min(self.max_in_flight / 2)
            && self.observed.health.word().await.is_at_ease()
    }
}

/// What renewing takes beside what each part has.
pub(super) struct Renewing {
    pub(super) renewals: Arc<Renewals>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) peers: Peers,
    pub(super) turns: Turns,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

impl Renewing {
    /// Begins. `parts` are those that end before anything else does: whoever is broken off has to find the
    /// service as it is.
    pub(super) async fn start(self, base: &Base<'_>, nats: &Nats, parts: &Parts) -> Result<()> {
        let Self { renewals, authorizer, peers, turns, observer } = self;
        let departures = Departures::subscribe(&nats.connections.system).await?;
        let forgetting = (departures, Arc::clone(&renewals));
        parts.spawn(Part::minor("departures"), forgetting, |(departures, renewals), _| {
            forget(departures, renewals).boxed()
        });
        let admits = Arc::new(Fitness {
            observed: Arc::clone(&base.observed),
            cache: Arc::clone(&base.cache),
            turns,
            max_in_flight: base.config.callout.max_in_flight,
        });
        let adopter = Adopter {
            renewals: Arc::clone(&renewals),
            authorizer: Arc::clone(&authorizer),
            admits: Arc::clone(&admits) as _,
            cluster: nats.cluster.clone(),
            store: Arc::clone(&base.cache) as _,
            clock: Arc::clone(&base.clock),
            instances: peers.follow(),
            servers: Arc::clone(&nats.servers),
        };
        parts.spawn(Part::minor("adoptions"), adopter, |it, _| it.run().boxed());
        let (shown, cluster) = (Arc::clone(&renewals), nats.cluster.clone());
        let servers = Arc::clone(&nats.servers);
        let renewer = Renewer { renewals, authorizer, admits, cluster, servers, observer };
        parts.spawn(Part::minor("renewals"), renewer, |it, _| it.run().boxed());
        base.observed.metrics.show(move || show(&shown));
        Ok(())
    }
}

async fn forget(departures: &mut Departures, renewals: &Renewals) {
    let mut again: VecDeque<(Instant, ServerId, u64)> = VecDeque::new();
    loop {
        let next = again.front().map(|(at, ..)| *at);
        let later = tokio::time::sleep_until(next.unwrap_or_else(|| Instant::now() + SHOWN_BY));
        tokio::select! {
            departed = departures.next() => {
                let Some((server, cid)) = departed else { return };
                renewals.forget(server, cid);
                if again.len() < MOST {
                    again.push_back((Instant::now() + SHOWN_BY, server, cid));
                }
            }
            () = later => {
                let now = Instant::now();
                while let Some((_, server, cid)) = again.pop_front_if(|(at, ..)| *at <= now) {
                    renewals.forget(server, cid);
                }
            }
        }
    }
}

fn show(renewals: &Renewals) {
    let stats = renewals.stats();
    gauge!("nats_callout_renewals_held").set(size(stats.held));
    let count = |outcome, count| {
        counter!("nats_callout_renewals_total", "outcome" => outcome).absolute(count);
    };
    count("renewed", stats.renewed);
    count("gone", stats.gone);
    count("refused", stats.refused);
    count("deferred", stats.deferred);
    count("unanswered", stats.unanswered);
    count("forgotten", stats.forgotten);
}
