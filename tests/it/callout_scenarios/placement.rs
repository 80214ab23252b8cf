//! Where users are placed, and what servers say about themselves when they ask.

use std::collections::BTreeSet;

use super::basics::REFUSED;
use super::tap::Tap;
use super::wire::{Wire, verdict};
use super::{Row, Scene, dedicate, place_one, report};
use crate::harness::choice::either_mode;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
use crate::harness::eventually;

/// Config mode: a tenant is placed in the account that its row names, if the configuration gives it
/// to this tenant, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn in_one_of_several_accounts_in_config_mode() {
    let mode = Mode::Config;
    let scene = Scene::edited(mode, |init| {
        dedicate(init, mode);
        super::replace(&init.server_conf(), "accounts {\n", "accounts {\n    FOO {}\n    BAR {}\n");
    })
    .await;
    let mut row = Row::of("MultiAccounts", mode);
    let placed = |account: &str| {
        scene.deployment.sql(&format!("UPDATE tenants SET account = {account} WHERE id = 'two';"));
    };
    place_one(&scene);
    let port = scene.port();
    let mut client = Wire::tcp(port);
    client.login("one", &scene.one.app.connect_fields());
    row.saw("row says BAZ", "one-app in BAZ", scene.who("one"));
    row.saw("open", true, client.is_open());
    let mut other = Wire::tcp(port);
    other.login("two", &scene.two.app.connect_fields());
    row.saw("row says nothing", "two-app in USERS", scene.who("two"));
    for account in ["'BAZ'", "'FOO'", "'BB'", "'ANSWERS'", "'NONE'"] {
        placed(account);
        eventually("a refusal", || {
            (verdict(port, "misplaced", &scene.two.app) == REFUSED).then_some(())
        });
        let what = "row says another's, BB, an unlisted one or none";
        row.saw(what, REFUSED, verdict(port, "misplaced", &scene.two.app));
    }
    report(&[row]);
}

async fn tags(mode: Mode) {
    let scene =
        Scene::edited(mode, |init| init.add_to_server_conf("server_tags: [\"foo\", \"bar\"]"))
            .await;
    let mut scene = scene;
    let mut row = Row::of("ServerTags", mode);
    row.saw("login", "admitted", verdict(scene.port(), "tagged", &scene.one.app));
    let asked = scene.tap.asked("tagged").await;
    let tags = &asked.claims["nats"]["server_id"]["tags"];
    row.saw("tags", "[\"foo\",\"bar\"]", tags);
    report(&[row]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_server_with_tags() {
    for mode in either_mode() {
        tags(mode).await;
    }
}

async fn clustered(mode: Mode) {
    let cluster = Cluster::start(mode, 3);
    let login = cluster.init.tenant_add("one", &[]);
    let mut tap = Tap::on(&cluster.init, mode, &cluster.nodes[0].url()).await;
    let mut row = Row::of("ServerClusterAndVersion", mode);
    let mut servers = BTreeSet::new();
    for node in &cluster.nodes {
        tap.hears(node.port()).await;
        row.saw("login", "admitted", verdict(node.port(), "clustered", &login));
        let (asked, answered) = tap.exchange("clustered").await;
        let server = &asked.claims["nats"]["server_id"];
        row.saw("cluster", "test", server["cluster"].as_str().unwrap_or_default());
        row.saw(
            "version",
            crate::harness::servers::version(),
            server["version"].as_str().unwrap_or("none"),
        );
        row.saw("answer to this server", true, answered.claims["aud"] == server["id"]);
        servers.insert(server["id"].to_string());
    }
    row.saw("servers", 3, servers.len());
    report(&[row]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_servers_of_a_cluster() {
    for mode in either_mode() {
        clustered(mode).await;
    }
}
