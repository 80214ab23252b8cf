//! What the threads of each priority have of the machine, and how long those who wait for them wait.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Condvar;

use super::super::guessing::Priority;

/// The threads of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) threads: usize,
    /// Signalled when a job was added, or the list was closed.
    pub(super) changed: Condvar,
    /// What a job takes, with the rest after it, in nanoseconds: a moving average.
    pub(super) cost: AtomicU64,
}

impl Priority {
    /// How much a thread gives way, or logins that need no hash would wait for those that do: where
    /// others want all of the processor, threads of low priority have a tenth of what those have, so
    /// that who is guessed still gets in, and the rest a third.
    #[cfg(target_os = "linux")]
    pub(super) fn niceness(self) -> i32 {
        match self {
            Self::High => 5,
            Self::Low => 10,
        }
    }

    /// How long a thread rests after a hash that took so long.
    pub(super) fn rest(self, spent: Duration) -> Duration {
        match self {
            Self::High => Duration::ZERO,
            Self::Low => spent.saturating_mul(3).min(LONGEST_REST),
        }
    }
}

/// The longest rest: who is guessed may be waiting.
pub(super) const LONGEST_REST: Duration = Duration::from_millis(200);

impl Level {
    pub(super) fn new(threads: usize, priority: Priority, cost: Duration) -> Self {
        let level = Self { threads, changed: Condvar::new(), cost: AtomicU64::new(0) };
        level.note_cost(cost + priority.rest(cost));
        level
    }

    pub(super) fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost.load(Relaxed))
    }

    /// How long a job behind so many others waits. With nobody ahead it is always tried: an estimate
    /// that is too high corrects itself.
    pub(super) fn wait(&self, ahead: usize) -> Duration {
        let rounds = if ahead == 0 { 0 } else { (ahead / self.threads).saturating_add(1) };
        self.cost().saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    pub(super) fn note_cost(&self, spent: Duration) {
        let cost = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX / 8);
        let average = |before: u64| match before {
            0 => cost,
            before => before - before / 8 + cost / 8,
        };
        // Never refused: the closure always has a value.
        let _ = self.cost.fetch_update(Relaxed, Relaxed, |before| Some(average(before)));
    }
}
