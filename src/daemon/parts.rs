//! The parts of the service that work beside the logins, each in a task of its own. One that panics or
//! ends is named in the log and in `/readyz`, and most begin again; none takes another with it. START
//! HERE with [`Parts::spawn`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Before a part begins again: the first pause, and the longest. Each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A part that has worked for so long begins again after the first pause.
const LASTING: Duration = Duration::from_secs(60);

/// A part that was down is up again when it has worked for so long: one that dies as soon as it has
/// something to do must not pass for well in between, and a probe every few seconds sees it down.
const STEADY: Duration = Duration::from_secs(5);

/// When a part begins again: where all that it goes by is in its state, or is read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// Whenever it panics or ends.
    Always,
    /// When it panics; if it ends, it has done what there was to do.
    UntilDone,
    /// Not: what it works on is gone with it (`http`), or goes on after a panic by
    /// itself (`intake-connections`, `requests`).
    Never,
}

/// A part's name: fixed, or with that of what the configuration has several of.
pub(super) type PartName = Cow<'static, str>;

/// What a part is to the service.
#[derive(Debug, Clone)]
pub(super) struct Part {
    name: PartName,
    restart: Restart,
    /// Whether it is told of the stop and ends by itself, since it has something to do then.
    says_farewell: bool,
    /// Whether logins are refused wrongly or not answered without it, or changes are not followed: then
    /// the service is not ready while the part is down.
    is_vital: bool,
}

impl Part {
    /// One without which the service is not ready.
    pub(super) fn vital(name: impl Into<PartName>) -> Self {
        let name = name.into();
        Self { name, restart: Restart::Always, says_farewell: false, is_vital: true }
    }

    /// One that may be down for a while.
    pub(super) fn minor(name: impl Into<PartName>) -> Self {
        Self { is_vital: false, ..Self::vital(name) }
    }

    /// Ends by itself at a stop.
    pub(super) fn with_farewell(self) -> Self {
        Self { says_farewell: true, ..self }
    }

    /// Is done when it ends.
    pub(super) fn until_done(self) -> Self {
        Self { restart: Restart::UntilDone, ..self }
    }
}

/// How a part stands: `Err` says in fixed words what is wrong. They hold no secret and no address, since
/// anybody may read them who reaches the port.
pub(super) type Condition = Result<(), &'static str>;

/// A part that is down, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fallen {
    pub(super) name: PartName,
    pub(super) is_vital: bool,
    pub(super) standing: Condition,
}

/// All parts that were ever down, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Falls {
    all: Arc<Mutex<BTreeMap<PartName, Fallen>>>,
    /// A part that the service cannot do without, and that does not begin again.
    lost: watch::Sender<Option<PartName>>,
}

impl Falls {
    pub(super) fn all(&self) -> Vec<Fallen> {
        self.all.lock().values().cloned().collect()
    }

    /// Returns when a part is down for good that the service cannot do without.
    pub(super) async fn lost(&self) -> PartName {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await.ok().and_then(|name| name.clone()) {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// Notes each time that a part has panicked which goes on by itself.
    pub(super) async fn follow(&self, part: &Part, mut panics: watch::Receiver<()>) {
        while panics.changed().await.is_ok() {
            self.note(part, "has panicked and begins again");
            while let Ok(Ok(())) = tokio::time::timeout(STEADY, panics.changed()).await {}
            self.rises(part);
        }
    }

    fn note(&self, part: &Part, fall: &'static str) {
        let (name, is_vital) = (part.name.clone(), part.is_vital);
        self.all.lock().insert(name.clone(), Fallen { name, is_vital, standing: Err(fall) });
    }

    fn rises(&self, part: &Part) {
        if let Some(fallen) = self.all.lock().get_mut(&part.name) {
            fallen.standing = Ok(());
        }
    }
}

/// Parts that are stopped together. Dropping it stops them, and waits for none.
#[derive(Debug)]
pub(super) struct Parts {
    tasks: TaskTracker,
    stop: DropGuard,
    falls: Falls,
}

impl Parts {
    pub(super) fn new(falls: Falls) -> Self {
        Self { tasks: TaskTracker::new(), stop: CancellationToken::new().drop_guard(), falls }
    }

    /// Others, which are stopped at another time.
    pub(super) fn apart(&self) -> Self {
        Self::new(self.falls.clone())
    }

    pub(super) fn falls(&self) -> Falls {
        self.falls.clone()
    }

    /// What parts that say farewell are told of the stop by.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.token().clone()
    }

    /// Has a part work on `state` until the stop. It outlives a panic: `run` begins again with it, and
    /// what waits in its subscriptions and channels is not lost.
    pub(super) fn spawn<S: Send + 'static>(
        &self,
        part: Part,
        mut state: S,
        mut run: impl for<'a> FnMut(&'a mut S, &'a CancellationToken) -> BoxFuture<'a, ()>
        + Send
        + 'static,
    ) {
        let (stop, falls) = (self.stop(), self.falls.clone());
        self.tasks.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let begun = Instant::now();
                let mut ended = pin!(work(&part, async { run(&mut state, &stop).await }, &stop));
                let ended = match tokio::time::timeout(STEADY, &mut ended).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        falls.rises(&part);
                        ended.await
                    }
                };
                let Some(fall) = ended else { return falls.rises(&part) };
                if begun.elapsed() >= LASTING {
                    pause = FIRST_PAUSE;
                }
                falls.note(&part, fall);
                if part.restart == Restart::Never {
                    if part.is_vital {
                        falls.lost.send_replace(Some(part.name.clone()));
                    }
                    return tracing::error!(part = &*part.name, "{fall}");
                }
                tracing::error!(part = &*part.name, "{fall} in {pause:?}");
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        });
    }

    /// Has a part do work that cannot begin again.
    pub(super) fn once(&self, part: Part, work: impl Future<Output = ()> + Send + 'static) {
        let part = Part { restart: Restart::Never, ..part };
        self.spawn(part, work.boxed(), |work, _| work.boxed());
    }

    /// Stops all of them, and returns when they have ended.
    pub(super) async fn end(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Works until the stop, or until there is nothing left to do; gives what has gone wrong.
async fn work(
    part: &Part,
    run: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> Option<&'static str> {
    let run = AssertUnwindSafe(run).catch_unwind();
    let ended = match part.says_farewell {
        true => run.await,
        false => stop.run_until_cancelled(run).await?,
    };
    match (ended, part.restart) {
        (Err(_), Restart::Never) => Some("has panicked and does not begin again"),
        (Err(_), _) => Some("has panicked and begins again"),
        (Ok(()), Restart::UntilDone) => None,
        (Ok(()), _) if stop.is_cancelled() => None,
        (Ok(()), Restart::Never) => Some("has ended and does not begin again"),
        (Ok(()), Restart::Always) => Some("has ended and begins again"),
    }
}

#[cfg(test)]
mod tests;
