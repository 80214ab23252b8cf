//! Whether this instance can do its work: one probe of the whole chain, which all who ask at about
//! the same time share.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;
use tokio::sync::Mutex;

use crate::intake::Gauge;
use crate::service;
use crate::store::{Isolation, Store};

/// How long each part has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long a report is given to others who ask.
const SHARED: Duration = Duration::from_secs(1);

/// What the service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not ready yet.
    Starting,
    /// It has said that it is ready.
    Ready,
    /// It takes no more requests.
    Stopping,
}

/// The state of a part: `Err` says in fixed words what is wrong. They hold no secret and no
/// address, since anybody may read them who reaches the port.
pub(super) type Part = Result<(), &'static str>;

/// How the parts were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// A request to ourselves comes back through the server.
    pub(super) nats: Part,
    /// The connection to the system account, over which accounts are pushed and logins closed.
    pub(super) system: Part,
    /// Events of tenants with accounts of their own are taken in. (Of shared ones nobody is, while a
    /// deployment of before is brought over.)
    pub(super) intake: Part,
    /// The database answers and has its tables.
    pub(super) database: Part,
}

/// What there is to probe.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) main: Client,
    pub(super) system: Client,
    /// Where there is one.
    pub(super) intake: Option<Gauge>,
    pub(super) store: Arc<dyn Store>,
}

/// The health of this instance.
#[derive(Debug)]
pub(super) struct Health {
    phase: AtomicU8,
    chain: OnceLock<Arc<Chain>>,
    last: Arc<Mutex<Option<(Instant, Report)>>>,
}

impl Health {
    pub(super) fn new() -> Self {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Self { phase, chain: OnceLock::new(), last: Arc::default() }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Relaxed);
        [Phase::Ready, Phase::Stopping]
            .into_iter()
            .find(|known| *known as u8 == phase)
            .unwrap_or(Phase::Starting)
    }

    /// Says what there is to probe, once that is there.
    pub(super) fn attach(&self, chain: Chain) {
        // A second one would be that of another service.
        let _ = self.chain.set(Arc::new(chain));
    }

    /// The report of the last probe, if it is young, else of a new one; `None` while there is
    /// nothing to probe. Whoever asks meanwhile waits for the same one, and it goes on to its end
    /// if all of them have left.
    pub(super) async fn report(&self) -> Option<Report> {
        let chain = Arc::clone(self.chain.get()?);
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some((at, report)) = *last
            && at.elapsed() < SHARED
        {
            return Some(report);
        }
        let probe = tokio::spawn(async move {
            let report = chain.probe().await;
            let before = last.map_or(Report::WELL, |(_, before)| before);
            report.log_changes(&before);
            *last = Some((Instant::now(), report));
            report
        });
        probe.await.ok()
    }
}

impl Report {
    const WELL: Self = Self { nats: Ok(()), system: Ok(()), intake: Ok(()), database: Ok(()) };

    /// The parts by name.
    pub(super) fn parts(&self) -> [(&'static str, Part); 4] {
        [
            ("nats", self.nats),
            ("system", self.system),
            ("intake", self.intake),
            ("database", self.database),
        ]
    }

    fn log_changes(&self, before: &Self) {
        for ((name, now), (_, before)) in self.parts().into_iter().zip(before.parts()) {
            match (before, now) {
                (Ok(()), Err(what)) => tracing::warn!(part = name, "not ready: {what}"),
                (Err(_), Ok(())) => tracing::info!(part = name, "is well again"),
                _ => {}
            }
        }
    }
}

impl Chain {
    async fn probe(&self) -> Report {
        let (nats, database) = tokio::join!(self.round_trip(), self.ping());
        let intake = match &self.intake {
            Some(intake) if !intake.takes(Isolation::Account) => Err("not connected"),
            _ => Ok(()),
        };
        Report { nats, system: connected(&self.system), intake, database }
    }

    async fn round_trip(&self) -> Part {
        connected(&self.main)?;
        match tokio::time::timeout(PATIENCE, service::prove(&self.main)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("a request to itself failed"),
            Err(_) => Err("a request to itself did not come back in time"),
        }
    }

    async fn ping(&self) -> Part {
        match tokio::time::timeout(PATIENCE, self.store.ping()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the database failed a probe");
                Err("fails")
            }
            Err(_) => Err("no answer in time"),
        }
    }
}

fn connected(client: &Client) -> Part {
    match client.connection_state() {
        State::Connected => Ok(()),
        _ => Err("not connected"),
    }
}
