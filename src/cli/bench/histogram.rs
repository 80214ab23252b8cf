//! Latencies. Percentiles are right to 1 %, the maximum and the mean are exact.

use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde::{Deserialize, Serialize};

/// More than a month, in microseconds. What takes longer is counted there.
const LONGEST: u64 = 1 << 42;

/// Counts of latencies in microseconds.
#[derive(Debug)]
pub(super) struct Latencies {
    all: Histogram<u64>,
    sum: u64,
    max: u64,
}

/// What people ask of latencies, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

impl Latencies {
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self { all: Histogram::new_with_max(LONGEST, 2)?, sum: 0, max: 0 })
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.all.saturating_record(micros);
        self.sum = self.sum.saturating_add(micros);
        self.max = self.max.max(micros);
    }

    pub(super) fn clear(&mut self) {
        self.all.reset();
        (self.sum, self.max) = (0, 0);
    }

    /// How many took longer.
    pub(super) fn above(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        self.all.count_between(micros.saturating_add(1).min(LONGEST), LONGEST)
    }

    /// The latency that `share` (0 to 1) of all stayed within.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        Duration::from_micros(self.all.value_at_quantile(share).min(self.max))
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let at = |share| millis(self.percentile(share));
        let micros = |micros| millis(Duration::from_micros(micros));
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(self.max),
            mean: micros(self.sum.checked_div(self.all.len()).unwrap_or(0)),
        }
    }
}

/// To the microsecond.
pub(super) fn millis(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// To three places.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let mut latencies = Latencies::new().unwrap();
        assert_eq!(latencies.percentile(0.5), Duration::ZERO);
        assert_eq!(latencies.percentiles(), Percentiles::default());
        for millis in 1..=1_000 {
            latencies.record(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = latencies.percentile(share).as_secs_f64() * 1e3;
            assert!((found / millis - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!(latencies.percentile(1.0), Duration::from_secs(1));
        let all = latencies.percentiles();
        assert_eq!((all.max, all.mean), (1_000.0, 500.5));
        let above = latencies.above(Duration::from_millis(900));
        assert!((90..=110).contains(&above), "{above}");
        assert_eq!(latencies.above(Duration::from_secs(2)), 0);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.all.len(), 1_001);
        latencies.clear();
        assert_eq!((latencies.all.len(), latencies.percentiles().max), (0, 0.0));
    }
}
