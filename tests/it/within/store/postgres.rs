//! What a login experiences while PostgreSQL is stopped, frozen, locked or full, and how soon it is
//! over: whatever is asked has its answer within the time that a login can wait. And how soon a
//! change is heard of, and many that open a new database at once.

use std::time::{Duration, Instant};

use nats_callout::internals::{Change, Coordination as _, PostgresStore, ProvisioningStore as _};
use nats_callout::store::{CredentialStore as _, Freshness, Store as _, StoreError, StoreOptions};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::harness::postgres::{PostgresDatabase, PostgresServer, database};
use crate::harness::turn::{measured, measured_under_load};
use crate::harness::{depth, eventually_async};
use crate::store_contract::ALICE;
use crate::store_contract::postgres_open::refusal;

/// The bound of the default options, and a little for a busy machine.
const BOUND: Duration = Duration::from_millis(1_900);

/// What is said of a server that hangs, whatever was asked.
const SILENT: &str = "the server cannot be reached (it does not answer)";

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

/// What is new, in the order in which it was written.
async fn changes(store: &PostgresStore) -> Vec<Change> {
    store.news().await.unwrap().changes
}

/// Each of them in the time that opening waits for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_one_new_database_at_once() {
    measured_under_load();
    let database = database();
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let url = database.url();
            tokio::spawn(async move {
                PostgresStore::open(&url, &StoreOptions::default()).await.unwrap().ping().await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let twice = "SELECT count(*) - count(DISTINCT version) FROM _sqlx_migrations";
    assert_eq!(database.psql(twice), "0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server() {
    measured();
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
    measured();
    let server = PostgresServer::start();
    let database = server.database();
    let store = with_alice(&database).await;
    login(&store).await.unwrap();
    store.news().await.unwrap();
    for _ in 0..depth(1, 2) {
        server.freeze();
        fail_in_time(&store, SILENT).await;
        // And once more, with connections that have to be made.
        fail_in_time(&store, SILENT).await;
        let began = Instant::now();
        let error = store.news().await.unwrap_err().to_string();
        assert!(error.contains(SILENT), "{error}");
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        let error = store.heartbeat("i").await.unwrap_err().to_string();
        assert!(error.contains(SILENT), "{error}");
        server.thaw();
        recovers(&store).await;
    }
    server.freeze();
    let began = Instant::now();
    let text = refusal(&database.url(), Duration::from_millis(500)).await;
    assert!(text.contains(SILENT), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    server.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table() {
    measured();
    let database = database();
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
    measured();
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
    PostgresStore::open(&url, &hurried).await.unwrap_err();
    assert!(began.elapsed() < BOUND);
    // A server that is busy may not come to say so in so short a time.
    let patient = StoreOptions { open_timeout: 2 * BOUND, ..StoreOptions::default() };
    let error = PostgresStore::open(&url, &patient).await.unwrap_err().to_string();
    assert!(error.contains("has no free connection"), "{error}");
    drop(others);
    recovers(&store).await;
}

#[tokio::test]
async fn a_notice_comes_at_once() {
    measured();
    let database = database();
    let store = open(&database).await;
    changes(&store).await;
    // The listener's first notices are that it was lost and that it listens.
    eventually_async("a listener", async || {
        store.wait_for_news().await;
        let listening = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        (database.psql(listening) == "1\n").then_some(())
    })
    .await;
    let mut quickest = Duration::MAX;
    for n in 0..10 {
        while !changes(&store).await.is_empty() {}
        store.wait_for_news().await;
        let options: PgConnectOptions = database.url().parse().unwrap();
        let mut other = options.connect().await.unwrap();
        let writing = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let sql = format!("INSERT INTO tenants (id, name) VALUES ('{n}', 'x')");
            other.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
            Instant::now()
        };
        let ((), committed) = futures_util::future::join(store.wait_for_news(), writing).await;
        quickest = quickest.min(committed.elapsed());
        assert_eq!(changes(&store).await, [Change::Tenant(n.to_string())]);
    }
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
}

#[tokio::test]
async fn without_a_notice_somebody_looks_all_the_same() {
    measured();
    let database = database();
    let store = open(&database).await;
    let began = Instant::now();
    for _ in 0..8 {
        store.wait_for_news().await;
    }
    assert!(began.elapsed() < Duration::from_millis(8 * 400), "{:?}", began.elapsed());
}
