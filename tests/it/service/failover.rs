//! The database's primary dies, and a real standby that streamed from it takes over.

use crate::harness::choice::either_mode;
use crate::harness::client;
use crate::harness::deployment::{Deployment, Initialised, Table};
use crate::harness::postgres::PostgresServer;
use crate::harness::{eventually, eventually_async, servers};
use crate::within::changes::crowd::Held;

const ROLE: &str = "service";

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_promoted_is_written_to_and_read_from() {
    for mode in either_mode() {
        let mut primary = PostgresServer::start();
        primary.psql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"));
        primary.psql(&format!("CREATE DATABASE tenants OWNER {ROLE}"));
        let Some(standby) = PostgresServer::standby_of(&primary) else { return };
        let hosts = [&primary, &standby].map(|it| format!("127.0.0.1:{}", it.port())).join(",");
        let url =
            format!("postgres://{ROLE}:{ROLE}@{hosts}/tenants?target_session_attrs=read-write");
        let deployment = Deployment::start_initialised(servers::version(), &[], || {
            Initialised::on(mode, Table::OwnPostgres(url.clone()))
        });
        let one = deployment.tenant_add("one", &[]);
        let mut ones = Held::connect(deployment.server.port(), &one);
        let written = primary.psql("SELECT pg_current_wal_lsn()");
        let is_there = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", written.trim());
        eventually("the standby", || (standby.psql(&is_there) == "t\n").then_some(()));

        primary.kill9();
        assert_eq!(standby.psql("SELECT pg_promote()"), "t\n");
        let takes =
            format!("this database server takes writes server=\"127.0.0.1:{}\"", standby.port());
        let log = || deployment.service.log();
        eventually("the other server", || log().contains(&takes).then_some(()));
        // Whoever was there is there, rows of before and after let in, and changes count.
        let url = deployment.url();
        let login = async |it| client::connect(&url, it, "_INBOX_one").await;
        eventually_async("a login by a row from before", async || login(&one).await.ok()).await;
        assert!(ones.is_alive(), "{mode:?}: nobody is closed by it");
        let two = deployment.tenant_add("two", &[]);
        login(&two).await.expect("a row from after");
        deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'one'");
        ones.wait_closed();
        login(&one).await.expect_err("it is suspended");
        login(&two).await.expect("nobody else is");
    }
}
