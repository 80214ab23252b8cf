//! What the service promises within a time, and to those who log in while one of two instances is
//! stopped.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::Value;

use super::load::{Load, failed};
use crate::harness::choice::either_mode;
use crate::harness::client::settled;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::{measured, measured_under_load};
use crate::harness::{depth, eventually};
use crate::http::{readiness, until_failed};

/// Stops an instance that has been through a restart of the server, and two that have not.
fn an_instance_that_stops_under_load_loses_no_login(deployment: &mut Deployment, login: &Value) {
    let port = deployment.server.port();
    let mut reconnected = Some(deployment.another_service());
    for _ in 0..depth(50, 200) {
        assert_eq!(raw::connect(port, login).0, Verdict::Admitted);
    }
    deployment.server.stop();
    deployment.server.restart();
    eventually("a login", || (raw::connect(port, login).0 == Verdict::Admitted).then_some(()));
    let load = Load::start(4, &[port], login);
    for _ in 0..3 {
        let second = reconnected.take();
        let mut second = second.unwrap_or_else(|| deployment.another_service());
        load.more(depth(100, 300));
        assert!(load.pressed(|| second.stop()).success(), "SIGTERM is a way to end");
        load.more(depth(50, 100));
    }
    nobody_failed(deployment, load);
}

/// Logins that keep trickling in, with never a quiet moment between them, do not hold it up.
fn a_stop_ends_under_a_trickle_of_logins(deployment: &Deployment, login: &Value) {
    let mut second = deployment.another_service();
    // Two instances share the logins: each sees one every 100 ms or so.
    let rest = Duration::from_millis(50);
    let load = Load::start_resting(rest, 1, &[deployment.server.port()], login);
    load.more(10);
    let begun = Instant::now();
    assert!(second.stop().success());
    let took = begun.elapsed();
    nobody_failed(deployment, load);
    assert!(took < Duration::from_secs(12), "{took:?}");
}

fn nobody_failed(deployment: &Deployment, load: Load) {
    let attempts = load.end();
    let failed = failed(&attempts);
    let all = attempts.len();
    assert!(failed.is_empty(), "{failed:?} of {all}\n{}", deployment.service.log());
}

fn stops(mode: Mode) {
    measured_under_load();
    let mut deployment = Deployment::start(mode);
    let login = deployment.tenant_add("one", &[]).connect_fields();
    an_instance_that_stops_under_load_loses_no_login(&mut deployment, &login);
    a_stop_ends_under_a_trickle_of_logins(&deployment, &login);
}

#[test]
fn an_instance_that_stops_ends_and_loses_no_login() {
    for mode in either_mode() {
        stops(mode);
    }
}

#[test]
fn readiness_says_soon_that_the_server_hangs() {
    measured();
    let deployment = Deployment::start(Mode::Config);
    until_failed(deployment.http(), &[]);
    deployment.server.freeze();
    let begun = Instant::now();
    until_failed(deployment.http(), &["nats"]);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    deployment.server.thaw();
    until_failed(deployment.http(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_share_one_probe() {
    measured_under_load();
    let deployment = Deployment::start(Mode::Operator);
    let creds = deployment.dir().join("keys/auth.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(creds).await.expect("creds");
    let bystander = options.connect(deployment.url()).await.expect("connects");
    let mut proofs = bystander.subscribe("_CALLOUT.proof.>").await.expect("subscribes");
    settled(&bystander).await;
    let http = deployment.http().to_owned();
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..25).for_each(|_| assert_eq!(readiness(&http).0, 200)));
            }
        });
    })
    .await
    .expect("no panic");
    let seconds = begun.elapsed().as_secs();
    bystander.publish("_CALLOUT.proof.end", "".into()).await.expect("publishes");
    let mut count = 0;
    while proofs.next().await.expect("open").subject.as_str() != "_CALLOUT.proof.end" {
        count += 1;
    }
    assert!(count <= seconds + 1, "{count} probes in {seconds} s");
}
