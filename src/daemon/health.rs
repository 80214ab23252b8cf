//! Whether this instance can do its work: one probe of the whole chain, which all who ask at about
//! the same time share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::parts::{Condition, Fallen, Falls, PartName};
use crate::intake::Gauge;
use crate::service::{self, Turns, Way};
use crate::store::{Isolation, Store};

/// The part that may be slow.
const REPLIES: &str = "replies";

/// What is said of it then. Where decisions are slow as well, it may be the machine.
const SLOW: &str =
    "slow on their way through nats-server: it is the bottleneck, or decisions are slow too";

/// How long each part has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long a report is given to others who ask.
const SHARED: Duration = Duration::from_secs(1);

/// What the service is doing.
#[derive(Debug, Clone)]
struct Phase {
    /// Whether it has said that it is ready, and goes on.
    service: Condition,
    /// What there is to probe, once it answers.
    chain: Option<Arc<Dependencies>>,
}

/// What is said of the service.
#[derive(Debug)]
pub(super) struct Word {
    /// The instance's id, once it has one.
    instance: Option<String>,
    /// Whether it has begun, and goes on.
    service: Condition,
    /// By name: what is probed, and the parts that are down or were.
    pub(super) parts: Vec<(PartName, Condition)>,
    /// Because of which of them, or of the service itself, it is not ready.
    failed: Vec<PartName>,
}

/// How the chain was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probed {
    /// A request to ourselves comes back through the server.
    nats: Condition,
    /// The connection to the system account, over which accounts are pushed and logins closed.
    system: Condition,
    /// Events of tenants with accounts of their own are taken in. (Of shared ones nobody is, while a
    /// deployment of before is brought over.)
    intake: Condition,
    /// The database answers and has its tables.
    database: Condition,
    /// Answers are quick on their way through nats-server. Where they are slow no other instance is better
    /// off, and clients still come in: it costs no readiness.
    replies: Condition,
    /// Grants are recorded, where they have to be before they are given.
    records: Option<Condition>,
}

/// What there is to probe.
#[derive(Debug)]
pub(super) struct Dependencies {
    /// The instance's id.
    pub(super) instance: String,
    pub(super) main: Client,
    pub(super) system: Client,
    pub(super) way: Way,
    pub(super) turns: Turns,
    /// Where there is one.
    pub(super) intake: Option<Gauge>,
    /// Whether grants cannot be recorded, where they have to be before they are given.
    pub(super) unrecorded: Option<Arc<AtomicBool>>,
    pub(super) store: Arc<dyn Store>,
}

/// The health of this instance.
#[derive(Debug)]
pub(super) struct Health {
    phase: Mutex<Phase>,
    falls: Falls,
    last: Arc<tokio::sync::Mutex<Option<(Instant, Probed)>>>,
}

impl Health {
    pub(super) fn new(falls: Falls) -> Self {
        let phase = Mutex::new(Phase { service: Err("starting"), chain: None });
        Self { phase, falls, last: Arc::default() }
    }

    /// The service answers, and has yet to say that it is ready.
    pub(super) fn probes(&self, chain: Dependencies) {
        self.phase.lock().chain = Some(Arc::new(chain));
    }

    pub(super) fn becomes_ready(&self) {
        self.phase.lock().service = Ok(());
    }

    /// It takes no more requests.
    pub(super) fn stops(&self) {
        self.phase.lock().service = Err("stopping");
    }

    /// What there is to say now.
    pub(super) async fn word(&self) -> Word {
        let Phase { service, chain } = self.phase.lock().clone();
        let (instance, report) = match chain {
            Some(chain) => (Some(chain.instance.clone()), Some(self.report(chain).await)),
            None => (None, None),
        };
        Word { instance, ..Word::new(service, report, self.falls.all()) }
    }

    /// The report of the last probe, if it is young, else of a new one. Whoever asks meanwhile waits
    /// for the same one, and it goes on to its end if all of them have left.
    async fn report(&self, chain: Arc<Dependencies>) -> Probed {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some((at, report)) = *last
            && at.elapsed() < SHARED
        {
            return report;
        }
        let probe = tokio::spawn(async move {
            let report = chain.probe().await;
            let before = last.map_or(Probed::WELL, |(_, before)| before);
            report.log_changes(&before);
            *last = Some((Instant::now(), report));
            report
        });
        probe.await.unwrap_or(Probed::UNKNOWN)
    }
}

impl Word {
    fn new(service: Condition, report: Option<Probed>, fallen: Vec<Fallen>) -> Self {
        let probed = report.iter().flat_map(Probed::parts);
        let mut parts: Vec<_> =
            probed.map(|(name, standing)| (PartName::from(name), standing)).collect();
        let mut failed: Vec<_> = std::iter::once(&("service".into(), service))
            .chain(&parts)
            .filter(|(name, standing)| standing.is_err() && name != REPLIES)
            .map(|(name, _)| name.clone())
            .collect();
        for Fallen { name, is_vital, standing } in fallen {
            if is_vital && standing.is_err() {
                failed.push(name.clone());
            }
            parts.push((name, standing));
        }
        Self { instance: None, service, parts, failed }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether everything that is probed is well, what costs no readiness too.
    pub(super) fn is_at_ease(&self) -> bool {
        self.is_ready() && self.parts.iter().all(|(name, it)| name != REPLIES || it.is_ok())
    }

    /// As `/readyz` says it.
    pub(super) fn document(&self) -> Value {
        let words: Map<_, _> = std::iter::once(&("service".into(), self.service))
            .chain(&self.parts)
            .map(|(name, standing)| (name.to_string(), json!(standing.err().unwrap_or("ok"))))
            .collect();
        json!({
            "ready": self.is_ready(),
            "failed": self.failed,
            "parts": words,
            "instance": self.instance,
        })
    }
}

impl Probed {
    const WELL: Self = Self::of(Ok(()));
    const UNKNOWN: Self = Self::of(Err("the probe failed"));

    const fn of(all: Condition) -> Self {
        Self { nats: all, system: all, intake: all, database: all, replies: all, records: None }
    }

    /// The parts by name.
    fn parts(&self) -> impl Iterator<Item = (&'static str, Condition)> {
        let always = [
            ("nats", self.nats),
            ("system", self.system),
            ("intake", self.intake),
            ("database", self.database),
            (REPLIES, self.replies),
        ];
        always.into_iter().chain(self.records.map(|records| ("records", records)))
    }

    fn log_changes(&self, before: &Self) {
        for (name, now) in self.parts() {
            let before = before.parts().find(|(other, _)| *other == name);
            match (before.map_or(Ok(()), |(_, before)| before), now) {
                (Ok(()), Err(what)) if name == REPLIES => tracing::warn!(part = name, "{what}"),
                (Ok(()), Err(what)) => tracing::warn!(part = name, "not ready: {what}"),
                (Err(_), Ok(())) => tracing::info!(part = name, "is well again"),
                _ => {}
            }
        }
    }
}

impl Dependencies {
    async fn probe(&self) -> Probed {
        let (nats, database) = tokio::join!(self.round_trip(), self.ping());
        let intake = match &self.intake {
            Some(intake) if !intake.takes(Isolation::Account) => Err("not connected"),
            _ => Ok(()),
        };
        let replies = match self.turns.is_held_up() {
            true => Err(SLOW),
            false => Ok(()),
        };
        let records = self.unrecorded.as_ref().map(|unrecorded| match unrecorded.load(Relaxed) {
            true => Err("grants cannot be recorded, and are not given ([events] decisions)"),
            false => Ok(()),
        });
        Probed { nats, system: connected(&self.system), intake, database, replies, records }
    }

    async fn round_trip(&self) -> Condition {
        connected(&self.main)?;
        match tokio::time::timeout(PATIENCE, service::prove(&self.main)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("a request to itself failed"),
            // As long as clients wait for longer than that, some of them come in.
            Err(_) if !self.way.is_hopeless() => Ok(()),
            Err(_) => Err("a request to itself did not come back in time"),
        }
    }

    async fn ping(&self) -> Condition {
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

fn connected(client: &Client) -> Condition {
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
        let word = |fallen| Word::new(Ok(()), Some(Probed::WELL), fallen).document();
        let parts = |more: Value| {
            let mut parts = json!({ "service": "ok", "nats": "ok", "system": "ok", "intake": "ok",
                "database": "ok", "replies": "ok" });
            let more = more.as_object().unwrap().clone();
            parts.as_object_mut().unwrap().extend(more);
            parts
        };
        let well =
            json!({ "ready": true, "failed": [], "parts": parts(json!({})), "instance": null });
        assert_eq!(word(Vec::new()), well);
        let what = "has panicked and begins again";
        let down = [fallen("feed", true, Ok(())), fallen("rehash", false, Err(what))];
        let parts_then = parts(json!({ "feed": "ok", "rehash": what }));
        assert_eq!(
            word(down.to_vec()),
            json!({ "ready": true, "failed": [], "parts": parts_then, "instance": null })
        );
        let slow = Probed { replies: Err("slow"), ..Probed::WELL };
        let slow = Word::new(Ok(()), Some(slow), Vec::new());
        assert!(slow.is_ready() && !slow.is_at_ease(), "{slow:?}");
        assert_eq!(slow.document()["parts"]["replies"], "slow");
        let down = [fallen("feed", true, Err(what))];
        let parts_then = parts(json!({ "feed": what }));
        assert_eq!(
            word(down.to_vec()),
            json!({ "ready": false, "failed": ["feed"], "parts": parts_then, "instance": null })
        );
    }
}
