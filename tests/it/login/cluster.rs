//! Three nodes: the first login of a tenant works through whichever node it comes, though none of
//! them has heard of its account.

use crate::harness::client;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;

async fn first_logins(mode: Mode) {
    let cluster = Cluster::start(mode, 3);
    for round in 0..6 {
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
async fn first_logins_through_every_node_in_operator_mode() {
    first_logins(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_logins_through_every_node_in_config_mode() {
    first_logins(Mode::Config).await;
}
