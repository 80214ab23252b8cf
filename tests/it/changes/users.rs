//! Changes of one user, and those that matter to nobody who is connected.

use std::time::{Duration, Instant};

use super::{AT_MOST, Held, all_alive, all_closed, cluster, connect_all, kicked};
use crate::harness::client;
use crate::harness::deployment::Mode;
use crate::harness::{eventually_async, loudly};

fn one_user(mode: Mode, size: usize) {
    let cluster = cluster(mode, size);
    let init = &cluster.init;
    let admin = init.tenant_add("one", &[]);
    let [anna, bert] = ["anna", "bert"].map(|name| init.user_add("one", name, &["--kind", "bb"]));
    let mut annas = connect_all(&cluster.nodes, &[&anna], 5 * size);
    let mut others = connect_all(&cluster.nodes, &[&bert, &admin], 6 * size);

    assert_eq!(kicked(init, &["user", "suspend", "one", "anna"]), annas.len());
    all_closed(&mut annas, Instant::now());
    assert!(Held::try_connect(cluster.nodes[0].port(), &anna).is_err());
    assert_eq!(kicked(init, &["user", "resume", "one", "anna"]), 0);

    for statement in [
        "UPDATE users SET status = 'suspended' WHERE name = 'anna'",
        "UPDATE users SET expires_at = '2020-01-01 00:00:00+00:00' WHERE name = 'anna'",
        "UPDATE users SET name = 'anne' WHERE name = 'anna'",
    ] {
        let mut annas = connect_all(&cluster.nodes, &[&anna], 3 * size);
        let begun = Instant::now();
        init.sql(statement);
        let took = all_closed(&mut annas, begun);
        loudly(&format!("{mode:?}, {size} servers, {statement}: {took:?}"));
        assert!(took < AT_MOST, "{statement}: {took:?}");
        init.sql(
            "UPDATE users SET name = 'anna', status = 'active', expires_at = NULL \
             WHERE name IN ('anna', 'anne')",
        );
        kicked(init, &["user", "resume", "one", "anna"]);
    }

    let mut annas = connect_all(&cluster.nodes, &[&anna], 2 * size);
    assert_eq!(kicked(init, &["user", "remove", "one", "anna", "--yes"]), annas.len());
    all_closed(&mut annas, Instant::now());
    all_alive(&mut others);
}

#[test]
fn one_user_is_closed_and_the_others_stay_in_operator_mode() {
    one_user(Mode::Operator, 1);
}

#[test]
fn one_user_is_closed_and_the_others_stay_on_three_servers_in_config_mode() {
    one_user(Mode::Config, 3);
}

fn nobody_is_closed(mode: Mode) {
    let cluster = cluster(mode, 1);
    let init = &cluster.init;
    let admin = init.tenant_add("one", &[]);
    let anna = init.user_add("one", "anna", &["--kind", "bb"]);
    let mut held = connect_all(&cluster.nodes, &[&admin, &anna], 8);
    let token = init.cli(&["--json", "token", "add", "one", "anna"]).success().json();
    assert!(token["token"].is_string());
    let id = init.cli(&["--json", "token", "list", "one", "anna"]).success().json();
    let id = id["tokens"][0]["id"].as_str().expect("an id").to_owned();
    init.cli(&["--json", "token", "remove", &id]).success();
    init.cli(&["--json", "user", "passwd", "one", "anna"]).success();
    for statement in [
        "UPDATE tenants SET name = 'Another Ltd', js_streams = 5, max_connections = 500",
        "UPDATE tenants SET expires_at = '2099-01-01 00:00:00+00:00'",
        "UPDATE tenants SET expires_at = NULL, updated_at = '2099-01-01 00:00:00+00:00'",
        "UPDATE users SET password_hash = '$2b$10$abcdefghijklmnopqrstuv', last_login_at = NULL",
        "UPDATE users SET certificate = 'CN=anna' WHERE name = 'anna'",
        "INSERT INTO users (tenant_id, name) VALUES ('one', 'anna') \
         ON CONFLICT (name) DO UPDATE SET certificate = NULL",
    ] {
        init.sql(statement);
    }
    std::thread::sleep(Duration::from_millis(2_500));
    all_alive(&mut held);
}

#[test]
fn what_matters_to_nobody_closes_nothing_in_operator_mode() {
    nobody_is_closed(Mode::Operator);
}

#[test]
fn what_matters_to_nobody_closes_nothing_in_config_mode() {
    nobody_is_closed(Mode::Config);
}

/// A client comes back by itself, with what it may do from now on.
async fn new_permissions(mode: Mode) {
    let cluster = cluster(mode, 1);
    let init = &cluster.init;
    init.tenant_add("one", &[]);
    let lists = ["--publish", "old,both", "--subscribe", "old,both"];
    let app = init.user_add("one", "app", &lists);
    let subject = |name: &str| match mode {
        Mode::Operator => name.to_owned(),
        Mode::Config => format!("user.one.{name}"),
    };
    let connected = client::connect(&cluster.nodes[0].url(), &app, "_INBOX_one").await;
    let connected = connected.expect("connects");
    connected.round_trip(&subject("old")).await;
    connected.client.publish(subject("new"), "x".into()).await.expect("is sent");
    connected.violation(&["publish", "new"]).await;

    let before = connected.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
    let begun = Instant::now();
    init.sql(
        "UPDATE users SET publish = '[\"new\",\"both\"]', subscribe = '[\"new\",\"both\"]' \
         WHERE name = 'app'",
    );
    eventually_async("a new connection", || async {
        let now = connected.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
        (now > before).then_some(())
    })
    .await;
    let took = begun.elapsed();
    loudly(&format!("new permissions ({mode:?}): connected anew after {took:?}"));
    assert!(took < AT_MOST, "{took:?}");
    connected.round_trip(&subject("new")).await;
    connected.client.publish(subject("old"), "x".into()).await.expect("is sent");
    connected.violation(&["publish", "old"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_with_its_new_permissions_in_operator_mode() {
    new_permissions(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_with_its_new_permissions_in_config_mode() {
    new_permissions(Mode::Config).await;
}

/// Nothing is changed when the licence ends: the grant itself does.
#[test]
fn the_end_of_a_licence_closes_connections_in_both_modes() {
    for mode in [Mode::Operator, Mode::Config] {
        let cluster = cluster(mode, 1);
        let init = &cluster.init;
        let admin = init.tenant_add("one", &[]);
        let in_seconds = |seconds: u64| {
            let at = format!("datetime('now', '+{seconds} seconds')");
            init.sql(&format!("UPDATE tenants SET expires_at = {at}"));
        };
        in_seconds(3_600);
        kicked(init, &["tenant", "resume", "one"]);
        let mut held = connect_all(&cluster.nodes, &[&admin], 3);
        // A licence that is cut short: those who connected under the longer one are closed, come
        // back, and are closed again when it ends.
        in_seconds(4);
        all_closed(&mut held, Instant::now());
        let mut held = connect_all(&cluster.nodes, &[&admin], 3);
        let took = all_closed(&mut held, Instant::now());
        loudly(&format!("a licence with 4 s left ({mode:?}) ended after {took:?}"));
        assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&took), "{took:?}");
        assert!(Held::try_connect(cluster.nodes[0].port(), &admin).is_err());
    }
}
