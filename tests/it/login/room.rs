//! A tenant that shares its account has as many connections as it may, on all servers together, and is
//! not told that they are too many when they are not.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use super::admitted;
use crate::harness::choice::{either_mode, modes};
use crate::harness::client::{self, Connected, Login};
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::raw::{self, Verdict};
use crate::harness::{depth, eventually, eventually_async, http, postgres};

/// A tenant without an account of its own, which may have so many connections.
fn crowd(init: &Initialised, mode: Mode, most: u32) -> Login {
    limited(init, mode, "crowd", most)
}

fn limited(init: &Initialised, mode: Mode, id: &str, most: u32) -> Login {
    let isolation: &[&str] = if mode == Mode::Operator { &["--isolation", "shared"] } else { &[] };
    let login = init.tenant_add(id, isolation);
    init.sql(&format!("UPDATE tenants SET max_connections = {most} WHERE id = '{id}';"));
    login
}

async fn come(url: &str, login: &Login) -> Option<Connected> {
    let connected = client::connect(url, login, "_INBOX_crowd").await.ok()?;
    connected.is_in().await.then_some(connected)
}

async fn on_all_servers_together(mode: Mode) {
    let cluster = Cluster::start(mode, 3);
    let admin = crowd(&cluster.init, mode, 2);
    let worker = cluster.init.user_add("crowd", "worker", &["--publish", "a"]);
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
    let connect = async |node: usize, login: &Login| come(&urls[node], login).await;
    let first = connect(0, &admin).await.expect("the first");
    let _second = connect(1, &worker).await.expect("the second");
    for login in [&admin, &worker] {
        client::refused(&urls[2], login).await;
    }
    let log = cluster.service.log();
    for words in [
        "refused reason=\"connections\"",
        "user=\"worker\" tenant=\"crowd\"",
        "as many connections as it may: 2, with max_connections = 2",
    ] {
        assert!(log.contains(words), "{log}");
    }
    let said = cluster.init.cli(&["test", "crowd"]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("as many connections as it may: "), "{said:?}");

    drop(first);
    let _third =
        eventually_async("the place of the first", async || connect(2, &admin).await).await;
    client::refused(&urls[0], &worker).await;
    cluster.init.sql("UPDATE tenants SET max_connections = NULL WHERE id = 'crowd';");
    let _fourth = eventually_async("no limit", async || connect(0, &worker).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_count_on_all_servers_together() {
    for mode in either_mode() {
        on_all_servers_together(mode).await;
    }
}

/// Those of so many who come at once, to one of these after the other, that are let in.
async fn burst(urls: &[String], login: &Login, many: usize) -> Vec<Connected> {
    let tasks: Vec<_> = urls
        .iter()
        .cycle()
        .take(many)
        .map(|url| {
            let (url, login) = (url.clone(), login.clone());
            tokio::spawn(async move { come(&url, &login).await })
        })
        .collect();
    let mut inside = Vec::new();
    for task in tasks {
        inside.extend(task.await.expect("no panic"));
    }
    inside
}

/// One instance lets in exactly as many, however many come at once.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_at_once_are_no_more() {
    for mode in modes() {
        let deployment = Deployment::start(mode);
        let login = crowd(&deployment, mode, 3);
        let inside = burst(&[deployment.server.url()], &login, 12).await;
        assert_eq!(inside.len(), 3, "{mode:?}\n{}", deployment.service.log());
        let none = "UPDATE tenants SET max_connections = 0 WHERE id = 'crowd';";
        deployment.sql(none);
        drop(inside);
        let refused = |login: &Login| {
            let verdict = raw::connect(deployment.server.port(), &login.connect_fields()).0;
            matches!(verdict, Verdict::Refused(_))
        };
        eventually("nobody of it", || refused(&login).then_some(()));
        // Of others nobody asks.
        let other = deployment.tenant_add("other", &[]);
        admitted(&deployment, &other, "other").await;
    }
}

/// Instances tell each other whom they let in: of those who come one after the other none is beyond it.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_count_together() {
    for mode in modes() {
        let deployment = Deployment::start(mode);
        let _another = deployment.another_service();
        let login = crowd(&deployment, mode, 3);
        for round in 0..3 {
            let mut inside = Vec::new();
            for _ in 0..7 {
                inside.extend(come(&deployment.server.url(), &login).await);
            }
            assert_eq!(inside.len(), 3, "{mode:?}, round {round}\n{}", deployment.service.log());
            drop(inside);
            let url = deployment.server.url();
            eventually_async("a place", async || come(&url, &login).await).await;
        }
        // Of those who come at once two may have the last place, where one instance hears of one first and
        // the other of the other.
        deployment.sql("UPDATE tenants SET max_connections = 12 WHERE id = 'crowd';");
        for round in 0..3 {
            // Once the change is known, and those of before have gone.
            let bursts = eventually_async("a burst", async || {
                let inside = burst(&[deployment.server.url()], &login, 40).await;
                (inside.len() >= 12).then_some(inside)
            });
            let inside = bursts.await;
            assert!(inside.len() <= 13, "{mode:?}, {round}: {}", inside.len());
            drop(inside);
        }
    }
}

/// Whoever asks and hangs up takes nobody's place.
#[test]
fn who_hangs_up_is_not_counted() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        let login = crowd(&deployment, mode, 2).connect_fields();
        for round in 0..3 {
            for _ in 0..10 {
                raw::hang_up(deployment.server.port(), &login);
            }
            let verdict = raw::connect(deployment.server.port(), &login).0;
            assert_eq!(verdict, Verdict::Admitted, "round {round}\n{}", deployment.service.log());
        }
    }
}

/// Whoever is on a server that hangs will come to another one, and is not counted there, however many come
/// and however short a time the server has been hanging.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_a_server_that_hangs_is_not_counted() {
    for mode in either_mode() {
        let cluster = Cluster::start(mode, 3);
        let login = crowd(&cluster.init, mode, 3);
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        let before = burst(&urls[2..], &login, 3).await;
        assert_eq!(before.len(), 3, "{mode:?}\n{}", cluster.service.log());
        client::refused(&urls[0], &login).await;
        cluster.nodes[2].freeze();
        let mut inside = Vec::new();
        while inside.len() < 3 {
            inside.extend(burst(&urls[..2], &login, 8).await);
        }
        let log = cluster.service.log();
        assert_eq!(inside.len(), 3, "{mode:?}\n{log}");
        assert!(!log.contains("without a count"), "{mode:?}\n{log}");
        client::refused(&urls[1], &login).await;
        cluster.nodes[2].thaw();
        client::refused(&urls[2], &login).await;
    }
}

/// Those on the other servers count as well while one is killed and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_a_server_starts_is_counted() {
    for mode in either_mode() {
        let mut cluster = Cluster::start(mode, 3);
        let _another = cluster.another_service(1);
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        for round in 0..depth(2, 8) {
            let login = limited(&cluster.init, mode, &format!("crowd-{round}"), 3);
            cluster.nodes[2].kill9();
            let _first = eventually_async("the first", async || come(&urls[0], &login).await).await;
            cluster.restart(2);
            let mut inside = Vec::new();
            for url in urls.iter().cycle().take(12) {
                inside.extend(come(url, &login).await);
            }
            assert_eq!(inside.len(), 2, "{mode:?}, {round}\n{}", cluster.service.log());
        }
    }
}

/// Who was let in a moment ago and is gone takes nobody's place.
#[test]
fn one_that_comes_and_goes_is_always_let_in() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        let login = crowd(&deployment, mode, 1).connect_fields();
        let connections = || connections(&deployment);
        let before = connections();
        for round in 0..10 {
            let verdict = raw::connect(deployment.server.port(), &login).0;
            assert_eq!(verdict, Verdict::Admitted, "round {round}\n{}", deployment.service.log());
            eventually("its end", || (connections() <= before).then_some(()));
        }
    }
}

/// How many connections the server has.
fn connections(deployment: &Deployment) -> u64 {
    let page = http::get(&format!("127.0.0.1:{}", deployment.init.monitor), "/varz");
    let page: serde_json::Value =
        serde_json::from_str(&page.expect("an answer").body).expect("json");
    page["connections"].as_u64().expect("a count")
}

/// Who comes to a tenant that was full, while nobody can say whether it still is, has no answer rather than
/// a refusal, and is let in as soon as it can be said.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_for_want_of_a_count() {
    for mode in either_mode() {
        let deployment = Deployment::start_on(mode, || Table::Postgres(postgres::database()));
        let Table::Postgres(database) = &deployment.table else { unreachable!("PostgreSQL") };
        let login = crowd(&deployment, mode, 1);
        let (url, port) = (deployment.server.url(), deployment.server.port());
        let before = connections(&deployment);
        let first = come(&url, &login).await.expect("the first");
        client::refused(&url, &login).await;
        drop(first);
        eventually("its end", || (connections(&deployment) <= before).then_some(()));

        // Whom a tenant has, a count asks the table. That has to fail, and not the user's look-up before
        // it: what is known of her is forgotten once more if the feed comes to her own row only now.
        let options: PgConnectOptions = database.url().parse().expect("a URL");
        let mut holder = options.connect().await.expect("connects");
        let lock = "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE";
        let said = "reason=\"uncounted\" user=\"crowd\" tenant=\"crowd\"";
        let comes_in = || {
            eventually("a login", || {
                let verdict = raw::connect(port, &login.connect_fields()).0;
                (verdict == Verdict::Admitted).then_some(())
            });
        };
        for _ in 0..20 {
            holder.execute(lock).await.expect("a lock");
            let verdict = raw::connect(port, &login.connect_fields()).0;
            assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
            if deployment.service.log().contains(said) {
                break;
            }
            holder.execute("ROLLBACK").await.expect("the end of the lock");
            comes_in();
            eventually("its end", || (connections(&deployment) <= before).then_some(()));
        }
        let log = deployment.service.log();
        assert!(log.contains(said), "{mode:?}\n{log}");
        holder.execute("ROLLBACK").await.expect("the end of the lock");
        comes_in();
        let log = deployment.service.log();
        let refusals = log.lines().filter(|line| line.contains("refused reason=\"connections\""));
        assert_eq!(refusals.count(), 1, "{mode:?}\n{log}");
        let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
        let uncounted = |line: &str| {
            line.starts_with("nats_callout_decisions_total{")
                && line.contains("\"uncounted\"")
                && !line.ends_with(" 0")
        };
        assert!(metrics.lines().any(uncounted), "{mode:?}\n{metrics}");
    }
}
