//! What is known of one tenant's connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::connections::ConnectionId;

/// How long it is good for what servers have said.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(1);

/// How often a tenant is seen to be full before somebody is refused: a server may not have noticed yet who has
/// gone.
const SEEN_FULL: usize = 3;

/// From a grant until its connection is in the server's list, or the server has let it go, at most.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// For how long it is kept what servers have said last, while they say no more.
const KEPT_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Known {
    /// When servers were asked, and how many they listed; so many times of late, the last one at the end.
    looks: VecDeque<(Instant, usize)>,
    /// What they listed the last time.
    listed: BTreeSet<ConnectionId>,
    /// While they cannot be asked.
    blind: Option<Blind>,
    /// Whether it is known, or is given up to know, who is there besides.
    is_counted: bool,
    /// Who took a place since they were asked, or just before.
    entered: BTreeMap<ConnectionId, Entry>,
    /// How many have been heard of.
    heard: u64,
}

/// One who took a place.
#[derive(Debug)]
struct Entry {
    at: Instant,
    /// Its number among those that have been heard of.
    heard: Option<u64>,
}

/// That servers cannot be asked.
#[derive(Debug, Clone, Copy)]
struct Blind {
    /// Since when, or when it was counted from nothing last.
    since: Instant,
    /// When it was seen last.
    seen: Instant,
}

impl Known {
    /// Takes a place, which is its own once all instances have heard of it.
    pub(super) fn enters(&mut self, id: ConnectionId) {
        self.entered.entry(id).or_insert_with(|| Entry { at: Instant::now(), heard: None });
    }

    /// What all instances are told comes to them in one order.
    pub(super) fn hears(&mut self, id: ConnectionId) {
        let entry = self.entered.entry(id);
        let entry = entry.or_insert_with(|| Entry { at: Instant::now(), heard: None });
        if entry.heard.is_none() {
            entry.heard = Some(self.heard);
            self.heard += 1;
        }
    }

    pub(super) fn leaves(&mut self, id: &ConnectionId) {
        self.entered.remove(id);
    }

    pub(super) fn has_heard_of(&self, id: &ConnectionId) -> bool {
        self.entered.get(id).is_none_or(|entry| entry.heard.is_some())
    }

    /// Whether its place is one of so many, those who were heard of before it going first.
    pub(super) fn is_within(&self, id: &ConnectionId, most: u64) -> bool {
        let mine = self.entered.get(id).and_then(|entry| entry.heard).unwrap_or(u64::MAX);
        let first = self.entered.iter().filter(|(other, entry)| {
            entry.heard.is_some_and(|heard| heard < mine) && !self.listed.contains(*other)
        });
        let listed = self.listed.iter().filter(|other| *other != id);
        u64::try_from(first.count() + listed.count()).unwrap_or(u64::MAX) < most
    }

    /// Who was let in and is not in this list.
    pub(super) fn unlisted(&self, listed: &BTreeSet<ConnectionId>) -> Vec<ConnectionId> {
        self.entered.keys().filter(|id| !listed.contains(*id)).cloned().collect()
    }

    /// How many connections there are.
    pub(super) fn count(&self) -> u64 {
        let unlisted = self.entered.keys().filter(|id| !self.listed.contains(*id)).count();
        u64::try_from(self.listed.len() + unlisted).unwrap_or(u64::MAX)
    }

    /// Whether there is room for one who arrived at this time, if that is known. That there is room is known for a
    /// while; that there is none, once servers were asked often enough since then, and listed as many each time:
    /// of those who were let in since they were asked some may have gone again.
    pub(super) fn answer(&self, most: u64, arrived: Instant) -> Option<bool> {
        let &(looked, _) = self.looks.back()?;
        if self.count() < most {
            return (looked >= arrived || looked.elapsed() < KNOWN_FOR).then_some(true);
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let full = |&&(looked, listed): &&(Instant, usize)| looked >= arrived && listed >= most;
        (self.looks.iter().filter(full).count() >= SEEN_FULL).then_some(false)
    }

    /// Takes in what servers say to a question that `begun` then.
    pub(super) fn learn(
        &mut self,
        begun: Instant,
        listed: BTreeSet<ConnectionId>,
        gone: &[ConnectionId],
    ) {
        (self.blind, self.is_counted) = (None, true);
        self.looks.push_back((begun, listed.len()));
        if self.looks.len() > SEEN_FULL {
            self.looks.pop_front();
        }
        self.listed = listed;
        // Whoever was let in long ago and is not listed is gone as well.
        self.entered.retain(|id, entry| entry.at.elapsed() < UNDER_WAY && !gone.contains(id));
    }

    pub(super) fn learn_nothing(&mut self) {
        let seen = Instant::now();
        // What nobody has asked about for long may have been well meanwhile.
        let before = self.blind.filter(|blind| blind.seen.elapsed() < KEPT_FOR);
        self.blind = Some(Blind { since: before.map_or(seen, |blind| blind.since), seen });
    }

    pub(super) fn asked_in_vain(&self) -> bool {
        self.blind.is_some_and(|blind| blind.seen.elapsed() < KNOWN_FOR)
    }

    /// Whether somebody may come in while servers do not say how many there are. What they said last holds
    /// for a while, together with all who were let in since then; after that it is counted from nothing, so
    /// that nobody waits for a place of one who may have gone long ago.
    pub(super) fn guess(&mut self, most: u64) -> bool {
        let Some(blind) = &mut self.blind else { return false };
        if blind.since.elapsed() >= KEPT_FOR {
            blind.since = Instant::now();
            self.is_counted = true;
            self.listed.clear();
            self.entered.clear();
        }
        self.is_counted && self.count() < most
    }

    /// Whether a next login could need it.
    pub(super) fn is_of_use(&self) -> bool {
        let lately = |at: Option<Instant>, span| at.is_some_and(|at: Instant| at.elapsed() < span);
        lately(self.looks.back().map(|&(looked, _)| looked), KEPT_FOR)
            || lately(self.blind.map(|blind| blind.seen), KEPT_FOR)
            || self.entered.values().any(|entry| entry.at.elapsed() < UNDER_WAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(cid: u64) -> ConnectionId {
        ConnectionId { server: "N".to_owned(), cid }
    }

    fn ago(millis: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_millis(millis)).expect("a time")
    }

    fn looked(millis: u64, listed: &[u64]) -> Known {
        let mut known = Known::default();
        known.learn(ago(millis), listed.iter().copied().map(id).collect(), &[]);
        known
    }

    #[test]
    fn room_is_known_for_a_second_and_that_there_is_none_for_those_who_came_before() {
        assert_eq!(Known::default().answer(9, Instant::now()), None);
        let mut known = looked(100, &[1, 2]);
        assert_eq!(known.answer(3, Instant::now()), Some(true));
        known.enters(id(2));
        assert_eq!(known.answer(3, Instant::now()), Some(true), "it is listed");
        known.enters(id(3));
        assert_eq!(known.answer(3, ago(200)), None, "the third may have gone");
        for millis in [50, 40, 30] {
            assert_eq!(known.answer(3, ago(200)), None, "a server may not know yet who has gone");
            known.learn(ago(millis), [id(1), id(2), id(3)].into(), &[]);
        }
        assert_eq!(known.answer(3, ago(200)), Some(false));
        assert_eq!(known.answer(3, ago(45)), None, "who came since then has been seen full twice");
        assert_eq!(looked(1_100, &[]).answer(3, Instant::now()), None);
        assert_eq!(looked(1_100, &[]).answer(3, ago(1_200)), Some(true), "it took long");
    }

    #[test]
    fn who_was_let_in_counts_until_it_is_listed_or_gone() {
        let mut known = looked(0, &[]);
        known.enters(id(1));
        known.enters(id(2));
        assert_eq!(known.unlisted(&[id(1)].into()), [id(2)]);
        known.learn(Instant::now(), [id(1)].into(), &[]);
        assert_eq!(known.count(), 2, "the second is under way");
        known.learn(Instant::now(), [id(1)].into(), &[id(2)]);
        assert_eq!(known.count(), 1, "its server does not know it");
        known.entered.insert(id(3), Entry { at: ago(5_100), heard: None });
        known.learn(Instant::now(), [id(1)].into(), &[]);
        assert_eq!(known.count(), 1, "it was let in long ago");
    }

    /// Two instances that take the last place at the same time.
    #[test]
    fn who_was_heard_of_first_has_the_place() {
        let (mut here, mut there) = (looked(0, &[1]), looked(0, &[1]));
        here.enters(id(2));
        there.enters(id(3));
        assert!(!here.has_heard_of(&id(2)));
        for known in [&mut here, &mut there] {
            known.hears(id(3));
            known.hears(id(2));
            assert!(known.has_heard_of(&id(2)) && known.has_heard_of(&id(3)));
            known.hears(id(3));
            assert!(known.is_within(&id(3), 2) && !known.is_within(&id(2), 2));
            assert!(known.is_within(&id(2), 3));
            assert_eq!(known.count(), 3);
            known.leaves(&id(2));
            assert_eq!(known.count(), 2);
            known.learn(Instant::now(), [id(1), id(3)].into(), &[]);
            assert!(known.is_within(&id(3), 2), "it is listed already");
        }
    }

    fn come(known: &mut Known, from: u64) -> usize {
        let come = (from..from + 100).filter(|&cid| {
            let has_room = known.guess(3);
            if has_room {
                known.enters(id(cid));
            }
            has_room
        });
        come.count()
    }

    fn blind(since: u64, seen: u64) -> Option<Blind> {
        Some(Blind { since: ago(since), seen: ago(seen) })
    }

    /// What a flood lets in while nobody can be asked.
    #[test]
    fn without_servers_as_many_come_in_as_there_was_room_for() {
        let mut known = looked(2_000, &[1]);
        assert_eq!(come(&mut known, 10), 0, "they can be asked");
        known.learn_nothing();
        assert!(known.asked_in_vain());
        assert_eq!(come(&mut known, 10), 2);
        known.blind = blind(10_100, 100);
        assert_eq!(come(&mut known, 200), 3, "from nothing, after a while");
        assert_eq!(come(&mut known, 400), 0);
        known.blind = blind(10_100, 100);
        known.learn_nothing();
        assert_eq!(come(&mut known, 600), 3);
        known.learn(Instant::now(), [id(1)].into(), &[]);
        assert!(!known.asked_in_vain() && known.blind.is_none());
    }

    /// A tenant that was full and quiet for long gets no more by a moment without an answer.
    #[test]
    fn the_while_begins_when_servers_cannot_be_asked() {
        let mut known = looked(20_000, &[1, 2, 3]);
        known.learn_nothing();
        assert_eq!(come(&mut known, 10), 0);
        known.blind = blind(60_000, 10_100);
        known.learn_nothing();
        assert_eq!(come(&mut known, 10), 0, "nobody asked in between");
        let mut new = Known::default();
        new.learn_nothing();
        assert_eq!(come(&mut new, 10), 0, "of whom nothing is known");
        new.blind = blind(10_100, 100);
        assert_eq!(come(&mut new, 10), 3);
    }
}
