//! Latencies of a run. Percentiles are right to 1 %, the maximum and the mean are exact.

use std::time::Duration;

use hdrhistogram::CreationError;
use parking_lot::Mutex;

/// More than a month, in microseconds. What takes longer is counted there.
const LONGEST: u64 = 1 << 42;

/// Counts of latencies in microseconds.
#[derive(Debug)]
pub(super) struct Histogram(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    all: hdrhistogram::Histogram<u64>,
    sum: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Result<Self, CreationError> {
        let all = hdrhistogram::Histogram::new_with_max(LONGEST, 2)?;
        Ok(Self(Mutex::new(Counts { all, sum: 0, max: 0 })))
    }

    pub(super) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.0.lock();
        counts.all.saturating_record(micros);
        counts.sum = counts.sum.saturating_add(micros);
        counts.max = counts.max.max(micros);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.lock().all.len()
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_micros(self.0.lock().max)
    }

    pub(super) fn mean(&self) -> Duration {
        let counts = self.0.lock();
        Duration::from_micros(counts.sum.checked_div(counts.all.len()).unwrap_or(0))
    }

    /// The latency that `share` (0 to 1) of all stayed within.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        let counts = self.0.lock();
        Duration::from_micros(counts.all.value_at_quantile(share).min(counts.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let histogram = Histogram::new().unwrap();
        assert_eq!(histogram.percentile(0.5), Duration::ZERO);
        for millis in 1..=1_000 {
            histogram.record(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = histogram.percentile(share).as_secs_f64() * 1e3;
            assert!((found / millis - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!(histogram.percentile(1.0), Duration::from_secs(1));
        assert_eq!(histogram.max(), Duration::from_secs(1));
        assert_eq!(histogram.mean(), Duration::from_micros(500_500));
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 1_001);
    }
}
