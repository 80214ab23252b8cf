//! How long an answer is on its way through the server that it is sent to: a message of ours goes out on a
//! connection for replies and comes back on the one that requests come by.
//!
//! A server reads a connection's lines in order, and acts upon an answer as it reads it. So whatever went out
//! before such a message has been acted upon when that comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Subject};
use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::replies::Key;

/// How often a connection is measured that nothing is sent on.
const EVERY: Duration = Duration::from_secs(1);

/// How often at most one is that answers go out on.
const PACE: Duration = Duration::from_millis(10);

/// How many messages are awaited on a connection at most.
const MOST: usize = 60;

/// For how long servers wait, where none has said so yet: nats-server's default.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way of replies as it is now. Clones are views of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Way(Arc<Mutex<Measured>>);

#[derive(Debug)]
struct Measured {
    lines: Vec<Seen>,
    patience: Duration,
}

/// What was measured last on a connection, and since when a message is awaited.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    last: Duration,
    since: Option<Instant>,
}

impl Way {
    fn new(lines: usize) -> Self {
        let measured = Measured { lines: vec![Seen::default(); lines], patience: PATIENCE };
        Self(Arc::new(Mutex::new(measured)))
    }

    /// The longest on any connection: as it was measured last, or as a message is awaited already.
    #[must_use]
    pub(crate) fn longest(&self) -> Duration {
        let measured = self.0.lock();
        let ways = measured.lines.iter().map(|seen| {
            let awaited = seen.since.map(|since| since.elapsed());
            seen.last.max(awaited.unwrap_or_default())
        });
        ways.max().unwrap_or_default()
    }

    /// Whether a good part of a client's time is spent on it.
    #[must_use]
    pub(crate) fn is_slow(&self) -> bool {
        self.longest() >= self.patience() / 4
    }

    /// Whether no client waits for so long.
    #[must_use]
    pub(crate) fn is_hopeless(&self) -> bool {
        self.longest() >= self.patience()
    }

    /// For how long servers wait, to a second.
    fn patience(&self) -> Duration {
        self.0.lock().patience
    }

    pub(super) fn note_patience(&self, patience: Duration) {
        self.0.lock().patience = patience.max(Duration::from_secs(1));
    }

    fn awaits(&self, line: usize, since: Option<Instant>) {
        if let Some(place) = self.0.lock().lines.get_mut(line) {
            place.since = since;
        }
    }

    fn note(&self, line: usize, seen: Seen) {
        if let Some(place) = self.0.lock().lines.get_mut(line) {
            *place = seen;
        }
    }
}

/// A message that has not come back yet, and the answers that went out between the one before and this.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    at: Instant,
    connects: u64,
    before: Vec<Gone>,
}

/// An answer that went out, and on which connection in the course of reconnects.
#[derive(Debug, Clone, Copy)]
struct Gone {
    key: Key,
    connects: u64,
}

/// What a message that came back has shown.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// How long it was on its way.
    pub(super) took: Duration,
    /// The answers that the server has read.
    pub(super) read: Vec<Key>,
    /// Those of a connection that was lost meanwhile.
    pub(super) lost: Vec<Key>,
}

/// A connection for replies.
#[derive(Debug)]
pub(super) struct Line {
    client: Client,
    /// The messages that are awaited: more than one where the first takes long, or is lost since nobody
    /// had subscribed to it yet.
    under_way: VecDeque<UnderWay>,
    /// The answers since the last.
    since: Vec<Gone>,
    /// When it was looked after last.
    seen_to: Option<Instant>,
}

/// All connections for replies, and the subject by which messages come back.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
    subject: Subject,
    next: u64,
    way: Way,
}

impl Lines {
    pub(super) fn new(clients: Vec<Client>, subject: Subject) -> Self {
        let way = Way::new(clients.len());
        let line =
            |client| Line { client, under_way: VecDeque::new(), since: Vec::new(), seen_to: None };
        Self { lines: clients.into_iter().map(line).collect(), subject, next: 0, way }
    }

    pub(super) fn way(&self) -> Way {
        self.way.clone()
    }

    /// An answer has gone out.
    pub(super) fn note(&mut self, line: usize, key: Key) {
        if let Some(line) = self.lines.get_mut(line) {
            let connects = line.connects();
            line.since.push(Gone { key, connects });
        }
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lines.iter().map(|line| line.due().unwrap_or_else(Instant::now)).min()
    }

    /// Whether an answer is not known to be read.
    pub(super) fn awaits(&self) -> bool {
        self.lines.iter().any(|line| {
            !line.since.is_empty() || line.under_way.iter().any(|it| !it.before.is_empty())
        })
    }

    /// Sends what is due; gives the answers on connections that were lost.
    pub(super) fn send_due(&mut self, now: Instant) -> Vec<Key> {
        let mut lost = Vec::new();
        for (place, line) in self.lines.iter_mut().enumerate() {
            let connects = line.connects();
            while let Some(gone) = line.under_way.pop_front_if(|it| it.connects != connects) {
                lost.extend(gone.before.into_iter().map(|gone| gone.key));
                self.way.note(place, line.seen(Duration::ZERO));
            }
            if line.due().is_some_and(|due| due > now) {
                continue;
            }
            line.seen_to = Some(now);
            let is_connected = line.client.connection_state() == State::Connected;
            if !is_connected || line.under_way.len() >= MOST {
                continue;
            }
            self.next += 1;
            let payload = format!("{place} {}", self.next);
            // Where there is no room for it, another goes out later.
            let sent = line.client.publish(self.subject.clone(), payload.into()).now_or_never();
            if matches!(sent, Some(Ok(()))) {
                let before = std::mem::take(&mut line.since);
                let number = self.next;
                line.under_way.push_back(UnderWay { number, at: now, connects, before });
                self.way.awaits(place, line.awaited());
            }
        }
        lost
    }

    /// A message has come back; none if it is not one that is awaited.
    pub(super) fn came_back(&mut self, payload: &[u8], now: Instant) -> Option<Proof> {
        let (place, number) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
        let place: usize = place.parse().ok()?;
        let line = self.lines.get_mut(place)?;
        let number: u64 = number.parse().ok()?;
        let (at, connects) =
            line.under_way.iter().find(|it| it.number == number).map(|it| (it.at, it.connects))?;
        let mut proof = Proof { took: now.saturating_duration_since(at), ..Proof::default() };
        // Whatever went out before it has been read as well.
        while let Some(earlier) = line.under_way.pop_front_if(|it| it.number <= number) {
            for Gone { key, connects: on } in earlier.before {
                if on == connects { &mut proof.read } else { &mut proof.lost }.push(key);
            }
        }
        self.way.note(place, line.seen(proof.took));
        Some(proof)
    }
}

impl Line {
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Relaxed)
    }

    fn awaited(&self) -> Option<Instant> {
        self.under_way.front().map(|it| it.at)
    }

    fn seen(&self, last: Duration) -> Seen {
        Seen { last, since: self.awaited() }
    }

    /// When the next message may go out; none is now.
    fn due(&self) -> Option<Instant> {
        let is_pressed = self.under_way.is_empty() && !self.since.is_empty();
        self.seen_to.map(|seen_to| seen_to + if is_pressed { PACE } else { EVERY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_what_was_measured_or_is_awaited() {
        let way = Way::new(2);
        assert_eq!((way.longest(), way.is_slow()), (Duration::ZERO, false));
        let ms = Duration::from_millis;
        way.note(0, Seen { last: ms(3), since: None });
        way.note(1, Seen { last: ms(2), since: Instant::now().checked_sub(ms(600)) });
        assert!(way.longest() >= ms(600) && way.is_slow() && !way.is_hopeless());
        way.note_patience(Duration::from_secs(10));
        assert!(!way.is_slow());
        way.note(1, Seen { last: Duration::from_secs(10), since: None });
        assert!(way.is_hopeless());
    }
}
