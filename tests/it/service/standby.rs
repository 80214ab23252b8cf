//! Logins while the server is gone that the instance is connected to.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::choice::either_mode;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
use crate::harness::eventually;
use crate::harness::raw::{self, Verdict};
use crate::harness::servers::NatsServer;
use crate::harness::service::Service;

const STANDS_IN: &str = "requests are taken on the standby connection";

/// How often a connection of the instance has been made.
fn connects(service: &Service, connection: &str) -> usize {
    let made = format!("connection=\"{connection}\"");
    let log = service.log();
    log.lines().filter(|line| line.contains("connected to NATS") && line.contains(&made)).count()
}

fn logins_go_on(mode: Mode) {
    let mut cluster = Cluster::start(mode, 3);
    // A host that is gone says nothing: it takes two seconds to give it up.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = |node: &NatsServer| node.url();
    let silent_url = format!("nats://{}", silent.local_addr().expect("its address"));
    let [zero, one, two] = [0, 1, 2].map(|node| url(&cluster.nodes[node]));
    let instance = cluster.init.another_service_at(&[two, silent_url, zero, one].join(","));
    assert!(cluster.service.stop().success());
    let login = cluster.init.tenant_add("one", &[]).connect_fields();
    let admitted = |cluster: &Cluster| {
        for node in [0, 1] {
            let (verdict, took) = raw::connect(cluster.nodes[node].port(), &login);
            assert_eq!(verdict, Verdict::Admitted, "after {took:?}: {}", instance.log());
        }
    };
    admitted(&cluster);
    let main = connects(&instance, "main");

    cluster.nodes[2].kill9();
    eventually("the standby connection", || instance.log().contains(STANDS_IN).then_some(()));
    let (begun, mut rounds) = (Instant::now(), 0);
    while connects(&instance, "main") == main {
        admitted(&cluster);
        rounds += 1;
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "the main connection is away for that long");
    assert!(rounds > 10, "{rounds}");
    // It gives way, and no request is lost by that.
    for _ in 0..50 {
        admitted(&cluster);
    }
    let taken = |line: &str| line.contains("requests are taken on the main connection again");
    eventually("the main connection", || instance.log().lines().find(|it| taken(it)).map(drop));
    admitted(&cluster);
}

#[test]
fn logins_go_on_while_the_main_connection_is_away() {
    for mode in either_mode() {
        logins_go_on(mode);
    }
}
