//! Slows down who guesses passwords, and shuts out nobody: beyond a free allowance of wrong attempts,
//! those on the same account or from the same source wait before their hash, and go behind everybody
//! else in the [pool](super::hash_pool).
//!
//! | class | who | before the hash |
//! |---|---|---|
//! | familiar | has logged in to this account from this source before | nothing |
//! | free | neither account nor source has used up its allowance | nothing |
//! | account | the account is being guessed, from other sources too | waits |
//! | source | the source has guessed too often | waits |
//!
//! In this order, and among equals by what their source has done before, they get a thread to hash
//! on; of guesses, so many may wait. So who logs in to an account that is being guessed from
//! elsewhere goes before all who guess it. What finds no place gets no answer, since its password may
//! be right. No success makes anything forgotten, or an account of his own would buy an attacker new
//! allowances. All of it is kept in bounded memory, by this instance alone.
//!
//! An attempt counts from when its hash begins: as undecided while there is time, as wrong once the
//! time is up, however long the hash goes on. If it matches after all, that is taken back.
//!
//! What each part is for, in columns of `cargo bench --bench load -- guessing` where it has one:
//!
//! - the wait and the shares of an account and a source: how many guesses are hashed, on a machine with
//!   many cores too (hashes);
//! - that the undecided count: guesses that come at once, on a machine that is slow to decide them;
//! - the order, and what a source has tried: that the owner is in while many guess (owner in within 2 s);
//! - threads of low priority, which give way and rest: what token logins and known passwords take;
//! - what is slow being theirs too: first logins beside guesses at slow hashes.

mod failures;
mod suspicion;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use self::failures::{Failures, Undecided, WINDOW};
pub(super) use self::suspicion::{Priority, Rank, Suspicion};
use crate::redact::shortened;

/// Accounts and sources whose failures are remembered, and familiar pairs of both, at most. Those
/// that are seen often stay: names and addresses that are used once do not push them out.
const REMEMBERED: u64 = 100_000;

/// How long somebody stays familiar after his last login that was verified.
const FAMILIAR_FOR: Duration = Duration::from_secs(24 * 3_600);

/// How often the log speaks of who is being slowed down, whoever it is.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuessingLimits {
    /// Wrong attempts on an account within a minute that slow down nobody; 0 counts none.
    pub account_failures: u32,
    /// Wrong attempts from a source (an IPv4 address, a /64 of IPv6) within a minute that slow down
    /// nobody; 0 counts none.
    pub source_failures: u32,
}

impl GuessingLimits {
    /// The limits unless told otherwise.
    pub const DEFAULT: Self = Self { account_failures: 10, source_failures: 100 };
}

impl Default for GuessingLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What has become of the attempts that were not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GuessingStats {
    /// Attempts that wait or are being hashed now.
    pub waiting: usize,
    /// Attempts that had to wait so far.
    pub delayed: u64,
    /// Attempts that found no place to wait in, or lost it to another, so far.
    pub dropped: u64,
    /// Attempts whose hash had begun and did not end in time, so far.
    pub unfinished: u64,
}

/// Counts wrong attempts, and makes those beyond the allowance wait.
pub(crate) struct Guessing {
    limits: GuessingLimits,
    /// Makes keys out of names and addresses. Nobody outside can tell which ones collide.
    hasher: RandomState,
    accounts: Cache<u64, Arc<Failures>>,
    sources: Cache<u64, Arc<Failures>>,
    familiar: Cache<u64, Arc<AtomicBool>>,
    waiting: AtomicUsize,
    delayed: Arc<AtomicU64>,
    dropped: AtomicU64,
    unfinished: AtomicU64,
    said: Mutex<Said>,
}

/// When the log last spoke, and what it has not said since.
#[derive(Debug, Default)]
struct Said {
    at: Option<Instant>,
    unsaid: u64,
}

impl Guessing {
    /// Counts nothing yet.
    #[must_use]
    pub(crate) fn new(limits: GuessingLimits) -> Self {
        Self::remembering(limits, REMEMBERED)
    }

    fn remembering(limits: GuessingLimits, capacity: u64) -> Self {
        // A count is of no use once its window and the one before it are over.
        let counts = || Cache::builder().max_capacity(capacity).time_to_idle(2 * WINDOW).build();
        Self {
            limits,
            hasher: RandomState::new(),
            accounts: counts(),
            sources: counts(),
            familiar: Cache::builder().max_capacity(capacity).time_to_idle(FAMILIAR_FOR).build(),
            waiting: AtomicUsize::new(0),
            delayed: Arc::default(),
            dropped: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            said: Mutex::default(),
        }
    }

    /// The numbers as they are now.
    #[must_use]
    pub(crate) fn stats(&self) -> GuessingStats {
        GuessingStats {
            waiting: self.waiting.load(Relaxed),
            delayed: self.delayed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            unfinished: self.unfinished.load(Relaxed),
        }
    }

    /// An attempt to log in as `user` from `host`, an IP address.
    pub(super) fn attempt<'a>(&'a self, user: &'a str, host: &'a str) -> GuessAttempt<'a> {
        GuessAttempt {
            guessing: self,
            user,
            source: source(host),
            suspicion: OnceCell::new(),
            undecided: OnceLock::new(),
        }
    }

    async fn failures_of(
        cache: &Cache<u64, Arc<Failures>>,
        key: u64,
        allowance: u32,
    ) -> Option<Arc<Failures>> {
        if allowance == 0 {
            return None;
        }
        Some(cache.get_with(key, async { Arc::new(Failures::new(allowance)) }).await)
    }

    /// Speaks of an account or a source whose allowance is used up, once until it has been quiet for
    /// a while, and not more often than [`SAY_EVERY`] in all.
    fn say(&self, attempt: &GuessAttempt<'_>, suspicion: &Suspicion, now: Instant) {
        for failures in suspicion.counted() {
            if !failures.begins_trouble(now) {
                continue;
            }
            let mut said = self.said.lock();
            if said.at.is_some_and(|at| now.saturating_duration_since(at) < SAY_EVERY) {
                said.unsaid += 1;
                continue;
            }
            let others = std::mem::take(&mut said.unsaid);
            said.at = Some(now);
            drop(said);
            let is_source = suspicion.source.as_ref().is_some_and(|it| Arc::ptr_eq(it, failures));
            let source = attempt.source.map(|source| source.to_string());
            let failures = failures.count(now).wrong;
            if is_source {
                tracing::warn!(
                    source,
                    failures,
                    others,
                    "a source guesses passwords: its attempts are slowed down"
                );
            } else {
                tracing::warn!(
                    user = ?shortened(attempt.user),
                    source,
                    failures,
                    others,
                    "an account's password is being guessed: attempts are slowed down"
                );
            }
        }
    }
}

impl fmt::Debug for Guessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guessing")
            .field("limits", &self.limits)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// One attempt whose password is not known to be right.
pub(super) struct GuessAttempt<'a> {
    guessing: &'a Guessing,
    user: &'a str,
    source: Option<IpNet>,
    suspicion: OnceCell<Arc<Suspicion>>,
    undecided: OnceLock<Option<Undecided>>,
}

impl GuessAttempt<'_> {
    /// Whether it has to wait. Until then, attempts with the same password may share one hash.
    pub(super) async fn is_guess(&self) -> bool {
        self.suspicion().await.rank(Instant::now(), false).is_guess()
    }

    /// What is held against a hash of this attempt, which waits before the first if it is a guess.
    pub(super) async fn enter(&self, deadline: Instant) -> Arc<Suspicion> {
        let suspicion = self.suspicion().await;
        self.undecided.get_or_init(|| {
            let now = Instant::now();
            let undecided = suspicion.account.clone().map(Undecided::begin);
            let others = undecided.as_ref().map_or(0, Undecided::others);
            if !suspicion.is_guess_beside(others, now) {
                return undecided;
            }
            suspicion.delay(now, deadline);
            suspicion.source.iter().for_each(|failures| failures.add_tried(now));
            self.guessing.waiting.fetch_add(1, Relaxed);
            None
        });
        Arc::clone(suspicion)
    }

    /// Notes that the attempt, which may have been right, found no place; or that there was no more
    /// time for its hash, once that had begun.
    pub(super) fn dropped(&self) {
        if !self.give_up() {
            self.guessing.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Notes that the attempt was refused, for whatever reason: all are treated alike.
    pub(super) async fn refused(&self) {
        let suspicion = self.suspicion().await;
        suspicion.refuse();
        self.guessing.say(self, suspicion, Instant::now());
    }

    /// Notes that the password was right. Failures stay counted.
    pub(super) async fn accepted(&self) {
        // What was known to be right was never under suspicion, and proves nothing new.
        if let (Some(_), Some(key)) = (self.suspicion.get(), self.pair()) {
            let familiar = async { Arc::new(AtomicBool::new(true)) };
            self.guessing.familiar.get_with(key, familiar).await.store(true, Relaxed);
        }
    }

    /// Whether a hash has begun, and nothing has come of it so far.
    pub(super) fn is_unfinished(&self) -> bool {
        self.suspicion.get().is_some_and(|it| it.is_unfinished())
    }

    /// Counts the attempt as wrong if nothing has come of its hash so far; says whether it is so.
    fn give_up(&self) -> bool {
        let suspicion = self.suspicion.get().filter(|it| it.give_up());
        if let Some(suspicion) = suspicion {
            self.guessing.unfinished.fetch_add(1, Relaxed);
            self.guessing.say(self, suspicion, Instant::now());
        }
        suspicion.is_some()
    }

    async fn suspicion(&self) -> &Arc<Suspicion> {
        self.suspicion.get_or_init(|| self.look_up()).await
    }

    async fn look_up(&self) -> Arc<Suspicion> {
        let Guessing { limits, hasher, accounts, sources, familiar, delayed, .. } = self.guessing;
        let account = hasher.hash_one(self.user);
        let account = Guessing::failures_of(accounts, account, limits.account_failures).await;
        let source = match self.source {
            Some(source) => {
                let key = hasher.hash_one(source);
                Guessing::failures_of(sources, key, limits.source_failures).await
            }
            None => None,
        };
        let familiar = match self.pair() {
            Some(key) => familiar.get(&key).await,
            None => None,
        };
        let delayed = Arc::clone(delayed);
        Arc::new(Suspicion { familiar, account, source, delayed, ..Suspicion::default() })
    }

    fn pair(&self) -> Option<u64> {
        self.source.map(|source| self.guessing.hasher.hash_one((self.user, source)))
    }
}

/// Who gives up, for whatever reason, after his hash has begun: it may go on for long, and a guess is
/// not to be free because it is slow.
impl Drop for GuessAttempt<'_> {
    fn drop(&mut self) {
        self.give_up();
        if self.suspicion.get().is_some_and(|it| it.is_delayed()) {
            self.guessing.waiting.fetch_sub(1, Relaxed);
        }
    }
}

/// Who is behind an address: an IPv4 address, or a network of IPv6, of which a single customer has
/// 2^64 addresses (RFC 6177). `None` for what is no address.
fn source(host: &str) -> Option<IpNet> {
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    match address.parse::<IpAddr>().ok()?.to_canonical() {
        address @ IpAddr::V4(_) => Some(address.into()),
        IpAddr::V6(address) => Some(Ipv6Net::new(address, 64).ok()?.trunc().into()),
    }
}

#[cfg(test)]
mod tests;
