//! An instance that hangs with its connections open (SIGSTOP, a paused machine) stays in the queue
//! group, and swallows the requests that it is given, until the other instances close its
//! connection. One that goes on before that answers those whose clients still wait.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::under_load::load::{Load, failed};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::measured;
use crate::harness::{depth, eventually};

/// How long an instance that hangs may swallow requests.
const BOUND: Duration = Duration::from_secs(10);

/// What is answered sooner than this, a server has not refused by itself.
const IN_TIME: Duration = Duration::from_millis(1_500);

fn swallows_no_longer_than_the_bound(mode: Mode) {
    let deployment = Deployment::start(mode);
    let login = deployment.tenant_add("one", &[]).connect_fields();
    let revoked = deployment.tenant_add("two", &[]).connect_fields();
    let port = deployment.server.port();
    let second = deployment.another_service();
    // Both of them know both.
    for _ in 0..depth(30, 50) {
        assert_eq!(raw::connect(port, &login).0, Verdict::Admitted);
        assert_eq!(raw::connect(port, &revoked).0, Verdict::Admitted);
    }
    let load = Load::start_resting(Duration::from_millis(20), 8, &[port], &login);
    load.more(50);
    let frozen = Instant::now();
    deployment.freeze(&second);
    eventually("the end of its connection", || {
        deployment.service.log().contains("its connection was closed").then_some(())
    });
    let closed = frozen.elapsed();
    // What has no connection is sent nothing: these are all admitted.
    load.more(100);
    let attempts = load.end();
    let refused = failed(&attempts);
    let since = |at: Instant| at.saturating_duration_since(frozen);
    let last = refused.iter().map(|attempt| since(attempt.begun)).max().unwrap_or_default();
    println!(
        "{} of {} logins refused, the last began after {last:?}; closed after {closed:?}",
        refused.len(),
        attempts.len()
    );
    assert!(!refused.is_empty(), "it was given requests that it swallowed");
    assert!(closed < BOUND && last <= closed, "{last:?}, {closed:?}");

    // What it knew when it was frozen has changed meanwhile.
    deployment.cli(&["user", "suspend", "two", "two"]).success();
    assert_ne!(raw::connect(port, &revoked).0, Verdict::Admitted);
    let before = second.log().len();
    second.thaw();
    eventually("its return", || second.log()[before..].contains("connected to NATS").then_some(()));
    // Many more would be taken for guesses, and wait.
    for _ in 0..depth(12, 40) {
        assert_ne!(raw::connect(port, &revoked).0, Verdict::Admitted);
        assert_eq!(raw::connect(port, &login).0, Verdict::Admitted);
    }
    eventually("a decision of the one that is back", || {
        raw::connect(port, &revoked);
        second.log()[before..].contains("user_suspended").then_some(())
    });
}

#[test]
fn an_instance_that_hangs_is_given_up() {
    measured();
    for mode in either_mode() {
        swallows_no_longer_than_the_bound(mode);
    }
}

/// Stopped for too short a time to be given up, an instance finds requests when it goes on whose
/// clients still wait. What it knew before is no answer to them.
#[test]
fn an_instance_that_was_stopped_briefly_grants_nothing_that_was_revoked_meanwhile() {
    measured();
    let deployment = Deployment::start(Mode::Config);
    let port = deployment.server.port();
    for turn in 0..depth(2, 5) {
        let tenant = format!("t{turn}");
        let fields = deployment.tenant_add(&tenant, &[]).connect_fields();
        assert_eq!(raw::connect(port, &fields).0, Verdict::Admitted);
        deployment.freeze(&deployment.service);
        deployment.sql(&format!("UPDATE users SET status = 'suspended' WHERE name = '{tenant}';"));
        // A grant is right for a second more.
        sleep(Duration::from_millis(1_100));
        let login = std::thread::spawn(move || raw::connect(port, &fields));
        // Nobody says when the request has come to a process that hangs.
        sleep(Duration::from_millis(200));
        let before = deployment.service.log().len();
        deployment.service.thaw();
        let (verdict, took) = login.join().unwrap();
        assert_ne!(verdict, Verdict::Admitted);
        assert!(took < IN_TIME, "it was answered: {took:?}");
        let log = deployment.service.log();
        assert!(log[before..].contains("user_suspended"), "{log}");
    }
}
