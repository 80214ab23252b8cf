//! Has connections begin anew well before their grants end. Most client libraries take the end of a grant
//! for an error, and some close for good at it or at the first login after it that fails; none minds a
//! connection that breaks. So the service breaks it (KICK) while it would let the client in again, and the
//! end of the grant is what is left where it would not.
//!
//! ```text
//! a grant that only its own life bounds -> Renewals -> when a part of that life is over -> Renewer:
//!   could anybody be let in now? would this one be? -> LDM, a second, KICK -> the client logs in again
//! ```
//!
//! Whoever has come by a credential that is gone since is closed then too, where the change would close him only
//! later ([`crate::revoke`]): his grant might end before.
//!
//! Where nobody could be until a moment before the end, it is broken off in any case: the server would close it
//! then with an error, and a login that is not answered leaves most clients trying.
//!
//! An instance renews what it has granted itself, and what nobody remembers any more ([`adoption`]).

mod absent;
pub(crate) mod adoption;
mod held;
mod pace;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;

use self::absent::{ALONE, Absent};
use self::held::{Due, Held, Key, Look};
use self::pace::Pace;
use crate::audit::{Kick, Late, Observer};
use crate::authn::Rejected;
use crate::authorize::{Authorizer, Outcome, Renewable};
use crate::connections::{Break, ConnectionId};
use crate::keys::ServerId;
use crate::policy::ConnectionType;
use crate::servers::{Cluster, KnownServers};
use crate::store::TenantId;

/// How often it is looked who is due.
const LOOK: Duration = Duration::from_millis(250);

/// A client that knows what to do (a handler of lame duck mode) has so long to go by itself.
const NOTICE: Duration = Duration::from_secs(1);

/// What takes longer cannot be said just now: all that is done for one takes less than the time before its end at
/// which it has its last chance.
const QUICK: Duration = Duration::from_millis(500);

/// When one is tried again that could not be renewed just now: after this part of its grant's life, and
/// after this time at most, so that there is time for more than one.
const LATER_PART: u32 = 20;
const LATER: Duration = Duration::from_secs(5);

/// What has become of connections that were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RenewalStats {
    /// Connections that are to be renewed.
    pub(crate) held: usize,
    /// Connections that could not be kept in mind.
    pub(crate) forgotten: u64,
    /// Broken off, so that they begin anew.
    pub(crate) renewed: u64,
    /// They were closed before.
    pub(crate) gone: u64,
    /// They would not be let in again, and end with their grants.
    pub(crate) refused: u64,
    /// They had to wait, since nobody or not so many could be let in.
    pub(crate) deferred: u64,
    /// Their server did not answer.
    pub(crate) unanswered: u64,
}

#[derive(Debug, Default)]
struct Counts {
    renewed: AtomicU64,
    gone: AtomicU64,
    refused: AtomicU64,
    deferred: AtomicU64,
    unanswered: AtomicU64,
}

/// Whether whoever is broken off now would be let in.
#[async_trait]
pub(crate) trait Admits: Send + Sync {
    /// Whether logins are decided, by rows that are read now, and nobody waits.
    async fn could_admit(&self) -> bool;
}

/// What is granted here, and is to be renewed.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    held: Mutex<Held>,
    absent: Mutex<Absent>,
    decisions: AtomicU64,
    counts: Counts,
}

impl Renewals {
    /// The numbers as they are now.
    pub(crate) fn stats(&self) -> RenewalStats {
        let read = |count: &AtomicU64| count.load(Relaxed);
        let held = self.held.lock();
        RenewalStats {
            held: held.len(),
            forgotten: held.forgotten,
            renewed: read(&self.counts.renewed),
            gone: read(&self.counts.gone),
            refused: read(&self.counts.refused),
            deferred: read(&self.counts.deferred),
            unanswered: read(&self.counts.unanswered),
        }
    }

    /// Whether a connection is kept in mind.
    fn holds(&self, server: ServerId, cid: u64) -> bool {
        self.held.lock().holds(&Key { server, cid })
    }

    /// Keeps one in mind that another instance has granted, unless it is.
    fn adopt(&self, renewable: Renewable) {
        let mut held = self.held.lock();
        if !held.holds(&Key { server: renewable.server, cid: renewable.cid }) {
            held.adopt(Arc::new(renewable));
        }
    }

    /// Forgets a connection that is closed.
    pub(crate) fn forget(&self, server: ServerId, cid: u64) {
        self.held.lock().forget(&Key { server, cid });
    }
}

impl Observer for Renewals {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        self.decisions.fetch_add(1, Relaxed);
        if let Outcome::Reply(reply) = outcome
            && let Some(renewable) = &reply.renewable
        {
            self.held.lock().hold(Arc::clone(renewable));
        }
    }

    /// Whoever may be in after all is renewed as well: where nobody is, nobody is broken off.
    fn late(&self, late: &Late) {
        if let Some(renewable) = &late.renewable {
            self.held.lock().hold(Arc::clone(renewable));
        }
    }
}

/// Renews what is due.
pub(crate) struct Renewer {
    /// What is held.
    pub(crate) renewals: Arc<Renewals>,
    /// Says whether one would be let in again.
    pub(crate) authorizer: Arc<Authorizer>,
    /// Says whether anybody would be.
    pub(crate) admits: Arc<dyn Admits>,
    /// The servers.
    pub(crate) cluster: Cluster,
    /// Those that are there.
    pub(crate) servers: Arc<KnownServers>,
    /// Is told of each connection that is broken off.
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Renewer {
    /// Renews, until it is dropped. May be called again.
    pub(crate) async fn run(&self) {
        let mut pace = Pace::new(Instant::now());
        let mut before = self.renewals.decisions.load(Relaxed);
        let mut ticks = tokio::time::interval(LOOK);
        let mut batches = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(()) = batches.next() => continue,
            }
            let decisions = self.renewals.decisions.load(Relaxed);
            pace.note(decisions.saturating_sub(before), Instant::now());
            before = decisions;
            let Look { last, due } = self.look(&mut pace);
            if !due.is_empty() {
                batches.push(self.renew(due).boxed());
            }
            if !last.is_empty() {
                batches.push(self.renew_at_last(last).boxed());
            }
        }
    }

    /// Who is to be renewed now, without those on servers that are not reached.
    fn look(&self, pace: &mut Pace) -> Look {
        let (mut held, absent) = (self.renewals.held.lock(), self.renewals.absent.lock());
        let now = Instant::now();
        let mut most = pace.allowance(now, held.demand());
        let mut all = Look { last: Vec::new(), due: Vec::new() };
        loop {
            let Look { last, due } = held.look(now, most);
            let (away, due): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|due| absent.is_away(due.renewable.server));
            most -= due.len();
            all.last.extend(last);
            all.due.extend(due);
            if away.is_empty() {
                pace.spend(all.due.len());
                return all;
            }
            self.renewals.counts.deferred.fetch_add(away.len() as u64, Relaxed);
            for due in away {
                held.put_back(due, now + ALONE);
            }
        }
    }

    /// Breaks those off who would be let in again.
    async fn renew(&self, due: Vec<Due>) {
        if !self.could_admit().await {
            return self.defer(due).await;
        }
        let (mut ready, mut withdrawn, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for (due, would) in join_all(due.into_iter().map(|due| self.would_renew(due))).await {
            match would {
                Some(Would::Renew) => ready.push(due),
                Some(Would::Withdraw) => withdrawn.push(due),
                Some(Would::Leave) => {}
                None => later.push(due),
            }
        }
        self.withdraw(withdrawn).await;
        self.defer(later).await;
        let hears =
            |due: &&Due| ConnectionType::of(due.renewable.client()) != Some(ConnectionType::Mqtt);
        let told = ready.iter().filter(hears).map(|due| async {
            self.cluster.give_notice(&due.id()).await;
        });
        tokio::join!(join_all(told), tokio::time::sleep(NOTICE));
        if !self.could_admit().await {
            return self.defer(ready).await;
        }
        self.break_off(ready).await;
    }

    /// Breaks those off whose grants end in a moment, unless they would be refused.
    async fn renew_at_last(&self, due: Vec<Due>) {
        let (mut ready, mut withdrawn) = (Vec::new(), Vec::new());
        for (due, would) in join_all(due.into_iter().map(|due| self.would_renew(due))).await {
            match would {
                Some(Would::Renew) | None => ready.push(due),
                Some(Would::Withdraw) => withdrawn.push(due),
                Some(Would::Leave) => {}
            }
        }
        self.withdraw(withdrawn).await;
        self.break_off(ready).await;
    }

    async fn could_admit(&self) -> bool {
        tokio::time::timeout(QUICK, self.admits.could_admit()).await.unwrap_or(false)
    }

    /// Whether one would be let in again. `None` if that cannot be said.
    async fn would_renew(&self, due: Due) -> (Due, Option<Would>) {
        let decision = self.authorizer.would_renew(&due.renewable);
        let would = match tokio::time::timeout(QUICK, decision).await {
            Ok(Ok(Some(_))) => Some(Would::Renew),
            Ok(Ok(None)) => {
                self.leave(&due.renewable, "its policy says so");
                Some(Would::Leave)
            }
            Ok(Err(Rejected::Denied(denied))) if denied.reason.is_of_credential() => {
                Some(Would::Withdraw)
            }
            Ok(Err(Rejected::Denied(denied))) => {
                self.leave(&due.renewable, denied.code());
                Some(Would::Leave)
            }
            Ok(Err(Rejected::Fault(_))) | Err(_) => None,
        };
        (due, would)
    }

    /// Closes those whose credential is gone. What is missed here, the change closes.
    async fn withdraw(&self, withdrawn: Vec<Due>) {
        let closing = withdrawn.into_iter().map(|due| async {
            let closed = self.cluster.break_off(&due.id()).await;
            (due, closed)
        });
        for (due, closed) in join_all(closing).await {
            if closed == Break::Broken {
                let kick = due.kick();
                tracing::debug!(
                    user = kick.user,
                    "a connection is closed, whose credential is gone"
                );
                self.cluster.note_closed(&kick);
            }
        }
    }

    async fn break_off(&self, ready: Vec<Due>) {
        let broken = ready.into_iter().map(|due| async {
            let broken = self.cluster.break_off(&due.id()).await;
            (due, broken)
        });
        let mut unknown = Vec::new();
        for (due, broken) in join_all(broken).await {
            let counts = &self.renewals.counts;
            let server = due.renewable.server;
            match broken {
                Break::Broken => {
                    counts.renewed.fetch_add(1, Relaxed);
                    self.tell(&due);
                }
                Break::Gone => drop(counts.gone.fetch_add(1, Relaxed)),
                Break::Silent => {
                    counts.unanswered.fetch_add(1, Relaxed);
                    unknown.push(due);
                }
                Break::NoServer if self.renewals.absent.lock().is_given_up(server) => {
                    // What it had is adopted if it comes back after all.
                    self.servers.gone(&server);
                    self.renewals.held.lock().forget_all_of(server);
                }
                Break::NoServer => unknown.push(due),
            }
            if matches!(broken, Break::Broken | Break::Gone) {
                self.renewals.absent.lock().is_there(server);
            }
        }
        // A connection that was broken off after all is forgotten when its server says so.
        let now = Instant::now();
        self.put_off(unknown.into_iter().filter(|due| !due.is_last(now)));
    }

    /// Tries again later, but for those whose grants end before.
    async fn defer(&self, due: Vec<Due>) {
        self.renewals.counts.deferred.fetch_add(due.len() as u64, Relaxed);
        let now = Instant::now();
        let (last, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| due.is_last(now));
        self.put_off(later);
        self.renew_at_last(last).await;
    }

    fn put_off(&self, due: impl IntoIterator<Item = Due>) {
        let mut held = self.renewals.held.lock();
        for due in due {
            let later = LATER.min(*due.renewable.life.start() / LATER_PART);
            held.put_back(due, Instant::now() + later);
        }
    }

    fn leave(&self, left: &Renewable, reason: &str) {
        let Renewable { server, cid, user, tenant, .. } = left;
        self.renewals.counts.refused.fetch_add(1, Relaxed);
        let tenant = tenant.as_ref().map(TenantId::as_str);
        tracing::debug!(
            user,
            tenant,
            %server,
            cid,
            reason,
            "a connection is not renewed, and ends with its grant"
        );
    }

    fn tell(&self, renewed: &Due) {
        let kick = renewed.kick();
        let Kick { server, cid, user, host, .. } = &kick;
        let tenant = renewed.renewable.tenant.as_ref().map(TenantId::as_str);
        tracing::debug!(
            user,
            tenant,
            server,
            cid,
            host,
            "a connection is broken off before its grant ends, to begin anew"
        );
        if let Some(observer) = &self.observer {
            observer.renewed(&kick);
        }
    }
}

impl fmt::Debug for Renewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewer").field("stats", &self.renewals.stats()).finish_non_exhaustive()
    }
}

/// What becomes of a connection that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Would {
    /// It would be let in again, and begins anew.
    Renew,
    /// What it came by is gone: it is closed.
    Withdraw,
    /// It would be refused, and is left.
    Leave,
}

impl Due {
    fn kick(&self) -> Kick {
        let Renewable { server, cid, account, user, .. } = &*self.renewable;
        let (server, account, user) = (server.to_string(), account.clone(), user.clone());
        Kick { server, cid: *cid, account, user, host: self.renewable.host().to_owned() }
    }

    fn id(&self) -> ConnectionId {
        let Renewable { server, cid, .. } = &*self.renewable;
        ConnectionId { server: server.to_string(), cid: *cid }
    }
}
