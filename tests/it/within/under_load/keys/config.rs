//! Config mode: a server has one issuer and one curve key, and reads neither again.

use std::time::{Duration, Instant};

use super::{Fleet, asks_for};
use crate::cli::keys::generations;
use crate::harness::deployment::Mode;
use crate::harness::service::Service;
use crate::harness::turn::{alone, measured_under_load};
use crate::harness::{depth, loudly, raw};

#[test]
fn every_key_of_a_cluster_without_a_failed_login() {
    if !depth(false, true) {
        return loudly(
            "not run: a single server's keys are changed below, a cluster's in operator mode",
        );
    }
    alone();
    let mut fleet = Fleet::start(Mode::Config, 3);
    for _ in 0..depth(1, 2) {
        let before: Vec<_> = ["issuer", "xkey"].map(|key| generations(fleet.init(), key)).into();
        fleet.rotate(&[]);
        let after: Vec<_> = ["issuer", "xkey"].map(|key| generations(fleet.init(), key)).into();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(after.len(), 1, "{after:?}");
            assert_ne!(before[0].1, after[0].1);
        }
    }
    let (cluster, instances) = fleet.end();
    for node in 0..3 {
        let conf = std::fs::read_to_string(cluster.init.dir().join(format!("node-{node}.conf")));
        let conf = conf.unwrap();
        for key in ["issuer", "xkey"] {
            assert!(conf.contains(&generations(&cluster.init, key)[0].1), "{conf}");
        }
    }
    drop(instances);
}

/// Whoever follows the command's words stops instances while servers are restarted.
fn stopped_instances_are_not_taken_for_changed_over(fleet: &mut Fleet) {
    fleet.instances.iter_mut().for_each(|instance| assert!(instance.stop().success()));
    let word = fleet.word(&[]);
    assert!(asks_for(&word, "restart_servers"), "{word}");
    for key in ["issuer", "xkey"] {
        assert_eq!(generations(fleet.init(), key).len(), 2, "the servers have the old {key}");
    }
    fleet.cluster.nodes[0].stop();
    fleet.cluster.nodes[0].restart();
    fleet.instances.iter_mut().for_each(Service::restart);
}

/// What a restart of the only server costs: how long it takes no login.
fn a_single_server_refuses_connections_while_it_restarts_and_no_longer(fleet: &mut Fleet) {
    let login = fleet.init().tenant_add("late", &[]).connect_fields();
    let port = fleet.cluster.nodes[0].port();
    let begin = Instant::now();
    fleet.cluster.nodes[0].stop();
    fleet.cluster.nodes[0].restart();
    let back = loop {
        match raw::try_connect(port, &login) {
            Ok((raw::Verdict::Admitted, _)) => break begin.elapsed(),
            _ => assert!(begin.elapsed() < Duration::from_secs(30)),
        }
    };
    loudly(&format!("a single server took no login for {back:?} while it was restarted"));
}

#[test]
fn a_single_server_is_restarted_and_instances_that_are_stopped_are_not_changed_over() {
    measured_under_load();
    let mut fleet = Fleet::start(Mode::Config, 1);
    let word = fleet.rotate_until(&[], |word| asks_for(word, "restart_servers"));
    assert_eq!(word["server_configs"].as_array().map(Vec::len), Some(2), "{word}");
    fleet.leave(0);
    stopped_instances_are_not_taken_for_changed_over(&mut fleet);
    a_single_server_refuses_connections_while_it_restarts_and_no_longer(&mut fleet);
    fleet.come_back(0);
    fleet.more(12);
    fleet.rotate(&[]);
    fleet.end();
}
