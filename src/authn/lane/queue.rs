//! The jobs that wait for a hashing thread, in the order of their [`Standing`] at the moment when a
//! thread is free, not when they came: who has been seen to guess meanwhile goes behind those who
//! have not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::guessing::{Rank, Standing};

/// What a thread of the lane does.
pub(super) trait Job: Send {
    /// Whether its caller still waits for it.
    fn is_awaited(&self) -> bool;

    /// Does the work and answers.
    fn work(self: Box<Self>);

    /// Answers that it will not be done.
    fn give_up(self: Box<Self>);
}

/// A job in the queue.
pub(super) struct Waiting {
    pub(super) standing: Arc<Standing>,
    pub(super) deadline: Instant,
    pub(super) job: Box<dyn Job>,
}

/// A job whose turn has come.
pub(super) struct Taken {
    pub(super) job: Box<dyn Job>,
    /// Whether it counts against [`Queue::most_guesses`] until [`Queue::guess_done`].
    pub(super) is_guess: bool,
}

/// Why a job was not taken into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Late,
}

/// The waiting jobs, oldest first.
pub(super) struct Queue {
    jobs: VecDeque<Waiting>,
    capacity: usize,
    threads: usize,
    guesses_running: usize,
    pub(super) is_closed: bool,
}

impl Queue {
    /// For `capacity` waiting jobs and `threads` threads, at least one of each.
    pub(super) fn new(capacity: usize, threads: usize) -> Self {
        let (capacity, threads) = (capacity.max(1), threads.max(1));
        Self { jobs: VecDeque::new(), capacity, threads, guesses_running: 0, is_closed: false }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// How many threads may work for likely guesses at once: the others are for those who have
    /// given no reason for doubt.
    fn most_guesses(&self) -> usize {
        (self.threads / 2).max(1)
    }

    /// Appends a job, unless it would come too late behind those that go before it, where each takes
    /// `cost`. A full queue makes room by giving up the last in order, if that is not the new one;
    /// says whether it did.
    ///
    /// Without the look at the deadline, a queue under overload begins each job just before its
    /// deadline and does all of its work for nobody.
    pub(super) fn push(
        &mut self,
        waiting: Waiting,
        now: Instant,
        cost: Duration,
    ) -> Result<Option<Box<dyn Job>>, Refused> {
        let rank = waiting.standing.rank(now);
        let threads = if rank.is_guess() { self.most_guesses() } else { self.threads };
        let ahead = self.jobs.iter().filter(|other| other.standing.rank(now) <= rank).count();
        // With nobody ahead it is always tried: an estimate that is too high corrects itself.
        let rounds = if ahead == 0 { 0 } else { (ahead / threads).saturating_add(1) };
        let wait = cost.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        if now + wait >= waiting.deadline {
            return Err(Refused::Late);
        }
        let mut given_up = None;
        if self.jobs.len() >= self.capacity {
            let last = self.ranks(now).max_by_key(|(rank, _)| *rank);
            let (_, place) = last.filter(|(last, _)| *last > rank).ok_or(Refused::Full)?;
            given_up = self.jobs.remove(place).map(|waiting| waiting.job);
        }
        self.jobs.push_back(waiting);
        Ok(given_up)
    }

    /// Takes the first in order, of equals the oldest, that a thread may work on now. Removes those
    /// that nobody waits for any more, and adds their number to `skipped`.
    pub(super) fn take(&mut self, now: Instant, skipped: &mut u64) -> Option<Taken> {
        let before = self.jobs.len();
        self.jobs.retain(|waiting| now < waiting.deadline && waiting.job.is_awaited());
        *skipped += u64::try_from(before - self.jobs.len()).unwrap_or_default();
        let has_room = self.guesses_running < self.most_guesses();
        let (rank, place) = self
            .ranks(now)
            .filter(|(rank, _)| has_room || !rank.is_guess())
            .min_by_key(|(rank, _)| *rank)?;
        let Waiting { job, .. } = self.jobs.remove(place)?;
        let is_guess = rank.is_guess();
        self.guesses_running += usize::from(is_guess);
        Some(Taken { job, is_guess })
    }

    /// A job that was a guess has ended.
    pub(super) fn guess_done(&mut self) {
        self.guesses_running = self.guesses_running.saturating_sub(1);
    }

    fn ranks(&self, now: Instant) -> impl Iterator<Item = (Rank, usize)> {
        self.jobs.iter().enumerate().map(move |(at, waiting)| (waiting.standing.rank(now), at))
    }
}
