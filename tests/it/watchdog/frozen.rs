//! An instance that hangs with its connections open (SIGSTOP, a paused machine) stays in the queue
//! group, and swallows the requests that it is given, until the other instances close its
//! connection.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::service::Service;
use crate::harness::{eventually, http};

/// How long an instance that hangs may swallow requests.
const BOUND: Duration = Duration::from_secs(10);

/// A login: when it began, and how it ended.
type Attempt = (Instant, Verdict);

/// Logs in all the time, from several threads, while `disturb` runs.
fn under_load(port: u16, login: &Login, disturb: impl FnOnce()) -> Vec<Attempt> {
    let stop = AtomicBool::new(false);
    let attempts = Mutex::new(Vec::new());
    let fields = login.connect_fields();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let verdict = raw::connect(port, &fields).0;
                    attempts.lock().unwrap().push((begun, verdict));
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        disturb();
        stop.store(true, Ordering::Relaxed);
    });
    attempts.into_inner().unwrap()
}

fn swallows_no_longer_than_the_bound(mode: Mode) {
    let deployment = Deployment::start(mode);
    let login = deployment.tenant_add("one", &[]);
    let revoked = deployment.tenant_add("two", &[]);
    let port = deployment.server.port();
    let second = deployment.another_service();
    for _ in 0..50 {
        assert_eq!(raw::connect(port, &login.connect_fields()).0, Verdict::Admitted);
        assert_eq!(raw::connect(port, &revoked.connect_fields()).0, Verdict::Admitted);
    }
    let mut frozen = Instant::now();
    let attempts = under_load(port, &login, || {
        std::thread::sleep(Duration::from_secs(1));
        frozen = Instant::now();
        deployment.freeze(&second);
        std::thread::sleep(BOUND + Duration::from_secs(5));
    });
    let refused: Vec<Duration> = attempts
        .iter()
        .filter(|(_, verdict)| *verdict != Verdict::Admitted)
        .map(|(begun, _)| begun.saturating_duration_since(frozen))
        .collect();
    let last = refused.iter().max().copied().unwrap_or_default();
    println!(
        "{} of {} logins refused, the last began after {last:?}",
        refused.len(),
        attempts.len()
    );
    assert!(!refused.is_empty(), "it was given requests that it swallowed");
    assert!(last < BOUND, "{last:?}");
    let later = attempts.iter().filter(|(begun, _)| *begun > frozen + BOUND).count();
    assert!(later > 20, "{later} logins after the bound");

    // What it knew when it was frozen has changed meanwhile.
    deployment.cli(&["user", "suspend", "two", "two"]).success();
    let fields = revoked.connect_fields();
    assert_ne!(raw::connect(port, &fields).0, Verdict::Admitted);
    let before = second.log().len();
    second.thaw();
    eventually("its return", || second.log()[before..].contains("connected to NATS").then_some(()));
    for _ in 0..40 {
        assert_ne!(raw::connect(port, &fields).0, Verdict::Admitted);
        assert_eq!(raw::connect(port, &login.connect_fields()).0, Verdict::Admitted);
    }
    eventually("a decision of the one that is back", || {
        raw::connect(port, &fields);
        second.log()[before..].contains("user_suspended").then_some(())
    });
}

/// Neither a database nor a server that fails is a fault of the instances.
#[test]
fn nobody_is_closed_while_the_server_or_the_database_hangs() {
    let deployment = Deployment::start(Mode::Operator);
    let others = [deployment.another_service(), deployment.another_service()];
    eventually("three instances that hear each other", || {
        let metrics = http::get(deployment.http(), "/metrics")?.body;
        metrics.contains("nats_callout_instances 3\n").then_some(())
    });
    deployment.server.freeze();
    std::thread::sleep(Duration::from_secs(9));
    deployment.server.thaw();
    let changes = deployment.hide_changes();
    std::thread::sleep(Duration::from_secs(6));
    deployment.sql(&changes);
    let logs: Vec<String> = others.iter().chain([&deployment.service]).map(Service::log).collect();
    assert!(!logs.concat().contains("an instance"), "{logs:#?}");
    drop(others);
    eventually("a word that they are gone", || {
        deployment.service.log().contains("gone without a word").then_some(())
    });
}

#[test]
fn an_instance_that_hangs_is_given_up_in_operator_mode() {
    swallows_no_longer_than_the_bound(Mode::Operator);
}

#[test]
fn an_instance_that_hangs_is_given_up_in_config_mode() {
    swallows_no_longer_than_the_bound(Mode::Config);
}

/// Stopped for too short a time to be given up, an instance finds requests when it goes on whose
/// clients still wait. What it knew before is no answer to them.
#[test]
fn an_instance_that_was_stopped_briefly_grants_nothing_that_was_revoked_meanwhile() {
    let deployment = Deployment::start(Mode::Config);
    let port = deployment.server.port();
    for turn in 0..5 {
        let tenant = format!("t{turn}");
        let fields = deployment.tenant_add(&tenant, &[]).connect_fields();
        assert_eq!(raw::connect(port, &fields).0, Verdict::Admitted);
        deployment.freeze(&deployment.service);
        deployment.sql(&format!("UPDATE users SET status = 'suspended' WHERE name = '{tenant}';"));
        std::thread::sleep(Duration::from_millis(1_100));
        let login = std::thread::spawn(move || raw::connect(port, &fields));
        std::thread::sleep(Duration::from_millis(200));
        deployment.service.thaw();
        let (verdict, took) = login.join().unwrap();
        assert_ne!(verdict, Verdict::Admitted);
        assert!(took < Duration::from_millis(1_500), "it was answered: {took:?}");
    }
}
