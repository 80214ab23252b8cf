//! Credentials that were taken away or replaced: what they let in is closed some minutes later, so that
//! programs have time to be given new ones, and not all at once where all were replaced. Every instance
//! comes to the same time for each.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crate::store::{Closes, Effect};

/// No connection outlives its credential by more than this, however long grants live.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Which part of that, or of a grant's shorter life, passes at least, and at most.
const EARLIEST: f64 = 0.5;
const LATEST: f64 = 0.75;

/// For how long at most a connection outlives the credential that it was made with, where grants live for
/// `ttl`.
pub(crate) fn credential_outlived(ttl: Duration) -> Duration {
    ttl.min(LONGEST)
}

/// What is to be closed later, by when and by the change's number.
#[derive(Debug)]
pub(super) struct Withdrawals {
    grace: Duration,
    waiting: BTreeMap<(Instant, i64), Effect>,
    known: HashSet<i64>,
}

impl Withdrawals {
    /// For grants that live for `ttl` at most.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { grace: credential_outlived(ttl), waiting: BTreeMap::new(), known: HashSet::new() }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets those whose time has come close what they concern, and keeps the others until then.
    pub(super) fn sort_out(&mut self, effects: &mut Vec<Effect>, now: Instant) {
        for effect in effects.iter_mut().filter(|effect| effect.revokes) {
            let grace = self.grace_of(effect.seq);
            if effect.age >= grace {
                effect.closes = Closes::Everything;
            } else if self.known.insert(effect.seq) {
                let (closes, pushes) = (Closes::Everything, false);
                let later = Effect { age: grace, closes, pushes, ..effect.clone() };
                self.waiting.insert((now + grace.saturating_sub(effect.age), effect.seq), later);
            }
        }
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let ((at, seq), effect) = first.remove_entry();
            self.known.remove(&seq);
            effects.push(Effect { age: effect.age + now.saturating_duration_since(at), ..effect });
        }
    }

    /// Of a change that has this number: for all instances the same, and another for the next.
    fn grace_of(&self, seq: i64) -> Duration {
        let spread = seq.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let share = f64::from(u32::try_from(spread).unwrap_or_default()) / f64::from(u32::MAX);
        self.grace.mul_f64(EARLIEST + (LATEST - EARLIEST) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EffectOn;

    const MINUTE: Duration = Duration::from_secs(60);

    fn effect(seq: i64, age: Duration, revokes: bool) -> Effect {
        Effect {
            seq,
            age,
            on: EffectOn::User("ada".to_owned()),
            account: None,
            closes: Closes::Nothing,
            revokes,
            pushes: false,
        }
    }

    fn sorted(it: &mut Withdrawals, effects: &[Effect], now: Instant) -> Vec<(i64, Closes)> {
        let mut effects = effects.to_vec();
        it.sort_out(&mut effects, now);
        effects.iter().map(|effect| (effect.seq, effect.closes)).collect()
    }

    #[test]
    fn nothing_is_closed_at_once_and_everything_within_a_quarter_of_an_hour() {
        let now = Instant::now();
        let mut it = Withdrawals::new(60 * MINUTE);
        let effects: Vec<Effect> = (1..=400).map(|seq| effect(seq, MINUTE, true)).collect();
        let nothing = |(_, closes): &(i64, Closes)| *closes == Closes::Nothing;
        assert!(sorted(&mut it, &effects, now).iter().all(nothing));
        assert!(sorted(&mut it, &[], now + 6 * MINUTE).is_empty());
        let half = sorted(&mut it, &[], now + 8 * MINUTE).len();
        assert!((100..300).contains(&half), "{half}");
        let last = it.next().unwrap() + 4 * MINUTE;
        let rest = sorted(&mut it, &[], last);
        assert_eq!(half + rest.len(), 400);
        assert!(rest.iter().all(|(_, closes)| *closes == Closes::Everything));
        assert_eq!(it.next(), None);
    }

    #[test]
    fn each_is_closed_once_and_by_the_age_that_it_has_then() {
        let now = Instant::now();
        let mut it = Withdrawals::new(10 * MINUTE);
        for _ in 0..3 {
            sorted(&mut it, &[effect(7, Duration::ZERO, true)], now);
        }
        let at = it.next().unwrap();
        let mut effects = Vec::new();
        it.sort_out(&mut effects, at + MINUTE);
        assert_eq!(effects.len(), 1);
        assert_eq!(effects[0].age, at + MINUTE - now);
        assert!((5 * MINUTE..8 * MINUTE + MINUTE).contains(&effects[0].age), "{effects:?}");
    }

    #[test]
    fn what_is_old_enough_closes_now_and_what_is_about_no_credential_is_left_alone() {
        let mut it = Withdrawals::new(10 * MINUTE);
        let old = [effect(1, 9 * MINUTE, true), effect(2, 9 * MINUTE, false)];
        let wanted = [(1, Closes::Everything), (2, Closes::Nothing)];
        assert_eq!(sorted(&mut it, &old, Instant::now()), wanted);
        assert_eq!(it.next(), None);
    }
}
