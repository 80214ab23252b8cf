//! The account of a tenant that is removed: every server forgets it, and its data stays or is
//! deleted as the command was told.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{cluster, connect_all, kicked};
use crate::harness::choice::on_both_databases;
use crate::harness::client;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::servers::NatsServer;
use crate::harness::{eventually, eventually_async};

/// The account of a tenant that has logged in.
pub(super) fn account_of(init: &Initialised, tenant: &str) -> String {
    let account =
        init.sql(&format!("SELECT account FROM tenant_accounts WHERE tenant_id = '{tenant}'"));
    assert_eq!(account.len(), 56, "{account:?}");
    account
}

/// What there is of this name below `folder`.
fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|found| found == name) {
            found.push(path);
        } else if path.is_dir() {
            found.extend(named(&path, name));
        }
    }
    found
}

fn node(cluster: &Cluster, node: usize) -> PathBuf {
    cluster.init.dir().join(format!("node-{node}"))
}

/// The servers whose resolver holds the account.
pub(super) fn holders(cluster: &Cluster, account: &str) -> Vec<usize> {
    (0..cluster.nodes.len())
        .filter(|&index| {
            let folder = node(cluster, index).join("accounts");
            !named(&folder, &format!("{account}.jwt")).is_empty()
        })
        .collect()
}

/// The files of the account's streams, over all servers.
fn streams(cluster: &Cluster, account: &str) -> usize {
    let folders = (0..cluster.nodes.len())
        .flat_map(|index| named(&node(cluster, index).join("jetstream"), account));
    let streams = folders.filter_map(|folder| std::fs::read_dir(folder.join("streams")).ok());
    streams.map(Iterator::count).sum()
}

async fn with_data(cluster: &Cluster, tenant: &str, nodes: &[NatsServer]) -> String {
    let limits = ["--memory", "4MB", "--storage", "40MB"];
    let login = cluster.init.tenant_add(tenant, &limits);
    let admin = client::connect(&nodes[0].url(), &login, "_INBOX").await.expect("connects");
    for name in ["A", "B"] {
        let stream = json!({
            "name": name, "subjects": [format!("{name}.>")], "storage": "file",
            "num_replicas": nodes.len(),
        });
        // The leader of a cluster may still be loading an account that is new to it.
        eventually_async("a stream", || async {
            let subject = format!("$JS.API.STREAM.CREATE.{name}");
            let answer = admin.client.request(subject, stream.to_string().into()).await.ok()?;
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).ok()?;
            answer.get("error").is_none().then_some(())
        })
        .await;
        // Nor is what it listens to known to all others at once.
        eventually_async("a message in it", || async {
            let answer = admin.client.request(format!("{name}.x"), "kept".into()).await.ok()?;
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).ok()?;
            answer.get("error").is_none().then_some(())
        })
        .await;
    }
    account_of(&cluster.init, tenant)
}

async fn removed(size: usize) {
    let cluster = cluster(Mode::Operator, size);
    let init = &cluster.init;
    let kept = with_data(&cluster, "kept", &cluster.nodes).await;
    let purged = with_data(&cluster, "purged", &cluster.nodes).await;
    let deleted = with_data(&cluster, "deleted", &cluster.nodes).await;
    let all: Vec<usize> = (0..size).collect();
    for account in [&kept, &purged, &deleted] {
        assert_eq!(holders(&cluster, account), all);
        assert_eq!(streams(&cluster, account), 2 * size);
    }

    let refused = init.cli(&["tenant", "remove", "kept"]);
    assert_eq!(refused.status, 2, "nobody to ask: {}", refused.stderr);
    let output = init.cli(&["--json", "tenant", "remove", "kept", "--yes"]).success();
    assert_eq!(output.json(), json!({ "kicked": 0 }));
    assert!(output.stderr.contains("stays on the servers' disks"), "{}", output.stderr);
    assert_eq!(holders(&cluster, &kept), [0; 0]);
    assert_eq!(streams(&cluster, &kept), 2 * size, "its data stays");

    // Without a limit left, there is still data to delete.
    let zeroed = with_data(&cluster, "zeroed", &cluster.nodes).await;
    init.sql("UPDATE tenants SET js_memory = 0, js_storage = 0 WHERE id = 'zeroed'");
    let output = init.cli(&["--json", "tenant", "remove", "zeroed", "--yes", "--purge"]).success();
    assert_eq!(output.json(), json!({ "kicked": 0, "streams_deleted": 2 }), "{}", output.stderr);
    eventually("the streams' files are gone", || (streams(&cluster, &zeroed) == 0).then_some(()));

    let output = init.cli(&["--json", "tenant", "remove", "purged", "--yes", "--purge"]).success();
    assert_eq!(output.json(), json!({ "kicked": 0, "streams_deleted": 2 }));
    assert_eq!(holders(&cluster, &purged), [0; 0]);
    eventually("the streams' files are gone", || (streams(&cluster, &purged) == 0).then_some(()));
    assert_eq!(init.cli(&["show", "purged"]).status, 1);

    // By plain SQL, and made again under the same id: another tenant, with another account.
    init.sql("DELETE FROM tenants WHERE id = 'deleted'");
    let login = init.tenant_add("deleted", &[]);
    let mut held = connect_all(&cluster.nodes, &[&login], size);
    eventually("every server has forgotten the account", || {
        holders(&cluster, &deleted).is_empty().then_some(())
    });
    assert_ne!(account_of(init, "deleted"), deleted);
    assert_eq!(streams(&cluster, &deleted), 2 * size, "its data stays");
    super::all_alive(&mut held);
    assert_eq!(holders(&cluster, &account_of(init, "deleted")), all);
    assert_eq!(kicked(init, &["tenant", "remove", "deleted", "--yes"]), size);
}

on_both_databases! {
    async fn a_removed_tenants_account_is_forgotten_by_one_server() {
        removed(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tenants_account_is_forgotten_by_three_servers() {
    removed(3).await;
}
