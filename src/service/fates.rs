//! What became of answers that were settled, for as long as a server may still have something to say of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::replies::Key;
use crate::authorize::Reply;

/// What became of a connection that a server asked about.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was shown as granted, by this answer, which took so long.
    Granted(Box<(Reply, Duration)>),
    /// Its server has waited in vain.
    GivenUp,
}

/// The fates of those who were answered last. Clones are the same ones.
#[derive(Debug, Clone)]
pub(super) struct Fates {
    kept_for: Duration,
    most: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    by_key: HashMap<Key, (Instant, Fate)>,
    /// Oldest first. One that has been taken, or noted anew, has another time above or none.
    by_time: VecDeque<(Instant, Key)>,
}

impl Fates {
    /// Keeps each for so long, and so many at most.
    pub(super) fn new(kept_for: Duration, most: usize) -> Self {
        Self { kept_for, most, state: Arc::default() }
    }

    /// Keeps it in mind; gives what was known before.
    pub(super) fn note(&self, key: Key, fate: Fate, now: Instant) -> Option<Fate> {
        let mut state = self.state.lock();
        if state.by_time.len() >= self.most {
            state.forget_first();
        }
        state.by_time.push_back((now, key));
        state.by_key.insert(key, (now, fate)).map(|(_, before)| before)
    }

    /// Takes it out.
    pub(super) fn take(&self, key: &Key) -> Option<Fate> {
        self.state.lock().by_key.remove(key).map(|(_, fate)| fate)
    }

    pub(super) fn has_given_up(&self, key: &Key) -> bool {
        matches!(self.state.lock().by_key.get(key), Some((_, Fate::GivenUp)))
    }

    /// Forgets those that nobody says anything of any more.
    pub(super) fn sweep(&self, now: Instant) {
        let mut state = self.state.lock();
        let is_over = |at: Instant| now.saturating_duration_since(at) >= self.kept_for;
        while state.by_time.front().is_some_and(|&(at, _)| is_over(at)) {
            state.forget_first();
        }
    }
}

impl State {
    fn forget_first(&mut self) {
        let Some((at, key)) = self.by_time.pop_front() else { return };
        if self.by_key.get(&key).is_some_and(|&(noted, _)| noted == at) {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT_FOR: Duration = Duration::from_secs(10);

    fn key(cid: u64) -> Key {
        let server = "ND5W3TLFEKB6IPC4C4XRQ5R3BOTGEOTUE7G3DFQ4UNKGI67FTVB2DRW5";
        (server.parse().unwrap(), cid)
    }

    #[test]
    fn each_is_known_for_its_time_and_no_longer() {
        let (fates, begin) = (Fates::new(KEPT_FOR, 100), Instant::now());
        assert!(fates.note(key(1), Fate::GivenUp, begin).is_none());
        let later = begin + KEPT_FOR / 2;
        fates.note(key(2), Fate::GivenUp, later);
        fates.sweep(later);
        assert!(fates.has_given_up(&key(1)) && fates.has_given_up(&key(2)));
        fates.sweep(begin + KEPT_FOR);
        assert!(!fates.has_given_up(&key(1)) && fates.has_given_up(&key(2)));
        assert!(matches!(fates.take(&key(2)), Some(Fate::GivenUp)));
        assert!(fates.take(&key(2)).is_none());
        fates.sweep(later + KEPT_FOR);
        assert_eq!(fates.state.lock().by_time.len(), 0);
    }

    #[test]
    fn what_is_noted_anew_has_its_whole_time_again() {
        let (fates, begin) = (Fates::new(KEPT_FOR, 100), Instant::now());
        fates.note(key(1), Fate::GivenUp, begin);
        let again = begin + KEPT_FOR / 2;
        assert!(matches!(fates.note(key(1), Fate::GivenUp, again), Some(Fate::GivenUp)));
        fates.sweep(begin + KEPT_FOR);
        assert!(fates.has_given_up(&key(1)));
    }

    #[test]
    fn the_oldest_gives_way_where_there_are_too_many() {
        let (fates, now) = (Fates::new(KEPT_FOR, 2), Instant::now());
        for cid in 1..=3 {
            fates.note(key(cid), Fate::GivenUp, now);
        }
        let known: Vec<bool> = (1..=3).map(|cid| fates.has_given_up(&key(cid))).collect();
        assert_eq!(known, [false, true, true]);
    }
}
