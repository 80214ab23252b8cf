//! Clients that come at once and stay, and others that are held meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::Run;

/// How often is looked whether all are in.
const LOOK: Duration = Duration::from_millis(10);

/// Held clients have to come in within so long after the last one that did.
const STUCK: Duration = Duration::from_secs(30);

/// Clients that stay until this is dropped.
pub(super) struct Crowd {
    pub(super) run: Arc<Run>,
    clients: JoinSet<()>,
    _stay: DropGuard,
    stop: CancellationToken,
}

impl Crowd {
    /// Has `count` clients come: at once, or so many at a time.
    fn come(run: &Arc<Run>, count: u32, at_once: Option<u32>, stop: &CancellationToken) -> Self {
        let stop = stop.child_token();
        let turnstile = at_once.map(|count| Arc::new(Semaphore::new(count as usize)));
        let mut clients = JoinSet::new();
        let begin = Instant::now();
        for _ in 0..count {
            let (run, turnstile, stop) = (Arc::clone(run), turnstile.clone(), stop.clone());
            clients.spawn(async move {
                let (meant, place) = match turnstile {
                    None => (begin, None),
                    Some(turnstile) => {
                        let place = turnstile.acquire_owned().await.ok();
                        (Instant::now(), place)
                    }
                };
                run.live(meant, &stop, move || drop(place)).await;
            });
        }
        Self { run: Arc::clone(run), clients, _stay: stop.clone().drop_guard(), stop }
    }

    /// All of them at once; comes back when each is in or has given up.
    pub(super) async fn storm(run: &Arc<Run>, count: u32, stop: &CancellationToken) -> Self {
        let crowd = Self::come(run, count, None, stop);
        let missing = || {
            let decided = run.recorder.all(|tally| tally.logins + tally.gave_up);
            decided < u64::from(count)
        };
        while missing() && !stop.is_cancelled() {
            tokio::time::sleep(LOOK).await;
        }
        crowd
    }

    /// In good order, so many at once; comes back when all are in.
    pub(super) async fn hold(
        run: &Arc<Run>,
        count: u32,
        at_once: u32,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let crowd = Self::come(run, count, Some(at_once), stop);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let open = run.recorder.now().open;
            if open >= u64::from(count) {
                return Ok(crowd);
            }
            if stop.is_cancelled() {
                bail!("interrupted before it began");
            }
            if open > last {
                (last, since) = (open, Instant::now());
            }
            if since.elapsed() > STUCK {
                bail!("{open} of {count} connections are held, and no more come in");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends all of them away.
    pub(super) async fn leave(mut self) {
        self.stop.cancel();
        while self.clients.join_next().await.is_some() {}
    }
}
