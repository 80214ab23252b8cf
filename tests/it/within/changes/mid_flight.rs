//! A tenant is suspended or deleted while many of its connections are open, more than one page of
//! them on a server, by the command and by plain SQL.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{AT_MOST, Held, all_alive, all_closed, cluster, connect_all, kicked};
use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::Mode;
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::measured;
use crate::harness::{PATIENCE, depth, eventually, loudly};

/// More of one login's connections on a node than its list has on a page.
const CROWD: usize = 1_100;

/// Some connections of each login on each node, and a crowd of one login on the first: on all of
/// them in the nightly run.
fn crowded(cluster: &Cluster, logins: &[&Login]) -> Vec<Held> {
    let nodes = &cluster.nodes;
    let mut held = connect_all(nodes, logins, 4 * logins.len() * nodes.len());
    let crowded = &nodes[..depth(1, nodes.len())];
    held.extend(connect_all(crowded, &logins[..1], CROWD * crowded.len()));
    held
}

#[track_caller]
fn stay_out(cluster: &Cluster, logins: &[&Login]) {
    for node in &cluster.nodes {
        for login in logins {
            let (verdict, took) = raw::connect(node.port(), &login.connect_fields());
            assert!(matches!(verdict, Verdict::Refused(_)), "{login:?} came back in {took:?}");
        }
    }
}

fn suspended(mode: Mode, size: usize) {
    measured();
    let cluster = cluster(mode, size);
    let init = &cluster.init;
    let one = init.tenant_add("one", &[]);
    let users: Vec<Login> =
        (0..4).map(|n| init.user_add("one", &format!("one-{n}"), &["--kind", "bb"])).collect();
    let two = init.tenant_add("two", &[]);
    let logins: Vec<&Login> = users.iter().chain([&one]).collect();
    let mut mine = crowded(&cluster, &logins);
    let mut others = connect_all(&cluster.nodes, &[&two], 20 * size);

    let begun = Instant::now();
    assert_eq!(kicked(init, &["tenant", "suspend", "one"]), mine.len());
    let command = begun.elapsed();
    let took = all_closed(&mut mine, begun);
    loudly(&format!(
        "{} connections of a suspended tenant on {size} servers ({mode:?}): all closed after \
         {took:?}, the command returned after {command:?}",
        mine.len()
    ));
    assert!(took < AT_MOST, "{took:?}");
    stay_out(&cluster, &logins);
    all_alive(&mut others);

    assert_eq!(kicked(init, &["tenant", "resume", "one"]), 0);
    let mut mine = connect_all(&cluster.nodes, &logins, 30 * size);
    let begun = Instant::now();
    init.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'one'");
    let took = all_closed(&mut mine, begun);
    loudly(&format!("{} by plain SQL ({mode:?}, {size}): all closed after {took:?}", mine.len()));
    assert!(took < AT_MOST, "{took:?}");
    stay_out(&cluster, &logins);
    all_alive(&mut others);

    init.sql("UPDATE tenants SET status = 'active' WHERE id = 'one'");
    kicked(init, &["tenant", "resume", "one"]);
    let mut mine = connect_all(&cluster.nodes, &logins, 12 * size);
    let begun = Instant::now();
    init.sql("DELETE FROM tenants WHERE id = 'one'");
    let took = all_closed(&mut mine, begun);
    loudly(&format!("{} of a deleted tenant ({mode:?}, {size}): {took:?}", mine.len()));
    assert!(took < AT_MOST, "{took:?}");
    stay_out(&cluster, &logins);
    all_alive(&mut others);
    assert_eq!(kicked(init, &["tenant", "remove", "two", "--yes"]), others.len());
    all_closed(&mut others, begun);
}

/// More changes in one statement than are told apart one by one.
fn thousands_at_once(mode: Mode) {
    measured();
    let cluster = cluster(mode, 1);
    let init = &cluster.init;
    let admin = init.tenant_add("one", &[]);
    let Login::Password(_, password) = &admin else { panic!("{admin:?}") };
    init.sql(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 6000) \
         INSERT INTO users (tenant_id, name, password_hash) SELECT 'one', 'user-' || n, \
         (SELECT password_hash FROM users WHERE name = 'one') FROM n",
    );
    let logins: Vec<Login> =
        (0..8).map(|n| Login::password(&format!("user-{}", 1 + 800 * n), password)).collect();
    let logins: Vec<&Login> = logins.iter().collect();
    let mut users = connect_all(&cluster.nodes, &logins, 40);
    let mut others = connect_all(&cluster.nodes, &[&admin], 5);
    init.sql("UPDATE users SET status = 'suspended' WHERE name LIKE 'user-%'");
    // What such a statement takes by itself is the database's, and nobody sees anything of it before.
    let begun = Instant::now();
    let took = all_closed(&mut users, begun);
    loudly(&format!("6,000 users suspended in one statement ({mode:?}): {took:?}"));
    assert!(took < AT_MOST, "{took:?}");
    stay_out(&cluster, &logins);
    all_alive(&mut others);
}

#[test]
fn thousands_of_users_at_once() {
    for mode in either_mode() {
        thousands_at_once(mode);
    }
}

/// Clients that connect without a pause, through two instances: whoever was let in by what an
/// instance knew before the change is closed too.
fn nobody_slips_through(mode: Mode, by_command: bool) {
    measured();
    let cluster = cluster(mode, 3);
    let init = &cluster.init;
    let _second = init.another_service();
    let login = init.tenant_add("one", &[]);
    let other = init.tenant_add("two", &[]);
    let mut others = connect_all(&cluster.nodes, &[&other], 9);
    for round in 0..depth(2, 3) {
        init.cli(&["tenant", "resume", "one"]).success();
        let (suspended, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (mut held, begun) = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..6)
                .map(|client| {
                    let port = cluster.nodes[client % 3].port();
                    let (login, suspended, admitted) = (&login, &suspended, &admitted);
                    let until = Instant::now() + 2 * PATIENCE;
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        while !suspended.load(Ordering::Relaxed) && Instant::now() < until {
                            if let Ok(one) = Held::try_connect(port, login) {
                                held.push(one);
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        held
                    })
                })
                .collect();
            eventually("clients that come and come", || {
                (admitted.load(Ordering::Relaxed) > 20).then_some(())
            });
            let begun = Instant::now();
            if by_command {
                init.cli(&["tenant", "suspend", "one"]).success();
            } else {
                init.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'one'");
                std::thread::sleep(Duration::from_secs(1));
            }
            suspended.store(true, Ordering::Relaxed);
            let held = clients.into_iter().flat_map(|client| client.join().expect("no panic"));
            (held.collect::<Vec<Held>>(), begun)
        });
        let took = all_closed(&mut held, begun);
        loudly(&format!("{} clients that came and came ({mode:?}, {round}): {took:?}", held.len()));
        assert!(held.len() > 20 && took < AT_MOST, "{took:?}");
    }
    all_alive(&mut others);
}

#[test]
fn nobody_slips_through_a_suspension() {
    for mode in either_mode() {
        nobody_slips_through(mode, false);
    }
}

#[test]
fn nobody_slips_through_a_suspension_by_command() {
    for mode in either_mode() {
        nobody_slips_through(mode, true);
    }
}

#[test]
fn a_tenant_in_mid_flight_on_one_server() {
    for mode in either_mode() {
        suspended(mode, 1);
    }
}

#[test]
fn a_tenant_in_mid_flight_on_three_servers() {
    for mode in either_mode() {
        suspended(mode, 3);
    }
}
