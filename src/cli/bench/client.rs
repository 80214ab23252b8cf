//! A client's life: it tries until it is in, may stay, and comes back when it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::CreationError;
use tokio_util::sync::CancellationToken;

use super::credential::Credential;
use super::failure::Failure;
use super::login::{self, Connection, Endpoint};
use super::record::Recorder;

/// The shortest pause before another attempt, so that a dead server is not stormed.
const BACK_OFF: Duration = Duration::from_millis(20);

/// The pause of those who are held, where others make none.
const RETURN: Duration = Duration::from_secs(2);

/// Who is held comes back, however long it takes.
const FOR_GOOD: Duration = Duration::from_secs(365 * 86_400);

/// Where clients log in, and as whom.
pub(super) struct Target {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) credentials: Vec<Credential>,
    next: AtomicUsize,
}

impl Target {
    pub(super) fn new(endpoints: Vec<Endpoint>, credentials: Vec<Credential>) -> Self {
        Self { endpoints, credentials, next: AtomicUsize::new(0) }
    }

    /// One login: of each user in turn, on each server in turn.
    async fn log_in(&self, turn: usize, timeout: Duration) -> Result<Connection, Failure> {
        let endpoint = self.endpoints.get(turn % self.endpoints.len().max(1));
        let credential = self.credentials.get(turn % self.credentials.len().max(1));
        let (Some(endpoint), Some(credential)) = (endpoint, credential) else {
            return Err(Failure::Other);
        };
        match tokio::time::timeout(timeout, login::login(endpoint, credential)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }
}

/// How long a client waits, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one attempt.
    pub(super) timeout: Duration,
    /// Between two attempts, if it is no shorter than [`BACK_OFF`]; `None` is no second one.
    pub(super) retry: Option<Duration>,
    /// Until it is in, all together.
    pub(super) give_up: Duration,
}

impl Patience {
    /// The pause before another attempt, if there is one.
    fn pause(&self) -> Option<Duration> {
        self.retry.map(|retry| retry.max(BACK_OFF))
    }

    /// The pause before whoever has failed, or was closed, comes again in any case.
    pub(super) fn rest(&self) -> Duration {
        self.pause().unwrap_or(BACK_OFF)
    }

    /// Of those who are held.
    pub(super) fn of_held(self) -> Self {
        let retry = self.retry.filter(|pause| !pause.is_zero()).unwrap_or(RETURN);
        Self { retry: Some(retry), give_up: FOR_GOOD, ..self }
    }
}

/// What all clients of a run share.
pub(super) struct Run {
    pub(super) target: Arc<Target>,
    pub(super) patience: Patience,
    pub(super) recorder: Recorder,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn(usize);

impl Run {
    pub(super) fn new(target: &Arc<Target>, patience: Patience) -> Result<Self, CreationError> {
        Ok(Self { target: Arc::clone(target), patience, recorder: Recorder::new()? })
    }

    pub(super) fn turn(&self) -> Turn {
        Turn(self.target.next.fetch_add(1, Relaxed))
    }

    pub(super) async fn attempt(&self, turn: Turn) -> Result<Connection, Failure> {
        self.target.log_in(turn.0, self.patience.timeout).await
    }

    /// Tries until the client is in or gives up. What it waits is counted from when it meant to
    /// come.
    pub(super) async fn enter(
        &self,
        turn: Turn,
        meant: Instant,
        stop: &CancellationToken,
    ) -> Option<Connection> {
        self.recorder.came(meant.elapsed());
        let (connection, tries) = self.keep_trying(turn, meant, stop).await;
        match &connection {
            Some(_) => self.recorder.entered(meant.elapsed(), tries == 1),
            None if stop.is_cancelled() => self.recorder.left(),
            None => self.recorder.gave_up(meant.elapsed()),
        }
        connection
    }

    async fn keep_trying(
        &self,
        turn: Turn,
        meant: Instant,
        stop: &CancellationToken,
    ) -> (Option<Connection>, u32) {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(turn).await {
                Ok(connection) => return (Some(connection), tries),
                Err(failure) => self.recorder.failed(failure),
            }
            let Some(pause) = self.patience.pause() else { return (None, tries) };
            if meant.elapsed() + pause >= self.patience.give_up
                || stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none()
            {
                return (None, tries);
            }
        }
    }

    /// Gets in, says so, and stays until `stop`; comes back, after the pause that libraries make,
    /// when it is closed.
    pub(super) async fn live(&self, meant: Instant, stop: &CancellationToken, done: impl FnOnce()) {
        let turn = self.turn();
        let mut connection = self.enter(turn, meant, stop).await;
        done();
        while let Some(mut open) = connection {
            self.recorder.opened();
            let ended = stop.run_until_cancelled(open.stay()).await;
            self.recorder.ended(ended.is_some());
            if ended.is_none() {
                return;
            }
            drop(open);
            let pause = tokio::time::sleep(self.patience.rest());
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            connection = self.keep_trying(turn, Instant::now(), stop).await.0;
            if connection.is_some() {
                self.recorder.back();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::login::Protocol;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(retry: Option<Duration>) -> Patience {
        Patience { timeout: SECOND, retry, give_up: Duration::from_millis(200) }
    }

    #[test]
    fn nobody_comes_again_without_a_pause() {
        for (retry, pause, rest, held) in [
            (None, None, BACK_OFF, RETURN),
            (Some(Duration::ZERO), Some(BACK_OFF), BACK_OFF, RETURN),
            (Some(SECOND), Some(SECOND), SECOND, SECOND),
        ] {
            let patience = patience(retry);
            assert_eq!((patience.pause(), patience.rest()), (pause, rest), "{retry:?}");
            let of_held = patience.of_held();
            assert_eq!((of_held.pause(), of_held.give_up), (Some(held), FOR_GOOD), "{retry:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_not_stormed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let endpoint = Endpoint { address, protocol: Protocol::Nats, tls: None };
        let target = Target::new(vec![endpoint], vec![Credential::password("a", "b")]);
        let run = Run::new(&Arc::new(target), patience(Some(Duration::ZERO))).unwrap();
        let stop = CancellationToken::new();
        assert!(run.enter(run.turn(), Instant::now(), &stop).await.is_none());
        let tries = run.recorder.all(|tally| tally.failed());
        assert!((2..=10).contains(&tries), "{tries}");
    }
}
