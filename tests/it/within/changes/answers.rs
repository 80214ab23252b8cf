//! What the account ANSWERS costs those who are on its list while others come and go: no
//! notification, and a second copy of very few.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::bb::{App, Backend, Isolation, answer, next};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::depth;
use crate::harness::turn::measured;

/// While the list changes, the tenants that stay on it miss nothing. nats-server imports anew what
/// ANSWERS imports before it drops the old: what comes in between comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_list_loses_no_one_elses_notifications() {
    measured();
    let deployment = Deployment::start(Mode::Operator);
    let backend = Backend::connect(&deployment).await;
    let staying = App::add(&deployment, "staying", Isolation::Own, &["--answers"]).await;
    let shared = App::add(&deployment, "shared", Isolation::Shared, &[]).await;
    let other = App::add(&deployment, "other", Isolation::Own, &[]).await;
    let answering = staying.answering().await;
    assert_eq!(answer(&backend, "staying").await, "answer of staying");
    answering.abort();

    let mut ears = [staying.notifications().await, shared.notifications().await];
    let mut sent = 0_u32;
    for round in 0..depth(4, 6) {
        let on = round % 2 == 0;
        deployment.sql(&format!("UPDATE tenants SET answers = {on} WHERE id = '{}'", other.id));
        let until = Instant::now() + Duration::from_millis(800);
        while Instant::now() < until {
            for tenant in ["staying", "shared"] {
                let subject = format!("user.{tenant}.Notifications");
                let text = sent.to_string();
                backend.connected.client.publish(subject, text.into()).await.expect("publishes");
            }
            sent += 1;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    for (ear, tenant) in ears.iter_mut().zip(["staying", "shared"]) {
        backend.notify(tenant, "last").await;
        let mut heard = BTreeSet::new();
        let mut twice = 0;
        loop {
            let (_, text) = next(ear).await;
            if text == "last" {
                break;
            }
            twice += u32::from(!heard.insert(text));
        }
        assert_eq!(heard.len(), sent as usize, "{tenant}");
        let most = if tenant == "staying" { sent / 100 } else { 0 };
        assert!(twice <= most, "{tenant}: {twice} of {sent} came twice");
    }
    assert!(sent > 1_000, "{sent}");
}
