//! How much there is to do: what a service has under way, waiting and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;

/// The load of a running service. Clones are views of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Load(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    waiting: AtomicUsize,
    shed: AtomicU64,
}

/// A [`Load`] as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LoadStats {
    /// Decisions under way.
    pub in_flight: usize,
    /// Requests that wait for one of those to end.
    pub waiting: usize,
    /// Requests dropped unanswered so far.
    pub shed: u64,
}

impl Load {
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self(Arc::new(Numbers {
            permits: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            waiting: AtomicUsize::new(0),
            shed: AtomicU64::new(0),
        }))
    }

    /// One for each decision that may be under way.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.permits)
    }

    pub(super) fn note_waiting(&self, count: usize) {
        self.0.waiting.store(count, Relaxed);
    }

    pub(super) fn note_shed(&self) {
        self.0.shed.fetch_add(1, Relaxed);
    }

    /// The numbers as they are now.
    #[must_use]
    pub(crate) fn stats(&self) -> LoadStats {
        let numbers = &self.0;
        LoadStats {
            in_flight: numbers.max_in_flight.saturating_sub(numbers.permits.available_permits()),
            waiting: numbers.waiting.load(Relaxed),
            shed: numbers.shed.load(Relaxed),
        }
    }
}
