//! What the database refuses from anyone, by column and rule; its references and cascades.

use std::collections::BTreeMap;

use nats_callout::admin::Name;
use nats_callout::store::{Freshness, TokenHash};

use super::{ALICE, Database, TENANT, TOKEN, on_every_database};

on_every_database!(
    columns_are_checked,
    columns_take_what_is_legal,
    bytes_are_told_as_bytes,
    unlimited_connections_are_null,
    a_name_behind_a_tenants_id_is_that_tenants,
    names_that_are_secrets_or_end_in_blanks_are_refused,
    references_hold,
    cascades_reach_everything,
    a_rename_carries_the_tokens,
    a_replaced_user_starts_without_tokens,
    replacing_takes_no_other_users_row,
    changes_stamp_updated_at,
);

const NKEY: &str = "UAWIJIHQZ3YYLDSTAOIOLBHVB23N6GNFMNFWNEIRGRIXD6VQOQDK2S5D";

async fn columns_are_checked(db: &dyn Database) {
    db.run(ALICE).await;
    let long = "x".repeat(65);
    let text = |value: &str| format!("'{value}'");
    let wrong: Vec<(&str, Vec<String>)> = vec![
        ("tenants.name", vec![text(""), text(&"x".repeat(129)), "'a' || char(10)".into()]),
        ("tenants.name", vec!["'a' || char(133)".into(), "'a' || char(8232)".into()]),
        ("tenants.name", vec!["'a' || char(0) || 'b'".into()]),
        ("tenants.status", vec![text("gone"), text("Active"), "NULL".into()]),
        ("tenants.isolation", vec![text("none"), text("")]),
        ("tenants.policy", vec![text("../x"), text(""), text(&long)]),
        ("tenants.account", vec![text("AUTH"), text("SYS"), text("$SYS"), text("$G"), text("")]),
        ("tenants.account", vec![text("a.b"), text(&long), "'A' || char(0)".into()]),
        ("tenants.js_memory", vec!["-1".into(), text("64MB"), "NULL".into()]),
        ("tenants.js_storage", vec!["-1".into(), text("5GB"), "NULL".into()]),
        ("tenants.js_streams", vec!["-1".into(), text("x")]),
        ("tenants.js_consumers", vec!["-1".into(), text("x")]),
        ("tenants.max_connections", vec!["-1".into(), text("x")]),
        ("users.name", vec![text(""), text(&"x".repeat(129)), "'a' || char(127)".into()]),
        ("users.name", vec!["'a' || char(8233)".into(), "'a' || char(0)".into(), "NULL".into()]),
        ("tenants.answers", vec!["2".into(), text("maybe"), "NULL".into()]),
        ("users.kind", vec![text("admin"), text(""), "NULL".into()]),
        ("users.status", vec![text("off"), "NULL".into()]),
        ("users.password_hash", vec![text("secret"), text(""), text("$2x$10$a"), text("$1$a$b")]),
        ("users.password_hash", vec![text("$argon2i$v"), text("$argon2id$"), text("$2b$a b")]),
        ("users.password_hash", vec!["x'2432622461'".into(), "'$2b$' || char(0)".into()]),
        ("users.nkey", vec![text(""), text(&NKEY[1..]), text(&NKEY.to_lowercase())]),
        ("users.nkey", vec![text(&NKEY.replacen('U', "A", 1)), text(&NKEY.replace('W', "1"))]),
        ("users.certificate", vec![text(""), text(&"x".repeat(256)), "'a' || char(7)".into()]),
        ("users.policy", vec![text("a/b"), text("")]),
    ];
    // What SQLite's types let through.
    let loose: Vec<(&str, Vec<String>)> = vec![
        ("tenants.name", vec!["CAST(x'41e4b8' AS TEXT)".into(), "CAST(x'ff41' AS TEXT)".into()]),
        ("tenants.name", vec!["x'41'".into()]),
        ("tenants.js_memory", vec!["0.5".into()]),
        ("tenants.max_connections", vec!["1.5".into()]),
        ("tenants.answers", vec![text("yes")]),
    ];
    let loose = loose.into_iter().filter(|_| db.is_sqlite());
    for (column, values) in wrong.into_iter().chain(loose) {
        let (table, name) = column.split_once('.').unwrap();
        for value in values {
            db.refuses(&format!("UPDATE {table} SET {name} = {value}"), column).await;
        }
    }
    let inserts = [
        ("tenants (id, name) VALUES ('a.b', 'x')", "tenants.id"),
        ("tenants (id, name) VALUES ('> q', 'x')", "tenants.id"),
        ("tenants (id, name) VALUES ('', 'x')", "tenants.id"),
        ("tenants (id, name) VALUES (NULL, 'x')", "tenants.id"),
        ("tenants (id, name) VALUES ('a' || char(0), 'x')", "tenants.id"),
        ("tenants (id, name) VALUES ('42', 'x')", "tenants.id"),
        ("tenants (id) VALUES ('44')", "tenants.name"),
        ("users (tenant_id) VALUES ('42')", "users.name"),
        ("users (name) VALUES ('bob')", "users.tenant_id"),
        ("tokens (user_name, token_hash) VALUES ('alice', 'ABC')", "tokens.token_hash"),
        ("tokens (user_name) VALUES ('alice')", "tokens.token_hash"),
    ];
    let loose = [("tenants (id, name) VALUES (x'4142', 'x')", "tenants.id")];
    for (insert, words) in inserts.into_iter().chain(loose.into_iter().filter(|_| db.is_sqlite())) {
        db.refuses(&format!("INSERT INTO {insert}"), words).await;
    }
    db.refuses("UPDATE tenants SET id = '43'", "tenants.id: never changes").await;
    assert_eq!(db.run("SELECT name FROM tenants").await, ["Alice Ltd"]);
}

async fn columns_take_what_is_legal(db: &dyn Database) {
    db.run(ALICE).await;
    let long = "é".repeat(128);
    let legal = [
        ("tenants.name", vec!["Ä & Söhne 株式会社 🦀", "x", &long]),
        ("tenants.isolation", vec!["account", "shared"]),
        ("tenants.account", vec!["USERS", "auth", "A-1_b"]),
        ("tenants.policy", vec!["admin"]),
        ("users.nkey", vec![NKEY]),
        ("users.certificate", vec!["CN=alice,O=Ä", "alice@example.com"]),
        ("users.name", vec!["alice@example.com", "Alice Smith", "用户", "alice"]),
    ];
    for (column, values) in legal {
        let (table, name) = column.split_once('.').unwrap();
        for value in values {
            db.run(&format!("UPDATE {table} SET {name} = '{value}'")).await;
            assert_eq!(db.run(&format!("SELECT {name} FROM {table}")).await, [value]);
        }
    }
    db.run(
        "UPDATE tenants SET js_memory = 9223372036854775807, max_connections = 0, account = NULL",
    )
    .await;
    let limits = db.login("alice").await.unwrap().tenant.limits;
    assert_eq!((limits.memory, limits.connections), (i64::MAX as u64, Some(0)));
}

/// Of every column of text that other programs write.
async fn bytes_are_told_as_bytes(db: &dyn Database) {
    db.run(ALICE).await;
    db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"))
        .await;
    if !db.is_sqlite() {
        // It makes a text of them, or says of which type a column is.
        let list = "UPDATE users SET publish = '[\"orders.*\"]'::bytea";
        db.refuses(list, "users.publish: a JSON array of subjects").await;
        let hash = format!("UPDATE tokens SET token_hash = '{TOKEN}'::bytea");
        db.refuses(&hash, "tokens.token_hash: SHA-256 in 64 lower-case hex digits").await;
        let time = "UPDATE users SET expires_at = '2027-01-01'::bytea";
        let said = db.run_with(db.clients()[0], time).await.unwrap_err();
        assert!(said.contains("column \"expires_at\" is of type"), "{said}");
        db.run("UPDATE users SET name = 'zz'::bytea").await;
        assert_eq!(db.run("SELECT name FROM users").await, ["\\x7a7a"]);
        return;
    }
    let bytes = "CAST('2027-01-01' AS BLOB)";
    let other = format!("'{}'", TOKEN.replace('0', "f"));
    for (table, needed) in [
        ("tenants", [("id", "'43'"), ("name", "'x'")]),
        ("users", [("tenant_id", "'42'"), ("name", "'b'")]),
        ("tokens", [("user_name", "'alice'"), ("token_hash", &other)]),
    ] {
        let columns = db
            .run(&format!(
                "SELECT name FROM pragma_table_info('{table}') WHERE type = 'TEXT' AND name NOT IN \
                 ('incarnation', 'last_login_at', 'created_at', 'updated_at')"
            ))
            .await;
        assert!(columns.len() >= 5, "{columns:?}");
        for column in columns {
            let words = format!("{table}.{column}: bytes, which decode() or string() makes a text");
            db.refuses(&format!("UPDATE {table} SET {column} = {bytes}"), &words).await;
            let mut row = BTreeMap::from(needed);
            row.insert(&column, bytes);
            let names = row.keys().copied().collect::<Vec<_>>().join(", ");
            let values = row.values().copied().collect::<Vec<_>>().join(", ");
            let insert = |how: &str| format!("{how} INTO {table} ({names}) VALUES ({values})");
            for how in ["INSERT", "REPLACE", "INSERT OR IGNORE"] {
                db.refuses(&insert(how), &words).await;
            }
        }
    }
    // A digest, which decode() makes no text.
    let digest = format!("UPDATE tokens SET token_hash = x'{TOKEN}'");
    db.refuses(&digest, "tokens.token_hash: SHA-256 in 64 lower-case hex digits").await;
}

/// NATS itself says -1.
async fn unlimited_connections_are_null(db: &dyn Database) {
    db.run(ALICE).await;
    let words = "tenants.max_connections: a whole number, 0 or more; NULL is unlimited";
    let update = |limit: &str| format!("UPDATE tenants SET max_connections = {limit}");
    let insert = |limit: &str| {
        format!("INSERT INTO tenants (id, name, max_connections) VALUES ('43', 'x', {limit})")
    };
    for limit in ["-1", "'x'", "x'31'", "1.5"] {
        // Of these PostgreSQL rounds one, and says of others that they are no numbers.
        if db.is_sqlite() || limit == "-1" {
            db.refuses(&update(limit), words).await;
            db.refuses(&insert(limit), words).await;
        }
    }
    for (limit, meant) in [("5", Some(5)), ("'6'", Some(6)), ("NULL", None)] {
        db.run(&update(limit)).await;
        assert_eq!(db.login("alice").await.unwrap().tenant.limits.connections, meant);
        db.run(&insert(limit)).await;
        db.run("DELETE FROM tenants WHERE id = '43'").await;
    }
}

/// It bars a user without a row, where another tenant has the name alone.
async fn a_name_behind_a_tenants_id_is_that_tenants(db: &dyn Database) {
    db.run("INSERT INTO tenants (id, name) VALUES ('t1', 'x'), ('t2', 'x')").await;
    let insert = |tenant: &str, name: &str| {
        format!("INSERT INTO users (tenant_id, name) VALUES ('{tenant}', '{name}')")
    };
    let rename = |name: &str| format!("UPDATE users SET name = '{name}' WHERE name = 'vip'");
    let (name, tenant) = ("users.name: a name of another", "users.tenant_id: a name of another");
    db.run(&insert("t1", "vip")).await;
    for taken in ["t2/vip", "t2/", "t2/a/b"] {
        db.refuses(&insert("t1", taken), name).await;
        db.refuses(&rename(taken), name).await;
        let upsert = "ON CONFLICT (name) DO UPDATE SET name =";
        db.refuses(&format!("{} {upsert} '{taken}'", insert("t1", "vip")), name).await;
    }
    db.refuses("UPDATE users SET name = 't1/vip', tenant_id = 't2'", name).await;
    // No tenant has the rest as its id.
    for free in ["t2", "t2x/vip", "T2/vip", "t/2", "/t2/vip", "t1/vip", "x/t2/vip"] {
        db.run(&insert("t1", free)).await;
    }
    db.run("DELETE FROM users WHERE name <> 'vip'").await;
    db.run(&insert("t2", "t2/vip")).await;
    db.refuses("UPDATE users SET tenant_id = 't1' WHERE name = 't2/vip'", tenant).await;
    db.run("UPDATE users SET tenant_id = 't2', name = 't2/other' WHERE name = 'vip'").await;
    // A row from before the tenant stays as it is, and may leave.
    db.run(&insert("t1", "t3/old")).await;
    db.run("INSERT INTO tenants (id, name) VALUES ('t3', 'x')").await;
    db.run("UPDATE users SET status = 'suspended', name = name, tenant_id = tenant_id").await;
    let old = "WHERE name = 't3/old'";
    db.refuses(&format!("UPDATE users SET tenant_id = 't2' {old}"), tenant).await;
    db.refuses(&format!("UPDATE users SET name = 't3/new' {old}"), name).await;
    db.run(&format!("UPDATE users SET tenant_id = 't3' {old}")).await;
    db.run("UPDATE users SET tenant_id = 't1', name = 'old' WHERE name = 't3/old'").await;
    let rows = db.run("SELECT name FROM users WHERE status = 'suspended' ORDER BY name").await;
    assert_eq!(rows, ["old", "t2/other", "t2/vip"]);
}

async fn names_that_are_secrets_or_end_in_blanks_are_refused(db: &dyn Database) {
    db.run(ALICE).await;
    let (seed, key) = (format!("SUAI{}", "A2".repeat(27)), format!("S{}", "X".repeat(55)));
    let (token, jwt) = ("looks like a token", "looks like a JWT");
    let (nkey, blank) = ("looks like the seed of an nkey", "begins or ends with a blank");
    let insert =
        |name: &str| format!("INSERT INTO users (tenant_id, name) VALUES ('42', '{name}')");
    for (name, cause) in [
        ("nct_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", token),
        ("nct_", token),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", jwt),
        ("eyJhbGciOiJIUzI1", jwt),
        ("eyJ\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}x", jwt),
        (&seed, nkey),
        (&key, nkey),
        (" lead", blank),
        ("trail ", blank),
        (" ", blank),
        ("\u{a0}a", blank),
        ("a\u{2003}", blank),
        ("a\u{3000}", blank),
    ] {
        assert!(name.parse::<Name>().is_err(), "{name}");
        let cause = format!("users.name: {cause}");
        db.refuses(&insert(name), &cause).await;
        db.refuses(&format!("UPDATE users SET name = '{name}'"), &cause).await;
    }
    for name in [
        "eyJon",
        "my nct_x",
        "a b",
        &seed[1..],
        &seed[..57],
        &key.to_lowercase(),
        "xeyJhbGciOiJIUzI1",
    ] {
        db.run(&insert(name)).await;
    }
    // A row from before stays as it is, and may leave.
    let table = if db.is_sqlite() { "" } else { " ON users" };
    db.run(&format!("DROP TRIGGER users_insert_name_form_check{table}")).await;
    db.run(&insert("old ")).await;
    db.run("UPDATE users SET status = 'suspended', name = name WHERE name = 'old '").await;
    db.refuses("UPDATE users SET name = 'older ' WHERE name = 'old '", blank).await;
    db.run("UPDATE users SET name = 'new' WHERE name = 'old '").await;
}

async fn references_hold(db: &dyn Database) {
    db.run(ALICE).await;
    let account = format!("A{}", &NKEY[1..]);
    for (sql, words) in [
        ("INSERT INTO users (tenant_id, name) VALUES ('43', 'bob')".into(), "no such tenant"),
        ("UPDATE users SET tenant_id = '43'".into(), "no such tenant"),
        (
            format!("INSERT INTO tokens (user_name, token_hash) VALUES ('bob', '{TOKEN}')"),
            "no such user",
        ),
        (
            format!("INSERT INTO tenant_accounts (tenant_id, account) VALUES ('43', '{account}')"),
            "no such tenant",
        ),
    ] {
        db.refuses(&sql, words).await;
    }
    db.run(&format!("INSERT INTO tenant_accounts (tenant_id, account) VALUES ('42', '{account}')"))
        .await;
    db.refuses(
        &format!("UPDATE tenant_accounts SET account = 'A{}'", "2".repeat(55)),
        "never changes",
    )
    .await;
}

async fn cascades_reach_everything(db: &dyn Database) {
    for client in db.clients() {
        db.run(ALICE).await;
        db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"))
            .await;
        let account = format!("A{}", &NKEY[1..]);
        db.run(&format!(
            "INSERT INTO tenant_accounts (tenant_id, account) VALUES ('42', '{account}')"
        ))
        .await;
        db.run_with(client, "DELETE FROM tenants").await.unwrap();
        for table in ["users", "tokens", "tenant_accounts"] {
            assert_eq!(db.run(&format!("SELECT count(*) FROM {table}")).await, ["0"], "{table}");
        }
    }
    db.run(ALICE).await;
    db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"))
        .await;
    db.run("DELETE FROM users").await;
    assert_eq!(db.run("SELECT count(*) FROM tokens").await, ["0"]);
}

/// The hash [`TOKEN`].
fn token() -> TokenHash {
    let half = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = half[at % 8];
    }
    TokenHash(hash)
}

async fn a_rename_carries_the_tokens(db: &dyn Database) {
    db.run(ALICE).await;
    db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"))
        .await;
    db.run("UPDATE users SET name = 'alicia'").await;
    let read = db.store().await.token(&token(), Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(read.user_name, "alicia");
}

async fn a_replaced_user_starts_without_tokens(db: &dyn Database) {
    for client in db.clients() {
        db.run(ALICE).await;
        db.run("INSERT INTO tenants (id, name) VALUES ('43', 'Mallory')").await;
        db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"))
            .await;
        // An insert that comes to nothing, or to an update, changes nothing of the tokens.
        let ignore = if db.is_sqlite() { "INSERT OR IGNORE" } else { "INSERT" };
        let values = "INTO users (tenant_id, name) VALUES ('43', 'alice')";
        for insert in [
            format!("{ignore} {values} ON CONFLICT DO NOTHING"),
            format!("INSERT {values} ON CONFLICT (name) DO NOTHING"),
        ] {
            db.run_with(client, &insert).await.unwrap();
        }
        db.run_with(
            client,
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'alice')
               ON CONFLICT (name) DO UPDATE SET status = 'active'",
        )
        .await
        .unwrap();
        assert_eq!(db.run("SELECT count(*) FROM tokens").await, ["1"]);
        if db.is_sqlite() {
            db.run_with(client, "REPLACE INTO users (tenant_id, name) VALUES ('42', 'alice')")
                .await
                .unwrap();
            assert_eq!(db.run("SELECT count(*) FROM tokens").await, ["0"]);
            db.run(&format!(
                "INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"
            ))
            .await;
            db.run_with(client, &format!("INSERT OR REPLACE {values}")).await.unwrap();
        } else {
            db.run_with(client, &format!("DELETE FROM users; INSERT {values}")).await.unwrap();
        }
        let store = db.store().await;
        assert!(store.token(&token(), Freshness::Fresh).await.unwrap().is_none());
        assert_eq!(db.login("alice").await.unwrap().tenant.id.as_str(), "43");
        db.run("DELETE FROM tenants").await;
    }
}

async fn replacing_takes_no_other_users_row(db: &dyn Database) {
    db.run(ALICE).await;
    db.run(&format!("UPDATE users SET nkey = '{NKEY}', certificate = 'CN=alice'")).await;
    db.run("INSERT INTO users (tenant_id, name) VALUES ('42', 'bob')").await;
    let insert = "INSERT OR REPLACE INTO users (tenant_id, name";
    for (sql, words) in [
        (format!("{insert}, nkey) VALUES ('42', 'eve', '{NKEY}')"), "users.nkey"),
        (format!("{insert}, certificate) VALUES ('42', 'eve', 'CN=alice')"), "users.certificate"),
        (format!("UPDATE users SET nkey = '{NKEY}' WHERE name = 'bob'"), "users.nkey"),
        ("UPDATE OR REPLACE users SET name = 'alice' WHERE name = 'bob'".into(), "users.name"),
        ("UPDATE users SET name = 'alice' WHERE name = 'bob'".into(), "users.name"),
        ("INSERT INTO users (tenant_id, name) VALUES ('42', 'bob')".into(), "users.name"),
    ] {
        if sql.contains(" OR ") && !db.is_sqlite() {
            continue;
        }
        db.refuses(&sql, words).await;
    }
    assert_eq!(db.run("SELECT name FROM users ORDER BY name").await, ["alice", "bob"]);
}

async fn changes_stamp_updated_at(db: &dyn Database) {
    db.run(TENANT).await;
    let stamp = async || db.run("SELECT updated_at FROM tenants").await[0].clone();
    let mut last = stamp().await;
    for n in 1..20 {
        db.run(&format!("UPDATE tenants SET js_memory = {n}")).await;
        let now = stamp().await;
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    db.run("UPDATE tenants SET js_memory = 19, status = 'active'").await;
    assert_eq!(stamp().await, last, "nothing changed");
    db.run("UPDATE tenants SET updated_at = '2001-01-01 00:00:00+00:00'").await;
    assert_eq!(stamp().await, last, "it never goes back");
    db.run("UPDATE tenants SET updated_at = '2101-01-01 00:00:00.000+00:00'").await;
    db.run("UPDATE tenants SET js_memory = 20").await;
    let stamp = stamp().await;
    assert!(stamp.starts_with("2101-01-01 00:00:00.001+00"), "{stamp}");
}
