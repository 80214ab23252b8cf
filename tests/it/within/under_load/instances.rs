//! Several instances of the service in one queue group, on a cluster of three servers: any of
//! either may die or be replaced under a constant load of logins.

mod history;

use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::{Attempt, Ended, Load, failed};
use crate::harness::choice::either_mode;
use crate::harness::cluster::{self, Cluster};
use crate::harness::deployment::Mode;
use crate::harness::servers::NatsServer;
use crate::harness::service::Service;
use crate::harness::turn::alone;
use crate::harness::{depth, eventually};

/// Logins at the same time.
const THREADS: usize = 6;

/// So many instances, at one node after the other. They begin beside each other.
pub(crate) fn start_instances(cluster: &Cluster, count: usize) -> Vec<Service> {
    std::thread::scope(|scope| {
        let start = |at: usize| {
            let node = at % cluster.nodes.len();
            scope.spawn(move || cluster.another_service(node))
        };
        let starting: Vec<_> = (0..count).map(start).collect();
        starting.into_iter().map(|one| one.join().expect("an instance")).collect()
    })
}

/// Three nodes with an instance on each, and somebody who logs in at all three.
struct Fleet {
    cluster: Cluster,
    instances: Vec<Service>,
    login: Value,
}

impl Fleet {
    fn start(mode: Mode) -> Self {
        let mut cluster = Cluster::start(mode, 3);
        let login = cluster.init.tenant_add("one", &[]).connect_fields();
        let instances = start_instances(&cluster, 3);
        assert!(cluster.service.stop().success());
        Self { cluster, instances, login }
    }

    /// Logins while `disturb` runs.
    fn under_load(&mut self, disturb: impl FnOnce(&mut Self, &Load)) -> Vec<Attempt> {
        let ports: Vec<u16> = self.cluster.nodes.iter().map(|node| node.port()).collect();
        let load = Load::start(THREADS, &ports, &self.login);
        load.more(depth(50, 100));
        disturb(self, &load);
        load.end()
    }

    fn connections_of_instances(&self) -> usize {
        self.cluster.nodes.iter().map(NatsServer::connections_of_instances).sum()
    }

    fn logs(&self) -> String {
        self.instances.iter().map(Service::log).collect::<Vec<_>>().join("\n----\n")
    }
}

/// From the end of a process until the servers knew of it.
struct Kill {
    begun: Instant,
    known: Instant,
}

impl Kill {
    /// Kills a process, and waits until the servers report so.
    fn watched(
        fleet: &mut Fleet,
        kill: impl FnOnce(&mut Fleet),
        known: impl Fn(&Fleet) -> bool,
    ) -> Self {
        let begun = Instant::now();
        kill(fleet);
        eventually("servers that know of the end", || known(fleet).then_some(()));
        Self { begun, known: Instant::now() }
    }

    /// Whether a request may have gone to the process: what one server knows is on its way to the
    /// others yet.
    fn met(&self, attempt: &Attempt) -> bool {
        attempt.begun <= self.known + Duration::from_millis(100)
            && attempt.begun + attempt.took >= self.begun
    }
}

/// Logins that were under way on a process when it was killed may wait until nats-server gives
/// them up; no other is refused, and none at once.
fn only_those_in_flight(attempts: &[Attempt], kills: &[Kill], logs: &str) {
    let refused: Vec<&Attempt> =
        attempts.iter().filter(|attempt| matches!(attempt.ended, Ended::Refused(_))).collect();
    for attempt in &refused {
        let in_flight = kills.iter().any(|kill| kill.met(attempt));
        let waited = attempt.took >= Duration::from_millis(1_500);
        let Ended::Refused(words) = &attempt.ended else { unreachable!("refusals only") };
        assert!(words.contains("Authorization Violation"), "{words}");
        assert!(in_flight && waited, "{attempt:?} of {} logins\n{logs}", attempts.len());
    }
    println!("{} logins, {} refused for being in flight", attempts.len(), refused.len());
}

fn replaced_instances_cost_no_login(fleet: &mut Fleet) {
    let attempts = fleet.under_load(|fleet, load| {
        for instance in &mut fleet.instances {
            assert!(load.pressed(|| instance.stop()).success());
            load.more(depth(30, 100));
            instance.restart();
            load.more(depth(30, 50));
        }
    });
    let failed = failed(&attempts);
    assert!(failed.is_empty(), "{failed:?} of {}\n{}", attempts.len(), fleet.logs());
}

fn instances_that_die_cost_only_the_logins_in_flight_on_them(fleet: &mut Fleet) {
    let mut kills = Vec::new();
    let attempts = fleet.under_load(|fleet, load| {
        for instance in 0..fleet.instances.len() {
            let before = fleet.connections_of_instances();
            kills.push(load.pressed(|| {
                Kill::watched(
                    fleet,
                    |fleet| fleet.instances[instance].kill9(),
                    |fleet| fleet.connections_of_instances() < before,
                )
            }));
            load.more(depth(60, 200));
            fleet.instances[instance].restart();
            load.more(depth(30, 50));
        }
    });
    only_those_in_flight(&attempts, &kills, &fleet.logs());
}

fn servers_that_die_cost_only_the_logins_in_flight_through_them(fleet: &mut Fleet) {
    let mut kills = Vec::new();
    let attempts = fleet.under_load(|fleet, load| {
        for node in 0..fleet.cluster.nodes.len() {
            let alone = |fleet: &Fleet| {
                let nodes = fleet.cluster.nodes.iter().enumerate();
                let mut others = nodes.filter(|(at, _)| *at != node);
                others.all(|(_, other)| other.routes() == cluster::routes_of(2))
            };
            load.press();
            load.leave(node);
            kills.push(Kill::watched(fleet, |fleet| fleet.cluster.nodes[node].kill9(), alone));
            load.ease();
            load.more(depth(60, 200));
            fleet.cluster.restart(node);
            load.come_back(node);
            load.more(depth(30, 50));
        }
    });
    only_those_in_flight(&attempts, &kills, &fleet.logs());
}

fn whatever_is_replaced_or_dies(mode: Mode) {
    let mut fleet = Fleet::start(mode);
    replaced_instances_cost_no_login(&mut fleet);
    instances_that_die_cost_only_the_logins_in_flight_on_them(&mut fleet);
    servers_that_die_cost_only_the_logins_in_flight_through_them(&mut fleet);
}

#[test]
fn a_rolling_restart_costs_no_login_and_a_death_only_those_in_flight() {
    alone();
    for mode in either_mode() {
        whatever_is_replaced_or_dies(mode);
    }
}
