//! Connections begin anew before their grants end, as long as whoever is on them would be let in again:
//! clients at their defaults stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};

use crate::harness::choice::{either_mode, modes};
use crate::harness::client::{self, Connected, Login};
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::postgres::PostgresServer;
use crate::harness::servers::NatsServer;
use crate::harness::staying::{Library, Staying, Subjects};
use crate::harness::{eventually, eventually_async, http, servers};
use crate::http::value;
use crate::policies::limits::reasons;

/// The shortest life of a grant that may be configured: it is renewed after 4 to 6.5 s and ends after 8 to
/// 10.
const SETTINGS: [(&str, &str); 1] = [("NATS_CALLOUT_CALLOUT_TTL", "10s")];

fn renewals(http: &str, outcome: &str) -> f64 {
    let metrics = http::get(http, "/metrics").expect("metrics").body;
    let name = format!("nats_callout_renewals_total{{outcome=\"{outcome}\"}}");
    value(&metrics, &name)
}

async fn connect(deployment: &Deployment, login: &Login, id: &str) -> Connected {
    connect_to(&deployment.server, deployment.mode, login, id).await
}

async fn connect_to(server: &NatsServer, mode: Mode, login: &Login, id: &str) -> Connected {
    let prefix = match mode {
        Mode::Config => format!("_INBOX_{id}"),
        Mode::Operator => "_INBOX".to_owned(),
    };
    client::connect(&server.url(), login, &prefix).await.expect("it may log in")
}

/// Counts how often it is told that its server would have it go.
async fn listener(deployment: &Deployment, login: &Login, told: Arc<AtomicU64>) -> Client {
    let Login::Password(user, password) = login.clone() else { unreachable!("a password") };
    let options = ConnectOptions::with_user_and_password(user, password);
    let options = options.event_callback(move |event| {
        let told = Arc::clone(&told);
        async move {
            if matches!(event, Event::LameDuckMode) {
                told.fetch_add(1, Relaxed);
            }
        }
    });
    options.connect(deployment.url()).await.expect("it may log in")
}

fn closed(deployment: &Deployment) -> f64 {
    let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
    value(&metrics, "nats_callout_connections_closed_total")
}

/// A deployment whose grants live for so long.
fn living(mode: Mode, ttl: &str) -> Deployment {
    let ttl = format!("\"{ttl}\"");
    Deployment::start_prepared(mode, servers::version(), |init| init.set("ttl", &ttl))
}

/// Connections that the server has closed at the ends of their grants.
fn expired(server: &NatsServer) -> Vec<u64> {
    let monitor = server.monitor().expect("it has one");
    let report = http::get(&monitor, "/connz?state=closed&limit=1024").expect("a report").body;
    let report: serde_json::Value = serde_json::from_str(&report).expect("json");
    let closed = report["connections"].as_array().expect("an array").iter();
    let expired = closed.filter(|it| it["reason"] == "Authentication Expired");
    expired.map(|it| it["cid"].as_u64().expect("a number")).collect()
}

fn connects(of: &Connected) -> u64 {
    of.client.statistics().connects.load(Relaxed)
}

/// nats-py closes for good at the end of a grant; here it never comes to one.
#[tokio::test(flavor = "multi_thread")]
async fn clients_at_their_defaults_outlive_their_grants() {
    for mode in modes() {
        let deployment = Deployment::start_set(mode, &SETTINGS);
        let admin = deployment.tenant_add("one", &[]);
        let user = deployment.user_add("one", "app", &["--kind", "bb"]);
        let token = Login::Token(deployment.token_add("one", "app"));
        let by_password = connect(&deployment, &user, "one").await;
        let by_token = connect(&deployment, &token, "one").await;
        let subjects = Subjects::of(mode, "one");
        let python = Staying::connect(Library::NatsPy, &deployment.url(), &admin, &subjects);
        let told = Arc::new(AtomicU64::new(0));
        let listener = listener(&deployment, &user, Arc::clone(&told)).await;
        for renewals in 2..=3 {
            eventually_async("a renewal", || async {
                let all = [&by_password, &by_token];
                all.iter().all(|it| connects(it) >= renewals).then_some(())
            })
            .await;
        }
        if let Some(mut python) = python {
            for _ in 0..2 {
                python.says("disconnected");
                python.says("reconnected");
            }
        }
        // Whoever listens hears of it a second before.
        eventually("lame duck mode", || (told.load(Relaxed) > 0).then_some(()));
        drop(listener);
        for client in [&by_password, &by_token] {
            assert_eq!(client.errors(), Vec::<String>::new(), "{mode:?}");
        }
        assert_eq!(expired(&deployment.server), Vec::<u64>::new(), "{mode:?}");
        assert!(renewals(deployment.http(), "renewed") >= 4.0, "{mode:?}");
        assert!(closed(&deployment) < 1.0, "{mode:?}");
    }
}

/// While the database is away nobody is renewed in time. A moment before the end of the grant the connection is
/// broken off all the same, and tries until it is back: nats-py would close for good at the end.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_could_not_be_renewed_is_broken_off_before_the_end() {
    const ROLE: &str = "service";
    for mode in modes() {
        let postgres = PostgresServer::start();
        postgres.psql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"));
        postgres.psql(&format!("CREATE DATABASE tenants OWNER {ROLE}"));
        let url = postgres.url(ROLE, ROLE, "tenants");
        let settings = [("NATS_CALLOUT_CALLOUT_TTL", "40s")];
        let deployment = Deployment::start_initialised(servers::version(), &settings, || {
            Initialised::on(mode, Table::OwnPostgres(url.clone()))
        });
        let login = deployment.tenant_add("one", &[]);
        let subjects = Subjects::of(mode, "one");
        let rust =
            futures_util::future::join_all((0..6).map(|_| connect(&deployment, &login, "one")));
        let rust = rust.await;
        let python = Staying::connect(Library::NatsPy, &deployment.url(), &login, &subjects);
        postgres.freeze();
        let python = python.map(|mut it| {
            it.says("disconnected");
            it
        });
        eventually_async("all are broken off", || async {
            let is_off = |it: &Connected| it.client.connection_state() != State::Connected;
            rust.iter().all(|it| is_off(it) || connects(it) >= 2).then_some(())
        })
        .await;
        assert!(renewals(deployment.http(), "deferred") >= 2.0, "{mode:?}");
        postgres.thaw();
        if let Some(mut python) = python {
            python.says("reconnected");
        }
        eventually_async("all are back", || async {
            rust.iter().all(|it| connects(it) >= 2).then_some(())
        })
        .await;
        assert_eq!(expired(&deployment.server), Vec::<u64>::new(), "{mode:?}");
    }
}

/// A server that says nothing when a connection is due is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_a_server_that_hangs_is_renewed_afterwards() {
    for mode in either_mode() {
        let lives = |init: &Initialised| init.set("ttl", "\"40s\"");
        let cluster = Cluster::start_prepared(mode, 2, lives);
        let login = cluster.init.tenant_add("one", &[]);
        let client = connect_to(&cluster.nodes[1], mode, &login, "one").await;
        cluster.nodes[1].freeze();
        let unanswered = || renewals(cluster.service.http(), "unanswered") >= 1.0;
        eventually("a question in vain", || unanswered().then_some(()));
        cluster.nodes[1].thaw();
        eventually_async("a renewal", async || (connects(&client) >= 2).then_some(())).await;
        assert_eq!(expired(&cluster.nodes[1]), Vec::<u64>::new(), "{mode:?}");
        assert_eq!(client.errors(), Vec::<String>::new(), "{mode:?}");
    }
}

/// Of a user some of whose credentials are gone, nobody is renewed by one of them. His connections are
/// closed without an error, long before their grants end; whoever has another credential comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_gone_keeps_no_connection() {
    for mode in modes() {
        let deployment = living(mode, "40s");
        deployment.tenant_add("one", &[]);
        let user = deployment.user_add("one", "app", &["--kind", "bb"]);
        let other = deployment.user_add("one", "other", &["--kind", "bb"]);
        let removed = deployment.token_add("one", "app");
        let by_removed = connect(&deployment, &Login::Token(removed.clone()), "one").await;
        let by_password = connect(&deployment, &user, "one").await;
        let others = connect(&deployment, &other, "one").await;
        let hash = nats_callout::callout::Token::parse(&removed).expect("a token").hash().to_hex();
        deployment.sql(&format!("DELETE FROM tokens WHERE token_hash = '{hash}'"));
        // Each renewal comes before half of the time that this takes at least.
        eventually_async("the closing", || async {
            let back = connects(&by_password) >= 2 && connects(&others) >= 2;
            (back && reasons(&deployment, "unknown_token")).then_some(())
        })
        .await;
        assert_eq!(connects(&by_removed), 1, "{mode:?}");
        assert!(closed(&deployment) >= 1.0, "{mode:?}");
        assert_eq!(expired(&deployment.server), Vec::<u64>::new(), "{mode:?}");
        for client in [&by_password, &others] {
            assert_eq!(client.errors(), Vec::<String>::new(), "{mode:?}");
        }
    }
}

/// A password that is replaced when little is left of a grant: the connection is closed before the end, which
/// most libraries take for an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_replaced_late_ends_no_grant() {
    for mode in either_mode() {
        let deployment = living(mode, "40s");
        deployment.tenant_add("one", &[]);
        let user = deployment.user_add("one", "app", &["--kind", "bb"]);
        let client = connect(&deployment, &user, "one").await;
        tokio::time::sleep(Duration::from_secs(17)).await;
        deployment.cli(&["user", "passwd", "one", "app"]).success();
        // Whether the change closes it or a renewal that has begun before.
        let comes_back = "refused reason=\"wrong_password\" user=\"app\"";
        let log = || deployment.service.log();
        eventually("the closing", || log().contains(comes_back).then_some(()));
        assert_eq!(expired(&deployment.server), Vec::<u64>::new(), "{mode:?}");
        drop(client);
    }
}

/// What an instance has granted that has stopped since is renewed all the same: by the next one, and by
/// those that are left.
#[tokio::test(flavor = "multi_thread")]
async fn connections_outlive_the_instance_that_granted_them() {
    for mode in modes() {
        let mut deployment = living(mode, "40s");
        let admin = deployment.tenant_add("one", &[]);
        let user = deployment.user_add("one", "app", &["--kind", "bb"]);
        let subjects = Subjects::of(mode, "one");
        let python = Staying::connect(Library::NatsPy, &deployment.url(), &admin, &subjects);
        let client = connect(&deployment, &user, "one").await;
        deployment.service.kill9();
        deployment.service = deployment.init.serve().expect("it starts again");
        let another = deployment.another_service();
        let mut both = Vec::new();
        for _ in 0..8 {
            both.push(connect(&deployment, &user, "one").await);
        }
        deployment.service.kill9();
        both.push(client);
        eventually_async("the renewals", || async {
            both.iter().all(|it| connects(it) >= 2).then_some(())
        })
        .await;
        if let Some(mut python) = python {
            python.says("disconnected");
            python.says("reconnected");
        }
        for client in &both {
            assert_eq!(client.errors(), Vec::<String>::new(), "{mode:?}");
        }
        assert_eq!(expired(&deployment.server), Vec::<u64>::new(), "{mode:?}");
        let log = another.log();
        assert!(log.contains("connections that nobody remembers"), "{mode:?}\n{log}");
    }
}
