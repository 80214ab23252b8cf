//! A service that has started.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Decisions, Turns, Way};

/// A started service. Dropping it does not stop it: [`Running::stop`] does.
#[must_use = "dropped, it goes on to let clients in; `stop` ends it"]
#[derive(Debug)]
pub struct Running {
    pub(super) decisions: Decisions,
    pub(super) turns: Turns,
    pub(super) way: Way,
    pub(super) stop: CancellationToken,
    /// None once it has ended.
    pub(super) task: Option<tokio::task::JoinHandle<()>>,
    pub(super) panics: watch::Receiver<()>,
}

impl Running {
    /// The decisions under way.
    #[must_use]
    pub(crate) fn decisions(&self) -> Decisions {
        self.decisions.clone()
    }

    /// What there is to do.
    #[must_use]
    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// How many requests wait for their turns: see [`Settings::max_waiting`](super::Settings::max_waiting).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.turns.stats().waiting
    }

    /// How long replies are on their way.
    #[must_use]
    pub(crate) fn way(&self) -> Way {
        self.way.clone()
    }

    /// Changes whenever taking requests has panicked, after which it goes on.
    pub(crate) fn panics(&self) -> watch::Receiver<()> {
        self.panics.clone()
    }

    /// Returns when requests are taken no more, which is the end: before [`Self::stop`] the connection
    /// is gone for good, or there is a fault of the program.
    pub async fn ended(&mut self) {
        let Some(task) = &mut self.task else { return };
        if let Err(error) = task.await {
            tracing::error!(%error, "the service's dispatcher failed");
        }
        self.task = None;
    }

    /// Takes no new requests, answers those that are here, and returns when all is sent.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.ended().await;
    }
}
