//! Three servers, two instances, and BB.

use std::time::{Duration, Instant};

use crate::bb::Backend;
use crate::bb::notifier::{Notifier, Sent};
use crate::harness::client::Login;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
use crate::harness::ports;
use crate::harness::servers;
use crate::harness::service::Service;
use crate::harness::staying::{Library, Size, Staying, Subjects};

/// The tenant.
pub(super) const TENANT: &str = "one";

/// Between two notifications, of which each connection gets all.
const PERIOD: Duration = Duration::from_millis(500);

/// How many of them there are in so many seconds.
pub(super) const fn notifications(seconds: u64) -> u64 {
    seconds * 2
}

/// How often a connection publishes, and says what it has heard.
const PAUSE: Duration = Duration::from_secs(10);

/// The servers that fail; the first one never does.
const FAILING: [usize; 2] = [1, 2];

/// What fails, and how.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    InstanceKilled,
    InstanceStopped,
    ServerKilled(usize),
    ServerStopped(usize),
    LameDuck(usize),
}

impl Failure {
    /// An instance as often as a server.
    pub(super) const ALL: [Self; 12] = [
        Self::InstanceKilled,
        Self::InstanceKilled,
        Self::InstanceKilled,
        Self::InstanceStopped,
        Self::InstanceStopped,
        Self::InstanceStopped,
        Self::ServerKilled(FAILING[0]),
        Self::ServerKilled(FAILING[1]),
        Self::ServerStopped(FAILING[0]),
        Self::ServerStopped(FAILING[1]),
        Self::LameDuck(FAILING[0]),
        Self::LameDuck(FAILING[1]),
    ];
}

/// See the module.
pub(super) struct Site {
    notifier: Notifier,
    /// The first one never fails.
    pub(super) instances: [Service; 2],
    pub(super) cluster: Cluster,
    websockets: Vec<u16>,
    mqtts: Vec<u16>,
}

impl Site {
    pub(super) fn start(mode: Mode) -> Self {
        let three = || (0..3).map(|_| ports::free()).collect::<Vec<u16>>();
        let (websockets, mqtts) = (three(), three());
        let blocks: Vec<String> = websockets.iter().zip(&mqtts).map(blocks).collect();
        let mut cluster = Cluster::start_with(mode, &blocks, |init| init.set("ttl", "\"1m\""));
        // Each prefers a server that fails.
        let instances = FAILING.map(|node| cluster.another_service(node));
        assert!(cluster.service.stop().success());
        cluster.init.tenant_add(TENANT, &["--memory", "64MB", "--storage", "256MB"]);
        let backend = Backend::connect_to(&cluster.nodes[0], &cluster.init);
        let notifier = Notifier::start(backend, TENANT, PERIOD);
        Self { notifier, instances, cluster, websockets, mqtts }
    }

    /// The libraries that can be had here and log in in this mode: MQTT takes an account of the
    /// tenant's own.
    pub(super) fn libraries(&self) -> Vec<Library> {
        let takes_mqtt = self.cluster.init.mode == Mode::Operator
            && !servers::takes_mqtt_passwords_for_jwts(servers::version());
        Library::ALL.into_iter().filter(|it| takes_mqtt || *it != Library::Paho).collect()
    }

    /// Starts a client that knows this server; `None` where its toolchain is missing.
    pub(super) fn client(
        &self,
        library: Library,
        node: usize,
        login: &Login,
        count: usize,
    ) -> Option<Staying> {
        let url = match library {
            Library::WsConnect => format!("ws://127.0.0.1:{}", self.websockets[node]),
            Library::Paho => format!("mqtt://127.0.0.1:{}", self.mqtts[node]),
            _ => self.cluster.nodes[node].url(),
        };
        let subjects = Subjects::of(self.cluster.init.mode, TENANT);
        Staying::start_many(library, &url, login, &subjects, Size { count, pause: PAUSE })
    }

    /// The number of the last notification.
    pub(super) fn sent(&self) -> u64 {
        self.notifier.sent().number()
    }

    /// The same, as it goes on.
    pub(super) fn counter(&self) -> Sent {
        self.notifier.sent().clone()
    }

    /// Waits for so long; meanwhile nothing may fail.
    pub(super) fn rest(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            for instance in &mut self.instances {
                let ended = instance.ended();
                assert_eq!(ended, None, "an instance has ended by itself");
            }
            std::thread::sleep(time.saturating_sub(begun.elapsed()).min(Duration::from_secs(1)));
        }
    }

    /// Something fails, and comes back after this time.
    pub(super) fn fail(&mut self, failure: Failure, away: Duration) {
        let nodes = &mut self.cluster.nodes;
        match failure {
            Failure::InstanceKilled => self.instances[1].kill9(),
            Failure::InstanceStopped => assert!(self.instances[1].stop().success()),
            Failure::ServerKilled(node) => nodes[node].kill9(),
            Failure::ServerStopped(node) => nodes[node].stop(),
            Failure::LameDuck(node) => nodes[node].lame_duck(),
        }
        std::thread::sleep(away);
        match failure {
            Failure::InstanceKilled | Failure::InstanceStopped => self.instances[1].restart(),
            Failure::ServerKilled(node)
            | Failure::ServerStopped(node)
            | Failure::LameDuck(node) => self.cluster.restart(node),
        }
    }
}

/// What a server has beside what `init` wrote.
fn blocks((websocket, mqtt): (&u16, &u16)) -> String {
    format!(
        "websocket {{ listen: \"127.0.0.1:{websocket}\", no_tls: true }}\n\
         mqtt {{ listen: \"127.0.0.1:{mqtt}\" }}\n\
         lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"2s\"\n"
    )
}
