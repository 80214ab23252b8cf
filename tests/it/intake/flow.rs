//! What is carried, and what the sender is told.

use async_nats::{HeaderMap, Request};
use nats_callout::internals::intake::{Refusal, Settings};
use nats_callout::store::Isolation;

use super::field::{Field, MAX_PAYLOAD, ask, error, event, is_stored};
use crate::harness::tls::Authority;
use crate::harness::{eventually_async, servers};

#[tokio::test(flavor = "multi_thread")]
async fn events_of_both_forms_are_stored_in_order_and_acknowledged() {
    let field = Field::start(2, 2).await;
    let intake = field.intake(Settings::default()).await;
    for (id, _) in &field.tenants {
        let client = field.login(id.as_str()).await.client;
        let own = id.as_str().starts_with("own");
        let long = format!("user.{id}.Events");
        let subject = if own { "Events" } else { &long };
        let mut last = 0;
        for body in 0..20 {
            let seq = is_stored(&event(&client, subject, body.to_string()).await);
            assert!(seq > last);
            last = seq;
        }
        // Both names lead from an own account; an event that is no request is carried as well.
        client.publish(long.clone(), "20".into()).await.expect("is sent");
        is_stored(&event(&client, &long, "21").await);
        let bodies: Vec<String> = (0..22).map(|body| body.to_string()).collect();
        assert_eq!(field.bodies(id.as_str()).await, bodies, "{id}");
    }
    assert_eq!(field.stored().await.len(), 4);
    assert_eq!(intake.tally().stored, 88);
    intake.stop().await;
    // Nobody takes them now, and nobody says otherwise.
    let client = field.login("own1").await.client;
    let nobody = client.request("Events", "x".into()).await.expect_err("nobody is there");
    assert_eq!(nobody.kind(), servers::nobody_listens());
    let client = field.login("shared1").await.client;
    let nobody = client.request("user.shared1.Events", "x".into()).await.expect_err("nobody");
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_made_anew_and_the_body_is_untouched() {
    let field = Field::start(1, 1).await;
    let intake = field.intake(Settings::default()).await;
    let body = "\0\r\n\u{1f600} MSG own.own1.Events 1 1\r\n".to_owned();
    for (id, subject) in [("own1", "Events"), ("shared1", "user.shared1.Events")] {
        let client = field.login(id).await.client;
        let mut headers = HeaderMap::new();
        headers.append("ce-type", "a");
        headers.append("ce-type", "b");
        headers.insert("Nats-Msg-Id", "order-1");
        headers.insert("Nats-Rollup", "all");
        headers.insert("Nats-Expected-Stream", "Other");
        headers.insert("Nats-Expected-Last-Subject-Sequence", "7");
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", "user.shared1.Events");
        headers.insert("Nats-TTL", "1s");
        let request = Request::new().headers(headers).payload(body.clone().into());
        is_stored(&ask(&client, subject, request).await);
        let message = field.messages(id).await.pop().expect("an event");
        assert_eq!(message.payload, body);
        let headers = message.headers.expect("headers");
        let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["Nats-Msg-Id", "ce-type"]);
        assert_eq!(
            headers.get_all("ce-type").map(|it| it.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(headers.get("Nats-Msg-Id").expect("an id").as_str(), format!("{id}:order-1"));
    }
    intake.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_id_counts_for_its_tenant_alone() {
    let field = Field::start(2, 2).await;
    let intake = field.intake(Settings::default()).await;
    let tenants = intake.tenants();
    for (id, isolation) in &field.tenants {
        let client = field.login(id.as_str()).await.client;
        let long = format!("user.{id}.Events");
        let subject = if *isolation == Isolation::Account { "Events" } else { &long };
        for turn in 0..3 {
            if turn == 2 {
                // Another tenant of the same name soon after.
                tenants.remove(id);
                tenants.add(id, *isolation).await;
            }
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", "order-1041");
            // Neither the last id of another is told, nor its own asked for, nor how much another has sent.
            headers.insert("Nats-Expected-Last-Msg-Id", "?");
            headers.insert("Nats-Expected-Last-Subject-Sequence", "7");
            headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", "user.shared2.Events");
            let answer =
                ask(&client, subject, Request::new().headers(headers).payload("x".into())).await;
            is_stored(&answer);
            let is_duplicate = answer["duplicate"].as_bool().unwrap_or_default();
            assert_eq!(is_duplicate, turn > 0, "a retry is stored once: {answer}");
        }
        assert_eq!(field.stored_of(id.as_str()).await, 1);
    }
    intake.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_checked_before_anything_is_sent() {
    let field = Field::start(1, 0).await;
    let intake = field.intake(Settings::default()).await;
    let client = field.login("own1").await.client;
    is_stored(&event(&client, "Events", "x".repeat(60 << 10)).await);
    // More than the stream takes, up to the most that a server does.
    for size in [(64 << 10) + 1, MAX_PAYLOAD] {
        let answer = event(&client, "Events", "x".repeat(size)).await;
        assert_eq!(error(&answer).0, 400, "{answer}");
        assert!(error(&answer).1.contains("larger"), "{answer}");
    }
    // And where the stream takes more than the server does.
    let settings = Settings { max_message: 2 * MAX_PAYLOAD, ..Settings::default() };
    intake.stop().await;
    let intake = field.intake(settings).await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "1");
    let body = "x".repeat(MAX_PAYLOAD - 30);
    let answer = ask(&client, "Events", Request::new().headers(headers).payload(body.into())).await;
    assert_eq!(error(&answer).0, 400, "its tenant's name makes it too long: {answer}");
    assert_eq!(intake.tally().refused(Refusal::Oversized), 1);
    is_stored(&event(&client, "Events", "x").await);
    intake.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_come_and_go_at_once() {
    let mut field = Field::start(2, 2).await;
    let late = field.tenants.remove(1);
    let intake = field.intake(Settings::default()).await;
    let tenants = intake.tenants();
    for (id, subject) in [("own1", "Events"), ("shared1", "user.shared1.Events")] {
        let client = field.login(id).await.client;
        let isolation = if id == "own1" { Isolation::Account } else { Isolation::Shared };
        let tenant = id.parse().expect("an id");
        is_stored(&event(&client, subject, "before").await);
        tenants.suspend(&tenant);
        let answer = event(&client, subject, "suspended").await;
        assert_eq!(error(&answer), (403, "the tenant is suspended or has expired"));
        tenants.add(&tenant, isolation).await;
        is_stored(&event(&client, subject, "resumed").await);
        tenants.remove(&tenant);
        // Where the server has heard of it, nobody listens.
        let refused = eventually_async("a refusal", || async {
            let answer = client.request(subject, "removed".into()).await;
            match (isolation, answer) {
                (Isolation::Account, Ok(_)) => None,
                (Isolation::Account, Err(error)) => Some(error.kind().to_string()),
                (Isolation::Shared, answer) => {
                    let answer = answer.expect("an answer").payload;
                    let answer = serde_json::from_slice(&answer).expect("json");
                    Some(error(&answer).1.to_owned())
                }
            }
        })
        .await;
        let nobody = servers::nobody_listens().to_string();
        let expected =
            if isolation == Isolation::Account { &nobody } else { "the tenant is not known here" };
        assert_eq!(refused, expected);
        assert_eq!(field.bodies(id).await, ["before", "resumed"]);
    }
    // A tenant's first event works as soon as it has been added.
    let client = field.login("own2").await.client;
    client.request("Events", "x".into()).await.expect_err("nobody");
    tenants.add(&late.0, Isolation::Account).await;
    is_stored(&event(&client, "Events", "first").await);
    // What the table says is all there is.
    tenants.replace(&[
        ("own1".parse().expect("an id"), Isolation::Account, false),
        (late.0, Isolation::Account, true),
    ]);
    assert_eq!(error(&event(&client, "Events", "x").await).0, 403);
    let client = field.login("own1").await.client;
    tenants.add(&"own1".parse().expect("an id"), Isolation::Account).await;
    is_stored(&event(&client, "Events", "x").await);
    assert_eq!(intake.tally().refused(Refusal::Suspended), 3);
    intake.stop().await;
}

/// What BB's stream refuses is an error, and so is its absence.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_stream_there_is_an_error() {
    let field = Field::start(1, 1).await;
    let intake = field.intake(Settings::default()).await;
    let bb = field.login("bb").await;
    bb.jetstream("$JS.API.STREAM.DELETE.ReceivedEvents", &serde_json::json!({})).await;
    for (id, subject) in [("own1", "Events"), ("shared1", "user.shared1.Events")] {
        let client = field.login(id).await.client;
        let answer = event(&client, subject, "x").await;
        let words = if servers::says_nobody_listens() {
            "the events' stream cannot be reached"
        } else {
            "no acknowledgement: the event may be stored or not; send it again with its message id"
        };
        assert_eq!(error(&answer), (503, words));
    }
    // Somebody else than the stream says that all is well.
    let mut others = bb.client.subscribe("user.*.Events").await.expect("subscribes");
    bb.round_trip("settled").await;
    let client = field.login("own1").await.client;
    let asking = event(&client, "Events", "x");
    let answering = async {
        let asked = futures_util::StreamExt::next(&mut others).await.expect("an event");
        let word = r#"{"stream":"Mine","seq":1}"#;
        bb.client.publish(asked.reply.expect("a reply"), word.into()).await.expect("is sent");
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert!(error(&answer).1.contains("may be stored or not"), "{answer}");
    intake.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_again_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(dir.path(), "authority");
    let (block, ca) = (authority.block(false), authority.ca.clone());
    let mut field = Field::start_in(dir, [1, 1, 0], &block, Some(ca)).await;
    let intake = field.intake(Settings::default()).await;
    let client = field.login("own1").await.client;
    is_stored(&event(&client, "Events", "encrypted").await);
    assert_eq!(intake.tally().lost, 0);
    field.server.restart();
    eventually_async("both connections again", || async {
        (intake.tally().lost == 2 && intake.is_connected()).then_some(())
    })
    .await;
    // Whoever connects next finds the subscriptions.
    intake.tenants().add(&"own1".parse().expect("an id"), Isolation::Account).await;
    intake.tenants().add(&"shared1".parse().expect("an id"), Isolation::Shared).await;
    for (id, subject) in [("own1", "Events"), ("shared1", "user.shared1.Events")] {
        let client = field.login(id).await.client;
        is_stored(&event(&client, subject, "restarted").await);
    }
    intake.stop().await;
}
