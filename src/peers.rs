//! Instances watch each other. One that hangs with its connections open (a stopped process, a
//! paused machine) stays in the queue group, and nats-server goes on sending it requests that are
//! lost, until it notices by itself, which takes a minute with gentle settings. So each instance
//! says every second that it is alive and which connection its subscription hangs on, and a
//! connection whose instance has fallen silent is closed by the others, through the system account.
//!
//! What is said here is no proof of who says it. So only that is closed which the server itself shows
//! to be a connection of the service's login, and which no instance that is heard speaks for.
//!
//! The database has no part in this, and whoever does not hear itself judges nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::{Client, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::connections::{Closing, ConnectionId, Occupant, Resident};
use crate::keys::ServerId;
use crate::servers::Cluster;

/// Where instances say that they are alive.
pub(crate) const ALIVE_SUBJECT: &str = "_CALLOUT.alive";

/// How often they do.
const BEAT: Duration = Duration::from_secs(1);

/// For how long one may be silent. A connection that is closed wrongly costs those logins that its
/// instance has at hand, so a slow second must not be enough.
const SILENCE: Duration = Duration::from_secs(4);

/// Whoever has not heard itself for so long hears nobody.
const DEAFNESS: Duration = Duration::from_secs(2);

/// What an instance says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Alive {
    instance: String,
    server: String,
    cid: u64,
    /// It ends: its silence will mean nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leaves: bool,
}

/// The other instances, as this one hears them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    alive: watch::Sender<usize>,
    closed: AtomicU64,
}

impl Peers {
    /// How many instances are heard, this one included.
    pub(crate) fn alive(&self) -> usize {
        *self.0.alive.borrow()
    }

    /// The same, as it changes.
    #[must_use]
    pub(crate) fn follow(&self) -> watch::Receiver<usize> {
        self.0.alive.subscribe()
    }

    /// How many connections of silent ones it has closed so far.
    pub(crate) fn closed(&self) -> u64 {
        self.0.closed.load(Relaxed)
    }

    /// Subscribes on `client`, the connection with the callout's subscription. All instances log in as
    /// `own`, and take events as `intake`, by connections that are named after them.
    pub(crate) async fn subscribe(
        &self,
        instance: String,
        client: Client,
        cluster: Cluster,
        own: Resident,
        intake: Vec<Resident>,
    ) -> Result<PeerWatch, SubscribeError> {
        let beats = client.subscribe(ALIVE_SUBJECT).await?;
        let roll = Heartbeats::new(instance.clone(), Instant::now());
        let watch = Watcher { instance, client, cluster, own, intake, peers: self.clone() };
        Ok(PeerWatch { watch, beats, roll })
    }
}

/// Watches the others, and says that this one is alive.
#[derive(Debug)]
pub(crate) struct PeerWatch {
    watch: Watcher,
    beats: Subscriber,
    roll: Heartbeats,
}

impl PeerWatch {
    /// Speaks and listens until `stop`, and then says that it leaves. May be called again.
    pub(crate) async fn run(&mut self, stop: &CancellationToken) {
        let Self { watch, beats, roll } = self;
        // Beside each other: whoever waits for a server's answer must not fall silent.
        let work = async { tokio::join!(watch.speak_on(), watch.listen(beats, roll)) };
        stop.run_until_cancelled(work).await;
        watch.speak(true).await;
    }
}

#[derive(Debug)]
struct Watcher {
    instance: String,
    client: Client,
    cluster: Cluster,
    own: Resident,
    intake: Vec<Resident>,
    peers: Peers,
}

impl Watcher {
    async fn speak_on(&self) {
        loop {
            self.speak(false).await;
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn listen(&self, beats: &mut Subscriber, roll: &mut Heartbeats) {
        let mut turns = tokio::time::interval(BEAT / 2);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                beat = beats.next() => {
                    let Some(beat) = beat else { return };
                    if let Ok(alive) = serde_json::from_slice(&beat.payload) {
                        roll.hear(alive, Instant::now());
                    }
                }
                _ = turns.tick() => {
                    for (peer, connection) in roll.silent(Instant::now()) {
                        self.close(&peer, connection).await;
                        self.close_intake(&peer).await;
                    }
                    self.peers.0.alive.send_replace(roll.len());
                }
            }
        }
    }

    async fn speak(&self, leaves: bool) {
        let info = self.client.server_info();
        let (server, cid) = (info.server_id, info.client_id);
        let alive = Alive { instance: self.instance.clone(), server, cid, leaves };
        let Ok(words) = serde_json::to_vec(&alive) else { return };
        // Without a connection the silence says it.
        let _ = self.client.publish(ALIVE_SUBJECT, words.into()).await;
    }

    /// Closes what a silent instance takes events by: it is a member of that queue group too.
    async fn close_intake(&self, peer: &str) {
        for login in &self.intake {
            let Ok((clients, _)) = self.cluster.clients_in(&login.account).await else { continue };
            let its = |client: &Occupant| {
                client.user == login.user && client.name.split(' ').next_back() == Some(peer)
            };
            for client in clients.into_iter().filter(its) {
                if let Closing::Closed = self.cluster.close_one(client.id, login).await {
                    self.peers.0.closed.fetch_add(1, Relaxed);
                    let account = login.account.as_str();
                    tracing::warn!(peer, account, "an instance is silent; its intake was closed");
                }
            }
        }
    }

    async fn close(&self, peer: &str, connection: ConnectionId) {
        let (server, cid) = (connection.server.clone(), connection.cid);
        match self.cluster.close_one(connection, &self.own).await {
            Closing::Closed => {
                self.peers.0.closed.fetch_add(1, Relaxed);
                tracing::warn!(
                    peer,
                    server,
                    cid,
                    "an instance is silent; its connection was closed"
                );
            }
            Closing::Gone => {
                tracing::info!(peer, server, cid, "an instance has gone without a word");
            }
            Closing::Foreign(Resident { account, user }) => tracing::error!(
                peer,
                server,
                cid,
                account,
                user,
                "a connection that is not the service's was named as a silent instance's, and left \
                 alone: somebody else can publish {ALIVE_SUBJECT} in AUTH; run `nats-callout doctor`"
            ),
        }
    }
}

/// Who was heard when.
#[derive(Debug)]
struct Heartbeats {
    own: String,
    heard: HashMap<String, (Instant, ConnectionId)>,
    own_heard: Instant,
    own_connection: Option<ConnectionId>,
    looked: Instant,
}

impl Heartbeats {
    fn new(own: String, now: Instant) -> Self {
        Self { own, heard: HashMap::new(), own_heard: now, own_connection: None, looked: now }
    }

    /// The instances that are there, this one included.
    fn len(&self) -> usize {
        self.heard.len() + 1
    }

    fn hear(&mut self, alive: Alive, now: Instant) {
        let Alive { instance, server, cid, leaves } = alive;
        let names_a_server = server.parse::<ServerId>().is_ok();
        let connection = ConnectionId { server, cid };
        if instance == self.own {
            self.own_heard = now;
            self.own_connection = Some(connection);
        } else if leaves {
            self.heard.remove(&instance);
        } else if names_a_server {
            self.heard.insert(instance, (now, connection));
        }
    }

    /// Those that have fallen silent, once. Nobody has, while this one is deaf; and after that, or
    /// after it has been stopped itself, all of them get their time anew.
    fn silent(&mut self, now: Instant) -> Vec<(String, ConnectionId)> {
        let was_stopped = now.saturating_duration_since(self.looked) >= DEAFNESS;
        self.looked = now;
        if was_stopped || now.saturating_duration_since(self.own_heard) >= DEAFNESS {
            self.heard.values_mut().for_each(|(at, _)| *at = now);
            return Vec::new();
        }
        let is_silent = |at: Instant| now.saturating_duration_since(at) >= SILENCE;
        let silent = self.heard.extract_if(|_, (at, _)| is_silent(*at));
        let mut silent: Vec<_> = silent.map(|(peer, (_, connection))| (peer, connection)).collect();
        let speaks = |connection: &ConnectionId| {
            let others = self.heard.values().map(|(_, connection)| connection);
            others.chain(&self.own_connection).any(|one| one == connection)
        };
        silent.retain(|(_, connection)| !speaks(connection));
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(instance: &str, cid: u64) -> Alive {
        let server = nkeys::KeyPair::new_server().public_key();
        Alive { instance: instance.to_owned(), server, cid, leaves: false }
    }

    /// Turns of half a second, in which the instances of `speaking` are heard.
    fn turns(roll: &mut Heartbeats, now: &mut Instant, count: u32, speaking: &[&str]) -> Vec<u64> {
        let mut closed = Vec::new();
        for _ in 0..count {
            *now += BEAT / 2;
            for instance in speaking {
                roll.hear(alive(instance, 1), *now);
            }
            closed.extend(roll.silent(*now).into_iter().map(|(_, connection)| connection.cid));
        }
        closed
    }

    #[test]
    fn one_that_falls_silent_is_closed_once_and_the_others_are_not() {
        let mut now = Instant::now();
        let mut roll = Heartbeats::new("a".to_owned(), now);
        roll.hear(alive("b", 7), now);
        assert_eq!(turns(&mut roll, &mut now, 7, &["a", "c"]), [0; 0]);
        assert_eq!(roll.len(), 3);
        assert_eq!(turns(&mut roll, &mut now, 20, &["a", "c"]), [7]);
        assert_eq!(roll.len(), 2);
    }

    #[test]
    fn one_that_leaves_is_not_missed() {
        let mut now = Instant::now();
        let mut roll = Heartbeats::new("a".to_owned(), now);
        roll.hear(alive("b", 7), now);
        roll.hear(Alive { leaves: true, ..alive("b", 7) }, now);
        assert_eq!(turns(&mut roll, &mut now, 20, &["a"]), [0; 0]);
    }

    #[test]
    fn who_is_deaf_or_was_stopped_judges_nobody() {
        let mut now = Instant::now();
        let mut roll = Heartbeats::new("a".to_owned(), now);
        roll.hear(alive("b", 7), now);
        assert_eq!(turns(&mut roll, &mut now, 40, &[]), [0; 0]);
        // It hears again, and the other one has its time.
        assert_eq!(turns(&mut roll, &mut now, 7, &["a"]), [0; 0]);
        now += Duration::from_secs(60);
        assert_eq!(turns(&mut roll, &mut now, 7, &["a"]), [0; 0]);
        assert_eq!(turns(&mut roll, &mut now, 10, &["a"]), [7]);
    }

    #[test]
    fn the_connection_of_one_that_speaks_is_nobody_elses() {
        let mut now = Instant::now();
        let mut roll = Heartbeats::new("a".to_owned(), now);
        let (own, other) = (alive("a", 1), alive("b", 2));
        roll.hear(Alive { instance: "x".to_owned(), ..own.clone() }, now);
        roll.hear(Alive { instance: "y".to_owned(), ..other.clone() }, now);
        roll.hear(alive("z", 3), now);
        let mut closed = Vec::new();
        for _ in 0..20 {
            now += BEAT / 2;
            roll.hear(own.clone(), now);
            roll.hear(other.clone(), now);
            closed.extend(roll.silent(now).into_iter().map(|(peer, _)| peer));
        }
        assert_eq!(closed, ["z"]);
    }

    #[test]
    fn what_names_no_server_is_not_heard() {
        let now = Instant::now();
        let mut roll = Heartbeats::new("a".to_owned(), now);
        roll.hear(Alive { server: "N.>".to_owned(), ..alive("b", 7) }, now);
        assert_eq!(roll.len(), 1);
    }
}
