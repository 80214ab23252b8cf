//! Latencies, counted in buckets whose width is 1/64 of their value at most: percentiles are right
//! to 1.6 %, and recording is one atomic addition, so that it costs nothing beside a login.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets within each power of two, as a power of two.
const PRECISION: u32 = 6;
const STEPS: u64 = 1 << PRECISION;

/// Powers of two above the precision: up to 2^42 µs, more than a month.
const POWERS: u64 = 36;

/// Counts of latencies in microseconds.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: Vec<AtomicU64>,
    count: AtomicU64,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        let buckets = (0..STEPS * (POWERS + 1)).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, count: AtomicU64::new(0), sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(place(micros)).or(self.buckets.last()) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
        self.max.fetch_max(micros, Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_micros(self.max.load(Relaxed))
    }

    pub(super) fn mean(&self) -> Duration {
        Duration::from_micros(self.sum.load(Relaxed).checked_div(self.count()).unwrap_or(0))
    }

    /// The latency that `share` (0 to 1) of all stayed within; the upper end of its bucket, and
    /// never more than the maximum.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        let count = self.count();
        // Truncation is harmless: the product is not negative and at most `count`.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (place, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= wanted {
                return Duration::from_micros(upper_end(place as u64)).min(self.max());
            }
        }
        self.max()
    }
}

fn place(micros: u64) -> usize {
    let power = (u64::BITS - micros.leading_zeros()).saturating_sub(PRECISION + 1);
    let step = micros >> power;
    usize::try_from(u64::from(power) * STEPS + step).unwrap_or(usize::MAX)
}

fn upper_end(place: u64) -> u64 {
    if place < 2 * STEPS {
        return place;
    }
    let power = place / STEPS - 1;
    let step = place - power * STEPS;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_the_bucket_is_narrow() {
        let mut last = 0;
        for micros in (0..300).chain([1_000, 65_535, 65_536, 1_000_000, 60_000_000, 1 << 41]) {
            let at = place(micros);
            let end = upper_end(at as u64);
            assert!(end >= micros, "{micros}: {at} ends at {end}");
            assert!(end - micros <= micros / 64, "{micros}: {at} ends at {end}");
            assert!(at >= last, "{micros}");
            last = at;
        }
        assert!(last < Histogram::new().buckets.len());
    }

    #[test]
    fn percentiles_of_known_values() {
        let histogram = Histogram::new();
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
