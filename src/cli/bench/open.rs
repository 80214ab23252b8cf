//! The open model: clients come by the clock, whether or not earlier ones are in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Run;

/// How long a thread sleeps at most before it looks whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// Clients that come so often, for a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrivals {
    /// A second.
    pub(super) rate: f64,
    pub(super) count: u64,
}

impl Arrivals {
    /// All that come in so long a time.
    pub(super) fn during(rate: f64, time: Duration) -> Self {
        // Truncation is the intent: of a rate and a time that the command line bounds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = (rate * time.as_secs_f64()).ceil() as u64;
        Self { rate, count: count.max(1) }
    }

    fn offset(self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// For how long they come.
    pub(super) fn time(self) -> Duration {
        self.offset(self.count)
    }
}

/// Has them come until `no_more`; those that have come are left in the tracker. The clock is a
/// thread's own: tokio's timers go by the millisecond, which is as long as a login.
pub(super) async fn come(
    run: &Arc<Run>,
    arrivals: Arrivals,
    no_more: &CancellationToken,
    stop: &CancellationToken,
) -> TaskTracker {
    let clients = TaskTracker::new();
    let (run, tasks, handle) = (Arc::clone(run), clients.clone(), Handle::current());
    let (no_more, stop) = (no_more.clone(), stop.clone());
    let clock = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        for number in 0..arrivals.count {
            let meant = begin + arrivals.offset(number);
            if !sleep_until(meant, &no_more) {
                return;
            }
            let (run, stop) = (Arc::clone(&run), stop.clone());
            let client = async move {
                run.enter(run.turn(), meant, &stop).await;
            };
            tasks.spawn_on(client, &handle);
        }
        sleep_until(begin + arrivals.time(), &no_more);
    });
    let _ = clock.await;
    clients.close();
    clients
}

fn sleep_until(then: Instant, stop: &CancellationToken) -> bool {
    while !stop.is_cancelled() {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(NAP));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_rate_says() {
        let arrivals = Arrivals::during(250.0, Duration::from_secs(4));
        assert_eq!((arrivals.count, arrivals.time()), (1_000, Duration::from_secs(4)));
        assert_eq!(arrivals.offset(1), Duration::from_millis(4));
        assert_eq!(Arrivals::during(0.5, Duration::from_secs(1)).count, 1);
    }
}
