//! Servers on which tenants do not stay apart are refused; of 2.10 those where a tenant has JetStream.

use super::*;

/// The newest wheels of their lines, before the mend.
const OLD: &str = "2.11.11";
const WITHOUT_TRACES: &str = "2.10.26";

/// Panics unless `serve` and `doctor` say so.
#[track_caller]
fn named(init: &Initialised, words: &[&str]) {
    let log = init.serve().expect_err("serve starts");
    let doctor = init.cli(&["doctor"]);
    assert_eq!(doctor.status, 1, "{doctor:?}");
    let failed = |line: &&str| line.starts_with("FAIL version");
    let line: String = doctor.stdout.lines().filter(failed).collect();
    for word in words {
        assert!(log.contains(word), "no {word:?} in {log}");
        assert!(line.contains(word), "no {word:?} in {line}");
    }
}

#[test]
fn tenants_are_not_served_where_they_do_not_stay_apart() {
    for (mode, why) in [
        (Mode::Operator, "can use every account's JetStream"),
        (Mode::Config, "other tenants' Notifications included, by the header Nats-Trace-Dest"),
    ] {
        let init = Initialised::new(mode);
        let conf = init.server_conf();
        let server = NatsServer::start(OLD, &conf, init.port, Some(init.monitor));
        let _server = server.unwrap_or_else(|log| panic!("{log}"));
        named(&init, &["nats-1 (2.11.11)", why, "2.11.15 or later"]);
    }
}

#[test]
fn tenants_with_jetstream_are_not_served_where_accounts_share_it() {
    let mut deployment = Deployment::start_with(Mode::Config, WITHOUT_TRACES);
    let log = deployment.service.log();
    assert!(log.contains("BB's login can use every account's JetStream"), "{log}");
    let doctor = deployment.cli(&["doctor"]);
    assert_eq!(doctor.status, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("BB's login can use every account's"), "{doctor:?}");
    // A tenant that has an account, and JetStream there.
    deployment.service.stop();
    let conf = deployment.server_conf();
    let text = fs::read_to_string(&conf).unwrap();
    let alice = "accounts {\n    ALICE { jetstream { max_mem: 1MB, max_file: 1MB } }\n";
    fs::write(&conf, text.replacen("accounts {\n", alice, 1)).unwrap();
    let config = fs::read_to_string(deployment.config()).unwrap();
    let dedicated = "[placement]\ndedicated = { ALICE = \"42\" }\n";
    fs::write(deployment.config(), config.replace("[placement]\n", dedicated)).unwrap();
    deployment.server.restart();
    named(&deployment, &["the tenants of ALICE", "2.11.15 or later"]);
}
