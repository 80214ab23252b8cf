//! Questions to all servers, and to one: which there are, what they hold. Every wait is bounded,
//! and a server that does not answer is named.

mod presence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::presence::{Presence, Present, absent, expected};
use super::{ConnectionId, Holder};
use crate::audit::{Kick, Observer};

/// For how long a roll call holds. A server that has died lets every one of them take its time
/// until its peers give it up.
const PRESENCE: Duration = Duration::from_secs(2);

/// How long a server has to answer a question, where nobody says otherwise.
const ANSWER: Duration = Duration::from_secs(2);

/// Accounts asked about at once: their ids have to fit into one message.
const ACCOUNTS_AT_ONCE: usize = 1_000;

/// Why the servers could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The connection is gone.
    #[error("the servers cannot be asked: {0}")]
    Connection(String),
    /// No server answers.
    #[error("no server answers on the system account")]
    Nobody,
}

/// All servers, as seen from a connection of the system account.
#[derive(Debug, Clone)]
pub struct Cluster {
    system: Client,
    /// Who was there when the roll was called last.
    present: Arc<Mutex<Present>>,
    /// How long a server has to answer a question.
    patience: Duration,
    closed: Arc<AtomicU64>,
    /// Who is told of closed connections.
    observer: Option<Arc<dyn Observer>>,
}

/// Which accounts have connections, on which server.
#[derive(Default)]
pub(super) struct Inhabited {
    pub(super) accounts: BTreeMap<String, BTreeSet<String>>,
    pub(super) silent: BTreeSet<String>,
}

/// Answers by server.
pub(in crate::provision) struct Answers<T> {
    pub(in crate::provision) by_server: BTreeMap<String, T>,
    pub(in crate::provision) silent: BTreeSet<String>,
}

impl Cluster {
    /// Asks on a connection of the system account.
    #[must_use]
    pub fn new(system: Client) -> Self {
        let (present, closed) = (Arc::default(), Arc::default());
        Self { system, present, patience: ANSWER, closed, observer: None }
    }

    /// Waits for a server's answer for so long at most.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Tells `observer` of every connection that is closed.
    #[must_use]
    pub fn with_observer(mut self, observer: Option<Arc<dyn Observer>>) -> Self {
        self.observer = observer;
        self
    }

    pub(super) fn tell(&self, id: &ConnectionId, holder: &Holder) {
        let Some(observer) = &self.observer else { return };
        let Holder { account, user, host } = holder.clone();
        observer.kicked(&Kick { server: id.server.clone(), cid: id.cid, account, user, host });
    }

    /// How many connections it has closed so far.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    /// Notes that it has closed so many more.
    pub(super) fn note_closed(&self, count: usize) {
        self.closed.fetch_add(count as u64, Relaxed);
    }

    /// Calls the roll anew before the next question.
    pub fn call_anew(&self) {
        self.present().until = None;
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.ask_these(&servers, "$SYS.REQ.SERVER.PING.ROUTEZ", b""),
            self.ask_these(&servers, "$SYS.REQ.SERVER.PING.LEAFZ", b""),
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
    pub(in crate::provision) async fn ask_all<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Payload<'_>,
    ) -> Result<Answers<T>, ClusterError> {
        let Present { servers, mut absent, .. } = self.roll().await?;
        let by_server = self.ask_these(&servers, subject, question).await?;
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

    /// Asks all servers, and waits for these.
    async fn ask_these<T: DeserializeOwned>(
        &self,
        servers: &BTreeSet<String>,
        subject: &str,
        question: Payload<'_>,
    ) -> Result<BTreeMap<String, T>, ClusterError> {
        let patience = |answers: &BTreeMap<String, T>| {
            let all = servers.iter().all(|server| answers.contains_key(server));
            if all { Duration::ZERO } else { self.patience }
        };
        self.broadcast(subject, question, patience).await
    }

    /// Which of the accounts have connections where. Makes no server load an account.
    pub(super) async fn inhabited(&self, accounts: &[&str]) -> Result<Inhabited, ClusterError> {
        let mut inhabited = Inhabited::default();
        for some in accounts.chunks(ACCOUNTS_AT_ONCE) {
            let question = json!({ "accounts": some, "include_unused": true }).to_string();
            let subject = "$SYS.REQ.ACCOUNT.PING.STATZ";
            let answers: Answers<AccountStats> = self.ask_all(subject, question.as_bytes()).await?;
            inhabited.silent.extend(answers.silent);
            for (server, stats) in answers.by_server {
                let used = stats
                    .data
                    .account_statz
                    .into_iter()
                    .filter(|one| one.conns + one.leafnodes > 0);
                let used: Vec<String> = used.map(|one| one.acc).collect();
                if !used.is_empty() {
                    inhabited.accounts.entry(server).or_default().extend(used);
                }
            }
        }
        Ok(inhabited)
    }

    /// Asks one server; `None` if it does not answer, or not in words that make sense.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: &Value,
    ) -> Option<T> {
        let request = Request::new().payload(question.to_string().into());
        let request = request.timeout(Some(self.patience));
        match self.system.send_request(subject.to_owned(), request).await {
            Ok(answer) => match serde_json::from_slice(&answer.payload) {
                Ok(answer) => Some(answer),
                Err(error) => {
                    tracing::warn!(subject, %error, "a server's answer cannot be read");
                    None
                }
            },
            Err(error) => {
                let gone = error.kind() == RequestErrorKind::NoResponders;
                let fault = if gone { "server is gone" } else { "server does not answer" };
                tracing::warn!(subject, %error, "{fault}");
                None
            }
        }
    }

    /// Asks all servers, and waits for so long as `patience` has left, by the answers so far.
    async fn broadcast<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Payload<'_>,
        patience: impl Fn(&BTreeMap<String, T>) -> Duration,
    ) -> Result<BTreeMap<String, T>, ClusterError> {
        let failed = |error: &dyn std::fmt::Display| ClusterError::Connection(error.to_string());
        let begun = Instant::now();
        let inbox = self.system.new_inbox();
        let mut replies =
            self.system.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        let question = bytes::Bytes::copy_from_slice(question);
        self.system
            .publish_with_reply(subject.to_owned(), inbox, question)
            .await
            .map_err(|error| failed(&error))?;
        let mut answers = BTreeMap::new();
        loop {
            let patience = patience(&answers);
            if patience.is_zero() {
                break;
            }
            let reply = tokio::time::timeout_at(begun + patience, replies.next());
            let Ok(Some(reply)) = reply.await else { break };
            if let Ok(from) = serde_json::from_slice::<From>(&reply.payload)
                && let Ok(answer) = serde_json::from_slice(&reply.payload)
            {
                answers.insert(from.server.id, answer);
            }
        }
        Ok(answers)
    }
}

/// What is sent to servers: JSON, or a JWT.
pub(in crate::provision) type Payload<'a> = &'a [u8];

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_answer(payload: &[u8]) {
    let _ = serde_json::from_slice::<From>(payload);
    let _ = serde_json::from_slice::<Presence>(payload);
    let _ = serde_json::from_slice::<AccountStats>(payload);
    let _ = serde_json::from_slice::<Routes>(payload);
    let _ = serde_json::from_slice::<Leafs>(payload);
}

#[derive(Deserialize)]
struct From {
    server: FromServer,
}

#[derive(Deserialize)]
struct FromServer {
    id: String,
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

#[derive(Deserialize)]
struct AccountStats {
    #[serde(default)]
    data: AccountStatsData,
}

#[derive(Default, Deserialize)]
struct AccountStatsData {
    #[serde(default)]
    account_statz: Vec<AccountStat>,
}

#[derive(Deserialize)]
struct AccountStat {
    acc: String,
    #[serde(default)]
    conns: i64,
    #[serde(default)]
    leafnodes: i64,
}
