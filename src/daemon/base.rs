//! What every phase of the service goes by.

use super::Result;
use std::sync::Arc;

use futures_util::FutureExt as _;
use metrics::counter;

use super::health::Health;
use super::hindrances::Hindrances;
use super::http::{self, Observed};
use super::metrics::Metrics;
use super::parts::{Falls, Part, Parts};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::instance::CONFIRMED_WITHIN;
use crate::store::Store;
use crate::store::cache::{CacheOptions, Cached};

/// See the module.
pub(super) struct Base<'a> {
    pub(super) config: &'a Config,
    pub(super) store: Arc<dyn Store>,
    pub(super) cache: Arc<Cached>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observed: Arc<Observed>,
    /// What works beside the logins, and ends after the last decision.
    pub(super) parts: Parts,
}

impl<'a> Base<'a> {
    /// Begins to answer whether the service is well.
    pub(super) async fn new(config: &'a Config, store: Arc<dyn Store>) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let falls = Falls::default();
        let parts = Parts::new(falls.clone());
        let observed = Arc::new(Observed {
            health: Health::new(falls),
            metrics: Metrics::new(config.mode.name(), clock.now())?,
        });
        if let Some(listen) = config.http_listen {
            let serving = http::serve(listen, Arc::clone(&observed), parts.stop()).await?;
            parts.once(Part::minor("http").with_farewell(), serving);
        }
        parts.spawn(Part::minor("metrics"), Arc::clone(&observed), |it, _| {
            it.metrics.tidy().boxed()
        });
        let options = CacheOptions {
            ttl: config.cache.ttl,
            capacity: config.cache.entries as u64,
            confirmed_within: Some(CONFIRMED_WITHIN),
            stale_if_error: config.cache.stale_if_error,
        };
        let cache = Arc::new(Cached::new(store.clone(), &options));
        observed.metrics.show({
            let cache = Arc::clone(&cache);
            move || show(&cache)
        });
        let hindrances = Arc::new(Hindrances::default());
        hindrances.show(&observed.metrics);
        let part = Part::minor("hindrances");
        parts.spawn(part, (hindrances, store.clone()), |(it, store), _| it.watch(&**store).boxed());
        Ok(Self { config, store, cache, clock, observed, parts })
    }
}

fn show(cache: &Cached) {
    let stats = cache.stats();
    counter!("nats_callout_cache_hits_total").absolute(stats.hits);
    counter!("nats_callout_cache_misses_total").absolute(stats.misses);
    counter!("nats_callout_cache_loads_total").absolute(stats.loads);
    counter!("nats_callout_cache_load_failures_total").absolute(stats.failures);
    counter!("nats_callout_cache_stale_total").absolute(stats.stale);
}
