//! Slows down who guesses passwords, and shuts out nobody: beyond a free allowance of wrong
//! attempts, those on the same account or from the same source wait before their hash, a few at a
//! time, and go behind everybody else in the [lane](super::lane).
//!
//! | standing | who | before the hash |
//! |---|---|---|
//! | familiar | has logged in to this account from this source before | nothing |
//! | free | neither account nor source has used up its allowance | nothing |
//! | account | the account is being guessed, from other sources too | waits |
//! | source | the source has guessed too often | waits |
//!
//! In this order, and among equals by what their source has done before, they get a place to wait
//! in and a thread to hash on. So who logs in to an account that is being guessed from elsewhere
//! goes before all who guess it. What finds no place gets no answer, since its password may be
//! right. No success makes anything forgotten, or an account of his own would buy an attacker new
//! allowances. All of it is kept in bounded memory, by this instance alone. Tokens that nobody has are counted
//! [by themselves](tokens).
//!
//! An attempt counts from when its hash begins: as undecided while there is time, as wrong once the
//! time is up, however long the hash goes on. If it matches after all, that is taken back.

mod failures;
mod room;
mod standing;
mod tokens;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use self::failures::{Failures, Undecided, WINDOW};
use self::room::{Place, Room};
pub(super) use self::standing::{Rank, Standing};
use super::AuthnError;
use crate::redact::shortened;

/// Accounts and sources whose failures are remembered, and familiar pairs of both, at most. Those
/// that are seen often stay: names and addresses that are used once do not push them out.
const REMEMBERED: u64 = 100_000;

/// How long somebody stays familiar after his last login that was verified.
const FAMILIAR_FOR: Duration = Duration::from_secs(24 * 3_600);

/// The first wait; each further wrong attempt doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait. It is never more than half of the time that is left either, so that the hash
/// still comes before the deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

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

/// Of the decisions under way, one part in so many may be guesses that wait.
const PART: usize = 8;

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
    room: Arc<Room>,
    tokens: tokens::Sources,
    delayed: AtomicU64,
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
    /// Counts nothing yet. Part of so many decisions may be slowed down at once: others must not lack them.
    #[must_use]
    pub(crate) fn new(limits: GuessingLimits, decisions: usize) -> Self {
        Self::remembering(limits, decisions, REMEMBERED)
    }

    fn remembering(limits: GuessingLimits, decisions: usize, capacity: u64) -> Self {
        // A count is of no use once its window and the one before it are over.
        let counts = || Cache::builder().max_capacity(capacity).time_to_idle(2 * WINDOW).build();
        Self {
            limits,
            hasher: RandomState::new(),
            accounts: counts(),
            sources: counts(),
            familiar: Cache::builder().max_capacity(capacity).time_to_idle(FAMILIAR_FOR).build(),
            room: Arc::new(Room::new(decisions / PART)),
            tokens: tokens::Sources::new(decisions / tokens::PART, capacity),
            delayed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            said: Mutex::default(),
        }
    }

    /// The numbers as they are now.
    #[must_use]
    pub(crate) fn stats(&self) -> GuessingStats {
        GuessingStats {
            waiting: self.room.len(),
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
            standing: OnceCell::new(),
            admission: OnceCell::new(),
            displaced: CancellationToken::new(),
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

    /// Whether the log may speak now, and of how many others it has not.
    fn may_say(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock();
        if said.at.is_some_and(|at| now.saturating_duration_since(at) < SAY_EVERY) {
            said.unsaid += 1;
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }

    /// Speaks of an account or a source whose allowance is used up, once until it has been quiet for
    /// a while, and not more often than [`SAY_EVERY`] in all.
    fn say(&self, attempt: &GuessAttempt<'_>, standing: &Standing, now: Instant) {
        for failures in standing.counted() {
            if !failures.begins_trouble(now) {
                continue;
            }
            let Some(others) = self.may_say(now) else { continue };
            let is_source = standing.source.as_ref().is_some_and(|it| Arc::ptr_eq(it, failures));
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
                    user = shortened(attempt.user),
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
    standing: OnceCell<Arc<Standing>>,
    admission: OnceCell<Admission>,
    displaced: CancellationToken,
}

/// Leave to hash, as long as the attempt lasts.
struct Admission {
    _place: Option<Place>,
    _undecided: Option<Undecided>,
}

impl GuessAttempt<'_> {
    /// Whether it has to wait. Until then, attempts with the same password may share one hash.
    pub(super) async fn is_guess(&self) -> bool {
        self.standing().await.rank(Instant::now()).is_guess()
    }

    /// Leave to hash once, and in which standing: at once, or after a wait, or not at all. Whoever
    /// asks again during the same attempt has it already.
    pub(super) async fn admit(&self, deadline: Instant) -> Result<Arc<Standing>, AuthnError> {
        let standing = self.standing().await;
        self.admission.get_or_try_init(|| self.enter(standing, deadline)).await?;
        Ok(Arc::clone(standing))
    }

    /// Ends when the attempt has lost its place to another, and is to be given up.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
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
        let (standing, now) = (self.standing().await, Instant::now());
        standing.refuse(now);
        self.guessing.say(self, standing, now);
    }

    /// Notes that the password was right. Failures stay counted.
    pub(super) async fn accepted(&self) {
        // What was known to be right has asked for no leave, and proves nothing new.
        if let (Some(_), Some(key)) = (self.admission.get(), self.pair()) {
            let familiar = async { Arc::new(AtomicBool::new(true)) };
            self.guessing.familiar.get_with(key, familiar).await.store(true, Relaxed);
        }
    }

    /// Counts the attempt as wrong if nothing has come of its hash so far; says whether it is so.
    fn give_up(&self) -> bool {
        let now = Instant::now();
        let standing = self.standing.get().filter(|standing| standing.give_up(now));
        if let Some(standing) = standing {
            self.guessing.unfinished.fetch_add(1, Relaxed);
            self.guessing.say(self, standing, now);
        }
        standing.is_some()
    }

    /// When a hash has begun of which nothing has come so far.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.standing.get()?.unfinished_since()
    }

    async fn standing(&self) -> &Arc<Standing> {
        self.standing.get_or_init(|| self.look_up()).await
    }

    async fn look_up(&self) -> Arc<Standing> {
        let Guessing { limits, hasher, accounts, sources, familiar, .. } = self.guessing;
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
        Arc::new(Standing::new(familiar, account, source))
    }

    fn pair(&self) -> Option<u64> {
        self.source.map(|source| self.guessing.hasher.hash_one((self.user, source)))
    }

    async fn enter(
        &self,
        standing: &Arc<Standing>,
        deadline: Instant,
    ) -> Result<Admission, AuthnError> {
        // What is being hashed may well be wrong too, or the allowance would be as large as the
        // number of guesses that come at once.
        let undecided = standing.account.clone().map(Undecided::begin);
        let others = undecided.as_ref().map_or(0, Undecided::others);
        if !standing.rank_with(Instant::now(), others).is_guess() {
            return Ok(Admission { _place: None, _undecided: undecided });
        }
        drop(undecided);
        let now = Instant::now();
        standing.source.iter().for_each(|failures| failures.add_tried(now));
        let Some(place) = self.guessing.room.enter(standing, &self.displaced, now) else {
            return Err(AuthnError::Throttled);
        };
        self.guessing.delayed.fetch_add(1, Relaxed);
        let left = deadline.saturating_duration_since(now);
        tokio::time::sleep(wait(standing.excess(now)).min(left / 2)).await;
        Ok(Admission { _place: Some(place), _undecided: None })
    }
}

/// Who gives up, for whatever reason, after his hash has begun: it may go on for long, and a guess is
/// not to be free because it is slow.
impl Drop for GuessAttempt<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// How long who exceeds the allowance by `excess` wrong attempts waits.
fn wait(excess: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(excess);
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

/// Who is behind an address: an IPv4 address, or a network of IPv6, of which a single customer has
/// 2^64 addresses (RFC 6177). `None` for what is no address.
pub(super) fn source(host: &str) -> Option<IpNet> {
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    match address.parse::<IpAddr>().ok()?.to_canonical() {
        address @ IpAddr::V4(_) => Some(address.into()),
        IpAddr::V6(address) => Some(Ipv6Net::new(address, 64).ok()?.trunc().into()),
    }
}

#[cfg(test)]
mod tests;
