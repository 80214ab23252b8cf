//! One kind of record: what is kept of it, and the loads under way, at most one for a key.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use moka::future::Cache;
use parking_lot::Mutex;

use super::epochs::{Epochs, Place};
use super::{CacheOptions, Counters};
use crate::store::{Lookup, Result};

/// How new an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// As new as nothing that is known of contradicts it.
    Cached,
    /// The same, and older where it is there.
    Stale,
    /// Read after the question.
    Fresh,
}

/// A record, when it was read, the epoch in which its load began, and what it depends on.
struct Kept<V> {
    record: Arc<V>,
    read: Instant,
    began: u64,
    places: [Place; 3],
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { record: self.record.clone(), ..*self }
    }
}

/// What a load brought, and the epoch in which it began.
struct Landed<V> {
    began: u64,
    brought: Result<Option<Kept<V>>>,
}

impl<V> Clone for Landed<V> {
    fn clone(&self) -> Self {
        Self { began: self.began, brought: self.brought.clone() }
    }
}

type Flight<V> = BoxFuture<'static, Landed<V>>;

/// The loads under way. Held weakly: its callers keep a load going, whichever of them gives up,
/// and one that all have given up is dropped with what it holds of the store.
type Flights<K, V> = Mutex<HashMap<K, (u64, WeakShared<Flight<V>>)>>;

/// Takes a load off the list, however it ends.
struct Listed<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    began: u64,
}

impl<K: Eq + Hash, V> Drop for Listed<K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // Another one may have taken its place after all callers of this one had gone.
        if flights.get(&self.key).is_some_and(|(began, _)| *began == self.began) {
            flights.remove(&self.key);
        }
    }
}

pub(super) struct Table<K: Eq + Hash, V> {
    kept: Cache<K, Kept<V>>,
    flights: Arc<Flights<K, V>>,
    epochs: Arc<Epochs>,
    counters: Arc<Counters>,
    depends: fn(&Epochs, &V) -> [Place; 2],
    ttl: Duration,
    stale_if_error: Duration,
}

impl<K, V> Table<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(
        options: &CacheOptions,
        epochs: &Arc<Epochs>,
        counters: &Arc<Counters>,
        depends: fn(&Epochs, &V) -> [Place; 2],
    ) -> Self {
        let CacheOptions { ttl, stale_if_error, .. } = *options;
        let longest = ttl.max(stale_if_error);
        let kept = Cache::builder().max_capacity(options.capacity).time_to_live(longest);
        Self {
            kept: kept.build(),
            flights: Arc::default(),
            epochs: epochs.clone(),
            counters: counters.clone(),
            depends,
            ttl,
            stale_if_error,
        }
    }

    pub(super) async fn held(&self) -> u64 {
        self.kept.run_pending_tasks().await;
        self.kept.entry_count()
    }

    /// The record of `key`, whose own invalidations are noted at `place`.
    ///
    /// A load that was under way when the caller came may have read the database before: what it
    /// found will do unless it was invalidated, but that it found nothing is no answer, nor is
    /// anything from it one for a caller that asks for a fresh record. Such a caller waits for it
    /// all the same, and shares the next load with the others that waited.
    pub(super) async fn find<Q>(
        &self,
        key: &Q,
        place: Place,
        needed: Needed,
        load: impl Fn() -> BoxFuture<'static, Lookup<V>>,
    ) -> Lookup<V>
    where
        Q: ?Sized + Hash + Eq + ToOwned,
        K: Borrow<Q>,
        Q::Owned: Into<K>,
    {
        let came = self.epochs.now();
        let (longest, counter) = match needed {
            Needed::Cached => (self.ttl, &self.counters.hits),
            Needed::Stale => (self.stale_if_error, &self.counters.stale),
            Needed::Fresh => (Duration::ZERO, &self.counters.hits),
        };
        let will_do = |kept: &Kept<V>| {
            needed != Needed::Fresh
                && kept.read.elapsed() < longest
                && self.epochs.stands(kept.began, &kept.places)
        };
        if needed != Needed::Fresh
            && let Some(kept) = self.kept.get(key).await
            && will_do(&kept)
        {
            Counters::count(counter);
            return Ok(Some(kept.record));
        }
        Counters::count(&self.counters.misses);
        loop {
            let landed = self.board(key, place, &load).await;
            match landed.brought {
                Ok(Some(kept)) if landed.began > came || will_do(&kept) => {
                    return Ok(Some(kept.record));
                }
                Ok(None) if landed.began > came => return Ok(None),
                Ok(_) => {}
                // It failed while the caller was waiting.
                Err(error) => return Err(error),
            }
        }
    }

    /// The load of this key that is under way, else a new one.
    fn board<Q>(
        &self,
        key: &Q,
        place: Place,
        load: impl Fn() -> BoxFuture<'static, Lookup<V>>,
    ) -> Shared<Flight<V>>
    where
        Q: ?Sized + Hash + Eq + ToOwned,
        K: Borrow<Q>,
        Q::Owned: Into<K>,
    {
        let mut flights = self.flights.lock();
        if let Some(under_way) = flights.get(key).and_then(|(_, flight)| flight.upgrade()) {
            return under_way;
        }
        let key: K = key.to_owned().into();
        // Taken before the store is asked: an invalidation from here on outdates what it answers.
        let began = self.epochs.advance();
        let flight = self.fly(key.clone(), place, began, load()).shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, (began, weak));
        }
        flight
    }

    fn fly(
        &self,
        key: K,
        place: Place,
        began: u64,
        load: BoxFuture<'static, Lookup<V>>,
    ) -> Flight<V> {
        let (kept, epochs, depends) = (self.kept.clone(), self.epochs.clone(), self.depends);
        let counters = self.counters.clone();
        let listed = Listed { flights: self.flights.clone(), key, began };
        Box::pin(async move {
            Counters::count(&counters.loads);
            let brought = match load.await {
                Ok(Some(record)) => {
                    let [one, other] = depends(&epochs, &record);
                    let places = [place, one, other];
                    let found = Kept { record, read: Instant::now(), began, places };
                    kept.insert(listed.key.clone(), found.clone()).await;
                    Ok(Some(found))
                }
                Ok(None) => {
                    kept.invalidate(&listed.key).await;
                    Ok(None)
                }
                Err(error) => {
                    Counters::count(&counters.failures);
                    Err(error)
                }
            };
            // Whoever comes from now on begins another load.
            drop(listed);
            Landed { began, brought }
        })
    }
}
