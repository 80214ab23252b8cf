//! How PostgreSQL tells of changes: commits that overtake each other, transactions that stay open,
//! and listeners that are lost.

use std::time::{Duration, Instant};

use nats_callout::internals::{Change, Closes, Coordination as _, PostgresStore};
use nats_callout::store::Store as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::postgres::Postgres;
use super::{ALICE, Database, TENANT};
use crate::harness::{depth, eventually_async};

async fn connection(database: &Postgres) -> PgConnection {
    database.url().parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

/// What is new, in the order in which it was written.
async fn changes(store: &PostgresStore) -> Vec<Change> {
    store.news().await.unwrap().changes
}

fn tenant(id: &str) -> Change {
    Change::Tenant(id.into())
}

async fn insert(connection: &mut PgConnection, id: &'static str) {
    let sql = format!("INSERT INTO tenants (id, name) VALUES ('{id}', 'x')");
    connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
}

#[tokio::test]
async fn commits_that_overtake_each_other_are_told_once_each() {
    let database = Postgres::new();
    let store = database.open().await;
    changes(&store).await;
    let (mut early, mut late) = (connection(&database).await, connection(&database).await);
    early.execute("BEGIN").await.unwrap();
    late.execute("BEGIN").await.unwrap();
    insert(&mut early, "early").await;
    insert(&mut late, "late").await;
    late.execute("COMMIT").await.unwrap();
    assert_eq!(changes(&store).await, [tenant("late")]);
    assert_eq!(changes(&store).await, []);
    early.execute("COMMIT").await.unwrap();
    assert_eq!(changes(&store).await, [tenant("early")], "its number is the lower one");
    assert_eq!(changes(&store).await, []);
    early.execute("BEGIN").await.unwrap();
    insert(&mut early, "never").await;
    early.execute("ROLLBACK").await.unwrap();
    assert_eq!(changes(&store).await, []);
}

/// A restore brings the transaction ids of another server, which this one may be far from.
#[tokio::test]
async fn changes_that_came_with_a_restore_are_told_no_more_than_once() {
    let database = Postgres::new();
    let store = database.open().await;
    let db: &dyn Database = &database;
    db.run(TENANT).await;
    changes(&store).await;
    db.run("UPDATE changes SET xid = '900000000'").await;
    for _ in 0..3 {
        assert_eq!(changes(&store).await, []);
    }
    database.open().await.close().await;
    changes(&store).await;
    assert_eq!(changes(&store).await, []);
    let foreign =
        "SELECT count(*) FROM changes WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())";
    assert_eq!(db.run(foreign).await, ["0"]);
}

/// Eight writers with transactions that end in any order, against readers that may lose nothing and
/// are told nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_told_twice() {
    let each = depth(20, 60);
    let database = Postgres::new();
    let store = std::sync::Arc::new(database.open().await);
    changes(&store).await;
    let writers = (0..8).map(|writer| {
        let url = database.url();
        tokio::spawn(async move {
            let options: PgConnectOptions = url.parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            for n in 0..each {
                let mut transaction = connection.begin().await.unwrap();
                let sql = format!("INSERT INTO tenants (id, name) VALUES ('{writer}-{n}', 'x')");
                transaction.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
                tokio::time::sleep(Duration::from_millis((writer * n as u64) % 7)).await;
                transaction.commit().await.unwrap();
            }
        })
    });
    let mut writing = tokio::task::JoinSet::new();
    for writer in writers.collect::<Vec<_>>() {
        writing.spawn(async move { writer.await.unwrap() });
    }
    let mut told: Vec<String> = Vec::new();
    loop {
        let over = writing.is_empty();
        for change in changes(&store).await {
            match change {
                Change::Tenant(id) => told.push(id),
                other => panic!("{other:?}"),
            }
        }
        if over {
            break;
        }
        while let Some(ended) = writing.try_join_next() {
            ended.unwrap();
        }
    }
    assert_eq!(told.len(), 8 * each);
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 8 * each, "nothing is told twice");
}

#[tokio::test]
async fn a_transaction_that_stays_open_slows_nothing_and_loses_nothing() {
    let database = Postgres::new();
    (&database as &dyn Database).run(TENANT).await;
    let store = database.open().await;
    changes(&store).await;
    let mut open = connection(&database).await;
    open.execute("BEGIN; UPDATE tenants SET js_memory = 1").await.unwrap();
    let mut other = connection(&database).await;
    let (batches, rows) = depth((3, 1_000), (10, 2_000));
    for _ in 0..batches {
        let many = format!(
            "INSERT INTO users (tenant_id, name)
             SELECT '42', gen_random_uuid() FROM generate_series(1, {rows})"
        );
        other.execute(sqlx::AssertSqlSafe(many)).await.unwrap();
        assert_eq!(changes(&store).await.len(), rows);
    }
    assert_eq!(changes(&store).await, []);
    let read = read_by_news(&store, &mut other).await;
    for _ in 0..20 {
        assert_eq!(changes(&store).await, []);
    }
    let read = read_by_news(&store, &mut other).await - read;
    assert!(read <= 20, "{read} old changes were read again by 20 calls");
    open.execute("COMMIT").await.unwrap();
    assert_eq!(changes(&store).await, [tenant("42")]);
    assert_eq!(changes(&store).await, []);
}

/// How many rows of `changes` have been fetched by way of the index of transactions.
async fn read_by_news(store: &PostgresStore, connection: &mut PgConnection) -> i64 {
    // A session reports what it did at the end of a transaction, once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(changes(store).await, []);
    let sql =
        "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'changes'";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_change_is_as_old_as_its_commit() {
    let database = Postgres::new();
    (&database as &dyn Database).run(ALICE).await;
    let store = database.open().await;
    let mut open = connection(&database).await;
    open.execute("BEGIN; UPDATE tenants SET status = 'suspended'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    open.execute("COMMIT").await.unwrap();
    let effects = store.effects().await.unwrap();
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].closes, Closes::Everything);
    // A transaction of less than 100 ms is told from when it wrote.
    let at_most = began.elapsed() + Duration::from_millis(100);
    assert!(effects[0].age <= at_most, "{:?}, not {at_most:?}", effects[0].age);
}

#[tokio::test]
async fn a_lost_listener_forgets_everything_and_listens_again() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(TENANT).await;
    let store = database.open().await;
    let listening = async |wanted: &str| {
        eventually_async("listeners", async || {
            store.wait_for_news().await;
            let sql = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'LISTEN %'";
            (db.run(sql).await == [wanted]).then_some(())
        })
        .await;
    };
    listening("1").await;
    while !changes(&store).await.is_empty() {}
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN %'";
    assert_eq!(db.run(ended).await, ["t"]);
    let noticed = async || {
        store.wait_for_news().await;
        (changes(&store).await == [Change::Everything]).then_some(())
    };
    eventually_async("the loss to be noticed", noticed).await;
    listening("1").await;
    while !changes(&store).await.is_empty() {}
    db.run("UPDATE tenants SET status = 'suspended'").await;
    assert_eq!(changes(&store).await, [tenant("42")]);
}

/// The connections of stores.
const READERS: &str = "FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'nats-callout'";

#[tokio::test]
async fn a_lost_connection_of_the_reader_forgets_everything() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(TENANT).await;
    let store = database.open().await;
    changes(&store).await;
    // Those that were closed before may take a moment to go.
    eventually_async("the reader to be alone", async || {
        (db.run(&format!("SELECT count(*) {READERS}")).await == ["1"]).then_some(())
    })
    .await;
    let ended = format!("SELECT count(pg_terminate_backend(pid)) {READERS}");
    assert_eq!(db.run(&ended).await, ["1"]);
    assert_eq!(changes(&store).await, [Change::Everything]);
    db.run("UPDATE tenants SET status = 'suspended'").await;
    assert_eq!(changes(&store).await, [tenant("42")]);
    store.close().await;
}

#[tokio::test]
async fn deleted_notes_are_everything_to_whoever_has_not_read_them() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(TENANT).await;
    let other = database.open().await;
    changes(&other).await;
    db.run("UPDATE tenants SET js_memory = 1").await;
    db.run("SELECT 1; DELETE FROM changes").await;
    assert_eq!(changes(&other).await, [Change::Everything]);
    assert_eq!(changes(&other).await, []);
    db.run("UPDATE tenants SET js_memory = 2").await;
    assert_eq!(changes(&other).await, [tenant("42")]);
}

#[tokio::test]
async fn what_would_go_unnoticed_is_refused() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(ALICE).await;
    for table in ["tenants", "users", "tokens", "tenant_accounts", "changes"] {
        db.refuses(&format!("TRUNCATE {table} CASCADE"), "TRUNCATE would go unnoticed").await;
    }
    db.refuses("UPDATE tenants SET incarnation = 'x'", "tenants.incarnation: never changes").await;
}
