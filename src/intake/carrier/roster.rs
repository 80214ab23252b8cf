//! Whose events are taken: tenants come and go, and one that breaks the protocol is barred.

use std::time::Instant;

use tokio::sync::oneshot;

use super::super::QUEUE_GROUP;
use super::super::line::Waiter;
use super::super::refusal::Refusal;
use super::super::tenants::{Standing, Tenant};
use super::super::wire;
use super::{Carrier, random};
use crate::store::{Isolation, TenantId};

impl Carrier {
    /// Takes a tenant's events from now on; `waiter` is told when the server knows.
    pub(crate) fn add(
        &mut self,
        id: &TenantId,
        isolation: Isolation,
        waiter: Waiter,
        now: Instant,
    ) {
        if let Some(number) = self.tenants.number(id.as_str()) {
            match self.tenants.by_number_mut(number) {
                Some(tenant) if tenant.isolation == isolation => {
                    tenant.standing = Standing::Active;
                    return self.confirm(isolation, waiter);
                }
                _ => self.forget(number, now),
            }
        }
        let Some(number) = self.fresh_number() else {
            tracing::error!(tenant = %id, "no randomness: the tenant's events are not taken");
            return;
        };
        self.tenants.insert(number, id.clone(), isolation);
        if isolation == Isolation::Account && self.own.is_up() && !self.is_stopping {
            let subject = format!("own.{id}.Events");
            wire::subscribe(self.own.out(), &subject, Some(QUEUE_GROUP), number);
            self.own.ping(vec![waiter]);
        } else {
            self.confirm(isolation, waiter);
        }
    }

    /// Has `waiter` told once the server knows of a tenant with an account of its own, which may be
    /// new here; at once where there is no connection. Whether its events are taken stays as it is.
    pub(crate) fn expect(&mut self, id: &TenantId, waiter: Waiter, now: Instant) {
        let number = self.tenants.number(id.as_str());
        let known = number.and_then(|number| self.tenants.by_number(number));
        let is_known = known.is_some_and(|tenant| tenant.isolation == Isolation::Account);
        match (is_known, self.own.is_up()) {
            (true, true) => self.confirm(Isolation::Account, waiter),
            (false, true) => self.add(id, Isolation::Account, waiter, now),
            (is_known, false) => {
                if !is_known {
                    self.add(id, Isolation::Account, oneshot::channel().0, now);
                }
                let _ = waiter.send(());
            }
        }
    }

    /// Whether a tenant is known and its events are refused.
    pub(crate) fn is_over(&self, id: &TenantId) -> bool {
        let number = self.tenants.number(id.as_str());
        let known = number.and_then(|number| self.tenants.by_number(number));
        known.is_some_and(|tenant| tenant.standing != Standing::Active)
    }

    /// Has `waiter` told once the server knows every subscription.
    fn confirm(&mut self, isolation: Isolation, waiter: Waiter) {
        let line = self.line(isolation);
        if line.is_up() && !line.awaits_pong() {
            let _ = waiter.send(());
        } else {
            line.ping(vec![waiter]);
        }
    }

    /// Refuses a tenant's events from now on, and what waits of it.
    pub(crate) fn suspend(&mut self, id: &TenantId, now: Instant) {
        let Some(number) = self.known(id) else { return };
        let Some(tenant) = self.tenants.by_number_mut(number) else { return };
        tenant.standing = Standing::Suspended;
        self.refuse_waiting(number, Refusal::Suspended, now);
    }

    /// Takes a tenant's events no longer. A shared one is remembered for as long as a connection of
    /// its could last.
    pub(crate) fn remove(&mut self, id: &TenantId, now: Instant) {
        let Some(number) = self.known(id) else { return };
        match self.tenants.by_number_mut(number) {
            Some(tenant) if tenant.isolation == Isolation::Shared => {
                tenant.standing = Standing::Gone(now);
                self.departed.push_back((now, number));
                self.refuse_waiting(number, Refusal::Unknown, now);
            }
            _ => self.forget(number, now),
        }
    }

    /// The number of a tenant. One that is new here is taken for a shared one, of which events may
    /// come all the same.
    fn known(&mut self, id: &TenantId) -> Option<u64> {
        self.tenants.number(id.as_str()).or_else(|| self.admit(id.as_str()))
    }

    fn forget(&mut self, number: u64, now: Instant) {
        self.refuse_waiting(number, Refusal::Unknown, now);
        let Some(tenant) = self.tenants.remove(number) else { return };
        if tenant.isolation == Isolation::Account && self.own.is_up() {
            self.gone.insert(number);
            wire::unsubscribe(self.own.out(), number);
        }
    }

    /// Forgets the shared tenants that have been gone for long enough.
    pub(super) fn forget_departed(&mut self, now: Instant) {
        while let Some(&(since, number)) = self.departed.front()
            && now.saturating_duration_since(since) > self.settings.remembered
        {
            self.departed.pop_front();
            let tenant = self.tenants.by_number(number);
            if tenant.is_some_and(|tenant| tenant.standing == Standing::Gone(since)) {
                self.forget(number, now);
            }
        }
    }

    /// Takes on a shared tenant that is not known yet: by its grant it may send, and another
    /// instance knew it when it logged in.
    pub(super) fn admit(&mut self, id: &str) -> Option<u64> {
        let id: TenantId = id.parse().ok()?;
        let number = self.fresh_number()?;
        self.tenants.insert(number, id, Isolation::Shared);
        Some(number)
    }

    /// Whether there is or was such a subscription on a connection.
    pub(crate) fn knows(&self, isolation: Isolation, sid: u64) -> bool {
        match isolation {
            Isolation::Account => {
                sid == self.answers
                    || self
                        .tenants
                        .by_number(sid)
                        .is_some_and(|tenant| tenant.isolation == isolation)
                    || self.gone.contains(&sid)
            }
            Isolation::Shared => sid == self.shared_events,
        }
    }

    /// Hears a tenant no more whose message has broken the protocol, if it can be told from these
    /// bytes whose it was: `false` if it cannot yet. A sender can write anything but a number of a
    /// subscription, not even its own; so the first one is the server's, and tells.
    pub(crate) fn bar(&mut self, isolation: Isolation, bytes: &[u8]) -> bool {
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        let tokens = bytes.split_inclusive(|byte| byte.is_ascii_whitespace());
        for token in tokens {
            let Some((end, digits)) = token.split_last() else { continue };
            // A number's end may not have come yet.
            if !end.is_ascii_whitespace() || digits.is_empty() || !digits.iter().all(is_digit) {
                continue;
            }
            let sid = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let Some(sid) = sid.filter(|sid| self.knows(isolation, *sid)) else { continue };
            if let Some(tenant) = self.tenants.by_number_mut(sid) {
                tenant.is_barred = true;
                tracing::error!(
                    tenant = %tenant.id,
                    "a message of the tenant broke the connection of the intake; none of its events \
                     is taken any more: look for restored streams in its account, then remove and \
                     add it or restart the service"
                );
            }
            return true;
        }
        false
    }

    /// The ids of all tenants that are not gone.
    pub(crate) fn ids(&self) -> Vec<TenantId> {
        let here = |tenant: &&Tenant| !matches!(tenant.standing, Standing::Gone(_));
        let tenants = self.tenants.iter().map(|(_, tenant)| tenant);
        tenants.filter(here).map(|tenant| tenant.id.clone()).collect()
    }

    fn fresh_number(&self) -> Option<u64> {
        loop {
            let number = random().ok()?;
            let is_taken = number == self.answers || number == self.shared_events;
            if !is_taken && self.tenants.by_number(number).is_none() {
                return Some(number);
            }
        }
    }
}
