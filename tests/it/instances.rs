//! Several instances of the service in one queue group, on a cluster of three servers: any of
//! either may die or be replaced under a constant load of logins.

mod history;
pub(crate) mod load;

use std::time::Duration;

use self::load::{Attempt, Ended, Load};
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
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

    fn end(self) -> (Vec<Attempt>, String) {
        let logs = self.instances.iter().map(Service::log).collect::<Vec<_>>().join("\n----\n");
        (self.load.end(), logs)
    }
}

fn refusals(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts.iter().filter(|attempt| matches!(attempt.ended, Ended::Refused(_))).collect()
}

/// Logins that were under way on a process when it was killed may wait until nats-server gives
/// them up; no other is refused, and none at once.
fn only_those_in_flight(attempts: &[Attempt], kills: &[std::time::Instant], logs: &str) {
    let refused = refusals(attempts);
    for attempt in &refused {
        let in_flight = kills.iter().any(|kill| {
            attempt.begun <= *kill + Duration::from_millis(100)
                && attempt.begun + attempt.took >= *kill
        });
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
    for instance in &mut fleet.instances {
        kills.push(std::time::Instant::now());
        instance.kill9();
        fleet.load.more(200);
        instance.restart();
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
        kills.push(std::time::Instant::now());
        fleet.load.leave(node);
        fleet.cluster.nodes[node].kill9();
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
