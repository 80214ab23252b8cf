//! Every kind of change, made with plain SQL, is exactly the right events, in AUTH and for their reader.

use serde_json::Value;

use super::{Stored, holds, login, published, read};
use crate::harness::choice::{either_mode, on_both_databases};
use crate::harness::client::{Login, connect};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{eventually, servers};
use crate::store_contract::TOKEN;
use crate::store_contract::outbox::{REPLACED, statements};

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
    let auth = login(&deployment, mode, "auth").await;
    let own = if deployment.table.is_sqlite() { REPLACED } else { &[] };
    let own = own.iter().map(|(sql, events)| ((*sql).to_owned(), events.to_vec()));
    let mut count = 0;
    for (sql, mut expected) in statements().into_iter().chain(own) {
        deployment.sql(&sql);
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
    // What a statement makes beside the right events is in the way of a later one's, or comes now.
    published(&deployment).await;
    let origin: Vec<Value> =
        holds(&auth, "AUTH_EVENTS", count).await.into_iter().map(|it| it.event).collect();
    let reader = login(&deployment, mode, "events").await;
    assert_eq!(read(&reader, "AUTH_EVENTS", count).await, origin);
    if deployment.table.is_sqlite() {
        assert_eq!(deployment.sql("SELECT count(*) FROM outbox_before"), "0");
    }
}

on_both_databases! {
    async fn plain_sql_makes_exactly_the_right_events() {
        for mode in either_mode() {
            every_kind(mode).await;
        }
    }

    /// A login replaces an outdated hash and gives the tenant an account: neither is news to anyone.
    async fn a_first_login_that_rehashes_is_no_change() {
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
                "SELECT 1 FROM users WHERE password_hash LIKE '$argon2id$%' AND last_login_at IS NOT NULL",
            );
            (row == "1").then_some(())
        });
        assert_eq!(deployment.sql("SELECT count(*) FROM rehashes"), "0");
        deployment.sql("UPDATE users SET status = 'suspended'");
        let events = holds(&auth, "AUTH_EVENTS", 3).await;
        assert_eq!(events[2].event["data"]["changed"], serde_json::json!(["status"]));
    }

    /// What the program changes itself, and the data of an event that fits into no message.
    async fn commands_make_events_and_long_data_are_left_out() {
        let deployment = Deployment::start_prepared(Mode::Operator, servers::version(), |init| {
            init.add_to_server_conf("max_payload: 100000");
        });
        let auth = login(&deployment, Mode::Operator, "auth").await;
        deployment.tenant_add("one", &[]);
        deployment.cli(&["user", "passwd", "one", "one"]).success();
        deployment.token_add("one", "one");
        let events = holds(&auth, "AUTH_EVENTS", 4).await;
        let lines: Vec<String> = events.iter().map(Stored::line).collect();
        assert!(lines[0].starts_with("auth.tenant.created one one {"), "{lines:#?}");
        assert!(lines[1].starts_with("auth.user.created one one {"), "{lines:#?}");
        assert_eq!(lines[2], "auth.user.updated one one {\"changed\":[\"password_hash\"]}");
        assert!(lines[3].starts_with("auth.user.updated one one {\"changed\":[\"tokens\"]"));

        let subjects = match deployment.table.is_sqlite() {
            true => "json_group_array(hex(zeroblob(120)) || '.' || i)",
            false => "json_agg(repeat('0', 240) || '.' || i)::TEXT",
        };
        deployment.sql(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
             INSERT INTO users (tenant_id, name, publish, subscribe) \
             SELECT 'one', 'long', {subjects}, {subjects} FROM n"
        ));
        deployment.sql("UPDATE users SET status = 'suspended' WHERE name = 'long'");
        let events = holds(&auth, "AUTH_EVENTS", 6).await;
        assert_eq!(events[4].line(), "auth.user.created one long {\"omitted\":true}");
        assert_eq!(events[5].event["data"]["status"], "suspended");
    }
}
