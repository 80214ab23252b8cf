//! Every kind of change, made with plain SQL, is exactly the right events, in AUTH and in BB.

use serde_json::Value;

use super::{Stored, holds, login, published, stored};
use crate::harness::deployment::{Deployment, Mode};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Statements and the events that each makes: type, tenant, subject, data.
fn statements() -> Vec<(String, Vec<&'static str>)> {
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
            "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '$2b$10$s')",
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
            "UPDATE users SET password_hash = '$2b$10$t', publish = '[\"x\"]' WHERE name = 'alice'",
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
        ("INSERT OR IGNORE INTO tenants (id, name) VALUES ('a.b', 'Mallory')", vec![]),
    ];
    pairs.into_iter().map(|(sql, events)| (sql.replace("$TOKEN", TOKEN), events)).collect()
}

/// What SQLite has besides.
const REPLACED: &[(&str, &[&str])] = &[
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
        "REPLACE INTO users (tenant_id, name, password_hash) VALUES ('43', 'bob', '$2b$10$s')",
        &["auth.user.updated 43 bob {\"changed\":[\"policy\",\"password_hash\"],\"policy\":null}"],
    ),
    ("REPLACE INTO users (tenant_id, name, password_hash) VALUES ('43', 'bob', '$2b$10$s')", &[]),
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

fn is_sound(stored: &Stored) {
    let Stored { subject, headers, event } = stored;
    assert_eq!(event["specversion"], "1.0", "{event}");
    assert_eq!(event["source"], "nats-callout", "{event}");
    assert_eq!(event["datacontenttype"], "application/json", "{event}");
    assert_eq!(event["schemaversion"], "1.0", "{event}");
    assert_eq!(event["type"], subject.as_str());
    let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().expect("RFC 3339");
    let age = jiff::Timestamp::now().duration_since(time).as_secs();
    assert!((-60..600).contains(&age), "{event}");
    assert!(headers.contains(&format!("Nats-Msg-Id: {}\r\n", event["id"].as_str().unwrap())));
    assert!(headers.contains("Content-Type: application/cloudevents+json\r\n"), "{headers}");
    let text = event.to_string();
    assert!(!text.contains("$2b$") && !text.contains(TOKEN), "{text}");
}

async fn every_kind(mode: Mode) {
    let deployment = Deployment::start(mode);
    let (auth, bb) = (login(&deployment, mode, "auth").await, login(&deployment, mode, "bb").await);
    let own = REPLACED.iter().map(|(sql, events)| ((*sql).to_owned(), events.to_vec()));
    let mut count = 0;
    for (sql, mut expected) in statements().into_iter().chain(own) {
        deployment.sql(&sql);
        published(&deployment).await;
        let all = holds(&auth, "AUTH_EVENTS", count + expected.len()).await;
        let new = &all[count..];
        new.iter().for_each(is_sound);
        let mut lines: Vec<String> = new.iter().map(Stored::line).collect();
        // The order of a cascade is the database's.
        lines.sort();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{sql}");
        count = all.len();
    }
    let origin: Vec<Value> =
        stored(&auth, "AUTH_EVENTS").await.into_iter().map(|it| it.event).collect();
    let mirrored: Vec<Value> =
        holds(&bb, "AUTH_EVENTS", count).await.into_iter().map(|it| it.event).collect();
    assert_eq!(mirrored, origin);
    assert_eq!(deployment.sql("SELECT count(*) FROM outbox_before"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_makes_exactly_the_right_events_in_operator_mode() {
    every_kind(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_makes_exactly_the_right_events_in_config_mode() {
    every_kind(Mode::Config).await;
}

/// A login replaces an outdated hash and gives the tenant an account: neither is news to anyone.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_login_that_rehashes_is_no_change() {
    use crate::harness::client::{Login, connect};
    use crate::harness::eventually;

    let deployment = Deployment::start(Mode::Operator);
    let auth = login(&deployment, Mode::Operator, "auth").await;
    // bcrypt, of `secret`.
    let hash = bcrypt::hash("secret", 4).expect("a hash");
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name) VALUES ('42', 'Alice');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '{hash}')"
    ));
    holds(&auth, "AUTH_EVENTS", 2).await;
    let alice = Login::password("alice", "secret");
    connect(&deployment.url(), &alice, "_INBOX").await.expect("logs in");
    eventually("a new hash and the login's time", || {
        let row = deployment.sql(
            "SELECT 1 FROM users WHERE password_hash LIKE '$argon2id$%' AND last_login_at NOTNULL",
        );
        (row == "1").then_some(())
    });
    assert_eq!(deployment.sql("SELECT count(*) FROM rehashes"), "0");
    deployment.sql("UPDATE users SET status = 'suspended'");
    let events = holds(&auth, "AUTH_EVENTS", 3).await;
    assert_eq!(events[2].event["data"]["changed"], serde_json::json!(["status"]));
}

/// What the program changes itself, and the data of an event that fits into no message.
#[tokio::test(flavor = "multi_thread")]
async fn commands_make_events_and_long_data_are_left_out() {
    let deployment = Deployment::start(Mode::Operator);
    let bb = login(&deployment, Mode::Operator, "bb").await;
    deployment.tenant_add("one", &[]);
    deployment.cli(&["user", "passwd", "one", "one"]).success();
    deployment.token_add("one", "one");
    let lines: Vec<String> = holds(&bb, "AUTH_EVENTS", 4).await.iter().map(Stored::line).collect();
    assert!(lines[0].starts_with("auth.tenant.created one one {"), "{lines:#?}");
    assert!(lines[1].starts_with("auth.user.created one one {"), "{lines:#?}");
    assert_eq!(lines[2], "auth.user.updated one one {\"changed\":[\"password_hash\"]}");
    assert!(lines[3].starts_with("auth.user.updated one one {\"changed\":[\"tokens\"]"));

    deployment.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         INSERT INTO users (tenant_id, name, publish) \
         SELECT 'one', 'long', json_group_array(hex(zeroblob(120)) || '.' || i) FROM n",
    );
    deployment.sql("UPDATE users SET status = 'suspended' WHERE name = 'long'");
    let events = holds(&bb, "AUTH_EVENTS", 6).await;
    assert_eq!(events[4].line(), "auth.user.created one long {\"omitted\":true}");
    assert_eq!(events[5].event["data"]["status"], "suspended");
}
