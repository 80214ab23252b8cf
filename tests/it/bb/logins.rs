//! The service's logins in INTAKE and USERS: one that is another's, or nobody's, is told.

use crate::harness::choice::lacks;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::servers::{self, NatsServer};
use crate::harness::{eventually, http};

fn is_refused(mode: Mode, file: &str, other: &str) {
    if lacks(mode) {
        return;
    }
    let init = Initialised::new(mode);
    let keys = init.dir().join("keys");
    std::fs::copy(keys.join(other), keys.join(file)).expect("a copy");
    let server =
        NatsServer::start(servers::version(), &init.server_conf(), init.port, Some(init.monitor));
    let _server = server.unwrap_or_else(|log| panic!("{log}"));
    let log = init.serve().expect_err("serve is ready");
    let words = format!("keys/{file}: is no login in the account ");
    assert!(log.contains(&words), "no {words:?} in {log}");
    assert!(!log.contains("nats-callout: ready"), "{log}");
    // In config mode the server alone knows.
    if mode == Mode::Operator {
        let doctor = init.cli(&["doctor"]);
        let says = |line: &str| line.starts_with("FAIL intake") && line.contains(&words);
        assert!(doctor.status == 1 && doctor.stdout.lines().any(says), "{doctor:?}");
    }
}

#[test]
fn those_of_another_account_are_refused_by_name() {
    is_refused(Mode::Operator, "users.creds", "bb.creds");
    is_refused(Mode::Operator, "intake.creds", "users.creds");
    is_refused(Mode::Config, "users.nk", "sys.nk");
    is_refused(Mode::Config, "intake.nk", "bb.nk");
}

/// It comes back by itself, and meanwhile `doctor` and the metric say so.
#[test]
fn one_that_nobody_knows_is_told() {
    if lacks(Mode::Config) {
        return;
    }
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        let (_, seed) = nats_callout::keys::SigningKey::generate(nats_callout::keys::KeyKind::User)
            .expect("a key");
        std::fs::write(init.dir().join("keys/users.nk"), seed.as_bytes()).expect("a file");
    });
    let log = deployment.service.log();
    assert!(log.contains("events of shared tenants are not taken"), "{log}");
    // A busy server may not have answered the first attempt.
    eventually("a line that names the file and the server's words", || {
        let log = deployment.service.log();
        let says =
            |line: &str| line.contains("keys/users.nk") && line.contains("Authorization Violation");
        log.lines().any(says).then_some(())
    });
    eventually("the metric", || {
        let metrics = http::get(deployment.http(), "/metrics")?.body;
        metrics.contains("nats_callout_intake_connected 0").then_some(())
    });
    let doctor = deployment.cli(&["doctor"]);
    assert_eq!(doctor.status, 1, "{doctor:?}");
    let fault = |line: &str| {
        line.starts_with("FAIL intake")
            && line.contains("0 of 1 instances take events, by ")
            && line.contains("users.nk")
    };
    assert!(doctor.stdout.lines().any(fault), "{}", doctor.stdout);
}

/// `init` has made what the command would.
#[test]
fn a_new_deployment_needs_no_bringing_over() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let file = deployment.dir().join("keys/users.creds");
    let before = std::fs::read(&file).expect("a file");
    for args in [&["keys", "intake"][..], &["keys", "intake", "--switch"]] {
        let said = deployment.cli(args).success();
        assert!(said.stdout.contains("there is nothing to do"), "{said:?}");
    }
    assert_eq!(std::fs::read(&file).expect("a file"), before);
}
