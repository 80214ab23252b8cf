//! Leaf nodes: a second nats-server that logs in with its remote's credentials, and joins its own
//! clients to the account of that user. Refused where tenants share an account. That a leaf node
//! goes with its user is in `within::ends`.

use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use nats_callout::keys::{KeyKind, SigningKey};
use tempfile::TempDir;

use super::{Open, Tls};
use crate::harness::choice::lacks;
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::Mode;
use crate::harness::servers::{self, NatsServer};
use crate::harness::{PATIENCE, eventually, ports};

/// A nats-server that is a leaf node of a deployment, if that lets it in.
pub(crate) struct Leaf {
    server: NatsServer,
    _folder: TempDir,
}

impl Leaf {
    /// Starts one with this remote; its own clients need no login.
    pub(crate) fn start(remote: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, conf) = (ports::free(), folder.path().join("leaf.conf"));
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: leaf-{port}\n\
             leafnodes {{ reconnect: 1, remotes: [ {{ {remote} }} ] }}\n"
        );
        std::fs::write(&conf, text).expect("a configuration");
        let version = servers::of_leaf_nodes();
        let server = NatsServer::start(version, &conf, port, None).expect("a leaf");
        Self { server, _folder: folder }
    }

    pub(crate) async fn client(&self) -> Connected {
        client::connect(&self.server.url(), &Login::Nothing, "_INBOX").await.expect("logs in")
    }

    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    pub(crate) fn refused(&self) {
        eventually("the leaf node's refusal", || {
            self.log().contains("Authorization Violation").then_some(())
        });
    }
}

pub(crate) fn remote(open: &Open, login: &str) -> String {
    format!("url: \"nats-leaf://{login}127.0.0.1:{}\"", open.leafnodes)
}

/// Publishes until the other hears it: interest takes its time over a leaf node.
pub(crate) async fn hears(ear: &Connected, mouth: &Connected, subject: &str) {
    let mut heard = ear.client.subscribe(subject.to_owned()).await.expect("subscribes");
    let start = Instant::now();
    loop {
        mouth.client.publish(subject.to_owned(), "over".into()).await.expect("publishes");
        match tokio::time::timeout(Duration::from_millis(100), heard.next()).await {
            Ok(message) => {
                assert_eq!(message.expect("the connection is open").payload, "over");
                return;
            }
            Err(_) => assert!(start.elapsed() < PATIENCE, "nothing heard on {subject}"),
        }
    }
}

pub(super) async fn clients_of_a_leaf_exchange_messages_with_clients_of_the_hub(
    open: &Open,
    admin: &Login,
) {
    let Login::Password(user, password) = admin else { unreachable!("a password") };
    let token = open.token_add("alice", "alice");
    let (key, seed) = SigningKey::generate(KeyKind::User).expect("a key");
    let add = ["user", "add", "alice", "edge", "--policy", "admin", "--kind", "bb"];
    open.cli(&[&add[..], &["--nkey", key.public_key()]].concat()).success();
    let hub = client::connect(&open.url(), admin, "_INBOX").await.expect("logs in");
    for remote in [
        remote(open, &format!("{user}:{password}@")),
        remote(open, &format!("{user}:{token}@")),
        remote(open, &format!("{token}@")),
        format!("{}, nkey: {}", remote(open, ""), *seed),
    ] {
        let leaf = Leaf::start(&remote);
        let edge = leaf.client().await;
        hears(&hub, &edge, "orders.created").await;
        hears(&edge, &hub, "payments.made").await;
    }
    let wrong = Leaf::start(&remote(open, &format!("{user}:wrong@")));
    wrong.refused();
}

/// What the grant does not hold does not cross, in either direction: what is said last and does
/// cross comes behind it, on the same connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_carries_what_its_user_may() {
    let mode = Mode::Operator;
    if lacks(mode) {
        return;
    }
    let open = Open::start_with(mode, servers::version(), Tls::No, |_| {});
    let admin = open.tenant_add("carried", &[]);
    let lists = ["--publish", "orders.*", "--subscribe", "payments.*"];
    let service = open.user_add("carried", "carrier", &lists);
    let Login::Password(user, password) = &service else { unreachable!("a password") };
    let hub = client::connect(&open.url(), &admin, "_INBOX").await.expect("logs in");
    let leaf = Leaf::start(&remote(&open, &format!("{user}:{password}@")));
    let edge = leaf.client().await;
    let mut all = hub.client.subscribe(">").await.expect("subscribes");
    let mut none = edge.client.subscribe("stock.>").await.expect("subscribes");
    hears(&edge, &hub, "payments.made").await;
    hears(&hub, &edge, "orders.created").await;
    edge.client.publish("stock.forged", "x".into()).await.expect("is sent");
    hub.client.publish("stock.counted", "x".into()).await.expect("is sent");
    hears(&hub, &edge, "orders.last").await;
    hears(&edge, &hub, "payments.last").await;
    while let Some(Some(message)) = all.next().now_or_never() {
        assert_ne!(message.subject.as_str(), "stock.forged");
    }
    while let Some(Some(message)) = none.next().now_or_never() {
        assert_ne!(message.subject.as_str(), "stock.counted");
    }
}

/// A leaf node takes one of the clients' places, but is not refused when there is none left: without
/// a limit of their own, there could be any number of them.
#[tokio::test(flavor = "multi_thread")]
async fn max_connections_bounds_leaf_nodes_too() {
    let mode = Mode::Operator;
    if lacks(mode) {
        return;
    }
    let open = Open::start_with(mode, servers::version(), Tls::No, |_| {});
    let admin = open.tenant_add("few", &[]);
    open.sql("UPDATE tenants SET max_connections = 1 WHERE id = 'few';");
    let Login::Password(user, password) = &admin else { unreachable!("a password") };
    let remote = remote(&open, &format!("{user}:{password}@"));
    let hub = client::connect(&open.url(), &admin, "_INBOX").await.expect("the one client");
    let first = Leaf::start(&remote);
    let edge = first.client().await;
    hears(&hub, &edge, "orders.created").await;
    let second = Leaf::start(&remote);
    eventually("the end of the second", || {
        second.log().contains("maximum account active connections exceeded").then_some(())
    });
    hears(&edge, &hub, "orders.paid").await;
    drop(hub);
    // The leaf node has the one place now.
    let error = client::connect(&open.url(), &admin, "_INBOX").await.expect_err("no place left");
    assert!(error.to_string().contains("maximum"), "{error}");
}

pub(super) fn a_leaf_is_refused_where_tenants_share_an_account(open: &Open, login: &Login) {
    let Login::Password(user, password) = login else { unreachable!("a password") };
    Leaf::start(&remote(open, &format!("{user}:{password}@"))).refused();
    let log = open.service.log();
    let last = log.lines().rev().find(|line| line.contains("refused")).expect("a refusal");
    assert!(!last.contains(password.as_str()), "{last}");
}
