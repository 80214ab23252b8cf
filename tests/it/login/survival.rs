//! Nothing is lost when the server or the service is killed: everyone gets in again, and what a
//! tenant has stored is still there.

use serde_json::json;

use super::{Bench, admitted, echo, inbox_prefix, tenant};
use crate::harness::choice::{either_mode, lacks};
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::eventually_async;

async fn stored(admin: &Connected) -> i64 {
    let info = admin.jetstream("$JS.API.STREAM.INFO.KEEP", &json!({})).await;
    info["state"]["messages"].as_i64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_data_survives_a_killed_server_and_service() {
    if lacks(Mode::Operator) {
        return;
    }
    let mut deployment = Deployment::start(Mode::Operator);
    let limits = ["--memory", "16MB", "--storage", "64MB"];
    let one = tenant(&deployment, "one", &limits);
    let admin = admitted(&deployment, &one.admin, one.id).await;
    let stream = json!({"name": "KEEP", "subjects": ["keep.>"], "storage": "file"});
    admin.jetstream("$JS.API.STREAM.CREATE.KEEP", &stream).await;
    admin.jetstream("keep.first", &json!("kept")).await;
    drop(admin);

    deployment.server.kill9();
    deployment.server.restart();
    let admin = returned(&deployment, &one.admin, one.id).await;
    assert_eq!(stored(&admin).await, 1, "after the server");
    drop(admin);

    deployment.service.kill9();
    deployment.service.restart();
    let admin = returned(&deployment, &one.admin, one.id).await;
    assert_eq!(stored(&admin).await, 1, "after the service");
    admin.jetstream("keep.second", &json!("kept")).await;
    drop(admin);

    deployment.service.kill9();
    deployment.server.kill9();
    deployment.server.restart();
    deployment.service.restart();
    let admin = returned(&deployment, &one.admin, one.id).await;
    assert_eq!(stored(&admin).await, 2, "after both");
}

async fn everyone_returns(mode: Mode) {
    let mut bench = Bench::start(mode);
    for round in 0..3 {
        match round {
            0 => {
                bench.deployment.server.kill9();
                bench.deployment.server.restart();
            }
            1 => {
                bench.deployment.server.stop();
                bench.deployment.server.restart();
            }
            _ => {
                assert!(bench.deployment.service.stop().success(), "SIGTERM is a way to end");
                bench.deployment.service.restart();
            }
        }
        for tenant in [&bench.one, &bench.two] {
            let app = returned(&bench.deployment, &tenant.user, tenant.id).await;
            app.round_trip(&echo(mode, tenant.id)).await;
        }
    }
}

/// A client that comes before the service is back waits two seconds and is refused; the next
/// attempt must succeed.
async fn returned(deployment: &Deployment, login: &Login, id: &str) -> Connected {
    let prefix = inbox_prefix(deployment.mode, id);
    let prefix = prefix.unwrap_or_else(|| "_INBOX".to_owned());
    eventually_async("a login after the restart", || async {
        client::connect(&deployment.url(), login, &prefix).await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_in_again_after_restarts() {
    for mode in either_mode() {
        everyone_returns(mode).await;
    }
}
