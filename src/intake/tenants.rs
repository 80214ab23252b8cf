//! The tenants whose events are taken, each under a number of its own, and what waits or is under way
//! of each.
//!
//! The number of a tenant with an account of its own is the subscription's in INTAKE. It is drawn at
//! random and never used twice: what came for a tenant that is gone is nobody's. And nobody can guess
//! it: nats-server writes a stored subject as it is into the line of a message, and that of a message
//! restored from a snapshot may hold the end of the line, and lines of the sender's own behind it.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::store::{Isolation, TenantId};

/// What an event costs beside its bytes, in all bounds.
pub(crate) const OVERHEAD: usize = 1 << 10;

/// An event that waits, with its header made anew.
#[derive(Debug)]
pub(crate) struct Event {
    /// Where its sender awaits an answer, if it may have one there.
    pub(crate) reply: Option<Box<[u8]>>,
    /// The header, then the body.
    pub(crate) bytes: Box<[u8]>,
    pub(crate) header: usize,
    pub(crate) arrived: Instant,
}

impl Event {
    pub(crate) fn cost(&self) -> usize {
        cost(self.reply.as_deref(), self.bytes.len())
    }
}

/// What an event counts in the bounds.
pub(crate) fn cost(reply: Option<&[u8]>, bytes: usize) -> usize {
    OVERHEAD + reply.map_or(0, <[u8]>::len) + bytes
}

/// Whether a tenant's events are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They are.
    Active,
    /// It is suspended or has expired.
    Suspended,
    /// It was removed then. A connection of its may be there yet.
    Gone(Instant),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) isolation: Isolation,
    pub(crate) standing: Standing,
    /// It has broken a connection, and is heard no more.
    pub(crate) is_barred: bool,
    pub(crate) waiting: VecDeque<Event>,
    /// Among those whose turn it is.
    pub(crate) is_in_turn: bool,
    /// The cost of what waits and is under way.
    pub(crate) held: usize,
    /// The cost of what is under way.
    pub(crate) sent: usize,
}

impl Tenant {
    /// The subject of a tenant's own in INTAKE.
    pub(crate) fn subject(&self) -> String {
        format!("own.{}.Events", self.id)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    by_number: HashMap<u64, Tenant>,
    by_id: HashMap<TenantId, u64>,
}

impl Tenants {
    pub(crate) fn by_number(&self, number: u64) -> Option<&Tenant> {
        self.by_number.get(&number)
    }

    pub(crate) fn by_number_mut(&mut self, number: u64) -> Option<&mut Tenant> {
        self.by_number.get_mut(&number)
    }

    /// The number of the tenant with this id.
    pub(crate) fn number(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    /// Takes one on; the number is nobody's so far.
    pub(crate) fn insert(&mut self, number: u64, id: TenantId, isolation: Isolation) {
        let tenant = Tenant {
            id: id.clone(),
            isolation,
            standing: Standing::Active,
            is_barred: false,
            waiting: VecDeque::new(),
            is_in_turn: false,
            held: 0,
            sent: 0,
        };
        self.by_number.insert(number, tenant);
        self.by_id.insert(id, number);
    }

    /// Forgets one; it is returned with what waits.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Tenant> {
        let tenant = self.by_number.remove(&number)?;
        self.by_id.remove(&tenant.id);
        Some(tenant)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Tenant)> {
        self.by_number.iter().map(|(number, tenant)| (*number, tenant))
    }
}
