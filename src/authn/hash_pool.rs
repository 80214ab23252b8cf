//! The bounded pool that all password hashing goes through: as many threads as there are cores, half
//! as many of low priority for guesses and for stored hashes that are slow, a short list of those who
//! wait, and no work for a login that has been given up.
//!
//! Each thread keeps the memory that a hash takes, until it has had nothing to do for a while.

mod level;
mod wait_list;

use std::fmt;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use self::level::Level;
use self::wait_list::{Job, Late, WaitList, Waiting};
use super::AuthnError;
use super::guessing::{Priority, Suspicion};
use super::hashing::{self, HashingError, Memory, Pace, Verdict};
use super::random;
use crate::protocol::credentials::Secret;
use crate::store::PasswordHash;

/// What the pool has done and has waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HashPoolStats {
    /// Jobs that wait for a thread now.
    pub waiting: usize,
    /// Jobs that are carried out now.
    pub running: usize,
    /// How many may be at a time, beside those for likely guesses.
    pub threads: usize,
    /// Jobs carried out, each of them one hash.
    pub done: u64,
    /// Jobs refused because the queue was full.
    pub refused_full: u64,
    /// Jobs refused because they could not have ended before their deadline.
    pub refused_late: u64,
    /// Jobs dropped unworked, because their deadline had passed or their caller was gone.
    pub skipped: u64,
}

/// Hashes passwords on its own threads, at most one job per thread at a time. Half as many others
/// work for those who have used up what `Guessing` allows for nothing.
pub(crate) struct HashPool {
    dummy: PasswordHash,
    pace: Pace,
    shared: Arc<Shared>,
}

/// How long a thread sleeps at most while something waits that is not its own to do: by now it may be.
const LOOK: Duration = Duration::from_millis(20);

/// How long a thread with nothing to do keeps the memory that it hashes in.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// How long it sleeps then, unless something is to be done.
const AT_REST: Duration = Duration::from_secs(3_600);

/// Of the decisions under way, one part in so many may be guesses that wait.
const GUESSES_PART: usize = 8;

/// What the pool shares with its threads.
struct Shared {
    list: Mutex<WaitList>,
    high: Level,
    low: Level,
    running: AtomicUsize,
    done: AtomicU64,
    refused_late: AtomicU64,
}

impl HashPool {
    /// How many jobs wait at most, unless told otherwise: a bound for memory. What cannot be done in
    /// time is refused whatever the number.
    pub(crate) const DEFAULT_QUEUE: usize = 4_096;

    /// How long a decision takes at most, unless told otherwise.
    const DEFAULT_DEADLINE: Duration = Duration::from_millis(1_800);

    /// How many guesses wait at most, unless told otherwise.
    const DEFAULT_GUESSES: usize = 128;

    /// Starts `threads` threads (0: one per core), and half as many of low priority, with room for
    /// `queue` waiting jobs (at least 1). It hashes once, for the [dummy](Self::verify_as) and the
    /// `Pace` of this machine.
    pub(crate) fn new(threads: usize, queue: usize) -> Result<Self, HashingError> {
        let mut memory = Memory::default();
        let unguessable = random::text(random::BASE62, 32)?;
        let (pace, dummy) = Pace::measure(&mut memory, &unguessable, Self::DEFAULT_DEADLINE)?;
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shared = Arc::new(Shared {
            list: Mutex::new(WaitList::new(queue, Self::DEFAULT_GUESSES)),
            high: Level::new(threads, Priority::High, pace.current()),
            low: Level::new((threads / 2).max(1), Priority::Low, pace.current()),
            running: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            refused_late: AtomicU64::new(0),
        });
        // Closes the list if a thread cannot be started.
        let pool = Self { dummy, pace, shared };
        for (name, priority) in [("hashing", Priority::High), ("guesses", Priority::Low)] {
            for index in 0..pool.shared.level(priority).threads {
                let shared = Arc::clone(&pool.shared);
                std::thread::Builder::new()
                    .name(format!("{name}-{index}"))
                    .spawn(move || shared.work(priority))
                    .map_err(HashingError::Threads)?;
            }
        }
        Ok(pool)
    }

    /// How many guesses wait at most where so many decisions may be under way: an eighth, which others
    /// must not lack.
    #[must_use]
    pub(crate) fn with_max_in_flight(self, decisions: usize) -> Self {
        self.shared.list().guesses = (decisions / GUESSES_PART).max(1);
        self
    }

    /// What is slow, where a decision takes at most so long: see `Pace`.
    #[must_use]
    pub(crate) fn with_deadline(mut self, deadline: Duration) -> Self {
        self.pace = self.pace.with_deadline(deadline);
        self
    }

    /// How long stored hashes take here.
    #[must_use]
    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// Compares a password with a stored hash. Without a hash, or with one that is unusable, a
    /// dummy of the current parameters is computed instead, so that each call costs one hash and
    /// nobody learns from the time it took who exists; the password then never matches.
    ///
    /// The suspicion that it is under learns when the hash begins and how it ends. On a match it also
    /// calls `matched`. All of it even if by then the deadline has passed: what has been worked out is
    /// not to be lost.
    pub(super) async fn verify_as(
        &self,
        suspicion: Arc<Suspicion>,
        password: Secret,
        hash: Option<PasswordHash>,
        deadline: Instant,
        matched: impl FnOnce() + Send + 'static,
    ) -> Result<Verdict, AuthnError> {
        let dummy = self.dummy.clone();
        let time = hash.as_ref().and_then(|hash| self.pace.time_of(hash).ok());
        let is_slow = time.is_some_and(|time| self.pace.is_slow(time));
        let held = Arc::clone(&suspicion);
        let work = move |memory: &mut Memory| {
            held.begin();
            let verdict = match &hash {
                Some(hash) => hashing::verify_in(memory, password.expose(), hash)?,
                None => Verdict::Mismatch,
            };
            if hash.is_none() || matches!(verdict, Verdict::Unusable(_)) {
                black_box(hashing::verify_in(memory, password.expose(), &dummy)?);
            }
            held.end(verdict == Verdict::Match);
            if verdict == Verdict::Match {
                matched();
            }
            Ok(verdict)
        };
        self.run(suspicion, is_slow, deadline, work).await?.map_err(failed)
    }

    /// Hashes a password with the current scheme.
    pub(crate) async fn hash(
        &self,
        password: Secret,
        deadline: Instant,
    ) -> Result<PasswordHash, AuthnError> {
        let work = move |memory: &mut Memory| hashing::hash_in(memory, password.expose());
        self.run(Arc::default(), false, deadline, work).await?.map_err(failed)
    }

    /// The counters as they are now.
    #[must_use]
    pub(crate) fn stats(&self) -> HashPoolStats {
        let shared = &self.shared;
        let list = shared.list();
        HashPoolStats {
            waiting: list.ready(Instant::now()),
            running: shared.running.load(Relaxed),
            threads: shared.high.threads,
            done: shared.done.load(Relaxed),
            refused_full: list.refused_full,
            refused_late: shared.refused_late.load(Relaxed),
            skipped: list.skipped,
        }
    }

    /// Does `work` on the pool, if it can be begun in time and somebody still waits for it.
    async fn run<T: Send + 'static>(
        &self,
        suspicion: Arc<Suspicion>,
        is_slow: bool,
        deadline: Instant,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AuthnError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Task { shared: Arc::clone(&self.shared), answer, work });
        self.shared.add(Waiting { suspicion, is_slow, deadline, job })?;
        match tokio::time::timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) if Instant::now() < deadline => {
                Err(AuthnError::Other("password hashing ended without an answer".into()))
            }
            Ok(Err(_)) | Err(_) => {
                self.shared.refused_late.fetch_add(1, Relaxed);
                Err(AuthnError::Overloaded)
            }
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.list().is_closed = true;
        self.shared.high.changed.notify_all();
        self.shared.low.changed.notify_all();
    }
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, WaitList> {
        self.list.lock()
    }

    fn level(&self, priority: Priority) -> &Level {
        match priority {
            Priority::High => &self.high,
            Priority::Low => &self.low,
        }
    }

    fn add(&self, waiting: Waiting) -> Result<(), AuthnError> {
        let wait = |priority, ahead| self.level(priority).wait(ahead);
        let pushed = self.list().push(waiting, Instant::now(), wait);
        if let Err(Late { is_guess }) = pushed {
            // Those are counted by themselves, and are no sign of too much to do.
            self.refused_late.fetch_add(u64::from(!is_guess), Relaxed);
            return Err(AuthnError::Overloaded);
        }
        self.high.changed.notify_one();
        self.low.changed.notify_one();
        Ok(())
    }

    /// What each thread does until the list is closed.
    fn work(&self, priority: Priority) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(priority.niceness()) {
            tracing::warn!(%error, "hashing does not give way to logins that need no hash");
        }
        let level = self.level(priority);
        let (mut memory, mut used) = (Memory::default(), Instant::now());
        let mut list = self.list();
        while !list.is_closed {
            let Some(job) = list.take(priority, Instant::now()) else {
                if used.elapsed() >= KEPT_FOR {
                    memory.release();
                }
                let patience = match (list.len(), memory.is_empty()) {
                    (0, true) => AT_REST,
                    (0, false) => KEPT_FOR,
                    _ => LOOK,
                };
                level.changed.wait_for(&mut list, patience);
                continue;
            };
            drop(list);
            match catch_unwind(AssertUnwindSafe(|| job.work(priority, &mut memory))) {
                Ok(spent) => std::thread::sleep(priority.rest(spent)),
                Err(_) => tracing::error!("a password hashing job panicked"),
            }
            used = Instant::now();
            list = self.list();
        }
    }
}

/// Work, and where its result goes.
struct Task<T, W> {
    shared: Arc<Shared>,
    answer: oneshot::Sender<Result<T, AuthnError>>,
    work: W,
}

impl<T: Send, W: FnOnce(&mut Memory) -> T + Send> Job for Task<T, W> {
    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    fn work(self: Box<Self>, priority: Priority, memory: &mut Memory) -> Duration {
        let begun = Instant::now();
        let running = Running::begin(&self.shared.running);
        let result = (self.work)(memory);
        drop(running);
        let spent = begun.elapsed();
        self.shared.level(priority).note_cost(spent + priority.rest(spent));
        self.shared.done.fetch_add(1, Relaxed);
        // The caller may have given up meanwhile.
        let _ = self.answer.send(Ok(result));
        spent
    }

    fn give_up(self: Box<Self>) {
        let _ = self.answer.send(Err(AuthnError::Overloaded));
    }
}

impl fmt::Debug for HashPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A job that is being carried out, even if it panics.
#[derive(Debug)]
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn begin(running: &'a AtomicUsize) -> Self {
        running.fetch_add(1, Relaxed);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn failed(error: HashingError) -> AuthnError {
    AuthnError::Other(error.to_string())
}

#[cfg(test)]
mod tests;
