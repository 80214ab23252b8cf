//! How old changes count as, by which connections that came after one are told from others: what this
//! instance granted before it knew of a change counts as older, however long a round took to be done.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::store::Effect;

/// Where this instance was not told of changes one by one, it may have granted by the old rows for
/// this long.
pub(super) const UNTOLD: Duration = Duration::from_secs(10);

/// See the module. It outlives rounds that fail, and a run that panics.
#[derive(Debug)]
pub(super) struct Ages {
    /// Until when nothing was left to be done.
    done: Instant,
    /// Whether changes since then may not have been told, and for how long before none were read: by what
    /// was known then, this instance may have let in who was seen lately all the time.
    owing: Option<Duration>,
    /// Since when this instance has decided by changes that are yet to be carried through.
    known: HashMap<i64, Instant>,
}

impl Ages {
    pub(super) fn new() -> Self {
        Self { done: Instant::now(), owing: None, known: HashMap::new() }
    }

    /// Everything so far has been done.
    pub(super) fn done(&mut self) {
        self.done = Instant::now();
        self.owing = None;
        self.known.clear();
    }

    /// There may be changes that nobody has told, and none were read for so long.
    pub(super) fn untold(&mut self, unread: Duration) {
        self.owing = self.owing.max(Some(unread));
    }

    /// These were told: all that was granted up to now counts as older.
    pub(super) fn told(&mut self, effects: &[Effect]) {
        let now = Instant::now();
        self.known.extend(effects.iter().map(|effect| (effect.seq, now)));
    }

    /// Makes changes as young as what has been granted by the rows before them.
    pub(super) fn count(&mut self, effects: &mut [Effect]) {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.done);
        let owed = self.owing.map(|unread| UNTOLD.saturating_add(since).saturating_add(unread));
        for effect in effects {
            if owed.is_some_and(|owed| effect.age < owed) {
                self.known.entry(effect.seq).or_insert(now);
            }
            if let Some(since) = self.known.get(&effect.seq) {
                effect.age = effect.age.min(now.saturating_duration_since(*since));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Closes, EffectOn};

    fn effects(ages: &[u64]) -> Vec<Effect> {
        let of = |(seq, age): (i64, &u64)| Effect {
            seq,
            age: Duration::from_secs(*age),
            on: EffectOn::User("ada".to_owned()),
            account: None,
            closes: Closes::Everything,
            revokes: false,
            pushes: false,
        };
        (1..).zip(ages).map(of).collect()
    }

    fn counted(ages: &mut Ages, real: &[u64]) -> Vec<u64> {
        let mut effects = effects(real);
        ages.count(&mut effects);
        effects.iter().map(|effect| effect.age.as_secs()).collect()
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn what_came_while_nothing_was_done_is_as_young_as_can_be() {
        let mut ages = Ages { done: ago(100), ..Ages::new() };
        assert_eq!(counted(&mut ages, &[5, 105, 115]), [5, 105, 115]);
        ages.untold(Duration::ZERO);
        assert_eq!(counted(&mut ages, &[5, 105, 115]), [0, 0, 115]);
        ages.done();
        assert_eq!(counted(&mut ages, &[5, 105, 115]), [5, 105, 115]);
        ages.untold(Duration::ZERO);
        assert_eq!(counted(&mut ages, &[5, 105, 115]), [0, 105, 115]);
        ages.untold(Duration::from_secs(100));
        assert_eq!(counted(&mut ages, &[5, 105, 115]), [0, 0, 115], "nothing was read for long");
    }

    #[test]
    fn a_round_that_fails_leaves_ages_as_they_were_then() {
        let mut ages = Ages::new();
        ages.told(&effects(&[3]));
        assert_eq!(counted(&mut ages, &[3, 4]), [0, 4]);
        ages.known.insert(1, ago(20));
        assert_eq!(counted(&mut ages, &[23, 24]), [20, 24]);
        ages.told(&effects(&[40]));
        assert_eq!(counted(&mut ages, &[40, 41]), [0, 41]);
    }
}
