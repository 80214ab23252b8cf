//! How soon an event is published though the instance whose turn it was has died.

use std::time::{Duration, Instant};

use crate::events::{holds, login, published};
use crate::harness::choice::on_both_databases;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::turn::measured;

on_both_databases! {
    /// Two instances: one publishes at a time, and when it is killed, the other takes over in seconds.
    async fn another_instance_takes_over() {
        measured();
        let mut deployment = Deployment::start(Mode::Operator);
        let auth = login(&deployment, Mode::Operator, "auth").await;
        let mut second = deployment.another_service();
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('0', 'A')");
        published(&deployment).await;
        let holder = deployment.sql("SELECT holder FROM leases");
        assert!(!holder.is_empty());
        // Whoever it is: both orders are seen over the runs.
        deployment.service.kill9();
        let killed = Instant::now();
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('1', 'A')");
        holds(&auth, "AUTH_EVENTS", 2).await;
        assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
        deployment.service.restart();
        second.kill9();
        deployment.sql("INSERT INTO tenants (id, name) VALUES ('2', 'A')");
        holds(&auth, "AUTH_EVENTS", 3).await;
        // A stop gives the turn back: nobody waits.
        published(&deployment).await;
        assert!(deployment.service.stop().success());
        assert_eq!(deployment.sql("SELECT count(*) FROM leases"), "0");
    }
}
