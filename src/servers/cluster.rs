//! Questions to all servers, and to one: which there are, what they hold. Every wait is bounded,
//! and a server that does not answer is named.

mod presence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::Instant;

use self::presence::{Presence, Present, absent, expected};
use super::ServerAnswer;
use crate::audit::{Kick, Observer};

/// For how long a roll call holds. A server that has died lets every one of them take its time
/// until its peers give it up.
const PRESENCE: Duration = Duration::from_secs(2);

/// How long a server has to answer a question, where nobody says otherwise.
const ANSWER: Duration = Duration::from_secs(2);

/// How often it is asked whether those that have not answered are still awaited.
const LOOK: Duration = Duration::from_millis(25);

/// Why the servers could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The connection is gone.
    #[error("the servers cannot be asked: {0}")]
    Connection(String),
    /// No server answers.
    #[error("no server answers on the system account")]
    Nobody,
}

/// Why a server has given no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It is not reached.
    Absent,
    /// It is, or may be, and says nothing in time that makes sense.
    Silent,
}

/// All servers, as seen from a connection of the system account.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    system: Client,
    /// Who was there when the roll was called last.
    present: Arc<Mutex<Present>>,
    /// How long a server has to answer a question.
    patience: Duration,
    closed: Arc<AtomicU64>,
    /// Who is told of closed connections.
    observer: Option<Arc<dyn Observer>>,
}

/// Answers by server.
pub(crate) struct Answers<T> {
    pub(crate) by_server: BTreeMap<String, T>,
    pub(crate) silent: BTreeSet<String>,
}

impl Cluster {
    /// Asks on a connection of the system account.
    #[must_use]
    pub(crate) fn new(system: Client) -> Self {
        let (present, closed) = (Arc::default(), Arc::default());
        Self { system, present, patience: ANSWER, closed, observer: None }
    }

    /// Waits for a server's answer for so long at most.
    #[must_use]
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Tells `observer` of every connection that is closed.
    #[must_use]
    pub(crate) fn with_observer(mut self, observer: Option<Arc<dyn Observer>>) -> Self {
        self.observer = observer;
        self
    }

    /// Counts and tells of a connection that it has closed.
    pub(crate) fn note_closed(&self, kick: &Kick) {
        self.closed.fetch_add(1, Relaxed);
        if let Some(observer) = &self.observer {
            observer.kicked(kick);
        }
    }

    /// How many connections it has closed so far.
    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    /// Calls the roll anew before the next question.
    pub(crate) fn call_anew(&self) {
        self.present().until = None;
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock()
    }

    /// The servers there are.
    async fn roll(&self) -> Result<Present, ClusterError> {
        let before = self.present().clone();
        // A connection that was made anew may lead to another server, or to the same one started again.
        let connection = self.system.statistics().connects.load(Relaxed);
        let holds = |&(until, on): &(Instant, u64)| Instant::now() < until && on == connection;
        if before.until.as_ref().is_some_and(holds) {
            return Ok(before);
        }
        let patience = |answers: &BTreeMap<String, Presence>| before.patience(answers);
        let present = self.broadcast("$SYS.REQ.SERVER.PING", b"", patience).await?;
        if present.is_empty() {
            return Err(ClusterError::Nobody);
        }
        let expected = expected(&present);
        let missing = expected.saturating_sub(present.len());
        let gateways = present.values().any(Presence::has_gateways);
        let linked = match missing > 0 && !gateways {
            true => self.linked(present.keys().cloned().collect()).await?,
            false => None,
        };
        let absent = absent(&present, linked);
        let servers: BTreeSet<String> = present.into_keys().collect();
        if !absent.is_subset(&before.absent) {
            tracing::warn!(present = servers.len(), expected, ?absent, "not all servers answer");
        }
        let until = Some((Instant::now() + PRESENCE, connection));
        let present = Present { servers, absent, missing, until };
        *self.present() = present.clone();
        Ok(present)
    }

    /// Notes that servers have not answered: the next roll call, which is at once, says whether they are there.
    fn note_silent(&self, silent: &BTreeSet<String>) {
        let mut present = self.present();
        present.until = None;
        for server in silent {
            if present.servers.remove(server) {
                present.absent.insert(server.clone());
                present.missing += 1;
            }
        }
    }

    /// The servers to which these have routes; `None` where others may be linked otherwise, or one
    /// of these does not say.
    async fn linked(
        &self,
        servers: BTreeSet<String>,
    ) -> Result<Option<BTreeSet<String>>, ClusterError> {
        let (routes, leafs) = futures_util::future::try_join(
            self.ask_awaited(&servers, "$SYS.REQ.SERVER.PING.ROUTEZ", b"", |_| self.patience),
            self.ask_awaited(&servers, "$SYS.REQ.SERVER.PING.LEAFZ", b"", |_| self.patience),
        )
        .await?;
        let (routes, leafs): (BTreeMap<String, Routes>, BTreeMap<String, Leafs>) = (routes, leafs);
        let heard = |server: &String| {
            routes.contains_key(server)
                && leafs.get(server).is_some_and(|one| one.data.leafnodes == 0)
        };
        if !servers.iter().all(heard) {
            return Ok(None);
        }
        let routes = routes.into_values().flat_map(|one| one.data.routes);
        Ok(Some(routes.map(|route| route.remote_id).collect()))
    }

    /// Asks all servers the same; those that do not answer in time are silent.
    pub(crate) async fn ask_all<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Payload<'_>,
    ) -> Result<Answers<T>, ClusterError> {
        let Present { servers, mut absent, .. } = self.roll().await?;
        let by_server = self.ask_awaited(&servers, subject, question, |_| self.patience).await?;
        let mut silent = servers;
        silent.retain(|server| !by_server.contains_key(server));
        if !silent.is_empty() {
            self.note_silent(&silent);
        }
        for server in &silent {
            tracing::warn!(%server, subject, "server does not answer");
        }
        absent.retain(|server| !by_server.contains_key(server));
        silent.extend(absent);
        Ok(Answers { by_server, silent })
    }

    /// Asks all servers, and waits for these, for each as long after the question as `patience` says.
    pub(crate) async fn ask_awaited<T: DeserializeOwned>(
        &self,
        servers: &BTreeSet<String>,
        subject: &str,
        question: Payload<'_>,
        patience: impl Fn(&str) -> Duration,
    ) -> Result<BTreeMap<String, T>, ClusterError> {
        let longest = |answers: &BTreeMap<String, T>| {
            let missing = servers.iter().filter(|server| !answers.contains_key(*server));
            missing.map(|server| patience(server)).max().unwrap_or_default()
        };
        self.broadcast(subject, question, longest).await
    }

    /// Asks one server; `None` if it does not answer, or not in words that make sense.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: &Value,
    ) -> Option<T> {
        self.try_ask(subject, question).await.ok()
    }

    /// [`Self::ask`] that tells why there is no answer.
    pub(crate) async fn try_ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: &Value,
    ) -> Result<T, Unanswered> {
        let request = Request::new().payload(question.to_string().into());
        let request = request.timeout(Some(self.patience));
        match self.system.send_request(subject.to_owned(), request).await {
            Ok(answer) => match serde_json::from_slice(&answer.payload) {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    tracing::warn!(subject, %error, "a server's answer cannot be read");
                    Err(Unanswered::Silent)
                }
            },
            Err(error) => {
                let (fault, why) = match error.kind() {
                    RequestErrorKind::NoResponders => ("server is gone", Unanswered::Absent),
                    _ => ("server does not answer", Unanswered::Silent),
                };
                tracing::warn!(subject, %error, "{fault}");
                Err(why)
            }
        }
    }

    /// What so many servers answer at most, as it came: where not all of them do, or do not say who
    /// they are.
    pub(crate) async fn gather(
        &self,
        subject: &str,
        question: Payload<'_>,
        most: usize,
    ) -> Result<Vec<Bytes>, ClusterError> {
        let mut answers = Vec::new();
        self.publish(subject, question, |answer| {
            answers.extend(answer);
            if answers.len() >= most { Duration::ZERO } else { self.patience }
        })
        .await?;
        Ok(answers)
    }

    /// What every server that is there answers, as it came, or those that do in time.
    pub(crate) async fn gather_all(
        &self,
        subject: &str,
        question: Payload<'_>,
    ) -> Result<Vec<Bytes>, ClusterError> {
        let most = self.roll().await?.servers.len();
        self.gather(subject, question, most).await
    }

    /// How many bytes a message to a server may have.
    pub(crate) fn max_payload(&self) -> usize {
        self.system.max_payload()
    }

    /// Asks all servers, and waits for so long as `patience` has left, by the answers so far.
    async fn broadcast<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Payload<'_>,
        patience: impl Fn(&BTreeMap<String, T>) -> Duration,
    ) -> Result<BTreeMap<String, T>, ClusterError> {
        let mut answers = BTreeMap::new();
        self.publish(subject, question, |answer| {
            if let Some(payload) = answer
                && let Some(from) = ServerAnswer::<IgnoredAny>::parse(&payload)
                && let Ok(answer) = serde_json::from_slice(&payload)
            {
                answers.insert(from.server.id, answer);
            }
            patience(&answers)
        })
        .await?;
        Ok(answers)
    }

    /// Asks all servers. `take` is handed each answer, and none at first and from time to time; it says
    /// how long after the question the next one may come.
    async fn publish(
        &self,
        subject: &str,
        question: Payload<'_>,
        mut take: impl FnMut(Option<Bytes>) -> Duration,
    ) -> Result<(), ClusterError> {
        let failed = |error: &dyn std::fmt::Display| ClusterError::Connection(error.to_string());
        let begun = Instant::now();
        let inbox = self.system.new_inbox();
        let mut replies =
            self.system.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        self.system
            .publish_with_reply(subject.to_owned(), inbox, Bytes::copy_from_slice(question))
            .await
            .map_err(|error| failed(&error))?;
        let mut patience = take(None);
        while begun.elapsed() < patience {
            let pause = (begun + patience).min(Instant::now() + LOOK);
            patience = match tokio::time::timeout_at(pause, replies.next()).await {
                Ok(Some(reply)) if reply.status != Some(StatusCode::NO_RESPONDERS) => {
                    take(Some(reply.payload))
                }
                Ok(_) => break,
                Err(_) => take(None),
            };
        }
        Ok(())
    }
}

/// What is sent to servers: JSON, or a JWT.
pub(crate) type Payload<'a> = &'a [u8];

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_answer(payload: &[u8]) {
    let _ = serde_json::from_slice::<Presence>(payload);
    let _ = serde_json::from_slice::<Routes>(payload);
    let _ = serde_json::from_slice::<Leafs>(payload);
}

#[derive(Deserialize)]
struct Routes {
    data: RoutesData,
}

#[derive(Deserialize)]
struct RoutesData {
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Route {
    remote_id: String,
}

#[derive(Deserialize)]
struct Leafs {
    data: LeafsData,
}

#[derive(Deserialize)]
struct LeafsData {
    leafnodes: usize,
}
