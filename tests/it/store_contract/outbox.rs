//! The events of changes: which statements make which, who may publish them, and when they go.

use std::time::{Duration, Instant};

use nats_callout::internals::OutboxEvent;
use nats_callout::store::PasswordHash;
use serde_json::Value;

use crate::harness::eventually_async;

use super::{ALICE, Database, TOKEN, on_every_database};

/// Statements and the events that each makes: type, tenant, subject, data.
pub(crate) fn statements() -> Vec<(String, Vec<&'static str>)> {
    let pairs: Vec<(&str, Vec<&'static str>)> = vec![
        (
            "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd')",
            vec![
                "auth.tenant.created 42 42 {\"account\":null,\"answers\":false,\"expires_at\":null,\
                 \"isolation\":null,\"js_consumers\":null,\"js_memory\":0,\"js_storage\":0,\
                 \"js_streams\":null,\"max_connections\":null,\"name\":\"Alice Ltd\",\
                 \"policy\":null,\"status\":\"active\"}",
            ],
        ),
        (
            "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '$2b$10$s$...')",
            vec![
                "auth.user.created 42 alice {\"certificate\":null,\"expires_at\":null,\
                 \"kind\":\"bb\",\"name\":\"alice\",\"nkey\":null,\"policy\":null,\"publish\":[],\
                 \"status\":\"active\",\"subscribe\":[],\"tenant_id\":\"42\"}",
            ],
        ),
        (
            "INSERT INTO users (tenant_id, name, kind, publish, subscribe) \
             VALUES ('42', 'orders', 'service', '[\"orders.*\"]', '[ \"a\", \"b\" ]')",
            vec![
                "auth.user.created 42 orders {\"certificate\":null,\"expires_at\":null,\
                 \"kind\":\"service\",\"name\":\"orders\",\"nkey\":null,\"policy\":null,\
                 \"publish\":[\"orders.*\"],\"status\":\"active\",\"subscribe\":[\"a\",\"b\"],\
                 \"tenant_id\":\"42\"}",
            ],
        ),
        (
            "UPDATE users SET status = 'suspended' WHERE name = 'alice'",
            vec!["auth.user.updated 42 alice {\"changed\":[\"status\"],\"status\":\"suspended\"}"],
        ),
        // No change.
        ("UPDATE users SET status = 'suspended', tenant_id = '42' WHERE name = 'alice'", vec![]),
        ("UPDATE users SET subscribe = '[\"a\",\"b\"]' WHERE name = 'orders'", vec![]),
        ("UPDATE users SET last_login_at = '2027-01-01 00:00:00+00:00'", vec![]),
        ("UPDATE tenants SET name = name, status = status", vec![]),
        (
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'alice') ON CONFLICT DO NOTHING",
            vec![],
        ),
        (
            "UPDATE users SET password_hash = '$2b$10$t$...', publish = '[\"x\"]' WHERE name = 'alice'",
            vec![
                "auth.user.updated 42 alice {\"changed\":[\"publish\",\"password_hash\"],\
                 \"publish\":[\"x\"]}",
            ],
        ),
        (
            "INSERT INTO tokens (id, user_name, token_hash) VALUES ('t1', 'alice', '$TOKEN')",
            vec![
                "auth.user.updated 42 alice {\"changed\":[\"tokens\"],\
                 \"token\":{\"change\":\"created\",\"id\":\"t1\"}}",
            ],
        ),
        (
            "UPDATE tokens SET expires_at = '2027-01-01 00:00:00+00:00' WHERE id = 't1'",
            vec![
                "auth.user.updated 42 alice {\"changed\":[\"tokens\"],\
                 \"token\":{\"change\":\"updated\",\"id\":\"t1\"}}",
            ],
        ),
        (
            "UPDATE users SET name = 'alicia' WHERE name = 'alice'",
            vec![
                "auth.user.updated 42 alicia {\"changed\":[\"name\"],\"name\":\"alicia\",\
                 \"previous_name\":\"alice\"}",
            ],
        ),
        (
            "UPDATE tenants SET expires_at = '2027-01-01 00:00:00+00:00', js_storage = 1073741824 \
             WHERE id = '42'",
            vec![
                "auth.tenant.updated 42 42 {\"changed\":[\"js_storage\",\"expires_at\"],\
                 \"expires_at\":\"2027-01-01T00:00:00Z\",\"js_storage\":1073741824}",
            ],
        ),
        // The same time, written otherwise.
        ("UPDATE tenants SET expires_at = '2027-01-01T01:00:00+01:00' WHERE id = '42'", vec![]),
        (
            "INSERT INTO tenants (id, name) VALUES ('42', 'Alicia') \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, answers = TRUE",
            vec![
                "auth.tenant.updated 42 42 {\"answers\":true,\"changed\":[\"name\",\"answers\"],\
                 \"name\":\"Alicia\"}",
            ],
        ),
        (
            "INSERT INTO tenants (id, name) VALUES ('43', 'Bob')",
            vec![
                "auth.tenant.created 43 43 {\"account\":null,\"answers\":false,\"expires_at\":null,\
                 \"isolation\":null,\"js_consumers\":null,\"js_memory\":0,\"js_storage\":0,\
                 \"js_streams\":null,\"max_connections\":null,\"name\":\"Bob\",\
                 \"policy\":null,\"status\":\"active\"}",
            ],
        ),
        (
            "UPDATE users SET tenant_id = '43' WHERE name = 'orders'",
            vec![
                "auth.user.updated 43 orders {\"changed\":[\"tenant_id\"],\
                 \"previous_tenant_id\":\"42\",\"tenant_id\":\"43\"}",
            ],
        ),
        (
            "UPDATE users SET status = 'suspended'",
            vec!["auth.user.updated 43 orders {\"changed\":[\"status\"],\"status\":\"suspended\"}"],
        ),
        (
            "DELETE FROM users WHERE name = 'orders'",
            vec![
                "auth.user.removed 43 orders {\"kind\":\"service\",\"name\":\"orders\",\
                 \"tenant_id\":\"43\"}",
            ],
        ),
        // With a user who has a token.
        (
            "DELETE FROM tenants WHERE id = '42'",
            vec![
                "auth.tenant.removed 42 42 {\"name\":\"Alicia\"}",
                "auth.user.removed 42 alicia {\"kind\":\"bb\",\"name\":\"alicia\",\
                 \"tenant_id\":\"42\"}",
            ],
        ),
        // Rolled back, refused: nothing happened.
        ("BEGIN;\nDELETE FROM tenants;\nROLLBACK", vec![]),
    ];
    pairs.into_iter().map(|(sql, events)| (sql.replace("$TOKEN", TOKEN), events)).collect()
}

/// What SQLite has besides.
pub(crate) const REPLACED: &[(&str, &[&str])] = &[
    ("INSERT OR IGNORE INTO tenants (id, name) VALUES ('a.b', 'Mallory')", &[]),
    (
        "INSERT OR REPLACE INTO tenants (id, name, answers) VALUES ('43', 'Robert', 1)",
        &["auth.tenant.updated 43 43 {\"answers\":true,\"changed\":[\"name\",\"answers\"],\
           \"name\":\"Robert\"}"],
    ),
    ("INSERT OR REPLACE INTO tenants (id, name, answers) VALUES ('43', 'Robert', 1)", &[]),
    (
        "INSERT INTO users (tenant_id, name, policy) VALUES ('43', 'bob', 'p')",
        &["auth.user.created 43 bob {\"certificate\":null,\"expires_at\":null,\"kind\":\"bb\",\
           \"name\":\"bob\",\"nkey\":null,\"policy\":\"p\",\"publish\":[],\"status\":\"active\",\
           \"subscribe\":[],\"tenant_id\":\"43\"}"],
    ),
    (
        "REPLACE INTO users (tenant_id, name, password_hash) VALUES ('43', 'bob', '$2b$10$s$...')",
        &["auth.user.updated 43 bob {\"changed\":[\"policy\",\"password_hash\"],\"policy\":null}"],
    ),
    (
        "REPLACE INTO users (tenant_id, name, password_hash) VALUES ('43', 'bob', '$2b$10$s$...')",
        &[],
    ),
    (
        "PRAGMA recursive_triggers = ON;\nREPLACE INTO tenants (id, name) VALUES ('43', 'R')",
        &[
            "auth.tenant.created 43 43 {\"account\":null,\"answers\":false,\"expires_at\":null,\
             \"isolation\":null,\"js_consumers\":null,\"js_memory\":0,\"js_storage\":0,\
             \"js_streams\":null,\"max_connections\":null,\"name\":\"R\",\"policy\":null,\
             \"status\":\"active\"}",
            "auth.tenant.removed 43 43 {\"name\":\"Robert\"}",
            "auth.user.removed 43 bob {\"kind\":\"bb\",\"name\":\"bob\",\"tenant_id\":\"43\"}",
        ],
    ),
];

/// An event in a line: type, tenant, subject, data.
fn line(event: &OutboxEvent) -> String {
    let data: Value = serde_json::from_str(event.data.get()).expect("JSON");
    format!("{} {} {} {data}", event.kind, event.tenant, event.subject)
}

async fn every_kind_of_change(db: &dyn Database) {
    let store = db.store().await;
    let mut all = statements();
    if db.is_sqlite() {
        all.extend(REPLACED.iter().map(|(sql, events)| ((*sql).to_owned(), events.to_vec())));
    }
    for (sql, mut expected) in all {
        db.run(&sql).await;
        let events = store.pending(100, &[]).await.unwrap();
        assert_eq!(store.backlog().await.unwrap(), events.len() as u64);
        let mut lines: Vec<String> = events.iter().map(line).collect();
        // The order of a cascade is the database's.
        lines.sort();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{sql}");
        for event in &events {
            let time: jiff::Timestamp = event.time.parse().expect("RFC 3339");
            assert!(jiff::Timestamp::now().duration_since(time).as_secs().abs() < 600);
            assert!(!event.data.get().contains("$2b$") && !event.data.get().contains(TOKEN));
        }
        let ids: Vec<String> = events.into_iter().map(|event| event.id).collect();
        store.published(&ids).await.unwrap();
    }
}

async fn oldest_first_and_deleted_by_id(db: &dyn Database) {
    let store = db.store().await;
    db.run(ALICE).await;
    let updates: Vec<String> = (0..600)
        .map(|at| format!("UPDATE tenants SET name = 'Alice {at}' WHERE id = '42';\n"))
        .collect();
    db.run(&format!("BEGIN IMMEDIATE;\n{}COMMIT;", updates.concat())).await;
    let all = store.pending(1_000, &[]).await.unwrap();
    assert_eq!(all.len(), 602);
    for (at, event) in all.iter().skip(2).enumerate() {
        let data: Value = serde_json::from_str(event.data.get()).unwrap();
        assert_eq!(data["name"], format!("Alice {at}"));
    }
    let few = store.pending(3, &[]).await.unwrap();
    let ids = |of: &[OutboxEvent]| of.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&few), ids(&all[..3]));
    let mut gone = ids(&all[1..]);
    gone.push("none of them".to_owned());
    store.published(&gone).await.unwrap();
    store.published(&gone).await.unwrap();
    store.published(&[]).await.unwrap();
    assert_eq!(ids(&store.pending(10, &[]).await.unwrap()), ids(&all[..1]));
}

/// Nothing gets in by hand that could not be published, and would hold up all the others.
async fn what_is_no_event_is_refused(db: &dyn Database) {
    db.store().await;
    let columns = "INSERT INTO outbox (type, tenant_id, subject, data, id) VALUES";
    for row in [
        "('auth.user.updated', 'g', 'g', '{}', '')",
        "('auth.user.updated', 'g', 'g', '{}', 'a b')",
        "('auth.user.updated', 'g', 'g', '{}', 'a\r\nX: 1')",
        "('auth.user.updated', 'g', 'g', '[1]', 'a')",
        "('auth.user.updated', 'g', 'g', 'x', 'a')",
        "('auth.user.renamed', 'g', 'g', '{}', 'a')",
    ] {
        for client in db.clients() {
            assert!(db.run_with(client, &format!("{columns} {row}")).await.is_err(), "{row}");
        }
    }
    db.run(&format!("{columns} ('auth.user.updated', 'g', 'g', '{{}}', 'a-1')")).await;
}

async fn one_instance_at_a_time(db: &dyn Database) {
    let (one, other) = (db.store().await, db.store().await);
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(300));
    assert!(one.lease("one", long).await.unwrap());
    assert!(!other.lease("other", long).await.unwrap());
    let again = Instant::now();
    assert!(one.lease("one", short).await.unwrap(), "again");
    eventually_async("the end of its time", async || {
        other.lease("other", long).await.unwrap().then_some(())
    })
    .await;
    assert!(again.elapsed() > short / 2, "{:?}", again.elapsed());
    assert!(!one.lease("one", long).await.unwrap());
    one.release("one").await.unwrap();
    assert!(!one.lease("one", long).await.unwrap(), "not its own to release");
    other.release("other").await.unwrap();
    // Of many at once it is given to one.
    let asked = (0..8).map(|at| {
        let store = one.clone();
        tokio::spawn(async move { store.lease(&format!("of-many-{at}"), long).await.unwrap() })
    });
    let given = futures_util::future::join_all(asked).await;
    assert_eq!(given.into_iter().filter(|given| *given.as_ref().unwrap()).count(), 1);
}

async fn the_same_password_is_no_change(db: &dyn Database) {
    let store = db.store().await;
    db.run(ALICE).await;
    let (old, new) = (PasswordHash::new("$2b$10$..."), PasswordHash::new("$argon2id$x$..."));
    store.rehash("alice", &old, &new).await.unwrap();
    store.rehash("alice", &old, &new).await.unwrap();
    store.rehash("nobody", &old, &new).await.unwrap();
    assert_eq!(store.pending(10, &[]).await.unwrap().len(), 2);
    let hash = db.run("SELECT password_hash FROM users").await;
    assert_eq!(hash, ["$argon2id$x$..."]);
    assert_eq!(db.run("SELECT count(*) FROM rehashes").await, ["0"]);
    store.record_logins(&[("alice".to_owned(), 1_800_000_000)]).await.unwrap();
    assert_eq!(store.pending(10, &[]).await.unwrap().len(), 2);
    db.run("UPDATE users SET password_hash = '$2b$10$new$...'").await;
    let last = line(store.pending(10, &[]).await.unwrap().last().unwrap());
    assert_eq!(last, "auth.user.updated 42 alice {\"changed\":[\"password_hash\"]}");
}

on_every_database!(
    every_kind_of_change,
    oldest_first_and_deleted_by_id,
    one_instance_at_a_time,
    what_is_no_event_is_refused,
    the_same_password_is_no_change,
);
