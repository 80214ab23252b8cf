//! A login's deadline drops whatever it waits for, at any moment.

use std::time::Duration;

use nats_callout::internals::{Change, Coordination as _, ProvisioningStore as _};
use nats_callout::store::{CredentialStore as _, Freshness, PasswordHash};
use sqlx::{ConnectOptions as _, Connection as _};

use super::postgres::Postgres;
use super::sqlite::SqliteFile;
use super::{ALICE, Database, bob};
use crate::harness::{depth, eventually_async};

/// The times after which callers give up, up to the longest.
fn patiences(longest: Duration) -> impl Iterator<Item = Duration> {
    let rounds = depth(100, 300);
    (0..rounds).map(move |round| longest * round / rounds)
}

/// No connection comes back half-read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_leave_nothing_half_read() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(ALICE).await;
    db.run("INSERT INTO users (tenant_id, name) VALUES ('42', 'bob')").await;
    let store = database.open().await;
    let mut given_up = 0;
    for patience in patiences(Duration::from_micros(1_500)) {
        let read = store.user("bob", Freshness::Fresh);
        given_up += u32::from(tokio::time::timeout(patience, read).await.is_err());
        let write = store.heartbeat("i");
        given_up += u32::from(tokio::time::timeout(patience, write).await.is_err());
        let alice = store.user("alice", Freshness::Fresh).await.unwrap().unwrap();
        assert_eq!(alice.user.name, "alice");
    }
    assert!(given_up > 0);
    store.heartbeat("i").await.unwrap();
    let ours = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually_async("abandoned connections to end", async || {
        (db.run(ours).await[0].parse::<u32>().unwrap() <= 10).then_some(())
    })
    .await;
}

/// No lock and no connection stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_leave_no_lock() {
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    let store = file.open().await;
    let hash = PasswordHash::new("$2b$10$new$...");
    let tenant = "42".parse().unwrap();
    let mut given_up = 0;
    for patience in patiences(Duration::from_micros(900)) {
        let write = store.set_password(&tenant, "alice", &hash);
        given_up += u32::from(tokio::time::timeout(patience, write).await.is_err());
        let read = store.user("alice", Freshness::Fresh);
        given_up += u32::from(tokio::time::timeout(patience, read).await.is_err());
        let feed = store.news();
        given_up += u32::from(tokio::time::timeout(patience, feed).await.is_err());
    }
    assert!(given_up > 0);
    store.add_user(&bob()).await.unwrap();
    assert!(store.user("bob", Freshness::Fresh).await.unwrap().is_some());
    let noted = store.news().await.unwrap().changes;
    assert!(noted.contains(&Change::Everything) || noted.contains(&Change::User("bob".into())));
    let mut other =
        sqlx::sqlite::SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut other).await.unwrap();
    other.begin_with("BEGIN IMMEDIATE").await.unwrap().commit().await.unwrap();
}
