//! A server that was away while a tenant's end came learns of it, whoever else knows.

use std::path::PathBuf;

use nats_callout::internals::{AccountBody, Claims};

use super::{account_of, held, is_cut_off};
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
use crate::harness::eventually;
use crate::within::changes::crowd::Held;

fn accounts(cluster: &Cluster) -> Vec<PathBuf> {
    let dir = cluster.init.dir();
    (0..cluster.nodes.len()).map(|node| dir.join(format!("node-{node}/accounts"))).collect()
}

/// Waits until what these servers hold is alike, and as it should be.
#[track_caller]
fn hold(
    what: &str,
    folders: &[PathBuf],
    account: &str,
    is_so: impl Fn(&Claims<AccountBody>) -> bool,
) {
    eventually(what, || {
        let held: Option<Vec<_>> = folders.iter().map(|folder| held(folder, account)).collect();
        let held = held?;
        let first = held.first()?.clone();
        (is_so(&first) && held.iter().all(|one| *one == first)).then_some(())
    });
}

fn is_closed(claims: &Claims<AccountBody>) -> bool {
    is_cut_off(claims) && claims.body.limits.conn == 0 && claims.body.limits.disk_storage > 0
}

fn is_open(claims: &Claims<AccountBody>) -> bool {
    !claims.body.imports.is_empty() && claims.body.limits.conn == -1
}

#[test]
fn a_server_that_was_away_learns_who_is_over_and_who_is_not() {
    let mut cluster = Cluster::start(Mode::Operator, 3);
    let limits = ["--memory", "1MB", "--storage", "16MB"];
    let mut tenants = Vec::new();
    for id in ["suspended", "expired", "moved", "resumed"] {
        let login = cluster.init.tenant_add(id, &limits);
        drop(Held::connect(cluster.nodes[2].port(), &login));
        tenants.push((id, account_of(&cluster.init, id)));
    }
    let folders = accounts(&cluster);
    for (id, account) in &tenants {
        hold(id, &folders, account, is_open);
    }
    cluster.init.cli(&["tenant", "suspend", "resumed"]).success();
    hold("resumed, over", &folders, &tenants[3].1, is_closed);

    cluster.nodes[2].kill9();
    let end = jiff::Timestamp::now();
    cluster.init.sql(&format!(
        "UPDATE tenants SET status = 'suspended' WHERE id = 'suspended';\n\
         UPDATE tenants SET expires_at = '{end}' WHERE id = 'expired';\n\
         UPDATE tenants SET isolation = 'shared' WHERE id = 'moved';\n\
         UPDATE tenants SET status = 'active' WHERE id = 'resumed'"
    ));
    for (id, account) in &tenants[..3] {
        hold(id, &folders[..2], account, is_closed);
    }
    hold("resumed", &folders[..2], &tenants[3].1, is_open);
    cluster.nodes[2].restart();
    for (id, account) in &tenants[..3] {
        hold(id, &folders, account, is_closed);
    }
    hold("resumed", &folders, &tenants[3].1, is_open);

    // All of them down with the service, which finds it when it begins.
    cluster.service.kill9();
    cluster.init.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'resumed'");
    assert!(held(&folders[0], &tenants[3].1).is_some_and(|claims| is_open(&claims)));
    cluster.service.restart();
    hold("resumed, over again", &folders, &tenants[3].1, is_closed);
}
