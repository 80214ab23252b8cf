//! The bounded lane that all password hashing goes through: as many threads as there are cores, a
//! short queue, and no work for a login that has been given up.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::AuthnError;
use super::hashing::{self, HashingError, Verdict};
use super::random;
use crate::credentials::Secret;
use crate::store::PasswordHash;

/// What the lane has done and has waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneStats {
    /// Jobs that wait for a thread now.
    pub waiting: usize,
    /// Jobs that are carried out now.
    pub running: usize,
    /// How many may be at a time.
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

/// Hashes passwords on its own threads, at most one job per thread at a time.
pub struct HashingLane {
    threads: rayon::ThreadPool,
    queue: usize,
    dummy: PasswordHash,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    waiting: AtomicUsize,
    running: AtomicUsize,
    done: AtomicU64,
    refused_full: AtomicU64,
    refused_late: AtomicU64,
    skipped: AtomicU64,
    /// What a job costs, in nanoseconds: a moving average.
    cost: AtomicU64,
}

impl HashingLane {
    /// How many jobs wait at most, unless told otherwise: a bound for memory. What cannot be done in
    /// time is refused whatever the number.
    pub const DEFAULT_QUEUE: usize = 4_096;

    /// Starts `threads` threads (0: one per core) with room for `queue` waiting jobs (at least 1).
    /// It hashes once, for the [dummy](Self::verify).
    pub fn new(threads: usize, queue: usize) -> Result<Self, HashingError> {
        let begun = Instant::now();
        let unguessable = random::text(random::BASE62, 32)?;
        let dummy = hashing::hash(&unguessable)?;
        let counters = Counters::default();
        counters.note_cost(begun.elapsed());
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("hashing-{index}"))
            .panic_handler(|_| tracing::error!("a password hashing job panicked"))
            .build()?;
        Ok(Self { threads, queue: queue.max(1), dummy, counters: Arc::new(counters) })
    }

    /// Compares a password with a stored hash. Without a hash, or with one that is unusable, a
    /// dummy of the current parameters is computed instead, so that each call costs one hash and
    /// nobody learns from the time it took who exists; the password then never matches.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
        deadline: Instant,
    ) -> Result<Verdict, AuthnError> {
        self.verify_then(password, hash, deadline, || ()).await
    }

    /// As [`verify`](Self::verify), and calls `matched` on a match, even if by then the deadline
    /// has passed: what has been worked out is not to be lost.
    pub(super) async fn verify_then(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
        deadline: Instant,
        matched: impl FnOnce() + Send + 'static,
    ) -> Result<Verdict, AuthnError> {
        let dummy = self.dummy.clone();
        let work = move || {
            let verdict = match &hash {
                Some(hash) => hashing::verify(password.expose(), hash)?,
                None => Verdict::Mismatch,
            };
            if hash.is_none() || matches!(verdict, Verdict::Unusable(_)) {
                black_box(hashing::verify(password.expose(), &dummy)?);
            }
            if verdict == Verdict::Match {
                matched();
            }
            Ok(verdict)
        };
        self.run(deadline, work).await?.map_err(failed)
    }

    /// Hashes a password with the current scheme.
    pub async fn hash(
        &self,
        password: Secret,
        deadline: Instant,
    ) -> Result<PasswordHash, AuthnError> {
        self.run(deadline, move || hashing::hash(password.expose())).await?.map_err(failed)
    }

    /// The counters as they are now.
    #[must_use]
    pub fn stats(&self) -> LaneStats {
        let counters = &self.counters;
        LaneStats {
            waiting: counters.waiting.load(Relaxed),
            running: counters.running.load(Relaxed),
            threads: self.threads.current_num_threads(),
            done: counters.done.load(Relaxed),
            refused_full: counters.refused_full.load(Relaxed),
            refused_late: counters.refused_late.load(Relaxed),
            skipped: counters.skipped.load(Relaxed),
        }
    }

    /// Does `work` on the lane, if it can be begun in time and somebody still waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthnError> {
        let place = self.admit(deadline)?;
        let (answer, answered) = oneshot::channel();
        let counters = Arc::clone(&self.counters);
        self.threads.spawn_fifo(move || {
            let begun = Instant::now();
            let awaited = !answer.is_closed() && begun < deadline;
            drop(place);
            if !awaited {
                counters.skipped.fetch_add(1, Relaxed);
                return;
            }
            let running = Running::begin(&counters);
            let result = work();
            drop(running);
            counters.note_cost(begun.elapsed());
            counters.done.fetch_add(1, Relaxed);
            // The caller may have given up meanwhile.
            let _ = answer.send(result);
        });
        match tokio::time::timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) if Instant::now() < deadline => {
                Err(AuthnError::Other("password hashing ended without an answer".into()))
            }
            Ok(Err(_)) | Err(_) => {
                self.counters.refused_late.fetch_add(1, Relaxed);
                Err(AuthnError::Overloaded)
            }
        }
    }

    /// A place in the queue, unless it is full or so long that the job would come too late.
    /// Without the latter, a first-in first-out queue under overload begins each job just before
    /// its deadline and does all of its work for nobody.
    fn admit(&self, deadline: Instant) -> Result<Place, AuthnError> {
        let counters = &self.counters;
        let taken = counters.waiting.fetch_update(Relaxed, Relaxed, |waiting| {
            (waiting < self.queue).then_some(waiting + 1)
        });
        let Ok(ahead) = taken else {
            counters.refused_full.fetch_add(1, Relaxed);
            return Err(AuthnError::Overloaded);
        };
        let place = Place(Arc::clone(counters));
        // With nobody ahead it is always tried: an estimate that is too high corrects itself.
        let rounds = match ahead {
            0 => 0,
            ahead => (ahead / self.threads.current_num_threads()).saturating_add(1),
        };
        let wait = counters.cost().saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        if Instant::now() + wait >= deadline {
            counters.refused_late.fetch_add(1, Relaxed);
            return Err(AuthnError::Overloaded);
        }
        Ok(place)
    }
}

impl fmt::Debug for HashingLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingLane")
            .field("threads", &self.threads.current_num_threads())
            .field("queue", &self.queue)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Counters {
    fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost.load(Relaxed))
    }

    fn note_cost(&self, spent: Duration) {
        let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX / 8);
        let average = |before: u64| match before {
            0 => spent,
            before => before - before / 8 + spent / 8,
        };
        // Never refused: the closure always has a value.
        let _ = self.cost.fetch_update(Relaxed, Relaxed, |before| Some(average(before)));
    }
}

/// A job's place in the queue, given back when its turn comes or it is dropped.
#[derive(Debug)]
struct Place(Arc<Counters>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
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
