//! What it can do within its tenants, and where that ends.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_can_do_within_its_tenants() {
    let server = PostgresServer::start();
    it_grants_no_account_and_no_interface_of_the_servers(&server).await;
    it_takes_no_identity_over(&server).await;
    what_is_not_there_for_it_is_said_to_be_absent(&server).await;
    it_reaches_nobody_with_a_policy_of_ones_own(&server).await;
    it_gives_and_takes_tokens_of_its_users(&server).await;
    a_tenant_is_handed_over(&server).await;
    its_accidents_end_by_themselves(&server).await;
    it_may_do_without_bounds_of_its_own(&server).await;
    an_upgrade_leaves_it_what_may_be_its_own(&server).await;
}

/// Whoever has a whole account's subjects, or the server's interfaces, is an admin of it.
async fn it_grants_no_account_and_no_interface_of_the_servers(server: &PostgresServer) {
    let database = server.database();
    let (store, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    let mut writer = session(&license_server).await;
    for list in [
        r#"[">"]"#,
        r#"["*"]"#,
        r#"["*.>"]"#,
        r#"["*.API.STREAM.DELETE.ORDERS"]"#,
        r#"["orders.*", ">"]"#,
        r#"["$JS.API.>"]"#,
        r#"["$SYS.REQ.USER.INFO"]"#,
        r#"["$KV.config.>"]"#,
        r#"["\u003e"]"#,
        r#"["\u0024JS.API.>"]"#,
        r#"["a", "\u002a"]"#,
    ] {
        for column in ["publish", "subscribe"] {
            let insert = format!(
                "INSERT INTO users (tenant_id, name, kind, {column})
                 VALUES ('42', 'eve', 'service', '{list}')"
            );
            let update = format!("UPDATE users SET {column} = '{list}' WHERE name = 'bob'");
            let upsert = format!(
                "INSERT INTO users (tenant_id, name) VALUES ('42', 'bob')
                 ON CONFLICT (name) DO UPDATE SET {column} = '{list}'"
            );
            for sql in [insert, update, upsert] {
                let error = run(&mut writer, &sql).await.expect_err(&sql);
                let expected = format!("users.{column}: a license server grants no subject that");
                assert!(error.contains(&expected), "{sql}\n{error}");
            }
        }
    }
    // One that the operator made so: it may be barred and removed, and given no credential.
    refuses(
        &license_server,
        &[
            "UPDATE users SET password_hash = '$2b$10$eve$...' WHERE name = 'metrics'",
            "UPDATE users SET nkey = 'U' || repeat('B', 55) WHERE name = 'metrics'",
            "UPDATE users SET kind = 'bb' WHERE name = 'metrics'",
        ],
    )
    .await;
    let metrics = async || store.user("metrics", Freshness::Fresh).await.unwrap();
    psql(&license_server, "UPDATE users SET status = 'suspended' WHERE name = 'metrics'").unwrap();
    assert_eq!(metrics().await.unwrap().user.status, Status::Suspended);
    // What the operator writes is his to write, and the service's own writes are not asked.
    database
        .psql("UPDATE users SET subscribe = '[\">\"]', status = 'active' WHERE name = 'metrics'");
    store.record_logins(&[("metrics".into(), 1_800_000_000)]).await.unwrap();
    psql(&license_server, "DELETE FROM users WHERE name = 'metrics'").unwrap();
    assert!(metrics().await.is_none());
}

/// A certificate has names that the database does not know: only logins can tell whose it is.
async fn it_takes_no_identity_over(server: &PostgresServer) {
    let database = server.database();
    let (_store, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    database.psql(
        "UPDATE users SET nkey = 'U' || repeat('C', 55), certificate = 'CN=boss,O=Corp'
         WHERE name = 'boss'; UPDATE users SET certificate = 'bob@x.example' WHERE name = 'bob'",
    );
    let before = database.psql(ROWS);
    refuses(
        &license_server,
        &[
            "INSERT INTO users (tenant_id, name, certificate) VALUES ('42', 'trap', 'boss@corp.example')",
            "INSERT INTO users (tenant_id, name, certificate) VALUES ('42', 'trap', 'CN=boss,O=Corp')",
            "UPDATE users SET certificate = 'boss@corp.example' WHERE name = 'bob'",
            "INSERT INTO users (tenant_id, name, nkey) VALUES ('42', 'trap', 'U' || repeat('C', 55))",
            "UPDATE users SET nkey = 'U' || repeat('C', 55) WHERE name = 'bob'",
        ],
    )
    .await;
    assert_eq!(database.psql(ROWS), before);
    let own = "SELECT certificate FROM users WHERE certificate IS NOT NULL";
    assert_eq!(psql(&license_server, own).unwrap(), "bob@x.example\n");
}

/// A policy of the operator's own may be as good as an admin's, whatever its name: whoever has it, by
/// himself or by his tenant, is out of its reach.
async fn it_reaches_nobody_with_a_policy_of_ones_own(server: &PostgresServer) {
    let database = server.database();
    let (_store, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    database.psql(
        "INSERT INTO tenants (id, name, made_by, policy) VALUES ('44', 'x', 'license_server', 'own');
         INSERT INTO users (tenant_id, name) VALUES ('44', 'carol');
         UPDATE users SET policy = 'own' WHERE name = 'bob'",
    );
    refuses(
        &license_server,
        &[
            "INSERT INTO users (tenant_id, name) VALUES ('44', 'eve')",
            "INSERT INTO tokens (user_name, token_hash) VALUES ('carol', repeat('d', 64))",
            "INSERT INTO tokens (user_name, token_hash) VALUES ('bob', repeat('d', 64))",
        ],
    )
    .await;
    has_no_effect(
        &database,
        &license_server,
        &[
            "UPDATE users SET password_hash = '$2b$10$eve$...' WHERE name IN ('bob', 'carol')",
            "UPDATE users SET nkey = 'U' || repeat('B', 55) WHERE name = 'carol'",
            "DELETE FROM users WHERE name IN ('bob', 'carol')",
            "DELETE FROM tokens",
        ],
    )
    .await;
    assert_eq!(psql(&license_server, "SELECT name FROM users").unwrap(), "metrics\n");
}

async fn it_gives_and_takes_tokens_of_its_users(server: &PostgresServer) {
    let database = server.database();
    let (store, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    let added = psql(
        &license_server,
        "INSERT INTO tokens (user_name, token_hash, label, expires_at)
           VALUES ('bob', repeat('e', 64), 'phone', '2027-01-01') RETURNING length(id)",
    );
    assert_eq!(added.unwrap(), "12\n");
    psql(&license_server, "UPDATE users SET name = 'robert' WHERE name = 'bob'").unwrap();
    let tokens = "SELECT label, expires_at FROM tokens WHERE user_name = 'robert' ORDER BY label";
    let seen = psql(&license_server, tokens).unwrap();
    assert_eq!(seen, "own|\nphone|2027-01-01 00:00:00+00\n");
    psql(&license_server, "DELETE FROM tokens WHERE label = 'own'").unwrap();
    assert_eq!(store.tokens().await.unwrap().len(), 3);
    psql(&license_server, "DELETE FROM users WHERE name = 'robert'").unwrap();
    assert_eq!(store.tokens().await.unwrap().len(), 2);
}

/// Tenants are handed over, and taken away, by one statement each.
async fn a_tenant_is_handed_over(server: &PostgresServer) {
    let database = server.database();
    let (_store, license_server) = set_up(&database).await;
    furnished(&database, &license_server).await;
    let makers = database.psql("SELECT id, made_by FROM tenants ORDER BY id");
    assert_eq!(makers, "42|license_server\n43|postgres\n");
    let documented: Vec<&str> = LICENSE_SERVER
        .lines()
        .filter_map(|line| line.strip_prefix("--   "))
        .filter(|line| line.starts_with("UPDATE tenants SET made_by"))
        .collect();
    let [give, take] = documented[..] else { panic!("{documented:?}") };
    let names = "SELECT name FROM users WHERE name IN ('bob', 'boss') ORDER BY 1";
    database.psql(&give.replace("'42'", "'43'"));
    assert_eq!(psql(&license_server, names).unwrap(), "bob\nboss\n");
    database.psql(take);
    assert_eq!(psql(&license_server, names).unwrap(), "boss\n");
    assert_eq!(
        database.psql("SELECT count(*) FROM outbox WHERE type = 'auth.tenant.updated'"),
        "0\n"
    );
}

/// An upgrade leaves it the tenants that it may have made, and takes from it all others at once, though
/// nobody has run its file again.
async fn an_upgrade_leaves_it_what_may_be_its_own(server: &PostgresServer) {
    let database = server.database();
    let old = old_postgres(&database.url()).await;
    database.psql(
        "INSERT INTO tenants (id, name, policy) VALUES
           ('admin', 'x', NULL), ('own', 'x', NULL), ('empty', 'x', NULL), ('admins', 'x', 'admin');
         INSERT INTO users (tenant_id, name, policy) VALUES
           ('admin', 'root', 'admin'), ('admin', 'a', NULL), ('own', 'b', NULL), ('admins', 'c', NULL);
         GRANT SELECT, UPDATE (name) ON tenants TO license_server;
         GRANT SELECT (name), UPDATE (publish, password_hash) ON users TO license_server;
         GRANT INSERT (certificate), UPDATE (certificate) ON users TO license_server;
         ALTER TABLE users ENABLE ROW LEVEL SECURITY;
         CREATE POLICY license_server ON users TO license_server USING (policy IS NULL);
         CREATE POLICY others ON users USING (NOT EXISTS (
           SELECT FROM pg_roles AS r
           WHERE r.rolname = 'license_server' AND pg_has_role(r.oid, 'USAGE')));
         DELETE FROM outbox",
    );
    let license_server = database.url_of("license_server", "l");
    let seen = || {
        psql(
            &license_server,
            "SELECT id FROM tenants ORDER BY 1; SELECT name FROM users ORDER BY 1",
        )
    };
    assert_eq!(seen().unwrap(), "admin\nadmins\nempty\nown\na\nb\nc\n");
    open(&database.url()).await;
    assert_eq!(seen().unwrap(), "empty\nown\nb\n");
    let wide = "UPDATE users SET publish = '[\">\"]'";
    assert!(
        psql(&license_server, wide).unwrap_err().contains("a license server grants no subject")
    );
    refuses(&license_server, &["UPDATE users SET certificate = 'boss@corp.example'"]).await;
    assert_eq!(database.psql("SELECT count(*) FROM outbox"), "0\n");
    drop(old);
}

/// What a program that hangs in a transaction has locked is free again after a while, and one that
/// connects without end leaves connections to the service.
async fn its_accidents_end_by_themselves(server: &PostgresServer) {
    let database = server.database();
    let (_store, license_server) = set_up(&database).await;
    let settings = "SELECT current_setting('idle_in_transaction_session_timeout'),
        current_setting('statement_timeout'), current_setting('lock_timeout')";
    assert_eq!(psql(&license_server, settings).unwrap(), "10s|30s|2s\n");
    let limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'license_server'";
    assert_eq!(database.psql(limit), "10\n");
}

/// What is not promised: it may set the time-outs anew, and give its tenants more of JetStream than there
/// is.
async fn it_may_do_without_bounds_of_its_own(server: &PostgresServer) {
    let database = server.database();
    let (_store, license_server) = set_up(&database).await;
    let anew = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0;
        SET lock_timeout = 0; SELECT current_setting('idle_in_transaction_session_timeout'),
        current_setting('statement_timeout'), current_setting('lock_timeout')";
    assert_eq!(psql(&license_server, anew).unwrap(), "0|0|0\n");
    let filling = "INSERT INTO tenants (id, name, js_memory, js_storage)
        SELECT 'filling-' || n, 'x', 1::BIGINT << 40, 1::BIGINT << 50 FROM generate_series(1, 3) AS n;
        SELECT sum(js_memory)::BIGINT >> 40, sum(js_storage)::BIGINT >> 50 FROM tenants";
    assert_eq!(psql(&license_server, filling).unwrap(), "3|3\n");
}
