//! What happens to an event, without any I/O: whose it is, whether it is taken, when it goes on to
//! BB, and what its sender is told. Everything is a short step under one lock, so a suspension holds
//! from the step that makes it, and nothing waits for anything but its turn.

mod ends;
mod lines;
mod roster;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::Settings;
use super::headers;
use super::line::Line;
use super::refusal::{Notices, Refusal, Tally};
use super::tenants::{Event, Standing, Tenant, Tenants, cost};
use super::wire::{self, Frame, Message};
use crate::authn::random::NoRandomness;
use crate::store::{Isolation, TenantId};

/// The events of shared tenants, in USERS.
const SHARED_EVENTS: &str = "user.*.Events";

/// An event that BB's stream was sent.
#[derive(Debug)]
struct UnderWay {
    tenant: u64,
    isolation: Isolation,
    reply: Option<Box<[u8]>>,
    cost: usize,
    arrived: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Carrier {
    settings: Settings,
    /// Below it BB's stream answers.
    inbox: String,
    /// The subscriptions of the answers, and of shared tenants' events.
    answers: u64,
    shared_events: u64,
    tenants: Tenants,
    /// The numbers of those that are gone, of whom something may still come on this connection.
    gone: HashSet<u64>,
    /// Shared tenants that are gone, and since when, the first of them first.
    departed: VecDeque<(Instant, u64)>,
    /// Those of whom something waits, in turn.
    turn: VecDeque<u64>,
    under_way: HashMap<u64, UnderWay>,
    /// The token of the last event that was sent.
    token: u64,
    /// The cost of what waits and is under way, of all tenants.
    held: usize,
    /// The cost of what is under way.
    sent: usize,
    own: Line,
    shared: Line,
    tally: Tally,
    notices: Notices,
    is_stopping: bool,
    /// Told when nothing is held any more.
    idle: Arc<Notify>,
    /// The header made anew, used again and again.
    header: Vec<u8>,
}

impl Carrier {
    pub(crate) fn new(settings: Settings) -> Result<Self, NoRandomness> {
        Ok(Self {
            settings,
            inbox: format!("_INBOX.{:016x}{:016x}.", random()?, random()?),
            answers: random()?,
            shared_events: random()?,
            tenants: Tenants::default(),
            gone: HashSet::new(),
            departed: VecDeque::new(),
            turn: VecDeque::new(),
            under_way: HashMap::new(),
            token: 0,
            held: 0,
            sent: 0,
            own: Line::default(),
            shared: Line::default(),
            tally: Tally::default(),
            notices: Notices::default(),
            is_stopping: false,
            idle: Arc::default(),
            header: Vec::new(),
        })
    }

    /// What a server has to know, by names for it: the subscription of a tenant, those of shared
    /// tenants and of BB's answers, and where these come.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn names(&self, tenant: &str) -> [(&'static [u8], String); 4] {
        let number = self.tenants.number(tenant).unwrap_or_default();
        [
            (b"@TENANT", number.to_string()),
            (b"@SHARED", self.shared_events.to_string()),
            (b"@ANSWERS", self.answers.to_string()),
            (b"@INBOX.", self.inbox.clone()),
        ]
    }

    pub(crate) fn line(&mut self, isolation: Isolation) -> &mut Line {
        match isolation {
            Isolation::Account => &mut self.own,
            Isolation::Shared => &mut self.shared,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Counts a connection that ended without having been told to.
    pub(crate) fn note_lost(&mut self) {
        self.tally.lost += 1;
    }

    pub(crate) fn idle(&self) -> Arc<Notify> {
        Arc::clone(&self.idle)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.held == 0
    }

    /// What a server has sent on one of the connections.
    pub(crate) fn take(&mut self, isolation: Isolation, frame: Frame<'_>, now: Instant) {
        match frame {
            Frame::Message(message)
                if isolation == Isolation::Account && message.sid == self.answers =>
            {
                self.answered(&message, now);
            }
            Frame::Message(message) => self.arrived(isolation, &message, now),
            Frame::Ping => self.line(isolation).out().extend_from_slice(b"PONG\r\n"),
            Frame::Pong => self.line(isolation).pong(),
            Frame::Error(text) => tracing::warn!(
                error = %String::from_utf8_lossy(text),
                account = account(isolation),
                "the server does not take what the intake of events asks for"
            ),
            // A server's limits are taken as it says them at the login.
            Frame::Info(_) | Frame::Ok => {}
        }
    }

    /// Ends what has been here for too long.
    pub(crate) fn tick(&mut self, now: Instant) {
        let patience = self.settings.patience;
        let is_late = |arrived: Instant| now.saturating_duration_since(arrived) > patience;
        let late: Vec<u64> = self
            .under_way
            .iter()
            .filter(|(_, it)| is_late(it.arrived))
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.end(token, Err(Refusal::Unacknowledged), now);
        }
        for number in self.turn.clone() {
            let Some(tenant) = self.tenants.by_number_mut(number) else { continue };
            // Nobody waits for the others, which come later than never.
            let late = |event: &Event| event.reply.is_some() && is_late(event.arrived);
            if tenant.waiting.iter().any(late) {
                let waiting = std::mem::take(&mut tenant.waiting);
                let (late, rest) = waiting.into_iter().partition(late);
                tenant.waiting = rest;
                let refusal = if self.own.is_up() { Refusal::Busy } else { Refusal::Unavailable };
                self.refuse_all(number, late, refusal, now);
            }
        }
        self.forget_departed(now);
        self.notices.tick(now);
        self.pump();
    }

    /// An event.
    fn arrived(&mut self, isolation: Isolation, message: &Message<'_>, now: Instant) {
        let number = match isolation {
            Isolation::Account => Some(message.sid),
            Isolation::Shared => sender(message.subject)
                .and_then(|id| self.tenants.number(id).or_else(|| self.admit(id))),
        };
        let tenant = number.and_then(|number| self.tenants.by_number_mut(number));
        let Some(tenant) = tenant.filter(|tenant| tenant.isolation == isolation) else {
            let id = match isolation {
                Isolation::Account => None,
                Isolation::Shared => {
                    sender(message.subject).and_then(|id| id.parse::<TenantId>().ok())
                }
            };
            let id = id.as_ref().map_or("", TenantId::as_str);
            let reply = message.reply.filter(|reply| may_be_answered(isolation, id, reply));
            return self.refuse(id, isolation, reply, Refusal::Unknown, now);
        };
        let id = tenant.id.as_str();
        let reply = message.reply.filter(|reply| may_be_answered(isolation, id, reply));
        let refusal = match tenant.standing {
            Standing::Active => headers::rebuild(message.header, id, &mut self.header)
                .map_err(Refusal::Header)
                .err(),
            Standing::Suspended => Some(Refusal::Suspended),
            Standing::Gone(_) => Some(Refusal::Unknown),
        };
        let length = self.header.len() + message.body.len();
        let cost = cost(reply, length);
        let refusal = refusal.or_else(|| {
            let most = self.settings.max_message.min(self.own.max_payload);
            // What a server is not known yet to take, it will be when the event's turn comes.
            (length > most && self.own.max_payload > 0).then_some(Refusal::Oversized)
        });
        let refusal = refusal.or_else(|| {
            let free = self.settings.held.saturating_sub(self.held);
            // What one tenant may have falls with what is left for all: so a few that send too much
            // leave room for the others.
            let most = self.settings.held_per_tenant.min(free);
            let fits = cost <= free && (tenant.held == 0 || tenant.held + cost <= most);
            (!fits).then_some(Refusal::Busy)
        });
        if let Some(refusal) = refusal {
            let id = tenant.id.clone();
            return self.refuse(id.as_str(), isolation, reply, refusal, now);
        }
        tenant.held += cost;
        self.held += cost;
        let number = number.unwrap_or_default();
        let settings = &self.settings;
        if self.turn.is_empty()
            && has_room(&self.own, self.sent, cost, settings)
            && may_have_more(tenant, cost, settings)
        {
            let header = std::mem::take(&mut self.header);
            self.send(number, reply.map(Box::from), &header, message.body, cost, now);
            self.header = header;
            return;
        }
        let bytes = [&self.header, message.body].concat().into_boxed_slice();
        let event =
            Event { reply: reply.map(Box::from), bytes, header: self.header.len(), arrived: now };
        tenant.waiting.push_back(event);
        if !tenant.is_in_turn {
            tenant.is_in_turn = true;
            self.turn.push_back(number);
        }
        self.pump();
    }

    /// Sends an event on to BB.
    fn send(
        &mut self,
        number: u64,
        reply: Option<Box<[u8]>>,
        header: &[u8],
        body: &[u8],
        cost: usize,
        arrived: Instant,
    ) {
        let Some(tenant) = self.tenants.by_number_mut(number) else { return };
        self.token += 1;
        tenant.sent += cost;
        self.sent += cost;
        wire::publish(
            self.own.out(),
            &[b"bb.", tenant.id.as_str().as_bytes(), b".Events"],
            Some(format_args!("{}{}", self.inbox, self.token)),
            header,
            body,
        );
        let under_way =
            UnderWay { tenant: number, isolation: tenant.isolation, reply, cost, arrived };
        self.under_way.insert(self.token, under_way);
    }

    /// Sends on what may go, one event of each tenant in turn.
    fn pump(&mut self) {
        let mut passed = 0;
        while passed < self.turn.len() {
            let Some(&number) = self.turn.front() else { return };
            let tenant = self.tenants.by_number_mut(number);
            let next = tenant.and_then(|tenant| Some((tenant.waiting.front()?.cost(), tenant)));
            let Some((cost, tenant)) = next else {
                // It is gone, or all of it was refused.
                self.turn.pop_front();
                if let Some(tenant) = self.tenants.by_number_mut(number) {
                    tenant.is_in_turn = false;
                }
                continue;
            };
            if !has_room(&self.own, self.sent, cost, &self.settings) {
                return;
            }
            self.turn.rotate_left(1);
            if !may_have_more(tenant, cost, &self.settings) {
                passed += 1;
                continue;
            }
            passed = 0;
            let Some(event) = tenant.waiting.pop_front() else { continue };
            let (header, body) =
                event.bytes.split_at_checked(event.header).unwrap_or((&[], &event.bytes));
            self.send(number, event.reply, header, body, cost, event.arrived);
        }
    }
}

/// Whether an event of this cost may go on now.
fn has_room(own: &Line, sent: usize, cost: usize, settings: &Settings) -> bool {
    own.is_up() && (sent == 0 || sent + cost <= settings.window)
}

/// Whether more of this tenant may be under way.
fn may_have_more(tenant: &Tenant, cost: usize, settings: &Settings) -> bool {
    tenant.sent == 0 || tenant.sent + cost <= settings.window_per_tenant
}

/// Who sent an event in USERS, by its subject `user.<id>.Events`.
fn sender(subject: &[u8]) -> Option<&str> {
    let id = subject.strip_prefix(b"user.")?.strip_suffix(b".Events")?;
    std::str::from_utf8(id).ok()
}

/// Whether the sender may have an answer there: in its own account the server has put its own
/// subject in the place of the sender's; in USERS the sender may only name what is its own.
fn may_be_answered(isolation: Isolation, id: &str, reply: &[u8]) -> bool {
    let rest = match isolation {
        Isolation::Account => reply.strip_prefix(b"_R_."),
        Isolation::Shared => reply
            .strip_prefix(b"_INBOX_")
            .and_then(|rest| rest.strip_prefix(id.as_bytes()))
            .and_then(|rest| rest.strip_prefix(b"."))
            .filter(|_| !id.is_empty()),
    };
    let is_plain = |token: &[u8]| {
        !token.is_empty()
            && token.iter().all(|&byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
    };
    rest.is_some_and(|rest| rest.split(|&byte| byte == b'.').all(is_plain))
}

fn account(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Account => "INTAKE",
        Isolation::Shared => "USERS",
    }
}

fn random() -> Result<u64, NoRandomness> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;
