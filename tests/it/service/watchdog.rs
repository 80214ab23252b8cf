//! The service is watched, by the service manager, by itself and by its peers, none of which takes
//! slowness or the faults of others for a fault of it. (How soon an instance that hangs is given up,
//! and what one does that was stopped briefly, is in `within::watchdog`.)

use std::io::{BufRead as _, BufReader};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::choice::lacks;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::raw;
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::Service;
use crate::harness::{depth, eventually, http, ports, service};

/// After so long a silence the others close an instance's connection.
const SILENCE: Duration = Duration::from_secs(4);

/// What was said to the service manager next.
fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).expect("a word within the time-out");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn notifies(init: &Initialised, manager: &UnixDatagram, name: &str) {
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut child = service::program()
        .args(["serve", "--config"])
        .arg(init.config())
        .env("NATS_CALLOUT_HTTP_LISTEN", "")
        .env("NOTIFY_SOCKET", name)
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut words = Vec::new();
    while words.iter().filter(|word| *word == "WATCHDOG=1").count() < 5
        || !words.contains(&"READY=1".to_owned())
    {
        words.push(told(manager));
    }
    // Those that a busy machine has left lying say nothing about the time between them.
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 256]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(told(manager), "WATCHDOG=1");
    }
    assert!(begun.elapsed() > Duration::from_millis(500), "not as fast as it can");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    while told(manager) != "STOPPING=1" {}
    assert!(child.wait().unwrap().success());
    assert_eq!(words.iter().filter(|word| *word == "READY=1").count(), 1);
}

#[test]
fn the_service_manager_is_told_over_a_socket_with_a_path_and_over_an_abstract_one() {
    let init = Initialised::new(Mode::Config);
    let _server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
        .unwrap_or_else(|log| panic!("{log}"));
    let path = init.dir().join("notify");
    notifies(&init, &UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap());
    let name = format!("nats-callout-test-{}-{}", std::process::id(), ports::free());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    notifies(&init, &UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"));
}

/// Nobody reads the log any more, though its pipe is open: every thread that logs hangs.
#[test]
fn a_service_that_hangs_ends_itself() {
    let init = Initialised::new(Mode::Config);
    let server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
        .unwrap_or_else(|log| panic!("{log}"));
    let mut child = service::program()
        .args(["serve", "--config"])
        .arg(init.config())
        .env("NATS_CALLOUT_HTTP_LISTEN", "")
        .env("NATS_CALLOUT_LOG_LEVEL", "trace")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("nats-callout: ready") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
    }
    let fields = Login::password("nobody", "x").connect_fields();
    let port = server.port();
    // They outlast the server, which is stopped with this test.
    std::thread::spawn(move || (0..20).for_each(|_| drop(raw::try_connect(port, &fields))));
    let status = eventually("the end", || child.try_wait().unwrap());
    assert_eq!(status.signal(), Some(9));
}

/// Neither a database nor a server that fails is a fault of the instances.
#[test]
fn nobody_is_closed_while_the_server_or_the_database_hangs() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let others = [deployment.another_service(), deployment.another_service()];
    eventually("three instances that hear each other", || {
        let metrics = http::get(deployment.http(), "/metrics")?.body;
        metrics.contains("nats_callout_instances 3\n").then_some(())
    });
    // Longer than a silence that closes: of one that closes nobody nothing is heard.
    let fault = SILENCE + depth(Duration::from_millis(1_500), Duration::from_secs(5));
    deployment.server.freeze();
    sleep(fault);
    deployment.server.thaw();
    let changes = deployment.hide_changes();
    sleep(fault);
    deployment.sql(&changes);
    let logs: Vec<String> = others.iter().chain([&deployment.service]).map(Service::log).collect();
    assert!(!logs.concat().contains("an instance"), "{logs:#?}");
    drop(others);
    eventually("a word that they are gone", || {
        deployment.service.log().contains("gone without a word").then_some(())
    });
}
