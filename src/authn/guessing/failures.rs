//! How often somebody was wrong within the last minute, and how often he wanted to wait: a few
//! numbers, whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time within which failures count. It slides: of the window before, the part counts that is
/// not over yet, as if its failures had been spread evenly.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The failures of one account or one source.
#[derive(Debug)]
pub(super) struct Failures {
    allowance: u32,
    counts: Mutex<Counts>,
    /// Attempts that are being hashed and have nothing against them.
    undecided: AtomicU32,
}

/// What has happened to one account or source. `wrong` are attempts whose password was wrong,
/// `tried` those that had to wait or found no place to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Past {
    pub(super) wrong: u32,
    pub(super) tried: u32,
}

#[derive(Debug, Default)]
struct Counts {
    begun: Option<Instant>,
    current: Past,
    before: Past,
    is_known: bool,
}

impl Failures {
    pub(super) fn new(allowance: u32) -> Self {
        Self { allowance, counts: Mutex::default(), undecided: AtomicU32::new(0) }
    }

    /// How many are free.
    pub(super) fn allowance(&self) -> u32 {
        self.allowance
    }

    pub(super) fn count(&self, now: Instant) -> Past {
        self.at(now, |counts| counts.sliding(now))
    }

    pub(super) fn add_wrong(&self, now: Instant) {
        self.at(now, |counts| counts.current.wrong = counts.current.wrong.saturating_add(1));
    }

    /// Takes back what was counted at that time.
    pub(super) fn take_back_wrong(&self, counted: Instant, now: Instant) {
        self.at(now, |counts| {
            let is_current = counts.begun.is_some_and(|begun| counted >= begun);
            let of = if is_current { &mut counts.current } else { &mut counts.before };
            of.wrong = of.wrong.saturating_sub(1);
        });
    }

    pub(super) fn add_tried(&self, now: Instant) {
        self.at(now, |counts| counts.current.tried = counts.current.tried.saturating_add(1));
    }

    /// Whether the allowance is used up, for the first time since it has been quiet for a window.
    pub(super) fn begins_trouble(&self, now: Instant) -> bool {
        self.at(now, |counts| {
            counts.sliding(now).wrong >= self.allowance
                && !std::mem::replace(&mut counts.is_known, true)
        })
    }

    fn at<T>(&self, now: Instant, act: impl FnOnce(&mut Counts) -> T) -> T {
        let mut counts = self.counts.lock();
        counts.move_to(now);
        act(&mut counts)
    }
}

impl Counts {
    /// Begins the window that `now` is in.
    fn move_to(&mut self, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let over = now.saturating_duration_since(begun);
        if over < WINDOW {
            return;
        }
        let is_next = over < 2 * WINDOW;
        self.before = if is_next { self.current } else { Past::default() };
        self.current = Past::default();
        self.begun = Some(if is_next { begun + WINDOW } else { now });
        self.is_known &= self.before.wrong > 0;
    }

    fn sliding(&self, now: Instant) -> Past {
        let over = self.begun.map_or(WINDOW, |begun| now.saturating_duration_since(begun));
        let left = WINDOW.saturating_sub(over).as_millis();
        let slid = |current: u32, before: u32| {
            let part = u128::from(before) * left / WINDOW.as_millis();
            current.saturating_add(u32::try_from(part).unwrap_or(u32::MAX))
        };
        let Self { current, before, .. } = self;
        Past { wrong: slid(current.wrong, before.wrong), tried: slid(current.tried, before.tried) }
    }
}

/// An attempt that is being hashed, with nothing against it so far.
#[derive(Debug)]
pub(super) struct Undecided(Arc<Failures>);

impl Undecided {
    pub(super) fn begin(failures: Arc<Failures>) -> Self {
        failures.undecided.fetch_add(1, Relaxed);
        Self(failures)
    }

    /// How many more there are.
    pub(super) fn others(&self) -> u32 {
        self.0.undecided.load(Relaxed).saturating_sub(1)
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.0.undecided.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_for_a_minute_and_fades() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failures = Failures::new(10);
        let wrong = |seconds| failures.count(at(seconds)).wrong;
        (0..20).for_each(|_| failures.add_wrong(start));
        assert_eq!(wrong(59), 20);
        assert_eq!(wrong(90), 10);
        failures.add_wrong(at(90));
        assert_eq!(wrong(105), 6);
        assert_eq!(wrong(121), 0);
        assert_eq!(wrong(100_000), 0);
        // Clocks of several threads may be read in any order.
        assert_eq!(wrong(0), 0);
    }

    #[test]
    fn what_is_taken_back_is_that_of_its_own_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failures = Failures::new(10);
        for seconds in [0, 59, 61, 62] {
            failures.add_wrong(at(seconds));
        }
        failures.take_back_wrong(at(59), at(63));
        assert_eq!(failures.count(at(119)).wrong, 2);
        failures.take_back_wrong(at(61), at(119));
        assert_eq!(failures.count(at(119)).wrong, 1);
        // What has faded is not taken from others.
        failures.add_wrong(at(200));
        failures.take_back_wrong(at(62), at(200));
        assert_eq!(failures.count(at(200)).wrong, 1);
    }

    #[test]
    fn who_wants_to_wait_is_not_wrong() {
        let now = Instant::now();
        let failures = Failures::new(1);
        failures.add_tried(now);
        failures.add_tried(now);
        assert_eq!(failures.count(now), Past { wrong: 0, tried: 2 });
        assert!(!failures.begins_trouble(now));
    }

    #[test]
    fn trouble_begins_once_until_it_has_been_quiet() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failures = Failures::new(2);
        let wrong = |seconds| {
            failures.add_wrong(at(seconds));
            failures.begins_trouble(at(seconds))
        };
        assert_eq!([wrong(0), wrong(1), wrong(2), wrong(61)], [false, true, false, false]);
        assert_eq!([wrong(300), wrong(301), wrong(302)], [false, true, false]);
    }
}
