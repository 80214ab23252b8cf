//! How many may be renewed: a small share of the logins that have been decided here in a second, so that
//! whoever comes by himself is not held up; but as many as fall due, or grants would end that nobody renews.

use std::time::{Duration, Instant};

/// Renewals in a second, whatever has been seen.
const LEAST: f64 = 20.0;

/// Of the most logins that were decided in a second, one in so many may be a renewal.
const SHARE: f64 = 10.0;

/// How long what was seen counts for: then it is half.
const HALF_LIFE: Duration = Duration::from_secs(3_600);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// The most decisions in a second.
    peak: f64,
    /// What may be renewed now.
    credit: f64,
    noted: Instant,
    granted: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { peak: 0.0, credit: 0.0, noted: now, granted: now }
    }

    /// Notes so many decisions since the last time.
    pub(super) fn note(&mut self, decisions: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.noted).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        self.noted = now;
        let rate = precise(decisions) / passed;
        let faded = self.peak * 0.5_f64.powf(passed / HALF_LIFE.as_secs_f64());
        self.peak = faded.max(rate);
    }

    /// How many may be renewed now, where so many fall due in a second.
    pub(super) fn allowance(&mut self, now: Instant, demand: f64) -> usize {
        let passed = now.saturating_duration_since(self.granted).as_secs_f64();
        self.granted = now;
        let rate = (self.peak / SHARE).max(LEAST).max(demand);
        // What was not used in a second is lost.
        self.credit = (self.credit + rate * passed).min(rate);
        whole(self.credit)
    }

    /// Uses up so many.
    pub(super) fn spend(&mut self, renewals: usize) {
        self.credit -= precise(renewals as u64);
    }
}

#[allow(clippy::cast_precision_loss, reason = "no count here has 53 bits")]
fn precise(count: u64) -> f64 {
    count as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of renewals is small and not negative here"
)]
fn whole(count: f64) -> usize {
    count.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begun: Instant, millis: u64) -> Instant {
        begun + Duration::from_millis(millis)
    }

    #[test]
    fn a_few_a_second_without_anything_seen_and_no_more_after_a_rest() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        assert_eq!(pace.allowance(at(begun, 500), 0.0), 10);
        pace.spend(10);
        assert_eq!(pace.allowance(at(begun, 1_000), 0.0), 10);
        assert_eq!(pace.allowance(at(begun, 60_000), 0.0), 20);
        pace.spend(20);
        assert_eq!(pace.allowance(at(begun, 60_000), 0.0), 0);
    }

    #[test]
    fn a_share_of_the_most_that_was_seen() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        pace.note(500, at(begun, 500));
        pace.note(0, at(begun, 1_000));
        assert_eq!(pace.allowance(at(begun, 2_000), 0.0), 99);
        pace.note(0, at(begun, 7_201_000));
        let quarter = pace.allowance(at(begun, 7_202_000), 0.0);
        assert!((24..=25).contains(&quarter), "{quarter}");
        assert_eq!(pace.allowance(at(begun, 7_203_000), 40.0), 40, "no fewer than fall due");
    }
}
