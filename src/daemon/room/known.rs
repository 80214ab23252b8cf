//! What is known of one tenant's connections.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::provision::connections::ConnectionId;

/// How long it is good for what servers have said.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(1);

/// From a grant until its connection is in the server's list, or the server has let it go, at most.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// For how long it is kept what servers have said last, while they say no more.
const KEPT_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Known {
    /// When servers were asked.
    looked: Option<Instant>,
    /// What they listed.
    listed: BTreeSet<ConnectionId>,
    /// When they could not be asked.
    in_vain: Option<Instant>,
    /// From when on it was counted without them.
    guessed_from: Option<Instant>,
    /// Who was let in since they were asked, or just before.
    entered: BTreeMap<ConnectionId, Instant>,
}

impl Known {
    pub(super) fn enters(&mut self, id: ConnectionId) {
        self.entered.entry(id).or_insert_with(Instant::now);
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

    /// Whether so many are listed: of those who were let in since then some may have gone again.
    pub(super) fn is_full(&self, most: u64) -> bool {
        u64::try_from(self.listed.len()).unwrap_or(u64::MAX) >= most
    }

    /// Whether there is room for one who arrived at this time, if that is known: that there is none is for
    /// those alone who arrived before it was looked.
    pub(super) fn answer(&self, most: u64, arrived: Instant) -> Option<bool> {
        let looked = self.looked?;
        if self.count() < most {
            return (looked.elapsed() < KNOWN_FOR).then_some(true);
        }
        (self.is_full(most) && looked >= arrived).then_some(false)
    }

    /// Takes in what servers say to a question that `begun` then.
    pub(super) fn learn(
        &mut self,
        begun: Instant,
        listed: BTreeSet<ConnectionId>,
        gone: &[ConnectionId],
    ) {
        (self.looked, self.guessed_from, self.in_vain) = (Some(begun), None, None);
        self.listed = listed;
        // Whoever was let in long ago and is not listed is gone as well.
        self.entered.retain(|id, at| at.elapsed() < UNDER_WAY && !gone.contains(id));
    }

    pub(super) fn learn_nothing(&mut self) {
        self.in_vain = Some(Instant::now());
    }

    pub(super) fn asked_in_vain(&self) -> bool {
        self.in_vain.is_some_and(|at| at.elapsed() < KNOWN_FOR)
    }

    /// Whether there may be room, while servers do not say. What they said last holds for a while, together
    /// with all who were let in since then; after that it is counted from nothing, so that nobody waits for
    /// a place of one who may have gone long ago.
    pub(super) fn guess(&mut self, most: u64) -> bool {
        let from = self.guessed_from.or(self.looked);
        if from.is_none_or(|from| from.elapsed() >= KEPT_FOR) {
            self.guessed_from = Some(Instant::now());
            self.listed.clear();
            self.entered.clear();
        }
        self.count() < most
    }

    /// Whether a next login could need it.
    pub(super) fn is_of_use(&self) -> bool {
        let lately = |at: Option<Instant>, span| at.is_some_and(|at: Instant| at.elapsed() < span);
        lately(self.looked, KEPT_FOR)
            || lately(self.in_vain, KEPT_FOR)
            || self.entered.values().any(|at| at.elapsed() < UNDER_WAY)
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
        known.learn(ago(50), [id(1), id(2), id(3)].into(), &[]);
        assert_eq!(known.answer(3, ago(200)), Some(false));
        assert_eq!(known.answer(3, Instant::now()), None, "somebody may have gone");
        assert_eq!(looked(1_100, &[]).answer(3, Instant::now()), None);
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
        known.entered.insert(id(3), ago(5_100));
        known.learn(Instant::now(), [id(1)].into(), &[]);
        assert_eq!(known.count(), 1, "it was let in long ago");
    }

    /// What a flood lets in while nobody can be asked.
    #[test]
    fn without_servers_as_many_come_in_as_there_was_room_for() {
        let mut known = looked(2_000, &[1]);
        known.learn_nothing();
        assert!(known.asked_in_vain());
        let come = |known: &mut Known, from: u64| {
            let come = (from..from + 100).filter(|&cid| {
                let has_room = known.guess(3);
                if has_room {
                    known.enters(id(cid));
                }
                has_room
            });
            come.count()
        };
        assert_eq!(come(&mut known, 10), 2);
        known.looked = Some(ago(10_100));
        assert_eq!(come(&mut known, 200), 3, "from nothing, after a while");
        assert_eq!(come(&mut known, 400), 0);
        known.guessed_from = Some(ago(10_100));
        assert_eq!(come(&mut known, 600), 3);
        known.learn(Instant::now(), [id(1)].into(), &[]);
        assert!(!known.asked_in_vain() && known.guessed_from.is_none());
        let mut new = Known::default();
        assert_eq!(come(&mut new, 0), 3, "of whom nothing is known");
    }
}
