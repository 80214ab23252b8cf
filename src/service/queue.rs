//! Requests that wait to be decided: bounded, and never first in, first out once it is too late
//! for that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Message;

use super::load::Load;

/// A request, which may hold a password, and when it came.
pub(super) struct Pending {
    pub(super) message: Message,
    pub(super) received: Instant,
}

/// The waiting requests, oldest first.
pub(super) struct Queue {
    waiting: VecDeque<Pending>,
    capacity: usize,
    deadline: Duration,
    /// Dropped since the log last said so, and when that was.
    dropped: u64,
    said: Option<Instant>,
    load: Load,
}

/// How often the log speaks of dropped requests.
const SAY_EVERY: Duration = Duration::from_secs(1);

impl Queue {
    pub(super) fn new(capacity: usize, deadline: Duration, load: Load) -> Self {
        Self { waiting: VecDeque::new(), capacity, deadline, dropped: 0, said: None, load }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a request; the oldest makes room if there is none.
    pub(super) fn push(&mut self, pending: Pending) {
        if self.waiting.len() >= self.capacity && self.waiting.pop_front().is_some() {
            self.drop_one();
        }
        self.waiting.push_back(pending);
        self.load.note_waiting(self.waiting.len());
    }

    /// Takes the request to be decided next: the oldest, or the newest once the oldest has waited
    /// for half of its time. Those whose time is over are dropped: their clients have given up.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let now = Instant::now();
        let age = |pending: &Pending| now.saturating_duration_since(pending.received);
        while self.waiting.front().is_some_and(|oldest| age(oldest) >= self.deadline) {
            self.waiting.pop_front();
            self.drop_one();
        }
        let is_late = self.waiting.front().is_some_and(|oldest| age(oldest) * 2 >= self.deadline);
        let next = if is_late { self.waiting.pop_back() } else { self.waiting.pop_front() };
        self.load.note_waiting(self.waiting.len());
        next
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        self.load.note_shed();
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            tracing::warn!(dropped = self.dropped, "overloaded: requests were dropped unanswered");
            (self.dropped, self.said) = (0, Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn pending(name: &str, age: Duration) -> Pending {
        let message = Message {
            subject: name.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        Pending { message, received: Instant::now().checked_sub(age).unwrap() }
    }

    fn order(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|p| p.message.subject.to_string()).collect()
    }

    #[test]
    fn a_young_queue_is_first_in_first_out() {
        let mut queue = Queue::new(8, DEADLINE, Load::new(1));
        queue.push(pending("a", Duration::from_secs(2)));
        queue.push(pending("b", Duration::from_secs(1)));
        assert_eq!(order(&mut queue), ["a", "b"]);
    }

    #[test]
    fn an_old_queue_serves_the_newest_and_drops_the_hopeless() {
        let mut queue = Queue::new(8, DEADLINE, Load::new(1));
        queue.push(pending("gone", Duration::from_secs(11)));
        queue.push(pending("old", Duration::from_secs(6)));
        queue.push(pending("new", Duration::from_secs(1)));
        assert_eq!(order(&mut queue), ["new", "old"]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest() {
        let mut queue = Queue::new(2, DEADLINE, Load::new(1));
        for name in ["a", "b", "c"] {
            queue.push(pending(name, Duration::ZERO));
        }
        assert_eq!(order(&mut queue), ["b", "c"]);
    }
}
