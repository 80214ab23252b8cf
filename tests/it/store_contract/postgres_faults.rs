//! What a login experiences while PostgreSQL is stopped, frozen, locked, full or read-only, and how
//! soon it is over: whatever is asked has its answer within the time that a login can wait.

use std::time::{Duration, Instant};

use nats_callout::keys::random_account_id;
use nats_callout::store::open::StoreOptions;
use nats_callout::store::postgres::PostgresStore;
use nats_callout::store::{
    Coordination as _, CredentialStore as _, Freshness, ProvisioningStore as _, Store as _,
    StoreError,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use super::ALICE;
use crate::harness::postgres::{PostgresDatabase, PostgresServer};

/// The bound of the default options, and a little for a busy machine.
const BOUND: Duration = Duration::from_millis(1_900);

async fn open(database: &PostgresDatabase<'_>) -> PostgresStore {
    PostgresStore::open(&database.url(), &StoreOptions::default()).await.unwrap()
}

async fn with_alice(database: &PostgresDatabase<'_>) -> PostgresStore {
    let store = open(database).await;
    database.psql(ALICE);
    store
}

async fn login(store: &PostgresStore) -> Result<bool, StoreError> {
    Ok(store.user("alice", Freshness::Fresh).await?.is_some())
}

/// Many logins at once: each fails, and in time. Those that get a connection say why.
async fn fail_in_time(store: &PostgresStore, words: &str) {
    let logins = (0..12).map(|_| async {
        let began = Instant::now();
        let answer = login(store).await;
        (answer, began.elapsed())
    });
    let mut errors = Vec::new();
    for (answer, took) in futures_util::future::join_all(logins).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(took < BOUND, "{took:?}");
        errors.push(error.to_string());
    }
    assert!(errors.iter().any(|error| error.contains(words)), "{errors:?}");
}

/// Logins work again soon.
async fn recovers(store: &PostgresStore) {
    let over = Instant::now();
    while !matches!(login(store).await, Ok(true)) {
        assert!(over.elapsed() < Duration::from_secs(2), "{:?}", over.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server() {
    let mut server = PostgresServer::start();
    let url = {
        let database = server.database();
        let store = with_alice(&database).await;
        assert!(login(&store).await.unwrap());
        store.close().await;
        let url = database.url();
        std::mem::forget(database);
        url
    };
    let store = PostgresStore::open(&url, &StoreOptions::default()).await.unwrap();
    store.news().await.unwrap();
    // All of its connections have been in use.
    futures_util::future::join_all((0..4).map(|_| login(&store))).await;
    // Started again before anybody asks: nobody sees it.
    server.restart();
    assert!(login(&store).await.unwrap());
    assert!(store.heartbeat("i").await.is_ok());
    assert!(store.news().await.is_ok());
    server.stop();
    fail_in_time(&store, "refused").await;
    let began = Instant::now();
    assert!(store.news().await.is_err());
    assert!(store.heartbeat("i").await.is_err());
    assert!(began.elapsed() < 2 * BOUND);
    server.restart();
    recovers(&store).await;
    server.kill9();
    server.restart();
    recovers(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server() {
    let server = PostgresServer::start();
    let database = server.database();
    let store = with_alice(&database).await;
    login(&store).await.unwrap();
    store.news().await.unwrap();
    for _ in 0..2 {
        server.freeze();
        fail_in_time(&store, "").await;
        // And once more, with connections that have to be made.
        fail_in_time(&store, "").await;
        let began = Instant::now();
        assert!(store.news().await.is_err());
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        server.thaw();
        recovers(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table() {
    let server = PostgresServer::start();
    let database = server.database();
    let store = with_alice(&database).await;
    let options: PgConnectOptions = database.url().parse().unwrap();
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN; LOCK TABLE users").await.unwrap();
    fail_in_time(&store, "locked").await;
    let began = Instant::now();
    let tenant = "42".parse().unwrap();
    let error = store.remove_user(&tenant, "alice").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(began.elapsed() < BOUND);
    other.execute("ROLLBACK").await.unwrap();
    recovers(&store).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(database.psql(waiting), "0\n", "nothing goes on for whom nobody waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_free_connections() {
    let server = PostgresServer::start_with(&["max_connections=12"]);
    let database = server.database();
    database.psql("CREATE ROLE someone LOGIN PASSWORD 'x'; GRANT pg_read_all_data TO someone");
    open(&database).await.close().await;
    database.psql(ALICE);
    let url = database.url_of("someone", "x");
    let store = PostgresStore::open(&url, &StoreOptions::default()).await.unwrap();
    let options: PgConnectOptions = url.parse().unwrap();
    let mut others = Vec::new();
    while let Ok(connection) = options.connect().await {
        others.push(connection);
    }
    fail_in_time(&store, "no free connection").await;
    let began = Instant::now();
    let hurried =
        StoreOptions { open_timeout: Duration::from_millis(500), ..StoreOptions::default() };
    let error = PostgresStore::open(&url, &hurried).await.unwrap_err().to_string();
    assert!(error.contains("has no free connection"), "{error}");
    assert!(began.elapsed() < BOUND);
    drop(others);
    recovers(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database() {
    let server = PostgresServer::start();
    let database = server.database();
    let store = with_alice(&database).await;
    let tenant = store.tenant(&"42".parse().unwrap()).await.unwrap().unwrap();
    let account = store.account_of(&tenant, random_account_id().unwrap()).await.unwrap();
    database.psql("INSERT INTO tenants (id, name) VALUES ('43', 'x')");
    let new = store.tenant(&"43".parse().unwrap()).await.unwrap().unwrap();
    store.close().await;
    let name = database.name();
    server.psql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let store = open(&database).await;
    assert!(login(&store).await.unwrap());
    assert_eq!(store.account_of(&tenant, random_account_id().unwrap()).await.unwrap(), account);
    store.news().await.unwrap();
    assert_eq!(store.news().await.unwrap().changes, []);
    for error in [
        store.account_of(&new, random_account_id().unwrap()).await.map(|_| ()),
        store.heartbeat("i").await,
        store.remove_tenant(&new.id).await,
    ] {
        assert!(error.unwrap_err().to_string().contains("read-only"));
    }
    assert!(login(&store).await.unwrap());
}

/// A login's deadline drops whatever it waits for: no connection may come back half-read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_leave_nothing_half_read() {
    let server = PostgresServer::start();
    let database = server.database();
    let store = with_alice(&database).await;
    database.psql("INSERT INTO users (tenant_id, name) VALUES ('42', 'bob')");
    let mut given_up = 0;
    for n in 0..300 {
        let patience = Duration::from_micros(n * 5);
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
    crate::harness::eventually("abandoned connections to end", || {
        (database.psql(ours).trim().parse::<u32>().unwrap() <= 10).then_some(())
    });
}
