//! Users seen lately, while the table cannot be read.

use crate::harness::choice::either_mode;
use crate::harness::client;
use crate::harness::deployment::Deployment;
use crate::harness::{eventually, eventually_async, http, servers};
use crate::http::value;
use crate::within::changes::crowd::Held;

const CONFIRMED: &str = "changes can be read again";

/// Returns once all changes so far have been read: the last of them closes a connection. One that is read later
/// forgets whom it is about.
fn all_is_read(deployment: &Deployment) {
    let last = deployment.user_add("one", "last", &["--kind", "bb"]);
    let mut held = Held::connect(deployment.server.port(), &last);
    deployment.sql("UPDATE users SET status = 'suspended' WHERE name = 'last'");
    held.wait_closed();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_seen_lately_are_let_in_while_the_table_cannot_be_read_where_that_is_wanted() {
    for mode in either_mode() {
        for (stale_if_error, is_let_in) in [("\"0s\"", false), ("\"10m\"", true)] {
            let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
                init.set("stale_if_error", stale_if_error);
            });
            deployment.tenant_add("one", &[]);
            let seen = deployment.user_add("one", "seen", &["--kind", "bb"]);
            let unseen = deployment.user_add("one", "unseen", &["--kind", "bb"]);
            all_is_read(&deployment);
            let url = deployment.url();
            drop(client::connect(&url, &seen, "_INBOX_one").await.expect("it may log in"));

            let back = [deployment.hide_changes(), deployment.drop_view("login_records")];
            let log = || deployment.service.log();
            // SQLite notices once there is a change to be read; PostgreSQL takes none.
            let suspend = "UPDATE users SET status = 'suspended' WHERE name = 'seen'";
            let _ = deployment.try_sql(suspend);
            eventually("the outage", || log().contains("changes cannot be read").then_some(()));
            let during = client::connect(&url, &seen, "_INBOX_one").await;
            assert_eq!(during.is_ok(), is_let_in, "{mode:?} {stale_if_error}");
            client::connect(&url, &unseen, "_INBOX_one").await.expect_err("nobody knows it");
            let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
            assert_eq!(value(&metrics, "nats_callout_cache_stale_total") > 0.0, is_let_in);
            let refused =
                metrics.lines().find(|it| it.contains("outcome=\"denied\"") && !it.ends_with(" 0"));
            assert_eq!(refused, None, "{mode:?}: a fault of ours");
            assert!(!log().contains(CONFIRMED), "{mode:?}: nothing has changed since:\n{}", log());

            // What was changed meanwhile counts as soon as it can be read.
            back.iter().for_each(|view| drop(deployment.sql(view)));
            deployment.sql(suspend);
            eventually("the end of the outage", || log().contains(CONFIRMED).then_some(()));
            client::connect(&url, &seen, "_INBOX_one").await.expect_err("it is suspended");
            eventually_async("the other's login", || async {
                client::connect(&url, &unseen, "_INBOX_one").await.ok()
            })
            .await;
        }
    }
}

/// Who was let in by a row that has changed since is closed once that is read, however long after the change
/// he came.
mod on_sqlite {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_came_long_after_a_change_that_could_not_be_read_is_closed() {
        for mode in either_mode() {
            let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
                init.set("stale_if_error", "\"10m\"");
            });
            deployment.tenant_add("one", &[]);
            let port = deployment.server.port();
            let names = ["suspended", "deleted", "other"];
            let users = names.map(|name| deployment.user_add("one", name, &["--kind", "bb"]));
            all_is_read(&deployment);
            users.iter().for_each(|user| drop(Held::connect(port, user)));
            let back = deployment.hide_changes();
            deployment.sql(
                "UPDATE users SET status = 'suspended' WHERE name = 'suspended';
                 DELETE FROM users WHERE name = 'deleted';",
            );
            let log = || deployment.service.log();
            eventually("the outage", || log().contains("changes cannot be read").then_some(()));
            std::thread::sleep(Duration::from_secs(4));
            let [mut suspended, mut deleted, mut other] =
                [0, 1, 2].map(|n| Held::connect(port, &users[n]));
            // Longer than an instance may take to hear of a change.
            std::thread::sleep(Duration::from_secs(10));
            deployment.sql(&back);
            eventually("the end of the outage", || log().contains(CONFIRMED).then_some(()));
            suspended.wait_closed();
            deleted.wait_closed();
            assert!(other.is_alive(), "{mode:?}: nothing of his has changed");
        }
    }
}
