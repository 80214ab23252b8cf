//! The roles of deploy/postgres: what each can do, and what the license server's cannot, whatever it
//! tries.

mod tenants;

use nats_callout::internals::{
    Coordination as _, PostgresStore, ProvisioningStore as _, random_account_id,
};
use nats_callout::store::{CredentialStore as _, Freshness, Status, Store as _};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use super::bounds::old_postgres;
use super::logins::STATEMENTS;
use super::patient;
use crate::harness::postgres::{PostgresDatabase, PostgresServer, psql};

const SERVICE: &str = include_str!("../../../deploy/postgres/service.sql");
const README: &str = include_str!("../../../README.md");
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
    // Of a row that is refused psql says where it was refused, too, unless it is told not to.
    let row = "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'x', 'a text')";
    let said = psql(&license_server, row).unwrap_err();
    let alone = psql(&license_server, &format!("\\set SHOW_CONTEXT never\n{row}")).unwrap_err();
    assert!(
        alone.starts_with("ERROR:  users.password_hash: ") && alone.lines().count() == 1,
        "{alone}"
    );
    assert!(said.starts_with(&format!("{alone}CONTEXT:  ")), "{said}");
    // The service's own role does what the service and its commands do.
    store.heartbeat("i").await.unwrap();
    store.record_logins(&[("alice".into(), 1_800_000_000)]).await.unwrap();
    store.account_of(&alice.tenant, random_account_id().unwrap()).await.unwrap().unwrap();
    store.set_user_status(&alice.tenant.id, "alice", Status::Active).await.unwrap();
    // A user is closed; servers learn of limits, and of an end.
    assert_eq!(store.effects().await.unwrap().len(), 3);
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

/// Tenant 42 is the license server's own, with users of the operator's beside its bob; 43 is the
/// operator's.
async fn furnished(database: &PostgresDatabase<'_>, license_server: &str) {
    psql(
        license_server,
        "INSERT INTO tenants (id, name) VALUES ('42', 'x');
         INSERT INTO users (tenant_id, name, password_hash, nkey)
           VALUES ('42', 'bob', '$2b$10$bob$...', 'U' || repeat('A', 55));
         INSERT INTO tokens (user_name, token_hash, label) VALUES ('bob', repeat('a', 64), 'own')",
    )
    .unwrap();
    database.psql(
        "INSERT INTO tenants (id, name) VALUES ('43', 'x');
         INSERT INTO users (tenant_id, name, policy, password_hash) VALUES
           ('42', 'root', 'admin', '$2b$10$root$...'), ('43', 'boss', NULL, '$2b$10$boss$...');
         INSERT INTO users (tenant_id, name, kind, password_hash, publish) VALUES
           ('42', 'metrics', 'service', '$2b$10$wide$...', '[\">\"]');
         INSERT INTO tokens (id, user_name, token_hash) VALUES
           ('t', 'root', repeat('b', 64)), ('u', 'boss', repeat('c', 64))",
    );
}

const ROWS: &str = "SELECT * FROM tenants ORDER BY id; SELECT * FROM users ORDER BY name;
    SELECT * FROM tokens ORDER BY id";

/// A session of whoever logs in by this URL.
async fn session(login: &str) -> PgConnection {
    login.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

async fn run(session: &mut PgConnection, sql: &str) -> Result<(), String> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.map(drop).map_err(|error| error.to_string())
}

/// Refused by the database, each of them.
async fn refuses(login: &str, attacks: &[&str]) {
    const WORDS: [&str; 11] = [
        "permission denied",
        "must be",
        "row-level security policy",
        "duplicate key",
        "another user has it",
        "another tenant has it",
        "a license server grants no",
        "no such tenant",
        "users.name: a name of another tenant's id and a slash",
        "users.tenant_id: a name of another tenant's id and a slash",
        "no such user",
    ];
    let mut session = session(login).await;
    for attack in attacks {
        let error = run(&mut session, attack).await.expect_err(attack);
        assert!(WORDS.iter().any(|words| error.contains(words)), "{attack}\n{error}");
        assert!(!error.contains("$2b$10$"), "{error}");
    }
}

/// Without an effect, as if the rows were not there.
async fn has_no_effect(database: &PostgresDatabase<'_>, login: &str, attacks: &[&str]) {
    let before = database.psql(ROWS);
    let mut session = session(login).await;
    for attack in attacks {
        run(&mut session, attack).await.unwrap_or_else(|error| panic!("{attack}\n{error}"));
    }
    assert_eq!(database.psql(ROWS), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_makes_no_admin_and_reads_no_secret() {
    let server = PostgresServer::start();
    let database = server.database();
    let (store, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    let before = database.psql(ROWS);
    refuses(
        &license_server,
        &[
            "INSERT INTO users (tenant_id, name, policy) VALUES ('42', 'eve', 'admin')",
            "UPDATE users SET policy = 'admin' WHERE name = 'bob'",
            "INSERT INTO tenants (id, name, policy) VALUES ('44', 'x', 'admin')",
            "UPDATE tenants SET policy = 'admin' WHERE id = '42'",
            "UPDATE tenants SET account = 'BB' WHERE id = '42'",
            "UPDATE tenants SET answers = true WHERE id = '42'",
            "UPDATE tenants SET made_by = 'license_server'",
            "INSERT INTO tenants (id, name, made_by) VALUES ('44', 'x', 'postgres')",
            "INSERT INTO tenants (id, name, incarnation) VALUES ('44', 'x', 'y')",
            "INSERT INTO users (tenant_id, name) VALUES ('43', 'eve')",
            "UPDATE users SET tenant_id = '43' WHERE name = 'bob'",
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'root')",
            // Tenant 43 has it to bar a user who has no row.
            "INSERT INTO users (tenant_id, name) VALUES ('42', '43/vip')",
            "UPDATE users SET name = '43/vip' WHERE name = 'bob'",
            "UPDATE users SET name = 'root' WHERE name = 'bob'",
            "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'root', '$2b$10$eve$...')
               ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash",
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'root')
               ON CONFLICT (name) DO UPDATE SET password_hash = '$2b$10$eve$...'",
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'boss')
               ON CONFLICT (name) DO UPDATE SET tenant_id = '42'",
            "INSERT INTO tenants (id, name) VALUES ('43', 'y')
               ON CONFLICT (id) DO UPDATE SET status = 'suspended'",
            "INSERT INTO tenants (id, name) VALUES ('43', 'y')",
            "INSERT INTO tokens (user_name, token_hash) VALUES ('root', repeat('d', 64))",
            "INSERT INTO tokens (user_name, token_hash) VALUES ('boss', repeat('d', 64))",
            "INSERT INTO tokens (user_name, token_hash) VALUES ('metrics', repeat('d', 64))",
            "UPDATE tokens SET token_hash = repeat('d', 64)",
            "UPDATE tokens SET user_name = 'bob'",
            "SELECT * FROM tokens",
            "SELECT token_hash FROM tokens",
            "DELETE FROM tokens WHERE token_hash = repeat('a', 64)",
            "DELETE FROM tokens RETURNING token_hash",
            "INSERT INTO tokens (user_name, token_hash) VALUES ('bob', repeat('a', 64))
               ON CONFLICT (token_hash) DO UPDATE SET user_name = 'bob'",
            "SELECT password_hash FROM users",
            "SELECT * FROM users",
            "UPDATE users SET status = 'active' WHERE name = 'bob' RETURNING password_hash",
            "UPDATE users SET name = password_hash WHERE name = 'bob'",
            "SELECT count(*) FROM users WHERE password_hash LIKE '$2b$%'",
            "SELECT facts(u) FROM users AS u",
            "SELECT * FROM login_records",
            "SELECT * FROM user_records",
            "SELECT * FROM token_records",
            "SELECT * FROM misfits",
            "SELECT * FROM changes",
            "INSERT INTO changes (kind, key, closes) VALUES ('user', 'root', 1)",
            "DELETE FROM changes",
            "SELECT * FROM outbox",
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
            "CREATE OR REPLACE FUNCTION is_license_server() RETURNS BOOLEAN LANGUAGE sql AS \
               'SELECT FALSE'",
            "CREATE SCHEMA s",
            "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION delete_users()",
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE users DISABLE TRIGGER ALL",
            "DROP POLICY reach ON users",
            "DROP TABLE users",
            "SET ROLE nats_callout_owner",
            "SET SESSION AUTHORIZATION postgres",
            "ALTER ROLE license_server CONNECTION LIMIT 1000",
            "GRANT SELECT ON users TO license_server; SELECT password_hash FROM users",
            "SET session_replication_role = replica",
            "SET row_security = off; SELECT name FROM users",
            "CREATE ROLE eve",
        ],
    )
    .await;
    assert_eq!(database.psql(ROWS), before);
    has_no_effect(
        &database,
        &license_server,
        &[
            "UPDATE users SET password_hash = '$2b$10$eve$...' WHERE name = 'root'",
            "UPDATE users SET name = 'eve' WHERE name = 'root'",
            "UPDATE users SET tenant_id = '43' WHERE name = 'root'",
            "UPDATE users SET nkey = NULL WHERE name = 'root'",
            "UPDATE users SET kind = 'service', publish = '[\"x\"]' WHERE name = 'root'",
            "UPDATE users SET status = 'active', expires_at = NULL WHERE name = 'root'",
            "DELETE FROM users WHERE name = 'root'",
            "UPDATE users SET status = 'suspended' WHERE name = 'boss'",
            "UPDATE users SET tenant_id = '42' WHERE name = 'boss'",
            "DELETE FROM users WHERE name = 'boss'",
            "UPDATE tenants SET status = 'suspended' WHERE id = '43'",
            "UPDATE tenants SET js_storage = 1 WHERE id <> '42'",
            "DELETE FROM tenants WHERE id = '43'",
            "DELETE FROM tokens WHERE user_name <> 'bob'",
        ],
    )
    .await;
    // It sees what it reaches, and no more.
    let seen =
        "SELECT id FROM tenants; SELECT name, nkey IS NULL, certificate FROM users ORDER BY 1;
        SELECT user_name, label, expires_at, created_at IS NULL FROM tokens";
    assert_eq!(psql(&license_server, seen).unwrap(), "42\nbob|f|\nmetrics|t|\nbob|own||f\n");
    // Nor does a role that was made a member of it come by more, or less.
    database.psql("CREATE ROLE deputy LOGIN PASSWORD 'd' IN ROLE license_server");
    let deputy = database.url_of("deputy", "d");
    has_no_effect(
        &database,
        &deputy,
        &["UPDATE users SET password_hash = '$2b$10$eve$...' WHERE name IN ('root', 'boss')"],
    )
    .await;
    psql(&deputy, "UPDATE users SET status = 'suspended' WHERE name = 'bob'").unwrap();
    psql(&deputy, "INSERT INTO tenants (id, name) VALUES ('45', 'x')").unwrap();
    let bob = store.user("bob", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(bob.user.status, Status::Suspended);
    assert_eq!(
        psql(&license_server, "DELETE FROM tenants WHERE id = '45' RETURNING id").unwrap(),
        "45\n"
    );
    // A role of somebody else's sees what it was given, of one table as of all.
    database.psql(
        "CREATE ROLE reports LOGIN PASSWORD 'r'; GRANT SELECT (id) ON tenants TO reports;
         GRANT SELECT (name) ON users TO reports; GRANT SELECT (label) ON tokens TO reports",
    );
    let counts = "SELECT count(id) FROM tenants; SELECT count(name) FROM users;
        SELECT count(*) FROM (SELECT label FROM tokens) AS t";
    assert_eq!(psql(&database.url_of("reports", "r"), counts).unwrap(), "2\n4\n3\n");
    // A whole tenant goes, with its admin and with what hangs on it.
    psql(&license_server, "DELETE FROM tenants WHERE id = '42'").unwrap();
    assert!(store.user("root", Freshness::Fresh).await.unwrap().is_none());
    // The others do not depend on it.
    database.psql("DROP OWNED BY license_server; DROP ROLE license_server");
    let boss = store.user("boss", Freshness::Fresh).await.unwrap().unwrap();
    store.set_user_status(&boss.tenant.id, "boss", Status::Suspended).await.unwrap();
    assert_eq!(store.users(&boss.tenant.id).await.unwrap().len(), 1);
}

/// In the words of a database without row security, whether there is a row that it may not see, or none.
async fn what_is_not_there_for_it_is_said_to_be_absent(server: &PostgresServer) {
    let database = server.database();
    let (_, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    let mut session = session(&license_server).await;
    let token = |user: &str| {
        format!("INSERT INTO tokens (user_name, token_hash) VALUES ('{user}', repeat('d', 64))")
    };
    let user =
        |tenant: &str| format!("INSERT INTO users (tenant_id, name) VALUES ('{tenant}', 'eve')");
    let moved =
        |tenant: &str| format!("UPDATE users SET tenant_id = '{tenant}' WHERE name = 'bob'");
    for (sql, words) in [
        (token("nobody"), "tokens.user_name: no such user"),
        (token("boss"), "tokens.user_name: no such user"),
        (token("root"), "tokens.user_name: no such user"),
        (user("nowhere"), "users.tenant_id: no such tenant"),
        (user("43"), "users.tenant_id: no such tenant"),
        (moved("nowhere"), "users.tenant_id: no such tenant"),
        (moved("43"), "users.tenant_id: no such tenant"),
    ] {
        let error = run(&mut session, &sql).await.expect_err(&sql);
        assert!(error.contains(words), "{sql}\n{error}");
    }
    for sql in [token("bob"), user("42"), moved("42")] {
        run(&mut session, &sql).await.unwrap();
    }
    // What README says of the others: what reads a hash, and what to write for it.
    let (_, upsert) = README.split_once("the hash is written again:\n\n```sql\n").unwrap();
    let (upsert, _) = upsert.split_once(";\n```").unwrap();
    let upsert = upsert.replace("$1", "'$2b$10$...'");
    let excluded = upsert
        .replace("SET password_hash = '$2b$10$...'", "SET password_hash = EXCLUDED.password_hash");
    assert_ne!(upsert, excluded);
    for sql in [excluded, upsert.replace("name, status", "*")] {
        let error = run(&mut session, &sql).await.expect_err(&sql);
        assert!(error.contains("permission denied for table users"), "{sql}\n{error}");
    }
    let error = run(&mut session, &token("metrics")).await.unwrap_err();
    assert!(error.contains("new row violates row-level security policy"), "{error}");
    for _ in 0..2 {
        run(&mut session, &upsert).await.unwrap();
    }
}
