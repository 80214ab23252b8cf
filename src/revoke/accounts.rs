//! What servers hold of tenants' accounts, kept beside everything else, since thousands of them must
//! not keep a connection open: new limits, and whether a tenant is over or goes on.
//!
//! An account whose tenant is over first loses what reaches other accounts, then its connections, and
//! the number of those that it may have last ([`Standing`]). What many tenants need at once, as when
//! they end together or a server comes, waits behind everything else, logins on the servers included.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

use super::{MAX_RETRY, RETRY, Revoker};
use crate::accounts::account::Standing;
use crate::causes::BoxError;
use crate::clock::UnixSeconds;
use crate::connections::Selection;
use crate::keys::AccountId;
use crate::store::{self, TenantId, TenantRecord};

/// Accounts pushed at a time, and between two looks at what else has come.
const PUSHES_AT_ONCE: usize = 8;
const PUSHES_IN_A_ROW: usize = 256;

/// The same for what waits behind everything else: the servers have this many times as long for
/// others as it took.
const PACED_AT_ONCE: usize = 2;
const REST: u32 = 3;

/// When the number of connections falls: later than the end of any login that had read the row before
/// it changed, and may have pushed the account as it was.
const CLOSED: Duration = Duration::from_secs(3);

/// Accounts whose connections are asked for at once.
const CLOSED_AT_ONCE: usize = 64;

/// How often tenants are looked at for one that has ended.
const TICK: Duration = Duration::from_millis(200);

/// What is to be brought to the servers.
pub(super) enum Wanted {
    /// Tenants that have just been changed; the sender is dropped once servers know.
    Changed(BTreeSet<TenantId>, oneshot::Sender<()>),
    /// Tenants that were changed some time ago.
    Noted(BTreeSet<TenantId>),
    /// Tenants of which anything may have changed, such as their end.
    Seen(BTreeSet<TenantId>),
    /// Everything: a server has come, or it is not known what has changed.
    All,
}

/// How long a tenant has been changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Recency {
    Old,
    New,
}

/// What is still to be done.
#[derive(Default)]
struct Agenda {
    changed: BTreeMap<TenantId, Recency>,
    told: Vec<oneshot::Sender<()>>,
    seen: BTreeSet<TenantId>,
    all: bool,
    /// When tenants end that are not over yet.
    ends: HashMap<TenantId, UnixSeconds>,
    /// Those that have ended by the clock.
    ended: BTreeSet<TenantId>,
    /// Those whose connections are to be closed for the last time, in the order of the times.
    closing: VecDeque<(Instant, TenantId)>,
    /// The time that counts of each: whoever goes on meanwhile, and is over again, gets another one.
    due: HashMap<TenantId, Instant>,
    /// Those whose connections are closed.
    closed: BTreeSet<TenantId>,
    /// Until when what waits behind everything else is left alone.
    rest: Option<Instant>,
    /// What has failed, when it is tried again, and how often it has been.
    failed: HashMap<TenantId, (Instant, u32)>,
    /// When the table is read again after it could not be.
    unread: Option<Instant>,
}

impl Agenda {
    fn take(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Changed(tenants, told) => {
                self.changed.extend(tenants.into_iter().map(|id| (id, Recency::New)));
                self.told.push(told);
            }
            Wanted::Noted(tenants) => {
                for id in tenants {
                    self.changed.entry(id).or_insert(Recency::Old);
                }
            }
            Wanted::Seen(tenants) => self.seen.extend(tenants),
            Wanted::All => self.all = true,
        }
    }

    /// Notes when a tenant ends that is not over yet.
    fn expect(&mut self, tenant: &TenantRecord, standing: Standing) {
        match tenant.expires_at {
            Some(end) if standing == Standing::Open && tenant.account.is_some() => {
                self.ends.insert(tenant.id.clone(), end);
            }
            _ => drop(self.ends.remove(&tenant.id)),
        }
    }

    /// Closes the connections of one who is over, at this time, or at one that was said before.
    fn close_at(&mut self, at: Instant, id: TenantId) {
        if self.due.contains_key(&id) {
            return;
        }
        self.due.insert(id.clone(), at);
        if self.closing.back().is_some_and(|(last, _)| at < *last) {
            self.closing.push_front((at, id));
        } else {
            self.closing.push_back((at, id));
        }
    }

    /// The next one whose time has come.
    fn next_closing(&mut self) -> Option<TenantId> {
        while self.has_closing() {
            let (at, id) = self.closing.pop_front()?;
            if self.due.get(&id) == Some(&at) {
                self.due.remove(&id);
                return Some(id);
            }
        }
        None
    }

    /// Moves on what time has come for.
    fn tick(&mut self, now: UnixSeconds) {
        let ended = self.ends.extract_if(|_, end| *end <= now).map(|(id, _)| id);
        self.ended.extend(ended);
        let instant = Instant::now();
        for (id, (at, _)) in &self.failed {
            if *at <= instant {
                self.changed.entry(id.clone()).or_insert(Recency::New);
            }
        }
        self.unread = self.unread.filter(|at| *at > instant);
        self.rest = self.rest.filter(|at| *at > instant);
    }

    fn has_closing(&self) -> bool {
        self.closing.front().is_some_and(|(at, _)| *at <= Instant::now())
    }

    /// How long there is nothing to do, unless something comes.
    fn pause(&self) -> Duration {
        let read = self.all || !self.seen.is_empty();
        if !self.changed.is_empty() || read && self.unread.is_none() {
            return Duration::ZERO;
        }
        let paced = !self.ended.is_empty() || !self.closed.is_empty() || self.has_closing();
        let rest = self.rest.map_or(Duration::ZERO, |at| at.duration_since(Instant::now()));
        if paced { rest.min(TICK) } else { TICK }
    }
}

/// Brings to the servers what is wanted of tenants' accounts.
pub(crate) struct AccountKeeper {
    revoker: Arc<Revoker>,
    wanted: mpsc::UnboundedReceiver<Wanted>,
    /// It outlives a panic.
    agenda: Agenda,
    began: bool,
}

impl AccountKeeper {
    pub(super) fn new(revoker: Arc<Revoker>, wanted: mpsc::UnboundedReceiver<Wanted>) -> Self {
        Self { revoker, wanted, agenda: Agenda::default(), began: false }
    }

    /// Does so with each until it is done. May be called again.
    pub(crate) async fn run(&mut self) {
        let Self { revoker, wanted, agenda, began } = self;
        // What was at hand before is not known any more.
        agenda.all |= std::mem::replace(began, true);
        loop {
            tokio::select! {
                some = wanted.recv() => match some {
                    Some(some) => agenda.take(some),
                    None => return,
                },
                () = tokio::time::sleep(agenda.pause()) => {}
            }
            while let Ok(some) = wanted.try_recv() {
                agenda.take(some);
            }
            agenda.tick(revoker.clock.now());
            revoker.step(agenda).await;
        }
    }
}

impl Revoker {
    /// Does a part of what there is, the most urgent first.
    async fn step(self: &Arc<Self>, agenda: &mut Agenda) {
        if !agenda.changed.is_empty() {
            self.push_changed(agenda).await;
            return;
        }
        if agenda.unread.is_none()
            && let Err(error) = self.read(agenda).await
        {
            tracing::warn!(%error, "which tenants are over is not known; trying again");
            agenda.unread = Some(Instant::now() + RETRY);
        }
        if agenda.rest.is_some() {
            return;
        }
        let begun = Instant::now();
        if !agenda.ended.is_empty() {
            let some = first(&mut agenda.ended, PACED_AT_ONCE);
            self.push(agenda, some, Standing::before_closing).await;
        } else if !agenda.closed.is_empty() {
            let some = first(&mut agenda.closed, PACED_AT_ONCE);
            self.push(agenda, some, |standing| standing).await;
        } else if agenda.has_closing() {
            self.close_again(agenda).await;
        } else {
            return;
        }
        agenda.rest = Some(Instant::now() + begun.elapsed() * REST);
    }

    async fn push_changed(self: &Arc<Self>, agenda: &mut Agenda) {
        let ids: Vec<TenantId> = agenda.changed.keys().take(PUSHES_IN_A_ROW).cloned().collect();
        let mut new = Vec::new();
        for id in &ids {
            match agenda.changed.get(id) {
                // What is over for long is no matter of haste.
                Some(Recency::Old) if self.is_over(id).await => {
                    agenda.close_at(Instant::now(), id.clone());
                }
                _ => new.push(id.clone()),
            }
        }
        self.push(agenda, new, Standing::before_closing).await;
        agenda.changed.retain(|id, _| !ids.contains(id));
        if agenda.changed.is_empty() {
            agenda.told.clear();
        }
    }

    async fn is_over(&self, id: &TenantId) -> bool {
        let Some(own) = &self.own else { return false };
        let tenant = self.provisioning.tenant(id).await;
        let now = self.clock.now();
        tenant.is_ok_and(|it| it.is_some_and(|it| own.issuer.standing(&it, now) != Standing::Open))
    }

    /// Reads of the table what is not known yet.
    async fn read(&self, agenda: &mut Agenda) -> Result<(), BoxError> {
        let Some(own) = &self.own else { return Ok(()) };
        let now = self.clock.now();
        if agenda.all {
            let tenants = self.provisioning.with_account().await?;
            agenda.all = false;
            for tenant in &tenants {
                let standing = own.issuer.standing(tenant, now);
                agenda.expect(tenant, standing);
                if standing != Standing::Open {
                    agenda.close_at(Instant::now(), tenant.id.clone());
                }
            }
        }
        let some: Vec<TenantId> = agenda.seen.iter().take(PUSHES_IN_A_ROW).cloned().collect();
        for id in some {
            match store::if_readable(self.provisioning.tenant(&id).await)? {
                Some(tenant) => agenda.expect(&tenant, own.issuer.standing(&tenant, now)),
                None => drop(agenda.ends.remove(&id)),
            }
            agenda.seen.remove(&id);
        }
        Ok(())
    }

    /// Pushes accounts, as far as `step` says where tenants are over.
    async fn push(
        self: &Arc<Self>,
        agenda: &mut Agenda,
        ids: Vec<TenantId>,
        step: fn(Standing) -> Standing,
    ) {
        let mut results = stream::iter(ids)
            .map(|id| async move {
                let result = self.push_one(&id, step).await;
                (id, result)
            })
            .buffer_unordered(PUSHES_AT_ONCE);
        while let Some((id, result)) = results.next().await {
            match result {
                Ok(pushed) => {
                    agenda.failed.remove(&id);
                    let Some((tenant, standing)) = pushed else { continue };
                    agenda.expect(&tenant, standing);
                    if matches!(standing, Standing::Closing(_)) {
                        agenda.close_at(Instant::now() + CLOSED, id);
                    } else if standing == Standing::Open {
                        agenda.due.remove(&id);
                    }
                }
                Err(error) => {
                    tracing::warn!(tenant = %id, %error, "an account was not pushed; trying again");
                    let times = agenda.failed.get(&id).map_or(0, |(_, times)| *times);
                    let pause = RETRY.saturating_mul(1 << times.min(6)).min(MAX_RETRY);
                    agenda.failed.insert(id, (Instant::now() + pause, times.saturating_add(1)));
                }
            }
        }
    }

    /// What was pushed; `None` if the tenant is gone, or has no account of its own.
    async fn push_one(
        &self,
        id: &TenantId,
        step: fn(Standing) -> Standing,
    ) -> Result<Option<(TenantRecord, Standing)>, BoxError> {
        let Some(own) = &self.own else { return Ok(None) };
        let Some((tenant, account)) = self.own_account(id).await? else { return Ok(None) };
        let standing = step(own.issuer.standing(&tenant, self.clock.now()));
        own.delivery.refresh(&tenant, account, standing).await?;
        Ok(Some((tenant, standing)))
    }

    async fn own_account(
        &self,
        id: &TenantId,
    ) -> Result<Option<(TenantRecord, AccountId)>, BoxError> {
        let Some(tenant) = self.provisioning.tenant(id).await? else { return Ok(None) };
        Ok(self.places.own(tenant.account).map(|account| (tenant, account)))
    }

    /// Closes who is still, or again, connected in accounts whose tenants are over.
    async fn close_again(&self, agenda: &mut Agenda) {
        let Some(own) = &self.own else { return };
        let mut selection = Selection::default();
        for _ in 0..CLOSED_AT_ONCE {
            let Some(id) = agenda.next_closing() else { break };
            let Ok(Some((tenant, account))) = self.own_account(&id).await else {
                // Pushing says why, and tries again.
                agenda.closed.insert(id);
                continue;
            };
            if own.issuer.standing(&tenant, self.clock.now()) != Standing::Open {
                selection.add_account(account.as_str(), Duration::ZERO);
            }
            agenda.closed.insert(id);
        }
        // A server that does not answer has not heard of the limit, either.
        if let Err(error) = self.cluster.close(&selection, Instant::now()).await {
            tracing::warn!(%error, "connections of tenants that are over may be left");
        }
    }
}

fn first(of: &mut BTreeSet<TenantId>, count: usize) -> Vec<TenantId> {
    std::iter::from_fn(|| of.pop_first()).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_and_is_over_again_has_its_time_anew() {
        let mut agenda = Agenda::default();
        let [one, two]: [TenantId; 2] = ["one", "two"].map(|id| id.parse().expect("an id"));
        let now = Instant::now();
        agenda.close_at(now, one.clone());
        agenda.close_at(now, two.clone());
        // It goes on, and is over again.
        agenda.due.remove(&one);
        agenda.close_at(now + CLOSED, one.clone());
        agenda.close_at(now, one);
        assert_eq!(agenda.next_closing(), Some(two));
        assert_eq!(agenda.next_closing(), None);
        assert_eq!(agenda.closing.len(), 1);
    }
}
