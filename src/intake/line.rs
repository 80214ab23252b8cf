//! The near end of a connection: what is still to be written, and who waits until the server has
//! read what was written before. A server handles a connection's lines in order, so its PONG says
//! that everything before the PING has taken effect.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::wire;

/// Bytes that may wait for a server that does not read; beyond, the connection is given up.
const MAX_UNWRITTEN: usize = 64 << 20;

/// A buffer that has grown beyond this is not used again.
const KEPT: usize = 1 << 20;

/// Told when the server has read what was written before.
pub(crate) type Waiter = oneshot::Sender<()>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Line {
    is_up: bool,
    /// The most that the server takes in one message.
    pub(crate) max_payload: usize,
    out: Vec<u8>,
    /// Given to the writer, and not yet written.
    writing: usize,
    /// Who waits for each PONG that is due.
    pings: VecDeque<Vec<Waiter>>,
    /// Who waits for the next connection.
    later: Vec<Waiter>,
    /// Told that there is something to write.
    pub(crate) wake: Arc<Notify>,
}

impl Line {
    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    /// What is not written yet.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        self.wake.notify_one();
        &mut self.out
    }

    /// Whether the server has stopped reading.
    pub(crate) fn is_stuck(&self) -> bool {
        self.out.len() + self.writing > MAX_UNWRITTEN
    }

    /// Whether a PONG is due.
    pub(crate) fn awaits_pong(&self) -> bool {
        !self.pings.is_empty()
    }

    /// Has `waiters` told once the server has read everything before.
    pub(crate) fn ping(&mut self, waiters: Vec<Waiter>) {
        if self.is_up {
            self.out().extend_from_slice(b"PING\r\n");
            self.pings.push_back(waiters);
        } else {
            self.later.extend(waiters);
        }
    }

    pub(crate) fn pong(&mut self) {
        for waiter in self.pings.pop_front().into_iter().flatten() {
            // Whoever waited may have gone.
            let _ = waiter.send(());
        }
    }

    /// A connection is there. What is subscribed at once has to be written next, then
    /// [`Self::begun`] called.
    pub(crate) fn up(&mut self, max_payload: usize) {
        self.is_up = true;
        self.max_payload = max_payload;
    }

    /// Everything that a new connection begins with is written.
    pub(crate) fn begun(&mut self) {
        let waiters = std::mem::take(&mut self.later);
        self.ping(waiters);
    }

    /// The connection is gone, with what was not written.
    pub(crate) fn down(&mut self) {
        self.is_up = false;
        self.out = Vec::new();
        self.writing = 0;
        self.later.extend(self.pings.drain(..).flatten());
    }

    /// What is to be written, for the writer.
    pub(crate) fn take(&mut self, written: Vec<u8>) -> Vec<u8> {
        self.writing = self.out.len();
        let mut fresh = written;
        fresh.clear();
        if fresh.capacity() > KEPT {
            fresh = Vec::new();
        }
        std::mem::replace(&mut self.out, fresh)
    }

    /// Answers on `reply`. While the connection is away, a few answers wait for the next one.
    pub(crate) fn answer(&mut self, reply: &[u8], body: &[u8]) {
        if self.is_up || self.out.len() < KEPT {
            wire::publish(self.out(), &[reply], None, b"", body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_by_the_pong_of_the_connection_that_has_it() {
        let mut line = Line::default();
        let (waiter, mut told) = oneshot::channel();
        line.ping(vec![waiter]);
        line.up(1);
        line.out().extend_from_slice(b"SUB a 1\r\n");
        line.begun();
        assert_eq!(line.take(Vec::new()), b"SUB a 1\r\nPING\r\n");
        assert!(told.try_recv().is_err());
        line.down();
        line.up(1);
        line.begun();
        let (other, mut second) = oneshot::channel();
        line.ping(vec![other]);
        line.pong();
        assert!(told.try_recv().is_ok());
        assert!(second.try_recv().is_err());
        line.pong();
        assert!(second.try_recv().is_ok());
    }
}
