//! Floods: one tenant that sends more than it may is told so, and nobody else waits for it.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nats_callout::internals::intake::{Refusal, Settings};
use serde_json::{Value, json};

use super::field::{Field, error, event, is_stored};
use crate::harness::{depth, eventually_async};

/// Little room, so that a flood soon has too much.
fn narrow() -> Settings {
    Settings {
        held_per_tenant: 64 << 10,
        held: 1 << 20,
        window_per_tenant: 16 << 10,
        window: 64 << 10,
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_busy_and_others_are_served_in_order() {
    let field = Field::start(2, 2).await;
    let intake = field.intake(narrow()).await;
    let events = depth(5_000, 20_000);
    let mut floods = Vec::new();
    for (id, subject) in [("own1", "Events"), ("shared1", "user.shared1.Events")] {
        let client = field.login(id).await.client;
        floods.push(tokio::spawn(async move {
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await.expect("subscribes");
            let sending = client.clone();
            tokio::spawn(async move {
                for body in 0..events {
                    let (subject, reply) = (subject.to_owned(), inbox.clone());
                    let sent =
                        sending.publish_with_reply(subject, reply, body.to_string().into()).await;
                    sent.expect("is sent");
                }
            });
            let (mut stored, mut busy) = (HashSet::new(), 0);
            for _ in 0..events {
                let answer = tokio::time::timeout(Duration::from_secs(20), answers.next());
                let answer = answer.await.expect("every request is answered").expect("open");
                let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
                if answer.get("error").is_some() {
                    assert_eq!(error(&answer).0, 503, "{answer}");
                    busy += 1;
                } else {
                    assert!(stored.insert(is_stored(&answer)));
                }
            }
            (id, stored.len() as u64, busy)
        }));
    }
    let mut others = Vec::new();
    for (id, subject) in [("own2", "Events"), ("shared2", "user.shared2.Events")] {
        let client = field.login(id).await.client;
        others.push(tokio::spawn(async move {
            for body in 0..100 {
                is_stored(&event(&client, subject, body.to_string()).await);
            }
        }));
    }
    for other in others {
        other.await.expect("all of its events");
    }
    let mut refused = 0;
    for flood in floods {
        let (id, stored, busy) = flood.await.expect("all answers");
        assert!(stored > 0 && busy > 0, "{id}: {stored} stored, {busy} busy");
        // On a machine that is slow enough, an acknowledgement comes too late.
        let unsure = intake.tally().refused(Refusal::Unacknowledged);
        let more = field.stored_of(id).await.checked_sub(stored);
        let more = more.expect("what is acknowledged is stored");
        assert!(more <= unsure, "{id}: {more} stored and said to be refused");
        refused += busy;
    }
    for id in ["own2", "shared2"] {
        let expected: Vec<String> = (0..100).map(|body| body.to_string()).collect();
        assert_eq!(field.bodies(id).await, expected, "{id}");
    }
    let tally = intake.tally();
    let sure = tally.refused(Refusal::Busy) + tally.refused(Refusal::Unacknowledged);
    assert_eq!(sure, refused);
    intake.stop().await;
}

/// Honest tenants with an attacker among them: every event is under its sender, none is missing and
/// none is foreign.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_under_its_sender() {
    let tenants = depth(10, 100);
    let each = depth(200, 10_000);
    let field = Field::start(tenants / 2 + 1, tenants / 2).await;
    let intake = field.intake(Settings::default()).await;
    let attacker = field.login("own1").await;
    let stream = json!({ "name": "V", "subjects": ["user.own2.Events"], "max_msgs": 1000,
        "republish": { "src": "user.own2.Events", "dest": "user.own1.Events" } });
    attacker.jetstream("$JS.API.STREAM.CREATE.V", &stream).await;
    let consumer = json!({ "stream_name": "V", "config": { "durable_name": "C",
        "deliver_subject": "Events", "ack_policy": "none" } });
    attacker.jetstream("$JS.API.CONSUMER.DURABLE.CREATE.V.C", &consumer).await;
    let attack = tokio::spawn(async move {
        loop {
            let forged = attacker.client.publish("user.own2.Events", "forged".into()).await;
            forged.expect("is sent");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut honest = Vec::new();
    for (id, _) in field.tenants.iter().filter(|(id, _)| id.as_str() != "own1") {
        let client = field.login(id.as_str()).await.client;
        let id = id.as_str().to_owned();
        let subject =
            if id.starts_with("own") { "Events".to_owned() } else { format!("user.{id}.Events") };
        honest.push(tokio::spawn(async move {
            // A window of requests, each of which is sent until it is stored.
            let sends = (0..each).map(|body| {
                let (client, subject, id) = (client.clone(), subject.clone(), id.clone());
                async move {
                    loop {
                        let mut headers = HeaderMap::new();
                        // The same of every tenant.
                        headers.insert("Nats-Msg-Id", body.to_string());
                        let request = async_nats::Request::new()
                            .headers(headers)
                            .timeout(Some(Duration::from_secs(10)))
                            .payload(id.clone().into());
                        let answer = client.send_request(subject.clone(), request).await;
                        let Ok(answer) = answer else { continue };
                        let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
                        if answer.get("error").is_none() {
                            return is_stored(&answer);
                        }
                    }
                }
            });
            futures_util::stream::iter(sends).buffer_unordered(32).collect::<HashSet<_>>().await
        }));
    }
    for tenant in honest {
        assert_eq!(tenant.await.expect("all of its events").len(), each);
    }
    attack.abort();
    eventually_async("forged events", || async {
        (field.stored_of("own1").await > 0).then_some(())
    })
    .await;
    let stored = field.stored().await;
    for (id, _) in field.tenants.iter().filter(|(id, _)| id.as_str() != "own1") {
        assert_eq!(stored[&format!("user.{id}.Events")], each, "{id}");
    }
    assert_eq!(stored.len(), tenants + 1);
    if each <= 1000 {
        for id in ["own2", "shared1"] {
            assert_eq!(field.bodies(id).await, vec![id; each]);
        }
    }
    intake.stop().await;
}
