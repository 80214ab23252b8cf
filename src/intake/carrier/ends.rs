//! How an event ends: with BB's word, or refused; and what its sender is told.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::refusal::Refusal;
use super::super::tenants::Event;
use super::super::wire::Message;
use super::{Carrier, UnderWay};
use crate::store::{Isolation, TenantId};

/// What BB's stream answers.
#[derive(Debug, Deserialize)]
struct Acknowledgement<'a> {
    #[serde(default, borrow)]
    stream: Option<&'a str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

impl Carrier {
    /// What BB's stream says of an event that it was sent.
    pub(super) fn answered(&mut self, message: &Message<'_>, now: Instant) {
        let subject = message.subject.strip_prefix(self.inbox.as_bytes());
        let token = subject.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
        let Some(token) = token else { return };
        let end = match serde_json::from_slice::<Acknowledgement<'_>>(message.body) {
            Ok(Acknowledgement { error: Some(_), .. }) => Ok((false, message.body)),
            Ok(Acknowledgement { stream: Some(stream), seq: 1.., error: None })
                if stream == self.settings.stream =>
            {
                Ok((true, message.body))
            }
            // Nobody is there.
            Err(_) if message.body.is_empty() && !message.header.is_empty() => {
                Err(Refusal::Unavailable)
            }
            _ => Err(Refusal::Unacknowledged),
        };
        self.end(token, end, now);
        self.pump();
    }

    /// The end of an event that was sent: whether it is stored, with BB's word for it, or why nobody
    /// knows.
    pub(super) fn end(&mut self, token: u64, end: Result<(bool, &[u8]), Refusal>, now: Instant) {
        let Some(UnderWay { tenant: number, isolation, reply, cost, .. }) =
            self.under_way.remove(&token)
        else {
            return;
        };
        self.sent = self.sent.saturating_sub(cost);
        self.release(number, cost);
        let mut id = None;
        if let Some(tenant) = self.tenants.by_number_mut(number) {
            tenant.sent = tenant.sent.saturating_sub(cost);
            id = Some(tenant.id.clone());
        }
        let id = id.as_ref().map_or("", TenantId::as_str);
        match end {
            Err(refusal) => self.refuse(id, isolation, reply.as_deref(), refusal, now),
            Ok((is_stored, word)) => {
                if is_stored {
                    self.tally.stored += 1;
                } else {
                    self.tally.refuse(Refusal::Rejected);
                    self.notices.note(id, Refusal::Rejected, now);
                }
                if let Some(reply) = reply {
                    self.line(isolation).answer(&reply, word);
                }
            }
        }
    }

    fn release(&mut self, number: u64, cost: usize) {
        self.held = self.held.saturating_sub(cost);
        if let Some(tenant) = self.tenants.by_number_mut(number) {
            tenant.held = tenant.held.saturating_sub(cost);
        }
        if self.held == 0 {
            self.idle.notify_waiters();
        }
    }

    pub(super) fn refuse_waiting(&mut self, number: u64, why: Refusal, now: Instant) {
        if let Some(tenant) = self.tenants.by_number_mut(number) {
            let waiting = std::mem::take(&mut tenant.waiting);
            self.refuse_all(number, waiting, why, now);
        }
    }

    pub(super) fn refuse_all(
        &mut self,
        number: u64,
        events: VecDeque<Event>,
        why: Refusal,
        now: Instant,
    ) {
        let Some(tenant) = self.tenants.by_number(number) else { return };
        let (id, isolation) = (tenant.id.clone(), tenant.isolation);
        for event in events {
            self.release(number, event.cost());
            self.refuse(id.as_str(), isolation, event.reply.as_deref(), why, now);
        }
    }

    pub(super) fn refuse(
        &mut self,
        id: &str,
        isolation: Isolation,
        reply: Option<&[u8]>,
        why: Refusal,
        now: Instant,
    ) {
        self.tally.refuse(why);
        self.notices.note(id, why, now);
        if let Some(reply) = reply {
            let answer = why.answer(&self.settings.stream);
            self.line(isolation).answer(reply, answer.as_bytes());
        }
    }
}
