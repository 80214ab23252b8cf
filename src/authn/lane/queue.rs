//! The jobs that wait for a hashing thread, in the order of their [`Standing`] at the moment when a
//! thread is free, not when they came: who has been seen to guess meanwhile goes behind those who
//! have not, and to the threads that work for guesses. Slow jobs are theirs from the beginning, and those that
//! cannot end in time have a thread of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::guessing::{Rank, Standing};
use super::super::hashing::Memory;

/// What a thread of the lane does.
pub(super) trait Job: Send {
    /// Whether its caller still waits for it.
    fn is_awaited(&self) -> bool;

    /// Does the work in this memory and answers. Gives how long it took.
    fn work(self: Box<Self>, duty: Duty, memory: &mut Memory) -> Duration;

    /// Answers that it will not be done.
    fn give_up(self: Box<Self>);
}

/// A job in the queue.
pub(super) struct Waiting {
    pub(super) standing: Arc<Standing>,
    /// Whose it is by how long it takes, whatever its standing.
    pub(super) least: Duty,
    pub(super) deadline: Instant,
    pub(super) job: Box<dyn Job>,
}

impl Waiting {
    fn place(&self, now: Instant) -> Place {
        let rank = self.standing.rank(now);
        let by_rank = if rank.is_guess() { Duty::Guesses } else { Duty::Others };
        Place { duty: self.least.max(by_rank), rank }
    }
}

/// Whose turn a job is, and whom it goes before there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    duty: Duty,
    rank: Rank,
}

/// For whom a thread works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    Others,
    /// Those whose allowance is used up, and hashes that are slow.
    Guesses,
    /// Hashes that take longer than there is time: nobody with another has to wait behind them.
    TooSlow,
}

impl Duty {
    pub(super) const ALL: [Self; 3] = [Self::Others, Self::Guesses, Self::TooSlow];
}

/// Why a job was not taken into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Late,
}

/// How many threads there are for each duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threads {
    pub(super) others: usize,
    pub(super) guesses: usize,
    pub(super) too_slow: usize,
}

impl Threads {
    pub(super) fn of(self, duty: Duty) -> usize {
        match duty {
            Duty::Others => self.others,
            Duty::Guesses => self.guesses,
            Duty::TooSlow => self.too_slow,
        }
    }
}

/// The waiting jobs, oldest first.
pub(super) struct Queue {
    jobs: VecDeque<Waiting>,
    capacity: usize,
    threads: Threads,
    pub(super) is_closed: bool,
}

impl Queue {
    /// For `capacity` waiting jobs, at least one.
    pub(super) fn new(capacity: usize, threads: Threads) -> Self {
        Self { jobs: VecDeque::new(), capacity: capacity.max(1), threads, is_closed: false }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Appends a job, unless it would come too late behind those that go before it on the threads of
    /// its duty, where each takes `cost`. A full queue makes room by giving up the last in order, if
    /// that is not the new one; says whether it did.
    ///
    /// Without the look at the deadline, a queue under overload begins each job just before its
    /// deadline and does all of its work for nobody.
    pub(super) fn push(
        &mut self,
        waiting: Waiting,
        now: Instant,
        cost: impl FnOnce(Duty) -> Duration,
    ) -> Result<Option<Box<dyn Job>>, Refused> {
        let Place { duty, rank } = waiting.place(now);
        let is_ahead = |other: Place| other.duty == duty && other.rank <= rank;
        let ahead = self.places(now).filter(|(other, _)| is_ahead(*other)).count();
        let threads = self.threads.of(duty).max(1);
        // With nobody ahead it is always tried: an estimate that is too high corrects itself.
        let rounds = if ahead == 0 { 0 } else { (ahead / threads).saturating_add(1) };
        let wait = cost(duty).saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        if now + wait >= waiting.deadline {
            return Err(Refused::Late);
        }
        let mut given_up = None;
        if self.jobs.len() >= self.capacity {
            let last = self.places(now).max_by_key(|(place, _)| place.rank);
            let (_, at) = last.filter(|(last, _)| last.rank > rank).ok_or(Refused::Full)?;
            given_up = self.jobs.remove(at).map(|waiting| waiting.job);
        }
        self.jobs.push_back(waiting);
        Ok(given_up)
    }

    /// Takes the first in order, of equals the oldest, that is a thread's duty by now. Removes those
    /// that nobody waits for any more, and adds their number to `skipped`.
    pub(super) fn take(
        &mut self,
        duty: Duty,
        now: Instant,
        skipped: &mut u64,
    ) -> Option<Box<dyn Job>> {
        let before = self.jobs.len();
        self.jobs.retain(|waiting| now < waiting.deadline && waiting.job.is_awaited());
        *skipped += u64::try_from(before - self.jobs.len()).unwrap_or_default();
        let (_, at) = self
            .places(now)
            .filter(|(place, _)| place.duty == duty)
            .min_by_key(|(place, _)| place.rank)?;
        self.jobs.remove(at).map(|waiting| waiting.job)
    }

    fn places(&self, now: Instant) -> impl Iterator<Item = (Place, usize)> {
        self.jobs.iter().enumerate().map(move |(at, waiting)| (waiting.place(now), at))
    }
}
