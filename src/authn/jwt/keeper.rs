//! Keeps an issuer's keys: fetched in the background, again before they expire, and once more when
//! a JWT names a key that is not among them. Whatever becomes of the issuer, the last set that was
//! good is kept.
//!
//! One task fetches ([`Keeper::run`]); logins ask it and wait for what it publishes. So there is one
//! fetch at a time, and none ends because the login that asked for it has no more time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::keys::{Choice, Found, Key, KeySet};
use super::origin::{Fetched, Origin};
use super::token::Flaw;

/// When keys are fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How often at most for a key that is not known.
    pub(super) unknown_key: Duration,
    /// The life of keys for which the issuer names none.
    pub(super) life: Duration,
    /// The shortest and longest life that an issuer may choose (`Cache-Control: max-age`). The
    /// longest bounds how long a key is accepted that the issuer has taken back.
    pub(super) lives: (Duration, Duration),
    /// After a failure it is tried again, each time later.
    pub(super) retry: (Duration, Duration),
}

impl Pace {
    pub(super) const DEFAULT: Self = Self {
        unknown_key: Duration::from_secs(30),
        life: Duration::from_secs(600),
        lives: (Duration::from_secs(30), Duration::from_secs(3_600)),
        retry: (Duration::from_secs(1), Duration::from_secs(30)),
    };
}

/// So many logins may wait for a fetch at once: whoever sends JWTs of made-up keys while the issuer
/// hangs must not take up all decisions under way.
const WAITING: usize = 64;

/// How far the keeper has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    keys: Option<Arc<KeySet>>,
    /// When the last fetch that is over began.
    began: Option<Instant>,
    /// Why that fetch brought nothing.
    fault: Option<Arc<str>>,
    fetches: u64,
    failures: u64,
}

impl Progress {
    fn choose(&self, id: Option<&str>, algorithm: Algorithm) -> Choice {
        match &self.keys {
            Some(keys) => keys.choose(id, algorithm),
            None => Choice::Unknown,
        }
    }
}

/// Why a JWT is not verified.
#[derive(Debug)]
pub(super) enum NotVerified {
    Flaw(Flaw),
    /// The keys cannot be had, which is no fault of the client's.
    Unavailable(Arc<str>),
}

impl From<Flaw> for NotVerified {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// What is kept, and how it stands with the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) keys: usize,
    pub(super) fault: Option<Arc<str>>,
    pub(super) fetches: u64,
    pub(super) failures: u64,
}

#[derive(Debug)]
pub(super) struct Keeper {
    issuer: String,
    origin: Origin,
    pace: Pace,
    progress: watch::Sender<Progress>,
    /// When a fetch was last asked for because of a key that was not known.
    asked: Mutex<Option<Instant>>,
    wake: Notify,
    waiting: Semaphore,
}

impl Keeper {
    pub(super) fn new(issuer: String, origin: Origin, pace: Pace) -> Self {
        let progress = watch::Sender::new(Progress::default());
        let (asked, wake) = (Mutex::default(), Notify::new());
        let waiting = Semaphore::new(WAITING);
        Self { issuer, origin, pace, progress, asked, wake, waiting }
    }

    /// The keys that fit. One that is not known is looked for at the issuer; as long as that does
    /// not answer, nobody can say that there is none.
    pub(super) async fn keys(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<Key>>, NotVerified> {
        let choose = |progress: &Progress| progress.choose(id, algorithm);
        let mut choice = choose(&self.progress.borrow());
        if matches!(choice, Choice::Unknown) {
            let is_found = |progress: &Progress| !matches!(choose(progress), Choice::Unknown);
            let progress = self.fetched(is_found).await?;
            choice = choose(&progress);
            if let (Choice::Unknown, Some(fault)) = (&choice, &progress.fault) {
                return Err(NotVerified::Unavailable(Arc::clone(fault)));
            }
        }
        match choice {
            Choice::Keys(keys) => Ok(keys),
            Choice::Unknown | Choice::Unfit => Err(Flaw::NoKey.into()),
            Choice::TooMany => Err(Flaw::Ambiguous.into()),
        }
    }

    /// The keys that fit by now, where none of those that did has signed: the issuer may have put
    /// another in its place. `None` where that cannot be found out.
    pub(super) async fn others(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<Vec<Arc<Key>>> {
        match self.fetched(|_| false).await.ok()?.choose(id, algorithm) {
            Choice::Keys(keys) => Some(keys),
            _ => None,
        }
    }

    /// What there is once a fetch is over that is asked for now or was a short while ago, or as
    /// soon as it is enough.
    async fn fetched(
        &self,
        is_enough: impl Fn(&Progress) -> bool,
    ) -> Result<Progress, NotVerified> {
        let many = |_| NotVerified::Unavailable("too many logins wait for its keys".into());
        let _place = self.waiting.try_acquire().map_err(many)?;
        let asked = self.ask();
        let mut progress = self.progress.subscribe();
        let is_over = |progress: &Progress| progress.began >= Some(asked) || is_enough(progress);
        let closed = |_| NotVerified::Unavailable("nothing fetches its keys any more".into());
        Ok(progress.wait_for(is_over).await.map_err(closed)?.clone())
    }

    /// Asks for a fetch, unless that was done a short while ago; says when it was.
    fn ask(&self) -> Instant {
        let mut asked = self.asked.lock();
        match *asked {
            Some(at) if at.elapsed() < self.pace.unknown_key => at,
            _ => {
                // First, or the fetch could begin before it.
                let now = *asked.insert(Instant::now());
                self.wake.notify_one();
                now
            }
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let progress = self.progress.borrow();
        Standing {
            keys: progress.keys.as_ref().map_or(0, |keys| keys.len()),
            fault: progress.fault.clone(),
            fetches: progress.fetches,
            failures: progress.failures,
        }
    }

    /// Fetches once, for nobody but the caller.
    pub(super) async fn probe(&self) -> Result<Found, String> {
        match self.origin.fetch().await {
            Ok(fetched) => Ok(fetched.keys.found()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Fetches the keys again and again until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            // Before it is read: what comes in between is another file.
            let stamp = self.origin.stamp().await;
            let Some(fetched) = stop.run_until_cancelled(self.origin.fetch()).await else { return };
            let pause = match fetched {
                Ok(fetched) => {
                    if failures > 0 {
                        tracing::info!(issuer = self.issuer, "its keys can be fetched again");
                    }
                    failures = 0;
                    let pause = self.until_renewal(&fetched);
                    self.keep(began, fetched);
                    pause
                }
                Err(error) => {
                    self.fail(began, &error.to_string(), failures == 0);
                    let (least, most) = self.pace.retry;
                    let pause = least.saturating_mul(1 << failures.min(10)).min(most);
                    failures += 1;
                    pause
                }
            };
            let wait = async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.wake.notified() => {}
                    () = self.origin.changed(stamp) => {}
                }
            };
            if stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
        }
    }

    /// Four fifths of the keys' life.
    fn until_renewal(&self, fetched: &Fetched) -> Duration {
        let (least, most) = self.pace.lives;
        let life = fetched.max_age.map_or(self.pace.life, |life| life.clamp(least, most));
        life.mul_f64(0.8)
    }

    fn keep(&self, began: Instant, fetched: Fetched) {
        self.progress.send_modify(|progress| {
            progress.keys = Some(Arc::new(fetched.keys));
            progress.began = Some(began);
            progress.fault = None;
            progress.fetches += 1;
        });
    }

    fn fail(&self, began: Instant, fault: &str, is_first: bool) {
        let (kept, what) = (self.standing().keys, self.origin.complaint());
        // Once an outage: what follows is in the metrics.
        if is_first {
            tracing::warn!(issuer = self.issuer, fault, kept, "{what}");
        } else {
            tracing::debug!(issuer = self.issuer, fault, kept, "{what}");
        }
        self.progress.send_modify(|progress| {
            progress.began = Some(began);
            progress.fault = Some(fault.into());
            progress.fetches += 1;
            progress.failures += 1;
        });
    }
}

#[cfg(test)]
mod tests;
