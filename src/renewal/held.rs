//! Which connections are to be renewed, and when.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NOTICE;
use crate::authorize::Renewable;
use crate::keys::ServerId;

/// Connections that are kept in mind at most: some 40 MB.
const MOST: usize = 200_000;

/// When a connection is broken off: after this part of its grant's life at the earliest, and at the latest.
/// What came together does not go together, and an outage shorter than the rest is not noticed.
const EARLIEST: f64 = 0.5;
const LATEST: f64 = 0.65;

/// So shortly before its end a renewal has its last chance.
const LAST: Duration = Duration::from_secs(3);

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
    pub(super) renewable: Arc<Renewable>,
    ends: Instant,
    /// When its grant has its last moments, as far as is known.
    last: Instant,
}

impl Due {
    /// Whether it has its last chance.
    pub(super) fn is_last(&self, now: Instant) -> bool {
        now >= self.last
    }
}

/// Who is to be renewed now.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) last: Vec<Due>,
    pub(super) due: Vec<Due>,
}

/// The connections that are to be renewed.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_key: HashMap<Key, Entry>,
    /// A number breaks ties.
    by_time: BTreeMap<(Instant, u64), Key>,
    by_end: BTreeMap<(Instant, u64), Key>,
    next: u64,
    spread: RandomState,
    pub(super) forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    due: Due,
    number: u64,
    at: Instant,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Keeps a connection in mind, whose grant began then.
    pub(super) fn hold(&mut self, renewable: Arc<Renewable>, begun: Instant) {
        let (life, longest) = renewable.life.clone().into_inner();
        let share = self.spread.hash_one((renewable.server, renewable.cid));
        let share = f64::from(u32::try_from(share >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        let at = begun + life.mul_f64(EARLIEST + (LATEST - EARLIEST) * share);
        let ends = begun + longest;
        // Whether one that another instance has granted ends before is not known.
        let soonest = if begun.elapsed() < life { begun + life } else { ends };
        let due = Due { renewable, ends, last: soonest.checked_sub(LAST).unwrap_or(begun) };
        self.put_back(due, at.checked_sub(NOTICE).unwrap_or(begun));
    }

    /// The same, to be looked at then, or when it has its last chance.
    pub(super) fn put_back(&mut self, due: Due, at: Instant) {
        let at = if at + TOO_LATE > due.ends { due.last } else { at };
        if self.by_key.len() >= MOST {
            self.forgotten += 1;
            return;
        }
        let key = Key { server: due.renewable.server, cid: due.renewable.cid };
        let number = self.next;
        self.next += 1;
        self.by_time.insert((at, number), key);
        self.by_end.insert((due.last, number), key);
        if let Some(before) = self.by_key.insert(key, Entry { due, number, at }) {
            self.leave(&before);
        }
    }

    fn leave(&mut self, entry: &Entry) {
        self.by_time.remove(&(entry.at, entry.number));
        self.by_end.remove(&(entry.due.last, entry.number));
    }

    /// Forgets one that is closed.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.leave(&entry);
        }
    }

    /// Takes out those that have their last chance now, and those that are due, so many at most.
    pub(super) fn look(&mut self, now: Instant, most: usize) -> Look {
        // Whoever is both may have been put off many times, and must not be once more.
        let last = self.last(now);
        Look { last, due: self.due(now, most) }
    }

    fn due(&mut self, now: Instant, most: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(first) = self.by_time.first_entry()
            && first.key().0 <= now
        {
            let entry = self.by_key.remove(&first.remove());
            due.extend(self.taken(entry, now));
        }
        due
    }

    fn last(&mut self, now: Instant) -> Vec<Due> {
        let mut ending = Vec::new();
        while let Some(first) = self.by_end.first_entry()
            && first.key().0 <= now
        {
            let entry = self.by_key.remove(&first.remove());
            ending.extend(self.taken(entry, now));
        }
        ending
    }

    fn taken(&mut self, entry: Option<Entry>, now: Instant) -> Option<Due> {
        let entry = entry?;
        self.leave(&entry);
        Some(entry.due).filter(|due| now + TOO_LATE < due.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, SigningKey};

    const LIFE: Duration = Duration::from_secs(100);

    fn server() -> ServerId {
        SigningKey::generate(KeyKind::Server).unwrap().0.public().unwrap()
    }

    fn held(server: ServerId, cids: impl IntoIterator<Item = u64>, now: Instant) -> Held {
        let mut held = Held::default();
        for cid in cids {
            held.hold(Renewable::fake(server, cid, LIFE..=LIFE), now);
        }
        held
    }

    fn at(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    fn cids(due: &[Due]) -> Vec<u64> {
        let mut cids: Vec<u64> = due.iter().map(|due| due.renewable.cid).collect();
        cids.sort_unstable();
        cids
    }

    #[test]
    fn all_are_due_between_a_half_and_two_thirds_of_a_life_and_not_at_once() {
        let begun = Instant::now();
        let mut held = held(server(), 0..1_000, begun);
        assert!(held.due(at(begun, 48), usize::MAX).is_empty());
        let middle = held.due(at(begun, 56), usize::MAX).len();
        assert!((300..700).contains(&middle), "{middle}");
        assert_eq!(held.due(at(begun, 65), usize::MAX).len(), 1_000 - middle);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn no_more_are_taken_than_may_be_and_the_others_keep_their_turn() {
        let begun = Instant::now();
        let mut held = held(server(), 0..10, begun);
        let (first, rest) = (held.due(at(begun, 76), 4), held.due(at(begun, 76), 100));
        assert_eq!((first.len(), rest.len()), (4, 6));
        assert_eq!(cids(&first.into_iter().chain(rest).collect::<Vec<_>>()), Vec::from_iter(0..10));
    }

    #[test]
    fn who_is_gone_is_not_due_and_a_number_that_comes_again_is_another() {
        let begun = Instant::now();
        let (one, two) = (server(), server());
        let mut held = held(one, [1, 2], begun);
        held.hold(Renewable::fake(two, 1, LIFE..=LIFE), begun);
        held.forget(&Key { server: one, cid: 1 });
        held.forget(&Key { server: one, cid: 7 });
        held.hold(Renewable::fake(one, 2, LIFE..=LIFE), at(begun, 50));
        assert_eq!(held.len(), 2);
        let due = held.due(at(begun, 76), usize::MAX);
        assert_eq!(due.iter().map(|due| due.renewable.server).collect::<Vec<_>>(), [two]);
        assert_eq!(cids(&held.due(at(begun, 126), usize::MAX)), [2]);
    }

    #[test]
    fn nothing_is_begun_shortly_before_the_end() {
        let begun = Instant::now();
        let mut held = held(server(), [1, 2], begun);
        for due in held.due(at(begun, 80), usize::MAX) {
            held.put_back(due, at(begun, 97));
        }
        assert_eq!(held.len(), 2);
        assert_eq!(held.due(at(begun, 97), 1).len(), 1);
        assert!(held.due(at(begun, 99), usize::MAX).is_empty(), "its server closes it now");
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn who_has_waited_until_the_end_has_a_last_chance() {
        let begun = Instant::now();
        let mut held = held(server(), 0..10, begun);
        let some = held.due(at(begun, 80), 5);
        assert!(held.last(at(begun, 96)).is_empty());
        assert_eq!(held.last(at(begun, 97)).len(), 5);
        for due in some {
            held.put_back(due, at(begun, 95));
        }
        assert_eq!(held.due(at(begun, 95), 3).len(), 3);
        // Who would be due after his end is so at his last chance, and has it.
        for due in held.due(at(begun, 95), 1) {
            held.put_back(due, at(begun, 99));
        }
        let look = held.look(at(begun, 97), 10);
        assert_eq!((look.last.len(), look.due.len(), held.len()), (2, 0, 0));
        assert!(look.last.iter().all(|due| due.is_last(at(begun, 97))));
        assert!(held.by_time.is_empty() && held.by_end.is_empty());
    }

    #[test]
    fn of_a_grant_whose_life_is_not_known_the_shortest_counts_and_it_is_tried_until_the_longest_is_over()
     {
        let begun = Instant::now();
        let mut held = Held::default();
        held.hold(Renewable::fake(server(), 1, LIFE / 2..=LIFE), begun);
        assert!(held.due(at(begun, 23), usize::MAX).is_empty());
        for due in held.due(at(begun, 80), usize::MAX) {
            held.put_back(due, at(begun, 90));
        }
        assert_eq!(held.due(at(begun, 90), usize::MAX).len(), 1);
    }
}
