//! Where an attempt comes from and goes to, and whom it goes before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::failures::{Failures, Past};

/// Whom an attempt goes before: the less comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::authn) struct Rank {
    pub(super) class: Class,
    source: Past,
    account: Past,
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

/// Where an attempt comes from and goes to, as far as it is counted (by default nothing is), and how
/// far it has come.
#[derive(Debug, Default)]
pub(in crate::authn) struct Standing {
    /// Whether it still is, where it was when the attempt began.
    familiar: Option<Arc<AtomicBool>>,
    pub(super) account: Option<Arc<Failures>>,
    pub(super) source: Option<Arc<Failures>>,
    progress: Mutex<Progress>,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Progress {
    /// No hash has begun.
    #[default]
    Waiting,
    /// One has begun then, and has not matched.
    Begun(Instant),
    /// It has matched.
    Matched,
    /// The attempt counts as wrong, since then.
    Wrong(Instant),
}

impl Standing {
    pub(super) fn new(
        familiar: Option<Arc<AtomicBool>>,
        account: Option<Arc<Failures>>,
        source: Option<Arc<Failures>>,
    ) -> Self {
        Self { familiar, account, source, progress: Mutex::default() }
    }

    /// Somebody whose source has had so many wrong attempts.
    #[cfg(test)]
    pub(in crate::authn) fn of_source(failures: u32, allowance: u32) -> Arc<Self> {
        let source = Arc::new(Failures::new(allowance));
        let standing = Arc::new(Self { source: Some(source), ..Self::default() });
        (0..failures).for_each(|_| standing.fail());
        standing
    }

    /// One more.
    #[cfg(test)]
    pub(in crate::authn) fn fail(&self) {
        self.counted().for_each(|failures| failures.add_wrong(Instant::now()));
    }

    /// The rank, which gets worse while others of the same account or source turn out wrong.
    pub(in crate::authn) fn rank(&self, now: Instant) -> Rank {
        self.rank_with(now, 0)
    }

    /// The rank if so many more attempts on the account had been wrong.
    pub(super) fn rank_with(&self, now: Instant, more: u32) -> Rank {
        let count =
            |of: &Option<Arc<Failures>>| of.as_ref().map_or_else(Past::default, |it| it.count(now));
        let used_up = |of: &Option<Arc<Failures>>, wrong: u32| {
            of.as_ref().is_some_and(|it| wrong >= it.allowance())
        };
        let (source, account) = (count(&self.source), count(&self.account));
        let familiar = self.familiar.as_ref().is_some_and(|it| it.load(Relaxed));
        let class = if familiar && !used_up(&self.account, more) {
            Class::Familiar
        } else if used_up(&self.source, source.wrong) {
            Class::Source
        } else if used_up(&self.account, account.wrong.saturating_add(more)) {
            Class::Account
        } else {
            Class::Free
        };
        Rank { class, source, account }
    }

    /// Notes that a hash begins.
    pub(in crate::authn) fn begin(&self) {
        let mut progress = self.progress();
        if !matches!(*progress, Progress::Wrong(_)) {
            *progress = Progress::Begun(Instant::now());
        }
    }

    /// Notes that the hash has matched. It may be too late for the attempt, and is no failure.
    pub(in crate::authn) fn matched(&self) {
        let mut progress = self.progress();
        if let Progress::Wrong(counted) = *progress {
            let now = Instant::now();
            self.counted().for_each(|failures| failures.take_back_wrong(counted, now));
            self.set_familiar(true);
        }
        *progress = Progress::Matched;
    }

    /// Counts the attempt as wrong, once.
    pub(super) fn refuse(&self, now: Instant) {
        let mut progress = self.progress();
        if !matches!(*progress, Progress::Wrong(_)) {
            self.count_as_wrong(&mut progress, now);
        }
    }

    /// Counts the attempt as wrong if a hash has begun and not matched; says whether it is so.
    pub(super) fn give_up(&self, now: Instant) -> bool {
        let mut progress = self.progress();
        let is_unfinished = matches!(*progress, Progress::Begun(_));
        if is_unfinished {
            self.count_as_wrong(&mut progress, now);
        }
        is_unfinished
    }

    /// A single wrong attempt ends being familiar, or who shares the source could guess on.
    fn count_as_wrong(&self, progress: &mut Progress, now: Instant) {
        *progress = Progress::Wrong(now);
        self.counted().for_each(|failures| failures.add_wrong(now));
        self.set_familiar(false);
    }

    fn set_familiar(&self, value: bool) {
        if let Some(familiar) = &self.familiar {
            familiar.store(value, Relaxed);
        }
    }

    /// When a hash has begun of which nothing has come so far.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        match *self.progress() {
            Progress::Begun(begun) => Some(begun),
            _ => None,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }

    pub(super) fn counted(&self) -> impl Iterator<Item = &Arc<Failures>> {
        self.account.iter().chain(&self.source)
    }

    /// By how many wrong attempts the allowance is exceeded.
    pub(super) fn excess(&self, now: Instant) -> u32 {
        let excess = |it: &Arc<Failures>| it.count(now).wrong.saturating_sub(it.allowance());
        self.counted().map(excess).max().unwrap_or(0)
    }
}
