//! Exactly once, whatever dies: the server, or the service at any point. (How soon another instance
//! takes over is in `within::events`.)

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Stored, holds, login, published, read, stored};
use crate::harness::choice::{either_mode, on_both_databases};
use crate::harness::deployment::{Deployment, Mode, Table};
use crate::harness::{depth, eventually_within, postgres};

/// How many changes the long test makes, and how long the writer rests after each: it has to be at
/// it while the service is killed. `EVENTS_CHANGES` makes it more.
fn changes() -> (usize, Duration) {
    let changes = std::env::var("EVENTS_CHANGES").map(|count| count.parse().expect("a number"));
    let (usual, pause) = depth((500, 8), (2_000, 1));
    (changes.unwrap_or(usual), Duration::from_millis(pause))
}

on_both_databases! {
    /// Changes made while the server is away are published when it is back, in their order.
    async fn changes_wait_for_the_server() {
        let mut deployment = Deployment::start(Mode::Operator);
        deployment.server.kill9();
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('42', 'Alice')");
        for at in 0..20 {
            deployment.sql(&format!("UPDATE tenants SET name = 'Alice {at}' WHERE id = '42'"));
        }
        assert_eq!(deployment.sql("SELECT count(*) FROM outbox"), "21");
        deployment.server.restart();
        let auth = login(&deployment, Mode::Operator, "auth").await;
        holds(&auth, "AUTH_EVENTS", 21).await;
        let reader = login(&deployment, Mode::Operator, "events").await;
        for (at, event) in read(&reader, "AUTH_EVENTS", 21).await[1..].iter().enumerate() {
            assert_eq!(event["data"]["name"], format!("Alice {at}"));
        }
        published(&deployment).await;
    }

    /// An instance that has published and was killed before it could delete: the next one publishes
    /// the event again, and the stream knows it.
    async fn what_was_published_and_not_deleted_comes_once() {
        let mut deployment = Deployment::start(Mode::Operator);
        let auth = login(&deployment, Mode::Operator, "auth").await;
        // Deleting comes to nothing for a while.
        let (hold, release) = match deployment.table.is_sqlite() {
            true => (
                "CREATE TRIGGER hold BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'held'); END",
                "DROP TRIGGER hold",
            ),
            false => (
                "CREATE RULE hold AS ON DELETE TO outbox DO INSTEAD NOTHING",
                "DROP RULE hold ON outbox",
            ),
        };
        deployment.sql(hold);
        deployment.sql(
            "INSERT INTO tenants (id, name) VALUES ('1', 'A');\n\
             INSERT INTO tenants (id, name) VALUES ('2', 'B')",
        );
        holds(&auth, "AUTH_EVENTS", 2).await;
        deployment.service.kill9();
        assert_eq!(deployment.sql("SELECT count(*) FROM outbox"), "2");
        deployment.sql(release);
        deployment.service.restart();
        published(&deployment).await;
        holds(&auth, "AUTH_EVENTS", 2).await;
    }

    /// Changes by plain SQL without an end, and the service killed every second: every change is
    /// exactly one event, and each tenant's are in the order in which they were made.
    async fn changes_survive_kill_9_every_second() {
        let (changes, pause) = changes();
        let mut deployment = Deployment::start(Mode::Operator);
        let auth = login(&deployment, Mode::Operator, "auth").await;
        let writer = match &deployment.table {
            Table::Postgres(database) => {
                let url = database.url();
                std::thread::spawn(move || write_to_postgres(&url, changes, pause))
            }
            _ => {
                let database = deployment.dir().join("nats-callout.db");
                std::thread::spawn(move || write(&database, changes, pause))
            }
        };
        let mut kills = 0;
        while !writer.is_finished() || kills < 3 {
            std::thread::sleep(Duration::from_secs(1));
            deployment.service.restart();
            kills += 1;
        }
        writer.join().expect("all changes are made");
        let what = format!("{changes} events");
        eventually_within(Duration::from_secs(120), "an empty outbox", || async {
            (deployment.sql("SELECT count(*) FROM outbox") == "0").then_some(())
        })
        .await;
        let events = stored(&auth, "AUTH_EVENTS").await;
        let ids: BTreeSet<String> = events.iter().map(Stored::id).collect();
        assert_eq!((events.len(), ids.len()), (changes, changes), "{what} after {kills} kills");
        for tenant in 0..10 {
            let names: Vec<usize> = events
                .iter()
                .filter(|it| it.event["organizationid"] == format!("t{tenant}").as_str())
                .map(|it| it.event["data"]["name"].as_str().unwrap().parse().expect("a number"))
                .collect();
            assert!(names.is_sorted(), "tenant {tenant}: {names:?}");
        }
        let subject = "$JS.API.CONSUMER.INFO.AUTH_EVENTS.events";
        let waiting = auth.jetstream(subject, &serde_json::json!({})).await;
        assert_eq!(waiting["num_pending"], changes, "{waiting}");
        crate::harness::loudly(&format!("{what} through {kills} kills, each exactly once"));
    }
}

/// A server that has lost its disk gets its streams and their consumers anew, and the reader goes on
/// with what is new.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_gone_is_made_again() {
    let deployment = Deployment::start(Mode::Config);
    let auth = login(&deployment, Mode::Config, "auth").await;
    let reader = login(&deployment, Mode::Config, "events").await;
    for id in 1..=3 {
        deployment.sql(&format!("INSERT INTO tenants (id, name) VALUES ('{id}', 'A')"));
    }
    read(&reader, "AUTH_EVENTS", 3).await;
    auth.jetstream("$JS.API.STREAM.DELETE.AUTH_EVENTS", &serde_json::json!({})).await;
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('42', 'Alice')");
    published(&deployment).await;
    holds(&auth, "AUTH_EVENTS", 1).await;
    assert_eq!(read(&reader, "AUTH_EVENTS", 1).await[0]["subject"], "42");
}

/// Without its consumer a reader hears nothing: `doctor` says so, and the service makes it again. One
/// that is another than it has to be is named, and left to whoever made it.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_gone_is_made_again() {
    for mode in either_mode() {
        let mut deployment = Deployment::start(mode);
        let auth = login(&deployment, mode, "auth").await;
        let (empty, create) = (serde_json::json!({}), "$JS.API.CONSUMER.CREATE.AUTH_EVENTS.events");
        let delete = "$JS.API.CONSUMER.DELETE.AUTH_EVENTS.events";
        auth.jetstream(delete, &empty).await;
        let doctor = deployment.cli(&["doctor"]);
        let words = "the stream AUTH_EVENTS in AUTH has no consumer events";
        assert!(doctor.stdout.contains(words), "{}", doctor.stdout);
        deployment.service.restart();
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('42', 'Alice')");
        let reader = login(&deployment, mode, "events").await;
        assert_eq!(read(&reader, "AUTH_EVENTS", 1).await[0]["subject"], "42");

        auth.jetstream(delete, &empty).await;
        let other = serde_json::json!({ "stream_name": "AUTH_EVENTS", "config": {
            "name": "events", "durable_name": "events", "ack_policy": "none" } });
        auth.jetstream(create, &other).await;
        let doctor = deployment.cli(&["doctor"]);
        let words = "the consumer AUTH_EVENTS.events has the ack policy Some(\"none\")";
        assert!(doctor.stdout.contains(words), "{}", doctor.stdout);
    }
}

/// [`write`], with psql.
fn write_to_postgres(url: &str, changes: usize, pause: Duration) {
    let pause = pause.as_secs_f64();
    let statement = |at: usize| match at {
        0..10 => format!("INSERT INTO tenants (id, name) VALUES ('t{at}', '{at}');\n"),
        _ => format!(
            "UPDATE tenants SET name = '{at}' WHERE id = 't{}'; SELECT pg_sleep({pause});\n",
            at % 10
        ),
    };
    let statements: String = (0..changes).map(statement).collect();
    postgres::psql(url, &statements).unwrap_or_else(|error| panic!("{error}"));
}

/// As a license server does it: single statements on a connection of its own, each tried again
/// while the database is locked. Tenant `t<n>` is renamed to the number of the change.
fn write(database: &std::path::Path, changes: usize, pause: Duration) {
    const PYTHON: &str = "
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
changes, pause = int(sys.argv[2]), float(sys.argv[3])
for at in range(changes):
    if at < 10:
        connection.execute('INSERT INTO tenants (id, name) VALUES (?, ?)', (f't{at}', str(at)))
    else:
        connection.execute('UPDATE tenants SET name = ? WHERE id = ?', (str(at), f't{at % 10}'))
    time.sleep(pause)
";
    let output = std::process::Command::new("python3")
        .args(["-c", PYTHON])
        .arg(database)
        .args([changes.to_string(), pause.as_secs_f64().to_string()])
        .output()
        .expect("python3");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}
