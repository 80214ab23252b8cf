//! The connections for replies, each of which is measured: a message of ours goes out on it and comes back on the
//! one that requests come by.
//!
//! A server reads a connection's lines in order, and acts upon an answer as it reads it. So whatever went out
//! before such a message has been acted upon when that comes back.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Subject};
use futures_util::FutureExt as _;

use super::replies::{All, Key};
use super::turns::Turn;
use super::way::{Seen, Way};

/// How often a connection is measured that nothing is sent on.
const EVERY: Duration = Duration::from_secs(1);

/// How often at most one is that answers go out on.
const PACE: Duration = Duration::from_millis(10);

/// So many answers at least go out between two messages, where one is awaited already, and so many messages
/// are awaited then at most.
const BATCH: usize = 32;
const BATCHES: usize = 16;

/// How many messages are awaited on a connection at most.
const MOST: usize = 60;

/// For how long one is: nobody may have been there to hear it.
const AWAITED: Duration = Duration::from_secs(30);

/// A message that has not come back yet, and the answers that went out between the one before and this.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    at: Instant,
    connects: u64,
    before: Vec<Gone>,
}

/// An answer that went out, and on which connection in the course of reconnects.
#[derive(Debug)]
struct Gone {
    key: Key,
    connects: u64,
    at: Instant,
    /// Until it is read, or nobody can wait for it any more.
    turn: Option<Turn>,
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
    /// Whether a message has ever come back: its login may not be allowed to send one.
    comes_back: bool,
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
    /// The way is that through the server that the service is connected to: what hangs elsewhere holds nobody up
    /// here.
    pub(super) fn new(All { clients, quick, own }: All, subject: Subject) -> Self {
        let way = Way::new(own, quick);
        let line = |client| Line {
            client,
            under_way: VecDeque::new(),
            since: Vec::new(),
            seen_to: None,
            comes_back: false,
        };
        Self { lines: clients.into_iter().map(line).collect(), subject, next: 0, way }
    }

    pub(super) fn way(&self) -> Way {
        self.way.clone()
    }

    /// An answer has gone out.
    pub(super) fn note(&mut self, line: usize, key: Key, turn: Option<Turn>) {
        if let Some(line) = self.lines.get_mut(line) {
            let connects = line.connects();
            let turn = turn.filter(|_| line.comes_back);
            line.since.push(Gone { key, connects, at: Instant::now(), turn });
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

    /// Ends the turns of those that nobody can wait for any more, whatever has become of their answers.
    pub(super) fn end_turns(&mut self, now: Instant) {
        let most = self.way.patience();
        for line in &mut self.lines {
            let gone = line.under_way.iter_mut().flat_map(|it| &mut it.before);
            for gone in gone.chain(&mut line.since) {
                if now.saturating_duration_since(gone.at) > most {
                    gone.turn = None;
                }
            }
        }
    }

    /// Sends what is due; gives the answers on connections that were lost.
    pub(super) fn send_due(&mut self, now: Instant) -> Vec<Key> {
        let mut lost = Vec::new();
        for (place, line) in self.lines.iter_mut().enumerate() {
            let connects = line.connects();
            let is_lost = |it: &mut UnderWay| {
                it.connects != connects || now.saturating_duration_since(it.at) > AWAITED
            };
            while let Some(gone) = line.under_way.pop_front_if(is_lost) {
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
                self.way.awaits(place, line.seen(Duration::ZERO).since);
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
        line.comes_back = true;
        let mut proof = Proof { took: now.saturating_duration_since(at), ..Proof::default() };
        // Whatever went out before it has been read as well.
        while let Some(earlier) = line.under_way.pop_front_if(|it| it.number <= number) {
            for Gone { key, connects: on, .. } in earlier.before {
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

    /// Where no message has ever come back, none says anything about the way.
    fn seen(&self, last: Duration) -> Seen {
        let awaited = self.under_way.front().filter(|_| self.comes_back);
        Seen { last, since: awaited.map(|it| it.at) }
    }

    /// When the next message may go out; none is now.
    fn due(&self) -> Option<Instant> {
        let batches = self.under_way.len();
        let is_pressed = match self.since.len() {
            0 => false,
            some => batches == 0 || (some >= BATCH && batches < BATCHES),
        };
        self.seen_to.map(|seen_to| seen_to + if is_pressed { PACE } else { EVERY })
    }
}
