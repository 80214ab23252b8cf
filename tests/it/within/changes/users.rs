//! Changes of one user, and those that matter to nobody who is connected.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{AT_MOST, Held, Marker, all_alive, all_closed, cluster, connect_all, kicked};
use crate::harness::choice::{either_mode, on_both_databases};
use crate::harness::client;
use crate::harness::deployment::Mode;
use crate::harness::turn::measured;
use crate::harness::{eventually_async, loudly};

fn one_user(mode: Mode, size: usize) {
    measured();
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
fn one_user_is_closed_and_the_others_stay() {
    for mode in either_mode() {
        one_user(mode, 1);
    }
}

#[test]
fn one_user_is_closed_and_the_others_stay_on_three_servers() {
    for mode in either_mode() {
        one_user(mode, 3);
    }
}

on_both_databases! {
    /// What closes connections is acted upon however much else is changed by the same transaction.
    fn a_suspension_in_front_of_a_mass_of_changes_is_not_lost() {
        measured();
        let cluster = cluster(Mode::Operator, 1);
        let init = &cluster.init;
        let admin = init.tenant_add("one", &[]);
        let anna = init.user_add("one", "anna", &["--kind", "bb"]);
        let mut annas = connect_all(&cluster.nodes, &[&anna], 3);
        let mut others = connect_all(&cluster.nodes, &[&admin], 2);
        let changes = format!(
            "BEGIN;\n\
             UPDATE users SET status = 'suspended' WHERE name = 'anna';\n\
             INSERT INTO tokens (user_name, token_hash) \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 66000) \
             SELECT 'one', substr('{zeros}' || i, length(CAST(i AS TEXT)) + 1) FROM n;\n\
             COMMIT;",
            zeros = "0".repeat(64)
        );
        std::thread::scope(|scope| {
            // It takes a minute where the machine has other work.
            let changing = scope.spawn(|| init.sql(&changes));
            while !changing.is_finished() {
                annas.iter_mut().chain(&mut others).for_each(Held::keep);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let took = all_closed(&mut annas, Instant::now());
        loudly(&format!("suspended in front of 66,000 changes: closed after {took:?}"));
        assert!(took < AT_MOST, "{took:?}");
        all_alive(&mut others);
    }
}

fn nobody_is_closed(mode: Mode) {
    let cluster = cluster(mode, 1);
    let init = &cluster.init;
    let admin = init.tenant_add("one", &[]);
    let anna = init.user_add("one", "anna", &["--kind", "bb"]);
    let mut held = connect_all(&cluster.nodes, &[&admin, &anna], 8);
    let marker = Marker::new(&cluster);
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
        "UPDATE users SET password_hash = '$2b$10$abcdefghijklmnopqrstuv$...', last_login_at = NULL",
        "UPDATE users SET certificate = 'CN=anna' WHERE name = 'anna'",
        "INSERT INTO users (tenant_id, name) VALUES ('one', 'anna') \
         ON CONFLICT (name) DO UPDATE SET certificate = NULL",
    ] {
        init.sql(statement);
    }
    marker.wait(init);
    all_alive(&mut held);
}

#[test]
fn what_matters_to_nobody_closes_nothing() {
    for mode in either_mode() {
        nobody_is_closed(mode);
    }
}

/// A client comes back by itself, with what it may do from now on.
async fn new_permissions(mode: Mode) {
    measured();
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
async fn a_client_comes_back_with_its_new_permissions() {
    for mode in either_mode() {
        new_permissions(mode).await;
    }
}

/// Nothing is changed when the licence ends: the grant itself does.
#[test]
fn the_end_of_a_licence_closes_connections_in_both_modes() {
    measured();
    for mode in [Mode::Operator, Mode::Config] {
        let cluster = cluster(mode, 1);
        let init = &cluster.init;
        let admin = init.tenant_add("one", &[]);
        let in_seconds = |seconds: u64| {
            let at = Timestamp::now() + Duration::from_secs(seconds);
            let at = at.strftime("%Y-%m-%d %H:%M:%S+00:00");
            init.sql(&format!("UPDATE tenants SET expires_at = '{at}'"));
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

/// Tenants of both isolations in one deployment, and BB, whose login looks like a user's.
#[tokio::test(flavor = "multi_thread")]
async fn moves_between_accounts_close_what_stayed_behind() {
    let cluster = cluster(Mode::Operator, 1);
    let init = &cluster.init;
    let shared = init.tenant_add("shared", &["--isolation", "shared"]);
    let own = init.tenant_add("own", &[]);
    let app = init.user_add("own", "app", &["--kind", "bb"]);
    let creds = init.dir().join("keys/bb.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(creds).await.expect("creds");
    let bb = options.connect(cluster.nodes[0].url()).await.expect("connects");
    let connects = || bb.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);

    // A user that is called as BB appears in the server's list is not taken for it.
    let port = cluster.nodes[0].port();
    let listed = connections(cluster.init.monitor);
    let logins: Vec<&String> = listed.iter().filter(|name| name.starts_with('U')).collect();
    assert!(logins.len() >= 2, "{listed:?}");
    for name in logins {
        init.sql(&format!("INSERT INTO users (tenant_id, name) VALUES ('shared', '{name}')"));
        init.sql(&format!("DELETE FROM users WHERE name = '{name}'"));
    }

    let mut in_users = connect_all(&cluster.nodes, &[&shared], 3);
    let mut in_own = connect_all(&cluster.nodes, &[&own], 3);
    let mut apps = connect_all(&cluster.nodes, &[&app], 3);
    let begun = Instant::now();
    init.sql("UPDATE users SET tenant_id = 'shared' WHERE name = 'app'");
    all_closed(&mut apps, begun);
    let mut apps = connect_all(&cluster.nodes, &[&app], 3);
    init.sql("UPDATE tenants SET isolation = 'shared' WHERE id = 'own'");
    all_closed(&mut in_own, begun);
    let mut in_own = connect_all(&cluster.nodes, &[&own], 3);
    // An instance looks a second time after a second, of which nobody hears where it closes nobody.
    std::thread::sleep(Duration::from_millis(1_500));
    all_alive(&mut in_own);
    all_alive(&mut in_users);
    all_alive(&mut apps);
    assert_eq!(kicked(init, &["tenant", "suspend", "shared"]), 6);
    all_closed(&mut in_users, begun);
    all_closed(&mut apps, begun);
    all_alive(&mut in_own);
    assert_eq!(kicked(init, &["tenant", "suspend", "own"]), 3);
    assert!(Held::try_connect(port, &own).is_err());
    assert_eq!(connects(), 1, "BB was never closed");
}

/// The users in the server's own list of connections.
fn connections(monitor: u16) -> Vec<String> {
    use std::io::{Read as _, Write as _};

    let mut stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, monitor))
        .expect("the monitor listens");
    stream.write_all(b"GET /connz?auth=1 HTTP/1.0\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let list: serde_json::Value = serde_json::from_str(body).expect("json");
    let users = list["connections"].as_array().expect("a list").iter();
    users.filter_map(|one| Some(one["authorized_user"].as_str()?.to_owned())).collect()
}
