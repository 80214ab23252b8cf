//! Rows of the outbox that are too large to be read and published: everybody else's events go on.

use serde_json::json;

use super::{holds, login, published};
use crate::harness::choice::on_both_databases;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::depth;

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
