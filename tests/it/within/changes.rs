//! What a change does to those who are connected, on real servers: it closes what is no longer
//! allowed, on every node and every page of connections, and touches nobody else.

mod accounts;
mod answers;
pub(crate) mod crowd;
mod limits;
mod mid_flight;
mod outage;
mod over;
mod users;

use std::time::{Duration, Instant};

use serde_json::Value;

use self::crowd::Held;
use crate::harness::client::Login;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::servers::NatsServer;

/// Within this time a change is carried through, by contract.
const AT_MOST: Duration = Duration::from_secs(5);

/// What the command says: how many connections were closed.
#[track_caller]
fn kicked(init: &Initialised, args: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(args);
    let output = init.cli(&all).success();
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    output.json()["kicked"].clone()
}

/// Connections of these logins, spread over the nodes.
fn connect_all(nodes: &[NatsServer], logins: &[&Login], count: usize) -> Vec<Held> {
    (0..count)
        .map(|turn| {
            let port = nodes[turn % nodes.len()].port();
            Held::connect(port, logins[turn / nodes.len() % logins.len()])
        })
        .collect()
}

/// Waits until the server has closed all of them; gives the time since `from`.
#[track_caller]
fn all_closed(held: &mut [Held], from: Instant) -> Duration {
    held.iter_mut().for_each(Held::wait_closed);
    from.elapsed()
}

#[track_caller]
fn all_alive(held: &mut [Held]) {
    for connection in held {
        assert!(connection.is_alive(), "a connection was closed that should not have been");
    }
}

fn cluster(mode: Mode, size: usize) -> Cluster {
    Cluster::start(mode, size)
}

/// A connection that is closed to see that a running instance has acted upon all changes before.
struct Marker {
    held: Vec<Held>,
}

impl Marker {
    fn new(cluster: &Cluster) -> Self {
        let login = cluster.init.tenant_add("marker", &[]);
        Self { held: connect_all(&cluster.nodes[..1], &[&login], 1) }
    }

    /// Returns once everything that was changed before has been acted upon.
    #[track_caller]
    fn wait(mut self, init: &Initialised) {
        all_alive(&mut self.held);
        init.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'marker'");
        all_closed(&mut self.held, Instant::now());
    }
}
