//! What is held against an attempt to log in, and whom it goes before for that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::failures::{Failures, Past};

/// The first wait; each further wrong attempt doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait. It is never more than half of the time that is left either, so that the hash
/// still comes before the deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Of the places in which guesses wait, one account has one part in so many, and one source likewise.
const ACCOUNT_PART: usize = 4;
const SOURCE_PART: usize = 16;

/// Whom an attempt goes before: the less comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::authn) struct Rank {
    pub(in crate::authn) priority: Priority,
    pub(super) class: Class,
    source: Past,
    account: Past,
}

/// Whose threads hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::authn) enum Priority {
    High,
    /// Guesses, and whatever is slow.
    Low,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Familiar,
    Free,
    Account,
    Source,
}

impl Rank {
    /// Whether the allowance is used up.
    pub(in crate::authn) fn is_guess(self) -> bool {
        self.class >= Class::Account
    }
}

/// The account and the source of an attempt, as far as they are counted (by default nothing is), and
/// how far it has come.
#[derive(Debug, Default)]
pub(in crate::authn) struct Suspicion {
    /// Whether account and source still are, where they were when the attempt began.
    pub(super) familiar: Option<Arc<AtomicBool>>,
    pub(super) account: Option<Arc<Failures>>,
    pub(super) source: Option<Arc<Failures>>,
    pub(super) progress: Mutex<Progress>,
    /// When a guess may be hashed.
    pub(super) not_before: OnceLock<Instant>,
    /// How many guesses have had a place to wait in.
    pub(super) delayed: Arc<AtomicU64>,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Progress {
    /// No hash has begun, or it has matched.
    #[default]
    Open,
    /// One has begun, and has not matched.
    Begun,
    /// The attempt counts as wrong, since then.
    Wrong(Instant),
}

impl Suspicion {
    /// That of a source with so many wrong attempts.
    #[cfg(test)]
    pub(in crate::authn) fn of_source(failures: u32, allowance: u32) -> Arc<Self> {
        let source = Arc::new(Failures::new(allowance));
        (0..failures).for_each(|_| source.add_wrong(Instant::now()));
        Arc::new(Self { source: Some(source), ..Self::default() })
    }

    /// The rank, which gets worse while others of the same account or source turn out wrong. What is
    /// slow goes to the threads of low priority, before the guesses there.
    pub(in crate::authn) fn rank(&self, now: Instant, is_slow: bool) -> Rank {
        let past =
            |of: &Option<Arc<Failures>>| of.as_ref().map_or_else(Past::default, |it| it.count(now));
        let (source, account) = (past(&self.source), past(&self.account));
        let class = if self.is_familiar() && !self.is_delayed() {
            Class::Familiar
        } else if uses_up(&self.source, source.wrong) {
            Class::Source
        } else if self.is_delayed() || uses_up(&self.account, account.wrong) {
            Class::Account
        } else {
            Class::Free
        };
        let is_low = is_slow || class >= Class::Account;
        let priority = if is_low { Priority::Low } else { Priority::High };
        Rank { priority, class, source, account }
    }

    /// Whose places a guess takes when it waits, by any number that tells them apart, and which part of
    /// all places those have.
    pub(in crate::authn) fn shares(&self, rank: Rank) -> impl Iterator<Item = (usize, usize)> {
        let number = |it: &Arc<Failures>| Arc::as_ptr(it).addr();
        let account = self.account.iter().map(move |it| (number(it), ACCOUNT_PART));
        let source = self.source.iter().filter(move |_| rank.class == Class::Source);
        account.chain(source.map(move |it| (number(it), SOURCE_PART))).chain([(0, 1)])
    }

    /// Whether its wait, if there was any, is over.
    pub(in crate::authn) fn is_ready(&self, now: Instant) -> bool {
        self.not_before.get().is_none_or(|at| *at <= now)
    }

    /// Whether it was made to wait, and is a guess for that alone.
    pub(super) fn is_delayed(&self) -> bool {
        self.not_before.get().is_some()
    }

    /// Whether it is a guess, where so many others of the account are undecided: what is being hashed
    /// may well be wrong too, or the allowance would be as large as the number of guesses that come at
    /// once.
    pub(super) fn is_guess_beside(&self, others: u32, now: Instant) -> bool {
        let wrong = self.account.as_ref().filter(|_| !self.is_familiar());
        let wrong = wrong.map_or(0, |it| it.count(now).wrong);
        uses_up(&self.account, wrong.saturating_add(others)) || self.rank(now, false).is_guess()
    }

    /// Has a guess wait.
    pub(super) fn delay(&self, now: Instant, deadline: Instant) {
        let excess = |it: &Arc<Failures>| it.count(now).wrong.saturating_sub(it.allowance());
        let excess = self.counted().map(excess).max().unwrap_or(0);
        let left = deadline.saturating_duration_since(now);
        self.not_before.get_or_init(|| now + wait(excess).min(left / 2));
    }

    /// Notes that it has a place to wait in.
    pub(in crate::authn) fn note_place(&self) {
        if self.is_delayed() {
            self.delayed.fetch_add(1, Relaxed);
        }
    }

    /// Notes that a hash begins.
    pub(in crate::authn) fn begin(&self) {
        let mut progress = self.progress();
        if *progress == Progress::Open {
            *progress = Progress::Begun;
        }
    }

    /// Notes that the hash has ended. A match may be too late for the attempt, and is no failure.
    pub(in crate::authn) fn end(&self, is_match: bool) {
        if !is_match {
            self.refuse();
            return;
        }
        let mut progress = self.progress();
        if let Progress::Wrong(counted) = *progress {
            let now = Instant::now();
            self.counted().for_each(|failures| failures.take_back_wrong(counted, now));
            self.set_familiar(true);
        }
        *progress = Progress::Open;
    }

    /// Counts the attempt as wrong, once.
    pub(super) fn refuse(&self) {
        self.count_as_wrong(&mut self.progress());
    }

    /// Whether a hash has begun, and nothing has come of it so far.
    pub(super) fn is_unfinished(&self) -> bool {
        *self.progress() == Progress::Begun
    }

    /// Counts the attempt as wrong if it is unfinished; says whether it is so.
    pub(super) fn give_up(&self) -> bool {
        let mut progress = self.progress();
        let is_unfinished = *progress == Progress::Begun;
        if is_unfinished {
            self.count_as_wrong(&mut progress);
        }
        is_unfinished
    }

    pub(super) fn counted(&self) -> impl Iterator<Item = &Arc<Failures>> {
        self.account.iter().chain(&self.source)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }

    fn is_familiar(&self) -> bool {
        self.familiar.as_ref().is_some_and(|it| it.load(Relaxed))
    }

    /// A single wrong attempt ends being familiar, or who shares the source could guess on.
    fn count_as_wrong(&self, progress: &mut Progress) {
        if !matches!(progress, Progress::Wrong(_)) {
            let now = Instant::now();
            *progress = Progress::Wrong(now);
            self.counted().for_each(|failures| failures.add_wrong(now));
            self.set_familiar(false);
        }
    }

    fn set_familiar(&self, value: bool) {
        if let Some(familiar) = &self.familiar {
            familiar.store(value, Relaxed);
        }
    }
}

/// Whether so many wrong attempts use up the allowance.
fn uses_up(of: &Option<Arc<Failures>>, wrong: u32) -> bool {
    of.as_ref().is_some_and(|it| wrong >= it.allowance())
}

/// How long who exceeds the allowance by `excess` wrong attempts waits.
pub(super) fn wait(excess: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(excess);
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}
