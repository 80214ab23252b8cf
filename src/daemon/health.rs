//! Whether this instance can do its work: one probe of the whole chain, which all who ask at about
//! the same time share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::parts::{Fallen, Falls, Name, Standing};
use crate::intake::Gauge;
use crate::service;
use crate::store::{Isolation, Store};

/// How long each part has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long a report is given to others who ask.
const SHARED: Duration = Duration::from_secs(1);

/// What the service is doing, and what there is to probe then.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// It prepares and connects.
    Starting,
    /// It answers, and has yet to say that it is ready.
    Settling(Arc<Chain>),
    /// It has said that it is ready.
    Ready(Arc<Chain>),
    /// It takes no more requests.
    Stopping(Arc<Chain>),
}

impl Phase {
    fn chain(&self) -> Option<Arc<Chain>> {
        match self {
            Self::Starting => None,
            Self::Settling(chain) | Self::Ready(chain) | Self::Stopping(chain) => {
                Some(Arc::clone(chain))
            }
        }
    }

    fn standing(&self) -> Standing {
        match self {
            Self::Starting | Self::Settling(_) => Err("starting"),
            Self::Ready(_) => Ok(()),
            Self::Stopping(_) => Err("stopping"),
        }
    }
}

/// What is said of the service.
#[derive(Debug)]
pub(super) struct Word {
    /// Whether it has begun, and goes on.
    service: Standing,
    /// By name: what is probed, and the parts that are down or were.
    pub(super) parts: Vec<(Name, Standing)>,
    /// Because of which of them, or of the service itself, it is not ready.
    failed: Vec<Name>,
}

/// How the chain was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    /// A request to ourselves comes back through the server.
    nats: Standing,
    /// The connection to the system account, over which accounts are pushed and logins closed.
    system: Standing,
    /// Events of tenants with accounts of their own are taken in. (Of shared ones nobody is, while a
    /// deployment of before is brought over.)
    intake: Standing,
    /// The database answers and has its tables.
    database: Standing,
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
    phase: Mutex<Phase>,
    falls: Falls,
    last: Arc<tokio::sync::Mutex<Option<(Instant, Report)>>>,
}

impl Health {
    pub(super) fn new(falls: Falls) -> Self {
        Self { phase: Mutex::new(Phase::Starting), falls, last: Arc::default() }
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.phase.lock() = phase;
    }

    /// What there is to say now.
    pub(super) async fn word(&self) -> Word {
        let phase = self.phase.lock().clone();
        let report = match phase.chain() {
            Some(chain) => Some(self.report(chain).await),
            None => None,
        };
        Word::new(phase.standing(), report, self.falls.all())
    }

    /// The report of the last probe, if it is young, else of a new one. Whoever asks meanwhile waits
    /// for the same one, and it goes on to its end if all of them have left.
    async fn report(&self, chain: Arc<Chain>) -> Report {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some((at, report)) = *last
            && at.elapsed() < SHARED
        {
            return report;
        }
        let probe = tokio::spawn(async move {
            let report = chain.probe().await;
            let before = last.map_or(Report::WELL, |(_, before)| before);
            report.log_changes(&before);
            *last = Some((Instant::now(), report));
            report
        });
        probe.await.unwrap_or(Report::UNKNOWN)
    }
}

impl Word {
    fn new(service: Standing, report: Option<Report>, fallen: Vec<Fallen>) -> Self {
        let probed = report.into_iter().flat_map(|report| report.parts());
        let mut parts: Vec<_> =
            probed.map(|(name, standing)| (Name::from(name), standing)).collect();
        let mut failed: Vec<_> = std::iter::once(&("service".into(), service))
            .chain(&parts)
            .filter(|(_, standing)| standing.is_err())
            .map(|(name, _)| name.clone())
            .collect();
        for Fallen { name, is_vital, standing } in fallen {
            if is_vital && standing.is_err() {
                failed.push(name.clone());
            }
            parts.push((name, standing));
        }
        Self { service, parts, failed }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.failed.is_empty()
    }

    /// As `/readyz` says it.
    pub(super) fn document(&self) -> Value {
        let words: Map<_, _> = std::iter::once(&("service".into(), self.service))
            .chain(&self.parts)
            .map(|(name, standing)| (name.to_string(), json!(standing.err().unwrap_or("ok"))))
            .collect();
        json!({ "ready": self.is_ready(), "failed": self.failed, "parts": words })
    }
}

impl Report {
    const WELL: Self = Self::of(Ok(()));
    const UNKNOWN: Self = Self::of(Err("the probe failed"));

    const fn of(all: Standing) -> Self {
        Self { nats: all, system: all, intake: all, database: all }
    }

    /// The parts by name.
    fn parts(&self) -> [(&'static str, Standing); 4] {
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

    async fn round_trip(&self) -> Standing {
        connected(&self.main)?;
        match tokio::time::timeout(PATIENCE, service::prove(&self.main)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("a request to itself failed"),
            Err(_) => Err("a request to itself did not come back in time"),
        }
    }

    async fn ping(&self) -> Standing {
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

fn connected(client: &Client) -> Standing {
    match client.connection_state() {
        State::Connected => Ok(()),
        _ => Err("not connected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_down_is_named_and_some_cost_the_readiness() {
        let fallen = |name: &'static str, is_vital, standing| Fallen {
            name: name.into(),
            is_vital,
            standing,
        };
        let word = |fallen| Word::new(Ok(()), Some(Report::WELL), fallen).document();
        let parts = |more: Value| {
            let mut parts = json!({ "service": "ok", "nats": "ok", "system": "ok", "intake": "ok",
                "database": "ok" });
            let more = more.as_object().unwrap().clone();
            parts.as_object_mut().unwrap().extend(more);
            parts
        };
        let well = json!({ "ready": true, "failed": [], "parts": parts(json!({})) });
        assert_eq!(word(Vec::new()), well);
        let what = "has panicked and begins again";
        let down = [fallen("feed", true, Ok(())), fallen("rehash", false, Err(what))];
        let parts_then = parts(json!({ "feed": "ok", "rehash": what }));
        assert_eq!(
            word(down.to_vec()),
            json!({ "ready": true, "failed": [], "parts": parts_then })
        );
        let down = [fallen("feed", true, Err(what))];
        let parts_then = parts(json!({ "feed": what }));
        assert_eq!(
            word(down.to_vec()),
            json!({ "ready": false, "failed": ["feed"], "parts": parts_then })
        );
    }
}
