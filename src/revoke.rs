//! What a committed change means for connections that are alive and for what servers hold: closes
//! the connections that it no longer allows, pushes what accounts are good for, takes those that are
//! gone off the servers.
//!
//! Every instance does this for every change, once it decides by the new rows itself: whatever one
//! instance granted by what it knew before, it closes too. All of it may be done several times.
//! Nothing has to be done by anyone in particular: an instance that begins, or that meets a server
//! it has not seen, goes through everything that is still noted.

mod accounts;
mod ages;
mod causes;
mod places;
mod withdrawals;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::accounts::Wanted;
use self::ages::UNTOLD;
pub(crate) use self::causes::{Causes, Signal};
pub(crate) use self::places::Places;
use self::withdrawals::Withdrawals;
pub(crate) use self::withdrawals::credential_outlived;
use crate::accounts::account::AccountIssuer;
use crate::accounts::delivery::Delivery;
use crate::accounts::resolver;
use crate::causes::BoxError;
use crate::clock::{Clock, UnixSeconds};
use crate::connections::Selection;
use crate::keys::AccountId;
use crate::servers::Cluster;
use crate::store::{
    Change, Closes, Coordination, Effect, EffectOn, News, ProvisioningStore, TenantId,
};

/// A grant that was being answered when connections were first listed shows up until then.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// After a failure everything is gone through again, each time later.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(15);

/// How often servers are looked through for accounts that are gone, and for how long after one
/// was taken off or a server came. One that has missed an order gives the account back to its
/// peers when it exchanges accounts with them, every two minutes.
const SWEEP: Duration = Duration::from_secs(60);
const SWEEPS_LAST: Duration = Duration::from_secs(600);

/// How long connections wait until their account is cut off from others.
const CUT_OFF: Duration = Duration::from_secs(1);

/// How much longer than a grant a connection may live until the server has closed it.
const LEEWAY: Duration = Duration::from_secs(60);

/// What only operator mode has.
#[derive(Debug)]
pub(crate) struct OwnAccounts {
    /// Pushes accounts.
    pub(crate) delivery: Arc<Delivery>,
    /// Says what accounts are good for, and signs the order to forget them.
    pub(crate) issuer: Arc<AccountIssuer>,
}

/// Acts upon changes.
pub(crate) struct Revoker {
    /// The tenant table.
    pub(crate) provisioning: Arc<dyn ProvisioningStore>,
    /// What was changed.
    pub(crate) coordination: Arc<dyn Coordination>,
    /// The servers.
    pub(crate) cluster: Cluster,
    /// Where tenants' users are.
    pub(crate) places: Places,
    /// What only operator mode has.
    pub(crate) own: Option<OwnAccounts>,
    /// The longest life of a grant.
    pub(crate) ttl: Duration,
    /// How old a row may be that lets a user in while changes cannot be read.
    pub(crate) stale: Duration,
    /// Tells whether a new end matters to anyone alive.
    pub(crate) clock: Arc<dyn Clock>,
}

/// What is to be done about a number of effects.
#[derive(Default)]
struct Work {
    selection: Selection,
    /// Tenants whose accounts may be good for something else since.
    changed: BTreeSet<TenantId>,
    /// The same, since some time.
    noted: BTreeSet<TenantId>,
    removed: HashSet<AccountId>,
}

/// By then every instance knows of a change. An account that is taken off the servers before would
/// be missing for a login that another instance still places in it, and be refused at once.
const KNOWN: Duration = Duration::from_secs(1);

impl Revoker {
    /// Acts upon what comes in, upon servers that come, and from time to time, until `stop`. May be
    /// called again.
    pub(crate) async fn run(self: &Arc<Self>, causes: &mut Causes, stop: &CancellationToken) {
        let tasks = TaskTracker::new();
        let Causes { signals, arrivals, decisions, accounts, began, ages } = causes;
        // What was at hand before is not known any more.
        let mut is_lost = *began;
        let mut failures = 0_u32;
        let mut sweep_until = Instant::now();
        let mut acted = Instant::now();
        let mut withdrawals = Withdrawals::new(self.ttl);
        loop {
            let pause = if failures == 0 {
                SWEEP
            } else {
                RETRY.saturating_mul(1 << failures.min(6)).min(MAX_RETRY)
            };
            let mut news = Vec::new();
            // What could not be done before has to be done with what comes now.
            let mut everything = failures > 0;
            let was_lost = std::mem::take(&mut is_lost);
            let (mut untold, mut arrived) = (was_lost, false);
            let mut unread = Duration::ZERO;
            let (mut due, mut sweep) = (false, false);
            let withdrawn = withdrawals.next().filter(|_| failures == 0);
            tokio::select! {
                () = stop.cancelled() => break,
                () = std::future::ready(()), if untold => {}
                signal = signals.recv() => match signal {
                    Some(Signal::News(some)) => news.push(some),
                    Some(Signal::Unknown(time)) => (untold, unread) = (true, unread.max(time)),
                    None => break,
                },
                changed = arrivals.changed() => match changed {
                    Ok(()) => (everything, arrived) = (true, true),
                    Err(_) => break,
                },
                () = tokio::time::sleep_until((acted + pause).into()) => {
                    acted = Instant::now();
                    sweep = acted < sweep_until;
                    due = everything || sweep;
                }
                () = tokio::time::sleep_until(withdrawn.unwrap_or(acted).into()),
                    if withdrawn.is_some() => due = true,
            }
            if failures == 0 && !was_lost {
                ages.done();
            }
            while let Ok(signal) = signals.try_recv() {
                match signal {
                    Signal::News(some) => news.push(some),
                    Signal::Unknown(time) => (untold, unread) = (true, unread.max(time)),
                }
            }
            let (mut effects, seen) = split(news);
            // In config mode nobody hears of accounts.
            if !seen.is_empty() {
                let _ = accounts.send(Wanted::Seen(seen));
            }
            if untold || arrived {
                let _ = accounts.send(Wanted::All);
            }
            if effects.is_empty() && !(untold || arrived || due) {
                continue;
            }
            acted = Instant::now();
            everything |= untold;
            // Nor is it known whom an instance of before has let in by what it knew.
            if untold && (*began || !self.stale.is_zero()) {
                ages.untold(unread.max(self.stale));
            }
            *began |= untold;
            if everything || effects.iter().any(|effect| effect.on == EffectOn::Account) {
                sweep_until = Instant::now() + SWEEPS_LAST;
            }
            if everything {
                self.cluster.call_anew();
            }
            let sweep = sweep || everything;
            let acting = async {
                // What was granted by the rows as they were is alive from here on, and found.
                decisions.settle().await;
                // By the age of a change, connections that came after it are told from others. Until
                // it was told of the change, this instance did not know better.
                ages.told(&effects);
                if everything {
                    effects = self.coordination.effects().await?;
                }
                ages.count(&mut effects);
                withdrawals.sort_out(&mut effects, Instant::now());
                self.act(effects, sweep, accounts, &tasks).await
            };
            match stop.run_until_cancelled(acting).await {
                None => break,
                Some(Ok(())) if failures > 0 => {
                    tracing::info!("servers and the tenant table agree again");
                    failures = 0;
                }
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        %error,
                        "a change could not be carried through to all servers; trying again"
                    );
                }
            }
        }
        tasks.close();
        // What is left is a second look at what was closed already.
        let _ = tokio::time::timeout(Duration::from_millis(100), tasks.wait()).await;
    }

    async fn act(
        self: &Arc<Self>,
        effects: Vec<Effect>,
        sweep: bool,
        accounts: &mpsc::UnboundedSender<Wanted>,
        tasks: &TaskTracker,
    ) -> Result<(), BoxError> {
        let mut work = self.work(effects).await?;
        if !work.noted.is_empty() {
            let _ = accounts.send(Wanted::Noted(std::mem::take(&mut work.noted)));
        }
        if !work.changed.is_empty() {
            let (sender, told) = oneshot::channel();
            let _ = accounts.send(Wanted::Changed(std::mem::take(&mut work.changed), sender));
            // Thousands of accounts must not keep a connection open.
            let _ = tokio::time::timeout(CUT_OFF, told).await;
        }
        // Each part is done whatever becomes of the others.
        let closed = self.close(&work.selection, tasks).await;
        if sweep && self.own.is_some() {
            let gone = self.coordination.removed_accounts().await?;
            if !gone.is_empty() {
                work.removed.extend(resolver::held(&self.cluster, &gone).await?);
            }
        }
        if !work.removed.is_empty() {
            let this = Arc::clone(self);
            tasks.spawn(async move {
                tokio::time::sleep(KNOWN).await;
                if let Err(error) = this.remove(work.removed).await {
                    // The next sweep finds them.
                    tracing::warn!(%error, "accounts of removed tenants are still on servers");
                }
            });
        }
        closed
    }

    /// What effects come to. Connections that no grant can have kept alive since are left out.
    async fn work(&self, effects: Vec<Effect>) -> Result<Work, BoxError> {
        let mut work = Work::default();
        let mut tenants: BTreeMap<TenantId, Duration> = BTreeMap::new();
        let oldest = self.ttl.saturating_add(LEEWAY);
        let now = self.clock.now();
        for effect in effects {
            let account = self.places.own(effect.account);
            let closes = match effect.closes {
                Closes::Nothing => false,
                // Grants are older than the change, and live no longer than this.
                Closes::GrantsBeyond(end) => {
                    let longest = self.ttl.saturating_sub(effect.age).as_secs();
                    let longest = UnixSeconds::try_from(longest).unwrap_or(UnixSeconds::MAX);
                    end < now.saturating_add(longest)
                }
                Closes::Everything => true,
            } && effect.age <= oldest;
            match effect.on {
                EffectOn::Tenant(tenant) => {
                    if effect.pushes || effect.closes != Closes::Nothing {
                        let new = effect.age < UNTOLD;
                        let tenants = if new { &mut work.changed } else { &mut work.noted };
                        tenants.insert(tenant.clone());
                    }
                    if closes {
                        if let Some(account) = account {
                            work.selection.add_account(account.as_str(), effect.age);
                        }
                        let age = tenants.entry(tenant).or_insert(effect.age);
                        *age = effect.age.min(*age);
                    }
                }
                EffectOn::User(user) if closes => self.places.select_users(
                    [user.as_str()],
                    account,
                    effect.age,
                    &mut work.selection,
                ),
                EffectOn::User(_) => {}
                EffectOn::Account => {
                    let Some(account) = account else { continue };
                    if closes {
                        work.selection.add_account(account.as_str(), effect.age);
                        work.removed.insert(account);
                    }
                }
            }
        }
        for (tenant, age) in tenants {
            let users = self.provisioning.users(&tenant).await?;
            let users = users.iter().map(|user| user.name.as_str());
            self.places.select_tenant(&tenant, users, age, &mut work.selection);
        }
        Ok(work)
    }

    async fn close(
        self: &Arc<Self>,
        selection: &Selection,
        tasks: &TaskTracker,
    ) -> Result<(), BoxError> {
        if selection.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let closed = self.cluster.close(selection, begun).await?;
        let count = closed.ids.len();
        if count > 0 {
            tracing::info!(count, took = ?begun.elapsed(), "closed connections after a change");
        }
        let (this, selection) = (Arc::clone(self), selection.clone());
        tasks.spawn(async move {
            tokio::time::sleep(SECOND_LOOK).await;
            match this.cluster.close(&selection, begun).await {
                Ok(closed) if !closed.ids.is_empty() => {
                    tracing::info!(count = closed.ids.len(), "closed connections at second look");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "no second look at connections"),
            }
        });
        if closed.silent.is_empty() {
            return Ok(());
        }
        Err(format!("no answer from {}", Vec::from_iter(closed.silent).join(", ")).into())
    }

    async fn remove(&self, accounts: HashSet<AccountId>) -> Result<(), BoxError> {
        let Some(own) = &self.own else { return Ok(()) };
        let mut gone = Vec::new();
        for account in accounts.into_iter().filter(|it| self.places.own(Some(*it)).is_some()) {
            // A row that a person has put back counts.
            if self.provisioning.tenant_of_account(&account).await?.is_none() {
                gone.push(account);
            }
        }
        if !gone.is_empty() {
            resolver::forget(&self.cluster, &own.issuer, &gone, self.clock.now()).await?;
            tracing::info!(
                count = gone.len(),
                "took the accounts of removed tenants off the servers"
            );
        }
        Ok(())
    }
}

/// What was committed, and the tenants that it was about.
fn split(news: Vec<News>) -> (Vec<Effect>, BTreeSet<TenantId>) {
    let (mut effects, mut tenants) = (Vec::new(), BTreeSet::new());
    for News { changes, effects: some } in news {
        effects.extend(some);
        tenants.extend(changes.into_iter().filter_map(|change| match change {
            Change::Tenant(id) => id.parse().ok(),
            _ => None,
        }));
    }
    (effects, tenants)
}
