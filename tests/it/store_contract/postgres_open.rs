//! Opening a PostgreSQL database: its schema, TLS, and what is wrong with it. (Several at once are in
//! `within::store`.)

use std::process::Command;
use std::time::Duration;

use nats_callout::internals::{
    Coordination as _, PostgresStore, ProvisioningStore as _, random_account_id,
};
use nats_callout::store::{CredentialStore as _, Freshness, Store as _, StoreOptions, open};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use super::postgres::Postgres;
use super::{ALICE, Database, patient};
use crate::harness::postgres::{PostgresServer, database, shared};
use crate::harness::{PATIENCE, loudly, ports};

/// Why nothing opens within this time.
pub(crate) async fn refusal(url: &str, within: Duration) -> String {
    let options = StoreOptions { open_timeout: within, ..StoreOptions::default() };
    let error = open(url, &options).await.expect_err("it opened");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("of-the-tests") && !text.contains("hunter2"), "{text}");
    error.to_string()
}

async fn open_patiently(url: &str) -> PostgresStore {
    PostgresStore::open(url, &patient()).await.unwrap()
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_hold_no_password() {
    let server = shared();
    let database = server.database();
    server.psql(
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0;
         CREATE ROLE nobody LOGIN PASSWORD 'hunter2';
         CREATE ROLE forgetful LOGIN PASSWORD 'swordfish'",
    );
    let (host, name) = (format!("127.0.0.1:{}", server.port()), database.name());
    let url = |user: &str, rest: &str| format!("postgres://{user}:hunter2@{rest}");
    let super_url = |name: &str| server.url("postgres", "of-the-tests", name);
    for (url, wanted) in [
        (url("forgetful", &format!("{host}/{name}")), vec!["the user forgetful is not let in"]),
        (url("ghost", &format!("{host}/{name}")), vec!["the user ghost is not let in"]),
        (super_url("gone"), vec!["gone on 127.0.0.1", "does not exist; create it with CREATE"]),
        (super_url("latin"), vec!["its encoding is LATIN1; create it with ENCODING 'UTF8'"]),
        (
            url("x", &format!("127.0.0.1:{}/x", ports::free())),
            vec!["x on 127.0.0.1", "cannot be reached", "refused", "start it, or correct host"],
        ),
        (url("nobody", &format!("{host}/{name}")), vec!["nobody lacks a right", "service.sql"]),
        (
            super_url(&format!("{name}?sslmode=require")),
            vec!["no connection over TLS", "server does not support TLS", "correct sslmode"],
        ),
        (super_url(&format!("{name}?sslmode=odd")), vec!["URL cannot be read", "postgres://USER"]),
        ("postgres://x:hunter2@host:port/x".into(), vec!["URL cannot be read"]),
        ("mysql://x:hunter2@host/x".into(), vec!["no database that this build knows"]),
    ] {
        let text = refusal(&url, PATIENCE).await;
        for words in wanted {
            assert!(text.contains(words), "{text}\nnot: {words}");
        }
    }
    // Who answers for names may take its time.
    let text = refusal(&url("x", "no-such-host.invalid/x"), Duration::from_millis(500)).await;
    assert!(text.contains("no-such-host.invalid:5432") && text.contains("be reached"), "{text}");
    // Nothing is left behind by those that failed.
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0\n");
}

#[tokio::test]
async fn the_database_of_another_program_stays_as_it_is() {
    let database = database();
    database.psql("CREATE TABLE users (id INT)");
    let text = refusal(&database.url(), PATIENCE).await;
    assert!(text.contains("is it the database of another program?"), "{text}");
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1\n");
}

#[tokio::test]
async fn the_schemas_version_is_readable_and_may_be_newer() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(ALICE).await;
    let version: i64 = db.run("SELECT version FROM schema_version").await[0].parse().unwrap();
    let older = database.open().await;
    assert_eq!(older.ping().await.unwrap(), version);
    assert!(older.user("alice", Freshness::Fresh).await.unwrap().is_some());
    db.run(
        "ALTER TABLE tenants ADD COLUMN added_later TEXT;
         DROP VIEW login_records;
         CREATE VIEW login_records AS SELECT u.*, t.*, 1 AS added_later FROM user_records AS u
           JOIN tenant_records AS t ON t.tenant_id = u.user_tenant_id;
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
           VALUES (9999, 'of a later release', TRUE, '', 0)",
    )
    .await;
    for store in [older, database.open().await] {
        assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
        assert_eq!(store.ping().await.unwrap(), 9999);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_is_brought_up_to_date_once_nobody_locks_it() {
    let database = Postgres::new();
    let db: &dyn Database = &database;
    db.run(ALICE).await;
    // As the release before would have left it.
    db.run("DROP VIEW schema_version; DELETE FROM _sqlx_migrations WHERE version = 4").await;
    let text = refusal(&database.url(), PATIENCE).await;
    assert!(text.contains("cannot be brought up to date"), "4 is not to be applied twice: {text}");
    db.run(
        "DROP VIEW login_records, token_records, user_records, tenant_records, change_records;
         DROP FUNCTION datetime",
    )
    .await;
    let options: PgConnectOptions = database.url().parse().unwrap();
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN; LOCK TABLE _sqlx_migrations").await.unwrap();
    let text = refusal(&database.url(), Duration::from_secs(2)).await;
    assert!(text.contains("since others lock them"), "{text}");
    other.execute("ROLLBACK").await.unwrap();
    let store = database.open().await;
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
}

#[tokio::test]
async fn everything_lies_in_the_first_schema_of_the_search_path() {
    let database = database();
    database.psql("CREATE SCHEMA auth");
    let url = format!("{}?options=-c%20search_path%3Dauth", database.url());
    let store = open_patiently(&url).await;
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0\n");
    // Whoever writes with another search path is noted all the same.
    store.user("alice", Freshness::Fresh).await.unwrap();
    let written = "INSERT INTO auth.tenants (id, name) VALUES ('42', 'x');
        INSERT INTO auth.users (tenant_id, name, publish) VALUES ('42', 'alice', '[\"a\"]');
        SELECT count(*) FROM auth.changes";
    assert_eq!(database.psql(written), "2\n");
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database() {
    let database = database();
    let store = open_patiently(&database.url()).await;
    database.psql(ALICE);
    let tenant = store.tenant(&"42".parse().unwrap()).await.unwrap().unwrap();
    let account = store.account_of(&tenant, random_account_id().unwrap()).await.unwrap();
    database.psql("INSERT INTO tenants (id, name) VALUES ('43', 'x')");
    let new = store.tenant(&"43".parse().unwrap()).await.unwrap().unwrap();
    store.close().await;
    let name = database.name();
    database.psql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let store = open_patiently(&database.url()).await;
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
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
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
}

/// What openssl makes: a CA and a certificate for `localhost`.
fn certificates(folder: &std::path::Path) -> bool {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").current_dir(folder).args(args).output().ok();
        output.is_some_and(|output| output.status.success())
    };
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost").unwrap();
    let ca = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca"];
    openssl(&[&ca[..], &["-keyout", "ca.key", "-out", "ca.crt"]].concat())
        && openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=server",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ])
        && openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "san",
            "-out",
            "server.crt",
        ])
}

#[tokio::test]
async fn tls_is_what_the_url_demands() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) || !certificates(other.path()) {
        return loudly("SKIPPED: no openssl on PATH; TLS to PostgreSQL is not tried");
    }
    let server = PostgresServer::start();
    let database = server.database();
    let data = server.folder().join("data");
    for name in ["server.crt", "server.key"] {
        server.give(name, &std::fs::read(folder.path().join(name)).unwrap());
    }
    server.psql("ALTER SYSTEM SET ssl = on");
    std::fs::write(data.join("pg_hba.conf"), "hostssl all all all scram-sha-256\n").unwrap();
    server.reload();
    let ca = folder.path().join("ca.crt").display().to_string();
    let wrong_ca = other.path().join("ca.crt").display().to_string();
    let url = |host: &str, mode: &str, ca: &str| {
        let url = database.url().replace("127.0.0.1", host);
        let ca = if ca.is_empty() { String::new() } else { format!("&sslrootcert={ca}") };
        format!("{url}?sslmode={mode}{ca}")
    };
    crate::harness::eventually("TLS", || {
        crate::harness::postgres::psql(&url("127.0.0.1", "require", ""), "SELECT 1").ok()
    });
    for (host, mode, ca) in [
        ("localhost", "verify-full", &*ca),
        ("127.0.0.1", "verify-ca", &ca),
        ("127.0.0.1", "require", ""),
        ("127.0.0.1", "prefer", ""),
    ] {
        let url = url(host, mode, ca);
        let store = open_patiently(&url).await;
        store.ping().await.unwrap();
        let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'nats-callout' AND NOT ssl";
        assert_eq!(database.psql(plain), "0\n", "{mode}");
        store.close().await;
    }
    for (host, mode, ca, words) in [
        (
            "127.0.0.1",
            "verify-full",
            &*ca,
            "certificate is not for `127.0.0.1`, but for `localhost`",
        ),
        ("localhost", "verify-full", &wrong_ca, "its authority in sslrootcert of the URL"),
        ("127.0.0.1", "verify-ca", &wrong_ca, "its authority in sslrootcert of the URL"),
        ("localhost", "verify-full", "/no/such/file", "correct sslmode and sslrootcert"),
        ("127.0.0.1", "disable", "", "is not let in"),
    ] {
        let text = refusal(&url(host, mode, ca), PATIENCE).await;
        assert!(text.contains(words), "{host} {mode}: {text}");
    }
}
