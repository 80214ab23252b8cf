//! The roles of deploy/postgres: what each can do, and what the license server's cannot, whatever it
//! tries.

use nats_callout::keys::random_account_id;
use nats_callout::store::postgres::PostgresStore;
use nats_callout::store::{
    Coordination as _, CredentialStore as _, Freshness, ProvisioningStore as _, Status, Store as _,
};

use super::logins::STATEMENTS;
use super::patient;
use crate::harness::postgres::{PostgresDatabase, PostgresServer, psql};

const SERVICE: &str = include_str!("../../../deploy/postgres/service.sql");
const LICENSE_SERVER: &str = include_str!("../../../deploy/postgres/license-server.sql");

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, &patient()).await.unwrap()
}

/// A database that belongs to nobody in particular, as both files make it. Applying them again does
/// no harm.
async fn set_up(database: &PostgresDatabase<'_>) -> (PostgresStore, String) {
    database.psql(SERVICE);
    database.psql(SERVICE);
    database
        .psql("ALTER ROLE nats_callout_owner PASSWORD 'o'; ALTER ROLE nats_callout PASSWORD 's'");
    let service = database.url_of("nats_callout", "s");
    let error = PostgresStore::open(&service, &patient()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("nats_callout lacks a right, see deploy/postgres/service.sql"), "{text}");
    open(&database.url_of("nats_callout_owner", "o")).await.close().await;
    database.psql(LICENSE_SERVER);
    database.psql(LICENSE_SERVER);
    database.psql("ALTER ROLE license_server PASSWORD 'l'");
    (open(&service).await, database.url_of("license_server", "l"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contracts_statements_work_word_for_word() {
    let server = PostgresServer::start();
    let database = server.database();
    let (store, license_server) = set_up(&database).await;
    store.news().await.unwrap();
    for statement in &STATEMENTS[..5] {
        psql(&license_server, statement).unwrap();
    }
    let alice = store.user("alice", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!((alice.user.status, alice.tenant.limits.storage), (Status::Suspended, 1 << 30));
    assert!(!store.news().await.unwrap().changes.is_empty(), "its changes are noted");
    // The service's own role does what the service and its commands do.
    store.heartbeat("i").await.unwrap();
    store.record_logins(&[("alice".into(), 1_800_000_000)]).await.unwrap();
    store.account_of(&alice.tenant, random_account_id().unwrap()).await.unwrap().unwrap();
    store.set_user_status(&alice.tenant.id, "alice", Status::Active).await.unwrap();
    assert_eq!(store.effects().await.unwrap().len(), 2);
    assert_eq!(store.instances(60).await.unwrap(), ["i"]);
    // A time without an offset is in UTC.
    psql(&license_server, "UPDATE tenants SET expires_at = '2027-01-01 00:00:00'").unwrap();
    let tenant = store.tenant(&alice.tenant.id).await.unwrap().unwrap();
    assert_eq!(tenant.expires_at, Some(1_798_761_600));
    psql(&license_server, STATEMENTS[5]).unwrap();
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_none());
    assert_eq!(store.removed_accounts().await.unwrap().len(), 1);
    store.depart("i").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_makes_no_admin_and_reads_no_secret() {
    let server = PostgresServer::start();
    let database = server.database();
    let (store, license_server) = set_up(&database).await;
    database.psql(
        "INSERT INTO tenants (id, name, policy) VALUES ('42', 'x', NULL), ('43', 'x', 'admin');
         INSERT INTO users (tenant_id, name, policy, password_hash) VALUES
           ('42', 'root', 'admin', '$2b$10$root'), ('42', 'bob', NULL, '$2b$10$bob'),
           ('43', 'boss', NULL, '$2b$10$boss');
         INSERT INTO tokens (id, user_name, token_hash) VALUES ('t', 'root', repeat('a', 64))",
    );
    let rows = "SELECT * FROM users ORDER BY name; SELECT * FROM tokens";
    let before = database.psql(rows);
    // Denied, each of them.
    for attack in [
        "INSERT INTO users (tenant_id, name, policy) VALUES ('42', 'eve', 'admin')",
        "UPDATE users SET policy = 'admin' WHERE name = 'bob'",
        "INSERT INTO tenants (id, name, policy) VALUES ('44', 'x', 'admin')",
        "UPDATE tenants SET policy = 'admin' WHERE id = '42'",
        "UPDATE tenants SET account = 'BB' WHERE id = '42'",
        "UPDATE tenants SET answers = true WHERE id = '42'",
        "INSERT INTO users (tenant_id, name) VALUES ('43', 'eve')",
        "UPDATE users SET tenant_id = '43' WHERE name = 'bob'",
        "INSERT INTO users (tenant_id, name) VALUES ('42', 'root')",
        "UPDATE users SET name = 'root' WHERE name = 'bob'",
        "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'root', '$2b$10$eve')
           ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash",
        "INSERT INTO users (tenant_id, name) VALUES ('42', 'root')
           ON CONFLICT (name) DO UPDATE SET password_hash = '$2b$10$eve'",
        "INSERT INTO tokens (user_name, token_hash) VALUES ('root', repeat('b', 64))",
        "UPDATE tokens SET token_hash = repeat('b', 64)",
        "SELECT * FROM tokens",
        "DELETE FROM tokens",
        "SELECT password_hash FROM users",
        "SELECT nkey FROM users",
        "SELECT certificate FROM users",
        "SELECT * FROM users",
        "UPDATE users SET status = 'active' WHERE name = 'bob' RETURNING password_hash",
        "UPDATE users SET name = password_hash WHERE name = 'bob'",
        "SELECT count(*) FROM users WHERE password_hash LIKE '$2b$%'",
        "SELECT * FROM login_records",
        "SELECT * FROM user_records",
        "SELECT * FROM token_records",
        "SELECT * FROM changes",
        "INSERT INTO changes (kind, key, closes) VALUES ('user', 'root', 1)",
        "DELETE FROM changes",
        "SELECT * FROM tenant_accounts",
        "DELETE FROM tenant_accounts",
        "SELECT * FROM removed_accounts",
        "INSERT INTO instances (id, seen_at) VALUES ('i', 1)",
        "SELECT * FROM instances",
        "UPDATE _sqlx_migrations SET success = false",
        "TRUNCATE users",
        "CREATE TABLE t (n INT)",
        "CREATE TEMPORARY TABLE t (id TEXT)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA s",
        "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION delete_users()",
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "DROP POLICY license_server ON users",
        "DROP TABLE users",
        "SET ROLE nats_callout_owner",
        "SET SESSION AUTHORIZATION postgres",
        "GRANT SELECT ON users TO license_server; SELECT password_hash FROM users",
        "SET session_replication_role = replica",
        "CREATE ROLE eve",
    ] {
        let error = psql(&license_server, attack).expect_err(attack);
        assert!(
            ["permission denied", "must be", "violates row-level", "duplicate key"]
                .iter()
                .any(|words| error.contains(words)),
            "{attack}\n{error}"
        );
        assert!(!error.contains("$2b$10$root") && !error.contains("$2b$10$bob"), "{error}");
    }
    // As if the admin were not there.
    for attack in [
        "UPDATE users SET password_hash = '$2b$10$eve' WHERE name = 'root'",
        "UPDATE users SET name = 'eve' WHERE name = 'root'",
        "UPDATE users SET tenant_id = '43' WHERE name = 'root'",
        "UPDATE users SET nkey = NULL, certificate = 'CN=eve' WHERE name = 'root'",
        "UPDATE users SET kind = 'service', publish = '[\">\"]' WHERE name = 'root'",
        "UPDATE users SET status = 'active', expires_at = NULL WHERE name = 'root'",
        "DELETE FROM users WHERE name = 'root'",
        "UPDATE users SET status = 'suspended' WHERE name = 'boss'",
        "UPDATE users SET tenant_id = '42' WHERE name = 'boss'",
        "DELETE FROM users WHERE name = 'boss'",
    ] {
        psql(&license_server, attack).unwrap();
    }
    assert_eq!(database.psql(rows), before);
    let root = store.user("root", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(root.user.policy.as_deref(), Some("admin"));
    // Nor does a role that was made a member of it come by more.
    database.psql("CREATE ROLE deputy LOGIN PASSWORD 'd' IN ROLE license_server");
    let deputy = database.url_of("deputy", "d");
    psql(&deputy, "UPDATE users SET password_hash = '$2b$10$eve' WHERE name = 'root'").unwrap();
    psql(&deputy, "UPDATE users SET status = 'suspended' WHERE name = 'bob'").unwrap();
    let root = store.user("root", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(root.user.password_hash.as_ref().unwrap().expose(), "$2b$10$root");
    let bob = store.user("bob", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(bob.user.status, Status::Suspended);
    // A whole tenant goes, with its admin and with what hangs on it.
    psql(&license_server, "DELETE FROM tenants WHERE id = '42'").unwrap();
    assert!(store.user("root", Freshness::Fresh).await.unwrap().is_none());
    // The others do not depend on it.
    database.psql("DROP OWNED BY license_server; DROP ROLE license_server");
    let boss = store.user("boss", Freshness::Fresh).await.unwrap().unwrap();
    store.set_user_status(&boss.tenant.id, "boss", Status::Suspended).await.unwrap();
    assert_eq!(store.users(&boss.tenant.id).await.unwrap().len(), 1);
}
