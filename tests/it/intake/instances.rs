//! Several instances, of which one is killed, one stops, or its server does: what was acknowledged is
//! stored.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_callout::internals::intake::{Intake, Settings};
use nats_callout::store::Isolation;
use serde_json::Value;

use super::field::{Field, is_stored};
use crate::harness::{PATIENCE, depth, eventually_async};

/// A tenant, what it sent, and what of that was acknowledged.
type Sent = (&'static str, HashSet<String>, HashSet<String>);

/// Tenants that send requests one after the other, and remember what was acknowledged.
struct Load {
    acknowledged: Arc<AtomicU64>,
    /// What came in the place of an acknowledgement.
    failed: Arc<Mutex<Vec<String>>>,
    end: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Sent>>,
}

impl Load {
    /// Each request is given up after `patience`.
    async fn start(field: &Field, patience: Duration) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (id, subject) in
            [("own1", "Events"), ("own2", "Events"), ("shared1", "user.shared1.Events")]
        {
            let client = field.login(id).await.client;
            let (acknowledged, failed, end) = (acknowledged.clone(), failed.clone(), end.clone());
            tasks.push(tokio::spawn(async move {
                let (mut sent, mut sure) = (HashSet::new(), HashSet::new());
                while !end.load(Ordering::Relaxed) {
                    let body = format!("{id} {}", sent.len());
                    sent.insert(body.clone());
                    let request = async_nats::Request::new()
                        .payload(body.clone().into())
                        .timeout(Some(patience));
                    let answer = client.send_request(subject, request).await;
                    let answer = answer.map(|answer| {
                        serde_json::from_slice::<Value>(&answer.payload).expect("json")
                    });
                    match answer {
                        Ok(answer) if answer.get("error").is_none() => {
                            is_stored(&answer);
                            sure.insert(body);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        other => {
                            failed.lock().expect("no panic").push(format!("{body}: {other:?}"));
                        }
                    }
                }
                (id, sent, sure)
            }));
        }
        Self { acknowledged, failed, end, tasks }
    }

    /// Waits for so many more acknowledgements.
    async fn goes_on(&self, more: u64) {
        let target = self.acknowledged.load(Ordering::Relaxed) + more;
        eventually_async("acknowledgements", || async {
            (self.acknowledged.load(Ordering::Relaxed) >= target).then_some(())
        })
        .await;
    }

    /// Everything that was acknowledged is stored, once, and nothing that was not sent; returns what
    /// came in the place of acknowledgements.
    async fn proven(self, field: &Field) -> Vec<String> {
        self.end.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let (id, sent, sure) = task.await.expect("no panic");
            let stored = field.bodies(id).await;
            let distinct: HashSet<String> = stored.iter().cloned().collect();
            assert_eq!(distinct.len(), stored.len(), "{id}: none is doubled");
            let lost: Vec<_> = sure.difference(&distinct).collect();
            assert!(lost.is_empty(), "{id}: acknowledged and not stored: {lost:?}");
            assert!(distinct.is_subset(&sent));
        }
        std::mem::take(&mut self.failed.lock().expect("no panic"))
    }
}

/// Its tasks end where they are and its sockets close, as by `kill -9`.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_instance_loses_nothing_that_was_acknowledged() {
    let field = Field::start(2, 1).await;
    let lasting = field.intake(Settings::default()).await;
    for _ in 0..depth(2, 20) {
        let own = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let killed = {
            let _within = own.enter();
            let intake = Intake::new(field.place(Isolation::Account), Settings::default());
            intake
                .with_shared(field.place(Isolation::Shared))
                .start(&field.table())
                .expect("starts")
        };
        let load = Load::start(&field, Duration::from_millis(500)).await;
        eventually_async("a share for both", || async {
            let begun = killed.tally().stored > 10 && lasting.tally().stored > 10;
            begun.then_some(())
        })
        .await;
        own.shutdown_background();
        load.goes_on(100).await;
        load.proven_again(&field).await;
    }
    lasting.stop().await;
}

impl Load {
    /// [`Self::proven`] for one of several rounds, each with a stream of its own.
    async fn proven_again(self, field: &Field) {
        self.proven(field).await;
        let bb = field.login("bb").await;
        let purge = serde_json::json!({});
        bb.jetstream("$JS.API.STREAM.PURGE.ReceivedEvents", &purge).await;
    }
}

/// Instances that come and stop, one after the other: every request has its acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_loses_nothing() {
    let field = Field::start(2, 1).await;
    let mut current = field.intake(Settings::default()).await;
    let load = Load::start(&field, PATIENCE).await;
    for _ in 0..depth(4, 40) {
        load.goes_on(50).await;
        let next = field.intake(Settings::default()).await;
        load.goes_on(50).await;
        current.stop().await;
        current = next;
    }
    assert_eq!(load.proven(&field).await, [""; 0], "every request is acknowledged");
    current.stop().await;
}

/// Plain events, which nobody would send again: a stop passes on what it was given.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_passes_on_what_waits() {
    let field = Field::start(1, 1).await;
    let narrow = Settings { window: 4 << 10, window_per_tenant: 4 << 10, ..Settings::default() };
    let intake = field.intake(narrow).await;
    let events = 1_000;
    for (id, subject) in [("own1", "Events"), ("shared1", "user.shared1.Events")] {
        let connected = field.login(id).await;
        for body in 0..events {
            connected.client.publish(subject, body.to_string().into()).await.expect("is sent");
        }
        connected.round_trip(&format!("user.{id}.settled")).await;
    }
    intake.stop().await;
    let expected: Vec<String> = (0..events).map(|body| body.to_string()).collect();
    for id in ["own1", "shared1"] {
        assert_eq!(field.bodies(id).await, expected, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_nothing_that_was_acknowledged() {
    let mut field = Field::start(2, 1).await;
    let intake = field.intake(Settings::default()).await;
    let load = Load::start(&field, Duration::from_millis(500)).await;
    for _ in 0..depth(1, 10) {
        load.goes_on(100).await;
        field.server.restart();
    }
    load.goes_on(100).await;
    load.proven(&field).await;
    intake.stop().await;
}
