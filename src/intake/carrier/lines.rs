//! What connections begin with, and what becomes of events when one ends.

use std::time::Instant;

use super::super::QUEUE_GROUP;
use super::super::line::Waiter;
use super::super::refusal::Refusal;
use super::super::wire;
use super::{Carrier, SHARED_EVENTS};
use crate::store::Isolation;

impl Carrier {
    /// A connection is there.
    pub(crate) fn up(&mut self, isolation: Isolation, max_payload: usize) {
        self.line(isolation).up(max_payload);
        if !self.is_stopping {
            match isolation {
                Isolation::Account => {
                    self.gone.clear();
                    let out = self.own.out();
                    wire::subscribe(out, &format!("{}*", self.inbox), None, self.answers);
                    for (number, tenant) in self.tenants.iter() {
                        if tenant.isolation == Isolation::Account && !tenant.is_barred {
                            wire::subscribe(out, &tenant.subject(), Some(QUEUE_GROUP), number);
                        }
                    }
                    if self.shared.is_up() {
                        self.subscribe_shared();
                    }
                }
                Isolation::Shared if self.own.is_up() => self.subscribe_shared(),
                Isolation::Shared => {}
            }
        }
        self.line(isolation).begun();
        self.pump();
    }

    /// A connection is gone. While nothing can be passed on, other instances take the shared
    /// tenants' events.
    pub(crate) fn down(&mut self, isolation: Isolation, now: Instant) {
        self.line(isolation).down();
        if isolation == Isolation::Shared {
            return;
        }
        if self.shared.is_up() {
            wire::unsubscribe(self.shared.out(), self.shared_events);
        }
        let tokens: Vec<u64> = self.under_way.keys().copied().collect();
        for token in tokens {
            self.end(token, Err(Refusal::Unacknowledged), now);
        }
    }

    fn subscribe_shared(&mut self) {
        let group = Some(QUEUE_GROUP);
        wire::subscribe(self.shared.out(), SHARED_EVENTS, group, self.shared_events);
        // Whoever asks from now on waits for this one too.
        self.shared.ping(Vec::new());
    }

    /// Takes no new events; `waiters` are told when the last of them has come.
    pub(crate) fn stop(&mut self, waiters: [Waiter; 2]) {
        self.is_stopping = true;
        for (number, tenant) in self.tenants.iter() {
            if tenant.isolation == Isolation::Account && self.own.is_up() {
                wire::unsubscribe(self.own.out(), number);
            }
        }
        if self.shared.is_up() {
            wire::unsubscribe(self.shared.out(), self.shared_events);
        }
        let [own, shared] = waiters;
        self.own.ping(vec![own]);
        self.shared.ping(vec![shared]);
    }

    /// Refuses what is still here.
    pub(crate) fn give_up(&mut self, now: Instant) {
        for number in std::mem::take(&mut self.turn) {
            self.refuse_waiting(number, Refusal::Unavailable, now);
        }
        let tokens: Vec<u64> = self.under_way.keys().copied().collect();
        for token in tokens {
            self.end(token, Err(Refusal::Unacknowledged), now);
        }
    }
}
