//! Which connections are to be renewed, and when.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::NOTICE;
use crate::authorize::Renewable;
use crate::keys::ServerId;

/// Connections that are kept in mind at most: some 40 MB.
const MOST: usize = 200_000;

/// When a connection is broken off: after this part of its grant's life at the earliest, and at the latest.
/// What came together does not go together, and an outage shorter than the rest is not noticed.
const EARLIEST: f64 = 0.6;
const LATEST: f64 = 0.75;

/// So shortly before its end nothing is begun any more.
const TOO_LATE: Duration = Duration::from_secs(2);

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) server: ServerId,
    pub(super) cid: u64,
}

/// One that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) renewable: Renewable,
    ends: Instant,
}

/// The connections that are to be renewed.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_key: HashMap<Key, Entry>,
    /// Number breaks ties, and leads to the key.
    by_time: BTreeSet<(Instant, u64)>,
    keys: HashMap<u64, Key>,
    next: u64,
    spread: RandomState,
    pub(super) forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    due: Due,
    place: (Instant, u64),
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Keeps a connection in mind, granted at `now`.
    pub(super) fn hold(&mut self, renewable: Renewable, now: Instant) {
        let life = renewable.life;
        let share = self.spread.hash_one((renewable.server, renewable.cid));
        let share = f64::from(u32::try_from(share >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        let at = now + life.mul_f64(EARLIEST + (LATEST - EARLIEST) * share);
        self.put_back(Due { renewable, ends: now + life }, at.checked_sub(NOTICE).unwrap_or(now));
    }

    /// The same, to be looked at then; unless its grant is as good as over by that time.
    pub(super) fn put_back(&mut self, due: Due, at: Instant) {
        if at + TOO_LATE > due.ends {
            return;
        }
        if self.by_key.len() >= MOST {
            self.forgotten += 1;
            return;
        }
        let key = Key { server: due.renewable.server, cid: due.renewable.cid };
        let place = (at, self.next);
        self.next += 1;
        self.by_time.insert(place);
        self.keys.insert(place.1, key);
        if let Some(before) = self.by_key.insert(key, Entry { due, place }) {
            self.by_time.remove(&before.place);
            self.keys.remove(&before.place.1);
        }
    }

    /// Forgets one that is closed.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.by_time.remove(&entry.place);
            self.keys.remove(&entry.place.1);
        }
    }

    /// Takes out those that are due by `now`, so many at most.
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(&(at, number)) = self.by_time.first()
            && at <= now
        {
            self.by_time.pop_first();
            let entry = self.keys.remove(&number).and_then(|key| self.by_key.remove(&key));
            due.extend(entry.map(|entry| entry.due).filter(|due| now + TOO_LATE < due.ends));
        }
        due
    }
}
