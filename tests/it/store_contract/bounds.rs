//! One row hurts its owner alone: it has a length, and what is large in the outbox is read without its
//! data. Rows from before such a rule stay, beside instances from before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use nats_callout::internals::{Misfit, PostgresStore, SqliteStore};
use nats_callout::store::{Freshness, PasswordHash, Status, Store};
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _};

use super::{ALICE, Database, on_every_database, patient, sqlite};
use crate::harness::postgres::{database, psql};

on_every_database!(what_is_too_long_is_refused, a_batch_is_bounded_and_passes_tenants_by,);

/// A list of so many bytes, of subjects as short as they may be.
fn list(bytes: usize) -> String {
    format!("[\"{}a\"]", "a\",\"".repeat((bytes - 5) / 4))
}

/// A list as it could be before, of subjects as long as they may be.
fn old_list() -> String {
    format!("[\"{}a\"]", format!("{}\",\"", "a".repeat(255)).repeat(300))
}

async fn what_is_too_long_is_refused(db: &dyn Database) {
    db.run(ALICE).await;
    let (fits, long) = (list(65_533), list(65_537));
    assert_eq!((fits.len(), long.len()), (65_533, 65_537));
    for column in ["publish", "subscribe"] {
        let words = format!("users.{column}: at most 65536 bytes");
        let insert = |list: &str| {
            format!("INSERT INTO users (tenant_id, name, {column}) VALUES ('42', 'b', '{list}')")
        };
        db.refuses(&insert(&long), &words).await;
        db.refuses(&insert(&format!("[{}]", " ".repeat(70_000))), &words).await;
        let update =
            |list: &str| format!("UPDATE users SET {column} = '{list}' WHERE name = 'alice'");
        db.refuses(&update(&long), &words).await;
        db.run(&update(&fits)).await;
        db.run(&insert(&fits)).await;
        db.run("DELETE FROM users WHERE name = 'b'").await;
    }
    let long = "x".repeat(65);
    let insert = format!("INSERT INTO tenants (id, name, incarnation) VALUES ('1', 'x', '{long}')");
    db.refuses(&insert, "tenants.incarnation: at most 64 bytes").await;
    if db.is_sqlite() {
        // Times are texts, and blanks behind one are none of its.
        let time = format!("'2027-01-01 00:00:00{}'", " ".repeat(100));
        for sql in [
            format!("UPDATE tenants SET expires_at = {time}"),
            format!("UPDATE tenants SET created_at = {time}"),
            format!("INSERT INTO tenants (id, name, updated_at) VALUES ('1', 'x', {time})"),
            format!("UPDATE users SET last_login_at = {time}"),
            format!("INSERT INTO users (tenant_id, name, expires_at) VALUES ('42', 'b', {time})"),
            format!(
                "INSERT INTO tokens (user_name, token_hash, expires_at) \
                     VALUES ('alice', '{}', {time})",
                "a".repeat(64)
            ),
        ] {
            db.refuses(&sql, "a time has at most 64 bytes").await;
        }
    }
    assert_eq!(db.kept().await.misfits().await.unwrap(), (0, vec![]));
}

async fn a_batch_is_bounded_and_passes_tenants_by(db: &dyn Database) {
    let store = db.store().await;
    let rows = |count: u32, bytes: u32| {
        match db.is_sqlite() {
        true => format!(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count})
             INSERT INTO outbox (type, tenant_id, subject, data)
             SELECT 'auth.user.updated', 't' || (n % 2), 's' || n, json_object('x', hex(zeroblob({bytes} / 2)))
             FROM c"
        ),
        false => format!(
            "INSERT INTO outbox (type, tenant_id, subject, data)
             SELECT 'auth.user.updated', 't' || (n % 2), 's' || n, json_build_object('x', repeat('y', {bytes}))
             FROM generate_series(1, {count}) AS c (n)"
        ),
    }
    };
    db.run(&rows(200, 200_000)).await;
    let read = store.pending(4_096, &[]).await.unwrap();
    let bytes: usize = read.iter().map(|event| event.data.get().len()).sum();
    assert!((16 << 20..17 << 20).contains(&bytes), "{} events of {bytes} bytes", read.len());
    let without = ["t1".to_owned(), "nobody's \" name".to_owned()];
    let read = store.pending(50, &without).await.unwrap();
    assert_eq!(read.len(), 50);
    assert!(read.iter().all(|event| event.tenant == "t0"));
    let order: Vec<u32> = read.iter().map(|event| event.subject[1..].parse().unwrap()).collect();
    assert!(order.is_sorted() && order[0] == 2, "{order:?}");
    // What no message could hold is left out, and holds nobody up.
    db.run("DELETE FROM outbox").await;
    db.run(&rows(3, 2_000_000)).await;
    let read = store.pending(4_096, &[]).await.unwrap();
    let data: BTreeSet<&str> = read.iter().map(|event| event.data.get()).collect();
    assert_eq!((read.len(), data), (3, BTreeSet::from(["{\"omitted\":true}"])));
}

macro_rules! steps {
    ($folder:literal: $($number:literal $name:literal $file:literal,)+) => {
        Migrator::with_migrations(vec![$(Migration::new(
            $number,
            $name.into(),
            MigrationType::Simple,
            include_str!(concat!("../../../src/store/migrations/", $folder, "/", $file))
                .into_sql_str(),
            false,
        )),+])
    };
    ($folder:literal) => {
        steps!($folder:
            1 "tables" "0001_tables.sql",
            2 "rules" "0002_rules.sql",
            3 "changes" "0003_changes.sql",
            4 "views" "0004_views.sql",
            5 "events" "0005_events.sql",
            6 "end of tenant" "0006_end_of_tenant.sql",
        )
    };
}

async fn migrate(connection: &mut impl Migrate, migrator: Migrator) {
    migrator.run_direct(None, connection, false).await.unwrap();
}

/// The schema in a PostgreSQL database as it was before there were lengths, and a connection of an
/// instance from then.
pub(crate) async fn old_postgres(url: &str) -> PgConnection {
    let mut old = PgConnection::connect(url).await.unwrap();
    migrate(&mut old, steps!("postgres")).await;
    old
}

async fn old_sqlite(path: &std::path::Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut old = options.connect().await.unwrap();
    migrate(&mut old, steps!("sqlite")).await;
    old
}

/// What an instance from before asks, with the same prepared statement each time.
macro_rules! logs_in {
    ($old:expr) => {{
        let login = "SELECT * FROM login_records WHERE user_name = $1";
        sqlx::query(login).bind("old").fetch_all(&mut $old).await.unwrap().len() == 1
    }};
}

const LOGIN: &str = "$2b$10$...";

/// Rows that were legal before.
fn before() -> String {
    format!(
        "INSERT INTO tenants (id, name) VALUES ('42', 'x');
         INSERT INTO users (tenant_id, name, kind, password_hash, publish)
           VALUES ('42', 'old', 'service', '{LOGIN}', '{}');
         INSERT INTO outbox (type, tenant_id, subject, data)
           VALUES ('auth.user.updated', 'x', 'x', '{{\"x\":\"{}\"}}');",
        old_list(),
        "x".repeat(600_000)
    )
}

async fn old_rows_stay(store: Arc<dyn Store>, sql: &dyn Fn(&str) -> Result<(), String>) {
    let old = store.user("old", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(old.user.publish.len(), 301);
    let misfit = ["users", "old", "publish"].map(str::to_owned);
    let [table, key, column] = misfit;
    assert_eq!(store.misfits().await.unwrap(), (1, vec![Misfit { table, key, column }]));
    let events = store.pending(100, &[]).await.unwrap();
    let omitted: Vec<bool> =
        events.iter().map(|event| event.data.get() == "{\"omitted\":true}").collect();
    assert_eq!(omitted, [false, false, true]);
    // All that a login writes, and all that leaves the list as it is.
    store.record_logins(&[("old".into(), 1_800_000_000)]).await.unwrap();
    let hash = PasswordHash::new("$argon2id$x$...");
    store.rehash("old", &PasswordHash::new(LOGIN), &hash).await.unwrap();
    store.set_user_status(&old.tenant.id, "old", Status::Suspended).await.unwrap();
    sql("UPDATE users SET name = 'older', publish = publish, expires_at = '2030-01-01'").unwrap();
    let older = store.user("older", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(older.user.password_hash.as_ref().unwrap().expose(), "$argon2id$x$...");
    assert_eq!(older.user.last_login_at, Some(1_800_000_000));
    // What changes keeps the rule.
    let error = sql(&format!("UPDATE users SET publish = '{}'", list(70_001))).unwrap_err();
    assert!(error.contains("users.publish: at most 65536 bytes"), "{error}");
    sql("UPDATE users SET publish = '[\"a\"]'").unwrap();
    assert_eq!(store.misfits().await.unwrap().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_stay_on_postgres() {
    let database = database();
    let mut old = old_postgres(&database.url()).await;
    database.psql(&before());
    assert!(logs_in!(old));
    let store = PostgresStore::open(&database.url(), &patient()).await.unwrap();
    assert!(logs_in!(old));
    old_rows_stay(Arc::new(store), &|statement| psql(&database.url(), statement).map(drop)).await;
    database.psql("UPDATE users SET name = 'old'");
    assert!(logs_in!(old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_stay_on_sqlite() {
    if !sqlite::has_shell() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenants.db");
    let mut old = old_sqlite(&path).await;
    sqlite::shell(&path, &before()).unwrap();
    assert!(logs_in!(old));
    let url = format!("sqlite://{}", path.display());
    let store = SqliteStore::open(&url, &patient()).await.unwrap();
    assert!(logs_in!(old));
    old_rows_stay(Arc::new(store), &|statement| sqlite::shell(&path, statement).map(drop)).await;
    sqlite::shell(&path, "UPDATE users SET name = 'old'").unwrap();
    assert!(logs_in!(old));
}
