//! Rows of the outbox that are too large to be read and published, or that the stream refuses: everybody
//! else's events go on.

use serde_json::json;

use super::{holds, login, max_message_size, published};
use crate::harness::choice::{either_mode, on_both_databases};
use crate::harness::deployment::{Deployment, Mode, Table};
use crate::harness::{depth, eventually, postgres};

on_both_databases! {
    /// Rows of 20 MB each, as a release that knew no lengths could leave them: all together they are
    /// not read in the time that a statement has.
    async fn rows_that_are_too_large_hold_nobody_up() {
        let mut deployment = Deployment::start(Mode::Operator);
        let auth = login(&deployment, Mode::Operator, "auth").await;
        // They are there before anybody reads.
        deployment.service.kill9();
        let rows = depth(10, 40);
        let data = match deployment.table.is_sqlite() {
            true => "json_object('x', hex(zeroblob(10000000)))",
            false => "json_build_object('x', repeat('y', 20000000))",
        };
        deployment.sql(&format!(
            "INSERT INTO outbox (type, tenant_id, subject, data)
               VALUES ('auth.user.updated', 'bad', 'bad', {data})"
        ));
        for _ in 1..rows {
            deployment.sql(
                "INSERT INTO outbox (type, tenant_id, subject, data)
                   SELECT type, tenant_id, subject, data FROM outbox LIMIT 1",
            );
        }
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('honest', 'x')");
        deployment.service.restart();
        let events = holds(&auth, "AUTH_EVENTS", rows + 1).await;
        let (honest, bad): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|it| it.event["organizationid"] == "honest");
        assert_eq!((honest.len(), bad.len()), (1, rows));
        assert_eq!(honest[0].event["data"]["name"], "x");
        assert!(bad.iter().all(|it| it.event["data"] == json!({ "omitted": true })));
        published(&deployment).await;
    }
}

/// Where so many rows are not read in the time that a statement has, fewer are, until they are.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_read_slowly_are_read_a_few_at_a_time() {
    let deployment = Deployment::start_on(Mode::Operator, || Table::Postgres(postgres::database()));
    let Table::Postgres(database) = &deployment.table else { unreachable!("PostgreSQL") };
    let auth = login(&deployment, Mode::Operator, "auth").await;
    // All of them take four seconds.
    database.psql(
        "CREATE FUNCTION slowly(data TEXT) RETURNS TEXT LANGUAGE plpgsql STABLE AS
           $$ BEGIN PERFORM pg_sleep(0.01); RETURN data; END $$;
         CREATE OR REPLACE VIEW outbox_records AS
           SELECT seq, id, type, tenant_id, subject,
             to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS at,
             slowly(data::TEXT) AS data FROM outbox;
         INSERT INTO outbox (type, tenant_id, subject, data)
           SELECT 'auth.user.updated', 'slow', n, '{}' FROM generate_series(1, 400) AS c (n)",
    );
    holds(&auth, "AUTH_EVENTS", 400).await;
    published(&deployment).await;
}

/// An event that the stream refuses waits, with those of its tenant behind it, though it would take these;
/// it is told, and comes in its order once the stream takes it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_holds_up_its_own_tenant_alone() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        let auth = login(&deployment, mode, "auth").await;
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('wordy', 'x')");
        holds(&auth, "AUTH_EVENTS", 1).await;
        published(&deployment).await;
        max_message_size(&auth, "AUTH_EVENTS", 2_000).await;
        let subjects: Vec<String> = (0..300).map(|at| format!("orders.{at}")).collect();
        let list = json!(subjects);
        deployment.sql(&format!(
            "INSERT INTO users (tenant_id, name, kind, publish) VALUES ('wordy', 'u', 'service', '{list}')"
        ));
        eventually("a line about the event", || {
            let log = deployment.service.log();
            let says = |line: &str| line.contains("an event is refused") && line.contains("wordy");
            log.lines().any(says).then_some(())
        });
        deployment.sql("UPDATE tenants SET name = 'y' WHERE id = 'wordy'");
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('honest', 'x')");
        let events = holds(&auth, "AUTH_EVENTS", 2).await;
        assert_eq!(events[1].event["organizationid"], "honest");
        let waiting = "SELECT type FROM outbox WHERE tenant_id = 'wordy' ORDER BY type DESC";
        assert_eq!(deployment.sql(waiting), "auth.user.created\nauth.tenant.updated");

        max_message_size(&auth, "AUTH_EVENTS", -1).await;
        let events = holds(&auth, "AUTH_EVENTS", 4).await;
        assert_eq!(events[2].event["data"]["publish"], list);
        assert_eq!(events[3].event["data"]["name"], "y");
        published(&deployment).await;
    }
}
