//! Three nodes: the first login of a tenant works through whichever node it comes, though none of
//! them has heard of its account.

use crate::harness::choice::{either_mode, lacks};
use crate::harness::client;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
use crate::harness::depth;

async fn first_logins(mode: Mode) {
    let cluster = Cluster::start(mode, 3);
    // Each node is the first once.
    for round in 0..depth(3, 6) {
        let id = format!("t{round}");
        let admin = cluster.init.tenant_add(&id, &[]);
        let prefix = format!("_INBOX_{id}");
        let mut inside = Vec::new();
        for step in 0..cluster.nodes.len() {
            let node = &cluster.nodes[(round + step) % cluster.nodes.len()];
            let connected = client::connect(&node.url(), &admin, &prefix).await;
            let connected = connected.unwrap_or_else(|error| {
                panic!("{id} on {}: {error}\n{}", node.url(), cluster.service.log())
            });
            connected.round_trip(&format!("user.{id}.echo")).await;
            inside.push(connected);
        }
    }
    for node in &cluster.nodes {
        client::refused(&node.url(), &client::Login::password("t0", "wrong")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_logins_through_every_node() {
    for mode in either_mode() {
        first_logins(mode).await;
    }
}

/// A node that was killed holds nobody up for long, and knows everyone when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn first_logins_while_a_node_is_dead_and_after_its_return() {
    if lacks(Mode::Operator) {
        return;
    }
    let mut cluster = Cluster::start(Mode::Operator, 3);
    let before = cluster.init.tenant_add("before", &[]);
    client::connect(&cluster.nodes[0].url(), &before, "_INBOX").await.expect("logs in");
    cluster.nodes[2].kill9();
    let during = cluster.init.tenant_add("during", &[]);
    for node in [1, 0] {
        let url = cluster.nodes[node].url();
        let connected = client::connect(&url, &during, "_INBOX").await;
        connected.unwrap_or_else(|error| panic!("{url}: {error}\n{}", cluster.service.log()));
    }
    cluster.nodes[2].restart();
    let url = cluster.nodes[2].url();
    for login in [&before, &during] {
        // The node listens before its routes stand, and until then nobody hears it ask.
        crate::harness::eventually_async("a login on the node that is back", || async {
            client::connect(&url, login, "_INBOX").await.ok()
        })
        .await;
    }
}
