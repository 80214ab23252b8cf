//! Logins at a steady pace, whose times are taken while something else goes on.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use crate::harness::guesses::{Ended, login};

/// Between two logins.
const PACE: Duration = Duration::from_millis(20);

/// Times of logins of one kind, and how many failed.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) admitted: Vec<Duration>,
    pub(super) failed: usize,
}

impl Times {
    /// Those of another turn.
    pub(super) fn add(&mut self, other: Self) {
        self.admitted.extend(other.admitted);
        self.failed += other.failed;
    }

    pub(super) fn count(&self) -> usize {
        self.admitted.len() + self.failed
    }

    /// In milliseconds; the times are sorted.
    pub(super) fn at(&mut self, share: f64) -> f64 {
        self.admitted.sort_unstable();
        let Some(last) = self.admitted.len().checked_sub(1) else { return f64::NAN };
        let index = ((last as f64) * share).round() as usize;
        self.admitted[index].as_secs_f64() * 1e3
    }
}

/// Logs in again and again, at a steady pace, whether or not the last one is in yet.
pub(super) async fn steady(
    port: u16,
    from: Ipv4Addr,
    credentials: Value,
    stop: Arc<AtomicBool>,
) -> Times {
    let mut ticks = tokio::time::interval(PACE);
    let mut logins = Vec::new();
    while !stop.load(Relaxed) {
        ticks.tick().await;
        let credentials = credentials.clone();
        logins.push(tokio::spawn(async move { login(from, port, &credentials).await }));
    }
    let mut times = Times::default();
    for login in logins {
        match login.await.expect("no panic") {
            (Ended::Admitted, took) => times.admitted.push(took),
            _ => times.failed += 1,
        }
    }
    times
}
