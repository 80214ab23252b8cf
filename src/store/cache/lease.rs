//! How long what is kept may be trusted without hearing of changes. A process that was stopped for
//! a while, or whose reading of changes is late, does not know what was changed meanwhile.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Until when records may be answered with, moved on by each reading of the changes.
#[derive(Debug)]
pub(super) struct Lease {
    begin: Instant,
    /// Milliseconds after `begin`.
    confirmed: AtomicU64,
    term: Option<Duration>,
}

impl Lease {
    pub(super) fn new(term: Option<Duration>) -> Self {
        Self { begin: Instant::now(), confirmed: AtomicU64::new(0), term }
    }

    /// Everything committed before `at` is known.
    pub(super) fn confirm(&self, at: Instant) {
        self.confirmed.fetch_max(self.milliseconds(at), Relaxed);
    }

    pub(super) fn holds(&self) -> bool {
        let Some(term) = self.term else { return true };
        let age = self.milliseconds(Instant::now()).saturating_sub(self.confirmed.load(Relaxed));
        Duration::from_millis(age) < term
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begin).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}
