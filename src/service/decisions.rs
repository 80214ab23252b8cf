//! Which decisions are under way, so that somebody can wait for them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The decisions under way. A request that waits for its turn is none yet: no row has been read for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions(Arc<Mutex<Trackers>>);

#[derive(Debug, Default)]
struct Trackers {
    current: TaskTracker,
    /// Those that were current before and may have decisions left.
    earlier: Vec<TaskTracker>,
}

impl Decisions {
    /// Begins one, which ends when this is dropped.
    pub(super) fn begin(&self) -> TaskTrackerToken {
        self.0.lock().current.token()
    }

    /// Returns once every decision that had begun before the call has been answered, those that
    /// another call waits for included.
    pub(crate) async fn settle(&self) {
        let begun = {
            let mut trackers = self.0.lock();
            let current = std::mem::take(&mut trackers.current);
            current.close();
            trackers.earlier.retain(|tracker| !tracker.is_empty());
            trackers.earlier.push(current);
            trackers.earlier.clone()
        };
        for tracker in begun {
            tracker.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn settling_waits_for_what_another_call_waits_for() {
        let decisions = Decisions::default();
        let decision = decisions.begin();
        let mut first = Box::pin(decisions.settle());
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(decisions.settle());
        assert!((&mut second).now_or_never().is_none(), "the decision is not answered yet");
        drop(first);
        assert!(decisions.settle().now_or_never().is_none(), "nor after a call was given up");
        drop(decision);
        second.await;
        assert!(decisions.settle().now_or_never().is_some());
    }
}
