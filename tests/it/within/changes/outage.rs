//! What is changed while the service, a server or all of NATS is down counts when they are back,
//! without anybody's help.

use std::time::{Duration, Instant};

use super::accounts::{account_of, holders};
use super::{AT_MOST, Held, Marker, all_alive, all_closed, cluster, connect_all};
use crate::harness::choice::either_mode;
use crate::harness::deployment::Mode;
use crate::harness::turn::measured;
use crate::harness::{depth, eventually, loudly};

/// Longer than an instance may grant what it knew before a change.
const STALE: Duration = Duration::from_millis(2_200);

fn service_down(mode: Mode, size: usize) {
    measured();
    let mut cluster = cluster(mode, size);
    let init = &cluster.init;
    let logins: Vec<_> = ["suspended", "deleted", "kept", "limited"]
        .into_iter()
        .map(|id| (id, init.tenant_add(id, &["--memory", "8MB", "--storage", "64MB"])))
        .collect();
    let user = init.user_add("kept", "user", &["--kind", "bb"]);
    let mut held: Vec<Vec<Held>> =
        logins.iter().map(|(_, login)| connect_all(&cluster.nodes, &[login], 4 * size)).collect();
    let mut users = connect_all(&cluster.nodes, &[&user], 2 * size);
    let marker = Marker::new(&cluster);
    // They are closed however long before the change they came.
    std::thread::sleep(STALE);

    cluster.service.kill9();
    init.sql(
        "UPDATE tenants SET status = 'suspended' WHERE id = 'suspended';\n\
         DELETE FROM tenants WHERE id = 'deleted';\n\
         UPDATE users SET policy = 'bb' WHERE name = 'user';\n\
         UPDATE tenants SET max_connections = 1000 WHERE id = 'limited'",
    );
    held.iter_mut().for_each(|held| all_alive(held));
    cluster.service.restart();
    let begun = Instant::now();
    all_closed(&mut held[0], begun);
    all_closed(&mut held[1], begun);
    let took = all_closed(&mut users, begun);
    loudly(&format!("changes while the service was down ({mode:?}, {size}): {took:?}"));
    assert!(took < AT_MOST, "{took:?}");
    all_alive(&mut held[2]);
    all_alive(&mut held[3]);
    // Those who came well after the change are left alone by the next one who begins.
    std::thread::sleep(STALE);
    let mut again = connect_all(&cluster.nodes, &[&user], 2 * size);
    let mut second = cluster.init.another_service();
    assert!(cluster.service.stop().success());
    // It looks a second time after a second, of which nobody hears where it closes nobody.
    std::thread::sleep(Duration::from_millis(1_200));
    marker.wait(&cluster.init);
    all_alive(&mut again);
    assert!(second.stop().success());
}

#[test]
fn changes_while_the_service_was_down() {
    for mode in either_mode() {
        service_down(mode, 1);
    }
}

#[test]
fn changes_while_the_service_was_down_on_three_servers() {
    for mode in either_mode() {
        service_down(mode, 3);
    }
}

/// Operator mode, where servers keep the account of a tenant.
#[test]
fn an_account_whose_tenant_went_while_the_service_was_down_is_forgotten() {
    let size = depth(1, 3);
    let mut cluster = cluster(Mode::Operator, size);
    let login = cluster.init.tenant_add("one", &[]);
    drop(connect_all(&cluster.nodes, &[&login], size));
    let account = account_of(&cluster.init, "one");
    assert_eq!(holders(&cluster, &account).len(), size);
    cluster.service.kill9();
    cluster.init.sql("DELETE FROM tenants WHERE id = 'one'");
    cluster.service.restart();
    eventually("the account is forgotten", || holders(&cluster, &account).is_empty().then_some(()));
}

/// A server that was down when an account was removed, and has it back from its own disk.
#[test]
fn a_server_that_missed_the_order_forgets_the_account_when_it_is_back() {
    let mut cluster = cluster(Mode::Operator, 3);
    let login = cluster.init.tenant_add("one", &[]);
    drop(connect_all(&cluster.nodes, &[&login], 3));
    let account = account_of(&cluster.init, "one");
    assert_eq!(holders(&cluster, &account), [0, 1, 2]);
    cluster.nodes[2].kill9();
    cluster.init.sql("DELETE FROM tenants WHERE id = 'one'");
    eventually("those that are up forget it", || {
        (holders(&cluster, &account) == [2]).then_some(())
    });
    cluster.nodes[2].restart();
    let begun = Instant::now();
    eventually("the other one too", || holders(&cluster, &account).is_empty().then_some(()));
    loudly(&format!("a server that was back forgot an account after {:?}", begun.elapsed()));
}

/// A server that hangs delays nobody for long, and closes its connections once it goes on.
fn hung_server(mode: Mode) {
    measured();
    let cluster = cluster(mode, 3);
    let init = &cluster.init;
    let login = init.tenant_add("one", &[]);
    let other = init.tenant_add("two", &[]);
    let (healthy, hung) = cluster.nodes.split_at(2);
    let mut on_healthy = connect_all(healthy, &[&login], 6);
    let mut on_hung = connect_all(hung, &[&login], 3);
    let mut others = connect_all(&cluster.nodes, &[&other], 6);
    hung[0].freeze();
    let begun = Instant::now();
    let output = init.cli(&["--json", "tenant", "suspend", "one"]).success();
    let command = begun.elapsed();
    assert!(output.stderr.contains("does not answer"), "{}", output.stderr);
    assert!(output.json()["kicked"].as_u64() >= Some(6), "{}", output.stdout);
    let took = all_closed(&mut on_healthy, begun);
    loudly(&format!("one of three servers hangs ({mode:?}): {took:?}, command {command:?}"));
    assert!(took < AT_MOST && command < 2 * AT_MOST, "{took:?}, {command:?}");
    hung[0].thaw();
    let begun = Instant::now();
    let took = all_closed(&mut on_hung, begun);
    loudly(&format!("it goes on ({mode:?}): its connections are closed after {took:?}"));
    assert!(took < 4 * AT_MOST, "{took:?}");
    all_alive(&mut others);
}

#[test]
fn a_server_that_hangs() {
    for mode in either_mode() {
        hung_server(mode);
    }
}

/// Its peers have not heard of its end, and count it for minutes beside the one that came after it.
#[test]
fn a_server_that_was_killed_is_missed_by_nobody() {
    measured();
    let mut cluster = cluster(Mode::Config, 3);
    let login = cluster.init.tenant_add("one", &[]);
    cluster.nodes[2].kill9();
    cluster.restart(2);
    let mut held = connect_all(&cluster.nodes, &[&login], 6);
    let output = cluster.init.cli(&["--json", "tenant", "suspend", "one"]).success();
    assert!(!output.stderr.contains("not answer"), "{}", output.stderr);
    assert_eq!(output.json()["kicked"].as_u64(), Some(6), "{}", output.stdout);
    all_closed(&mut held, Instant::now());
}

/// It may have clients of its own: nothing says that they are gone. It takes minutes until no server is
/// so young that it may stand where the missing one stood.
#[test]
fn a_server_that_is_cut_off_is_missed() {
    if !depth(false, true) {
        return loudly("not run: it takes more than four minutes");
    }
    let mut cluster = cluster(Mode::Config, 3);
    let login = cluster.init.tenant_add("one", &[]);
    std::thread::sleep(Duration::from_secs(4 * 60 + 5));
    // Bare clients, which a server gives up that hears nothing of them for a minute.
    let mut held = connect_all(&cluster.nodes[..2], &[&login], 6);
    cluster.cut_off(2);
    let output = cluster.init.cli(&["--json", "tenant", "suspend", "one"]).success();
    assert!(output.stderr.contains("does not answer"), "{}", output.stderr);
    assert_eq!(output.json()["kicked"].as_u64(), Some(6), "{}", output.stdout);
    all_closed(&mut held, Instant::now());
}

#[test]
fn without_nats_the_change_is_made_and_said_so() {
    for mode in [Mode::Operator, Mode::Config] {
        let mut cluster = cluster(mode, 1);
        let login = cluster.init.tenant_add("one", &[]);
        let app = cluster.init.user_add("one", "app", &["--kind", "bb"]);
        Held::connect(cluster.nodes[0].port(), &login);
        cluster.nodes[0].kill9();
        for args in [
            &["--json", "user", "suspend", "one", "app"][..],
            &["--json", "user", "resume", "one", "app"],
            &["--json", "tenant", "suspend", "one"],
        ] {
            let output = cluster.init.cli(args).success();
            assert_eq!(output.json(), serde_json::json!({ "kicked": null }), "{args:?}");
            assert!(output.stderr.contains("warning"), "{}", output.stderr);
        }
        if mode == Mode::Operator {
            let output = cluster.init.cli(&["tenant", "remove", "one", "--yes", "--purge"]);
            assert_eq!(output.status, 1, "{output:?}");
            assert!(output.stderr.contains("nothing was removed"), "{}", output.stderr);
        }
        cluster.nodes[0].restart();
        // The instance was not asked: it follows by itself.
        for login in [&login, &app] {
            eventually("the suspension", || {
                Held::try_connect(cluster.nodes[0].port(), login).is_err().then_some(())
            });
        }
        let output = cluster.init.cli(&["--json", "tenant", "remove", "one", "--yes"]).success();
        assert_eq!(output.json(), serde_json::json!({ "kicked": 0 }), "{}", output.stderr);
    }
}
