//! Which connections are to be renewed, and when.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NOTICE;
use crate::authorize::Renewable;
use crate::keys::ServerId;

/// Connections that are kept in mind at most.
const MOST: usize = 1_000_000;

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
    /// Another instance has granted it.
    is_adopted: bool,
    ends: Instant,
    /// When its grant has its last moments, as far as is known.
    last: Instant,
}

impl Due {
    fn key(&self) -> Key {
        Key { server: self.renewable.server, cid: self.renewable.cid }
    }

    /// Its part of the demand: once in the earliest part of its life, and somewhat more, so that whoever had to
    /// wait for others is not put off for ever.
    fn demand(&self) -> u64 {
        let life = self.renewable.life.start().mul_f64(EARLIEST).as_secs().max(1);
        1_500_000 / life
    }

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
#[derive(Debug)]
pub(super) struct Held {
    most: usize,
    by_key: HashMap<Key, Entry>,
    /// A number breaks ties.
    by_time: BTreeMap<(Instant, u64), Key>,
    by_end: BTreeMap<(Instant, u64), Key>,
    /// Those that others have granted: they give way to this instance's own.
    adopted: HashSet<Key>,
    next: u64,
    spread: RandomState,
    /// How many fall due in a second while all of them are renewed, in millionths.
    demand: u64,
    pub(super) forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    due: Due,
    number: u64,
    at: Instant,
}

impl Default for Held {
    fn default() -> Self {
        Self::of(MOST)
    }
}

impl Held {
    /// Keeps so many at most.
    fn of(most: usize) -> Self {
        Self {
            most,
            by_key: HashMap::new(),
            by_time: BTreeMap::new(),
            by_end: BTreeMap::new(),
            adopted: HashSet::new(),
            next: 0,
            spread: RandomState::new(),
            demand: 0,
            forgotten: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// How many have to be renewed in a second, so that none has to wait until its end.
    pub(super) fn demand(&self) -> f64 {
        Duration::from_micros(self.demand).as_secs_f64()
    }

    /// Keeps a connection in mind.
    pub(super) fn hold(&mut self, renewable: Arc<Renewable>) {
        self.keep(renewable, false);
    }

    /// Keeps one in mind that another instance has granted.
    pub(super) fn adopt(&mut self, renewable: Arc<Renewable>) {
        self.keep(renewable, true);
    }

    fn keep(&mut self, renewable: Arc<Renewable>, is_adopted: bool) {
        let (life, longest) = renewable.life.clone().into_inner();
        let begun = renewable.begun;
        let share = self.spread.hash_one((renewable.server, renewable.cid));
        let share = f64::from(u32::try_from(share >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        let now = Instant::now();
        let at = begun + life.mul_f64(EARLIEST + (LATEST - EARLIEST) * share);
        let mut ends = begun + longest;
        // Whether one that another instance has granted ends before is not known.
        let mut soonest = if begun.elapsed() < life { begun + life } else { ends };
        if is_adopted && ends <= now {
            // It was granted for longer than grants are now: for how much longer is not known.
            (soonest, ends) = (now + LAST, now + longest);
        }
        let last = soonest.checked_sub(LAST).unwrap_or(begun);
        let due = Due { renewable, is_adopted, ends, last };
        self.put_back(due, at.checked_sub(NOTICE).unwrap_or(begun));
    }

    /// The same, to be looked at then, or when it has its last chance.
    pub(super) fn put_back(&mut self, due: Due, at: Instant) {
        let at = if at + TOO_LATE > due.ends { due.last } else { at };
        if self.by_key.len() >= self.most {
            self.forgotten += 1;
            let Some(adopted) = self.adopted.iter().next().copied().filter(|_| !due.is_adopted)
            else {
                return;
            };
            self.forget(&adopted);
        }
        let key = due.key();
        self.demand += due.demand();
        if due.is_adopted {
            self.adopted.insert(key);
        } else {
            self.adopted.remove(&key);
        }
        let number = self.next;
        self.next += 1;
        self.by_time.insert((at, number), key);
        self.by_end.insert((due.last, number), key);
        if let Some(before) = self.by_key.insert(key, Entry { due, number, at }) {
            self.leave(&before);
        }
    }

    fn leave(&mut self, entry: &Entry) {
        self.demand -= entry.due.demand();
        self.by_time.remove(&(entry.at, entry.number));
        self.by_end.remove(&(entry.due.last, entry.number));
    }

    /// Forgets one that is closed.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.adopted.remove(key);
            self.leave(&entry);
        }
    }

    /// Forgets all that a server had.
    pub(super) fn forget_all_of(&mut self, server: ServerId) {
        let gone: Vec<Key> =
            self.by_key.keys().filter(|key| key.server == server).copied().collect();
        gone.iter().for_each(|key| self.forget(key));
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
        self.adopted.remove(&entry.due.key());
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
            held.hold(Renewable::fake(server, cid, now, LIFE..=LIFE));
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
        held.hold(Renewable::fake(two, 1, begun, LIFE..=LIFE));
        held.forget(&Key { server: one, cid: 1 });
        held.forget(&Key { server: one, cid: 7 });
        held.hold(Renewable::fake(one, 2, at(begun, 50), LIFE..=LIFE));
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
        held.hold(Renewable::fake(server(), 1, begun, LIFE / 2..=LIFE));
        assert!(held.due(at(begun, 23), usize::MAX).is_empty());
        for due in held.due(at(begun, 80), usize::MAX) {
            held.put_back(due, at(begun, 90));
        }
        assert_eq!(held.due(at(begun, 90), usize::MAX).len(), 1);
    }

    #[test]
    fn what_others_granted_gives_way() {
        let begun = Instant::now();
        let one = server();
        let mut held = Held::of(3);
        let fake = |cid| Renewable::fake(one, cid, begun, LIFE..=LIFE);
        (1..=4).for_each(|cid| held.adopt(fake(cid)));
        assert_eq!((held.len(), held.forgotten), (3, 1));
        (5..=8).for_each(|cid| held.hold(fake(cid)));
        assert_eq!((held.len(), held.forgotten), (3, 5));
        assert_eq!(cids(&held.due(at(begun, 76), usize::MAX)), [5, 6, 7]);
    }

    /// It was granted when grants lived for longer: nobody knows when it ends.
    #[test]
    fn what_is_older_than_a_grant_can_be_is_due_at_once() {
        let now = Instant::now();
        let begun = now.checked_sub(LIFE * 3).unwrap();
        let mut held = Held::default();
        held.adopt(Renewable::fake(server(), 1, begun, LIFE / 2..=LIFE));
        assert_eq!(held.due(now + NOTICE, usize::MAX).len(), 1);
    }

    #[test]
    fn a_server_that_is_gone_takes_its_connections_with_it() {
        let begun = Instant::now();
        let (one, two) = (server(), server());
        let mut held = held(one, 1..=5, begun);
        held.hold(Renewable::fake(two, 1, begun, LIFE..=LIFE));
        held.forget_all_of(one);
        assert_eq!(held.due(at(begun, 76), usize::MAX).len(), 1);
        assert!(held.by_time.is_empty() && held.by_end.is_empty());
        assert_eq!(held.demand, 0);
    }

    /// As many as nobody else has come for: what is renewed is all that logs in.
    #[test]
    fn a_crowd_that_is_left_to_itself_is_renewed_in_its_time() {
        let mut now = Instant::now();
        let end = now + LIFE * 10;
        let one = server();
        let mut held = held(one, 0..10_000, now);
        let mut pace = super::super::pace::Pace::new(now);
        let (mut renewed, mut late) = (0, 0);
        while now < end {
            now += Duration::from_millis(250);
            let most = pace.allowance(now, held.demand());
            let Look { due, last } = held.look(now, most);
            pace.spend(due.len());
            pace.note((due.len() + last.len()) as u64, now);
            renewed += due.len();
            late += last.len();
            for due in due.into_iter().chain(last) {
                held.hold(Renewable::fake(one, due.renewable.cid, now, LIFE..=LIFE));
            }
        }
        assert_eq!((held.len(), late), (10_000, 0));
        assert!((150_000..200_000).contains(&renewed), "{renewed}");
    }
}
