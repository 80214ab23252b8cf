//! Which servers there are: heard of through the system account's events and through the requests
//! that they make. An account's JWT has to reach all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::{Client, SubscribeError, Subscriber};
use futures_util::stream::Select;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use tokio::sync::watch;

use super::ServerAnswer;
use crate::keys::ServerId;

/// A server announces itself every 10 s; one that has been silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(35);

/// How often the connection is looked at: one that was made anew may lead to other servers.
const LOOK: Duration = Duration::from_millis(20);

/// The servers known at the moment.
#[derive(Debug, Default)]
pub(crate) struct KnownServers {
    last_heard: Mutex<HashMap<ServerId, Instant>>,
    arrived: watch::Sender<u64>,
}

impl KnownServers {
    /// Notes that a server is alive.
    pub(crate) fn heard(&self, server: ServerId) {
        if self.last_heard.lock().insert(server, Instant::now()).is_none() {
            self.arrived.send_modify(|count| *count += 1);
        }
    }

    /// Counts the servers that came, or came back.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }

    /// Notes that a server has stopped, or does not answer.
    pub(crate) fn gone(&self, server: &ServerId) {
        self.last_heard.lock().remove(server);
    }

    /// The servers that have been heard of lately.
    pub(crate) fn known(&self) -> Vec<ServerId> {
        let mut servers = self.last_heard.lock();
        servers.retain(|_, heard| heard.elapsed() < SILENCE);
        servers.keys().copied().collect()
    }

    /// Whether a server has been heard of lately.
    pub(crate) fn knows(&self, server: &ServerId) -> bool {
        self.last_heard.lock().get(server).is_some_and(|heard| heard.elapsed() < SILENCE)
    }

    /// Subscribes, on a connection of the system account, to what servers say of themselves, and asks
    /// them to announce themselves.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        system: &Client,
    ) -> Result<Watching, SubscribeError> {
        let inbox = system.new_inbox();
        let alive = system.subscribe("$SYS.SERVER.*.STATSZ").await?;
        let answers = system.subscribe(inbox.clone()).await?;
        let stopped = system.subscribe("$SYS.SERVER.*.SHUTDOWN").await?;
        let watching = Watching {
            servers: Arc::clone(self),
            connects: system.statistics().connects.load(Ordering::Relaxed),
            system: system.clone(),
            inbox,
            heard: futures_util::stream::select(alive, answers),
            stopped,
        };
        watching.ask().await;
        Ok(watching)
    }

    /// Knows none any more: the acknowledgement of a server that was killed would be awaited in
    /// vain, and those that live are heard again.
    fn forget(&self) {
        self.last_heard.lock().clear();
    }
}

/// Keeps the list of [`KnownServers`] up to date.
#[derive(Debug)]
pub(crate) struct Watching {
    servers: Arc<KnownServers>,
    system: Client,
    inbox: String,
    heard: Select<Subscriber, Subscriber>,
    stopped: Subscriber,
    connects: u64,
}

impl Watching {
    /// Does so for as long as there is the connection. May be called again.
    pub(crate) async fn run(&mut self) {
        let mut looks = tokio::time::interval(LOOK);
        let statistics = self.system.statistics();
        loop {
            tokio::select! {
                Some(message) = self.heard.next() => {
                    if let Some(server) = named(&message) {
                        self.servers.heard(server);
                    }
                }
                Some(message) = self.stopped.next() => {
                    if let Some(server) = named(&message) {
                        self.servers.gone(&server);
                    }
                }
                _ = looks.tick() => {
                    let now = statistics.connects.load(Ordering::Relaxed);
                    if now != self.connects {
                        self.connects = now;
                        // What servers said before the connection was lost is no sign of life.
                        while self.heard.next().now_or_never().flatten().is_some() {}
                        self.servers.forget();
                        self.ask().await;
                    }
                }
                else => return,
            }
        }
    }

    /// Asks all servers to announce themselves. A failed publish is made up for by what they announce
    /// by themselves.
    async fn ask(&self) {
        let inbox = self.inbox.clone();
        let asked = self.system.publish_with_reply("$SYS.REQ.SERVER.PING", inbox, "".into()).await;
        if let Err(error) = asked {
            tracing::debug!(%error, "servers could not be asked to announce themselves");
        }
    }
}

/// The server that a system message is from: in its subject, or in its body.
fn named(message: &async_nats::Message) -> Option<ServerId> {
    let in_subject = message.subject.split('.').nth(2).and_then(|token| token.parse().ok());
    in_subject
        .or_else(|| ServerAnswer::<IgnoredAny>::parse(&message.payload)?.server.id.parse().ok())
}
