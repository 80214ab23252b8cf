//! Several instances of the service in one queue group, on a cluster of three servers: any of
//! either may die or be replaced under a constant load of logins.

mod history;
pub(crate) mod load;

use std::time::{Duration, Instant};

use self::load::{Attempt, Ended, Load};
use crate::harness::cluster::{self, Cluster};
use crate::harness::deployment::Mode;
use crate::harness::eventually;
use crate::harness::servers::NatsServer;
use crate::harness::service::Service;

/// Three nodes with an instance on each, and logins at all three.
struct Fleet {
    cluster: Cluster,
    instances: Vec<Service>,
    load: Load,
}

impl Fleet {
    fn start(mode: Mode) -> Self {
        let cluster = Cluster::start(mode, 3);
        let login = cluster.init.tenant_add("one", &[]);
        let instances = (0..3).map(|node| cluster.another_service(node)).collect();
        let ports = cluster.nodes.iter().map(|node| node.port()).collect();
        let load = Load::start(ports, login.connect_fields());
        load.more(100);
        Self { cluster, instances, load }
    }

    fn connections_of_instances(&self) -> usize {
        self.cluster.nodes.iter().map(NatsServer::connections_of_instances).sum()
    }

    fn end(self) -> (Vec<Attempt>, String) {
        let logs = self.instances.iter().map(Service::log).collect::<Vec<_>>().join("\n----\n");
        (self.load.end(), logs)
    }
}

fn refusals(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts.iter().filter(|attempt| matches!(attempt.ended, Ended::Refused(_))).collect()
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
    let refused = refusals(attempts);
    for attempt in &refused {
        let in_flight = kills.iter().any(|kill| kill.met(attempt));
        let waited = attempt.took >= Duration::from_millis(1_500);
        let Ended::Refused(words) = &attempt.ended else { unreachable!("refusals only") };
        assert!(words.contains("Authorization Violation"), "{words}");
        assert!(in_flight && waited, "{attempt:?} of {} logins\n{logs}", attempts.len());
    }
    println!("{} logins, {} refused for being in flight", attempts.len(), refused.len());
}

fn instances_die(mode: Mode) {
    let mut fleet = Fleet::start(mode);
    let mut kills = Vec::new();
    for instance in 0..fleet.instances.len() {
        let before = fleet.connections_of_instances();
        kills.push(Kill::watched(
            &mut fleet,
            |fleet| fleet.instances[instance].kill9(),
            |fleet| fleet.connections_of_instances() < before,
        ));
        fleet.load.more(200);
        fleet.instances[instance].restart();
        fleet.load.more(50);
    }
    let (attempts, logs) = fleet.end();
    only_those_in_flight(&attempts, &kills, &logs);
}

#[test]
fn an_instance_that_dies_costs_only_the_logins_in_flight_on_it_in_operator_mode() {
    instances_die(Mode::Operator);
}

#[test]
fn an_instance_that_dies_costs_only_the_logins_in_flight_on_it_in_config_mode() {
    instances_die(Mode::Config);
}

fn instances_are_replaced(mode: Mode) {
    let mut fleet = Fleet::start(mode);
    for instance in &mut fleet.instances {
        assert!(instance.stop().success());
        fleet.load.more(100);
        instance.restart();
        fleet.load.more(50);
    }
    let (attempts, logs) = fleet.end();
    assert!(refusals(&attempts).is_empty(), "{:?}\n{logs}", refusals(&attempts));
}

#[test]
fn a_rolling_restart_of_all_instances_costs_no_login_in_operator_mode() {
    instances_are_replaced(Mode::Operator);
}

#[test]
fn a_rolling_restart_of_all_instances_costs_no_login_in_config_mode() {
    instances_are_replaced(Mode::Config);
}

fn servers_die(mode: Mode) {
    let mut fleet = Fleet::start(mode);
    let mut kills = Vec::new();
    for node in 0..fleet.cluster.nodes.len() {
        fleet.load.leave(node);
        let alone = |fleet: &Fleet| {
            let mut others = fleet.cluster.nodes.iter().enumerate().filter(|(at, _)| *at != node);
            others.all(|(_, other)| other.routes() == cluster::routes_of(2))
        };
        kills.push(Kill::watched(&mut fleet, |fleet| fleet.cluster.nodes[node].kill9(), alone));
        fleet.load.more(200);
        fleet.cluster.restart(node);
        fleet.load.come_back(node);
        fleet.load.more(50);
    }
    let (attempts, logs) = fleet.end();
    only_those_in_flight(&attempts, &kills, &logs);
}

#[test]
fn a_server_that_dies_costs_only_the_logins_in_flight_through_it_in_operator_mode() {
    servers_die(Mode::Operator);
}

#[test]
fn a_server_that_dies_costs_only_the_logins_in_flight_through_it_in_config_mode() {
    servers_die(Mode::Config);
}
