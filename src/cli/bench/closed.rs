//! The closed loop: so many logins are under way at once, and the next one begins when one has
//! ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::client::Run;

/// Logs in, over and over, `connections` at once, until `stop` or for `count` logins; those under
/// way end first.
pub(super) async fn log_in(
    run: &Arc<Run>,
    connections: u32,
    count: Option<u64>,
    stop: &CancellationToken,
) {
    let tickets =
        count.map(|count| Arc::new(AtomicI64::new(i64::try_from(count).unwrap_or(i64::MAX))));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (run, stop, tickets) = (Arc::clone(run), stop.clone(), tickets.clone());
        tasks.spawn(async move {
            while !stop.is_cancelled()
                && tickets.as_ref().is_none_or(|left| left.fetch_sub(1, Relaxed) > 0)
            {
                log_in_once(&run, &stop).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

async fn log_in_once(run: &Run, stop: &CancellationToken) {
    let begin = Instant::now();
    run.recorder.came(Duration::ZERO);
    match run.attempt(run.turn()).await {
        Ok(_) => run.recorder.entered(begin.elapsed(), true),
        Err(failure) => {
            run.recorder.failed(failure);
            run.recorder.left();
            let _ = stop.run_until_cancelled(tokio::time::sleep(run.patience.rest())).await;
        }
    }
}

/// Stops what is going on after a time.
pub(super) async fn end_after(time: Duration, ends: &CancellationToken) {
    let _ = ends.run_until_cancelled(tokio::time::sleep(time)).await;
    ends.cancel();
}
