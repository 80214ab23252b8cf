//! Which decisions are under way, so that somebody can wait for them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

/// The decisions under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions(Arc<Trackers>);

#[derive(Debug, Default)]
struct Trackers {
    current: ArcSwap<TaskTracker>,
    /// Those that were current before and may have decisions left.
    earlier: Mutex<Vec<TaskTracker>>,
}

impl Decisions {
    /// Begins one.
    pub(super) fn begin(&self, decision: impl Future<Output = ()> + Send + 'static) {
        self.0.current.load().spawn(decision);
    }

    /// How many.
    pub(super) fn under_way(&self) -> usize {
        self.0.current.load().len()
    }

    /// Returns once every decision that had begun before the call has been answered, those that
    /// another call waits for included.
    pub(crate) async fn settle(&self) {
        let begun = {
            let mut earlier = self.0.earlier.lock();
            let begun = self.0.current.swap(Arc::new(TaskTracker::new()));
            begun.close();
            earlier.retain(|tracker| !tracker.is_empty());
            earlier.push(TaskTracker::clone(&begun));
            earlier.clone()
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
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        decisions.0.current.load().spawn(answered);
        let mut first = Box::pin(decisions.settle());
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(decisions.settle());
        assert!((&mut second).now_or_never().is_none(), "the decision is not answered yet");
        drop(first);
        assert!(decisions.settle().now_or_never().is_none(), "nor after a call was given up");
        answer.send(()).unwrap();
        second.await;
        assert!(decisions.settle().now_or_never().is_some());
    }
}
