//! How long an answer is on its way through the server that it is sent to, as [`lines`](super::lines) measure
//! it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long servers wait, where none has said so yet: nats-server's default.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way of replies as it is now. Clones are views of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Way(Arc<Mutex<Measured>>);

#[derive(Debug)]
struct Measured {
    lines: Vec<Seen>,
    /// How many of them, from the first on, answers go out on that make no server load an account.
    quick: usize,
    patience: Duration,
}

/// What was measured last on a connection, and since when a message is awaited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) last: Duration,
    pub(super) since: Option<Instant>,
}

impl Way {
    pub(super) fn new(lines: usize, quick: usize) -> Self {
        let lines = vec![Seen::default(); lines];
        let measured = Measured { lines, quick, patience: PATIENCE };
        Self(Arc::new(Mutex::new(measured)))
    }

    /// The longest on any connection: as it was measured last, or as a message is awaited already.
    #[must_use]
    pub(crate) fn longest(&self) -> Duration {
        longest(&self.0.lock().lines)
    }

    /// The same, but for the connection that is slow because servers load accounts.
    pub(super) fn of_most(&self) -> Duration {
        let measured = self.0.lock();
        longest(measured.lines.iter().take(measured.quick))
    }

    /// Whether no client waits for so long.
    #[must_use]
    pub(crate) fn is_hopeless(&self) -> bool {
        self.longest() >= self.patience()
    }

    /// For how long servers wait, to a second.
    pub(super) fn patience(&self) -> Duration {
        self.0.lock().patience
    }

    pub(super) fn note_patience(&self, patience: Duration) {
        self.0.lock().patience = patience.max(Duration::from_secs(1));
    }

    pub(super) fn awaits(&self, line: usize, since: Option<Instant>) {
        if let Some(place) = self.0.lock().lines.get_mut(line) {
            place.since = since;
        }
    }

    pub(super) fn note(&self, line: usize, seen: Seen) {
        if let Some(place) = self.0.lock().lines.get_mut(line) {
            *place = seen;
        }
    }
}

fn longest<'a>(lines: impl IntoIterator<Item = &'a Seen>) -> Duration {
    let ways = lines.into_iter().map(|seen| {
        let awaited = seen.since.map(|since| since.elapsed());
        seen.last.max(awaited.unwrap_or_default())
    });
    ways.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_what_was_measured_or_is_awaited() {
        let way = Way::new(2, 1);
        assert_eq!(way.longest(), Duration::ZERO);
        let ms = Duration::from_millis;
        way.note(0, Seen { last: ms(3), since: None });
        way.note(1, Seen { last: ms(2), since: Instant::now().checked_sub(ms(600)) });
        assert!(way.longest() >= ms(600) && !way.is_hopeless());
        assert_eq!(way.of_most(), ms(3));
        way.note(1, Seen { last: Duration::from_secs(2), since: None });
        assert!(way.is_hopeless());
        way.note_patience(Duration::from_secs(10));
        assert!(!way.is_hopeless());
    }
}
