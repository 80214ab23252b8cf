//! The bounded lane that all password hashing goes through: as many threads as there are cores, half
//! as many for guesses and for stored hashes that are slow, one for hashes that cannot end in time, a
//! short queue in order of standing, and no work for a login that has been given up. On Linux its
//! threads give way to all else that wants the processor, or logins that need no hash would wait for
//! those that do; and those for guesses rest between two hashes. Each keeps the memory that a hash
//! takes, until it has had nothing to do for a while.

mod queue;

use std::fmt;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use self::queue::{Duty, Job, Queue, Refused, Threads, Waiting};
use super::AuthnError;
use super::guessing::Standing;
use super::hashing::{self, HashingError, Memory, NoHash, Pace, Verdict};
use super::random;
use crate::protocol::credentials::Secret;
use crate::store::PasswordHash;

/// What the lane has done and has waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LaneStats {
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
/// work for those who have used up what `Guessing` allows for nothing, and one for hashes that are too slow.
pub(crate) struct HashingLane {
    dummy: PasswordHash,
    pace: Pace,
    threads: Threads,
    shared: Arc<Shared>,
}

impl Duty {
    /// How much a thread gives way: where others want all of the processor, those for guesses have
    /// a tenth of what those have, so that who is guessed still gets in, and those for logins a
    /// third.
    #[cfg(target_os = "linux")]
    fn niceness(self) -> i32 {
        match self {
            Self::Others => 5,
            Self::Guesses | Self::TooSlow => 10,
        }
    }

    /// How long a thread rests after a hash that took so long.
    fn rest(self, spent: Duration) -> Duration {
        match self {
            Self::Others => Duration::ZERO,
            Self::Guesses | Self::TooSlow => spent.saturating_mul(3).min(LONGEST_REST),
        }
    }
}

/// The longest rest: who is guessed may be waiting.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// How long a thread sleeps at most while something waits that is not its duty: by now it may be.
const LOOK: Duration = Duration::from_millis(20);

/// How long a thread with nothing to do keeps the memory that it hashes in.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// How long it sleeps then, unless something is to be done.
const AT_REST: Duration = Duration::from_secs(3_600);

/// What the lane shares with its threads.
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when a job was added, or the queue was closed.
    changed: Changed,
    counters: Counters,
}

/// For the threads of each duty.
#[derive(Debug, Default)]
struct Changed {
    others: Condvar,
    guesses: Condvar,
    too_slow: Condvar,
}

impl Changed {
    fn of(&self, duty: Duty) -> &Condvar {
        match duty {
            Duty::Others => &self.others,
            Duty::Guesses => &self.guesses,
            Duty::TooSlow => &self.too_slow,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    running: AtomicUsize,
    done: AtomicU64,
    refused_full: AtomicU64,
    refused_late: AtomicU64,
    skipped: AtomicU64,
    /// What a job takes on the threads of each duty, with the rest after it, in nanoseconds: a
    /// moving average.
    cost: AtomicU64,
    cost_of_guess: AtomicU64,
    cost_of_too_slow: AtomicU64,
}

impl HashingLane {
    /// How many jobs wait at most, unless told otherwise: a bound for memory. What cannot be done in
    /// time is refused whatever the number.
    pub(crate) const DEFAULT_QUEUE: usize = 4_096;

    /// How long a decision takes at most, unless told otherwise.
    pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_millis(1_800);

    /// Starts `threads` threads (0: one per core), and half as many for guesses, with room for `queue`
    /// waiting jobs (at least 1). It hashes once, for the [dummy](Self::verify_as) and the `Pace` of
    /// this machine.
    pub(crate) fn new(threads: usize, queue: usize) -> Result<Self, HashingError> {
        let mut memory = Memory::default();
        let unguessable = random::text(random::BASE62, 32).map_err(NoHash::from)?;
        let (pace, dummy) = Pace::measure(&mut memory, &unguessable, Self::DEFAULT_DEADLINE)?;
        let counters = Counters::default();
        for duty in Duty::ALL {
            counters.note_cost(duty, pace.current());
        }
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let threads = Threads { others: threads, guesses: (threads / 2).max(1), too_slow: 1 };
        let queue = Mutex::new(Queue::new(queue, threads));
        let shared = Arc::new(Shared { queue, changed: Changed::default(), counters });
        // Closes the queue if a thread cannot be started.
        let lane = Self { dummy, pace, threads, shared };
        for (duty, name) in Duty::ALL.into_iter().zip(["hashing", "guesses", "too-slow"]) {
            for index in 0..threads.of(duty) {
                let shared = Arc::clone(&lane.shared);
                std::thread::Builder::new()
                    .name(format!("{name}-{index}"))
                    .spawn(move || shared.work(duty))
                    .map_err(NoHash::Threads)?;
            }
        }
        Ok(lane)
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
    /// Somebody of this standing learns when the hash begins and when it matches. On a match it also
    /// calls `matched`. All of it even if by then the deadline has passed: what has been worked out is
    /// not to be lost.
    pub(super) async fn verify_as(
        &self,
        standing: Arc<Standing>,
        password: Secret,
        hash: Option<PasswordHash>,
        deadline: Instant,
        matched: impl FnOnce() + Send + 'static,
    ) -> Result<Verdict, AuthnError> {
        let dummy = self.dummy.clone();
        let least = match hash.as_ref().and_then(|hash| self.pace.time_of(hash).ok()) {
            Some(time) if self.pace.is_too_slow(time) => Duty::TooSlow,
            Some(time) if self.pace.is_slow(time) => Duty::Guesses,
            _ => Duty::Others,
        };
        let who = Arc::clone(&standing);
        let work = move |memory: &mut Memory| {
            who.begin();
            let verdict = match &hash {
                Some(hash) => hashing::verify_in(memory, password.expose(), hash)?,
                None => Verdict::Mismatch,
            };
            if hash.is_none() || matches!(verdict, Verdict::Unusable(_)) {
                black_box(hashing::verify_in(memory, password.expose(), &dummy)?);
            }
            if verdict == Verdict::Match {
                who.matched();
                matched();
            }
            Ok(verdict)
        };
        self.run(standing, least, deadline, work).await?.map_err(failed)
    }

    /// Hashes a password with the current scheme.
    pub(crate) async fn hash(
        &self,
        password: Secret,
        deadline: Instant,
    ) -> Result<PasswordHash, AuthnError> {
        let work = move |memory: &mut Memory| hashing::hash_in(memory, password.expose());
        self.run(Arc::default(), Duty::Others, deadline, work).await?.map_err(failed)
    }

    /// The counters as they are now.
    #[must_use]
    pub(crate) fn stats(&self) -> LaneStats {
        let counters = &self.shared.counters;
        LaneStats {
            waiting: self.shared.queue().len(),
            running: counters.running.load(Relaxed),
            threads: self.threads.others,
            done: counters.done.load(Relaxed),
            refused_full: counters.refused_full.load(Relaxed),
            refused_late: counters.refused_late.load(Relaxed),
            skipped: counters.skipped.load(Relaxed),
        }
    }

    /// Does `work` on the lane, if it can be begun in time and somebody still waits for it.
    async fn run<T: Send + 'static>(
        &self,
        standing: Arc<Standing>,
        least: Duty,
        deadline: Instant,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AuthnError> {
        let (answer, answered) = oneshot::channel();
        let task = Task { shared: Arc::clone(&self.shared), answer, work };
        self.shared.add(Waiting { standing, least, deadline, job: Box::new(task) })?;
        match tokio::time::timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) if Instant::now() < deadline => {
                Err(AuthnError::Other("password hashing ended without an answer".into()))
            }
            Ok(Err(_)) | Err(_) => {
                self.shared.counters.refused_late.fetch_add(1, Relaxed);
                Err(AuthnError::Overloaded)
            }
        }
    }
}

impl Drop for HashingLane {
    fn drop(&mut self) {
        self.shared.queue().is_closed = true;
        for duty in Duty::ALL {
            self.shared.changed.of(duty).notify_all();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    fn add(&self, waiting: Waiting) -> Result<(), AuthnError> {
        let counters = &self.counters;
        let pushed = self.queue().push(waiting, Instant::now(), |duty| counters.cost(duty));
        match pushed {
            Ok(given_up) => {
                for duty in Duty::ALL {
                    self.changed.of(duty).notify_one();
                }
                if let Some(job) = given_up {
                    counters.refused_full.fetch_add(1, Relaxed);
                    job.give_up();
                }
                return Ok(());
            }
            Err(Refused::Full) => counters.refused_full.fetch_add(1, Relaxed),
            Err(Refused::Late) => counters.refused_late.fetch_add(1, Relaxed),
        };
        Err(AuthnError::Overloaded)
    }

    /// What each thread does until the queue is closed.
    fn work(&self, duty: Duty) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(duty.niceness()) {
            tracing::warn!(%error, "hashing does not give way to logins that need no hash");
        }
        let changed = self.changed.of(duty);
        let (mut memory, mut used) = (Memory::default(), Instant::now());
        let mut queue = self.queue();
        while !queue.is_closed {
            let mut skipped = 0;
            let job = queue.take(duty, Instant::now(), &mut skipped);
            self.counters.skipped.fetch_add(skipped, Relaxed);
            let Some(job) = job else {
                if used.elapsed() >= KEPT_FOR {
                    memory.release();
                }
                let patience = match (queue.len(), memory.is_empty()) {
                    (0, true) => AT_REST,
                    (0, false) => KEPT_FOR,
                    _ => LOOK,
                };
                changed.wait_for(&mut queue, patience);
                continue;
            };
            drop(queue);
            match catch_unwind(AssertUnwindSafe(|| job.work(duty, &mut memory))) {
                Ok(spent) => std::thread::sleep(duty.rest(spent)),
                Err(_) => tracing::error!("a password hashing job panicked"),
            }
            used = Instant::now();
            queue = self.queue();
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

    fn work(self: Box<Self>, duty: Duty, memory: &mut Memory) -> Duration {
        let counters = &self.shared.counters;
        let begun = Instant::now();
        let running = Running::begin(counters);
        let result = (self.work)(memory);
        drop(running);
        let spent = begun.elapsed();
        counters.note_cost(duty, spent);
        counters.done.fetch_add(1, Relaxed);
        // The caller may have given up meanwhile.
        let _ = self.answer.send(Ok(result));
        spent
    }

    fn give_up(self: Box<Self>) {
        let _ = self.answer.send(Err(AuthnError::Overloaded));
    }
}

impl fmt::Debug for HashingLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingLane")
            .field("threads", &self.threads.others)
            .field("counters", &self.shared.counters)
            .finish_non_exhaustive()
    }
}

impl Counters {
    fn cost_of(&self, duty: Duty) -> &AtomicU64 {
        match duty {
            Duty::Others => &self.cost,
            Duty::Guesses => &self.cost_of_guess,
            Duty::TooSlow => &self.cost_of_too_slow,
        }
    }

    fn cost(&self, duty: Duty) -> Duration {
        Duration::from_nanos(self.cost_of(duty).load(Relaxed))
    }

    fn note_cost(&self, duty: Duty, spent: Duration) {
        let cost = spent.saturating_add(duty.rest(spent));
        let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX / 8);
        let average = |before: u64| match before {
            0 => cost,
            before => before - before / 8 + cost / 8,
        };
        // Never refused: the closure always has a value.
        let _ = self.cost_of(duty).fetch_update(Relaxed, Relaxed, |before| Some(average(before)));
    }
}

/// A job that is being carried out, even if it panics.
#[derive(Debug)]
struct Running<'a>(&'a Counters);

impl<'a> Running<'a> {
    fn begin(counters: &'a Counters) -> Self {
        counters.running.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

fn failed(error: HashingError) -> AuthnError {
    AuthnError::Other(error.to_string())
}

#[cfg(test)]
mod tests;
