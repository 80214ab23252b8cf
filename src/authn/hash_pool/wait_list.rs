//! The jobs that wait for a hashing thread, in the order of what is held against them at the moment
//! when a thread is free, not when they came: who has been seen to guess meanwhile goes behind those
//! who have not, and to the threads of low priority.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::guessing::{Priority, Rank, Suspicion};
use super::super::hashing::Memory;

/// What a thread of the pool does.
pub(super) trait Job: Send {
    /// Whether its caller still waits for it.
    fn is_awaited(&self) -> bool;

    /// Does the work in this memory and answers. Gives how long it took.
    fn work(self: Box<Self>, priority: Priority, memory: &mut Memory) -> Duration;

    /// Answers that it will not be done.
    fn give_up(self: Box<Self>);
}

/// A job that waits.
pub(super) struct Waiting {
    pub(super) suspicion: Arc<Suspicion>,
    /// Whether it takes so long that nobody may have to wait behind it.
    pub(super) is_slow: bool,
    pub(super) deadline: Instant,
    pub(super) job: Box<dyn Job>,
}

impl Waiting {
    fn rank(&self, now: Instant) -> Rank {
        self.suspicion.rank(now, self.is_slow)
    }
}

/// The waiting jobs in their order, of equals the oldest first.
pub(super) struct WaitList {
    jobs: Vec<(Rank, Waiting)>,
    capacity: usize,
    /// How many of them may be guesses.
    pub(super) guesses: usize,
    pub(super) is_closed: bool,
    /// Jobs that were given up because there were too many, guesses beyond their own number apart.
    pub(super) refused_full: u64,
    /// Jobs dropped unworked, because their deadline had passed or their caller was gone.
    pub(super) skipped: u64,
}

impl WaitList {
    /// For `capacity` waiting jobs, at least one.
    pub(super) fn new(capacity: usize, guesses: usize) -> Self {
        let capacity = capacity.max(1);
        Self { jobs: Vec::new(), capacity, guesses, is_closed: false, refused_full: 0, skipped: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// How many wait for a thread, and no longer for their time.
    pub(super) fn ready(&self, now: Instant) -> usize {
        self.jobs.iter().filter(|(_, waiting)| waiting.suspicion.is_ready(now)).count()
    }

    /// Adds a job, unless it would come too late behind those that go before it on the threads of its
    /// priority, which takes as long as `wait` says; tells whether. Where there are too many then,
    /// the last are given up.
    ///
    /// Without the look at the deadline, a list under overload has each job begun just before its
    /// deadline, and all of its work is for nobody.
    pub(super) fn push(
        &mut self,
        waiting: Waiting,
        now: Instant,
        wait: impl FnOnce(Priority, usize) -> Duration,
    ) -> Result<(), Late> {
        self.sort(now);
        let rank = waiting.rank(now);
        let at = self.jobs.partition_point(|(other, _)| *other <= rank);
        let before = self.jobs.iter().take(at);
        let ahead = before.filter(|(other, _)| other.priority == rank.priority).count();
        if now + wait(rank.priority, ahead) >= waiting.deadline {
            return Err(Late { is_guess: rank.is_guess() });
        }
        let suspicion = Arc::clone(&waiting.suspicion);
        self.jobs.insert(at, (rank, waiting));
        self.shed();
        if self.jobs.iter().any(|(_, other)| Arc::ptr_eq(&other.suspicion, &suspicion)) {
            suspicion.note_place();
        }
        Ok(())
    }

    /// Takes the first in order that is a thread's to do by now.
    pub(super) fn take(&mut self, priority: Priority, now: Instant) -> Option<Box<dyn Job>> {
        let before = self.jobs.len();
        self.jobs.retain(|(_, waiting)| now < waiting.deadline && waiting.job.is_awaited());
        self.skipped += u64::try_from(before - self.jobs.len()).unwrap_or_default();
        self.sort(now);
        self.shed();
        let is_next =
            |(rank, it): &(Rank, Waiting)| rank.priority == priority && it.suspicion.is_ready(now);
        let at = self.jobs.iter().position(is_next)?;
        Some(self.jobs.remove(at).1.job)
    }

    fn sort(&mut self, now: Instant) {
        self.jobs.iter_mut().for_each(|(rank, waiting)| *rank = waiting.rank(now));
        self.jobs.sort_by_key(|(rank, _)| *rank);
    }

    /// Gives up the last where all are too many, or the guesses, or those of one account or source.
    fn shed(&mut self) {
        let full = self.jobs.len().min(self.capacity);
        self.refused_full += u64::try_from(self.jobs.len() - full).unwrap_or_default();
        self.jobs.drain(full..).for_each(|(_, waiting)| waiting.job.give_up());
        let (guesses, mut taken) = (self.guesses, HashMap::<usize, usize>::new());
        let finds_no_place = |(rank, waiting): &mut (Rank, Waiting)| {
            let shares = || waiting.suspicion.shares(*rank).filter(|_| rank.is_guess());
            let is_full = |(whose, part): (usize, usize)| {
                taken.get(&whose).is_some_and(|it| *it >= (guesses / part).max(1))
            };
            let finds_none = shares().any(is_full);
            if !finds_none {
                shares().for_each(|(whose, _)| *taken.entry(whose).or_default() += 1);
            }
            finds_none
        };
        self.jobs.extract_if(.., finds_no_place).for_each(|(_, waiting)| waiting.job.give_up());
    }
}

/// A job that could not have begun in time.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) is_guess: bool,
}
